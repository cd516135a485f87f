//! From text to tokens by PostgreSQL's lexical rules (scan.l), as tokens of the sqlparser crate.
//!
//! Own lexer because the crate's splits operators, strings and numbers by other rules. Unquoted
//! words arrive folded to lower case, strings with their escapes resolved, operators whole. A
//! token's span holds character positions in the whole text: `line` is the position from 1 (the
//! form in which errors report it), `column` is always 1.

use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

use crate::error::{SqlError, SqlState};

/// Longest identifier in bytes (NAMEDATALEN - 1).
pub(crate) const IDENTIFIER_BYTES_MAX: usize = 63;

/// A token with the bytes that it covers.
#[derive(Clone, Debug)]
pub(crate) struct Lexed {
    /// The token, with character positions.
    pub(crate) token: TokenWithSpan,
    /// First byte.
    pub(crate) start: usize,
    /// Byte after the last.
    pub(crate) end: usize,
}

struct Lexer<'a> {
    text: &'a str,
    chars: Vec<(usize, char)>,
    at: usize,
}

/// Cuts a text into tokens; comments and blanks are dropped.
pub(crate) fn lex(text: &str) -> Result<Vec<Lexed>, SqlError> {
    let mut lexer = Lexer {
        text,
        chars: text.char_indices().collect(),
        at: 0,
    };
    let mut out = Vec::with_capacity(text.len() / 4);
    while let Some(lexed) = lexer.next()? {
        out.push(lexed);
    }
    Ok(out)
}

fn is_operator_char(c: char) -> bool {
    matches!(
        c,
        '+' | '-'
            | '*'
            | '/'
            | '<'
            | '>'
            | '='
            | '~'
            | '!'
            | '@'
            | '#'
            | '%'
            | '^'
            | '&'
            | '|'
            | '`'
            | '?'
    )
}

fn is_word_start(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic() || !c.is_ascii()
}

fn is_word_part(c: char) -> bool {
    is_word_start(c) || c == '$' || c.is_ascii_digit()
}

fn syntax(message: String, at: usize) -> SqlError {
    SqlError::new(SqlState::SYNTAX_ERROR, message).at(at + 1)
}

/// Cuts an identifier at the longest length allowed.
fn truncate(mut name: String) -> String {
    if name.len() > IDENTIFIER_BYTES_MAX {
        let mut end = IDENTIFIER_BYTES_MAX;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
    name
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).map(|(_, c)| *c)
    }

    fn byte(&self, at: usize) -> usize {
        self.chars.get(at).map_or(self.text.len(), |(b, _)| *b)
    }

    fn slice(&self, from: usize, to: usize) -> &str {
        self.text.get(self.byte(from)..self.byte(to)).unwrap_or("")
    }

    /// Skips blanks and comments.
    fn skip(&mut self) -> Result<(), SqlError> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(c), _) if matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c') => {
                    self.at += 1;
                }
                (Some('-'), Some('-')) => {
                    while self.peek(0).is_some_and(|c| c != '\n' && c != '\r') {
                        self.at += 1;
                    }
                }
                (Some('/'), Some('*')) => {
                    let start = self.at;
                    let mut depth = 1usize;
                    self.at += 2;
                    while depth > 0 {
                        match (self.peek(0), self.peek(1)) {
                            (Some('/'), Some('*')) => {
                                depth += 1;
                                self.at += 2;
                            }
                            (Some('*'), Some('/')) => {
                                depth -= 1;
                                self.at += 2;
                            }
                            (Some(_), _) => self.at += 1,
                            (None, _) => {
                                return Err(syntax(
                                    format!(
                                        "unterminated /* comment at or near \"{}\"",
                                        self.slice(start, self.at)
                                    ),
                                    start,
                                ));
                            }
                        }
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    fn next(&mut self) -> Result<Option<Lexed>, SqlError> {
        self.skip()?;
        let start = self.at;
        let Some(c) = self.peek(0) else {
            return Ok(None);
        };
        let next = self.peek(1);
        let token = match c {
            '\'' => self.quoted(start, false)?,
            'e' | 'E' if next == Some('\'') => {
                self.at += 1;
                self.quoted(start, true)?
            }
            'n' | 'N' if next == Some('\'') => {
                self.at += 1;
                self.quoted(start, false)?
            }
            'b' | 'B' if next == Some('\'') => {
                self.at += 1;
                match self.quoted(start, false)? {
                    Token::SingleQuotedString(s) => Token::SingleQuotedByteStringLiteral(s),
                    other => other,
                }
            }
            'x' | 'X' if next == Some('\'') => {
                self.at += 1;
                match self.quoted(start, false)? {
                    Token::SingleQuotedString(s) => Token::HexStringLiteral(s),
                    other => other,
                }
            }
            'u' | 'U' if next == Some('&') && self.peek(2) == Some('\'') => {
                self.at += 2;
                match self.quoted(start, false)? {
                    Token::SingleQuotedString(s) => {
                        Token::SingleQuotedString(unicode_escapes(&s, start)?)
                    }
                    other => other,
                }
            }
            'u' | 'U' if next == Some('&') && self.peek(2) == Some('"') => {
                self.at += 2;
                let name = self.delimited(start)?;
                Token::make_word(&truncate(unicode_escapes(&name, start)?), Some('"'))
            }
            '"' => {
                let name = self.delimited(start)?;
                Token::make_word(&truncate(name), Some('"'))
            }
            '$' => self.dollar(start)?,
            c if is_word_start(c) => {
                while self.peek(0).is_some_and(is_word_part) {
                    self.at += 1;
                }
                let word = self.slice(start, self.at);
                let folded: String = word.chars().map(|c| c.to_ascii_lowercase()).collect();
                Token::make_word(&truncate(folded), None)
            }
            c if c.is_ascii_digit() => self.number(start)?,
            '.' if next.is_some_and(|n| n.is_ascii_digit()) => self.number(start)?,
            ',' => self.one(Token::Comma),
            '(' => self.one(Token::LParen),
            ')' => self.one(Token::RParen),
            '[' => self.one(Token::LBracket),
            ']' => self.one(Token::RBracket),
            ';' => self.one(Token::SemiColon),
            '.' if next == Some('.') => {
                self.at += 2;
                return Err(syntax("syntax error at or near \"..\"".into(), start));
            }
            '.' => self.one(Token::Period),
            ':' if next == Some(':') => {
                self.at += 2;
                Token::DoubleColon
            }
            ':' if next == Some('=') => {
                self.at += 2;
                Token::Assignment
            }
            ':' => self.one(Token::Colon),
            c if is_operator_char(c) => self.operator(),
            '{' => self.one(Token::LBrace),
            '}' => self.one(Token::RBrace),
            '\\' => self.one(Token::Backslash),
            other => {
                return Err(syntax(
                    format!("syntax error at or near \"{other}\""),
                    start,
                ));
            }
        };
        let location = |at: usize| Location::new(at as u64 + 1, 1);
        Ok(Some(Lexed {
            token: TokenWithSpan::new(token, Span::new(location(start), location(self.at))),
            start: self.byte(start),
            end: self.byte(self.at),
        }))
    }

    fn one(&mut self, token: Token) -> Token {
        self.at += 1;
        token
    }

    /// A string in single quotes, with its continuations on later lines.
    fn quoted(&mut self, start: usize, escapes: bool) -> Result<Token, SqlError> {
        let mut out = String::new();
        self.at += 1;
        loop {
            if escapes && self.peek(0) == Some('\\') {
                self.escape(start, &mut out)?;
                continue;
            }
            match self.in_quotes('\'', "string", start)? {
                Some(c) => out.push(c),
                None if self.continues() => {}
                None => break,
            }
        }
        Ok(Token::SingleQuotedString(out))
    }

    /// The next character within quotes, where a doubled quote stands for one; `None` behind the
    /// quote that closes.
    fn in_quotes(
        &mut self,
        quote: char,
        what: &str,
        start: usize,
    ) -> Result<Option<char>, SqlError> {
        let Some(c) = self.peek(0) else {
            let text = self.slice(start, self.at);
            let message = format!("unterminated quoted {what} at or near \"{text}\"");
            return Err(syntax(message, start));
        };
        let doubled = c == quote && self.peek(1) == Some(quote);
        self.at += if doubled { 2 } else { 1 };
        Ok((c != quote || doubled).then_some(c))
    }

    /// Whether the string goes on after blanks with a new line (then the position is behind the
    /// quote that opens the next part).
    fn continues(&mut self) -> bool {
        let mut at = self.at;
        let mut newline = false;
        while let Some((_, c)) = self.chars.get(at) {
            match c {
                '\n' | '\r' => newline = true,
                ' ' | '\t' | '\x0b' | '\x0c' => {}
                '-' if newline && self.chars.get(at + 1).is_some_and(|(_, c)| *c == '-') => {
                    while self.chars.get(at).is_some_and(|(_, c)| *c != '\n') {
                        at += 1;
                    }
                    continue;
                }
                '\'' if newline => {
                    self.at = at + 1;
                    return true;
                }
                _ => return false,
            }
            at += 1;
        }
        false
    }

    fn escape(&mut self, start: usize, out: &mut String) -> Result<(), SqlError> {
        let at = self.at;
        let Some(c) = self.peek(1) else {
            self.at += 1;
            return Ok(());
        };
        self.at += 2;
        let mut bytes: Vec<u8> = Vec::new();
        match c {
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\x0b'),
            'u' | 'U' => {
                let digits = if c == 'u' { 4 } else { 8 };
                let mut code = self.hex(digits).ok_or_else(|| {
                    SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid Unicode escape")
                        .with_hint("Unicode escapes must be \\uXXXX or \\UXXXXXXXX.")
                        .at(at + 1)
                })?;
                if (0xD800..0xDC00).contains(&code)
                    && self.peek(0) == Some('\\')
                    && matches!(self.peek(1), Some('u' | 'U'))
                {
                    let digits = if self.peek(1) == Some('u') { 4 } else { 8 };
                    self.at += 2;
                    let low = self.hex(digits).unwrap_or(0);
                    if (0xDC00..0xE000).contains(&low) {
                        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                    }
                }
                let c = char::from_u32(code).filter(|c| *c != '\0').ok_or_else(|| {
                    SqlError::new(SqlState::SYNTAX_ERROR, "invalid Unicode escape value").at(at + 1)
                })?;
                out.push(c);
            }
            'x' | '0'..='7' => {
                // Bytes may build up a UTF-8 sequence over several escapes.
                self.at = at;
                while self.peek(0) == Some('\\') {
                    match self.peek(1) {
                        Some('x') if self.peek(2).is_some_and(|c| c.is_ascii_hexdigit()) => {
                            self.at += 2;
                            let n = if self.peek(1).is_some_and(|c| c.is_ascii_hexdigit()) {
                                2
                            } else {
                                1
                            };
                            bytes.push(u8::try_from(self.hex(n).unwrap_or(0)).unwrap_or(0));
                        }
                        Some('0'..='7') => {
                            self.at += 1;
                            let mut value = 0u32;
                            for _ in 0..3 {
                                let Some(d) = self.peek(0).and_then(|c| c.to_digit(8)) else {
                                    break;
                                };
                                value = value * 8 + d;
                                self.at += 1;
                            }
                            bytes.push(u8::try_from(value & 0xFF).unwrap_or(0));
                        }
                        Some('x') if bytes.is_empty() => {
                            self.at += 2;
                            bytes.push(b'x');
                        }
                        _ => break,
                    }
                }
                let text = String::from_utf8(bytes).ok().filter(|t| !t.contains('\0'));
                let text = text.ok_or_else(|| {
                    SqlError::new(
                        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                        "invalid byte sequence for encoding \"UTF8\"",
                    )
                    .at(start + 1)
                })?;
                out.push_str(&text);
            }
            other => out.push(other),
        }
        Ok(())
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let mut value = 0u32;
        for _ in 0..digits {
            value = value.checked_mul(16)? + self.peek(0)?.to_digit(16)?;
            self.at += 1;
        }
        Some(value)
    }

    fn delimited(&mut self, start: usize) -> Result<String, SqlError> {
        let mut out = String::new();
        self.at += 1;
        while let Some(c) = self.in_quotes('"', "identifier", start)? {
            out.push(c);
        }
        if out.is_empty() {
            return Err(syntax(
                "zero-length delimited identifier at or near \"\"\"\"".into(),
                start,
            ));
        }
        Ok(out)
    }

    fn dollar(&mut self, start: usize) -> Result<Token, SqlError> {
        if self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
            while self.peek(0).is_some_and(|c| c.is_ascii_digit()) {
                self.at += 1;
            }
            return Ok(Token::Placeholder(self.slice(start, self.at).to_owned()));
        }
        let mut end = start + 1;
        while self
            .chars
            .get(end)
            .is_some_and(|(_, c)| is_word_start(*c) || (end > start + 1 && c.is_ascii_digit()))
        {
            end += 1;
        }
        if self.chars.get(end).is_none_or(|(_, c)| *c != '$') {
            return Err(syntax("syntax error at or near \"$\"".into(), start));
        }
        let tag = self.slice(start, end + 1).to_owned();
        let body = self.byte(end + 1);
        let Some(found) = self.text.get(body..).and_then(|rest| rest.find(&tag)) else {
            return Err(syntax(
                format!(
                    "unterminated dollar-quoted string at or near \"{}\"",
                    self.slice(start, self.chars.len())
                ),
                start,
            ));
        };
        let content = self.text.get(body..body + found).unwrap_or("").to_owned();
        let stop = body + found + tag.len();
        self.at = self.chars.partition_point(|(b, _)| *b < stop);
        Ok(Token::SingleQuotedString(content))
    }

    fn number(&mut self, start: usize) -> Result<Token, SqlError> {
        let digits = |lexer: &mut Self| {
            while lexer.peek(0).is_some_and(|c| c.is_ascii_digit()) {
                lexer.at += 1;
            }
        };
        digits(self);
        if self.peek(0) == Some('.') && self.peek(1) != Some('.') {
            self.at += 1;
            digits(self);
        }
        if matches!(self.peek(0), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
            if self.peek(1 + sign).is_some_and(|c| c.is_ascii_digit()) {
                self.at += 1 + sign;
                digits(self);
            }
        }
        if self.peek(0).is_some_and(is_word_start) {
            while self.peek(0).is_some_and(is_word_part) {
                self.at += 1;
            }
            return Err(syntax(
                format!(
                    "trailing junk after numeric literal at or near \"{}\"",
                    self.slice(start, self.at)
                ),
                start,
            ));
        }
        Ok(Token::Number(self.slice(start, self.at).to_owned(), false))
    }

    /// The longest operator, cut as PostgreSQL cuts it: never into a comment, and `+`/`-` at its
    /// end only if it has one of the characters that no SQL operator has.
    fn operator(&mut self) -> Token {
        let start = self.at;
        let mut text = String::new();
        while let Some(c) = self.peek(0) {
            let comment =
                (c == '-' && self.peek(1) == Some('-')) || (c == '/' && self.peek(1) == Some('*'));
            if !is_operator_char(c) || (comment && self.at > start) {
                break;
            }
            text.push(c);
            self.at += 1;
        }
        let free = |t: &str| t.contains(['~', '!', '@', '#', '^', '&', '|', '`', '?', '%']);
        while text.len() > 1 && text.ends_with(['+', '-']) && !free(&text) {
            text.pop();
            self.at -= 1;
        }
        match text.as_str() {
            "=" => Token::Eq,
            "<>" | "!=" => Token::Neq,
            "<" => Token::Lt,
            ">" => Token::Gt,
            "<=" => Token::LtEq,
            ">=" => Token::GtEq,
            "=>" => Token::RArrow,
            "+" => Token::Plus,
            "-" => Token::Minus,
            "*" => Token::Mul,
            "/" => Token::Div,
            "%" => Token::Mod,
            "^" => Token::Caret,
            _ => Token::CustomBinaryOperator(text),
        }
    }
}

fn unicode_escapes(text: &str, start: usize) -> Result<String, SqlError> {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    let bad = || {
        SqlError::new(SqlState::SYNTAX_ERROR, "invalid Unicode escape")
            .with_hint("Unicode escapes must be \\XXXX or \\+XXXXXX.")
            .at(start + 1)
    };
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'\\') {
            chars.next();
            out.push('\\');
            continue;
        }
        let digits = if chars.peek() == Some(&'+') {
            chars.next();
            6
        } else {
            4
        };
        let mut code = 0;
        for _ in 0..digits {
            code = code * 16 + chars.next().and_then(|c| c.to_digit(16)).ok_or_else(bad)?;
        }
        out.push(char::from_u32(code).ok_or_else(bad)?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<String> {
        let text = |t: &Token| match t {
            Token::SingleQuotedString(s) => format!("'{s}'"),
            Token::Word(w) => w.value.clone(),
            other => other.to_string(),
        };
        lex(sql)
            .expect("lexes")
            .iter()
            .map(|l| text(&l.token.token))
            .collect()
    }

    #[test]
    fn operators_are_cut_as_postgresql_cuts_them() {
        assert_eq!(texts("a<-1"), ["a", "<", "-", "1"]);
        assert_eq!(texts("a@-1"), ["a", "@-", "1"]);
        assert_eq!(texts("a->>'x'"), ["a", "->>", "'x'"]);
        assert_eq!(texts("1--2"), ["1"]);
        assert_eq!(texts("2*-3"), ["2", "*", "-", "3"]);
    }

    #[test]
    fn strings_and_words() {
        assert_eq!(texts("'a' \n 'b'"), ["'ab'"]);
        assert_eq!(
            texts("E'a\\n\\x41\\'' ABC \"Q\"\"x\""),
            ["'a\nA''", "abc", "Q\"x"]
        );
        assert_eq!(texts("$x$ it's $x$ $1"), ["' it's '", "$1"]);
        let e = lex("select 'abc").expect_err("unterminated");
        assert_eq!(e.message, "unterminated quoted string at or near \"'abc\"");
        assert_eq!(e.position, Some(8));
    }

    #[test]
    fn numbers() {
        assert_eq!(
            texts("1 1.5 .5 1. 1e10 1.5e-3"),
            ["1", "1.5", ".5", "1.", "1e10", "1.5e-3"]
        );
        assert!(lex("12abc").is_err());
    }
}
