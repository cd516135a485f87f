//! One session: start-up, simple and extended requests, COPY, cancel.
//!
//! Every request ends at ReadyForQuery or marks the session dead; a dead session must be replaced
//! ([`Client::is_dead`]). Nothing here retries.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::error::{ServerError, WireError};
use super::frame::{Frame, FrameReader, message, startup_message};

/// Where to connect and as whom.
#[derive(Debug, Clone)]
pub struct Address {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// How long any single answer may take.
    pub patience: Duration,
}

impl Address {
    /// User `postgres`, database `postgres` on the loopback, 30 s patience.
    pub fn local(port: u16) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port,
            user: "postgres".to_owned(),
            database: "postgres".to_owned(),
            patience: Duration::from_secs(30),
        }
    }

    /// A plain TCP connection to the server, nothing sent yet.
    ///
    /// # Errors
    /// `Io` when nobody listens.
    pub fn dial(&self) -> Result<TcpStream, WireError> {
        let addresses: Vec<SocketAddr> = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(WireError::Io)?
            .collect();
        let first = addresses.first().ok_or_else(|| {
            WireError::Io(std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "no such host",
            ))
        })?;
        let stream = TcpStream::connect_timeout(first, self.patience).map_err(WireError::Io)?;
        stream.set_nodelay(true).map_err(WireError::Io)?;
        stream
            .set_write_timeout(Some(self.patience))
            .map_err(WireError::Io)?;
        Ok(stream)
    }
}

/// A result column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Output name.
    pub name: String,
    /// Type oid.
    pub type_oid: u32,
}

/// The answer to one statement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// `None` for a statement that returns no rows at all.
    pub columns: Option<Vec<Column>>,
    /// Rows in text form; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// What COPY TO STDOUT sent.
    pub copied: Vec<u8>,
    /// The command tag, such as `INSERT 0 1`.
    pub tag: String,
}

impl Outcome {
    /// The number at the end of the command tag, or 0.
    pub fn affected(&self) -> u64 {
        self.tag
            .rsplit(' ')
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0)
    }
}

/// One open session.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    reader: FrameReader,
    address: Address,
    pid: i32,
    secret: Vec<u8>,
    status: u8,
    dead: bool,
}

impl Client {
    /// Connects and waits until the session is ready.
    ///
    /// # Errors
    /// The server's refusal, or whatever the socket says.
    pub fn connect(address: &Address) -> Result<Self, WireError> {
        Self::connect_with(address, &[])
    }

    /// As [`Client::connect`], with further start-up parameters.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_with(address: &Address, extra: &[(&str, &str)]) -> Result<Self, WireError> {
        let mut client = Self {
            stream: address.dial()?,
            reader: FrameReader::new(),
            address: address.clone(),
            pid: 0,
            secret: Vec::new(),
            status: b'I',
            dead: false,
        };
        let mut parameters = vec![
            ("user", address.user.as_str()),
            ("database", address.database.as_str()),
            ("client_encoding", "UTF8"),
        ];
        parameters.extend_from_slice(extra);
        client.send(&startup_message(&parameters))?;
        let deadline = client.deadline();
        loop {
            let frame = client.receive(deadline)?;
            match frame.kind {
                b'R' => client.authenticate(&frame.body)?,
                b'K' => {
                    let (pid, secret) = frame.body.split_at(frame.body.len().min(4));
                    client.pid = be_i32(pid);
                    client.secret = secret.to_vec();
                }
                b'Z' => {
                    client.status = frame.body.first().copied().unwrap_or(b'I');
                    return Ok(client);
                }
                b'E' => return Err(ServerError::parse(&frame.body).into()),
                b'S' | b'N' | b'v' => {}
                other => return Err(unexpected(other)),
            }
        }
    }

    /// The transaction status of the last ReadyForQuery: `b'I'`, `b'T'` or `b'E'`.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// The session can no longer be used.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// The server's process number for this session.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Runs a string of statements with the simple protocol; one outcome a statement.
    ///
    /// # Errors
    /// The first error of the server (the session is ready again), or a dead session.
    pub fn simple(&mut self, sql: &str) -> Result<Vec<Outcome>, WireError> {
        self.simple_with_copy(sql, None)
    }

    /// As [`Client::simple`]; `data` is what COPY FROM STDIN is fed with.
    ///
    /// # Errors
    /// As [`Client::simple`].
    pub fn simple_with_copy(
        &mut self,
        sql: &str,
        data: Option<&[u8]>,
    ) -> Result<Vec<Outcome>, WireError> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(&message(b'Q', &body))?;
        self.collect(data)
    }

    /// Runs one statement and returns its single outcome.
    ///
    /// # Errors
    /// As [`Client::simple`].
    pub fn query(&mut self, sql: &str) -> Result<Outcome, WireError> {
        Ok(self.simple(sql)?.pop().unwrap_or_default())
    }

    /// Runs one statement and returns the first value of its first row as text.
    ///
    /// # Errors
    /// As [`Client::simple`].
    pub fn scalar(&mut self, sql: &str) -> Result<Option<String>, WireError> {
        let outcome = self.query(sql)?;
        Ok(outcome
            .rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next())
            .flatten())
    }

    /// Runs one statement with the extended protocol, parameters and results as text.
    ///
    /// # Errors
    /// As [`Client::simple`].
    pub fn extended(
        &mut self,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> Result<Outcome, WireError> {
        let mut out = Vec::new();
        let mut parse = vec![0];
        parse.extend_from_slice(sql.as_bytes());
        parse.extend_from_slice(&[0, 0, 0]);
        out.extend(message(b'P', &parse));
        out.extend(message(b'B', &bind_body("", "", parameters)));
        out.extend(message(b'D', b"P\0"));
        out.extend(message(b'E', &[0, 0, 0, 0, 0]));
        out.extend(message(b'S', &[]));
        self.send(&out)?;
        Ok(self.collect(None)?.pop().unwrap_or_default())
    }

    /// Asks the server, over a second connection, to cancel what this session runs.
    ///
    /// # Errors
    /// When the second connection cannot be made.
    pub fn cancel(&self) -> Result<(), WireError> {
        let mut stream = self.address.dial()?;
        let mut body = 80_877_102_i32.to_be_bytes().to_vec();
        body.extend_from_slice(&self.pid.to_be_bytes());
        body.extend_from_slice(&self.secret);
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        let mut out = length.to_be_bytes().to_vec();
        out.extend_from_slice(&body);
        stream.write_all(&out).map_err(WireError::Io)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the socket refuses them; the session is then dead.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.stream.write_all(bytes).map_err(|error| {
            self.dead = true;
            match error.kind() {
                std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => {
                    WireError::Closed
                }
                _ => WireError::Io(error),
            }
        })
    }

    /// The next frame, whatever it is.
    ///
    /// # Errors
    /// As [`FrameReader::next`]; the session is then dead.
    pub fn next_frame(&mut self) -> Result<Frame, WireError> {
        let deadline = self.deadline();
        self.receive(deadline)
    }

    /// Reads until ReadyForQuery, collecting what comes; COPY FROM STDIN is fed with `data`.
    ///
    /// # Errors
    /// As [`Client::simple`].
    pub fn collect(&mut self, data: Option<&[u8]>) -> Result<Vec<Outcome>, WireError> {
        let deadline = self.deadline();
        let mut outcomes = Vec::new();
        let mut current = Outcome::default();
        let mut failure: Option<ServerError> = None;
        loop {
            let frame = match self.receive(deadline) {
                Ok(frame) => frame,
                Err(WireError::Closed) => {
                    return Err(failure.map_or(WireError::Closed, WireError::from));
                }
                Err(error) => return Err(error),
            };
            match frame.kind {
                b'T' => current.columns = Some(columns(&frame.body)),
                b'D' => current.rows.push(values(&frame.body)),
                b'C' => {
                    let end = frame.body.len().saturating_sub(1);
                    current.tag =
                        String::from_utf8_lossy(frame.body.get(..end).unwrap_or_default()).into();
                    outcomes.push(std::mem::take(&mut current));
                }
                b'I' | b's' => outcomes.push(std::mem::take(&mut current)),
                b'E' => {
                    failure.get_or_insert_with(|| ServerError::parse(&frame.body));
                    current = Outcome::default();
                }
                b'Z' => {
                    self.status = frame.body.first().copied().unwrap_or(b'I');
                    return failure.map_or(Ok(outcomes), |error| Err(error.into()));
                }
                b'G' => self.feed(data)?,
                b'd' => current.copied.extend_from_slice(&frame.body),
                b'1' | b'2' | b'3' | b'n' | b't' | b'H' | b'c' | b'N' | b'S' | b'A' => {}
                other => {
                    self.dead = true;
                    return Err(unexpected(other));
                }
            }
        }
    }

    fn feed(&mut self, data: Option<&[u8]>) -> Result<(), WireError> {
        let out = match data {
            Some(bytes) => {
                let mut out = message(b'd', bytes);
                out.extend(message(b'c', &[]));
                out
            }
            None => message(b'f', b"no data\0"),
        };
        self.send(&out)
    }

    fn authenticate(&mut self, body: &[u8]) -> Result<(), WireError> {
        match be_i32(body.get(..4).unwrap_or_default()) {
            0 => Ok(()),
            3 => {
                let password = std::env::var("PGPASSWORD").unwrap_or_default();
                let mut body = password.into_bytes();
                body.push(0);
                self.send(&message(b'p', &body))
            }
            other => Err(WireError::Protocol(format!(
                "authentication method {other}"
            ))),
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.address.patience
    }

    fn receive(&mut self, deadline: Instant) -> Result<Frame, WireError> {
        self.reader
            .next(&mut self.stream, deadline, self.address.patience)
            .inspect_err(|_| self.dead = true)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.dead {
            // The server notices a closed socket too; a failure here changes nothing.
            let _ = self.stream.write_all(&message(b'X', &[]));
        }
    }
}

/// The body of a Bind message: all parameters and results in text format.
fn bind_body(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    let mut body = Vec::new();
    for name in [portal, statement] {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
    }
    body.extend_from_slice(&[0, 0]);
    let count = u16::try_from(parameters.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&count.to_be_bytes());
    for parameter in parameters {
        match parameter {
            Some(text) => {
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                body.extend_from_slice(&length.to_be_bytes());
                body.extend_from_slice(text.as_bytes());
            }
            None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }
    body.extend_from_slice(&[0, 0]);
    body
}

fn unexpected(kind: u8) -> WireError {
    WireError::Protocol(format!("unexpected message {:?}", char::from(kind)))
}

fn be_i32(bytes: &[u8]) -> i32 {
    bytes.try_into().map(i32::from_be_bytes).unwrap_or_default()
}

/// Takes `count` bytes off the front of `rest`; fewer when fewer are left.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, tail) = rest.split_at(count.min(rest.len()));
    *rest = tail;
    head
}

fn take_u16(rest: &mut &[u8]) -> usize {
    take(rest, 2)
        .try_into()
        .map(u16::from_be_bytes)
        .unwrap_or_default()
        .into()
}

fn columns(body: &[u8]) -> Vec<Column> {
    let mut rest = body;
    let count = take_u16(&mut rest);
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
        let name = String::from_utf8_lossy(take(&mut rest, end)).into_owned();
        take(&mut rest, 1 + 4 + 2);
        let type_oid = take(&mut rest, 4)
            .try_into()
            .map(u32::from_be_bytes)
            .unwrap_or_default();
        take(&mut rest, 2 + 4 + 2);
        columns.push(Column { name, type_oid });
    }
    columns
}

fn values(body: &[u8]) -> Vec<Option<String>> {
    let mut rest = body;
    let count = take_u16(&mut rest);
    let mut row = Vec::with_capacity(count);
    for _ in 0..count {
        let length = be_i32(take(&mut rest, 4));
        row.push(
            usize::try_from(length)
                .ok()
                .map(|length| String::from_utf8_lossy(take(&mut rest, length)).into_owned()),
        );
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_null_from_empty() {
        let body = [0, 3, 0, 0, 0, 1, b'x', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(
            values(&body),
            [Some("x".to_owned()), None, Some(String::new())]
        );
    }

    #[test]
    fn the_tag_counts_rows() {
        let outcome = Outcome {
            tag: "INSERT 0 3".to_owned(),
            ..Outcome::default()
        };
        assert_eq!(outcome.affected(), 3);
        assert_eq!(Outcome::default().affected(), 0);
    }
}
