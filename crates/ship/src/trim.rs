//! The trimming ladder: an event that is longer than a backend takes loses what is worth least, until it fits.
//!
//! | rung | what goes |
//! |---|---|
//! | `managedFields` | the field managers' bookkeeping, in both bodies |
//! | `responseObject` | the answer's body |
//! | `requestObject` | the request's body |
//! | `longStrings` | what is beyond the first 256 bytes of every string |
//! | `objects` | every list and object of the top level but `user` and `objectRef` |
//! | `event` | all of it: the uid and the index are left |
//!
//! A rung takes away what the rungs before it have taken too. What is left is valid JSON of the same shape: an
//! object or list that goes becomes `null` or `[]`. The record says what is gone and how long the event was
//! ([`auditship_event::Trim`]); an archive has all of it.

use crate::sink::{Context, Sink};
use auditship_event::scan::{self, Str, Visitor};
use auditship_event::{Body, Edits, Record, Trim, text};
use std::ops::Range;

/// The words for what goes, rung by rung.
pub const RUNGS: &[&str] =
    &["managedFields", "responseObject", "requestObject", "longStrings", "objects", "event"];

const LONG_STRINGS: usize = 4;
const OBJECTS: usize = 5;

/// How much is left of a long string, before the mark that it was cut.
const STRING_BYTES: usize = 256;
const CUT: &[u8] = "…".as_bytes();

/// Trims events. Keeps its buffers.
#[derive(Default)]
pub(crate) struct Trimmer {
    written: Vec<u8>,
}

impl Trimmer {
    /// Frames `record` at `start` of `out`, with as little taken away as makes it at most `limit` bytes. Gives
    /// the place of the document, as [`Sink::frame`] does.
    pub(crate) fn frame(
        &mut self,
        record: &Record<'_>,
        sink: &dyn Sink,
        context: &Context,
        limit: usize,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Range<usize> {
        self.written.clear();
        record.body.write(&mut self.written);
        let mut document = 0..0;
        for rungs in 1..=RUNGS.len() {
            let edits = edits(&self.written, rungs);
            let trim = Some(Trim { taken: &RUNGS[..rungs], bytes: self.written.len() });
            let body = Body::trimmed(&self.written, &edits, trim);
            out.truncate(start);
            document = sink.frame(&Record { body, ..*record }, context, out);
            if out.len() - start <= limit {
                break;
            }
        }
        if self.written.capacity() > 1 << 20 {
            self.written = Vec::new();
        }
        document
    }
}

/// Takes the field managers' bookkeeping out of an event's bodies, as the first rung does.
pub(crate) fn drop_managed_fields(body: &mut Vec<u8>) {
    if memchr::memmem::find(body, b"managedFields").is_some() {
        let mut out = Vec::with_capacity(body.len());
        edits(body, 1).apply(body, &mut out);
        *body = out;
    }
}

/// What the first `rungs` rungs take out of `body`.
fn edits(body: &[u8], rungs: usize) -> Edits {
    let mut edits = Edits::new();
    if rungs < RUNGS.len() {
        let mut finder = Finder { body, rungs, top: Top::Other, managed: false, start: None, edits };
        if scan::value(body, 0, &mut finder).is_ok() {
            edits = finder.edits;
            edits.settle();
            return edits;
        }
        edits = Edits::new();
    }
    edits.push(0..body.len(), b"{}", 0);
    edits
}

/// Which member of the top level the scan is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Top {
    Response,
    Request,
    Needed,
    Other,
}

struct Finder<'a> {
    body: &'a [u8],
    rungs: usize,
    top: Top,
    /// The key just read was `managedFields`, inside a body.
    managed: bool,
    /// Where a container that goes begins, its depth, and what takes its place.
    start: Option<(usize, usize, &'static [u8])>,
    edits: Edits,
}

impl Finder<'_> {
    fn opened(&mut self, at: usize, depth: usize) {
        let goes: Option<&'static [u8]> = match (self.top, depth) {
            (Top::Response, 1) if self.rungs >= 2 => Some(b"null"),
            (Top::Request, 1) if self.rungs >= 3 => Some(b"null"),
            (Top::Other, 1) if self.rungs >= OBJECTS => Some(b"null"),
            (Top::Response | Top::Request, _) if self.managed => Some(b"[]"),
            _ => None,
        };
        if let (None, Some(text)) = (self.start, goes) {
            self.start = Some((at, depth, text));
        }
        self.managed = false;
    }
}

impl Visitor for Finder<'_> {
    fn key(&mut self, key: Str, depth: usize) {
        let is = |word| text::equals(self.body, key, word);
        if depth == 1 {
            self.top = match () {
                () if is("responseObject") => Top::Response,
                () if is("requestObject") => Top::Request,
                () if is("user") || is("objectRef") => Top::Needed,
                () => Top::Other,
            };
        }
        self.managed = depth > 1 && is("managedFields");
    }

    fn open_object(&mut self, at: usize, depth: usize) {
        self.opened(at, depth);
    }

    fn open_array(&mut self, at: usize, depth: usize) {
        self.opened(at, depth);
    }

    fn close(&mut self, at: usize, depth: usize) {
        if let Some((start, opened, text)) = self.start
            && opened == depth
        {
            self.edits.push(start..at + 1, text, 0);
            self.start = None;
        }
    }

    fn string(&mut self, value: Str, _: usize) {
        self.managed = false;
        if self.rungs >= LONG_STRINGS && self.start.is_none() && value.raw(self.body).len() > STRING_BYTES {
            let raw = value.raw(self.body);
            let keep = cut(raw, STRING_BYTES);
            self.edits.push(value.start + keep..value.start + raw.len(), CUT, 0);
        }
    }
}

/// The longest beginning of at most `most` bytes that ends neither in an escape nor in a character.
fn cut(raw: &[u8], most: usize) -> usize {
    let mut at = 0;
    while at < raw.len() {
        let step = match raw[at] {
            b'\\' if raw.get(at + 1) == Some(&b'u') => 6,
            b'\\' => 2,
            0..0xc0 => 1,
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0.. => 4,
        };
        if at + step > most {
            break;
        }
        at += step;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn trimmed(body: &str, rungs: usize) -> Value {
        let mut out = Vec::new();
        edits(body.as_bytes(), rungs).apply(body.as_bytes(), &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn each_rung_takes_more() {
        let long = "\u{e9}".repeat(300);
        let body = json!({
            "kind": "Event", "requestURI": long, "user": {"username": long, "groups": ["a"]},
            "objectRef": {"name": "n"}, "annotations": {"managedFields": ["kept"]},
            "requestObject": {"metadata": {"name": "n", "managedFields": [{"manager": "m"}]}, "spec": {"a": [1]}},
            "responseObject": {"items": [{"metadata": {"managedFields": [{}], "name": "x"}}], "k": 1},
        });
        let text = body.to_string();
        let short = format!("{}…", "\u{e9}".repeat(128));
        let mut want = body;
        want["requestObject"]["metadata"]["managedFields"] = json!([]);
        want["responseObject"]["items"][0]["metadata"]["managedFields"] = json!([]);
        assert_eq!(trimmed(&text, 1), want);
        want["responseObject"] = Value::Null;
        assert_eq!(trimmed(&text, 2), want);
        want["requestObject"] = Value::Null;
        assert_eq!(trimmed(&text, 3), want);
        want["requestURI"] = json!(short);
        want["user"]["username"] = json!(short);
        assert_eq!(trimmed(&text, 4), want);
        want["annotations"] = Value::Null;
        assert_eq!(trimmed(&text, 5), want);
        assert_eq!(trimmed(&text, 6), json!({}));
    }

    #[test]
    fn a_cut_keeps_escapes_and_characters_whole() {
        for (raw, most, want) in [
            (r"ab\u00e9cd", 7, 2),
            (r"ab\u00e9cd", 8, 8),
            (r"a\\b", 2, 1),
            ("aé", 2, 1),
            ("a€b", 4, 4),
            ("a😀", 4, 1),
            ("ab", 9, 2),
        ] {
            assert_eq!(cut(raw.as_bytes(), most), want, "{raw} {most}");
        }
    }
}
