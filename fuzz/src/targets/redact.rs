//! Redaction of whole lines: it never panics, JSON stays JSON, what is outside of edits stays, and what stands in a
//! Secret is gone whatever stands around it.

use auditship_event::{Edits, Event, Keys, Line, Part, Span, StreamId, parts, scan};
use auditship_redact::{RedactConfig, Redactor, Scratch};
use std::sync::LazyLock;

static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| {
    Redactor::new(&RedactConfig::default(), Keys::derive(b"fuzz", "c")).expect("the catalogue compiles")
});

/// No mutation makes it by chance.
const CANARY: &str = "UGx1bWJhZ28gY2FuYXJ5";

pub(super) fn run(input: &[u8]) {
    line(input);
    // Into a Secret with it: as a value where it is one, else as text.
    let inside = match scan::document(input, &mut scan::Ignore) {
        Ok(()) => String::from_utf8_lossy(input).into_owned(),
        Err(_) => serde_json::to_string(&String::from_utf8_lossy(input)).expect("a string is JSON"),
    };
    let event = format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","objectRef":{{"resource":"secrets","apiVersion":"v1"}},"requestObject":{{"x":{inside},"kind":"Secret","data":{{"k":"{CANARY}"}},"y":{inside}}},"responseObject":{{"data":{{"k":"{CANARY}"}},"z":{inside}}}}}"#
    );
    let Ok(parsed) = Event::parse(event.as_bytes()) else { return };
    let out = body(&parsed);
    assert!(memchr::memmem::find(&out, CANARY.as_bytes()).is_none(), "a Secret's value leaves");
}

/// One line, as the agent handles it.
fn line(input: &[u8]) {
    let span = Span { stream: StreamId(1), start: 0, end: input.len() as u64 };
    let mut found = Vec::new();
    parts(&Line { span, carried: None, bytes: input, skip: None, cut: None }, &mut found);
    for part in &found {
        match part {
            Part::Event(event) => drop(body(event)),
            Part::Broken(broken) => {
                let mut out = Vec::new();
                REDACTOR.stub(broken, span, &mut Scratch::default()).write(&mut out);
                assert!(is_json(&out), "a stub is no JSON");
            }
            Part::Skipped { .. } => {}
        }
    }
}

/// What leaves of an event, with what must hold of it.
pub(super) fn body(event: &Event<'_>) -> Vec<u8> {
    let (mut out, mut scratch) = (Vec::new(), Scratch::default());
    REDACTOR.body(event, &mut scratch).expect("redaction does not panic").write(&mut out);
    assert!(is_json(&out), "the result is no JSON");
    assert!(back(event.raw(), &out, scratch.edits()) == event.raw(), "bytes outside of edits have changed");
    if let Some(looked) = REDACTOR.look(event.raw(), &mut scratch) {
        let mut again = Vec::new();
        REDACTOR.body_of(&looked, &mut scratch).expect("redaction does not panic").write(&mut again);
        assert!(out == again, "parsing and looking at once gives something else");
    }
    out
}

fn is_json(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| scan::document(text.as_bytes(), &mut scan::Ignore).is_ok())
}

fn back(line: &[u8], out: &[u8], edits: &Edits) -> Vec<u8> {
    let (mut back, mut at) = (Vec::new(), 0);
    for edit in edits.iter() {
        let plain = edit.range.start - back.len();
        back.extend_from_slice(&out[at..at + plain]);
        back.extend_from_slice(&line[edit.range.clone()]);
        at += plain + edits.text(edit).len();
    }
    back.extend_from_slice(&out[at..]);
    back
}
