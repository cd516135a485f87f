//! Messages to the client, appended to one buffer.
//!
//! Every function here appends complete frames; nothing here writes to a socket.

use pontoon_sql::SqlError;
use pontoon_sql::bind::tree::OutputColumn;
use pontoon_sql::error::Severity;
use pontoon_sql::session::api::{Format, SideMessage, TransactionStatus};
use pontoon_sql::types::Oid;
use pontoon_sql::types::registry::registry;

/// Appends a frame whose body `body` appends. A body over 2 GiB cannot be told to a client; its
/// caller must have refused the value before (see [`super::rows`]).
pub(crate) fn frame(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    close_frame(out, at);
}

/// Fills in the length that lies at `at`.
pub(crate) fn close_frame(out: &mut [u8], at: usize) {
    let length = u32::try_from(out.len() - at)
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length);
    }
}

fn text(out: &mut Vec<u8>, s: &str) {
    // A zero byte would end the string for the client.
    out.extend(s.bytes().filter(|b| *b != 0));
    out.push(0);
}

fn count(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes());
}

/// ParseComplete.
pub(crate) const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
/// BindComplete.
pub(crate) const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
/// CloseComplete.
pub(crate) const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
/// NoData.
pub(crate) const NO_DATA: &[u8] = b"n\0\0\0\x04";
/// PortalSuspended.
pub(crate) const PORTAL_SUSPENDED: &[u8] = b"s\0\0\0\x04";
/// EmptyQueryResponse.
pub(crate) const EMPTY_QUERY: &[u8] = b"I\0\0\0\x04";
/// CopyDone.
pub(crate) const COPY_DONE: &[u8] = b"c\0\0\0\x04";
/// AuthenticationOk.
pub(crate) const AUTHENTICATION_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";

/// ReadyForQuery.
pub(crate) fn ready(out: &mut Vec<u8>, status: TransactionStatus) {
    let byte = match status {
        TransactionStatus::Idle => b'I',
        TransactionStatus::InBlock => b'T',
        TransactionStatus::Failed => b'E',
    };
    out.extend_from_slice(&[b'Z', 0, 0, 0, 5, byte]);
}

/// CommandComplete.
pub(crate) fn complete(out: &mut Vec<u8>, tag: &str) {
    frame(out, b'C', |o| text(o, tag));
}

/// ParameterStatus.
pub(crate) fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    frame(out, b'S', |o| {
        text(o, name);
        text(o, value);
    });
}

/// BackendKeyData.
pub(crate) fn backend_key(out: &mut Vec<u8>, pid: i32, secret: &[u8]) {
    frame(out, b'K', |o| {
        o.extend_from_slice(&pid.to_be_bytes());
        o.extend_from_slice(secret);
    });
}

/// NegotiateProtocolVersion: the newest version we speak, the options we do not know.
pub(crate) fn negotiate(out: &mut Vec<u8>, version: u32, unknown: &[&str]) {
    frame(out, b'v', |o| {
        o.extend_from_slice(&version.to_be_bytes());
        o.extend_from_slice(&u32::try_from(unknown.len()).unwrap_or(0).to_be_bytes());
        unknown.iter().for_each(|name| text(o, name));
    });
}

/// ParameterDescription.
pub(crate) fn parameter_description(out: &mut Vec<u8>, types: &[Oid]) {
    frame(out, b't', |o| {
        count(o, types.len());
        types
            .iter()
            .for_each(|t| o.extend_from_slice(&t.0.to_be_bytes()));
    });
}

/// RowDescription; columns beyond the end of `formats` are text.
pub(crate) fn row_description(out: &mut Vec<u8>, columns: &[OutputColumn], formats: &[Format]) {
    frame(out, b'T', |o| {
        count(o, columns.len());
        for (i, column) in columns.iter().enumerate() {
            text(o, &column.name);
            let (table, attnum) = column.origin.unwrap_or((Oid::INVALID, 0));
            o.extend_from_slice(&table.0.to_be_bytes());
            o.extend_from_slice(&attnum.to_be_bytes());
            o.extend_from_slice(&column.ty.oid.0.to_be_bytes());
            let length = registry().type_info(column.ty.oid).map_or(-1, |t| t.len);
            o.extend_from_slice(&length.to_be_bytes());
            o.extend_from_slice(&column.ty.typmod.to_be_bytes());
            o.extend_from_slice(&code(format_of(formats, i)).to_be_bytes());
        }
    });
}

fn code(format: Format) -> u16 {
    match format {
        Format::Text => 0,
        Format::Binary => 1,
    }
}

/// The format of column `i`: none given means text, one given means all.
pub(crate) fn format_of(formats: &[Format], i: usize) -> Format {
    match formats {
        [] => Format::Text,
        [one] => *one,
        many => many.get(i).copied().unwrap_or(Format::Text),
    }
}

/// CopyInResponse (`G`) or CopyOutResponse (`H`).
pub(crate) fn copy_response(out: &mut Vec<u8>, kind: u8, columns: usize, binary: bool) {
    frame(out, kind, |o| {
        o.push(u8::from(binary));
        count(o, columns);
        (0..columns).for_each(|_| o.extend_from_slice(&u16::from(binary).to_be_bytes()));
    });
}

/// ErrorResponse or NoticeResponse, by severity.
pub(crate) fn error(out: &mut Vec<u8>, e: &SqlError) {
    let (kind, severity) = match e.severity {
        Severity::Error => (b'E', "ERROR"),
        Severity::Fatal => (b'E', "FATAL"),
        Severity::Warning => (b'N', "WARNING"),
        Severity::Notice => (b'N', "NOTICE"),
    };
    frame(out, kind, |o| {
        let mut field = |code: u8, value: &str| {
            o.push(code);
            text(o, value);
        };
        field(b'S', severity);
        field(b'V', severity);
        field(b'C', e.state.code());
        field(b'M', &e.message);
        let optional = [
            (b'D', &e.detail),
            (b'H', &e.hint),
            (b'W', &e.context),
            (b's', &e.schema),
            (b't', &e.table),
            (b'c', &e.column),
            (b'd', &e.data_type),
            (b'n', &e.constraint),
        ];
        for (code, value) in optional {
            if let Some(value) = value {
                field(code, value);
            }
        }
        if let Some(position) = e.position {
            field(b'P', &position.to_string());
        }
        o.push(0);
    });
}

/// Notices and changed parameters.
pub(crate) fn side_message(out: &mut Vec<u8>, message: &SideMessage) {
    match message {
        SideMessage::Notice(e) => error(out, e),
        SideMessage::Parameter(name, value) => parameter_status(out, name, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_sql::SqlState;

    #[test]
    fn error_fields() {
        let mut out = Vec::new();
        let e = SqlError::new(
            SqlState::UNDEFINED_TABLE,
            "relation \"a\0b\" does not exist",
        )
        .at(15);
        error(&mut out, &e);
        assert_eq!(
            out,
            b"E\0\0\0\x46SERROR\0VERROR\0C42P01\0Mrelation \"ab\" does not exist\0P15\0\0"
                .iter()
                .copied()
                .enumerate()
                .map(|(i, b)| if i == 4 {
                    u8::try_from(out.len() - 1).unwrap()
                } else {
                    b
                })
                .collect::<Vec<u8>>()
        );
    }

    #[test]
    fn frames_have_their_length() {
        let mut out = Vec::new();
        complete(&mut out, "SELECT 1");
        assert_eq!(out, b"C\0\0\0\x0dSELECT 1\0");
        out.clear();
        ready(&mut out, TransactionStatus::Failed);
        assert_eq!(out, b"Z\0\0\0\x05E");
    }
}
