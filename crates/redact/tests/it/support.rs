//! One way to redact a line, with what must hold of every line.

use crate::search::holds;
use auditship_event::{Event, Keys};
use auditship_redact::{RedactConfig, Redactor, Scratch};
use serde_json::Value;

/// The default catalogue and the memory it works with.
pub struct Bench {
    redactor: Redactor,
    scratch: Scratch,
}

/// What became of a line.
pub struct Done {
    /// What leaves.
    pub out: Vec<u8>,
    /// What was taken out of the line, from the raw line's first byte, and the rule and text that took its place.
    pub edits: Vec<(std::ops::Range<usize>, String, Vec<u8>)>,
}

impl Bench {
    pub fn new() -> Bench {
        let redactor = Redactor::new(&RedactConfig::default(), Keys::derive(b"key", "c"))
            .expect("the catalogue compiles");
        Bench { redactor, scratch: Scratch::default() }
    }

    /// Redacts one event. Both ways to do so must agree: parsed first, and looked through while it is parsed.
    pub fn redact(&mut self, line: &[u8]) -> Done {
        let event = Event::parse(line).expect("the tests make valid JSON");
        let mut out = Vec::new();
        self.redactor.body(&event, &mut self.scratch).expect("no panic").write(&mut out);
        let edits = self.scratch.edits();
        let name = |rule: u16| self.redactor.names()[usize::from(rule)].clone();
        let edits: Vec<_> =
            edits.iter().map(|e| (e.range.clone(), name(e.rule), edits.text(e).to_vec())).collect();
        if let Some(looked) = self.redactor.look(line, &mut self.scratch) {
            let mut again = Vec::new();
            self.redactor.body_of(&looked, &mut self.scratch).expect("no panic").write(&mut again);
            self.redactor.forget(looked, &mut self.scratch);
            assert!(out == again, "parsing and looking at once gives something else");
        }
        Done { out, edits }
    }
}

/// What is wrong with `done`, as made from `line`, apart from secrets: it must be the line again where the edits are
/// taken back, be JSON, and differ only in values that were edited.
pub fn broken(line: &[u8], done: &Done) -> Option<String> {
    if reversed(line, done).as_deref() != Some(line) {
        return Some("bytes outside of edits have changed".to_owned());
    }
    let (Some(before), Some(after)) = (value(line), value(&done.out)) else {
        return Some("the result is no JSON".to_owned());
    };
    tree(&before, &after, "")
}

/// The document, with what JSON allows and serde's `Value` does not made harmless.
fn value(text: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(text).ok()?;
    serde_json::from_str(text)
        .or_else(|_| serde_json::from_str(&text.replace(":1e400", ":1").replace(r#":"\ud800""#, ":1")))
        .ok()
}

/// What left, with everything that was taken out put back at its place.
fn reversed(line: &[u8], done: &Done) -> Option<Vec<u8>> {
    let (mut out, mut at) = (Vec::with_capacity(line.len()), 0);
    for (range, _, text) in &done.edits {
        let next = at + range.start.checked_sub(out.len())?;
        out.extend_from_slice(done.out.get(at..next)?);
        (done.out.get(next..next + text.len())? == &text[..]).then_some(())?;
        out.extend_from_slice(line.get(range.clone())?);
        at = next + text.len();
    }
    out.extend_from_slice(done.out.get(at..)?);
    Some(out)
}

/// Where `after` differs from `before` otherwise than by a value that says that it was redacted. Keys may hold
/// credentials too: they are compared in their order.
fn tree(before: &Value, after: &Value, path: &str) -> Option<String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) if before.len() == after.len() => {
            before.iter().find_map(|(key, value)| match after.get(key) {
                Some(other) => tree(value, other, &format!("{path}.{key}")),
                None if after.keys().any(|key| key.contains("redacted:")) => None,
                None => Some(format!("{path}: a key has changed")),
            })
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            before.iter().zip(after).find_map(|(a, b)| tree(a, b, &format!("{path}[]")))
        }
        // What was packed and is packed again shows what was done when it is opened.
        (Value::String(_) | Value::Number(_), Value::String(after))
            if holds(after.as_bytes(), "redacted:") =>
        {
            None
        }
        _ if before == after => None,
        _ => Some(format!("{path}: a value has changed without an edit of its own")),
    }
}
