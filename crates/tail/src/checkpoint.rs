//! What is saved, and how its bytes look: the records of the state log.
//!
//! A record is `length: u32 LE` (of what follows the checksum), `CRC-32C: u32 LE` (of the same), `version: u8`, and a
//! JSON document. The state is what the records give when they are applied in order. It is pure: [`crate::store`]
//! holds the file.
//!
//! Invariant: decoding never panics and never trusts a length; whatever follows the first damage is not applied.

use std::collections::BTreeMap;

use auditship_event::{Span, StreamId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ledger::Totals;

/// The version that is written.
pub const VERSION: u8 = 1;

/// The longest record that is believed.
const LONGEST: usize = 64 << 20;

const HEADER: usize = 8;

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A stream is known, or more is known of it.
    Stream(StreamRecord),
    /// A stream is settled by everyone and its files are gone.
    Retired(#[serde(with = "stream")] StreamId),
    /// How far a consumer is.
    Position(Position),
    /// A consumer is gone for good.
    Removed(String),
    /// A batch was cut and is about to be sent.
    Frozen(Frozen),
    /// That batch is settled.
    Thawed {
        /// Its consumer.
        consumer: String,
        /// Its number.
        batch_id: String,
    },
}

/// What identifies a stream: its content, and the words to speak of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// The number.
    #[serde(with = "stream")]
    pub id: StreamId,
    /// The input that it belongs to.
    pub input: String,
    /// The hash of its first bytes, uncompressed.
    pub head: Hash,
    /// How long it was when last seen, uncompressed: so much is lost for certain when its file is.
    pub length: u64,
    /// Its end was not seen: there may have been more than `length`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub endless: bool,
    /// The file's name when last seen; for messages only.
    pub file: String,
    /// Where it was, as a hint: an inode number is used again at once. 0 and 0: it is settled by everyone and gone.
    pub device: u64,
    /// See `device`.
    pub inode: u64,
}

/// A hash over some bytes: BLAKE3, the first 128 bits, in hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hash {
    /// How many bytes.
    pub length: u32,
    /// The hash.
    pub hash: String,
}

impl Hash {
    /// The hash of all of `bytes`.
    pub fn of(bytes: &[u8]) -> Hash {
        let hash = blake3::hash(bytes).to_hex();
        Hash { length: u32::try_from(bytes.len()).unwrap_or(u32::MAX), hash: hash[..32].to_owned() }
    }

    /// Whether the first bytes of `bytes` are those that were hashed.
    pub fn begins(&self, bytes: &[u8]) -> bool {
        bytes.get(..self.length as usize).is_some_and(|head| Hash::of(head) == *self)
    }
}

/// How far a consumer is, and the totals that agree with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The consumer's name.
    pub consumer: String,
    /// Per stream: everything before it is settled.
    #[serde(with = "streams")]
    pub positions: BTreeMap<StreamId, u64>,
    /// Per stream: the hash of the bytes (at most 256) before that position.
    #[serde(with = "streams", default)]
    pub guards: BTreeMap<StreamId, Hash>,
    /// Per stream of container records: where it is to be read from again, at or before its position. Such a stream
    /// without one is read from its first byte.
    #[serde(with = "streams", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub anchors: BTreeMap<StreamId, u64>,
    /// What was settled below the positions.
    pub totals: Totals,
    /// When the newest event that was settled happened, in microseconds since 1970: what a gap begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event: Option<i64>,
}

/// A batch whose cut is fixed before it is sent, where the batch is the unit of idempotency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// The consumer's name.
    pub consumer: String,
    /// The batch's number.
    pub batch_id: String,
    /// The object's name.
    pub object: String,
    /// The lines in it, in order; neighbours may be joined.
    #[serde(with = "spans")]
    pub spans: Vec<Span>,
}

/// Everything that the log says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The streams.
    pub streams: BTreeMap<StreamId, StreamRecord>,
    /// The consumers, by name.
    pub positions: BTreeMap<String, Position>,
    /// The frozen batches, by consumer and number.
    pub frozen: BTreeMap<(String, String), Frozen>,
    /// One more than the highest number that a stream ever had.
    pub next_stream: u64,
    /// Set when the log was damaged and records are missing: what nothing is known of is read from its beginning,
    /// whatever `start_at` says. Never written.
    pub damaged: bool,
}

impl State {
    /// Applies one record.
    pub fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Stream(record) => {
                self.next_stream = self.next_stream.max(record.id.0 + 1);
                self.streams.insert(record.id, record);
            }
            Entry::Retired(stream) => {
                self.next_stream = self.next_stream.max(stream.0 + 1);
                self.streams.remove(&stream);
            }
            Entry::Position(position) => {
                self.positions.insert(position.consumer.clone(), position);
            }
            Entry::Removed(consumer) => {
                self.positions.remove(&consumer);
                self.frozen.retain(|(of, _), _| *of != consumer);
            }
            Entry::Frozen(frozen) => {
                self.frozen.insert((frozen.consumer.clone(), frozen.batch_id.clone()), frozen);
            }
            Entry::Thawed { consumer, batch_id } => {
                self.frozen.remove(&(consumer, batch_id));
            }
        }
    }

    /// The shortest log that gives this state.
    pub fn encode(&self) -> Vec<u8> {
        let mut log = Vec::new();
        // A number is never given twice, also when the stream that had it is forgotten.
        if let Some(last) = self.next_stream.checked_sub(1)
            && !self.streams.contains_key(&StreamId(last))
        {
            encode(&Entry::Retired(StreamId(last)), &mut log);
        }
        let streams = self.streams.values().cloned().map(Entry::Stream);
        let positions = self.positions.values().cloned().map(Entry::Position);
        let frozen = self.frozen.values().cloned().map(Entry::Frozen);
        streams.chain(positions).chain(frozen).for_each(|entry| encode(&entry, &mut log));
        log
    }
}

/// Appends the bytes of one record.
pub fn encode(entry: &Entry, log: &mut Vec<u8>) {
    let start = log.len();
    log.extend_from_slice(&[0; HEADER]);
    log.push(VERSION);
    serde_json::to_writer(&mut *log, entry).expect("maps have string keys and a Vec takes every byte");
    let length = (log.len() - start - HEADER) as u32;
    let crc = crc32c::crc32c(&log[start + HEADER..]);
    log[start..start + 4].copy_from_slice(&length.to_le_bytes());
    log[start + 4..start + HEADER].copy_from_slice(&crc.to_le_bytes());
}

/// How the reading of a log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the last byte of a record.
    Clean,
    /// In a record that was never finished; nothing readable follows.
    Torn,
    /// In a damage: records follow that can be read, or nothing at all could be.
    Damaged,
    /// At a record that a newer version wrote.
    Newer(u8),
}

/// A log that was read.
#[derive(Debug)]
pub struct Replay {
    /// What the records before `good` say.
    pub state: State,
    /// How many bytes could be used.
    pub good: usize,
    /// Why no more.
    pub end: End,
}

/// Reads a whole log.
pub fn replay(log: &[u8]) -> Replay {
    let mut state = State::default();
    let mut good = 0;
    let end = loop {
        if good == log.len() {
            break End::Clean;
        }
        let Some((version, payload)) = frame(&log[good..]) else {
            let readable_later = (good + 1..log.len()).any(|at| frame(&log[at..]).is_some());
            break if readable_later || good == 0 { End::Damaged } else { End::Torn };
        };
        if version > VERSION {
            break End::Newer(version);
        }
        let Ok(entry) = serde_json::from_slice(payload) else { break End::Damaged };
        state.apply(entry);
        good += HEADER + 1 + payload.len();
    };
    Replay { state, good, end }
}

/// The record that `log` begins with.
fn frame(log: &[u8]) -> Option<(u8, &[u8])> {
    let length = u32::from_le_bytes(log.get(..4)?.try_into().ok()?) as usize;
    if !(1..=LONGEST).contains(&length) {
        return None;
    }
    let crc = u32::from_le_bytes(log.get(4..HEADER)?.try_into().ok()?);
    let body = log.get(HEADER..HEADER + length)?;
    (crc32c::crc32c(body) == crc).then(|| (body[0], &body[1..]))
}

mod stream {
    use super::*;

    pub(super) fn serialize<S: Serializer>(stream: &StreamId, to: S) -> Result<S::Ok, S::Error> {
        stream.0.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<StreamId, D::Error> {
        u64::deserialize(from).map(StreamId)
    }
}

mod streams {
    use super::*;

    pub(super) fn serialize<S: Serializer, V: Serialize>(
        map: &BTreeMap<StreamId, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(map.iter().map(|(stream, value)| (stream.0, value)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
        from: D,
    ) -> Result<BTreeMap<StreamId, V>, D::Error> {
        let map = BTreeMap::<u64, V>::deserialize(from)?;
        Ok(map.into_iter().map(|(stream, value)| (StreamId(stream), value)).collect())
    }
}

mod spans {
    use super::*;

    pub(super) fn serialize<S: Serializer>(spans: &[Span], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(spans.iter().map(|span| (span.stream.0, span.start, span.end)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Span>, D::Error> {
        let list = Vec::<(u64, u64, u64)>::deserialize(from)?;
        let span = |(stream, start, end): (u64, u64, u64)| {
            let ordered = start <= end;
            ordered.then_some(Span { stream: StreamId(stream), start, end })
        };
        let spans: Option<Vec<Span>> = list.into_iter().map(span).collect();
        spans.ok_or_else(|| serde::de::Error::custom("a span that ends before it starts"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let stream = |id| {
            Entry::Stream(StreamRecord {
                id: StreamId(id),
                input: "apiserver".into(),
                head: Hash::of(b"head"),
                length: 4,
                endless: id == 2,
                file: "audit.log".into(),
                device: 1,
                inode: 2,
            })
        };
        let totals = Totals { read_lines: 3, delivered: 3, ..Totals::default() };
        let position = Position {
            consumer: "search".into(),
            positions: [(StreamId(1), 17)].into(),
            guards: [(StreamId(1), Hash::of(b"guard"))].into(),
            anchors: [(StreamId(1), 9)].into(),
            totals,
            last_event: Some(1_763_953_239_000_000),
        };
        let span = Span { stream: StreamId(1), start: 3, end: 9 };
        let frozen = |batch: &str| {
            Entry::Frozen(Frozen {
                consumer: "archive".into(),
                batch_id: batch.into(),
                object: "o".into(),
                spans: vec![span],
            })
        };
        vec![
            stream(1),
            stream(2),
            Entry::Position(position),
            frozen("a"),
            frozen("b"),
            Entry::Thawed { consumer: "archive".into(), batch_id: "a".into() },
            Entry::Retired(StreamId(2)),
        ]
    }

    fn log() -> (Vec<u8>, Vec<usize>) {
        let mut log = Vec::new();
        let ends = entries().iter().map(|entry| (encode(entry, &mut log), log.len()).1).collect();
        (log, ends)
    }

    #[test]
    fn a_log_is_read_as_written() {
        let (log, _) = log();
        let replay = replay(&log);
        assert_eq!((replay.end, replay.good), (End::Clean, log.len()));
        assert_eq!(replay.state.streams.len(), 1);
        assert_eq!(replay.state.frozen.len(), 1);
        assert_eq!(replay.state.next_stream, 3);
        let again = super::replay(&replay.state.encode());
        assert_eq!((again.end, again.state), (End::Clean, replay.state));
    }

    #[test]
    fn version_1_can_be_read_for_ever() {
        let json = br#"{"position":{"consumer":"c","positions":{"7":9},"totals":{"read_lines":1,"read_bytes":9,"delivered":1,"dropped":{},"thinned":{},"rolled_up":{},"elsewhere":0,"unrouted":0,"skipped":{},"dead_lettered":0,"open":0,"lost_bytes":{}}}}"#;
        let body = [&[1u8][..], json].concat();
        let mut log = (body.len() as u32).to_le_bytes().to_vec();
        log.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        log.extend_from_slice(&body);
        let replay = replay(&log);
        assert_eq!(replay.end, End::Clean);
        assert_eq!(replay.state.positions["c"].positions[&StreamId(7)], 9);
        assert!(replay.state.positions["c"].anchors.is_empty());
    }

    #[test]
    fn every_torn_tail_gives_the_records_before_it() {
        let (log, ends) = log();
        for cut in ends[0]..log.len() {
            let replay = replay(&log[..cut]);
            let whole = ends.iter().rfind(|end| **end <= cut).copied().unwrap_or(0);
            assert_eq!(replay.good, whole);
            assert_eq!(replay.end, if whole == cut { End::Clean } else { End::Torn });
        }
        let zeros = [&log[..], &[0; 100][..]].concat();
        assert_eq!(super::replay(&zeros).end, End::Torn);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (log, ends) = log();
        for at in 0..log.len() {
            let mut damaged = log.clone();
            damaged[at] ^= 0x10;
            let replay = replay(&damaged);
            let record = ends.iter().position(|end| at < *end).unwrap();
            assert_eq!(replay.good, if record == 0 { 0 } else { ends[record - 1] }, "at {at}");
            let last = record + 1 == ends.len();
            assert_eq!(replay.end, if last { End::Torn } else { End::Damaged }, "at {at}");
        }
    }

    #[test]
    fn a_newer_version_is_not_damage() {
        let (mut log, _) = log();
        let body = [9u8, b'{', b'}'];
        let good = log.len();
        log.extend_from_slice(&3u32.to_le_bytes());
        log.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        log.extend_from_slice(&body);
        let replay = replay(&log);
        assert_eq!((replay.end, replay.good), (End::Newer(9), good));
    }

    #[test]
    fn the_hash_of_a_head_knows_what_begins_with_it() {
        let head = Hash::of(b"abc");
        assert!(head.begins(b"abcdef") && head.begins(b"abc"));
        assert!(!head.begins(b"ab") && !head.begins(b"abd"));
    }
}
