//! A line's parts: nearly always one event, but also the items of an `EventList`, two events glued together,
//! or a torn event with a whole one after it.

use crate::audit::Event;
use crate::line::{Form, Line, trim_start};
use crate::scan::{self, Str, Visitor};

/// What a line holds.
#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every part is an event, and boxing it would allocate for each"
)]
pub enum Part<'a> {
    /// An audit event.
    Event(Event<'a>),
    /// Something that may be (a piece of) an audit event but cannot be read as one.
    Broken(Broken<'a>),
    /// Not an audit event.
    Skipped {
        /// The bytes.
        raw: &'a [u8],
        /// The word that counts it.
        reason: &'static str,
    },
}

/// Bytes that claim to be an event and are none.
#[derive(Clone, Copy)]
pub struct Broken<'a> {
    /// The bytes, or the first of them.
    pub head: &'a [u8],
    /// The last of them, where the line was too long to be held; else empty.
    pub tail: &'a [u8],
    /// The word that counts it: `not_json`, `truncated`, `too_deep`, `torn`, `too_long`, `unfinished`.
    pub reason: &'static str,
}

impl std::fmt::Debug for Broken<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Broken({}, {} bytes)", self.reason, self.head.len() + self.tail.len())
    }
}

/// How every event that `kube-apiserver` writes to a log begins (Go's struct order; k8s.io/apiserver
/// `pkg/apis/audit/v1/types.go`): the place to take up again after a torn line.
pub const EVENT_BEGINS: &[u8] = b"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/";

/// How many places to try to take up again in one line, so that a hostile line stays linear.
const TRIES: usize = 16;

/// Appends the parts of `line` to `out`, in order. Every line gives at least one part.
pub fn parts<'a>(line: &Line<'a>, out: &mut Vec<Part<'a>>) {
    if let Some(reason) = line.skip {
        out.push(Part::Skipped { raw: line.bytes, reason });
        return;
    }
    if let Some(cut) = line.cut {
        out.push(Part::Broken(Broken { head: line.bytes, tail: cut.tail, reason: cut.reason }));
        return;
    }
    match Form::of(line.bytes) {
        Form::Skipped(reason) => out.push(Part::Skipped { raw: line.bytes, reason }),
        Form::Json | Form::Unknown => text_parts(trim_start(line.bytes), out),
    }
}

fn text_parts<'a>(mut rest: &'a [u8], out: &mut Vec<Part<'a>>) {
    loop {
        match Event::parse_first(rest) {
            Ok((event, _)) if event.raw().first() != Some(&b'{') => {
                // A string, array or number is no event by form, but may well be a fragment of one: so is the rest.
                out.push(Part::Broken(Broken { head: rest, tail: b"", reason: "not_json" }));
                return;
            }
            Ok((event, after)) => {
                event_parts(event, out);
                rest = trim_start(after);
                if rest.is_empty() {
                    return;
                }
            }
            Err(malformed) => match take_up(rest) {
                Some(at) => {
                    out.push(Part::Broken(Broken { head: &rest[..at], tail: b"", reason: "torn" }));
                    rest = &rest[at..];
                }
                None => {
                    let reason = malformed.reason.word();
                    out.push(Part::Broken(Broken { head: rest, tail: b"", reason }));
                    return;
                }
            },
        }
    }
}

fn event_parts<'a>(event: Event<'a>, out: &mut Vec<Part<'a>>) {
    if event.is_audit() {
        out.push(Part::Event(event));
    } else if let Some(items) = event.items() {
        let mut elements = Elements::default();
        // Scanned once already: it is valid.
        let _ = scan::value(items, 0, &mut elements);
        let before = out.len();
        for (start, end) in elements.found {
            match Event::parse(&items[start..end]) {
                Ok(item) if item.is_audit() => out.push(Part::Event(item)),
                Ok(_) | Err(_) => out.push(Part::Skipped { raw: &items[start..end], reason: "not_audit" }),
            }
        }
        if out.len() == before {
            out.push(Part::Skipped { raw: event.raw(), reason: "empty_list" });
        }
    } else {
        out.push(Part::Skipped { raw: event.raw(), reason: "not_audit" });
    }
}

/// Where in `rest` a whole sequence of events begins that reaches to its end.
fn take_up(rest: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(&rest[1..], EVENT_BEGINS).take(TRIES).map(|at| at + 1).find(|at| {
        let mut tail = &rest[*at..];
        loop {
            // Every one of them must be an event, so that an object inside a torn body is not taken for one.
            match Event::parse_first(tail) {
                Ok((event, after)) if event.is_audit() => tail = trim_start(after),
                _ => return false,
            }
            if tail.is_empty() {
                return true;
            }
        }
    })
}

/// The elements of an array of objects.
#[derive(Default)]
struct Elements {
    start: usize,
    found: Vec<(usize, usize)>,
}

impl Visitor for Elements {
    fn open_object(&mut self, at: usize, depth: usize) {
        if depth == 1 {
            self.start = at;
        }
    }

    fn close(&mut self, at: usize, depth: usize) {
        if depth == 1 {
            self.found.push((self.start, at + 1));
        }
    }

    fn open_array(&mut self, at: usize, depth: usize) {
        self.open_object(at, depth);
    }

    fn string(&mut self, value: Str, depth: usize) {
        if depth == 1 {
            self.found.push((value.start - 1, value.end + 1));
        }
    }

    fn scalar(&mut self, start: usize, end: usize, _: scan::Scalar, depth: usize) {
        if depth == 1 {
            self.found.push((start, end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::{Span, StreamId};

    const A: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a","stage":"Panic"}"#;
    const B: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"b","stage":"Panic"}"#;

    fn told(line: &str) -> Vec<String> {
        let span = Span { stream: StreamId(1), start: 0, end: line.len() as u64 };
        let mut out = Vec::new();
        parts(&Line { span, carried: None, bytes: line.as_bytes(), skip: None, cut: None }, &mut out);
        out.iter()
            .map(|part| match part {
                Part::Event(event) => format!("event {}", event.audit_id()),
                Part::Broken(broken) => format!("{} {}", broken.reason, broken.head.len()),
                Part::Skipped { reason, .. } => (*reason).to_string(),
            })
            .collect()
    }

    #[test]
    fn whole_glued_torn_listed() {
        assert_eq!(told(A), ["event a"]);
        assert_eq!(told(&format!("{A}\r")), ["event a"]);
        assert_eq!(told(&format!("\0\0{A}")), ["event a"]);
        assert_eq!(told(&format!("{A}{B}")), ["event a", "event b"]);
        assert_eq!(told(&format!("{}{B}", &A[..40])), ["torn 40", "event b"]);
        assert_eq!(told(&format!("{A}{}{B}", &A[..20])), ["event a", "torn 20", "event b"]);
        assert_eq!(told(&A[..40]), ["truncated 40"]);
        assert_eq!(told(&A[30..]), [format!("not_json {}", A.len() - 30)]);
        assert_eq!(told(&format!("{A}xyz")), ["event a", "not_json 3"]);
        assert_eq!(told(r#"{"level":"info","msg":"hello"}"#), ["not_audit"]);
        assert_eq!(told("\"fragment\""), ["not_json 10"]);
        assert_eq!(told("3806,\"f\":{}}"), ["not_json 12"]);
        let list = r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[{"auditID":"x","stage":"Panic"},{"auditID":"y","stage":"Panic"},7]}"#;
        assert_eq!(told(list), ["event x", "event y", "not_audit"]);
        assert_eq!(told(r#"{"kind":"EventList","items":[]}"#), ["empty_list"]);
    }

    #[test]
    fn an_event_inside_a_torn_body_is_not_taken_for_one() {
        let spoofed =
            format!(r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","requestObject":{{"x":{A}}},,}}"#);
        assert_eq!(told(&spoofed), [format!("not_json {}", spoofed.len())]);
    }

    #[test]
    fn a_line_of_nothing_but_beginnings_stays_cheap() {
        let hostile = String::from_utf8_lossy(EVENT_BEGINS).repeat(20_000);
        assert_eq!(told(&hostile).len(), 1);
    }
}
