//! Where each value of the configuration comes from, and how its place is shown without showing secrets.
//!
//! Owns the index from path to place and the texts of the files. Refuses to print a value of a secret: on
//! every line that it shows, the values that the shape calls secret are replaced, also those that the error is
//! not about, and in a text that could not be parsed everything that might be one.

use std::collections::{BTreeMap, BTreeSet};

use super::path::{Path, Step};
use super::report::{Diagnostic, HIDDEN, LineSpot, Spot};
use super::yaml::{Fault, Node, Position, Span, Value};

/// What the loader has to know about the paths of a configuration.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Whether the value is never to be shown.
    pub(crate) secret: fn(&[&str]) -> bool,
    /// Whether `${…}` is resolved in the value.
    pub(crate) resolves: fn(&[&str]) -> bool,
    /// The words at the top under which there can be no secret.
    pub(crate) open: &'static [&'static str],
    /// The keys of a map that are read before its own type sees it.
    pub(crate) extra: fn(&[&str]) -> &'static [&'static str],
}

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Written in a file; `key` unless it is an item of a list.
    File { file: usize, key: Option<Span>, value: Span, collection: bool },
    /// An environment variable, by its name.
    Variable(String),
    /// An argument `--set`, by its path.
    Argument(String),
}

impl Place {
    /// The spot of what is not in a file.
    pub(crate) fn named(&self, label: &str) -> Spot {
        let name = match self {
            Self::Variable(name) => format!("environment variable {name}"),
            Self::Argument(path) => format!("--set {path}").trim_end().to_owned(),
            Self::File { .. } => String::new(),
        };
        Spot::Named { name, label: label.to_owned() }
    }
}

/// A file as it was read.
pub(crate) struct File {
    name: String,
    lines: Vec<String>,
    /// Every scalar that is written in it, with its place, also those that a later layer replaced.
    scalars: Vec<Written>,
    parsed: bool,
}

/// A scalar in a file.
struct Written {
    path: Path,
    span: Span,
    credentials: bool,
}

impl File {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let lines = text.lines().map(str::to_owned).collect();
        Self { name: name.to_owned(), lines, scalars: Vec::new(), parsed: false }
    }
}

struct Known {
    place: Place,
    plain: bool,
    order: usize,
}

/// Path to origin, and the files.
pub(crate) struct Index {
    shape: Shape,
    files: Vec<File>,
    known: BTreeMap<Path, Known>,
    /// Keys that may be secrets in a wrong place.
    suspects: BTreeSet<Path>,
    count: usize,
}

impl Index {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, files: Vec::new(), known: BTreeMap::new(), suspects: BTreeSet::new(), count: 0 }
    }

    pub(crate) fn add(&mut self, file: File) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    /// Records where `node` and everything beneath it is written.
    pub(crate) fn place_node(&mut self, file: usize, path: &Path, key: Option<Span>, node: &Node) {
        self.files[file].parsed = true;
        let collection = matches!(node.value, Value::List(_) | Value::Map(_));
        let value = match &node.value {
            // A map in block style has no sign of its own: its first key stands for it.
            Value::Map(entries) if node.span.start == node.span.end => {
                entries.first().map_or(node.span, |entry| entry.key_span)
            }
            _ => node.span,
        };
        self.put(path, Place::File { file, key, value, collection }, &node.value);
        match &node.value {
            Value::Null => {}
            Value::Scalar { text, .. } => {
                if !is_reference(text) {
                    let credentials = holds_credentials(text);
                    self.files[file].scalars.push(Written {
                        path: path.clone(),
                        span: node.span,
                        credentials,
                    });
                }
            }
            Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.place_node(file, &path.clone().item(at), None, item);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    let path = path.clone().key(&entry.key);
                    if self.is_suspect(&path, &entry.key, &entry.node.value) {
                        let span = entry.key_span;
                        self.files[file].scalars.push(Written {
                            path: path.clone(),
                            span,
                            credentials: true,
                        });
                        self.suspects.insert(path.clone());
                    }
                    self.place_node(file, &path, Some(entry.key_span), &entry.node);
                }
            }
        }
    }

    /// Records one place for `value` and everything beneath it.
    pub(crate) fn place_flat(&mut self, path: &Path, place: &Place, value: &Value) {
        self.put(path, place.clone(), value);
        match value {
            Value::Null | Value::Scalar { .. } => {}
            Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.place_flat(&path.clone().item(at), place, &item.value);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    self.place_flat(&path.clone().key(&entry.key), place, &entry.node.value);
                }
            }
        }
    }

    /// Records a map that only comes to be because of what is put beneath it.
    pub(crate) fn place_missing(&mut self, path: &Path, place: &Place) {
        if !self.known.contains_key(path) {
            self.put(path, place.clone(), &Value::Null);
        }
    }

    fn put(&mut self, path: &Path, place: Place, value: &Value) {
        if !matches!(value, Value::Map(_)) {
            let beneath = self.known.range(path.clone()..).map(|(other, _)| other);
            let beneath: Vec<Path> = beneath.take_while(|other| other.is_under(path)).cloned().collect();
            for other in beneath {
                self.known.remove(&other);
            }
        }
        self.count += 1;
        let plain = matches!(value, Value::Scalar { plain: true, .. });
        let order = self.known.get(path).map_or(self.count, |known| known.order);
        self.known.insert(path.clone(), Known { place, plain, order });
    }

    /// The rank of a value in the order of writing.
    pub(crate) fn order(&self, path: &Path) -> usize {
        self.known.get(path).map_or(usize::MAX, |known| known.order)
    }

    pub(crate) fn is_plain(&self, path: &Path) -> bool {
        self.known.get(path).is_some_and(|known| known.plain)
    }

    /// Whether a key looks like a secret whose colon was forgotten: `{api_key s3cret}`, `{s3cret}`.
    fn is_suspect(&self, path: &Path, key: &str, value: &Value) -> bool {
        let is_word = key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '<'));
        !self.is_open_path(path) && (!is_word || (self.is_secret(path) && *value == Value::Null))
    }

    fn is_open_path(&self, path: &Path) -> bool {
        matches!(path.steps().first(), Some(Step::Key(top)) if self.shape.open.contains(&top.as_str()))
    }

    /// A path for a message, without keys that may be secrets.
    pub(crate) fn shown(&self, path: &Path) -> Path {
        let mut shown = Path::top();
        let mut upto = Path::top();
        for step in path.steps() {
            match step {
                Step::Item(item) => {
                    upto = upto.item(*item);
                    shown = shown.item(*item);
                }
                Step::Key(key) => {
                    upto = upto.key(key);
                    let hidden = self.suspects.contains(&upto);
                    shown = shown.key(if hidden { HIDDEN } else { key });
                }
            }
        }
        shown
    }

    /// Whether the value is written anywhere, and not a default.
    pub(crate) fn is_written(&self, path: &Path) -> bool {
        self.known.contains_key(path)
    }

    pub(crate) fn is_secret(&self, path: &Path) -> bool {
        (self.shape.secret)(&path.words())
    }

    /// Whether a scalar is not shown: a secret, or one where only maps belong, because its indentation is wrong.
    pub(crate) fn is_hidden(&self, path: &Path) -> bool {
        self.is_secret(path) || (!self.is_open_path(path) && path.steps().len() <= 2)
    }

    /// Whether a value from outside a file is text, whatever it looks like.
    pub(crate) fn is_literal(&self, path: &Path) -> bool {
        self.is_secret(path) || self.resolves(path)
    }

    pub(crate) fn resolves(&self, path: &Path) -> bool {
        (self.shape.resolves)(&path.words())
    }

    pub(crate) fn extra(&self, path: &Path) -> &'static [&'static str] {
        (self.shape.extra)(&path.words())
    }

    /// The place of `path`, or of the nearest thing around it that is written; its key instead of its value if
    /// `at_key`.
    pub(crate) fn spot(&self, path: &Path, label: &str, at_key: bool) -> Option<Spot> {
        let mut around = path.clone();
        let known = loop {
            match self.known.get(&around) {
                Some(_) if around.is_top() && !path.is_top() => return None,
                Some(known) => break known,
                None => around = around.parent()?,
            }
        };
        // What stands under a key that nobody knows could be a secret whose place was misspelled.
        let hide = at_key.then_some(path);
        match &known.place {
            Place::File { file, key, value, collection } => {
                let span = key.filter(|_| at_key || *collection || around != *path).unwrap_or(*value);
                Some(Spot::Line(self.line(*file, span, label, hide)))
            }
            place => Some(place.named(label)),
        }
    }

    /// What a place is called in a sentence.
    pub(crate) fn name(&self, path: &Path) -> Option<String> {
        match self.spot(path, "", false)? {
            Spot::Line(line) => Some(line.place),
            Spot::Named { name, .. } => Some(name),
        }
    }

    /// The error for a text that is not the YAML that we accept.
    pub(crate) fn fault(&self, file: usize, fault: &Fault) -> Diagnostic {
        Diagnostic::error(&fault.message)
            .spot(Some(Spot::Line(self.line(file, fault.span, &fault.label, None))))
            .spot(fault.also.map(|(span, label)| Spot::Line(self.line(file, span, label, None))))
            .help(fault.help.map(str::to_owned))
    }

    fn line(&self, file: usize, span: Span, label: &str, hide: Option<&Path>) -> LineSpot {
        let file = &self.files[file];
        let number = span.start.line.clamp(1, file.lines.len().max(1));
        let text: Vec<char> = file.lines.get(number - 1).map_or(Vec::new(), |line| line.chars().collect());
        let start = (span.start.column - 1).min(text.len());
        let end = if span.end.line == number { (span.end.column - 1).min(text.len()) } else { text.len() };
        let place = format!("{}:{}:{}", file.name, span.start.line, span.start.column);
        let hidden = if file.parsed {
            self.secrets(file, number, &text, hide)
        } else {
            self.suspects(file, number, &text)
        };
        let (text, start, length) = masked(&text, start, end.max(start), &hidden);
        LineSpot { place, number, text, start, length, label: label.to_owned() }
    }

    /// The columns of a line, from 0, that hold values of secrets.
    fn secrets(&self, file: &File, number: usize, text: &[char], hide: Option<&Path>) -> Vec<(usize, usize)> {
        let length = text.len();
        let mut hidden: Vec<(usize, usize)> = file
            .scalars
            .iter()
            .filter(|Written { path, span, credentials }| {
                span.start.line <= number
                    && number <= span.end.line
                    && (*credentials
                        || self.is_hidden(path)
                        || hide.is_some_and(|hide| self.may_hold(hide, path)))
            })
            .map(|Written { span, .. }| {
                let start = if span.start.line == number { span.start.column - 1 } else { 0 };
                let end = if span.end.line == number { span.end.column - 1 } else { length };
                (start.min(length), end.min(length))
            })
            .collect();
        hidden.extend(self.comment(file, number, text));
        hidden.sort_unstable();
        hidden
    }

    /// The columns of a comment beside secrets: an old one may have been kept there.
    fn comment(&self, file: &File, number: usize, text: &[char]) -> Option<(usize, usize)> {
        let in_value = |column: usize| {
            let at = Position { line: number, column: column + 1 };
            file.scalars.iter().any(|written| written.span.start <= at && at < written.span.end)
        };
        let begins = |column: usize| column == 0 || text[column - 1].is_whitespace();
        let sign = (0..text.len()).find(|&at| text[at] == '#' && begins(at) && !in_value(at))?;
        (!self.is_open(file, number)).then_some((sign + 1, text.len()))
    }

    fn may_hold(&self, unknown: &Path, path: &Path) -> bool {
        !self.is_open_path(path) && path.is_under(unknown)
    }

    /// Whether a line belongs to a part of the file that has no secrets, by the last word at its margin.
    fn is_open(&self, file: &File, number: usize) -> bool {
        let is_top = |line: &&String| !line.starts_with([' ', '\t', '#', '-']) && !line.trim().is_empty();
        let above = file.lines.get(..number).unwrap_or_default();
        let top = above.iter().rev().find(is_top).map_or("", |line| line.as_str());
        let word = top.split(':').next().unwrap_or_default().trim_matches('"');
        self.shape.open.contains(&word)
    }

    /// The columns of a line that may hold a secret, in a file whose structure is not known: what follows the
    /// key, unless the part of the file that the line is in has no secrets.
    fn suspects(&self, file: &File, number: usize, text: &[char]) -> Vec<(usize, usize)> {
        if self.is_open(file, number) {
            return Vec::new();
        }
        let from = match text.iter().position(|&c| c == ':') {
            Some(colon) => colon + 1,
            None => 0,
        };
        let blank = text[from..].iter().take_while(|c| c.is_whitespace() || **c == '-').count();
        if from + blank < text.len() { vec![(from + blank, text.len())] } else { Vec::new() }
    }
}

/// Whether a value only says where the secret is.
pub(crate) fn is_reference(text: &str) -> bool {
    let inside = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inside.is_some_and(|inside| {
        (inside.starts_with("env:") || inside.starts_with("file:")) && !inside.contains(['$', '{', '}'])
    })
}

/// Whether a value is a URL with a user and a password in it. No output takes one; until it is refused it is
/// a secret like any other.
pub(crate) fn holds_credentials(text: &str) -> bool {
    let after_scheme = text.split_once("://").map(|(_, rest)| rest);
    after_scheme.is_some_and(|rest| rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@')))
}

/// The line with its hidden columns replaced; the mark moves along.
fn masked(text: &[char], start: usize, end: usize, hidden: &[(usize, usize)]) -> (String, usize, usize) {
    let mut out = String::new();
    let mut column = 0;
    let (mut new_start, mut new_end) = (None, None);
    let mut shown = 0;
    while column <= text.len() {
        let mask = hidden.iter().find(|(from, to)| *from == column && to > from);
        let next = mask.map_or(column + 1, |(_, to)| *to);
        let width = if mask.is_some() { HIDDEN.len() } else { 1 };
        if new_start.is_none() && start < next {
            new_start = Some(shown);
        }
        if new_end.is_none() && end < next {
            new_end = Some(if mask.is_some() && end > column { shown + width } else { shown });
        }
        match (mask, text.get(column)) {
            (Some(_), _) => out.push_str(HIDDEN),
            (None, Some(&c)) => out.push(c),
            (None, None) => {}
        }
        shown += width;
        column = next;
    }
    let start = new_start.unwrap_or(shown);
    let end = new_end.unwrap_or(shown).max(start);
    (out, start, end - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_moves_the_mark() {
        let text: Vec<char> = "a: {key: secret, b: 1}".chars().collect();
        let hidden = [(9, 15)];
        let show = |start, end| {
            let (line, start, length) = masked(&text, start, end, &hidden);
            let marked: String = line.chars().skip(start).take(length).collect();
            (line, marked)
        };
        let line = "a: {key: <hidden>, b: 1}".to_owned();
        assert_eq!(show(17, 18), (line.clone(), "b".to_owned()));
        assert_eq!(show(9, 15), (line.clone(), "<hidden>".to_owned()));
        assert_eq!(show(11, 13), (line.clone(), "<hidden>".to_owned()));
        assert_eq!(show(4, 7), (line.clone(), "key".to_owned()));
        assert_eq!(show(22, 22), (line, String::new()));
    }

    #[test]
    fn a_reference_is_no_secret() {
        assert!(is_reference("${env:TOKEN}"));
        assert!(is_reference("${file:/etc/key}"));
        assert!(!is_reference("Bearer ${env:TOKEN}"));
        assert!(!is_reference("${env:A}${env:B}"));
        assert!(!is_reference("${hunter2}"));
        assert!(!is_reference("plain"));
    }

    #[test]
    fn a_url_may_hold_credentials() {
        assert!(holds_credentials("https://user:pass@host/path"));
        assert!(holds_credentials("https://token@host"));
        assert!(!holds_credentials("https://host/@path"));
        assert!(!holds_credentials("user@host"));
    }
}
