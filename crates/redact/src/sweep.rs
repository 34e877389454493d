//! The one pass over a document that notes where a closer look is due: objects of a kind that has rules, and
//! strings whose text is not what their raw bytes show.

use crate::detect::Detector;
use crate::names::{self, Class};
use crate::pairs::{self, Form};
use auditship_event::scan::{Scalar, Str, Visitor};
use auditship_event::text;
use std::ops::Range;

/// Shorter strings hold no name with a value.
const MIN_TEXT: usize = 8;
/// Shorter keys hold no token.
const MIN_KEY: usize = 20;

/// What a sweep found. Reused from document to document.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Where an object begins, and the number of its kind.
    pub(crate) objects: Vec<(usize, u16)>,
    /// Strings to be decoded.
    pub(crate) strings: Vec<Odd>,
    /// Values beside telling names, by the document's structure.
    pub(crate) named: Vec<Named>,
    /// The insides of strings that may hold credentials by their form.
    pub(crate) texts: Vec<Range<usize>>,
    /// The open objects and arrays.
    open: Vec<Frame>,
    /// Values of open objects' members `value`.
    values: Vec<Str>,
}

/// A value beside a telling name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pub(crate) value: Str,
    pub(crate) class: Class,
    pub(crate) form: Form,
}

/// An object or array that is open.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Where it begins; arrays have no kind, and say `usize::MAX`.
    start: usize,
    /// How many [`Found::values`] there were before it.
    values: usize,
    /// What its member `name`, `key` or `path` tells.
    label: Option<Class>,
}

/// A string that must be decoded before it can be judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Odd {
    pub(crate) text: Str,
    /// It may be a JSON document.
    pub(crate) document: bool,
    /// It must be one: it stands under `last-applied-configuration`.
    pub(crate) applied: bool,
    /// It has several lines, which may be YAML.
    pub(crate) lines: bool,
}

impl Odd {
    /// Whether it is looked through in the same way wherever it stands.
    pub(crate) fn is_plain(&self) -> bool {
        !(self.document || self.applied || self.lines)
    }
}

impl Found {
    pub(crate) fn clear(&mut self) {
        self.objects.clear();
        self.strings.clear();
        self.named.clear();
        self.texts.clear();
        self.open.clear();
        self.values.clear();
    }
}

/// The annotation under which `kubectl apply` keeps the whole object as JSON text
/// (k8s.io/api `core/v1/annotation_key_constants.go`, `LastAppliedConfigAnnotation`).
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What the value to come is, by its key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Other,
    Kind,
    Applied,
    /// `name`, `key` or `path`: the name of what stands under `value`.
    Label,
    Value,
    /// A telling name.
    Telling(Class),
    /// [`Sweep::name`], if it is a telling one: only a string or a list is worth the question.
    MayTell,
}

/// The visitor. `kinds` are the kinds that have rules; their positions are their numbers.
pub(crate) struct Sweep<'a> {
    doc: &'a [u8],
    kinds: &'a [&'static str],
    detector: &'a Detector,
    found: &'a mut Found,
    key: Key,
    /// The last name that may be a telling one.
    name: Str,
    /// The string before was an option such as `--password`.
    option: Option<Class>,
}

impl<'a> Sweep<'a> {
    pub(crate) fn new(
        doc: &'a [u8],
        kinds: &'a [&'static str],
        detector: &'a Detector,
        found: &'a mut Found,
    ) -> Sweep<'a> {
        found.clear();
        let name = Str { start: 0, end: 0, escaped: false };
        Sweep { doc, kinds, detector, found, key: Key::Other, name, option: None }
    }

    fn kind(&mut self, value: Str) {
        let raw = value.raw(self.doc);
        let number = match value.escaped {
            true => self.kinds.iter().position(|kind| text::equals(self.doc, value, kind)),
            false => self.kinds.iter().position(|kind| kind.as_bytes() == raw),
        };
        if let (Some(number), Some(object)) = (number, self.found.open.last()) {
            self.found.objects.push((object.start, number as u16));
        }
    }

    /// The value of a key that says something about it.
    #[inline(never)]
    fn keyed(&mut self, value: Str) {
        match self.key {
            Key::Kind => self.kind(value),
            Key::MayTell => {
                if let Key::Telling(class) = self.telling() {
                    self.found.named.push(Named { value, class, form: Form::Member });
                }
            }
            Key::Telling(class) => self.found.named.push(Named { value, class, form: Form::Member }),
            Key::Value => self.found.values.push(value),
            Key::Label => {
                let label = self.label(value);
                if let (Some(_), Some(open)) = (label, self.found.open.last_mut()) {
                    open.label = label;
                }
            }
            Key::Other | Key::Applied => {}
        }
    }

    fn label(&self, value: Str) -> Option<Class> {
        if value.escaped {
            let word = text::decoded(self.doc, value);
            return names::class(last_segment(word.as_bytes()), false);
        }
        if !self.detector.may_tell(self.doc, value.end) {
            return None;
        }
        let word = value.raw(self.doc);
        if pairs::is_variable_path(word) {
            return Some(Class::Strong);
        }
        names::class(last_segment(word), false)
    }

    /// What an option as a whole string tells: `--password`.
    #[inline(never)]
    fn option(&self, value: Str) -> Option<Class> {
        if self.detector.may_tell(self.doc, value.end) {
            names::class(value.raw(self.doc), false)
        } else {
            None
        }
    }

    fn odd(&mut self, value: Str) {
        let raw = value.raw(self.doc);
        let document = begins_document(raw);
        let applied = self.key == Key::Applied;
        let breaks = |at: usize| matches!(raw.get(at + 1), Some(b'n' | b'u'));
        let lines = memchr::memchr_iter(b'\\', raw).any(breaks);
        self.found.strings.push(Odd { text: value, document, applied, lines });
    }

    #[inline(never)]
    fn odd_key(&self, key: Str) -> Key {
        // The keys of `managedFields` hold quotes, which no name does: only letters and slashes are worth decoding.
        let raw = key.raw(self.doc);
        if !memchr::memchr2_iter(b'u', b'/', raw).any(|at| at > 0 && raw[at - 1] == b'\\') {
            return Key::Other;
        }
        match &*text::decoded(self.doc, key) {
            "kind" => Key::Kind,
            APPLIED => Key::Applied,
            "name" | "key" | "path" => Key::Label,
            "value" => Key::Value,
            word => names::class(last_segment(word.as_bytes()), false).map_or(Key::Other, Key::Telling),
        }
    }

    #[inline(never)]
    fn telling(&self) -> Key {
        let raw = self.name.raw(self.doc);
        // The commonest of those that end as telling ones do.
        if raw.ends_with(b"ersion") || raw.ends_with(b"/decision") || raw == b"metadata" || raw == b"code" {
            return Key::Other;
        }
        let word = last_segment(raw);
        names::class(word, false).map_or(Key::Other, Key::Telling)
    }
}

/// The name in a qualified key: `example.com/token`.
pub(crate) fn last_segment(key: &[u8]) -> &[u8] {
    memchr::memrchr(b'/', key).map_or(key, |at| &key[at + 1..])
}

/// Whether `value` is a time as Kubernetes writes it (RFC 3339): commonest of all strings, and no text.
#[inline(always)]
fn is_time(value: &[u8]) -> bool {
    matches!(value.len(), 20 | 27) && value[10] == b'T' && value[4] == b'-' && value[value.len() - 1] == b'Z'
}

/// Whether the raw inside of a string may be the text of a JSON object or array.
fn begins_document(raw: &[u8]) -> bool {
    let mut rest = raw;
    loop {
        match rest {
            [b'{' | b'[', ..] => return true,
            [b' ', more @ ..] | [b'\\', b'n' | b't' | b'r', more @ ..] => rest = more,
            // An escaped bracket: decode and see.
            [b'\\', b'u', ..] => return true,
            _ => return false,
        }
    }
}

impl Visitor for Sweep<'_> {
    #[inline(always)]
    fn open_object(&mut self, at: usize, _: usize) {
        self.found.open.push(Frame { start: at, values: self.found.values.len(), label: None });
        self.key = Key::Other;
        self.option = None;
    }

    #[inline(always)]
    fn open_array(&mut self, _: usize, _: usize) {
        self.found.open.push(Frame { start: usize::MAX, values: self.found.values.len(), label: None });
        if self.key == Key::MayTell {
            self.key = self.telling();
        }
        // A list of strings under a telling name: each of them.
        if !matches!(self.key, Key::Telling(_)) {
            self.key = Key::Other;
        }
        self.option = None;
    }

    #[inline(always)]
    fn close(&mut self, _: usize, _: usize) {
        if let Some(Frame { values, label, .. }) = self.found.open.pop()
            && self.found.values.len() > values
        {
            let Found { named, values: all, .. } = &mut *self.found;
            for value in all.drain(values..) {
                named.extend(label.map(|class| Named { value, class, form: Form::Named }));
            }
        }
        self.key = Key::Other;
    }

    #[inline(always)]
    fn key(&mut self, key: Str, _: usize) {
        let raw = key.raw(self.doc);
        self.key = match raw {
            _ if key.escaped => self.odd_key(key),
            b"kind" => Key::Kind,
            b"name" | b"path" | b"key" | b"Name" | b"Key" => Key::Label,
            b"value" | b"Value" => Key::Value,
            _ if self.detector.may_tell_name(self.doc, key) => {
                self.name = key;
                Key::MayTell
            }
            _ if raw.len() == APPLIED.len() && raw == APPLIED.as_bytes() => Key::Applied,
            _ => Key::Other,
        };
        if raw.len() >= MIN_KEY {
            self.found.texts.push(key.start..key.end);
        }
    }

    #[inline(always)]
    fn string(&mut self, value: Str, _: usize) {
        if let Some(class) = self.option.take() {
            self.found.named.push(Named { value, class, form: Form::Argument });
        }
        if self.key != Key::Other {
            self.keyed(value);
        }
        let raw = value.raw(self.doc);
        // A document that holds no string needs no escape, and then holds no secret either, except a number
        // under `data`; the rule for last-applied-configuration wants it decoded all the same.
        if value.escaped || self.key == Key::Applied {
            self.odd(value);
            return;
        }
        if let [b'-', _, _, ..] = raw {
            self.option = self.option(value);
        }
        if raw.len() >= MIN_TEXT {
            if !is_time(raw) {
                self.found.texts.push(value.start..value.end);
            }
        } else if self.detector.begins(self.doc, value.start) {
            // A program's name, with its arguments in the strings after it.
            self.found.texts.push(value.start..value.end);
        }
    }

    #[inline(always)]
    fn scalar(&mut self, _: usize, _: usize, _: Scalar, _: usize) {
        self.option = None;
    }
}
