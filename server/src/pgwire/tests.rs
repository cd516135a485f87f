//! Our frames against those of the pgwire crate, read and written independently of ours.

use bytes::{BufMut, Bytes, BytesMut};
use pgwire::messages::data::{ParameterDescription, RowDescription};
use pgwire::messages::extendedquery::{Bind, Close, Describe, Execute, Parse};
use pgwire::messages::response::{CommandComplete, ErrorResponse, ReadyForQuery};
use pgwire::messages::{DecodeContext, Message};
use pontoon_sql::bind::tree::OutputColumn;
use pontoon_sql::session::api::{Format, TransactionStatus};
use pontoon_sql::types::{Oid, PgType};
use pontoon_sql::{SqlError, SqlState};

use super::frames::{self, Frontend, Target};
use super::out;

fn read(message: &impl Message) -> frames::Frame {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes).unwrap();
    bytes.put_slice(b"S\0\0\0\x04");
    let frame = frames::take(&mut bytes).unwrap().unwrap();
    assert_eq!(frames::peek(&bytes), Some(b'S'));
    frame
}

#[test]
fn frontend_messages_of_the_reference() {
    let some = |s: &str| Some(s.to_owned());
    let frame = read(&Parse::new(some("s"), "SELECT $1".to_owned(), vec![23, 0]));
    let Frontend::Parse { name, sql, types } = frame.read().unwrap() else {
        panic!("parse")
    };
    assert_eq!(
        (name, sql, types),
        ("s", "SELECT $1", vec![Oid(23), Oid(0)])
    );

    let values = vec![Some(Bytes::from_static(b"x")), None];
    let frame = read(&Bind::new(some("p"), None, vec![0, 1], values, vec![1]));
    let Frontend::Bind {
        portal,
        statement,
        parameters,
        formats,
    } = frame.read().unwrap()
    else {
        panic!("bind")
    };
    assert_eq!((portal, statement), ("p", ""));
    assert_eq!(parameters[0].bytes.as_deref(), Some(&b"x"[..]));
    assert_eq!(
        (parameters[0].format, parameters[1].format),
        (Format::Text, Format::Binary)
    );
    assert!(parameters[1].bytes.is_none());
    assert_eq!(formats, [Format::Binary]);

    let frame = read(&Execute::new(None, 7));
    assert!(matches!(
        frame.read().unwrap(),
        Frontend::Execute {
            portal: "",
            rows_max: 7
        }
    ));
    let frame = read(&Describe::new(b'P', some("p")));
    assert!(matches!(
        frame.read().unwrap(),
        Frontend::Describe(Target::Portal, "p")
    ));
    let frame = read(&Close::new(b'S', None));
    assert!(matches!(
        frame.read().unwrap(),
        Frontend::Close(Target::Statement, "")
    ));
}

fn decoded<M: Message>(out: &[u8]) -> M {
    let mut bytes = BytesMut::from(out);
    let message = M::decode(&mut bytes, &DecodeContext::default())
        .unwrap()
        .unwrap();
    assert!(bytes.is_empty());
    message
}

#[test]
fn backend_messages_for_the_reference() {
    let mut buffer = Vec::new();
    let columns = [
        OutputColumn {
            name: "a".into(),
            ty: PgType::new(Oid::INT4),
            origin: Some((Oid(7), 2)),
        },
        OutputColumn {
            name: "b".into(),
            ty: PgType::with_typmod(Oid::VARCHAR, 14),
            origin: None,
        },
    ];
    out::row_description(&mut buffer, &columns, &[Format::Binary, Format::Text]);
    let row: RowDescription = decoded(&buffer);
    let (a, b) = (&row.fields[0], &row.fields[1]);
    assert_eq!(
        (a.name.as_str(), a.table_id, a.column_id, a.type_id),
        ("a", 7, 2, 23)
    );
    assert_eq!((a.type_size, a.type_modifier, a.format_code), (4, -1, 1));
    assert_eq!(
        (b.type_id, b.type_size, b.type_modifier, b.format_code),
        (1043, -1, 14, 0)
    );

    buffer.clear();
    out::error(
        &mut buffer,
        &SqlError::new(SqlState::SYNTAX_ERROR, "no")
            .with_hint("try")
            .at(3),
    );
    let error: ErrorResponse = decoded(&buffer);
    let field = |code| {
        error
            .fields
            .iter()
            .find(|f| f.0 == code)
            .map(|f| f.1.as_str())
    };
    assert_eq!(
        [b'S', b'C', b'M', b'H', b'P']
            .map(field)
            .map(Option::unwrap),
        ["ERROR", "42601", "no", "try", "3"]
    );

    buffer.clear();
    out::parameter_description(&mut buffer, &[Oid(20)]);
    assert_eq!(decoded::<ParameterDescription>(&buffer).types, [20]);
    buffer.clear();
    out::complete(&mut buffer, "INSERT 0 1");
    assert_eq!(decoded::<CommandComplete>(&buffer).tag, "INSERT 0 1");
    buffer.clear();
    out::ready(&mut buffer, TransactionStatus::InBlock);
    let ready: ReadyForQuery = decoded(&buffer);
    assert_eq!(
        ready.status,
        pgwire::messages::response::TransactionStatus::Transaction
    );
}
