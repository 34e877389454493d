//! YAML in strings (ConfigMaps, manifests, kubeconfigs): enough of it to know which value stands under which keys.
//!
//! No YAML is built or written, and none is refused: lines become entries by their indentation, and a line that is
//! something else is passed over. Flow collections and scalars of several lines are values as a whole. The lines of a
//! block scalar are entries too, below the one that they belong to, so that a manifest within a manifest is seen. One
//! pass, in time and memory linear in the text.

use crate::names::{self, Class};
use crate::pairs::Form;
use crate::path::{PathSet, States};
use crate::sweep::last_segment;
use std::ops::Range;

/// What a line says: a mapping's member, or an item of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// The column at which it begins, from one on. A document stands at zero, and is like an item.
    indent: usize,
    /// The entry in which it stands.
    parent: Option<usize>,
    /// The inside of the key; empty for an item.
    key: Range<usize>,
    /// The inside of the value; empty where there is none on the line.
    value: Range<usize>,
    /// Whether the value is a scalar in the style with `|` or `>`, to which the deeper lines after it belong.
    block: bool,
}

/// Whether it is worth while to parse `text`: some line is a member. Looks at the beginning of the text alone.
pub(crate) fn may_be(text: &[u8]) -> bool {
    let mut lines = text[..text.len().min(MAX_LOOK)].split(|b| *b == b'\n');
    lines.any(|line| {
        line.ends_with(b":") || memchr::memchr_iter(b':', line).any(|at| line.get(at + 1) == Some(&b' '))
    })
}

/// How far [`may_be`] looks.
const MAX_LOOK: usize = 64 << 10;

/// The entries of a text. Reused from text to text.
#[derive(Debug, Default)]
pub(crate) struct Yaml {
    /// In the text's order, parents before what stands in them.
    entries: Vec<Entry>,
    open: Vec<usize>,
    states: Vec<States>,
}

impl Yaml {
    /// Takes in `text`.
    pub(crate) fn parse(&mut self, text: &[u8]) {
        self.entries.clear();
        self.open.clear();
        let mut parser = Parser { text, entries: &mut self.entries, open: &mut self.open };
        parser.push(0, 0..0, 0..0);
        let mut at = 0;
        while at < text.len() {
            let end = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |step| at + step);
            at = parser.line(at, end) + 1;
        }
    }

    /// The members `kind` whose value is one of `kinds`, with its place in the list: each stands for its object.
    pub(crate) fn objects(&self, text: &[u8], kinds: &[&str]) -> Vec<(usize, usize)> {
        let kind = |entry: &Entry| {
            let named = &text[entry.key.clone()] == b"kind";
            named.then(|| kinds.iter().position(|kind| kind.as_bytes() == &text[entry.value.clone()]))?
        };
        self.entries.iter().enumerate().filter_map(|(at, entry)| Some((at, kind(entry)?))).collect()
    }

    /// Tells the values that `set` selects of the object in which the entry `member` stands, or of the whole text.
    pub(crate) fn select(
        &mut self,
        text: &[u8],
        member: Option<usize>,
        set: &PathSet,
        mut found: impl FnMut(Range<usize>),
    ) {
        let root = member.and_then(|member| self.entries[member].parent);
        self.states.clear();
        for (at, entry) in self.entries.iter().enumerate() {
            let outer = match entry.parent {
                parent if parent == root => set.start(),
                Some(parent) => self.states[parent],
                None => 0,
            };
            let here = match entry.key.is_empty() {
                // Sequences are passed through, as arrays are.
                true => outer,
                false if outer == 0 => 0,
                false => set.step(outer, &text[entry.key.clone()]),
            };
            self.states.push(here);
            let word = &text[entry.value.clone()];
            let holds = !matches!(word, b"" | b"true" | b"false" | b"null" | b"~" | b"{}" | b"[]");
            if holds && set.selects(here) && Some(at) != member {
                found(entry.value.clone());
            }
        }
    }

    /// Tells every value beside a telling name: members, items of a sequence under one, and `value` beside `name`.
    pub(crate) fn named(&self, text: &[u8], mut found: impl FnMut(Class, Form, Range<usize>)) {
        let tells = |entry: &Entry| names::class(last_segment(&text[entry.key.clone()]), false);
        // The last `name` and `value` of the object that the entries stand in.
        let (mut object, mut name, mut value) = (None, None, None);
        for entry in &self.entries {
            let class = match entry.key.is_empty() {
                true => entry.parent.and_then(|parent| tells(&self.entries[parent])),
                false => tells(entry),
            };
            if let (Some(class), false) = (class, entry.value.is_empty()) {
                found(class, Form::Text, entry.value.clone());
            }
            if entry.parent != object {
                (object, name, value) = (entry.parent, None, None);
            }
            match &text[entry.key.clone()] {
                b"name" | b"key" => {
                    name = names::class(last_segment(&text[entry.value.clone()]), false);
                }
                b"value" if !entry.value.is_empty() => value = Some(entry.value.clone()),
                _ => continue,
            }
            if let (Some(class), Some(value)) = (name, &value) {
                found(class, Form::Named, value.clone());
            }
        }
    }
}

struct Parser<'t, 'e> {
    text: &'t [u8],
    entries: &'e mut Vec<Entry>,
    /// The entries in which the next line may stand, from the outside in.
    open: &'e mut Vec<usize>,
}

impl Parser<'_, '_> {
    /// Takes the line at `start..end`; returns where it ends, which is further on where its value goes on.
    fn line(&mut self, start: usize, end: usize) -> usize {
        let mut at = skip(self.text, start, end);
        let line = &self.text[at..end];
        if line.trim_ascii().is_empty() || line[0] == b'#' {
            return end;
        }
        if at == start && (line.starts_with(b"---") || line.starts_with(b"...")) {
            self.open.clear();
            self.push(0, at..at, at..at);
            at = skip(self.text, at + 3, end);
        }
        let first = at;
        // A dash opens an item, and another item or a member may follow it on the line.
        while self.text[at..end].starts_with(b"- ") || &self.text[at..end] == b"-" {
            self.push(at - start + 1, at..at, end..end);
            at = skip(self.text, at + 1, end);
        }
        if let Some((key, after)) = self.key(at, end) {
            let value = skip(self.text, after, end);
            self.push(at - start + 1, key, value..value);
            return self.value(value, end);
        }
        if at > first {
            return self.value(at, end);
        }
        // More of the scalar before, if it belongs to one.
        if let Some(last) = self.entries.last_mut()
            && !last.value.is_empty()
            && at - start + 1 > last.indent
        {
            last.value.end = trimmed(self.text, last.value.start, end);
        }
        self.extend(end);
        end
    }

    /// Adds an entry at column `indent`, and sets the blocks that hold it to hold it.
    fn push(&mut self, indent: usize, key: Range<usize>, value: Range<usize>) {
        let item = key.is_empty();
        while let Some(open) = self.open.last().map(|at| &self.entries[*at]) {
            // A sequence may stand at the column of its key.
            let inside = open.indent < indent || (item && open.indent == indent && !open.key.is_empty());
            if inside {
                break;
            }
            self.open.pop();
        }
        let parent = self.open.last().copied();
        self.open.push(self.entries.len());
        self.entries.push(Entry { indent, parent, key, value, block: false });
    }

    /// Block scalars that are open reach to `end`.
    fn extend(&mut self, end: usize) {
        for at in &*self.open {
            let entry = &mut self.entries[*at];
            if entry.block {
                entry.value.end = trimmed(self.text, entry.value.start, end).max(entry.value.start);
            }
        }
    }

    /// The key at `at`, and where its value may begin.
    fn key(&self, at: usize, end: usize) -> Option<(Range<usize>, usize)> {
        let line = &self.text[at..end];
        let (inside, after) = match line.first()? {
            quote @ (b'"' | b'\'') => {
                let close = memchr::memchr(*quote, &line[1..])? + 1;
                (at + 1..at + close, at + close + 1)
            }
            b'{' | b'[' | b'&' | b'*' | b'|' | b'>' | b'%' | b'@' | b'#' => return None,
            _ => {
                let colon = memchr::memchr_iter(b':', line)
                    .find(|colon| matches!(line.get(colon + 1), None | Some(b' ' | b'\t' | b'\r')))?;
                (at..trimmed(self.text, at, at + colon), at + colon)
            }
        };
        let colon = skip(self.text, after, end);
        let ends = matches!(self.text[colon..end], [b':'] | [b':', b' ' | b'\t' | b'\r', ..]);
        (ends && !inside.is_empty()).then_some((inside, colon + 1))
    }

    /// Takes the value at `at` for the last entry; returns where it ends.
    fn value(&mut self, mut at: usize, end: usize) -> usize {
        // Anchors and tags.
        while let [b'&' | b'!', rest @ ..] = &self.text[at..end] {
            let word = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
            at = skip(self.text, at + 1 + word, end);
        }
        let (mut value, mut block, mut last) = (at..trimmed(self.text, at, end), false, end);
        match self.text[at..end] {
            [b'|' | b'>', ..] => {
                let next = (end + 1).min(self.text.len());
                // The indentation of its first line stays.
                let begin = next + self.text[next..].iter().take_while(|b| b.is_ascii_whitespace()).count();
                (value, block) = (begin..begin, true);
            }
            [quote @ (b'"' | b'\''), ..] => {
                if let Some(close) = closing(&self.text[at + 1..], quote) {
                    value = at + 1..at + 1 + close;
                    last = memchr::memchr(b'\n', &self.text[value.end..])
                        .map_or(self.text.len(), |step| value.end + step);
                }
            }
            _ => {
                if let Some(comment) = memchr::memmem::find(&self.text[value.clone()], b" #") {
                    value.end = trimmed(self.text, at, at + comment);
                }
            }
        }
        self.extend(last);
        if let Some(entry) = self.entries.last_mut() {
            (entry.value, entry.block) = (value, block);
        }
        last
    }
}

/// Where the quote ends a scalar whose inside begins `text`: a doubled single quote and an escaped double one do not.
fn closing(text: &[u8], quote: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(quote, b'\\', &text[at..])?;
        at += match (quote, &text[at..]) {
            (b'"', [b'\\', _, ..]) | (b'\'', [b'\'', b'\'', ..]) => 2,
            (_, [b'\\', ..]) => 1,
            _ => return Some(at),
        };
    }
}

fn skip(text: &[u8], at: usize, end: usize) -> usize {
    text[at.min(end)..end].iter().position(|b| !matches!(b, b' ' | b'\t')).map_or(end, |step| at + step)
}

/// `end`, or where the white space before it begins.
fn trimmed(text: &[u8], start: usize, end: usize) -> usize {
    start + text[start.min(end)..end].trim_ascii_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, want: Expect) {
        let mut yaml = Yaml::default();
        yaml.parse(text.as_bytes());
        let entries = &yaml.entries;
        let mut told = String::new();
        for entry in entries {
            let (mut depth, mut at) = (0, entry.parent);
            while let Some(parent) = at {
                (depth, at) = (depth + 1, entries[parent].parent);
            }
            if entry.indent == 0 {
                told += "document\n";
                continue;
            }
            let key = if entry.key.is_empty() { "-" } else { &text[entry.key.clone()] };
            told += &format!("{}{key} = {:?}\n", "  ".repeat(depth), &text[entry.value.clone()]);
        }
        want.assert_eq(&told);
    }

    #[test]
    fn mappings_sequences_and_documents() {
        check(
            "kind: List\nitems:\n- kind: Secret\n  data:\n    a: QQ==  # c\n    \"b\": 'x''y'\n  list:\n    - 1\n    - - z\n---\nkind: B\nurl: http://x:1/\n",
            expect![[r#"
                document
                  kind = "List"
                  items = ""
                    - = ""
                      kind = "Secret"
                      data = ""
                        a = "QQ=="
                        b = "x''y"
                      list = ""
                        - = "1"
                        - = ""
                          - = "z"
                document
                  kind = "B"
                  url = "http://x:1/"
            "#]],
        );
    }

    #[test]
    fn block_scalars_and_what_stands_in_them() {
        check(
            "data:\n  a: |-\n    one\n    two: 2\n\n    three\n  b: >\n    x\nc: !!binary |\n  QUJD\n  REVG\nd: \"p\n  q\"\ne: f\n  g\n",
            expect![[r#"
                document
                  data = ""
                    a = "one\n    two: 2\n\n    three"
                      two = "2"
                    b = "x"
                  c = "QUJD\n  REVG"
                  d = "p\n  q"
                  e = "f\n  g"
            "#]],
        );
    }

    #[test]
    fn other_text_is_passed_over() {
        check(
            "a sentence: with a colon\n{\"a\": 1}\n= x\n:\n- \n\t\n'",
            expect![[r#"
                document
                  a sentence = "with a colon"
                    - = ""
            "#]],
        );
    }

    proptest::proptest! {
        #[test]
        fn ranges_are_within_the_text(text in "(a|:|: | |  |\n|- |\"|'|\\||>|#|---|!x |&y |\\{|\\\\|é){0,40}") {
            let mut yaml = Yaml::default();
            yaml.parse(text.as_bytes());
            for (at, entry) in yaml.entries.iter().enumerate() {
                proptest::prop_assert!(text.as_bytes().get(entry.key.clone()).is_some());
                proptest::prop_assert!(text.as_bytes().get(entry.value.clone()).is_some());
                proptest::prop_assert!(entry.parent.is_none_or(|parent| parent < at));
            }
        }
    }
}
