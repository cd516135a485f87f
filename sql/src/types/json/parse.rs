//! The JSON parser. Errors have PostgreSQL's wording, with the offending line as context.

use crate::error::{SqlError, SqlState};
use crate::types::numeric::Numeric;

use super::value::Json;

/// How deep values may nest.
const DEPTH_MAX: usize = 1000;

/// A parsed value that remembers the text that it was written as.
#[derive(Clone, Debug)]
pub struct Raw<'a> {
    /// Its text, without surrounding space.
    pub text: &'a str,
    /// What it is.
    pub kind: RawKind<'a>,
}

/// What a [`Raw`] is.
#[derive(Clone, Debug)]
pub enum RawKind<'a> {
    /// null
    Null,
    /// true, false
    Bool(bool),
    /// A number; the text is its value.
    Number,
    /// A string, unescaped.
    String(String),
    /// An array.
    Array(Vec<Raw<'a>>),
    /// An object, members as written.
    Object(Vec<(String, Raw<'a>)>),
}

impl Raw<'_> {
    /// The jsonb value.
    pub fn to_value(&self) -> Result<Json, SqlError> {
        Ok(match &self.kind {
            RawKind::Null => Json::Null,
            RawKind::Bool(v) => Json::Bool(*v),
            RawKind::Number => Json::Number(Numeric::parse(self.text)?),
            RawKind::String(s) => Json::String(s.clone()),
            RawKind::Array(items) => {
                Json::Array(items.iter().map(Raw::to_value).collect::<Result<_, _>>()?)
            }
            RawKind::Object(pairs) => Json::object(
                pairs
                    .iter()
                    .map(|(k, v)| Ok((k.clone(), v.to_value()?)))
                    .collect::<Result<_, SqlError>>()?,
            ),
        })
    }

    /// What json_typeof says.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            RawKind::Null => "null",
            RawKind::Bool(_) => "boolean",
            RawKind::Number => "number",
            RawKind::String(_) => "string",
            RawKind::Array(_) => "array",
            RawKind::Object(_) => "object",
        }
    }
}

/// Parses a json text.
pub fn parse_raw(text: &str) -> Result<Raw<'_>, SqlError> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
    };
    let value = parser.value("Expected JSON value, but found")?;
    parser.space();
    if parser.at < text.len() {
        return Err(parser.unexpected("Expected end of input, but found"));
    }
    Ok(value)
}

/// Parses a text into a jsonb value.
pub fn parse_value(text: &str) -> Result<Json, SqlError> {
    parse_raw(text)?.to_value()
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or("")
    }

    /// The token at the cursor, as the error messages show it.
    fn token(&self) -> &'a str {
        let rest = self.slice(self.at, self.text.len());
        let word = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()))
            .unwrap_or(rest.len());
        let length = if word > 0 {
            word
        } else {
            rest.chars().next().map_or(0, char::len_utf8)
        };
        rest.get(..length).unwrap_or("")
    }

    fn error(&self, detail: String, upto: usize) -> SqlError {
        let line = self.slice(0, self.at).matches('\n').count() + 1;
        let start = self.slice(0, self.at).rfind('\n').map_or(0, |i| i + 1);
        let shown = self.slice(start, upto);
        let skipped = shown.chars().count().saturating_sub(50);
        let more = if upto < self.text.len() { "..." } else { "" };
        let shown: String = shown.chars().skip(skipped).collect();
        let lead = if skipped > 0 { "..." } else { "" };
        SqlError::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            "invalid input syntax for type json",
        )
        .with_detail(detail)
        .with_context(format!("JSON data, line {line}: {lead}{shown}{more}"))
    }

    fn unexpected(&self, expected: &str) -> SqlError {
        if self.at >= self.text.len() {
            return self.error("The input string ended unexpectedly.".to_owned(), self.at);
        }
        let token = self.token();
        let upto = self.at + token.len();
        let lexable = matches!(
            token.as_bytes().first(),
            Some(b'{' | b'}' | b'[' | b']' | b',' | b':' | b'"' | b'-' | b'0'..=b'9')
        ) || matches!(token, "true" | "false" | "null");
        if lexable {
            self.error(format!("{expected} \"{token}\"."), upto)
        } else {
            self.error(format!("Token \"{token}\" is invalid."), upto)
        }
    }

    fn value(&mut self, expected: &str) -> Result<Raw<'a>, SqlError> {
        self.space();
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => self.nested(Self::object)?,
            Some(b'[') => self.nested(Self::array)?,
            Some(b'"') => RawKind::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                RawKind::Number
            }
            _ => {
                let (word, kind) = match self.token() {
                    "true" => (4, RawKind::Bool(true)),
                    "false" => (5, RawKind::Bool(false)),
                    "null" => (4, RawKind::Null),
                    _ => return Err(self.unexpected(expected)),
                };
                self.at += word;
                kind
            }
        };
        Ok(Raw {
            text: self.slice(start, self.at),
            kind,
        })
    }

    fn nested(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<RawKind<'a>, SqlError>,
    ) -> Result<RawKind<'a>, SqlError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(SqlError::new(
                SqlState::STATEMENT_TOO_COMPLEX,
                "stack depth limit exceeded",
            ));
        }
        self.at += 1;
        let kind = body(self)?;
        self.depth -= 1;
        Ok(kind)
    }

    fn array(&mut self) -> Result<RawKind<'a>, SqlError> {
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(RawKind::Array(items));
        }
        loop {
            items.push(self.value(if items.is_empty() {
                "Expected array element or \"]\", but found"
            } else {
                "Expected JSON value, but found"
            })?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(RawKind::Array(items));
                }
                _ => return Err(self.unexpected("Expected \",\" or \"]\", but found")),
            }
        }
    }

    fn object(&mut self) -> Result<RawKind<'a>, SqlError> {
        let mut pairs = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(RawKind::Object(pairs));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected(if pairs.is_empty() {
                    "Expected string or \"}\", but found"
                } else {
                    "Expected string, but found"
                }));
            }
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("Expected \":\", but found"));
            }
            self.at += 1;
            pairs.push((key, self.value("Expected JSON value, but found")?));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(RawKind::Object(pairs));
                }
                _ => return Err(self.unexpected("Expected \",\" or \"}\", but found")),
            }
        }
    }

    fn number(&mut self) -> Result<(), SqlError> {
        let start = self.at;
        let digits = |p: &mut Self| {
            let from = p.at;
            while let Some(b'0'..=b'9') = p.peek() {
                p.at += 1;
            }
            p.at > from
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let mut good = if self.peek() == Some(b'0') {
            self.at += 1;
            true
        } else {
            digits(self)
        };
        if self.peek() == Some(b'.') {
            self.at += 1;
            good &= digits(self);
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            good &= digits(self);
        }
        let rest = self.token().as_bytes().first().copied().unwrap_or(b' ');
        let tail = rest.is_ascii_alphanumeric() || rest == b'_' || !rest.is_ascii();
        if good && !tail {
            return Ok(());
        }
        if tail {
            self.at += self.token().len();
        }
        let end = self.at;
        let token = self.slice(start, end);
        self.at = start;
        Err(self.error(format!("Token \"{token}\" is invalid."), end))
    }

    fn string(&mut self) -> Result<String, SqlError> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let from = self.at;
            while self
                .peek()
                .is_some_and(|b| b != b'"' && b != b'\\' && b >= 0x20)
            {
                self.at += 1;
            }
            out.push_str(self.slice(from, self.at));
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => self.escape(&mut out)?,
                Some(control) => {
                    return Err(self.error(
                        format!("Character with value 0x{control:02x} must be escaped."),
                        self.at,
                    ));
                }
                None => {
                    let token = self.slice(start, self.at);
                    return Err(
                        self.error(format!("Token \"{token}\" is invalid."), self.text.len())
                    );
                }
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), SqlError> {
        self.at += 1;
        let c = self.slice(self.at, self.text.len()).chars().next();
        self.at += c.map_or(0, char::len_utf8);
        out.push(match c {
            Some('"') => '"',
            Some('\\') => '\\',
            Some('/') => '/',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let first = self.hex()?;
                if first == 0 {
                    return Err(SqlError::new(
                        SqlState::UNTRANSLATABLE_CHARACTER,
                        "unsupported Unicode escape sequence",
                    )
                    .with_detail("\\u0000 cannot be converted to text."));
                }
                let code = match first {
                    0xD800..=0xDBFF => {
                        if self.slice(self.at, self.at + 2) != "\\u" {
                            return Err(self
                                .surrogate("Unicode low surrogate must follow a high surrogate."));
                        }
                        self.at += 2;
                        let second = self.hex()?;
                        if !(0xDC00..=0xDFFF).contains(&second) {
                            return Err(self
                                .surrogate("Unicode low surrogate must follow a high surrogate."));
                        }
                        0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                    }
                    0xDC00..=0xDFFF => {
                        return Err(
                            self.surrogate("Unicode low surrogate must follow a high surrogate.")
                        );
                    }
                    code => code,
                };
                char::from_u32(code).unwrap_or('\u{FFFD}')
            }
            Some(c) => {
                return Err(self.error(format!("Escape sequence \"\\{c}\" is invalid."), self.at));
            }
            None => {
                return Err(self.error("The input string ended unexpectedly.".to_owned(), self.at));
            }
        });
        Ok(())
    }

    fn surrogate(&self, detail: &str) -> SqlError {
        self.error(detail.to_owned(), self.at)
    }

    fn hex(&mut self) -> Result<u32, SqlError> {
        let digits = self.slice(self.at, self.at + 4);
        match u32::from_str_radix(digits, 16) {
            Ok(v) if digits.len() == 4 && !digits.starts_with('+') => {
                self.at += 4;
                Ok(v)
            }
            _ => Err(self.error(
                "\"\\u\" must be followed by four hexadecimal digits.".to_owned(),
                self.at,
            )),
        }
    }
}
