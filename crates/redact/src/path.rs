//! Paths into a document: `requestObject.data.*`, matched in one pass by a small set of states.
//!
//! Arrays are transparent: `items.data` goes through the list. A path that ends at an object or array selects
//! every scalar beneath it. Keys compare decoded, and every duplicate of a key is followed.

use auditship_event::scan::{Scalar, Str, Visitor};
use auditship_event::text;
use std::ops::Range;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// Exactly this key.
    Key(String),
    /// A key that begins with the first and ends with the second.
    Around(String, String),
    /// Any one key.
    Any,
    /// Any number of keys, none included.
    Deep,
}

/// At most so many states (segments, and one more a path) in one set: they are bits of a `u64`.
const MAX_STATES: usize = 64;

/// The states reached at some place of a document. Zero: no path leads here.
pub type States = u64;

/// Some paths, compiled together.
#[derive(Clone, Debug)]
pub struct PathSet {
    /// What leads from state `i` to state `i + 1`; `None` at the end of a path.
    steps: Vec<Option<Segment>>,
    start: States,
    accept: States,
}

impl PathSet {
    /// Compiles `paths`.
    ///
    /// # Errors
    /// The index of the path at fault and what is wrong with it.
    pub fn new<S: AsRef<str>>(paths: &[S]) -> Result<PathSet, (usize, String)> {
        let mut set = PathSet { steps: Vec::new(), start: 0, accept: 0 };
        for (index, path) in paths.iter().enumerate() {
            let segments = parse(path.as_ref()).map_err(|why| (index, why))?;
            if set.steps.len() + segments.len() + 1 > MAX_STATES {
                return Err((index, format!("too many path segments in one rule (limit {MAX_STATES})")));
            }
            set.start |= 1 << set.steps.len();
            set.steps.extend(segments.into_iter().map(Some));
            set.accept |= 1 << set.steps.len();
            set.steps.push(None);
        }
        set.start = set.closure(set.start);
        Ok(set)
    }

    /// The states at the document's root.
    pub fn start(&self) -> States {
        self.start
    }

    /// Whether a value in these states is selected.
    pub fn selects(&self, states: States) -> bool {
        states & self.accept != 0
    }

    /// The states of the member `key` of an object in `states`.
    pub fn step(&self, states: States, key: &[u8]) -> States {
        // What is selected stays selected all the way down.
        let mut next = states & self.accept;
        let mut left = states & !self.accept;
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            next |= match &self.steps[at] {
                Some(Segment::Key(want)) if want.as_bytes() == key => 2 << at,
                Some(Segment::Around(begin, end)) if around(key, begin.as_bytes(), end.as_bytes()) => 2 << at,
                Some(Segment::Any) => 2 << at,
                Some(Segment::Deep) => 1 << at,
                _ => 0,
            };
        }
        self.closure(next)
    }

    /// The states after a JSON Pointer (RFC 6901) as JSON Patch uses it. A token that can be an array's index
    /// may also name an element, which paths pass through.
    pub fn step_pointer(&self, mut states: States, pointer: &str) -> States {
        for token in pointer.split('/').skip(1) {
            let key = token.replace("~1", "/").replace("~0", "~");
            let element = key == "-" || (!key.is_empty() && key.bytes().all(|b| b.is_ascii_digit()));
            states = self.step(states, key.as_bytes()) | if element { states } else { 0 };
        }
        states
    }

    /// `**` may stand for nothing.
    fn closure(&self, mut states: States) -> States {
        for (at, step) in self.steps.iter().enumerate() {
            if states & (1 << at) != 0 && *step == Some(Segment::Deep) {
                states |= 2 << at;
            }
        }
        states
    }
}

fn around(key: &[u8], begin: &[u8], end: &[u8]) -> bool {
    key.len() >= begin.len() + end.len() && key.starts_with(begin) && key.ends_with(end)
}

fn parse(path: &str) -> Result<Vec<Segment>, String> {
    let mut segments = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let end = quoted.find("\"]").ok_or("a key in brackets must end in \"]")?;
            segments.push(Segment::Key(quoted[..end].to_owned()));
            rest = &quoted[end + 2..];
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            segments.push(segment(&rest[..end])?);
            rest = &rest[end..];
        }
        if let Some(more) = rest.strip_prefix("[]") {
            rest = more;
        }
        if let Some(more) = rest.strip_prefix('.') {
            if more.is_empty() {
                return Err("a path must not end in a dot".to_owned());
            }
            rest = more;
        } else if !rest.is_empty() && !rest.starts_with("[\"") {
            return Err(format!("unexpected text in a path after segment {}", segments.len()));
        }
    }
    if segments.is_empty() { Err("a path must not be empty".to_owned()) } else { Ok(segments) }
}

fn segment(text: &str) -> Result<Segment, String> {
    match text {
        "" => Err("a path must not have an empty segment".to_owned()),
        "*" => Ok(Segment::Any),
        "**" => Ok(Segment::Deep),
        _ => match text.split_once('*') {
            None => Ok(Segment::Key(text.to_owned())),
            Some((begin, end)) if !end.contains('*') => Ok(Segment::Around(begin.to_owned(), end.to_owned())),
            Some(_) => Err("a path segment may hold one * only".to_owned()),
        },
    }
}

/// A scalar that a path selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The inside of a string, or the whole of another scalar.
    pub range: Range<usize>,
    /// Whether it is a string.
    pub string: bool,
}

/// Collects the leaves that `set` selects, starting in given states. Reuses `stack` and `leaves`.
pub struct Select<'a> {
    doc: &'a [u8],
    set: &'a PathSet,
    here: States,
    stack: &'a mut Vec<States>,
    leaves: &'a mut Vec<Leaf>,
}

impl<'a> Select<'a> {
    /// Ready to scan a value of `doc` that stands in `states`.
    pub fn new(
        doc: &'a [u8],
        set: &'a PathSet,
        states: States,
        stack: &'a mut Vec<States>,
        leaves: &'a mut Vec<Leaf>,
    ) -> Select<'a> {
        stack.clear();
        Select { doc, set, here: states, stack, leaves }
    }
}

impl Visitor for Select<'_> {
    fn open_object(&mut self, _: usize, _: usize) {
        self.stack.push(self.here);
    }

    fn open_array(&mut self, _: usize, _: usize) {
        self.stack.push(self.here);
    }

    fn close(&mut self, _: usize, _: usize) {
        self.stack.pop();
        self.here = self.stack.last().copied().unwrap_or(0);
    }

    fn key(&mut self, key: Str, _: usize) {
        let states = self.stack.last().copied().unwrap_or(0);
        self.here = if states == 0 {
            0
        } else if key.escaped {
            self.set.step(states, text::decoded(self.doc, key).as_bytes())
        } else {
            self.set.step(states, key.raw(self.doc))
        };
    }

    fn string(&mut self, value: Str, _: usize) {
        if self.set.selects(self.here) {
            self.leaves.push(Leaf { range: value.start..value.end, string: true });
        }
    }

    fn scalar(&mut self, start: usize, end: usize, kind: Scalar, _: usize) {
        // `true`, `false` and `null` hold no secret, and a patch needs its `null`.
        if kind == Scalar::Number && self.set.selects(self.here) {
            self.leaves.push(Leaf { range: start..end, string: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditship_event::scan;

    fn selected(path: &str, doc: &str) -> Vec<String> {
        let set = PathSet::new(&[path]).unwrap();
        let (mut stack, mut leaves) = (Vec::new(), Vec::new());
        let mut select = Select::new(doc.as_bytes(), &set, set.start(), &mut stack, &mut leaves);
        scan::document(doc.as_bytes(), &mut select).unwrap();
        leaves.into_iter().map(|leaf| doc[leaf.range].to_owned()).collect()
    }

    #[test]
    fn selects() {
        let doc = r#"{"a":{"b":"1","c":["2",{"d":3}]},"e.f":"4","d\u0061ta":"5","x":{"y":{"pwToken":"6"}},"n":null}"#;
        for (path, want) in [
            ("a.b", vec!["1"]),
            ("a", vec!["1", "2", "3"]),
            ("a.*", vec!["1", "2", "3"]),
            ("a.c", vec!["2", "3"]),
            ("a.c[].d", vec!["3"]),
            ("a.c.d", vec!["3"]),
            ("[\"e.f\"]", vec!["4"]),
            ("data", vec!["5"]),
            ("**.pwToken", vec!["6"]),
            ("**.pw*", vec!["6"]),
            ("x.**", vec!["6"]),
            ("**.d", vec!["3"]),
            ("n", vec![]),
            ("b", vec![]),
            ("a.b.c", vec![]),
        ] {
            assert_eq!(selected(path, doc), want, "{path}");
        }
    }

    #[test]
    fn every_duplicate_is_followed() {
        assert_eq!(selected("a", r#"{"a":"1","a":"2","\u0061":"3"}"#), ["1", "2", "3"]);
    }

    #[test]
    fn pointers() {
        let set = PathSet::new(&["**.data", "items.x~y.k/l"]).unwrap();
        for (pointer, want) in [
            ("/data/password", true),
            ("/items/0/data", true),
            ("/metadata", false),
            ("/items/3/x~0y/k~1l", true),
        ] {
            assert_eq!(set.selects(set.step_pointer(set.start(), pointer)), want, "{pointer}");
        }
    }

    #[test]
    fn refuses() {
        for path in ["", "a..b", "a.", "a[\"b", "a[0]", "a*b*c"] {
            assert!(PathSet::new(&[path]).is_err(), "{path}");
        }
        assert!(PathSet::new(&vec!["a.b.c"; 17]).is_err());
    }
}
