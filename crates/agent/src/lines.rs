//! A line edited in place: the parts of one line, redacted, and written back as it stood.
//!
//! This is `redact` as a pure function. Order and count are kept: what was one physical line stays one, also where
//! the container runtime has cut an event into several.

use crate::edit_path;
use auditship_event::{Broken, Event, Line, Part, parts};
use auditship_redact::rules::{RULES, Selector};
use auditship_redact::{Action, Redactor, Scratch};
use auditship_tail::Pieces;
use std::collections::BTreeMap;
use std::ops::Range;

/// One part of a line, and what is taken out of it.
#[derive(Debug)]
pub struct Told {
    /// The part as it leaves.
    pub after: Vec<u8>,
    /// Why it could not be read, where it could not.
    pub broken: Option<&'static str>,
    /// In order.
    pub taken: Vec<Taken>,
}

/// One edit, without the value that it takes out.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// The rule's name.
    pub rule: String,
    /// Where: see [`edit_path::paths`]; a value that was found inside what is packed has `<b64>` and `<gzip>` too.
    pub path: String,
    /// What was done: `mask`, `token`, `remove`, `digest`, `replace` (bytes that are no UTF-8), `stub`.
    pub action: &'static str,
    /// How many bytes of the line are gone.
    pub length: usize,
    /// What stands there now.
    pub replacement: Vec<u8>,
}

/// A part's place in its line, and what it is.
struct Seen {
    range: Range<usize>,
    broken: Option<&'static str>,
}

/// Edits lines; keeps its memory and its counts.
pub struct LineEditor<'r> {
    redactor: &'r Redactor,
    scratch: Scratch,
    /// For looking into what is packed, so that nothing is counted twice.
    aside: Scratch,
    /// The parts of the line at hand.
    seen: Vec<Seen>,
    /// Pieces that became stubs, by reason.
    pub failed_closed: BTreeMap<&'static str, u64>,
    /// Lines seen.
    pub lines: u64,
    /// Lines that changed.
    pub changed: u64,
}

impl<'r> LineEditor<'r> {
    /// An editor that uses `redactor`.
    pub fn new(redactor: &'r Redactor) -> LineEditor<'r> {
        LineEditor {
            redactor,
            scratch: Scratch::default(),
            aside: Scratch::default(),
            seen: Vec::new(),
            failed_closed: BTreeMap::new(),
            lines: 0,
            changed: 0,
        }
    }

    /// How often each rule has changed something.
    pub fn redactions(&self) -> BTreeMap<String, u64> {
        let counts = self.scratch.counts().iter().copied();
        self.redactor.names().iter().cloned().zip(counts).filter(|(_, count)| *count > 0).collect()
    }

    /// How often each of the user's reasons has let something stay.
    pub fn allowed(&self) -> BTreeMap<String, u64> {
        self.redactor.count_allowed(&self.scratch)
    }

    /// Appends `line`, edited, to `out`, terminators and prefixes included.
    pub fn edit(&mut self, line: &Line<'_>, pieces: &Pieces, out: &mut Vec<u8>) {
        self.look(line);
        let edits = self.scratch.edits();
        for piece in &pieces.list {
            out.extend_from_slice(pieces.prefix(piece));
            let to = line.bytes.len();
            edits.apply_to(line.bytes, piece.content.start.min(to)..piece.content.end.min(to), out);
            out.extend_from_slice(piece.terminator.bytes());
        }
    }

    /// Says what [`LineEditor::edit`] would take out of `line`, part by part.
    pub fn tell(&mut self, line: &Line<'_>) -> Vec<Told> {
        self.look(line);
        let seen = std::mem::take(&mut self.seen);
        let told = seen.iter().map(|part| self.tell_part(line.bytes, part)).collect();
        self.seen = seen;
        told
    }

    fn tell_part(&mut self, line: &[u8], part: &Seen) -> Told {
        let edits = self.scratch.edits();
        let here: Vec<_> = edits
            .iter()
            .filter(|edit| edit.range.start >= part.range.start && edit.range.end <= part.range.end)
            .collect();
        let base = part.range.start;
        let ranges: Vec<Range<usize>> =
            here.iter().map(|edit| edit.range.start - base..edit.range.end - base).collect();
        let raw = &line[part.range.clone()];
        let mut taken = Vec::new();
        for ((edit, range), mut path) in here.iter().zip(&ranges).zip(edit_path::paths(raw, &ranges)) {
            let rule = &self.redactor.names()[usize::from(edit.rule)];
            let whole = range.start > 0 && raw[range.start - 1] == b'"' && raw.get(range.end) == Some(&b'"');
            if whole && looks_inside(rule, &path) {
                path.push_str(&inside(self.redactor, &raw[range.clone()], &mut self.aside));
            }
            taken.push(Taken {
                path,
                action: match (&**rule, self.redactor.action(edit.rule)) {
                    ("failed-closed", _) => "stub",
                    ("invalid-utf8", _) => "replace",
                    (_, Action::Mask) => "mask",
                    (_, Action::Token) => "token",
                    (_, Action::Remove) => "remove",
                    (_, Action::Digest) => "digest",
                },
                rule: rule.clone(),
                length: range.len(),
                replacement: edits.text(edit).to_vec(),
            });
        }
        let mut after = Vec::with_capacity(raw.len());
        edits.apply_to(line, part.range.clone(), &mut after);
        Told { after, broken: part.broken, taken }
    }

    /// Finds the edits of `line`, and counts.
    fn look(&mut self, line: &Line<'_>) {
        self.lines += 1;
        self.seen.clear();
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.find(line)));
        if seen.is_err() {
            // One line must not stop the filter: it goes as a stub.
            self.redactor.begin(&mut self.scratch);
            self.seen.clear();
            self.stub(line, &Broken { head: line.bytes, tail: b"", reason: "panic" }, 0..line.bytes.len());
        }
        let edits = self.redactor.end(&mut self.scratch);
        self.changed += u64::from(!edits.is_empty());
    }

    fn find(&mut self, line: &Line<'_>) {
        self.redactor.begin(&mut self.scratch);
        if let (Some(cut), None) = (line.cut, line.skip) {
            let broken = Broken { head: line.bytes, tail: cut.tail, reason: cut.reason };
            self.stub(line, &broken, 0..line.bytes.len());
            return;
        }
        let mut all = Vec::new();
        parts(line, &mut all);
        let torn = all.iter().any(|part| matches!(part, Part::Broken(_)));
        for part in &all {
            let base = |raw: &[u8]| raw.as_ptr().addr() - line.bytes.as_ptr().addr();
            match part {
                // Beside a fragment, an object that is no event is a fragment too: of a torn event's body.
                Part::Skipped { raw, .. } if torn => {
                    let from = base(raw);
                    let broken = Broken { head: raw, tail: b"", reason: "torn" };
                    self.stub(line, &broken, from..from + raw.len());
                }
                Part::Event(event) => {
                    let from = base(event.raw());
                    self.seen.push(Seen { range: from..from + event.raw().len(), broken: None });
                    self.redactor.event(event, from, &mut self.scratch);
                }
                Part::Skipped { raw, .. } => {
                    let from = base(raw);
                    self.seen.push(Seen { range: from..from + raw.len(), broken: None });
                    match Event::parse(raw) {
                        Ok(json) => self.redactor.event(&json, from, &mut self.scratch),
                        Err(_) => self.redactor.text(raw, from, &mut self.scratch),
                    }
                }
                Part::Broken(broken) => {
                    let from = base(broken.head);
                    self.stub(line, broken, from..from + broken.head.len());
                }
            }
        }
    }

    fn stub(&mut self, line: &Line<'_>, broken: &Broken<'_>, range: std::ops::Range<usize>) {
        *self.failed_closed.entry(broken.reason).or_default() += 1;
        self.seen.push(Seen { range: range.clone(), broken: Some(broken.reason) });
        self.redactor.replace(broken, line.span, range, &mut self.scratch);
    }
}

/// Whether `rule` may have taken the string at `path` for what is packed in it, and not for its place.
fn looks_inside(rule: &str, path: &str) -> bool {
    match RULES.iter().find(|known| known.name == rule).map(|known| &known.selector) {
        Some(Selector::Fields { paths, .. }) => {
            let last = |path: &&'static str| path.rsplit('.').next().unwrap_or_default();
            let mut keys = path.split(|c: char| !c.is_ascii_alphanumeric());
            !keys.any(|key| paths.iter().any(|path| last(path) == key))
        }
        Some(Selector::Name { .. } | Selector::LastApplied) => false,
        Some(Selector::Text { .. } | Selector::Pair(_)) => true,
        // The user's rules are about places; of the agent's own one is about what is packed.
        None => rule == "nested-limit",
    }
}

/// The way on from a string that went as a whole to what was found in it, if it was.
fn inside(redactor: &Redactor, raw: &[u8], aside: &mut Scratch) -> String {
    let Some((bytes, steps)) = edit_path::unpacked(raw) else { return String::new() };
    redactor.begin(aside);
    let json = Event::parse(&bytes);
    match &json {
        Ok(json) => redactor.event(json, 0, aside),
        Err(_) => redactor.text(&bytes, 0, aside),
    }
    let first = redactor.end(aside).iter().next().map(|edit| edit.range.clone());
    match (first, json) {
        (None, _) => String::new(),
        (Some(_), Err(_)) => steps,
        (Some(range), Ok(_)) => {
            let path = edit_path::paths(&bytes, &[range]).concat();
            let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
            format!("{steps}<json>{dot}{path}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditship_event::{Keys, Span, StreamId};

    fn redacted(line: &str) -> String {
        let redactor = Redactor::new(&Default::default(), Keys::derive(b"k", "c")).unwrap();
        let mut editor = LineEditor::new(&redactor);
        let span = Span { stream: StreamId(0), start: 0, end: line.len() as u64 };
        let line = Line { span, carried: None, bytes: line.as_bytes(), skip: None, cut: None };
        let mut pieces = Pieces::default();
        pieces.list.push(auditship_tail::Piece {
            prefix: 0..0,
            content: 0..line.bytes.len(),
            terminator: auditship_tail::Terminator::Lf,
        });
        let mut out = Vec::new();
        editor.edit(&line, &pieces, &mut out);
        String::from_utf8(out).unwrap()
    }

    const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ";

    #[test]
    fn other_formats_stay_and_lose_their_tokens() {
        let klog = "I1124 02:30:59.123456       1 server.go:1] hello";
        assert_eq!(redacted(klog), format!("{klog}\n"));
        let legacy = format!("2026-11-24T02:00:00.1Z AUDIT: id=\"x\" uri=\"/?token={JWT}\"");
        assert!(!redacted(&legacy).contains("c2lnbmF0"));
        let other = r#"{"level":"info","msg":"hello"}"#;
        assert_eq!(redacted(other), format!("{other}\n"));
    }

    #[test]
    fn a_list_is_edited_item_by_item() {
        let list = r#"{"kind":"EventList","items":[{"auditID":"a","stage":"Panic","objectRef":{"resource":"secrets"},"requestObject":{"data":{"k":"QQ=="}}},{"auditID":"b","stage":"Panic","requestObject":{"data":{"k":"QQ=="}}}]}"#;
        let got = redacted(list);
        assert_eq!(got.matches("QQ==").count(), 1);
        assert_eq!(got.matches("redacted:secret-data:").count(), 1);
    }

    #[test]
    fn fragments_go_and_what_follows_stays() {
        let event = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a","stage":"Panic"}"#;
        let got = redacted(&format!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","requestObject":{{"data":{{"k":"QQ=={event}"#
        ));
        assert!(!got.contains("QQ=="), "{got}");
        assert!(
            got.contains("\"auditship.io/failed-closed\":\"torn\"") && got.ends_with(&format!("{event}\n")),
            "{got}"
        );
        assert!(!redacted(r#"cmV0"}},"stage":"x"}"#).contains("cmV0"));
        // A fragment that happens to begin with a whole object.
        assert!(!redacted(r#"{"k":"cmV0"},"type":"Opaque"}}"#).contains("cmV0"));
    }
}
