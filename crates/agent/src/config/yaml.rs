//! YAML text to a tree in which every key and value knows its place.
//!
//! Owns what of YAML is accepted: one document, words as keys, no duplicate keys, no anchors, aliases or tags
//! (each would let a value come from elsewhere than where a reader looks). Scalars stay text: what type they
//! have is the reader's question. Invariant: spans are in characters, lines and columns count from 1.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle};

/// How deep maps and lists may be nested.
const DEPTH_MAX: usize = 64;

/// A place between two characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// The characters from `start` to `end`, `end` excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: Position,
    pub(crate) end: Position,
}

/// A value and its place; the place of a map or list is where it begins.
#[derive(Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// What is written.
#[derive(Clone, PartialEq)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Text; `plain` if it is not in quotes, so that it may be a number or a boolean.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// A map, in order of writing, each key once.
    Map(Vec<Entry>),
}

/// A key of a map with its value.
#[derive(Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) node: Node,
}

/// Why a text is refused.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) label: String,
    pub(crate) help: Option<&'static str>,
    /// A second place that belongs to it, and what is there.
    pub(crate) also: Option<(Span, &'static str)>,
}

impl Fault {
    fn new(span: Span, message: impl Into<String>, label: impl Into<String>) -> Box<Self> {
        Box::new(Self { span, message: message.into(), label: label.into(), help: None, also: None })
    }

    fn help(mut self: Box<Self>, help: &'static str) -> Box<Self> {
        self.help = Some(help);
        self
    }
}

impl Value {
    /// An unquoted scalar as YAML 1.2 reads it: nothing, or text that may still turn out to be a number.
    pub(crate) fn plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            _ => Self::Scalar { text: text.to_owned(), plain: true },
        }
    }
}

type Events<'t> = std::vec::IntoIter<(Event<'t>, Span)>;

/// The tree of `text`; `None` if it holds nothing but comments.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, Box<Fault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    options.emit_anchor_events = true;
    options.emit_unresolved_aliases = true;
    options.disallow_directives = true;
    options.flow_nesting_limit = DEPTH_MAX;
    options.block_nesting_limit = DEPTH_MAX;

    let mut events = Vec::new();
    let mut documents = 0;
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| syntax(text, error.marker(), &error.to_string()))?;
        let tag = span.tag_span().map(|tag| place(&tag));
        let span = place(&span);
        if let Event::DocumentStart(..) = event {
            documents += 1;
        }
        refuse(&event, span, tag, documents)?;
        if event.is_node() || matches!(event, Event::SequenceEnd | Event::MappingEnd) {
            events.push((event, span));
        }
    }
    let mut events = events.into_iter();
    match events.next() {
        None => Ok(None),
        Some(first) => Ok(Some(node(first, &mut events)?).filter(|node| node.value != Value::Null)),
    }
}

fn place(span: &granit_parser::Span) -> Span {
    Span { start: position(&span.start), end: position(&span.end) }
}

fn position(marker: &Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}

/// Refuses what would make a value's origin other than its place.
fn refuse(event: &Event<'_>, span: Span, tag: Option<Span>, documents: usize) -> Result<(), Box<Fault>> {
    if let Some(tag) = tag {
        return Err(Fault::new(tag, "YAML tags are not accepted", "a tag")
            .help("remove the tag; put a value in quotes to make it text"));
    }
    match event {
        Event::Anchor(..) => Err(Fault::new(span, "YAML anchors are not accepted", "an anchor")
            .help("write the value out in each place, so that every line says what it does")),
        Event::Alias(..) | Event::UnresolvedAlias(..) => {
            Err(Fault::new(span, "YAML aliases are not accepted", "an alias")
                .help("write the value out here; put text that begins with `*` in quotes"))
        }
        Event::DocumentStart(..) if documents > 1 => {
            Err(Fault::new(span, "more than one YAML document", "a second document begins here")
                .help("put it in a file of its own and give both files"))
        }
        _ => Ok(()),
    }
}

fn node((event, span): (Event<'_>, Span), events: &mut Events<'_>) -> Result<Node, Box<Fault>> {
    let value = match event {
        Event::Scalar(text, ScalarStyle::Plain, ..) => Value::plain(&text),
        Event::Scalar(text, ..) => Value::Scalar { text: text.into_owned(), plain: false },
        Event::SequenceStart(..) => list(events)?,
        Event::MappingStart(..) => map(events)?,
        _ => return Err(Fault::new(span, "not a value", "expected a value")),
    };
    Ok(Node { span, value })
}

fn list(events: &mut Events<'_>) -> Result<Value, Box<Fault>> {
    let mut items = Vec::new();
    while let Some(next) = events.next() {
        if matches!(next.0, Event::SequenceEnd) {
            break;
        }
        items.push(node(next, events)?);
    }
    Ok(Value::List(items))
}

fn map(events: &mut Events<'_>) -> Result<Value, Box<Fault>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut seen: HashMap<String, Span> = HashMap::new();
    while let Some((event, key_span)) = events.next() {
        let key = match event {
            Event::MappingEnd => break,
            Event::Scalar(text, ..) => text.into_owned(),
            _ => return Err(Fault::new(key_span, "a key must be a word", "expected a word")),
        };
        if let Some(&first) = seen.get(&key) {
            let mut fault = Fault::new(key_span, "a key is written twice", "written again");
            fault.also = Some((first, "first written here"));
            return Err(fault.help("keep one of the two"));
        }
        let Some(next) = events.next() else { break };
        let node = node(next, events)?;
        seen.insert(key.clone(), key_span);
        entries.push(Entry { key, key_span, node });
    }
    Ok(Value::Map(entries))
}

/// A text that is no YAML. The parser's words are kept, except for the two mistakes that everyone makes.
fn syntax(text: &str, marker: &Marker, message: &str) -> Box<Fault> {
    let at = position(marker);
    let line = text.lines().nth(at.line.saturating_sub(1)).unwrap_or_default();
    let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
    if let Some(tab) = indent.chars().position(|c| c == '\t') {
        let start = Position { line: at.line, column: tab + 1 };
        return Fault::new(one(start), "a tab cannot indent YAML", "a tab").help("indent with spaces");
    }
    // The parser appends its own position; ours is in front of the line already.
    let message = message.split(" at char ").next().unwrap_or(message);
    let message = message.split(" at byte ").next().unwrap_or(message);
    Fault::new(one(at), "not valid YAML", message)
}

fn one(start: Position) -> Span {
    Span { start, end: Position { column: start.column + 1, ..start } }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn show(node: &Node, out: &mut String, indent: usize) {
        let at = |span: &Span| {
            format!("{}:{}-{}:{}", span.start.line, span.start.column, span.end.line, span.end.column)
        };
        match &node.value {
            Value::Null => out.push_str(&format!("null @{}\n", at(&node.span))),
            Value::Scalar { text, plain } => {
                out.push_str(&format!("{text:?} plain={plain} @{}\n", at(&node.span)));
            }
            Value::List(items) => {
                out.push_str(&format!("list @{}\n", at(&node.span)));
                for item in items {
                    out.push_str(&format!("{:indent$}- ", ""));
                    show(item, out, indent + 2);
                }
            }
            Value::Map(entries) => {
                out.push_str(&format!("map @{}\n", at(&node.span)));
                for entry in entries {
                    out.push_str(&format!("{:indent$}{} @{}: ", "", entry.key, at(&entry.key_span)));
                    show(&entry.node, out, indent + 2);
                }
            }
        }
    }

    fn check(text: &str, expect: Expect) {
        let mut out = String::new();
        match parse(text) {
            Ok(None) => out.push_str("nothing\n"),
            Ok(Some(node)) => show(&node, &mut out, 0),
            Err(fault) => {
                let start = fault.span.start;
                out = format!("{}:{}: {} ({})\n", start.line, start.column, fault.message, fault.label);
            }
        }
        expect.assert_eq(&out);
    }

    #[test]
    fn every_key_and_value_has_a_place() {
        check(
            "a: 1   # one\nb:\n  - 'x y'\n  - {c: ~, d: [e]}\n  -\né: |\n  text\n  more\n",
            expect![[r#"
                map @1:1-1:1
                a @1:1-1:2: "1" plain=true @1:4-1:5
                b @2:1-2:2: list @3:3-3:3
                  - "x y" plain=false @3:5-3:10
                  - map @4:5-4:6
                    c @4:6-4:7: null @4:9-4:10
                    d @4:12-4:13: list @4:15-4:16
                      - "e" plain=true @4:16-4:17
                  - null @5:4-5:4
                é @6:1-6:2: "text\nmore\n" plain=false @7:3-9:1
            "#]],
        );
    }

    #[test]
    fn nothing_is_nothing() {
        check(
            "",
            expect![[r#"
            nothing
        "#]],
        );
        check(
            "# only a comment\n\n",
            expect![[r#"
            nothing
        "#]],
        );
        check(
            "---\n",
            expect![[r#"
            nothing
        "#]],
        );
        check(
            "{}",
            expect![[r#"
            map @1:1-1:2
        "#]],
        );
        check(
            "\u{feff}a: b\n",
            expect![[r#"
            map @1:1-1:1
            a @1:1-1:2: "b" plain=true @1:4-1:5
        "#]],
        );
    }

    #[test]
    fn what_hides_an_origin_is_refused() {
        check(
            "a: &x 1\nb: *x\n",
            expect![[r#"
            1:4: YAML anchors are not accepted (an anchor)
        "#]],
        );
        check(
            "b: *x\n",
            expect![[r#"
            1:4: YAML aliases are not accepted (an alias)
        "#]],
        );
        check(
            "b: *.example.com\n",
            expect![[r#"
            1:4: YAML aliases are not accepted (an alias)
        "#]],
        );
        check(
            "a: !!str 1\n",
            expect![[r#"
            1:4: YAML tags are not accepted (a tag)
        "#]],
        );
        check(
            "a: 1\n---\nb: 2\n",
            expect![[r#"
            2:1: more than one YAML document (a second document begins here)
        "#]],
        );
        check(
            "%YAML 1.1\n---\na: 1\n",
            expect![[r#"
            1:1: not valid YAML (YAML directives are disallowed)
        "#]],
        );
    }

    #[test]
    fn keys_are_words_and_stand_once() {
        check(
            "a: 1\nb: 2\na: 3\n",
            expect![[r#"
            3:1: a key is written twice (written again)
        "#]],
        );
        check(
            "{a: 1, \"a\": 2}\n",
            expect![[r#"
            1:8: a key is written twice (written again)
        "#]],
        );
        check(
            "? [a, b]\n: 1\n",
            expect![[r#"
            1:3: a key must be a word (expected a word)
        "#]],
        );
    }

    #[test]
    fn syntax_says_where() {
        check(
            "a:\n\tb: 1\n",
            expect![[r#"
            2:1: a tab cannot indent YAML (a tab)
        "#]],
        );
        check(
            "a: \"open\nb: 1\n",
            expect![[r#"
            1:4: not valid YAML (unclosed quote)
        "#]],
        );
        check(
            "a: [1, 2\nb: 3\n",
            expect![[r#"
            2:2: not valid YAML (illegal placement of ':' indicator)
        "#]],
        );
        check(
            "a: b: c\n",
            expect![[r#"
            1:5: not valid YAML (mapping values are not allowed in this context)
        "#]],
        );
        check(
            " a: 1\nb: 2\n",
            expect![[r#"
            2:1: not valid YAML (did not find expected <document start>)
        "#]],
        );
        check(
            &"[".repeat(100),
            expect![[r#"
            1:65: not valid YAML (recursion limit exceeded)
        "#]],
        );
    }
}
