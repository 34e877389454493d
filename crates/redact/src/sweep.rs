//! The one pass over a document that notes where a closer look is due: objects of a kind that has rules, and
//! strings whose text is not what their raw bytes show.

use crate::names::{self, Class};
use crate::packed;
use auditship_event::scan::{Scalar, Str, Visitor};
use auditship_event::text;

/// What a sweep found. Reused from document to document.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Where an object begins, and the number of its kind.
    pub(crate) objects: Vec<(usize, u16)>,
    /// Strings to be decoded.
    pub(crate) strings: Vec<Odd>,
    /// Values under telling keys that are spelled with escapes; the others are found by their text.
    pub(crate) named: Vec<(Str, Class)>,
    /// Strings that may be base64.
    pub(crate) packed: Vec<Str>,
    /// Begins of the open objects.
    open: Vec<usize>,
}

/// A string that must be decoded before it can be judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Odd {
    pub(crate) text: Str,
    /// It may be a JSON document.
    pub(crate) document: bool,
    /// It must be one: it stands under `last-applied-configuration`.
    pub(crate) applied: bool,
    /// It is an escaped spelling of characters that need none, so detectors must look at its text.
    pub(crate) spelled: bool,
}

impl Found {
    pub(crate) fn clear(&mut self) {
        self.objects.clear();
        self.strings.clear();
        self.named.clear();
        self.packed.clear();
        self.open.clear();
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
    /// Telling names in an escaped spelling, by their class.
    Strong,
    Weak,
    Basic,
}

/// The visitor. `kinds` are the kinds that have rules; their positions are their numbers.
pub(crate) struct Sweep<'a> {
    doc: &'a [u8],
    kinds: &'a [&'static str],
    found: &'a mut Found,
    key: Key,
}

impl<'a> Sweep<'a> {
    pub(crate) fn new(doc: &'a [u8], kinds: &'a [&'static str], found: &'a mut Found) -> Sweep<'a> {
        found.clear();
        Sweep { doc, kinds, found, key: Key::Other }
    }

    #[cold]
    fn kind(&mut self, value: Str) {
        let number = self.kinds.iter().position(|kind| text::equals(self.doc, value, kind));
        if let (Some(number), Some(object)) = (number, self.found.open.last()) {
            self.found.objects.push((*object, number as u16));
        }
    }

    #[cold]
    fn keyed(&mut self, value: Str) {
        match self.key {
            Key::Kind => self.kind(value),
            Key::Strong => self.found.named.push((value, Class::Strong)),
            Key::Weak => self.found.named.push((value, Class::Weak)),
            Key::Basic => self.found.named.push((value, Class::Basic)),
            Key::Other | Key::Applied => {}
        }
    }

    #[inline(never)]
    fn packed(&mut self, value: Str) {
        if packed::may_be(value.raw(self.doc)) {
            self.found.packed.push(value);
        }
    }

    fn odd(&mut self, value: Str) {
        let raw = value.raw(self.doc);
        let document = begins_document(raw);
        let spelled = value.escaped && memchr::memmem::find(raw, b"\\u").is_some();
        let applied = self.key == Key::Applied;
        if document || spelled || applied {
            self.found.strings.push(Odd { text: value, document, applied, spelled });
        }
    }
}

/// The name in a qualified key: `example.com/token`.
fn last_segment(key: &str) -> &[u8] {
    key.rsplit('/').next().unwrap_or(key).as_bytes()
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
        self.found.open.push(at);
        self.key = Key::Other;
    }

    #[inline(always)]
    fn open_array(&mut self, _: usize, _: usize) {
        self.found.open.push(usize::MAX);
        self.key = Key::Other;
    }

    #[inline(always)]
    fn close(&mut self, _: usize, _: usize) {
        self.found.open.pop();
        self.key = Key::Other;
    }

    #[inline(always)]
    fn key(&mut self, key: Str, _: usize) {
        let length = key.end - key.start;
        self.key = if key.escaped {
            match &*text::decoded(self.doc, key) {
                "kind" => Key::Kind,
                APPLIED => Key::Applied,
                word => match names::class(last_segment(word), false) {
                    Some(Class::Strong) => Key::Strong,
                    Some(Class::Weak) => Key::Weak,
                    Some(Class::Basic) => Key::Basic,
                    None => Key::Other,
                },
            }
        } else if length == 4 && key.raw(self.doc) == b"kind" {
            Key::Kind
        } else if length == APPLIED.len() && key.raw(self.doc) == APPLIED.as_bytes() {
            Key::Applied
        } else {
            Key::Other
        };
    }

    #[inline(always)]
    fn string(&mut self, value: Str, _: usize) {
        if self.key != Key::Other {
            self.keyed(value);
        }
        if value.end - value.start >= packed::MIN && !value.escaped {
            self.packed(value);
        }
        // A document that holds no string needs no escape, and then holds no secret either, except a number
        // under `data`; the rule for last-applied-configuration wants it decoded all the same.
        if value.escaped || self.key == Key::Applied {
            self.odd(value);
        }
    }

    #[inline(always)]
    fn scalar(&mut self, _: usize, _: usize, _: Scalar, _: usize) {}
}
