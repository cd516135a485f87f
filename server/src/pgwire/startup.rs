//! From an accepted socket to a session: encryption, cancel requests, protocol version, user and
//! database.
//!
//! What is not a start-up packet (wrong length, another protocol) is answered by closing the
//! socket, as PostgreSQL does: a scanner learns nothing. Everything else gets a FATAL error.

use std::net::IpAddr;

use bytes::{Buf, Bytes, BytesMut};
use pontoon_sql::error::Severity;
use pontoon_sql::session::{SessionStart, place};
use pontoon_sql::{SqlError, SqlState};
use rand::RngCore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connection::Connection;
use super::frames::utf8;
use super::io::{Io, Stream};
use super::listener::{AUTHENTICATION_TIME_MAX, Front};
use super::out;

/// Longest start-up packet, PostgreSQL's number.
const PACKET_BYTES_MAX: usize = 10_000;
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSSENC: u32 = 80_877_104;
/// Minor version of protocol 3 that we speak at most.
const MINOR_MAX: u32 = 2;
/// First byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Serves a connection from its first byte to its last.
pub(crate) async fn serve(mut socket: TcpStream, front: &Front) {
    let peer = socket.peer_addr().map(|a| a.ip());
    let Ok(peer) = peer else { return };
    let mut input = BytesMut::with_capacity(1024);
    let negotiated = negotiate(&mut socket, &mut input, front);
    let Ok(Some(first)) = tokio::time::timeout(AUTHENTICATION_TIME_MAX, negotiated).await else {
        return;
    };
    match first {
        First::Packet(packet) => session(socket, input, packet, peer, front).await,
        First::Tls => {
            let Some(tls) = &front.tls else { return };
            place::leave().await;
            let secured = async {
                let mut socket = tls.accept(socket).await.ok()?;
                let packet = packet(&mut socket, &mut input).await?;
                Some((socket, packet))
            };
            let secured = tokio::time::timeout(AUTHENTICATION_TIME_MAX, secured).await;
            if let Ok(Some((socket, packet))) = secured {
                Box::pin(session(socket, input, packet, peer, front)).await;
            }
        }
    }
}

enum First {
    /// A start-up or cancel packet.
    Packet(Packet),
    /// The client speaks TLS from here on.
    Tls,
}

struct Packet {
    code: u32,
    body: Bytes,
}

/// The first packets, until one that is not about encryption.
async fn negotiate(socket: &mut TcpStream, input: &mut BytesMut, front: &Front) -> Option<First> {
    for _ in 0..3 {
        let packet = packet(socket, input).await?;
        match packet.code {
            SSL => {
                let answer: &[u8] = if front.tls.is_some() { b"S" } else { b"N" };
                if front.tls.is_some() && !input.is_empty() {
                    // Unencrypted bytes behind the request would be taken for encrypted ones.
                    return None;
                }
                socket.write_all(answer).await.ok()?;
                if front.tls.is_some() {
                    return Some(First::Tls);
                }
            }
            GSSENC => socket.write_all(b"N").await.ok()?,
            _ => return Some(First::Packet(packet)),
        }
    }
    None
}

/// The next start-up packet, `None` when there is none.
async fn packet<S: Stream>(socket: &mut S, input: &mut BytesMut) -> Option<Packet> {
    loop {
        if input.first() == Some(&TLS_HANDSHAKE) {
            return None;
        }
        if let Some(length) = input.get(..4).and_then(|b| <[u8; 4]>::try_from(b).ok()) {
            let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
            if !(8..=PACKET_BYTES_MAX).contains(&length) {
                return None;
            }
            if input.len() >= length {
                let mut body = input.split_to(length).freeze();
                body.advance(4);
                let code = body.get_u32();
                return Some(Packet { code, body });
            }
        }
        input.reserve(1024);
        if socket.read_buf(input).await.ok()? == 0 {
            return None;
        }
    }
}

/// A start-up packet, read.
struct Startup {
    /// Negotiated minor version.
    minor: u32,
    /// Whether the client must be told about it or about options.
    negotiate: bool,
    unknown: Vec<String>,
    user: String,
    database: String,
    settings: Vec<(String, String)>,
}

async fn session<S: Stream>(
    socket: S,
    input: BytesMut,
    packet: Packet,
    peer: IpAddr,
    front: &Front,
) {
    if packet.code == CANCEL {
        if let Some((pid, secret)) = packet.body.split_first_chunk::<4>() {
            front.cancels.cancel(i32::from_be_bytes(*pid), secret);
        }
        return;
    }
    if packet.code >> 16 == 2 {
        return;
    }
    let mut io = Io::new(socket, input, front.shutdown.clone());
    let pid = front.cancels.next_pid();
    let opened = match read_startup(&packet) {
        Ok(startup) => open(startup, pid, peer, front, &mut io.out),
        Err(e) => Err(e),
    };
    match opened {
        Ok((session, secret)) => {
            front.metrics.sessions_started.add();
            let connection = Connection::new(io, session, front.metrics.clone());
            let registration = front
                .cancels
                .register(pid, secret, connection.cancel.clone());
            connection.serve().await;
            drop(registration);
            front.metrics.sessions_ended.add();
        }
        Err(mut e) => {
            e.0.severity = Severity::Fatal;
            io.out.clear();
            out::error(&mut io.out, &e);
            io.close().await;
        }
    }
}

/// Checks who the client is, opens the session and writes the start-up answer.
fn open(
    startup: Startup,
    pid: i32,
    peer: IpAddr,
    front: &Front,
    answer: &mut Vec<u8>,
) -> Result<(pontoon_sql::session::Session, Vec<u8>), SqlError> {
    let Startup {
        minor,
        negotiate,
        unknown,
        user,
        database,
        settings,
    } = startup;
    if !front.insecure && !peer.to_canonical().is_loopback() {
        return Err(SqlError::new(
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            format!("connections from other machines are not allowed (host \"{peer}\")"),
        )
        .with_hint("Start the node with --insecure to allow them without a password."));
    }
    if user != "postgres" {
        return Err(SqlError::new(
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            format!("role \"{user}\" does not exist"),
        ));
    }
    if database != "postgres" {
        return Err(SqlError::new(
            SqlState::INVALID_CATALOG_NAME,
            format!("database \"{database}\" does not exist"),
        ));
    }
    front.admit()?;
    if negotiate {
        let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
        out::negotiate(answer, (3 << 16) | minor, &unknown);
    }
    let session = front.engine.session(SessionStart {
        user,
        database,
        settings,
        pid,
    })?;
    answer.extend_from_slice(out::AUTHENTICATION_OK);
    for (name, value) in session.parameter_statuses() {
        out::parameter_status(answer, name, &value);
    }
    let mut secret = vec![0; if minor >= 2 { 32 } else { 4 }];
    rand::rng().fill_bytes(&mut secret);
    out::backend_key(answer, pid, &secret);
    Ok((session, secret))
}

fn read_startup(packet: &Packet) -> Result<Startup, SqlError> {
    let (major, minor) = (packet.code >> 16, packet.code & 0xffff);
    if major != 3 {
        return Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2"),
        ));
    }
    let invalid = || {
        SqlError::new(
            SqlState::PROTOCOL_VIOLATION,
            "invalid startup packet layout: expected terminator as last byte",
        )
    };
    let body = packet.body.strip_suffix(b"\0").ok_or_else(invalid)?;
    let mut words = Vec::new();
    if !body.is_empty() {
        let body = body.strip_suffix(b"\0").ok_or_else(invalid)?;
        for word in body.split(|b| *b == 0) {
            words.push(utf8(word)?);
        }
    }
    let (mut user, mut database) = (None, None);
    let (mut unknown, mut settings) = (Vec::new(), Vec::new());
    for pair in words.chunks(2) {
        let [name, value] = pair else {
            return Err(invalid());
        };
        match *name {
            "user" => user = Some((*value).to_owned()),
            "database" => database = Some((*value).to_owned()),
            "replication" if !is_false(value) => {
                return Err(SqlError::unsupported("the replication protocol"));
            }
            "replication" => {}
            "options" => settings.extend(options(value)?),
            other if other.starts_with("_pq_.") => unknown.push(other.to_owned()),
            other => settings.push((other.to_owned(), (*value).to_owned())),
        }
    }
    let user = user.filter(|u| !u.is_empty()).ok_or_else(|| {
        SqlError::new(
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            "no PostgreSQL user name specified in startup packet",
        )
    })?;
    let database = database
        .filter(|d| !d.is_empty())
        .unwrap_or_else(|| user.clone());
    Ok(Startup {
        // 3.1 was never spoken by anyone.
        minor: if minor >= MINOR_MAX { MINOR_MAX } else { 0 },
        negotiate: minor > MINOR_MAX || minor == 1 || !unknown.is_empty(),
        unknown,
        user,
        database,
        settings,
    })
}

fn is_false(value: &str) -> bool {
    matches!(value, "false" | "off" | "no" | "0" | "f" | "n")
}

/// The settings in `-c name=value --name=value`; a backslash keeps the character after it.
fn options(text: &str) -> Result<Vec<(String, String)>, SqlError> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            words.extend(word.take());
        } else {
            let c = if c == '\\' {
                chars.next().unwrap_or('\\')
            } else {
                c
            };
            word.get_or_insert_default().push(c);
        }
    }
    words.extend(word);
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next().unwrap_or_default()
        } else if let Some(rest) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            rest.to_owned()
        } else {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("invalid command-line argument for server process: {word}"),
            ));
        };
        let Some((name, value)) = setting.split_once('=') else {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("--{setting} requires a value"),
            ));
        };
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: u32, body: &'static [u8]) -> Result<Startup, SqlError> {
        read_startup(&Packet {
            code,
            body: Bytes::from_static(body),
        })
    }

    #[test]
    fn user_database_and_settings() {
        let s = read(
            196_608,
            b"user\0u\0application_name\0psql\0options\0-c a=1 --b-c=x\\ y\0\0",
        );
        let s = s.ok().unwrap();
        assert_eq!((s.user.as_str(), s.database.as_str()), ("u", "u"));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            s.settings,
            [
                pair("application_name", "psql"),
                pair("a", "1"),
                pair("b_c", "x y")
            ]
        );
        assert!(!s.negotiate);
    }

    #[test]
    fn versions() {
        let state = |code| {
            read(code, b"user\0u\0\0")
                .err()
                .map(|e| e.state.code().to_owned())
        };
        assert_eq!(state(4 << 16).as_deref(), Some("0A000"));
        let s = read(196_608 + 9999, b"user\0u\0_pq_.x\0y\0\0")
            .ok()
            .unwrap();
        assert!(s.negotiate && s.minor == 2);
        assert_eq!(s.unknown, ["_pq_.x"]);
        let s = read(196_610, b"user\0u\0\0").ok().unwrap();
        assert!(!s.negotiate && s.minor == 2);
    }

    #[test]
    fn malformed() {
        let state = |body| read(196_608, body).err().map(|e| e.state.code().to_owned());
        assert_eq!(state(b"user\0u\0").as_deref(), Some("08P01"));
        assert_eq!(state(b"user\0u").as_deref(), Some("08P01"));
        assert_eq!(state(b"").as_deref(), Some("08P01"));
        assert_eq!(state(b"\0").as_deref(), Some("28000"));
        assert_eq!(state(b"user\0\xff\0\0").as_deref(), Some("22021"));
    }
}
