//! Frames of the wire protocol: building them, and reading them from a socket with a deadline.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::error::WireError;

/// The largest frame this client accepts, in bytes: PostgreSQL's own limit.
const FRAME_BYTES_MAX: usize = 0x3fff_ffff;

/// One message from the server: its type byte and its body without the length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The type byte, such as `b'Z'`.
    pub kind: u8,
    /// The body.
    pub body: Vec<u8>,
}

/// Builds a typed message: type byte, length, body.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 5);
    out.push(kind);
    out.extend_from_slice(&length_word(body.len() + 4));
    out.extend_from_slice(body);
    out
}

/// Builds a StartupMessage of protocol 3.0 with the given parameters.
pub fn startup_message(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_i32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        for part in [name, value] {
            body.extend_from_slice(part.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    let mut out = length_word(body.len() + 4).to_vec();
    out.extend_from_slice(&body);
    out
}

fn length_word(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

/// Reads frames from a socket; never waits past its deadline.
#[derive(Debug)]
pub struct FrameReader {
    buffer: Vec<u8>,
    start: usize,
}

impl FrameReader {
    /// An empty reader.
    pub fn new() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// `Timeout` at the deadline, `Closed` at the end of the stream, `Protocol` for a length that
    /// no server may send.
    pub fn next(
        &mut self,
        stream: &mut TcpStream,
        deadline: Instant,
        patience: Duration,
    ) -> Result<Frame, WireError> {
        self.fill(stream, 5, deadline, patience)?;
        let head = self.pending().get(..5).unwrap_or_default();
        let (kind, length) = match head {
            [kind, a, b, c, d] => (*kind, u32::from_be_bytes([*a, *b, *c, *d]) as usize),
            _ => return Err(WireError::Protocol("short frame".to_owned())),
        };
        if !(4..=FRAME_BYTES_MAX).contains(&length) {
            return Err(WireError::Protocol(format!("frame of {length} bytes")));
        }
        self.fill(stream, length + 1, deadline, patience)?;
        let body = self
            .pending()
            .get(5..length + 1)
            .unwrap_or_default()
            .to_vec();
        self.start += length + 1;
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        Ok(Frame { kind, body })
    }

    fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    fn fill(
        &mut self,
        stream: &mut TcpStream,
        want: usize,
        deadline: Instant,
        patience: Duration,
    ) -> Result<(), WireError> {
        if self.start > 0 && self.buffer.len() - self.start < want {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let mut chunk = [0_u8; 16_384];
        while self.buffer.len() - self.start < want {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(WireError::Timeout(patience.as_millis()));
            }
            stream.set_read_timeout(Some(left)).map_err(WireError::Io)?;
            match stream.read(&mut chunk) {
                Ok(0) => return Err(WireError::Closed),
                Ok(count) => self
                    .buffer
                    .extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                        return Err(WireError::Timeout(patience.as_millis()));
                    }
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                        return Err(WireError::Closed);
                    }
                    _ => return Err(WireError::Io(error)),
                },
            }
        }
        Ok(())
    }
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_its_length_but_not_its_type() {
        assert_eq!(message(b'Q', b"x\0"), b"Q\0\0\0\x06x\0");
    }

    #[test]
    fn a_startup_message_ends_with_two_zeros() {
        let bytes = startup_message(&[("user", "u")]);
        assert_eq!(bytes.len(), usize::from(bytes[3]));
        assert!(bytes.ends_with(b"user\0u\0\0"));
    }
}
