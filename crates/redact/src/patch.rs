//! JSON Patch (RFC 6902): where the operations of a document stand.
//!
//! Operations are objects with an `op`, a `path` and a `value`. They are looked for at any depth, since a webhook's
//! patch stands inside another object. Where a member is repeated, every value could have been meant for every path.

use auditship_event::scan::{self, Scalar, Str, Visitor};
use auditship_event::text;

/// The operations of `doc`, as far as it can be read: the inside of each path, and where its value begins.
pub(crate) fn operations(doc: &[u8]) -> Vec<(Str, usize)> {
    // Most documents are no patch: they have no `op`, and no key in which one could be spelled with escapes.
    if memchr::memmem::find(doc, b"\"op\"").is_none() && memchr::memmem::find(doc, b"\\u").is_none() {
        return Vec::new();
    }
    let mut operations = Operations { doc, frames: Vec::new(), key: OpKey::Other, found: Vec::new() };
    // What comes before a cut counts; whoever calls decides what becomes of the rest.
    let _ = scan::value(doc, 0, &mut operations);
    operations.found
}

/// The visitor.
struct Operations<'a> {
    doc: &'a [u8],
    frames: Vec<Operation>,
    key: OpKey,
    found: Vec<(Str, usize)>,
}

#[derive(Default)]
struct Operation {
    paths: Vec<Str>,
    values: Vec<usize>,
    named: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OpKey {
    Other,
    Op,
    Path,
    Value,
}

impl Operations<'_> {
    fn value_at(&mut self, at: usize) {
        if let (OpKey::Value, Some(frame)) = (self.key, self.frames.last_mut()) {
            frame.values.push(at);
        }
        self.key = OpKey::Other;
    }
}

impl Visitor for Operations<'_> {
    fn open_object(&mut self, at: usize, _: usize) {
        self.value_at(at);
        self.frames.push(Operation::default());
    }

    fn open_array(&mut self, at: usize, depth: usize) {
        self.open_object(at, depth);
    }

    fn close(&mut self, _: usize, _: usize) {
        self.key = OpKey::Other;
        if let Some(Operation { paths, values, named: true }) = self.frames.pop() {
            self.found.extend(paths.iter().flat_map(|path| values.iter().map(|value| (*path, *value))));
        }
    }

    fn key(&mut self, key: Str, _: usize) {
        self.key = match &*text::decoded(self.doc, key) {
            "op" => OpKey::Op,
            "path" => OpKey::Path,
            "value" => OpKey::Value,
            _ => OpKey::Other,
        };
        if let (OpKey::Op, Some(frame)) = (self.key, self.frames.last_mut()) {
            frame.named = true;
        }
    }

    fn string(&mut self, value: Str, _: usize) {
        if let (OpKey::Path, Some(frame)) = (self.key, self.frames.last_mut()) {
            frame.paths.push(value);
        }
        self.value_at(value.start - 1);
    }

    fn scalar(&mut self, start: usize, _: usize, _: Scalar, _: usize) {
        self.value_at(start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(doc: &str) -> Vec<(String, String)> {
        let all = operations(doc.as_bytes());
        all.into_iter()
            .map(|(path, at)| (doc[path.start..path.end].to_owned(), doc[at..].chars().take(3).collect()))
            .collect()
    }

    #[test]
    fn finds_operations_at_any_depth() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            told(
                r#"[{"op":"add","path":"/a","value":"x"},{"value":[1],"path":"/b","op":"test"},{"op":"remove","path":"/c"}]"#
            ),
            [pair("/a", "\"x\""), pair("/b", "[1]")]
        );
        assert_eq!(told(r#"{"patch":[{"op":"add","path":"/a","value":true}]}"#), [pair("/a", "tru")]);
        assert_eq!(told(r#"{"path":"/a","value":"x"}"#), []);
        assert_eq!(
            told(r#"[{"op":"add","path":"/a","path":"/b","value":1}]"#),
            [pair("/a", "1}]"), pair("/b", "1}]")]
        );
        assert_eq!(told(r#"[{"op":"add","path":"/a","value":"x"},{"op":"#), [pair("/a", "\"x\"")]);
    }
}
