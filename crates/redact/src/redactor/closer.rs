//! The closer look at what a sweep has found: objects by their kind, values beside telling names, what is packed in
//! strings, documents and text inside of them.

use super::{Fields, NESTED_LIMIT, Redactor, Scratch};
use crate::nested::{Decoded, Place};
use crate::packed::{self, Opened};
use crate::path::Leaf;
use crate::sweep::{Found, Named, Odd, Sweep};
use crate::values::judge;
use crate::yaml::{self, Yaml};
use auditship_event::Edits;
use auditship_event::scan::{self, Malformed};
use std::ops::Range;

/// Documents inside strings are opened to this depth; a deeper one is masked as a whole.
const MAX_LEVEL: usize = 8;

/// Strings packed in documents that are packed in strings are opened to this depth.
const MAX_PACKED: usize = 3;

impl Redactor {
    /// Looks through a whole document: objects by kind, and documents inside its strings.
    pub(super) fn sweep(
        &self,
        doc: &[u8],
        place: &Place<'_>,
        hints: &[usize],
        scratch: &mut Scratch,
    ) -> Result<(), Malformed> {
        let (mut decoded, mut found) = scratch.pool.pop().unwrap_or_default();
        let swept = scan::document(doc, &mut Sweep::new(doc, &self.kinds, &self.detector, &mut found));
        if swept.is_ok() {
            self.closer(&found, doc, place, hints, &mut decoded, scratch);
        }
        scratch.pool.push((decoded, found));
        swept
    }

    /// Takes the closer look at what a sweep of `doc` has found.
    pub(super) fn closer(
        &self,
        found: &Found,
        doc: &[u8],
        place: &Place<'_>,
        hints: &[usize],
        decoded: &mut Decoded,
        scratch: &mut Scratch,
    ) {
        for (object, kind) in &found.objects {
            let fields = &self.fields[self.kind_fields[usize::from(*kind)]];
            self.select(fields.rule, &fields.set, fields.set.start(), doc, *object, place, scratch);
        }
        for Named { value, class, form } in &found.named {
            let raw = value.raw(doc);
            if judge(raw, *class)
                && let Some(rule) = self.detector.rule_for(raw, *form)
            {
                let leaf = Leaf { range: value.start..value.end, string: true };
                self.push(rule, doc, &leaf, place, &mut scratch.text, &mut scratch.edits);
            }
        }
        let gone = gone(place, &scratch.edits);
        let is_gone = |value: &Range<usize>| {
            let at = gone.partition_point(|gone| gone.end < value.end);
            gone.get(at).is_some_and(|gone| gone.start <= value.start && value.end <= gone.end)
        };
        for value in &found.packed {
            let whole = value.start..value.end;
            if is_gone(&whole) {
                continue;
            }
            // Runs among other text are found with the text.
            if packed::run(doc, value.start, &whole) == whole
                && let Some(rule) = self.inside(value.raw(doc), scratch, 0)
            {
                let leaf = Leaf { range: whole, string: true };
                self.push(rule, doc, &leaf, place, &mut scratch.text, &mut scratch.edits);
            }
        }
        for odd in &found.strings {
            self.odd(odd, doc, place, hints, decoded, scratch);
        }
        // Last: where another rule takes the same value, it goes under that rule.
        for text in found.texts.iter().filter(|text| !is_gone(text)) {
            self.detect(doc, text.clone(), place, scratch);
        }
    }

    /// The rule that finds something in what is packed in `raw`. What cannot be opened for its size goes too.
    pub(super) fn inside(&self, raw: &[u8], scratch: &mut Scratch, depth: usize) -> Option<u16> {
        let mut text = scratch.opened.pop().unwrap_or_default();
        let rule = match packed::open_run(raw, &mut text, &mut scratch.budget) {
            Opened::No => None,
            Opened::TooLarge => Some(self.number(NESTED_LIMIT)),
            Opened::Yes => self.holds(&text, scratch, depth),
        };
        scratch.opened.push(text);
        rule
    }

    /// The rule that finds something in a text that is not itself edited.
    fn holds(&self, text: &[u8], scratch: &mut Scratch, depth: usize) -> Option<u16> {
        let mut runs = scratch.runs.pop().unwrap_or_default();
        let mut rule =
            self.detector.first(text, &mut runs).or_else(|| self.document_inside(text, scratch, depth));
        if rule.is_none() && yaml::may_be(text) {
            self.yaml(text, &[], &mut scratch.yaml, |found, _| rule = rule.or(Some(found)));
        }
        for run in runs.drain(..) {
            rule = match rule {
                None if depth >= MAX_PACKED => Some(self.number(NESTED_LIMIT)),
                None => self.inside(&text[run], scratch, depth + 1),
                found => found,
            };
        }
        scratch.runs.push(runs);
        rule
    }

    /// Tells every value in YAML that must go, with its rule: by the kind of its object, by the request's resource, and
    /// beside a telling name.
    fn yaml(&self, text: &[u8], hints: &[usize], yaml: &mut Yaml, mut found: impl FnMut(u16, Range<usize>)) {
        yaml.parse(text);
        for (root, kind) in yaml.objects(text, &self.kinds) {
            let fields = &self.fields[self.kind_fields[kind]];
            yaml.select(text, Some(root), &fields.set, |value| found(fields.rule, value));
        }
        for at in hints {
            let Fields { rule, set, .. } = &self.fields[*at];
            yaml.select(text, None, set, |value| found(*rule, value));
        }
        yaml.named(text, |class, form, value| {
            if judge(&text[value.clone()], class)
                && let Some(rule) = self.detector.rule_for(&text[value.clone()], form)
            {
                found(rule, value);
            }
        });
    }

    /// The rule that finds something in a whole document, by the kind of its objects or packed once more.
    fn document_inside(&self, text: &[u8], scratch: &mut Scratch, depth: usize) -> Option<u16> {
        if !matches!(text.get(scan::skip_space(text, 0)), Some(b'{' | b'[')) {
            return None;
        }
        let (decoded, mut found) = scratch.pool.pop().unwrap_or_default();
        let swept = scan::document(text, &mut Sweep::new(text, &self.kinds, &self.detector, &mut found));
        let mut rule = None;
        if swept.is_ok() {
            let kind = found.objects.first().map(|(_, kind)| self.kind_fields[usize::from(*kind)]);
            rule = kind.map(|fields| self.fields[fields].rule);
            for value in &found.packed {
                rule = match rule {
                    None if depth >= MAX_PACKED => Some(self.number(NESTED_LIMIT)),
                    None => self.inside(value.raw(text), scratch, depth + 1),
                    found => found,
                };
            }
        }
        scratch.pool.push((decoded, found));
        rule
    }

    /// A string that must be decoded: a document, text of several lines, or text spelled with escapes.
    fn odd(
        &self,
        odd: &Odd,
        doc: &[u8],
        place: &Place<'_>,
        hints: &[usize],
        decoded: &mut Decoded,
        scratch: &mut Scratch,
    ) {
        decoded.fill(odd.text.raw(doc), odd.text.start);
        let inside = Place::inside(decoded, place);
        let whole = Leaf { range: odd.text.start..odd.text.end, string: true };
        let first = scan::skip_space(&decoded.bytes, 0);
        if odd.document && matches!(decoded.bytes.get(first), Some(b'{' | b'[')) {
            if inside.level > MAX_LEVEL {
                let rule = self.number(NESTED_LIMIT);
                self.push(rule, doc, &whole, place, &mut scratch.text, &mut scratch.edits);
                return;
            }
            if self.sweep(&decoded.bytes, &inside, hints, scratch).is_ok() {
                for at in hints {
                    let Fields { rule, set, .. } = &self.fields[*at];
                    self.select(*rule, set, set.start(), &decoded.bytes, 0, &inside, scratch);
                    self.patch(*rule, set, set.start(), &decoded.bytes, 0, &inside, scratch);
                }
                return;
            }
        }
        if let (true, Some(rule)) = (odd.applied, self.last_applied) {
            self.push(rule, doc, &whole, place, &mut scratch.text, &mut scratch.edits);
            return;
        }
        let text = &decoded.bytes;
        if odd.lines && yaml::may_be(text) {
            let Scratch { yaml, edits, text: out, .. } = scratch;
            self.yaml(text, hints, yaml, |rule, range| {
                self.push(rule, text, &Leaf { range, string: true }, &inside, out, edits);
            });
        }
        self.detect(text, 0..text.len(), &inside, scratch);
    }
}

/// The values of the line at `place`, in its order, that go as a whole: to look inside of them would be in vain.
/// Documents in strings are short enough to be looked at all the same.
fn gone(place: &Place<'_>, edits: &Edits) -> Vec<Range<usize>> {
    if place.level > 0 {
        return Vec::new();
    }
    let base = place.raw(0);
    let here = edits.iter().filter(|edit| edit.range.start >= base);
    let mut gone: Vec<Range<usize>> =
        here.map(|edit| edit.range.start - base..edit.range.end - base).collect();
    gone.sort_unstable_by_key(|range| (range.start, range.end));
    gone
}
