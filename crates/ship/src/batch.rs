//! A frozen batch: its records, their places in one compressed body, and the smaller batches made from it.
//!
//! Invariant: the same bytes in the same order for every attempt. A piece of a batch holds the same framed bytes
//! as the whole did, except where a record is tried again with its bodies as strings.

use crate::bare::BODIES;
use crate::compress::{Compressor, Encoding, decompress};
use crate::sink::{Embedding, Envelope, GroupKey};
use auditship_event::scan::{self, Str, Visitor};
use auditship_event::{Index, Span, Uid, text};
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

/// Names a batch by what it holds: BLAKE3 over the uids, indexes and forms of its records, in order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchId([u8; 16]);

impl BatchId {
    pub(crate) fn of(records: &[Entry]) -> BatchId {
        let mut hasher = blake3::Hasher::new_derive_key("auditship 2026-11 batch id");
        for record in records {
            let index = record.index.as_str().as_bytes();
            hasher.update(&record.uid.0).update(&[record.form as u8]);
            hasher.update(&(index.len() as u64).to_le_bytes()).update(index);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        BatchId(id)
    }
}

impl FromStr for BatchId {
    type Err = ();

    fn from_str(text: &str) -> Result<BatchId, ()> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        let mut id = [0; 16];
        if digits.len() != 2 * id.len() || digits.len() != text.len() {
            return Err(());
        }
        for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(BatchId(id))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// In which form a record stands in its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it was framed.
    Whole = 0,
    /// With `requestObject` and `responseObject` as one string each, after a backend refused it whole.
    Flat = 1,
}

/// One record of a batch.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What the consumer knows it by; acknowledged exactly once.
    pub ticket: u64,
    /// Its identity.
    pub uid: Uid,
    /// Its index.
    pub index: Index,
    /// The line it came from.
    pub span: Span,
    /// Its place in the raw body.
    pub offset: usize,
    /// Its length there.
    pub len: usize,
    /// Where in these bytes the event's document stands.
    pub document: Range<usize>,
    /// The event's time, microseconds since 1970.
    pub time: i64,
    /// Its form there.
    pub form: Form,
    /// Whether something was taken out of it because it was too long.
    pub trimmed: bool,
}

impl Entry {
    /// Its place in the raw body.
    pub(crate) fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len
    }
}

/// Records for one output, frozen.
#[derive(Clone)]
pub struct Batch {
    /// Names it by what it holds; a thawed one keeps the name that it had (see [`crate::thaw`]).
    pub id: BatchId,
    /// The name of its object, if that was written down before the last stop: it may exist already.
    pub object: Option<Arc<str>>,
    /// What its records have in common.
    pub group: GroupKey,
    /// The event time of the first record pushed, microseconds since 1970.
    pub time: i64,
    /// The records, in order.
    pub records: Vec<Entry>,
    /// The body, compressed.
    pub body: Bytes,
    /// How long the body is uncompressed.
    pub raw_len: usize,
    /// How it is compressed.
    pub encoding: Encoding,
    pub(crate) envelope: Envelope,
    pub(crate) embedding: Embedding,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({}, {} records, {} bytes)", self.id, self.records.len(), self.body.len())
    }
}

impl Batch {
    /// Bytes of memory that it holds.
    pub fn held_bytes(&self) -> usize {
        self.body.len() + self.records.capacity() * size_of::<Entry>()
    }

    /// The uncompressed body, in which the entries have their places.
    ///
    /// # Errors
    /// Never, unless memory is damaged: the body was made by this module.
    pub fn raw(&self) -> io::Result<Vec<u8>> {
        decompress(self.encoding, &self.body, self.raw_len)
    }

    /// A batch of some of the records, whose framed bytes stay the same.
    ///
    /// # Errors
    /// As [`Batch::raw`].
    pub fn subset(&self, which: &[usize]) -> io::Result<Batch> {
        let raw = self.raw()?;
        let pieces = which.iter().filter_map(|at| {
            let entry = self.records.get(*at)?;
            Some((entry.clone(), &raw[entry.range()]))
        });
        Ok(self.assemble(pieces))
    }

    /// Two batches of about equal bytes. `None` for a single record.
    ///
    /// # Errors
    /// As [`Batch::raw`].
    pub fn split(&self) -> io::Result<Option<(Batch, Batch)>> {
        let count = self.records.len();
        if count < 2 {
            return Ok(None);
        }
        let middle = self.records.partition_point(|entry| entry.offset + entry.len <= self.raw_len / 2);
        let all: Vec<usize> = (0..count).collect();
        let (left, right) = all.split_at(middle.clamp(1, count - 1));
        Ok(Some((self.subset(left)?, self.subset(right)?)))
    }

    /// A batch of the records `at`, with their bodies as one string each, and those that this cannot change.
    ///
    /// # Errors
    /// As [`Batch::raw`].
    pub fn flattened(&self, at: &[usize]) -> io::Result<Flattened> {
        let raw = self.raw()?;
        let (mut framed, mut changed, mut unchanged) = (Vec::new(), Vec::new(), Vec::new());
        for at in at {
            let Some(entry) = self.records.get(*at) else { continue };
            let from = framed.len();
            let may = entry.form == Form::Whole && self.embedding == Embedding::Inline;
            if may && flatten(&raw[entry.range()], entry.document.start, &mut framed) {
                // Longer by as much as the whole is.
                let end = entry.document.end + (framed.len() - from) - entry.len;
                let document = entry.document.start..end;
                changed.push((Entry { form: Form::Flat, document, ..entry.clone() }, from..framed.len()));
            } else {
                framed.truncate(from);
                unchanged.push(*at);
            }
        }
        let pieces = changed.into_iter().map(|(entry, range)| (entry, &framed[range]));
        let batch = self.assemble(pieces);
        Ok(Flattened { batch: (!batch.records.is_empty()).then_some(batch), unchanged })
    }

    /// The event's document of a record, as JSON; `raw` is the whole uncompressed body.
    pub(crate) fn document<'a>(&self, entry: &Entry, raw: &'a [u8]) -> Cow<'a, [u8]> {
        let document = &raw[entry.range()][entry.document.clone()];
        match self.embedding {
            Embedding::Inline | Embedding::Counted => Cow::Borrowed(document),
            Embedding::Escaped => {
                let mut out = Vec::with_capacity(document.len());
                text::unescape(document, &mut out, |_, _| {});
                Cow::Owned(out)
            }
        }
    }

    fn assemble<'a>(&self, pieces: impl Iterator<Item = (Entry, &'a [u8])>) -> Batch {
        let envelope = &self.envelope;
        let mut raw = envelope.prefix.to_vec();
        let mut records = Vec::new();
        for (entry, framed) in pieces {
            if !records.is_empty() {
                raw.extend_from_slice(envelope.separator);
            }
            records.push(Entry { offset: raw.len(), len: framed.len(), ..entry });
            raw.extend_from_slice(framed);
        }
        raw.extend_from_slice(envelope.suffix);
        if let Some(seal) = envelope.seal {
            seal(&mut raw);
        }
        Batch {
            id: BatchId::of(&records),
            object: None,
            group: self.group.clone(),
            time: self.time,
            records,
            body: Bytes::copy_from_slice(Compressor::new(self.encoding).frame(&raw)),
            raw_len: raw.len(),
            encoding: self.encoding,
            envelope: envelope.clone(),
            embedding: self.embedding,
        }
    }
}

/// What [`Batch::flattened`] made.
pub struct Flattened {
    /// The records that have changed, as a batch to try; none if none has.
    pub batch: Option<Batch>,
    /// The positions of those that this cannot change.
    pub unchanged: Vec<usize>,
}

/// Appends `framed` to `out` with the bodies of its document (which begins at `from`) as strings. False, and
/// `out` is not to be used, if there is none that is not a string already.
fn flatten(framed: &[u8], from: usize, out: &mut Vec<u8>) -> bool {
    let mut bodies = Bodies { doc: framed, next: false, start: None, found: Vec::new() };
    if scan::value(framed, from, &mut bodies).is_err() || bodies.found.is_empty() {
        return false;
    }
    let mut at = 0;
    for range in bodies.found {
        out.extend_from_slice(&framed[at..range.start]);
        out.push(b'"');
        text::escape_into(&String::from_utf8_lossy(&framed[range.clone()]), out);
        out.push(b'"');
        at = range.end;
    }
    out.extend_from_slice(&framed[at..]);
    true
}

/// Finds the objects and arrays that are an event's bodies.
struct Bodies<'a> {
    doc: &'a [u8],
    next: bool,
    start: Option<usize>,
    found: Vec<Range<usize>>,
}

impl Visitor for Bodies<'_> {
    fn key(&mut self, key: Str, depth: usize) {
        if depth == 1 {
            self.next = BODIES.iter().any(|word| text::equals(self.doc, key, word));
        }
    }

    fn open_object(&mut self, at: usize, depth: usize) {
        if depth == 1 && self.next {
            self.start = Some(at);
        }
    }

    fn open_array(&mut self, at: usize, depth: usize) {
        self.open_object(at, depth);
    }

    fn close(&mut self, at: usize, depth: usize) {
        if depth == 1
            && let Some(start) = self.start.take()
        {
            self.found.push(start..at + 1);
        }
    }
}
