//! Frames that a client sends after start-up: cutting them out of the input, and reading them.
//!
//! Every read is checked against the end of the frame; a frame that does not hold what it says
//! gives `08P01`, text that is not UTF-8 gives `22021`. Nothing is allocated from a number in a
//! frame before the bytes for it are there.

use bytes::{Buf, Bytes, BytesMut};
use pontoon_sql::session::api::{Format, WireValue};
use pontoon_sql::types::Oid;
use pontoon_sql::{SqlError, SqlState};

/// Longest frame of the kinds that carry statements, parameters and COPY data.
pub(crate) const LARGE_FRAME_BYTES_MAX: usize = 256 << 20;
/// Longest frame of the other kinds.
pub(crate) const SMALL_FRAME_BYTES_MAX: usize = 10_000;

/// What Describe and Close speak of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// A frame, read.
#[derive(Debug)]
pub(crate) enum Frontend<'a> {
    /// A string of statements.
    Query(&'a str),
    /// Prepare.
    Parse {
        name: &'a str,
        sql: &'a str,
        types: Vec<Oid>,
    },
    /// Make a portal.
    Bind {
        portal: &'a str,
        statement: &'a str,
        parameters: Vec<WireValue>,
        formats: Vec<Format>,
    },
    /// Describe.
    Describe(Target, &'a str),
    /// Run a portal; 0 rows means all.
    Execute { portal: &'a str, rows_max: usize },
    /// Forget.
    Close(Target, &'a str),
    /// Send what is buffered.
    Flush,
    /// End of a batch.
    Sync,
    /// End of the session.
    Terminate,
    /// COPY data.
    CopyData(Bytes),
    /// End of COPY data.
    CopyDone,
    /// The client gives up.
    CopyFail(&'a str),
    /// The function call protocol.
    FunctionCall,
}

/// A frame as it was cut out.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Its type byte.
    pub(crate) kind: u8,
    /// What follows the length.
    pub(crate) body: Bytes,
}

fn violation(message: impl Into<std::borrow::Cow<'static, str>>) -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, message)
}

/// Longest frame of a kind, `None` for a kind that does not exist.
fn limit(kind: u8) -> Option<usize> {
    match kind {
        b'Q' | b'P' | b'B' | b'F' | b'd' => Some(LARGE_FRAME_BYTES_MAX),
        b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' => Some(SMALL_FRAME_BYTES_MAX),
        _ => None,
    }
}

/// How many bytes the first frame of `input` has in all, `None` while its length is not there.
/// An error is fatal to the connection: the stream cannot be followed any more.
fn frame_bytes(input: &[u8]) -> Result<Option<usize>, SqlError> {
    let Some(&kind) = input.first() else {
        return Ok(None);
    };
    let Some(limit) = limit(kind) else {
        return Err(violation(format!("invalid frontend message type {kind}")));
    };
    let Some(length) = input.get(1..5).and_then(|b| <[u8; 4]>::try_from(b).ok()) else {
        return Ok(None);
    };
    match usize::try_from(i32::from_be_bytes(length)) {
        Ok(n) if (4..=limit).contains(&n) => Ok(Some(n + 1)),
        _ => Err(violation("invalid message length")),
    }
}

/// Cuts the first frame off `input`, `None` while it is not complete.
pub(crate) fn take(input: &mut BytesMut) -> Result<Option<Frame>, SqlError> {
    match frame_bytes(input)? {
        Some(n) if input.len() >= n => {
            let mut body = input.split_to(n).freeze();
            let kind = body.first().copied().unwrap_or_default();
            body.advance(5);
            Ok(Some(Frame { kind, body }))
        }
        Some(n) => {
            // Room for the rest, in steps: the length alone must not cost memory.
            input.reserve((n - input.len()).min(1 << 20));
            Ok(None)
        }
        None => Ok(None),
    }
}

/// Type byte of the first frame if it is complete.
pub(crate) fn peek(input: &[u8]) -> Option<u8> {
    match frame_bytes(input) {
        Ok(Some(n)) if input.len() >= n => input.first().copied(),
        _ => None,
    }
}

impl Frame {
    /// Reads the frame. An error concerns this frame only.
    pub(crate) fn read(&self) -> Result<Frontend<'_>, SqlError> {
        let mut r = Reader {
            frame: &self.body,
            rest: &self.body,
        };
        let message = match self.kind {
            b'Q' => Frontend::Query(r.text()?),
            b'P' => r.parse()?,
            b'B' => r.bind()?,
            b'D' => {
                let target = r.target("DESCRIBE")?;
                Frontend::Describe(target, r.text()?)
            }
            b'C' => {
                let target = r.target("CLOSE")?;
                Frontend::Close(target, r.text()?)
            }
            b'E' => {
                let portal = r.text()?;
                Frontend::Execute {
                    portal,
                    rows_max: usize::try_from(r.i32()?).unwrap_or(0),
                }
            }
            b'H' => Frontend::Flush,
            b'S' => Frontend::Sync,
            b'X' => return Ok(Frontend::Terminate),
            b'd' => return Ok(Frontend::CopyData(self.body.clone())),
            b'c' => Frontend::CopyDone,
            b'f' => Frontend::CopyFail(r.text()?),
            _ => return Ok(Frontend::FunctionCall),
        };
        if r.rest.is_empty() {
            Ok(message)
        } else {
            Err(violation("invalid message format"))
        }
    }
}

struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, n: usize) -> Result<&'a [u8], SqlError> {
        let (head, rest) = self
            .rest
            .split_at_checked(n)
            .ok_or_else(|| violation("insufficient data left in message"))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SqlError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| violation("insufficient data left in message"))?;
        self.rest = rest;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16, SqlError> {
        self.array().map(u16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, SqlError> {
        self.array().map(i32::from_be_bytes)
    }

    /// A zero-terminated string.
    fn text(&mut self) -> Result<&'a str, SqlError> {
        let end = self
            .rest
            .iter()
            .position(|b| *b == 0)
            .ok_or_else(|| violation("invalid string in message"))?;
        let bytes = self.bytes(end + 1)?;
        utf8(bytes.get(..end).unwrap_or_default())
    }

    fn target(&mut self, what: &str) -> Result<Target, SqlError> {
        match self.array::<1>()? {
            [b'S'] => Ok(Target::Statement),
            [b'P'] => Ok(Target::Portal),
            [other] => Err(violation(format!("invalid {what} message subtype {other}"))),
        }
    }

    fn parse(&mut self) -> Result<Frontend<'a>, SqlError> {
        let (name, sql) = (self.text()?, self.text()?);
        let n = usize::from(self.u16()?);
        let raw = self.bytes(n * 4)?;
        let types = raw
            .chunks_exact(4)
            .map(|c| Oid(u32::from_be_bytes(c.try_into().unwrap_or_default())))
            .collect();
        Ok(Frontend::Parse { name, sql, types })
    }

    fn formats(&mut self) -> Result<Vec<Format>, SqlError> {
        let n = usize::from(self.u16()?);
        self.bytes(n * 2)?
            .chunks_exact(2)
            .map(
                |c| match i16::from_be_bytes(c.try_into().unwrap_or_default()) {
                    0 => Ok(Format::Text),
                    1 => Ok(Format::Binary),
                    other => Err(SqlError::new(
                        SqlState::INVALID_PARAMETER_VALUE,
                        format!("unsupported format code: {other}"),
                    )),
                },
            )
            .collect()
    }

    fn bind(&mut self) -> Result<Frontend<'a>, SqlError> {
        let (portal, statement) = (self.text()?, self.text()?);
        let formats = self.formats()?;
        let n = usize::from(self.u16()?);
        if formats.len() > 1 && formats.len() != n {
            return Err(violation(format!(
                "bind message has {} parameter formats but {n} parameters",
                formats.len()
            )));
        }
        let mut parameters = Vec::with_capacity(n.min(self.rest.len() / 4));
        for i in 0..n {
            let format = match formats.as_slice() {
                [] => Format::Text,
                [one] => *one,
                many => many.get(i).copied().unwrap_or(Format::Text),
            };
            let bytes = match usize::try_from(self.i32()?) {
                Ok(length) => Some(self.frame.slice_ref(self.bytes(length)?)),
                Err(_) => None,
            };
            parameters.push(WireValue { bytes, format });
        }
        let formats = self.formats()?;
        Ok(Frontend::Bind {
            portal,
            statement,
            parameters,
            formats,
        })
    }
}

/// The text in `bytes`, or `22021` with PostgreSQL's words.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, SqlError> {
    std::str::from_utf8(bytes).map_err(|e| {
        let bad = bytes.get(e.valid_up_to()..).unwrap_or_default();
        let length = match bad.first().copied().unwrap_or_default() {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            _ => 1,
        };
        let shown: Vec<String> = bad
            .iter()
            .take(length)
            .map(|b| format!("0x{b:02x}"))
            .collect();
        SqlError::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            format!(
                "invalid byte sequence for encoding \"UTF8\": {}",
                shown.join(" ")
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, body: &[u8]) -> BytesMut {
        let mut b = BytesMut::new();
        b.extend_from_slice(&[kind]);
        b.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        b.extend_from_slice(body);
        b
    }

    fn refused(kind: u8, body: &[u8]) -> String {
        let frame = take(&mut frame(kind, body)).unwrap().unwrap();
        frame
            .read()
            .map(|_| ())
            .unwrap_err()
            .state
            .code()
            .to_owned()
    }

    #[test]
    fn whole_frames_only() {
        let mut input = frame(b'Q', b"SELECT 1\0");
        input.extend_from_slice(&frame(b'S', b""));
        let mut cut = BytesMut::new();
        let mut kinds = Vec::new();
        for b in &input {
            cut.extend_from_slice(&[*b]);
            if let Some(f) = take(&mut cut).unwrap() {
                kinds.push(f.kind);
            }
        }
        assert_eq!(kinds, b"QS");
        assert!(cut.is_empty());
    }

    #[test]
    fn lengths_are_checked_before_anything_is_reserved() {
        for bad in [
            &b"Q\0\0\0\x03"[..],
            b"Q\xff\xff\xff\xff",
            b"Q\x7f\xff\xff\xff",
            b"S\0\0\x40\0",
        ] {
            let e = take(&mut BytesMut::from(bad)).unwrap_err();
            assert_eq!(e.state.code(), "08P01");
        }
        assert_eq!(
            take(&mut BytesMut::from(&b"?"[..]))
                .unwrap_err()
                .state
                .code(),
            "08P01"
        );
        let mut large = BytesMut::from(&b"Q\x0f\xff\xff\xff"[..]);
        assert!(take(&mut large).unwrap().is_none());
        assert!(large.capacity() < 4 << 20);
    }

    #[test]
    fn malformed_bodies() {
        assert_eq!(refused(b'Q', b"SELECT 1"), "08P01");
        assert_eq!(refused(b'Q', b"SELECT 1\0x"), "08P01");
        assert_eq!(refused(b'Q', b"SELECT '\xff'\0"), "22021");
        assert_eq!(refused(b'P', b"\0SELECT 1\0\xff\xff\0\0"), "08P01");
        assert_eq!(refused(b'B', b"\0\0\0\x01\0\x07\0\0\0\0"), "22023");
        assert_eq!(refused(b'B', b"\0\0\0\0\xff\xff\0\0\0\x01a"), "08P01");
        assert_eq!(
            refused(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xffa\0\0"),
            "08P01"
        );
        assert_eq!(
            refused(b'B', b"\0\0\0\x02\0\0\0\0\0\x01\xff\xff\xff\xff\0\0"),
            "08P01"
        );
        assert_eq!(refused(b'D', b"Xname\0"), "08P01");
    }

    #[test]
    fn bind_reads_values() {
        let body = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\x01";
        let frame = take(&mut frame(b'B', body)).unwrap().unwrap();
        let Frontend::Bind {
            portal,
            statement,
            parameters,
            formats,
        } = frame.read().unwrap()
        else {
            panic!("not a bind")
        };
        assert_eq!((portal, statement), ("p", "s"));
        assert_eq!(parameters[0].bytes.as_deref(), Some(&b"ab"[..]));
        assert_eq!(parameters[0].format, Format::Binary);
        assert!(parameters[1].bytes.is_none());
        assert_eq!(formats, [Format::Binary]);
    }

    #[test]
    fn invalid_utf8_shows_its_bytes() {
        let message = |b: &[u8]| utf8(b).unwrap_err().message.to_string();
        assert!(message(b"a\xc3(").ends_with("0xc3 0x28"));
        assert!(message(b"\xff").ends_with(": 0xff"));
        assert!(message(b"\xe2\x82").ends_with("0xe2 0x82"));
    }
}
