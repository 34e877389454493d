//! A line edited in place: the parts of one line, redacted, and written back as it stood.
//!
//! This is `redact` as a pure function. Order and count are kept: what was one physical line stays one, also where
//! the container runtime has cut an event into several.

use auditship_event::{Broken, Line, Part, parts};
use auditship_redact::{Redactor, Scratch};
use auditship_tail::Pieces;
use std::collections::BTreeMap;

/// Edits lines; keeps its memory and its counts.
pub struct LineEditor<'r> {
    redactor: &'r Redactor,
    scratch: Scratch,
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

    /// Appends `line`, edited, to `out`, terminators and prefixes included.
    pub fn edit(&mut self, line: &Line<'_>, pieces: &Pieces, out: &mut Vec<u8>) {
        self.lines += 1;
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.find(line)));
        if seen.is_err() {
            // One line must not stop the filter: it goes as a stub.
            self.redactor.begin(&mut self.scratch);
            self.stub(line, &Broken { head: line.bytes, tail: b"", reason: "panic" }, 0..line.bytes.len());
        }
        let edits = self.redactor.end(&mut self.scratch);
        self.changed += u64::from(!edits.is_empty());
        for piece in &pieces.list {
            out.extend_from_slice(pieces.prefix(piece));
            let to = line.bytes.len();
            edits.apply_to(line.bytes, piece.content.start.min(to)..piece.content.end.min(to), out);
            out.extend_from_slice(piece.terminator.bytes());
        }
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
                Part::Event(event) => self.redactor.event(event, base(event.raw()), &mut self.scratch),
                Part::Skipped { raw, .. } => match auditship_event::Event::parse(raw) {
                    Ok(json) => self.redactor.event(&json, base(raw), &mut self.scratch),
                    Err(_) => self.redactor.text(raw, base(raw), &mut self.scratch),
                },
                Part::Broken(broken) => {
                    let from = base(broken.head);
                    self.stub(line, broken, from..from + broken.head.len());
                }
            }
        }
    }

    fn stub(&mut self, line: &Line<'_>, broken: &Broken<'_>, range: std::ops::Range<usize>) {
        *self.failed_closed.entry(broken.reason).or_default() += 1;
        self.redactor.replace(broken, line.span, range, &mut self.scratch);
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
