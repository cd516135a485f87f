//! Small steps over the token stream that all parsers of this folder share. Words are compared by
//! their folded text.

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::keywords;
use crate::error::SqlError;

pub(crate) type Parse<T> = Result<T, ParserError>;

/// Marks an error of ours within the text of a parser error.
const MARK: char = '\u{1}';

/// Carries an error of ours through the crate's parser.
pub(crate) fn raise(e: &SqlError) -> ParserError {
    ParserError::ParserError(format!(
        "{MARK}{}{MARK}{}{MARK}{}{MARK}{}",
        e.state.code(),
        e.position.unwrap_or(0),
        e.message,
        e.hint.as_deref().unwrap_or("")
    ))
}

/// The error that [`raise`] carried.
pub(crate) fn raised(text: &str) -> Option<SqlError> {
    let mut parts = text.strip_prefix(MARK)?.split(MARK);
    let mut state = [b'X'; 5];
    let code = parts.next()?.as_bytes();
    if code.len() == 5 {
        state.copy_from_slice(code);
    }
    let position: usize = parts.next()?.parse().ok()?;
    let message = parts.next()?.to_owned();
    let hint = parts.next().unwrap_or("");
    let mut e = SqlError::new(crate::error::SqlState(state), message).at(position);
    if !hint.is_empty() {
        e = e.with_hint(hint);
    }
    Some(e)
}

/// Steps over tokens.
pub(crate) trait Cursor {
    /// The next token's folded text if it is an unquoted word.
    fn word(&self) -> Option<&str>;
    /// The same for a later token.
    fn word_at(&self, ahead: usize) -> Option<&str>;
    /// The token `ahead` tokens after the next.
    fn ahead(&self, ahead: usize) -> &Token;
    /// Whether the next tokens are these words.
    fn at(&self, words: &[&str]) -> bool;
    /// Takes these words if they come next.
    fn eat(&mut self, words: &[&str]) -> bool;
    /// Takes these words or fails.
    fn need(&mut self, words: &[&str]) -> Parse<()>;
    /// The syntax error at the next token.
    fn unexpected<T>(&self) -> Parse<T>;
    /// Position of the next token.
    fn position(&self) -> usize;
    /// A name of a column, table or such.
    fn column_id(&mut self) -> Parse<Ident>;
    /// Any word, reserved ones included.
    fn label(&mut self) -> Parse<Ident>;
    /// A qualified name.
    fn qualified(&mut self) -> Parse<ObjectName>;
    /// A list of names in parentheses.
    fn column_list(&mut self) -> Parse<Vec<Ident>>;
    /// A string.
    fn string(&mut self) -> Parse<String>;
    /// A number without sign, as written.
    fn eat_number(&mut self) -> Option<String>;
    /// An integer with or without sign.
    fn integer(&mut self) -> Parse<i64>;
    /// Things with commas between them.
    fn commas<T>(&mut self, f: impl FnMut(&mut Self) -> Parse<T>) -> Parse<Vec<T>>;
    /// A thing in parentheses.
    fn parens<T>(&mut self, f: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T>;
    /// Whether nothing is left.
    fn finished(&self) -> bool;
}

fn text_of(token: &TokenWithSpan) -> Option<&str> {
    match &token.token {
        Token::Word(w) if w.quote_style.is_none() => Some(&w.value),
        _ => None,
    }
}

impl Cursor for Parser<'_> {
    fn word(&self) -> Option<&str> {
        text_of(self.peek_token_ref())
    }

    fn word_at(&self, ahead: usize) -> Option<&str> {
        text_of(self.peek_nth_token_ref(ahead))
    }

    fn ahead(&self, ahead: usize) -> &Token {
        &self.peek_nth_token_ref(ahead).token
    }

    fn at(&self, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(i, w)| self.word_at(i) == Some(*w))
    }

    fn eat(&mut self, words: &[&str]) -> bool {
        let found = self.at(words);
        if found {
            for _ in words {
                self.advance_token();
            }
        }
        found
    }

    fn need(&mut self, words: &[&str]) -> Parse<()> {
        for w in words {
            if !self.eat(&[w]) {
                return self.unexpected();
            }
        }
        Ok(())
    }

    fn unexpected<T>(&self) -> Parse<T> {
        self.expected_ref("something else", self.peek_token_ref())
    }

    fn position(&self) -> usize {
        self.peek_token_ref().span.start.line as usize
    }

    fn column_id(&mut self) -> Parse<Ident> {
        match &self.peek_token_ref().token {
            Token::Word(w) if w.quote_style.is_some() || keywords::is_column_name(&w.value) => {
                self.label()
            }
            _ => self.unexpected(),
        }
    }

    fn label(&mut self) -> Parse<Ident> {
        let token = self.peek_token_ref();
        match &token.token {
            Token::Word(w) => {
                let ident = w.to_ident(token.span);
                self.advance_token();
                Ok(ident)
            }
            _ => self.unexpected(),
        }
    }

    fn qualified(&mut self) -> Parse<ObjectName> {
        let mut parts = vec![ObjectNamePart::Identifier(self.column_id()?)];
        while self.consume_token(&Token::Period) {
            parts.push(ObjectNamePart::Identifier(self.label()?));
        }
        Ok(ObjectName(parts))
    }

    fn column_list(&mut self) -> Parse<Vec<Ident>> {
        self.parens(|p| p.commas(Self::column_id))
    }

    fn string(&mut self) -> Parse<String> {
        match &self.peek_token_ref().token {
            Token::SingleQuotedString(s) => {
                let s = s.clone();
                self.advance_token();
                Ok(s)
            }
            _ => self.unexpected(),
        }
    }

    fn eat_number(&mut self) -> Option<String> {
        match &self.peek_token_ref().token {
            Token::Number(s, _) => {
                let s = s.clone();
                self.advance_token();
                Some(s)
            }
            _ => None,
        }
    }

    fn integer(&mut self) -> Parse<i64> {
        let negative = self.consume_token(&Token::Minus);
        if !negative {
            let _ = self.consume_token(&Token::Plus);
        }
        let text = match &self.peek_token_ref().token {
            Token::Number(s, _) => format!("{}{s}", if negative { "-" } else { "" }),
            _ => return self.unexpected(),
        };
        match text.parse() {
            Ok(n) => {
                self.advance_token();
                Ok(n)
            }
            Err(_) => self.unexpected(),
        }
    }

    fn commas<T>(&mut self, mut f: impl FnMut(&mut Self) -> Parse<T>) -> Parse<Vec<T>> {
        let mut out = vec![f(self)?];
        while self.consume_token(&Token::Comma) {
            out.push(f(self)?);
        }
        Ok(out)
    }

    fn parens<T>(&mut self, f: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T> {
        if !self.consume_token(&Token::LParen) {
            return self.unexpected();
        }
        let out = f(self)?;
        if !self.consume_token(&Token::RParen) {
            return self.unexpected();
        }
        Ok(out)
    }

    fn finished(&self) -> bool {
        matches!(self.peek_token_ref().token, Token::EOF | Token::SemiColon)
    }
}
