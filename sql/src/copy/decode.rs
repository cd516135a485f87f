//! Bytes of COPY FROM into records and fields. Pure: a decoder takes pieces cut anywhere and gives
//! complete records.

use super::options::{CopyFormat, CopyOptions};
use crate::error::{SqlError, SqlState};

/// Longest record in bytes.
const RECORD_BYTES_MAX: usize = 1 << 30;

/// A record: the field values, `None` for NULL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Number of its (first) line, from 1.
    pub(crate) line: u64,
    /// Its text, for messages.
    pub(crate) raw: String,
    /// Its fields.
    pub(crate) fields: Vec<Option<String>>,
    /// Whether each field was quoted.
    pub(crate) quoted: Vec<bool>,
}

fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> SqlError {
    SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

/// Cuts records out of a stream of text or CSV.
pub(crate) struct Decoder {
    csv: bool,
    delimiter: u8,
    null: Vec<u8>,
    quote: u8,
    escape: u8,
    buffer: Vec<u8>,
    /// Where the search for the end of the record goes on.
    searched: usize,
    in_quote: bool,
    /// The byte before was an escape within quotes (CSV) or a backslash (text).
    escaped: bool,
    line: u64,
    /// Lines that the record under search has begun.
    more_lines: u64,
    ended: bool,
}

impl Decoder {
    pub(crate) fn new(options: &CopyOptions) -> Self {
        Self {
            csv: options.format == CopyFormat::Csv,
            delimiter: options.delimiter,
            null: options.null.as_bytes().to_vec(),
            quote: options.quote,
            escape: options.escape,
            buffer: Vec::new(),
            searched: 0,
            in_quote: false,
            escaped: false,
            line: 1,
            more_lines: 0,
            ended: false,
        }
    }

    /// The line that is being read.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Takes a piece; gives the records that are complete.
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<Record>) -> Result<(), SqlError> {
        if self.ended {
            return Ok(());
        }
        self.buffer.extend_from_slice(piece);
        let mut start = 0;
        while !self.ended {
            let Some(end) = self.find_end() else { break };
            let record = self.buffer.get(start..end).unwrap_or_default().to_vec();
            start = end + 1;
            self.take(record, out)?;
        }
        self.buffer.drain(..start.min(self.buffer.len()));
        self.searched -= start.min(self.searched);
        if self.buffer.len() > RECORD_BYTES_MAX {
            return Err(SqlError::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "a line of COPY data is too long",
            ));
        }
        Ok(())
    }

    /// The data has ended; a last record may have no end of line.
    pub(crate) fn finish(&mut self, out: &mut Vec<Record>) -> Result<(), SqlError> {
        if self.in_quote {
            return Err(bad("unterminated CSV quoted field"));
        }
        if !self.buffer.is_empty() && !self.ended {
            let record = std::mem::take(&mut self.buffer);
            self.take(record, out)?;
        }
        Ok(())
    }

    /// Position of the newline that ends the record, searching on from where it stopped.
    fn find_end(&mut self) -> Option<usize> {
        while let Some(&byte) = self.buffer.get(self.searched) {
            let at = self.searched;
            self.searched += 1;
            if self.csv {
                if self.in_quote {
                    if self.escape != self.quote && byte == self.escape && !self.escaped {
                        self.escaped = true;
                        continue;
                    }
                    if byte == self.quote && !self.escaped {
                        self.in_quote = false;
                    }
                    if byte == b'\n' {
                        self.more_lines += 1;
                    }
                    self.escaped = false;
                } else if byte == self.quote {
                    self.in_quote = true;
                } else if byte == b'\n' {
                    return Some(at);
                }
            } else if self.escaped {
                self.escaped = false;
                if byte == b'\n' {
                    self.more_lines += 1;
                }
            } else if byte == b'\\' {
                self.escaped = true;
            } else if byte == b'\n' {
                return Some(at);
            }
        }
        None
    }

    fn take(&mut self, mut bytes: Vec<u8>, out: &mut Vec<Record>) -> Result<(), SqlError> {
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        let line = self.line;
        self.line += 1 + std::mem::take(&mut self.more_lines);
        self.escaped = false;
        if bytes == b"\\." {
            self.ended = true;
            return Ok(());
        }
        let raw = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let byte = e.as_bytes().get(at).copied().unwrap_or_default();
            SqlError::new(
                SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                format!("invalid byte sequence for encoding \"UTF8\": 0x{byte:02x}"),
            )
        })?;
        let (fields, quoted) = if self.csv {
            self.csv_fields(&raw)?
        } else {
            self.text_fields(&raw)?
        };
        out.push(Record {
            line,
            raw,
            fields,
            quoted,
        });
        Ok(())
    }

    fn text_fields(&self, raw: &str) -> Result<(Vec<Option<String>>, Vec<bool>), SqlError> {
        let bytes = raw.as_bytes();
        let mut fields = Vec::new();
        let mut field: Vec<u8> = Vec::new();
        let mut start = 0;
        let mut i = 0;
        loop {
            match bytes.get(i) {
                Some(b'\\') => {
                    i += 1;
                    i += unescape(bytes.get(i..).unwrap_or_default(), &mut field);
                }
                Some(b'\r') => {
                    return Err(bad("literal carriage return found in data")
                        .with_hint("Use \"\\r\" to represent carriage return."));
                }
                Some(&b) if b != self.delimiter => {
                    field.push(b);
                    i += 1;
                }
                end => {
                    let source = bytes.get(start..i).unwrap_or_default();
                    let value = std::mem::take(&mut field);
                    fields.push(if source == self.null {
                        None
                    } else {
                        Some(utf8(value)?)
                    });
                    i += 1;
                    start = i;
                    if end.is_none() {
                        break;
                    }
                }
            }
        }
        let quoted = vec![false; fields.len()];
        Ok((fields, quoted))
    }

    fn csv_fields(&self, raw: &str) -> Result<(Vec<Option<String>>, Vec<bool>), SqlError> {
        let bytes = raw.as_bytes();
        let (mut fields, mut quoted) = (Vec::new(), Vec::new());
        let mut field: Vec<u8> = Vec::new();
        let (mut was_quoted, mut inside) = (false, false);
        let mut i = 0;
        loop {
            let byte = bytes.get(i).copied();
            match byte {
                Some(b) if inside => {
                    let next = bytes.get(i + 1).copied();
                    if b == self.escape && next.is_some_and(|n| n == self.quote || n == self.escape)
                    {
                        field.extend(next);
                        i += 1;
                    } else if b == self.quote {
                        inside = false;
                    } else {
                        field.push(b);
                    }
                }
                Some(b) if b == self.quote => {
                    inside = true;
                    was_quoted = true;
                }
                Some(b'\r') => {
                    return Err(bad("unquoted carriage return found in data")
                        .with_hint("Use quoted CSV field to represent carriage return."));
                }
                Some(b) if b != self.delimiter => field.push(b),
                end => {
                    let value = std::mem::take(&mut field);
                    let is_null = !was_quoted && value == self.null;
                    fields.push(if is_null { None } else { Some(utf8(value)?) });
                    quoted.push(std::mem::take(&mut was_quoted));
                    if end.is_none() {
                        break;
                    }
                }
            }
            i += 1;
        }
        if inside {
            return Err(bad("unterminated CSV quoted field"));
        }
        Ok((fields, quoted))
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, SqlError> {
    let text = String::from_utf8(bytes).map_err(|_| {
        SqlError::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\"",
        )
    })?;
    if text.contains('\0') {
        return Err(SqlError::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        ));
    }
    Ok(text)
}

/// What follows a backslash; gives the number of bytes consumed.
fn unescape(rest: &[u8], field: &mut Vec<u8>) -> usize {
    let Some(&first) = rest.first() else {
        field.push(b'\\');
        return 0;
    };
    let digits = |from: usize, radix: u32, most: usize| {
        let mut value = 0_u32;
        let mut count = 0;
        while count < most
            && let Some(digit) = rest
                .get(from + count)
                .and_then(|b| char::from(*b).to_digit(radix))
        {
            value = value * radix + digit;
            count += 1;
        }
        (count, u8::try_from(value & 0xff).unwrap_or_default())
    };
    match first {
        b'b' => field.push(8),
        b'f' => field.push(12),
        b'n' => field.push(b'\n'),
        b'r' => field.push(b'\r'),
        b't' => field.push(b'\t'),
        b'v' => field.push(11),
        b'0'..=b'7' => {
            let (count, value) = digits(0, 8, 3);
            field.push(value);
            return count;
        }
        b'x' => {
            let (count, value) = digits(1, 16, 2);
            if count > 0 {
                field.push(value);
                return count + 1;
            }
            field.push(b'x');
        }
        other => field.push(other),
    }
    1
}

/// Cuts tuples out of a stream of PostgreSQL's binary form.
#[derive(Default)]
pub(crate) struct BinaryDecoder {
    buffer: Vec<u8>,
    started: bool,
    ended: bool,
}

/// The fields of a tuple.
pub(crate) type Tuple = Vec<Option<Vec<u8>>>;

/// Begins every binary COPY.
pub(crate) const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(taken)
    }
    fn i16(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }
    fn i32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }
}

impl BinaryDecoder {
    /// Takes a piece; gives the tuples that are complete.
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<Tuple>) -> Result<(), SqlError> {
        self.buffer.extend_from_slice(piece);
        let mut done = 0;
        let mut cursor = Cursor {
            bytes: &self.buffer,
            at: 0,
        };
        if !self.started {
            match read_header(&mut cursor)? {
                Some(()) => self.started = true,
                None => return Ok(()),
            }
            done = cursor.at;
        }
        while !self.ended {
            match read_tuple(&mut cursor)? {
                None => break,
                Some(None) => self.ended = true,
                Some(Some(tuple)) => out.push(tuple),
            }
            done = cursor.at;
        }
        self.buffer.drain(..done);
        Ok(())
    }

    /// The data has ended.
    pub(crate) fn finish(&self) -> Result<(), SqlError> {
        if !self.started {
            return Err(bad("COPY file signature not recognized"));
        }
        if !self.buffer.is_empty() && !self.ended {
            return Err(bad("unexpected EOF in COPY data"));
        }
        Ok(())
    }
}

fn read_header(cursor: &mut Cursor<'_>) -> Result<Option<()>, SqlError> {
    let Some(signature) = cursor.take(SIGNATURE.len()) else {
        return Ok(None);
    };
    if signature != SIGNATURE {
        return Err(bad("COPY file signature not recognized"));
    }
    let (Some(flags), Some(extension)) = (cursor.i32(), cursor.i32()) else {
        return Ok(None);
    };
    if flags & (1 << 16) != 0 {
        return Err(bad("invalid COPY file header (WITH OIDS)"));
    }
    if flags.cast_unsigned() >> 17 != 0 {
        return Err(bad("unrecognized critical flags in COPY file header"));
    }
    let Ok(extension) = usize::try_from(extension) else {
        return Err(bad("invalid COPY file header (missing length)"));
    };
    Ok(cursor.take(extension).map(|_| ()))
}

/// `None`: not complete; `Some(None)`: the trailer.
#[expect(clippy::option_option, reason = "three cases of one reading")]
fn read_tuple(cursor: &mut Cursor<'_>) -> Result<Option<Option<Tuple>>, SqlError> {
    let Some(count) = cursor.i16() else {
        return Ok(None);
    };
    if count == -1 {
        return Ok(Some(None));
    }
    let mut tuple = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    for _ in 0..count {
        let Some(length) = cursor.i32() else {
            return Ok(None);
        };
        if length == -1 {
            tuple.push(None);
            continue;
        }
        let Ok(length) = usize::try_from(length) else {
            return Err(bad("invalid field size"));
        };
        let Some(bytes) = cursor.take(length) else {
            return Ok(None);
        };
        tuple.push(Some(bytes.to_vec()));
    }
    Ok(Some(Some(tuple)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::statement::CopyOption;

    fn decode(format: &str, data: &str, cut: usize) -> Result<Vec<Record>, SqlError> {
        let options = CopyOptions::read(
            &[("format".to_owned(), CopyOption::Text(format.to_owned()))],
            true,
        )?;
        let mut decoder = Decoder::new(&options);
        let mut out = Vec::new();
        for piece in data.as_bytes().chunks(cut) {
            decoder.push(piece, &mut out)?;
        }
        decoder.finish(&mut out)?;
        Ok(out)
    }

    fn fields(records: &[Record]) -> Vec<Vec<Option<&str>>> {
        records
            .iter()
            .map(|r| r.fields.iter().map(|f| f.as_deref()).collect())
            .collect()
    }

    #[test]
    fn text_escapes_and_nulls_wherever_it_is_cut() {
        let data = "1\ta\\tb\\\\\n2\t\\N\n3\tx\\\ny\\x41\\101\n\\.\nrest";
        for cut in 1..data.len() {
            let records = decode("text", data, cut).unwrap();
            assert_eq!(
                fields(&records),
                vec![
                    vec![Some("1"), Some("a\tb\\")],
                    vec![Some("2"), None],
                    vec![Some("3"), Some("x\nyAA")],
                ]
            );
            assert_eq!(records[2].line, 3);
        }
    }

    #[test]
    fn csv_quotes_wherever_it_is_cut() {
        let data = "1,\"a,\"\"b\"\"\nc\",\r\n2,\"\",x\"y\"z\n";
        for cut in 1..data.len() {
            let records = decode("csv", data, cut).unwrap();
            assert_eq!(
                fields(&records),
                vec![
                    vec![Some("1"), Some("a,\"b\"\nc"), None],
                    vec![Some("2"), Some(""), Some("xyz")],
                ]
            );
            assert_eq!(records[1].line, 3);
        }
        assert_eq!(
            decode("csv", "1,\"a\n", 3).unwrap_err().message,
            "unterminated CSV quoted field"
        );
    }

    #[test]
    fn binary_wherever_it_is_cut() {
        let mut data = SIGNATURE.to_vec();
        data.extend_from_slice(&[0; 8]);
        data.extend_from_slice(&[0, 2, 0, 0, 0, 1, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        for cut in 1..data.len() {
            let mut decoder = BinaryDecoder::default();
            let mut out = Vec::new();
            for piece in data.chunks(cut) {
                decoder.push(piece, &mut out).unwrap();
            }
            decoder.finish().unwrap();
            assert_eq!(out, vec![vec![Some(vec![7]), None]]);
        }
    }
}
