//! The waist: what shipping sees of an event, and the edits that made it fit to leave.

use crate::keys::Uid;
use crate::span::Span;
use std::ops::Range;
use std::sync::Arc;

/// The destination inside an output: an Elasticsearch index or data stream, a Splunk index, a Loki label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Index(pub Arc<str>);

impl Index {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// All that an output gets to see of one event.
#[derive(Debug)]
pub struct Record<'a> {
    /// Where inside the output it belongs.
    pub index: &'a Index,
    /// The event's time, microseconds since 1970 (its `stageTimestamp`; where that is unreadable, the time of
    /// reading).
    pub time: i64,
    /// Its identity.
    pub uid: Uid,
    /// The line it came from.
    pub span: Span,
    /// What may leave.
    pub body: Body<'a>,
}

/// Bytes that may leave the node: the original event with edits applied. Only `auditship-redact` makes one
/// (`cargo xtask tidy` checks that), so nothing unredacted can reach an output.
///
/// Invariant: written out it is one JSON object on one line, beginning with `{`.
#[derive(Clone, Copy)]
pub struct Body<'a> {
    raw: &'a [u8],
    edits: &'a Edits,
    trim: Option<Trim>,
}

/// What was taken out of a body because an output takes no event as long as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// The words for what is gone, in the order in which it went.
    pub taken: &'static [&'static str],
    /// How long the body was, in bytes.
    pub bytes: usize,
}

impl std::fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({} bytes)", self.len())
    }
}

impl<'a> Body<'a> {
    /// Vouches that `raw` with `edits` applied holds nothing that must not leave. For `auditship-redact`.
    pub fn redacted(raw: &'a [u8], edits: &'a Edits) -> Body<'a> {
        Body { raw, edits, trim: None }
    }

    /// A body made of one that was written already: `written` is what [`Body::write`] appended, `edits` take
    /// something out of it. For `auditship-ship` alone (`cargo xtask tidy` checks that).
    pub fn trimmed(written: &'a [u8], edits: &'a Edits, trim: Option<Trim>) -> Body<'a> {
        Body { raw: written, edits, trim }
    }

    /// What was taken out of it, if anything was.
    pub fn trim(&self) -> Option<Trim> {
        self.trim
    }

    /// How many bytes [`Body::write`] appends.
    pub fn len(&self) -> usize {
        self.edits.len_of(self.raw.len())
    }

    /// Whether it is empty, which no event is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the body to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.edits.apply(self.raw, out);
    }

    /// The body as bytes of its own.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        self.write(&mut out);
        out
    }

    /// Appends the body with `members` (`"key":value` pairs, comma-separated) put before its own.
    pub fn write_with(&self, members: &[u8], out: &mut Vec<u8>) {
        let at = out.len();
        out.push(b'{');
        out.extend_from_slice(members);
        out.push(b',');
        let body = out.len();
        self.write(out);
        // The body's own brace gives its place to the comma; an empty object leaves neither.
        let empty = out[body..].iter().skip(1).find(|b| !b.is_ascii_whitespace()) == Some(&b'}');
        if out.get(body) != Some(&b'{') {
            // Not an object (cannot happen by the invariant): leave it untouched, without members.
            out.drain(at..body);
        } else if empty {
            out.truncate(body - 1);
            out.push(b'}');
        } else {
            out[body] = b' ';
        }
    }
}

/// One replacement, in raw coordinates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The raw bytes that go.
    pub range: Range<usize>,
    /// Which rule wants it (an index into the redactor's table).
    pub rule: u16,
    /// Where in the arena the replacement stands.
    text: Range<usize>,
}

/// A set of edits over one line. Reused from line to line: clearing keeps the memory.
///
/// After [`Edits::settle`] they are sorted and disjoint; where two overlapped, the enclosing one has won.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    list: Vec<Edit>,
    arena: Vec<u8>,
}

impl Edits {
    /// No edits.
    pub const fn new() -> Edits {
        Edits { list: Vec::new(), arena: Vec::new() }
    }

    /// Forgets all edits.
    pub fn clear(&mut self) {
        self.list.clear();
        self.arena.clear();
    }

    /// Adds a replacement of `range` by `text`.
    pub fn push(&mut self, range: Range<usize>, text: &[u8], rule: u16) {
        let from = self.arena.len();
        self.arena.extend_from_slice(text);
        self.list.push(Edit { range, rule, text: from..self.arena.len() });
    }

    /// Sorts, and lets enclosing edits win. Edits that overlap without one enclosing the other become one over
    /// both ranges, so that no byte that a rule wanted gone survives.
    pub fn settle(&mut self) {
        if self.list.len() < 2 {
            return;
        }
        // Equal ranges: the first rule pushed wins (the sort is stable).
        self.list.sort_by_key(|edit| (edit.range.start, std::cmp::Reverse(edit.range.end)));
        let mut kept: usize = 0;
        for next in 1..self.list.len() {
            let range = self.list[next].range.clone();
            let last = &mut self.list[kept];
            if range.start < last.range.end {
                last.range.end = last.range.end.max(range.end);
            } else {
                kept += 1;
                self.list.swap(kept, next);
            }
        }
        self.list.truncate(kept + 1);
    }

    /// The edits, in order once settled.
    pub fn iter(&self) -> impl Iterator<Item = &Edit> {
        self.list.iter()
    }

    /// The replacement of one of them.
    pub fn text(&self, edit: &Edit) -> &[u8] {
        &self.arena[edit.text.clone()]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The length of `raw_len` bytes once edited.
    pub fn len_of(&self, raw_len: usize) -> usize {
        self.list.iter().fold(raw_len, |len, edit| len - edit.range.len() + edit.text.len())
    }

    /// Appends `raw` with the edits applied.
    pub fn apply(&self, raw: &[u8], out: &mut Vec<u8>) {
        self.apply_to(raw, 0..raw.len(), out);
    }

    /// Appends the stretch `part` of `raw` with the edits applied. An edit that began before the stretch leaves
    /// nothing of its range there: its replacement stands where it began.
    pub fn apply_to(&self, raw: &[u8], part: Range<usize>, out: &mut Vec<u8>) {
        let mut at = part.start;
        // An edit of nothing that stands where the stretch begins belongs to it.
        let before = |edit: &Edit| edit.range.end <= part.start && edit.range.start < part.start;
        let first = self.list.partition_point(before);
        for edit in &self.list[first..] {
            // What is put in at the very end belongs to the stretch that ends there.
            let at_end = edit.range.start == raw.len() && part.end == raw.len();
            if edit.range.start >= part.end && !at_end {
                break;
            }
            if edit.range.start >= part.start {
                out.extend_from_slice(&raw[at..edit.range.start]);
                out.extend_from_slice(self.text(edit));
            }
            at = edit.range.end.min(part.end);
        }
        out.extend_from_slice(&raw[at..part.end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(list: &[(Range<usize>, &str)]) -> Edits {
        let mut edits = Edits::new();
        for (range, text) in list {
            edits.push(range.clone(), text.as_bytes(), 0);
        }
        edits.settle();
        edits
    }

    fn applied(raw: &str, list: &[(Range<usize>, &str)]) -> String {
        let edits = edits(list);
        let mut out = Vec::new();
        edits.apply(raw.as_bytes(), &mut out);
        assert_eq!(out.len(), edits.len_of(raw.len()));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn enclosing_wins_and_overlap_merges() {
        assert_eq!(applied("0123456789", &[]), "0123456789");
        assert_eq!(applied("0123456789", &[(5..7, "b"), (1..2, "a")]), "0a234b789");
        assert_eq!(applied("0123456789", &[(3..4, "in"), (2..6, "OUT"), (5..6, "in")]), "01OUT6789");
        assert_eq!(applied("0123456789", &[(2..5, "A"), (4..8, "B")]), "01A89");
        assert_eq!(applied("0123456789", &[(2..5, "A"), (5..8, "B")]), "01AB89");
        assert_eq!(applied("0123456789", &[(2..5, "A"), (2..5, "B")]), "01A56789");
    }

    #[test]
    fn a_part_gets_its_share() {
        let raw = b"0123456789";
        let edits = edits(&[(2..6, "X"), (8..9, "Y")]);
        let mut out = Vec::new();
        for part in [0..4, 4..7, 7..10] {
            edits.apply_to(raw, part, &mut out);
            out.push(b'|');
        }
        assert_eq!(out, b"01X|6|7Y9|");
    }

    #[test]
    fn what_is_put_in_between_stands_in_one_part() {
        let raw = b"0123456789";
        let edits = edits(&[(2..2, "X"), (6..6, "Y"), (10..10, "Z")]);
        let mut out = Vec::new();
        for part in [0..4, 4..6, 6..8, 8..10] {
            edits.apply_to(raw, part, &mut out);
            out.push(b'|');
        }
        assert_eq!(out, b"01X23|45|Y67|89Z|");
    }

    #[test]
    fn members_go_first() {
        for (raw, want) in
            [("{\"a\":1}", "{\"u\":2, \"a\":1}"), ("{}", "{\"u\":2}"), ("{ }", "{\"u\":2}"), ("7", "7")]
        {
            let mut out = b"x".to_vec();
            let none = Edits::new();
            Body::redacted(raw.as_bytes(), &none).write_with(b"\"u\":2", &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("x{want}"));
        }
    }
}
