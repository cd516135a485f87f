//! The messages of `proto/watch.proto`, and their encoding.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use pontoon_kv::Error;
use pontoon_kv::cluster::{Metadata, WatchEvent, Watched, WatchedKind};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::rpc::protobuf::{Malformed, put_message, put_number, put_text, take_field};

/// What is to be watched.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Request {
    /// Names of topics; none: all.
    pub(crate) topics: Vec<String>,
    /// Up to where everything has been seen.
    pub(crate) since: u64,
}

/// A page of a watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Response {
    /// Everything up to it has been told now.
    pub(crate) revision: u64,
    /// What the events are.
    pub(crate) kind: WatchedKind,
    /// The events.
    pub(crate) events: Vec<Event>,
}

/// A row that was written or deleted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Event {
    /// The commit that did.
    pub(crate) revision: u64,
    /// It was deleted.
    pub(crate) deleted: bool,
    /// The name of its topic.
    pub(crate) topic: String,
    /// What it is about.
    pub(crate) id: String,
    /// The row as JSON, empty when there is none.
    pub(crate) value: String,
    /// The row before as JSON, empty when there was none, or it is not told.
    pub(crate) old: String,
}

impl TryFrom<Watched> for Response {
    type Error = Error;

    /// # Errors
    /// [`Error::Storage`] when a row is damaged.
    fn try_from(watched: Watched) -> Result<Self, Error> {
        let events = watched.events.iter().map(Event::try_from);
        Ok(Self {
            revision: watched.revision.0,
            kind: watched.kind,
            events: events.collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<&WatchEvent> for Event {
    type Error = Error;

    /// # Errors
    /// [`Error::Storage`] when a row is damaged.
    fn try_from(event: &WatchEvent) -> Result<Self, Error> {
        let json = |row: Option<Metadata>| row.map(|row| row.to_json().to_string());
        Ok(Self {
            revision: event.revision.0,
            deleted: event.value.is_none(),
            topic: event.topic.name().to_owned(),
            id: event.id(),
            value: json(event.row()?).unwrap_or_default(),
            old: json(event.old_row()?).unwrap_or_default(),
        })
    }
}

/// A message of the protocol.
pub(super) trait Message: Sized + Send + 'static {
    /// Appends its fields.
    fn put(&self, to: &mut Vec<u8>);

    /// Reads them; those that are not known are left out.
    fn take(from: Bytes) -> Result<Self, Malformed>;
}

impl Message for Request {
    fn put(&self, to: &mut Vec<u8>) {
        for topic in &self.topics {
            put_message(to, 1, topic.as_bytes());
        }
        put_number(to, 2, self.since);
    }

    fn take(mut from: Bytes) -> Result<Self, Malformed> {
        let mut request = Self::default();
        while let Some((field, value)) = take_field(&mut from)? {
            match field {
                1 => request.topics.push(value.text()?),
                2 => request.since = value.number()?,
                _ => {}
            }
        }
        Ok(request)
    }
}

/// Kinds of responses by their numbers.
const KINDS: [WatchedKind; 3] = [
    WatchedKind::Changes,
    WatchedKind::Rows,
    WatchedKind::Compacted,
];

impl Message for Response {
    fn put(&self, to: &mut Vec<u8>) {
        put_number(to, 1, self.revision);
        let kind = (0..).zip(KINDS).find(|(_, kind)| *kind == self.kind);
        put_number(to, 2, kind.map_or(0, |(number, _)| number));
        for event in &self.events {
            let mut encoded = Vec::with_capacity(64 + event.value.len() + event.old.len());
            event.put(&mut encoded);
            put_message(to, 3, &encoded);
        }
    }

    fn take(mut from: Bytes) -> Result<Self, Malformed> {
        let mut response = Self {
            revision: 0,
            kind: WatchedKind::Changes,
            events: Vec::new(),
        };
        while let Some((field, value)) = take_field(&mut from)? {
            match field {
                1 => response.revision = value.number()?,
                2 => {
                    let number = usize::try_from(value.number()?).map_err(|_| Malformed)?;
                    response.kind = *KINDS.get(number).ok_or(Malformed)?;
                }
                3 => response.events.push(Event::take(value.message()?)?),
                _ => {}
            }
        }
        Ok(response)
    }
}

impl Message for Event {
    fn put(&self, to: &mut Vec<u8>) {
        put_number(to, 1, self.revision);
        put_number(to, 2, self.deleted.into());
        put_text(to, 3, &self.topic);
        put_text(to, 4, &self.id);
        put_text(to, 5, &self.value);
        put_text(to, 6, &self.old);
    }

    fn take(mut from: Bytes) -> Result<Self, Malformed> {
        let mut event = Self::default();
        while let Some((field, value)) = take_field(&mut from)? {
            match field {
                1 => event.revision = value.number()?,
                2 => event.deleted = value.number()? != 0,
                3 => event.topic = value.text()?,
                4 => event.id = value.text()?,
                5 => event.value = value.text()?,
                6 => event.old = value.text()?,
                _ => {}
            }
        }
        Ok(event)
    }
}

/// Writes messages of one kind and reads those of another.
pub(super) struct MessageCodec<E, D>(PhantomData<fn(E) -> D>);

impl<E, D> MessageCodec<E, D> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: Message, D: Message> Codec for MessageCodec<E, D> {
    type Encode = E;
    type Decode = D;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::new()
    }

    fn decoder(&mut self) -> Self {
        Self::new()
    }
}

impl<E: Message, D: Message> Encoder for MessageCodec<E, D> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, message: E, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let mut encoded = Vec::new();
        message.put(&mut encoded);
        to.put_slice(&encoded);
        Ok(())
    }
}

impl<E: Message, D: Message> Decoder for MessageCodec<E, D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        let message = D::take(from.copy_to_bytes(from.remaining()));
        message
            .map(Some)
            .map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again<T: Message>(message: &T) -> Result<T, Malformed> {
        let mut encoded = Vec::new();
        message.put(&mut encoded);
        // A field of a later version.
        put_text(&mut encoded, 99, "later");
        T::take(encoded.into())
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        let request = Request {
            topics: vec!["nodes".to_owned(), "ranges".to_owned()],
            since: u64::MAX,
        };
        assert_eq!(again(&request), Ok(request));
        let event = Event {
            revision: 7,
            deleted: true,
            topic: "nodes".to_owned(),
            id: "1".to_owned(),
            value: String::new(),
            old: "{}".to_owned(),
        };
        for kind in KINDS {
            let response = Response {
                revision: 9,
                kind,
                events: vec![event.clone(), Event::default()],
            };
            assert_eq!(again(&response), Ok(response));
        }
        // A kind that is not known.
        assert_eq!(
            Response::take(Bytes::from_static(b"\x10\x03")),
            Err(Malformed)
        );
        // Text that is none.
        assert_eq!(
            Request::take(Bytes::from_static(b"\x0a\x01\xff")),
            Err(Malformed)
        );
    }
}
