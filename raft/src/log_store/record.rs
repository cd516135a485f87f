//! Records: what the log says about groups.
//!
//! ```text
//! record = length u32 | crc32c u32 | kind u8 | group u64 | payload        (length: kind and on)
//! ```
//! The checksum guards a record that is read alone, later, to serve an entry from disk; at open
//! the checksum of the whole frame counts ([`super::frame`]).

use bytes::{BufMut, Bytes};

use crate::codec::{Malformed, Reader};
use crate::ids::{GroupId, LogPosition, ReplicaId};
use crate::state_machine::{Entry, EntryPayload};
use crate::transport::Vote;

/// Bytes before `kind`.
pub(super) const PREFIX: usize = 8;
/// Bytes of an entry record besides its payload.
const ENTRY_OVERHEAD: usize = PREFIX + 1 + 8 + 17;

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const TRUNCATE: u8 = 3;
const PURGE: u8 = 4;
const EXPECT: u8 = 5;
const GROUP: u8 = 6;
const REMOVE: u8 = 7;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// One statement about a group.
#[derive(Clone, Debug)]
pub(super) enum Record {
    /// An entry, new or written again.
    Entry(Entry),
    /// The newest vote.
    Vote(Vote),
    /// No entry above this index holds any more; 0 for none at all.
    Truncate(u64),
    /// No entry up to here is kept.
    Purge(LogPosition),
    /// A snapshot up to here may be in the data.
    Expect(LogPosition),
    /// Everything about a group besides its entries.
    Group(GroupMeta),
    /// The group is gone.
    Remove,
}

/// Everything about a group besides its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct GroupMeta {
    pub(super) replica: ReplicaId,
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogPosition>,
    pub(super) expected: Option<LogPosition>,
}

/// Bytes of the entry's record.
pub(super) fn entry_length(entry: &Entry) -> usize {
    ENTRY_OVERHEAD + entry.payload.bytes()
}

/// Appends a record; returns its length.
pub(super) fn put(buffer: &mut Vec<u8>, group: GroupId, record: &Record) -> usize {
    match record {
        Record::Entry(entry) => put_entry(buffer, group, entry),
        Record::Vote(vote) => put_record(buffer, VOTE, group, |buffer| put_vote(buffer, vote)),
        Record::Truncate(index) => {
            put_record(buffer, TRUNCATE, group, |buffer| buffer.put_u64(*index))
        }
        Record::Purge(position) => put_record(buffer, PURGE, group, |buffer| {
            put_position(buffer, position)
        }),
        Record::Expect(position) => put_record(buffer, EXPECT, group, |buffer| {
            put_position(buffer, position)
        }),
        Record::Group(meta) => put_record(buffer, GROUP, group, |buffer| {
            buffer.put_u64(meta.replica.0);
            put_option(buffer, meta.vote.as_ref(), put_vote);
            put_option(buffer, meta.purged.as_ref(), put_position);
            put_option(buffer, meta.expected.as_ref(), put_position);
        }),
        Record::Remove => put_record(buffer, REMOVE, group, |_| {}),
    }
}

/// Appends the record of an entry; returns its length.
pub(super) fn put_entry(buffer: &mut Vec<u8>, group: GroupId, entry: &Entry) -> usize {
    put_record(buffer, ENTRY, group, |buffer| {
        put_position(buffer, &entry.position);
        match &entry.payload {
            EntryPayload::Blank => buffer.put_u8(BLANK),
            EntryPayload::Command(bytes) => {
                buffer.put_u8(COMMAND);
                buffer.put_slice(bytes);
            }
            EntryPayload::Membership(bytes) => {
                buffer.put_u8(MEMBERSHIP);
                buffer.put_slice(bytes);
            }
        }
    })
}

fn put_record(
    buffer: &mut Vec<u8>,
    kind: u8,
    group: GroupId,
    payload: impl FnOnce(&mut Vec<u8>),
) -> usize {
    let start = buffer.len();
    buffer.put_u64(0);
    buffer.put_u8(kind);
    buffer.put_u64(group.0);
    payload(buffer);
    let body = buffer.get(start + PREFIX..).unwrap_or_default();
    // Commands are bounded far below 4 GiB; see `HostConfig::command_bytes_max`.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let checksum = crc32c::crc32c(body).to_be_bytes();
    if let Some(prefix) = buffer.get_mut(start..start + PREFIX) {
        let (first, second) = prefix.split_at_mut(4);
        first.copy_from_slice(&length);
        second.copy_from_slice(&checksum);
    }
    buffer.len() - start
}

fn put_vote(buffer: &mut Vec<u8>, vote: &Vote) {
    buffer.put_u64(vote.term);
    buffer.put_u64(vote.candidate.0);
    buffer.put_u8(u8::from(vote.committed));
}

fn put_position(buffer: &mut Vec<u8>, position: &LogPosition) {
    buffer.put_u64(position.term);
    buffer.put_u64(position.index);
}

fn put_option<T>(buffer: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    buffer.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(buffer, value);
    }
}

/// Splits the first record off; `bytes` begins with its length. Returns what it says and its
/// whole length.
pub(super) fn take(bytes: &mut Bytes) -> Result<(GroupId, Record, usize), Malformed> {
    let mut reader = Reader::new(bytes.clone());
    let length = usize::try_from(reader.u32()?).map_err(|_| Malformed)?;
    let checksum = reader.u32()?;
    let whole = PREFIX.checked_add(length).ok_or(Malformed)?;
    if whole > bytes.len() {
        return Err(Malformed);
    }
    let record = bytes.split_to(whole);
    let body = record.slice(PREFIX..);
    if crc32c::crc32c(&body) != checksum {
        return Err(Malformed);
    }
    let (group, record) = parse(body)?;
    Ok((group, record, whole))
}

fn parse(body: Bytes) -> Result<(GroupId, Record), Malformed> {
    let mut reader = Reader::new(body);
    let kind = reader.u8()?;
    let group = GroupId(reader.u64()?);
    let record = match kind {
        ENTRY => {
            let position = read_position(&mut reader)?;
            let payload = match reader.u8()? {
                BLANK => EntryPayload::Blank,
                COMMAND => EntryPayload::Command(reader.rest()),
                MEMBERSHIP => EntryPayload::Membership(reader.rest()),
                _ => return Err(Malformed),
            };
            return Ok((group, Record::Entry(Entry { position, payload })));
        }
        VOTE => Record::Vote(read_vote(&mut reader)?),
        TRUNCATE => Record::Truncate(reader.u64()?),
        PURGE => Record::Purge(read_position(&mut reader)?),
        EXPECT => Record::Expect(read_position(&mut reader)?),
        GROUP => Record::Group(GroupMeta {
            replica: ReplicaId(reader.u64()?),
            vote: read_option(&mut reader, read_vote)?,
            purged: read_option(&mut reader, read_position)?,
            expected: read_option(&mut reader, read_position)?,
        }),
        REMOVE => Record::Remove,
        _ => return Err(Malformed),
    };
    reader.end()?;
    Ok((group, record))
}

fn read_vote(reader: &mut Reader) -> Result<Vote, Malformed> {
    let term = reader.u64()?;
    let candidate = ReplicaId(reader.u64()?);
    let committed = read_bool(reader)?;
    Ok(Vote {
        term,
        candidate,
        committed,
    })
}

fn read_position(reader: &mut Reader) -> Result<LogPosition, Malformed> {
    Ok(LogPosition {
        term: reader.u64()?,
        index: reader.u64()?,
    })
}

fn read_bool(reader: &mut Reader) -> Result<bool, Malformed> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

fn read_option<T>(
    reader: &mut Reader,
    read: impl FnOnce(&mut Reader) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    if read_bool(reader)? {
        read(reader).map(Some)
    } else {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position() -> impl Strategy<Value = LogPosition> {
        any::<(u64, u64)>().prop_map(|(term, index)| LogPosition { term, index })
    }

    fn vote() -> impl Strategy<Value = Vote> {
        any::<(u64, u64, bool)>().prop_map(|(term, candidate, committed)| Vote {
            term,
            candidate: ReplicaId(candidate),
            committed,
        })
    }

    fn record() -> impl Strategy<Value = Record> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
        let payload = prop_oneof![
            Just(EntryPayload::Blank),
            bytes().prop_map(EntryPayload::Command),
            bytes().prop_map(EntryPayload::Membership),
        ];
        let meta = (
            any::<u64>(),
            proptest::option::of(vote()),
            proptest::option::of(position()),
            proptest::option::of(position()),
        );
        prop_oneof![
            (position(), payload)
                .prop_map(|(position, payload)| Record::Entry(Entry { position, payload })),
            vote().prop_map(Record::Vote),
            any::<u64>().prop_map(Record::Truncate),
            position().prop_map(Record::Purge),
            position().prop_map(Record::Expect),
            meta.prop_map(
                |(replica, vote, purged, expected)| Record::Group(GroupMeta {
                    replica: ReplicaId(replica),
                    vote,
                    purged,
                    expected
                })
            ),
            Just(Record::Remove),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(records in proptest::collection::vec((any::<u64>(), record()), 1..8)) {
            let mut buffer = Vec::new();
            for (group, record) in &records {
                let length = put(&mut buffer, GroupId(*group), record);
                if let Record::Entry(entry) = record {
                    prop_assert_eq!(length, entry_length(entry));
                }
            }
            let mut bytes = Bytes::from(buffer);
            for (group, record) in &records {
                let (found_group, found, _) = take(&mut bytes).unwrap();
                prop_assert_eq!(found_group, GroupId(*group));
                prop_assert_eq!(format!("{found:?}"), format!("{record:?}"));
            }
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn a_flipped_bit_is_found(record in record(), bit in any::<prop::sample::Index>()) {
            let mut buffer = Vec::new();
            put(&mut buffer, GroupId(1), &record);
            let bit = bit.index(buffer.len() * 8);
            buffer[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(take(&mut Bytes::from(buffer)).is_err());
        }
    }
}
