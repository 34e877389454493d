//! Records become batches: framed by the sink, sized exactly, compressed, frozen.
//!
//! Invariants: a batch never exceeds a limit, except that one record larger than the byte limit travels alone;
//! every record pushed is in exactly one batch. Where a batch has a name by which it is known, it is cut between lines
//! only, which may make it larger by one line. Used on a consumer's own thread: nothing here waits.

use crate::batch::{Batch, BatchId, Entry, Form};
use crate::compress::{Compressor, Encoding, bound};
use crate::sink::{Context, Envelope, GroupKey, Limits, Sink};
use crate::thaw::{self, Thawed, Thawing};
use crate::trim::Trimmer;
use auditship_event::{Record, Span};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Most groups that are open at once; one more closes the one not used for longest.
pub const OPEN_GROUPS: usize = 32;

/// Sinks of large objects keep at most this much uncompressed, unless one record is larger.
const BLOCK_BYTES: usize = 1 << 20;

/// Most room that is asked for at once for an object.
const OBJECT_BYTES: usize = 64 << 20;

/// Room for what a sink puts around a body; where it is not enough, the buffer grows by itself.
const FRAME_BYTES: usize = 16 << 10;

/// A batch in the making.
pub(crate) struct Open {
    key: GroupKey,
    envelope: Envelope,
    time: i64,
    since: Instant,
    records: Vec<Entry>,
    /// Raw bytes, prefix included, that are not compressed yet.
    pending: Vec<u8>,
    /// Raw bytes that are.
    packed_raw: usize,
    packed: Vec<u8>,
    /// It gets no other line.
    full: bool,
}

impl Open {
    fn raw_len(&self) -> usize {
        self.packed_raw + self.pending.len()
    }

    fn held_bytes(&self) -> usize {
        // Not its capacity: a page that nothing was written to is not there.
        self.pending.capacity() + self.packed.len() + self.records.capacity() * size_of::<Entry>()
    }

    /// Compresses the first `len` pending bytes. The whole is expected to have `most` bytes.
    fn pack(&mut self, len: usize, most: usize, compressor: &mut Compressor) {
        if len > 0 {
            let frame = compressor.frame(&self.pending[..len]);
            if self.packed.capacity() - self.packed.len() < frame.len() {
                // At once: growing would need the old and the new room side by side.
                let rest = most.min(OBJECT_BYTES).saturating_sub(self.packed.len());
                self.packed.reserve_exact(frame.len().max(rest).max(BLOCK_BYTES));
            }
            self.packed.extend_from_slice(frame);
            self.packed_raw += len;
            self.pending.drain(..len);
        }
    }
}

/// Makes batches for one output.
pub struct Batcher {
    sink: Arc<dyn Sink>,
    context: Context,
    limits: Limits,
    /// The learnt limit: never above the configured one.
    bytes: usize,
    encoding: Encoding,
    compressor: Compressor,
    trimmer: Trimmer,
    /// Least recently used first.
    open: Vec<Open>,
    /// Batches that were written down before the last stop and are cut again.
    thawing: Vec<Thawing>,
    ready: VecDeque<Batch>,
    /// A buffer to use again.
    spare: Vec<u8>,
}

impl Batcher {
    /// A batcher for `sink`, whose own limits are [`Sink::limits`].
    pub fn new(sink: Arc<dyn Sink>, context: Context, limits: Limits) -> Batcher {
        Batcher {
            encoding: sink.encoding(),
            compressor: Compressor::new(sink.encoding()),
            trimmer: Trimmer::default(),
            sink,
            context,
            bytes: limits.size(),
            limits,
            open: Vec::new(),
            thawing: Vec::new(),
            ready: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// From now on no batch gets more bytes than this ([`Limits::size`] says which bytes), unless its configuration
    /// allows even less; 0 says nothing. Batches that are cut again as they were do not care.
    pub fn cut_at(&mut self, bytes: usize) {
        let configured = self.limits.size();
        self.bytes = if bytes == 0 { configured } else { bytes.min(configured) };
    }

    /// Cuts these batches again as they were: see [`crate::thaw`].
    pub fn thaw(&mut self, thawed: Vec<Thawed>) {
        self.thawing.extend(thawed.into_iter().map(Thawing::new));
    }

    /// Whether it still waits for lines of batches that are cut again.
    pub fn is_thawing(&self) -> bool {
        !self.thawing.is_empty()
    }

    /// A line has been read (all of its records are pushed), or will never be.
    pub fn pass(&mut self, span: Span) {
        self.thawing.iter_mut().for_each(|thawing| thawing.pass(span));
        self.freeze_thawing(Thawing::is_whole);
    }

    /// Gives up waiting: hands out the batches that are cut again as far as they have come.
    pub fn flush_thawing(&mut self) {
        self.freeze_thawing(|_| true);
    }

    fn freeze_thawing(&mut self, done: impl Fn(&Thawing) -> bool) {
        while let Some(at) = self.thawing.iter().position(&done) {
            let thawing = self.thawing.remove(at);
            let encoding = thawing.encoding();
            // Where every line of it is dropped now, there is nothing to send.
            if let Some(open) = thawing.open {
                self.freeze_as(open, encoding, Some(&thawing.thawed));
            }
        }
    }

    /// Adds a record, and freezes what it makes full. `ticket` comes back in its acknowledgement.
    pub fn push(&mut self, record: &Record<'_>, ticket: u64, now: Instant) {
        let key = self.sink.group(record);
        if let Some(at) = thaw::home(&self.thawing, record.span, &key) {
            let open = self.thawing[at].open.take();
            let mut open = open.unwrap_or_else(|| self.begin(key, record.time, now));
            self.add(&mut open, record, ticket);
            if self.limits.packed_bytes.is_some() {
                let encoding = self.thawing[at].encoding();
                self.pack_full(&mut open, encoding);
            }
            self.thawing[at].open = Some(open);
            return;
        }
        let mut open = self.take_open(key, record.time, now);
        let whole_lines = self.limits.whole_lines;
        let may_cut = !whole_lines || open.records.last().is_none_or(|last| last.ticket != ticket);
        if open.full && may_cut {
            let key = open.key.clone();
            self.freeze(open);
            open = self.begin(key, record.time, now);
        }
        let before = open.pending.len();
        let start = self.add(&mut open, record, ticket);
        if open.records.len() > 1 && may_cut && self.overfull(&open) {
            // It does not fit: it becomes the first of the next batch.
            let framed = open.pending.split_off(start);
            open.pending.truncate(before);
            let entry = open.records.pop();
            let key = open.key.clone();
            self.freeze(open);
            open = self.begin(key, record.time, now);
            let offset = open.pending.len();
            open.pending.extend_from_slice(&framed);
            open.records.extend(entry.map(|entry| Entry { offset, ..entry }));
        }
        if self.limits.packed_bytes.is_some() {
            self.pack_full(&mut open, self.encoding);
        }
        open.full = open.records.len() >= self.limits.events || self.overfull(&open);
        // The next record may be of the same line.
        if open.full && !whole_lines {
            self.freeze(open);
        } else {
            self.open.push(open);
        }
    }

    /// Appends a framed record; gives its place in what is pending.
    fn add(&mut self, open: &mut Open, record: &Record<'_>, ticket: u64) -> usize {
        self.make_room(&mut open.pending, record.body.len());
        if !open.records.is_empty() {
            open.pending.extend_from_slice(open.envelope.separator);
        }
        let start = open.pending.len();
        let mut document = self.sink.frame(record, &self.context, &mut open.pending);
        let too_long = self.limits.event_bytes.filter(|limit| open.pending.len() - start > *limit);
        if let Some(limit) = too_long {
            document =
                self.trimmer.frame(record, &*self.sink, &self.context, limit, start, &mut open.pending);
        }
        open.records.push(Entry {
            ticket,
            uid: record.uid,
            index: record.index.clone(),
            span: record.span,
            offset: open.packed_raw + start,
            len: open.pending.len() - start,
            document,
            time: record.time,
            form: Form::Whole,
            trimmed: too_long.is_some(),
        });
        start
    }

    /// Compresses what is pending if it is much: all before the last record, and that too if it is much by itself.
    fn pack_full(&mut self, open: &mut Open, encoding: Encoding) {
        if open.pending.len() <= BLOCK_BYTES {
            return;
        }
        let last = open.records.last().map_or(0, |entry| entry.offset - open.packed_raw);
        let before = last.saturating_sub(open.envelope.separator.len());
        let most = self.bytes;
        self.with_compressor(encoding, |compressor| {
            open.pack(before, most, compressor);
            if open.pending.len() > BLOCK_BYTES {
                open.pack(open.pending.len(), most, compressor);
            }
        });
    }

    /// Its own compressor, or one made for an object whose name asks for another encoding.
    fn with_compressor(&mut self, encoding: Encoding, work: impl FnOnce(&mut Compressor)) {
        if encoding == self.encoding {
            work(&mut self.compressor);
        } else {
            work(&mut Compressor::new(encoding));
        }
    }

    /// Freezes the batches that are full or have reached their age.
    pub fn flush_due(&mut self, now: Instant) {
        while let Some(at) =
            self.open.iter().position(|open| open.full || now >= open.since + self.limits.age)
        {
            let open = self.open.remove(at);
            self.freeze(open);
        }
    }

    /// When [`Batcher::flush_due`] has something to do next.
    pub fn next_due(&self) -> Option<Instant> {
        self.open.iter().map(|open| open.since + self.limits.age).min()
    }

    /// Freezes the batch that was not used for longest, to give back memory. False if there is none.
    pub fn flush_oldest(&mut self) -> bool {
        if self.open.is_empty() {
            return false;
        }
        let open = self.open.remove(0);
        self.freeze(open);
        true
    }

    /// Freezes everything, except what is cut again and not whole: that would be lines without a home.
    pub fn flush_all(&mut self) {
        while self.flush_oldest() {}
    }

    /// The next frozen batch.
    pub fn take_ready(&mut self) -> Option<Batch> {
        self.ready.pop_front()
    }

    /// Bytes of memory held: open batches, frozen ones not taken yet, buffers.
    pub fn open_bytes(&self) -> usize {
        let thawing = self.thawing.iter().filter_map(|thawing| thawing.open.as_ref());
        let open: usize = self.open.iter().chain(thawing).map(Open::held_bytes).sum();
        let ready: usize = self.ready.iter().map(Batch::held_bytes).sum();
        open + ready + self.spare.capacity() + self.compressor.held_bytes()
    }

    /// Records pushed that are not in a batch taken yet, and will be after [`Batcher::flush_all`].
    pub fn open_records(&self) -> usize {
        let open: usize = self.open.iter().map(|open| open.records.len()).sum();
        open + self.ready.iter().map(|batch| batch.records.len()).sum::<usize>()
    }

    /// How much is usually pending at most.
    fn usual_bytes(&self) -> usize {
        self.limits.packed_bytes.map_or(self.limits.bytes, |_| BLOCK_BYTES)
    }

    /// Grows `pending` by doubling, but not beyond what is usual if that is enough.
    fn make_room(&self, pending: &mut Vec<u8>, body_len: usize) {
        let need = pending.len() + body_len + FRAME_BYTES;
        if need > pending.capacity() {
            let doubled = (2 * pending.capacity()).min(self.usual_bytes() + FRAME_BYTES);
            pending.reserve_exact(need.max(doubled) - pending.len());
        }
    }

    fn overfull(&self, open: &Open) -> bool {
        let suffix = open.envelope.suffix.len();
        let raw = open.raw_len() + suffix;
        if self.limits.packed_bytes.is_none() {
            return raw > self.bytes;
        }
        // What is pending becomes at most two more frames.
        let packed = open.packed.len() + bound(open.pending.len() + suffix) + 1024;
        raw > self.limits.bytes || packed > self.bytes
    }

    /// The open batch of `key`, taken out of the list.
    fn take_open(&mut self, key: GroupKey, time: i64, now: Instant) -> Open {
        if let Some(at) = self.open.iter().rposition(|open| open.key == key) {
            let open = self.open.remove(at);
            if now < open.since + self.limits.age {
                return open;
            }
            self.freeze(open);
        }
        if self.open.len() >= OPEN_GROUPS {
            self.flush_oldest();
        }
        self.begin(key, time, now)
    }

    fn begin(&mut self, key: GroupKey, time: i64, now: Instant) -> Open {
        let mut pending = std::mem::take(&mut self.spare);
        let envelope = self.sink.envelope(&key);
        pending.extend_from_slice(&envelope.prefix);
        let (records, packed) = (Vec::new(), Vec::new());
        Open { key, envelope, time, since: now, records, pending, packed_raw: 0, packed, full: false }
    }

    fn freeze(&mut self, open: Open) {
        self.freeze_as(open, self.encoding, None);
    }

    fn freeze_as(&mut self, mut open: Open, encoding: Encoding, thawed: Option<&Thawed>) {
        open.pending.extend_from_slice(open.envelope.suffix);
        if let Some(seal) = open.envelope.seal {
            seal(&mut open.pending);
        }
        let raw_len = open.raw_len();
        self.with_compressor(encoding, |compressor| {
            if open.packed.is_empty() {
                open.packed = compressor.frame(&open.pending).to_vec();
            } else {
                open.pack(open.pending.len(), 0, compressor);
                open.packed.shrink_to_fit();
            }
        });
        open.records.shrink_to_fit();
        self.ready.push_back(Batch {
            id: thawed.map_or_else(|| BatchId::of(&open.records), |thawed| thawed.id),
            object: thawed.map(|thawed| thawed.object.clone()),
            group: open.key,
            time: open.time,
            records: open.records,
            body: Bytes::from(open.packed),
            raw_len,
            encoding,
            envelope: open.envelope,
            embedding: self.sink.embedding(),
        });
        open.pending.clear();
        if (self.spare.capacity()..=2 * self.usual_bytes()).contains(&open.pending.capacity()) {
            self.spare = open.pending;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{Named, Op, Outcome, Reply};
    use crate::sinks::HTTP_LIMITS;
    use auditship_event::{Body, Edits, Index, Keys, Span, StreamId, Uid};
    use proptest::prelude::*;
    use serde_json::Value;
    use std::ops::Range;
    use std::time::Duration;

    /// Frames a record as its body; groups by hour if told to.
    struct Plain {
        limits: Limits,
        encoding: Encoding,
        envelope: Envelope,
    }

    impl Sink for Plain {
        fn kind(&self) -> &'static str {
            "plain"
        }
        fn limits(&self) -> Limits {
            self.limits
        }
        fn encoding(&self) -> Encoding {
            self.encoding
        }
        fn envelope(&self, _: &GroupKey) -> Envelope {
            self.envelope.clone()
        }
        fn group(&self, record: &Record<'_>) -> GroupKey {
            GroupKey::Hour(record.time)
        }
        fn frame(&self, record: &Record<'_>, _: &Context, out: &mut Vec<u8>) -> Range<usize> {
            record.body.write(out);
            0..record.body.len()
        }
        fn named(&self, object: &str) -> Option<Named> {
            Some(Named { group: GroupKey::Hour(7), encoding: Encoding::of_name(object) })
        }
        fn request(&self, batch: &Batch) -> Op {
            Op::Append { bytes: batch.body.clone() }
        }
        fn judge(&self, _: &Batch, _: &Op, _: &Reply) -> Outcome {
            Outcome::Delivered
        }
    }

    const ARRAY: Envelope =
        Envelope { prefix: Bytes::from_static(b"["), separator: b",", suffix: b"]", seal: None };

    fn batcher(limits: Limits, encoding: Encoding) -> Batcher {
        let context = Context::new("c", "n", Keys::derive(b"k", "c").id());
        Batcher::new(Arc::new(Plain { limits, encoding, envelope: ARRAY }), context, limits)
    }

    /// Pushes a record of `size` bytes: a JSON string of digits that compress badly.
    fn push(batcher: &mut Batcher, ticket: u64, size: usize, hour: i64, now: Instant) {
        let mut line = format!("\"{ticket}.");
        let mut state = ticket.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        while line.len() + 1 < size {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            line.push(char::from(b'0' + (state >> 33) as u8 % 75).to_ascii_lowercase());
        }
        let line = line.replace('\\', "_") + "\"";
        let none = Edits::new();
        let record = Record {
            index: &Index("i".into()),
            time: hour,
            uid: Uid([ticket as u8; 16]),
            span: Span { stream: StreamId(1), start: ticket, end: ticket + 1 },
            body: Body::redacted(line.as_bytes(), &none),
        };
        batcher.push(&record, ticket, now);
    }

    fn drain(batcher: &mut Batcher) -> Vec<Batch> {
        std::iter::from_fn(|| batcher.take_ready()).collect()
    }

    /// The entries stand where they say, and the whole is a JSON array.
    fn check(batch: &Batch) {
        let raw = batch.raw().unwrap();
        let whole: Vec<String> = serde_json::from_slice(&raw).unwrap();
        assert_eq!(whole.len(), batch.records.len());
        for (entry, text) in batch.records.iter().zip(whole) {
            assert_eq!(serde_json::from_slice::<String>(&raw[entry.range()]).unwrap(), text);
            assert!(text.starts_with(&format!("{}.", entry.ticket)));
        }
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn limits_hold_and_nothing_is_lost(
            pushes in prop::collection::vec((3usize..400, 0i64..40, 0u64..30), 1..120),
            learnt in prop::collection::vec(0usize..1200, 1..9),
            bytes in 64usize..1000,
            events in 1usize..20,
            encoding in prop::sample::select(vec![Encoding::None, Encoding::Gzip, Encoding::Zstd]),
        ) {
            let age = Duration::from_millis(100);
            let mut batcher = batcher(Limits { bytes, events, age, ..HTTP_LIMITS }, encoding);
            let (mut at, mut batches) = (now(), Vec::new());
            for (ticket, (size, hour, millis)) in pushes.iter().enumerate() {
                at += Duration::from_millis(*millis);
                if ticket % 10 == 0 {
                    batcher.cut_at(learnt[ticket / 10 % learnt.len()]);
                }
                push(&mut batcher, ticket as u64, *size, *hour, at);
                batcher.flush_due(at);
                prop_assert!(batcher.next_due().is_none_or(|due| due > at && due <= at + age));
                prop_assert!(batcher.open.len() <= OPEN_GROUPS);
                batches.extend(drain(&mut batcher));
            }
            batcher.flush_all();
            batches.extend(drain(&mut batcher));
            prop_assert_eq!(batcher.open_records(), 0);
            let mut tickets = Vec::new();
            for batch in &batches {
                check(batch);
                prop_assert!(batch.raw_len <= bytes || batch.records.len() == 1);
                prop_assert!(batch.records.len() <= events);
                tickets.extend(batch.records.iter().map(|entry| entry.ticket));
            }
            tickets.sort_unstable();
            prop_assert_eq!(tickets, (0..pushes.len() as u64).collect::<Vec<_>>());
        }

        #[test]
        fn pieces_hold_the_same_bytes(sizes in prop::collection::vec(3usize..200, 2..30)) {
            let limits = Limits { bytes: 1 << 20, events: 100, ..HTTP_LIMITS };
            let mut batcher = batcher(limits, Encoding::Zstd);
            for (ticket, size) in sizes.iter().enumerate() {
                push(&mut batcher, ticket as u64, *size, 0, now());
            }
            batcher.flush_all();
            let whole = batcher.take_ready().unwrap();
            let all: Vec<usize> = (0..sizes.len()).collect();
            prop_assert_eq!(whole.subset(&all).unwrap().raw().unwrap(), whole.raw().unwrap());
            prop_assert_eq!(whole.subset(&all).unwrap().id, whole.id);
            let (left, right) = whole.split().unwrap().unwrap();
            check(&left);
            check(&right);
            let tickets: Vec<_> = left.records.iter().chain(&right.records).map(|entry| entry.ticket).collect();
            prop_assert_eq!(tickets, (0..sizes.len() as u64).collect::<Vec<_>>());
            prop_assert_ne!(left.id, whole.id);
        }
    }

    #[test]
    fn the_learnt_limit_cuts_what_is_still_open_too() {
        let limits = Limits { bytes: 1000, events: 100, ..HTTP_LIMITS };
        let mut batcher = batcher(limits, Encoding::None);
        let mut sizes = |learnt: &[usize]| {
            for (ticket, bytes) in learnt.iter().enumerate() {
                batcher.cut_at(*bytes);
                push(&mut batcher, ticket as u64, 100, 0, now());
            }
            batcher.flush_all();
            drain(&mut batcher).iter().map(|batch| batch.records.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[0; 12]), [9, 3], "nothing is learnt");
        assert_eq!(sizes(&[5000; 12]), [9, 3], "the configured limit is one too");
        assert_eq!(sizes(&[330; 12]), [3, 3, 3, 3]);
        assert_eq!(sizes(&[0, 0, 0, 0, 0, 330, 330, 330, 330]), [5, 3, 1]);
    }

    #[test]
    fn large_objects_are_packed_as_they_grow() {
        for encoding in [Encoding::None, Encoding::Gzip, Encoding::Zstd] {
            let packed_bytes = Some(2 << 20);
            let limits = Limits {
                bytes: 64 << 20,
                packed_bytes,
                events: 1_000_000,
                age: Duration::from_secs(60),
                ..HTTP_LIMITS
            };
            let mut batcher = batcher(limits, encoding);
            let (start, mut batches) = (now(), Vec::new());
            for ticket in 0..60u64 {
                push(&mut batcher, ticket, if ticket == 30 { 1_500_000 } else { 100_000 }, 0, start);
                batches.extend(drain(&mut batcher));
                assert!(batcher.open_bytes() < 9 << 20, "{}", batcher.open_bytes());
            }
            batcher.flush_all();
            batches.extend(drain(&mut batcher));
            assert!(batches.len() > 1);
            for batch in &batches {
                assert!(batch.body.len() <= 2 << 20, "{encoding:?} {}", batch.body.len());
                check(batch);
            }
            assert_eq!(batches.iter().map(|batch| batch.records.len()).sum::<usize>(), 60);
        }
    }

    #[test]
    fn what_is_too_long_is_trimmed_until_it_fits() {
        let sink = crate::sinks::tests::build("stdout", serde_json::json!({})).unwrap().sink;
        let limits = Limits { event_bytes: Some(4096), ..sink.limits() };
        let mut batcher = Batcher::new(sink, crate::sinks::tests::context(), limits);
        let (none, big) = (Edits::new(), "x".repeat(5000));
        let lines = [
            format!(r#"{{"n":0,"requestObject":{{"metadata":{{"managedFields":["{big}"]}},"a":1}}}}"#),
            format!(r#"{{"n":1,"requestObject":{{"a":"{big}"}},"responseObject":{{"a":"{big}"}}}}"#),
            format!(r#"{{"n":2,"{big}":1}}"#),
            r#"{"n":3}"#.to_owned(),
        ];
        for (ticket, line) in (0..).zip(&lines) {
            let record = Record {
                index: &Index("i".into()),
                time: 0,
                uid: Uid([7; 16]),
                span: Span { stream: StreamId(1), start: ticket, end: ticket + 1 },
                body: Body::redacted(line.as_bytes(), &none),
            };
            batcher.push(&record, ticket, now());
        }
        batcher.flush_all();
        let batch = batcher.take_ready().unwrap();
        let raw = batch.raw().unwrap();
        let got: Vec<Value> = batch
            .records
            .iter()
            .map(|entry| serde_json::from_slice(&batch.document(entry, &raw)).unwrap())
            .collect();
        assert!(batch.records.iter().all(|entry| entry.len <= 4096));
        assert_eq!(got[0]["requestObject"], serde_json::json!({"metadata": {"managedFields": []}, "a": 1}));
        assert_eq!(got[0]["auditship"]["trimmed"], serde_json::json!(["managedFields"]));
        assert_eq!(got[0]["auditship"]["bytes"], lines[0].len());
        assert_eq!((&got[1]["requestObject"], &got[1]["responseObject"]), (&Value::Null, &Value::Null));
        assert_eq!(got[1]["auditship"]["trimmed"].as_array().unwrap().len(), 3);
        assert_eq!(got[2]["auditship"]["trimmed"].as_array().unwrap().len(), crate::trim::RUNGS.len());
        assert_eq!(got[2]["n"], Value::Null);
        assert_eq!(got[3]["auditship"]["trimmed"], Value::Null);
        assert_eq!(batch.records.iter().filter(|entry| entry.trimmed).count(), 3);
    }

    #[test]
    fn equal_records_make_equal_batches() {
        let limits = Limits { bytes: 1000, events: 3, ..HTTP_LIMITS };
        let make = || {
            let mut batcher = batcher(limits, Encoding::Gzip);
            (0..3).for_each(|ticket| push(&mut batcher, ticket, 50, 0, now()));
            batcher.take_ready().unwrap()
        };
        assert_eq!((make().id, make().body), (make().id, make().body));
        assert_eq!(make().id.to_string().len(), 32);
        assert!(!format!("{:?}", make()).contains("0."), "no content in Debug");
    }

    #[test]
    fn a_thawed_batch_keeps_its_name_and_gets_its_own_lines() {
        let limits = Limits { packed_bytes: Some(1 << 20), whole_lines: true, events: 2, ..HTTP_LIMITS };
        let (id, object) = ("00112233445566778899aabbccddeeff", "x.ndjson.gz");
        let span = |start, end| Span { stream: StreamId(1), start, end };
        let mut batcher = batcher(limits, Encoding::Zstd);
        let thawed = Thawed::new(&*batcher.sink, id, object, vec![span(1, 4), span(6, 7)]).unwrap();
        batcher.thaw(vec![thawed]);
        for (ticket, hour) in [(0, 7), (1, 7), (2, 7), (3, 8), (4, 7), (5, 7)] {
            push(&mut batcher, ticket, 10, hour, now());
            batcher.pass(span(ticket, ticket + 1));
        }
        batcher.flush_all();
        let others: Vec<Vec<u64>> = drain(&mut batcher)
            .iter()
            .map(|b| b.records.iter().map(|entry| entry.ticket).collect())
            .collect();
        assert_eq!(others, [vec![0, 4], vec![3], vec![5]], "what is not whole is kept back");
        assert!(batcher.is_thawing() && batcher.open_records() == 0);
        // The line of the last span does not lead here any more.
        batcher.pass(span(6, 7));
        let thawed = batcher.take_ready().unwrap();
        check(&thawed);
        assert!(!batcher.is_thawing());
        assert_eq!((thawed.id.to_string().as_str(), thawed.object.as_deref()), (id, Some(object)));
        assert_eq!(thawed.records.iter().map(|entry| entry.ticket).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(thawed.encoding, Encoding::Gzip, "as the name says");
        assert!(thawed.split().unwrap().unwrap().0.object.is_none(), "a piece is another object");
    }

    #[test]
    fn an_object_is_cut_between_lines() {
        for packed_bytes in [Some(1 << 20), None] {
            let limits = Limits { packed_bytes, whole_lines: true, events: 2, ..HTTP_LIMITS };
            let mut batcher = batcher(limits, Encoding::Zstd);
            for ticket in [0, 1, 1, 1, 2] {
                push(&mut batcher, ticket, 10, 0, now());
            }
            batcher.flush_due(now());
            batcher.flush_all();
            let counts: Vec<usize> = drain(&mut batcher).iter().map(|batch| batch.records.len()).collect();
            assert_eq!(counts, [4, 1]);
        }
    }

    /// A request that the backend knows again by its batch's name (ClickHouse's insert token).
    #[test]
    fn a_thawed_request_keeps_its_name_and_its_body_is_one_frame() {
        let options = |index: &str| {
            let query = serde_json::json!({"token": format!("{{batch_id}}{index}")});
            serde_json::json!({"url": "http://x/", "query": query, "batch": {"bytes": "8MiB"}})
        };
        for index in ["", "{index}"] {
            let sink = crate::sinks::tests::build("http", options(index)).unwrap().sink;
            let make = || Batcher::new(sink.clone(), crate::sinks::tests::context(), sink.limits());
            let mut before = make();
            (0..3).for_each(|ticket| push(&mut before, ticket, 700_000, 0, now()));
            before.flush_all();
            let first = before.take_ready().unwrap();
            let name = sink.object(&first).unwrap();
            let spans = first.records.iter().map(|entry| entry.span).collect();

            let mut after = make();
            after.thaw(vec![Thawed::new(&*sink, &first.id.to_string(), &name, spans).unwrap()]);
            // Every line is followed by another than last time.
            for ticket in 0..4 {
                push(&mut after, ticket, 700_000, 0, now());
                after.pass(Span { stream: StreamId(1), start: ticket, end: ticket + 1 });
            }
            let again = after.take_ready().unwrap();
            assert_eq!((again.id, &again.body, &again.group), (first.id, &first.body, &first.group));
            assert_eq!(sink.object(&again), Some(name));
            let mut one = flate2::bufread::GzDecoder::new(&again.body[..]);
            std::io::copy(&mut one, &mut std::io::sink()).unwrap();
            assert!(one.into_inner().is_empty(), "one gzip member");
            after.flush_all();
            assert_eq!(after.take_ready().unwrap().records.len(), 1);
        }
    }

    #[test]
    fn the_33rd_group_closes_the_one_not_used_for_longest() {
        let limits = Limits { bytes: 1000, events: 9, ..HTTP_LIMITS };
        let mut batcher = batcher(limits, Encoding::None);
        for hour in 0..OPEN_GROUPS as i64 {
            push(&mut batcher, hour as u64, 10, hour, now());
        }
        push(&mut batcher, 100, 10, 0, now());
        assert!(batcher.take_ready().is_none());
        push(&mut batcher, 101, 10, 99, now());
        assert_eq!(batcher.take_ready().unwrap().group, GroupKey::Hour(1));
    }
}
