//! The closer look at what a sweep has found: objects by their kind, values beside telling names, what is packed in
//! strings, documents and text inside of them.

use super::{Fields, NESTED_LIMIT, Redactor, Scratch};
use crate::nested::{Decoded, Place, Spelling, percent};
use crate::packed::{self, Opened};
use crate::path::Leaf;
use crate::sweep::{Found, Named, Odd, Sweep};
use crate::values::judge;
use crate::yaml::{self, Yaml};
use auditship_event::scan::{self, Malformed};
use auditship_event::{Edits, text};
use std::borrow::Cow;
use std::ops::Range;

/// Documents inside strings are opened to this depth; a deeper one is masked as a whole.
const MAX_LEVEL: usize = 8;

/// What is packed is opened to this depth, counting base64 in base64 and documents in strings; a deeper one goes.
const MAX_PACKED: usize = 6;

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
            let raw = match value.escaped {
                true => Cow::Owned(text::decoded(doc, *value).into_owned().into_bytes()),
                false => Cow::Borrowed(value.raw(doc)),
            };
            if judge(&raw, *class)
                && let Some(rule) = self.detector.rule_for(&raw, *form)
            {
                let leaf = Leaf { range: value.start..value.end, string: true };
                self.push(rule, doc, &leaf, place, &mut scratch.text, &mut scratch.edits);
            }
        }
        let gone = gone(place, &scratch.edits);
        for odd in &found.strings {
            // Where a user lets something stay, that is counted each time; hints are about documents anywhere in it.
            let plain = odd.is_plain() && place.level == 0 && hints.is_empty() && self.allowed.is_empty();
            let raw = odd.text.raw(doc);
            if plain && scratch.clean_spelled.holds(raw) {
                continue;
            }
            let (edits, budget) = (scratch.edits.len(), scratch.budget);
            self.odd(odd, doc, place, hints, decoded, scratch);
            if plain && scratch.edits.len() == edits && scratch.budget == budget {
                scratch.clean_spelled.keep(raw);
            }
        }
        // Last: where another rule takes the same value, it goes under that rule.
        let mut gone = gone.iter().peekable();
        for text in &found.texts {
            while gone.next_if(|gone| gone.end < text.end).is_some() {}
            if gone.peek().is_some_and(|gone| text.start >= gone.start)
                || scratch.clean.holds(&doc[text.clone()])
            {
                continue;
            }
            if self.detector.may_find(doc, text) {
                let (edits, budget) = (scratch.edits.len(), scratch.budget);
                self.detect(doc, text.clone(), place, hints, scratch);
                let nothing = scratch.edits.len() == edits && scratch.budget == budget;
                // What was opened is of the budget: it may be a document, and something elsewhere.
                if nothing && self.allowed.is_empty() {
                    scratch.clean.keep(&doc[text.clone()]);
                }
            } else {
                scratch.clean.keep(&doc[text.clone()]);
            }
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

    /// The rule that finds something in a text that is not itself edited: opened text, whatever stands in it.
    fn holds(&self, text: &[u8], scratch: &mut Scratch, depth: usize) -> Option<u16> {
        let mut runs = scratch.runs.pop().unwrap_or_default();
        let mut rule = None;
        let percent =
            self.detector.each(text, 0..text.len(), &mut runs, |found, _| rule = rule.or(Some(found)));
        rule = rule.or_else(|| self.document_inside(text, scratch, depth));
        if rule.is_none() && yaml::may_be(text) {
            let Scratch { yaml, .. } = scratch;
            self.yaml(text, &[], yaml, |found, _| rule = rule.or(Some(found)));
        }
        self.embedded(text, scratch, |_, fields, _| rule = rule.or(Some(fields.rule)));
        for piece in spelled_pieces(text) {
            rule = rule.or_else(|| self.respelled(Spelling::Json, &text[piece], scratch, depth));
        }
        for run in runs.drain(..) {
            rule = rule.or_else(|| self.deeper(depth, |depth| self.inside(&text[run], scratch, depth)));
        }
        scratch.runs.push(runs);
        for word in percent.then(|| encoded_words(text, 0..text.len())).into_iter().flatten() {
            rule = rule.or_else(|| self.respelled(Spelling::Percent, &text[word], scratch, depth));
        }
        rule
    }

    /// The rule that finds something in text that is spelled another way.
    fn respelled(&self, spelling: Spelling, raw: &[u8], scratch: &mut Scratch, depth: usize) -> Option<u16> {
        let (mut decoded, found) = scratch.pool.pop().unwrap_or_default();
        decoded.fill_as(spelling, raw, 0);
        // Texts can be opened in more than one order: all of it together is bounded.
        let rule = match scratch.spend(decoded.bytes.len()) {
            true => self.deeper(depth, |depth| self.holds(&decoded.bytes, scratch, depth)),
            false => Some(self.number(NESTED_LIMIT)),
        };
        scratch.pool.push((decoded, found));
        rule
    }

    /// One level deeper, where that is allowed; else it goes for its depth.
    fn deeper(&self, depth: usize, look: impl FnOnce(usize) -> Option<u16>) -> Option<u16> {
        if depth < MAX_PACKED { look(depth + 1) } else { Some(self.number(NESTED_LIMIT)) }
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
        let (mut decoded, mut found) = scratch.pool.pop().unwrap_or_default();
        let swept = scan::document(text, &mut Sweep::new(text, &self.kinds, &self.detector, &mut found));
        let mut rule = None;
        if swept.is_ok() {
            let kind = found.objects.first().map(|(_, kind)| self.kind_fields[usize::from(*kind)]);
            rule = kind.map(|fields| self.fields[fields].rule).or_else(|| {
                let named = found.named.iter().filter(|named| judge(named.value.raw(text), named.class));
                named.map(|named| self.detector.rule_for(named.value.raw(text), named.form)).next()?
            });
            for value in found.texts.iter().filter(|value| packed::is_all(text, value)) {
                let value = &text[value.clone()];
                rule = rule.or_else(|| self.deeper(depth, |depth| self.inside(value, scratch, depth)));
            }
            for odd in &found.strings {
                rule = rule.or_else(|| {
                    decoded.fill(odd.text.raw(text), 0);
                    self.deeper(depth, |depth| self.holds(&decoded.bytes, scratch, depth))
                });
            }
        }
        scratch.pool.push((decoded, found));
        rule
    }

    /// A string that is spelled with escapes: a document, or other text.
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
        let whole = |rule: u16, scratch: &mut Scratch| {
            let leaf = Leaf { range: odd.text.start..odd.text.end, string: true };
            self.push(rule, doc, &leaf, place, &mut scratch.text, &mut scratch.edits);
        };
        match self.document(odd.document, &decoded.bytes, &inside, hints, scratch) {
            Document::Yes => {}
            Document::TooDeep => whole(self.number(NESTED_LIMIT), scratch),
            Document::No => match self.last_applied {
                Some(rule) if odd.applied => whole(rule, scratch),
                _ => self.lines(odd.lines, &decoded.bytes, &inside, hints, scratch),
            },
        }
    }

    /// Looks through a text that may be a JSON document.
    fn document(
        &self,
        may_be: bool,
        text: &[u8],
        place: &Place<'_>,
        hints: &[usize],
        scratch: &mut Scratch,
    ) -> Document {
        if !may_be || !matches!(text.get(scan::skip_space(text, 0)), Some(b'{' | b'[')) {
            return Document::No;
        }
        if place.level > MAX_LEVEL {
            return Document::TooDeep;
        }
        if self.sweep(text, place, hints, scratch).is_err() {
            return Document::No;
        }
        for at in hints {
            let Fields { rule, set, .. } = &self.fields[*at];
            self.select(*rule, set, set.start(), text, 0, place, scratch);
            self.patch(*rule, set, set.start(), text, 0, place, scratch);
        }
        Document::Yes
    }

    /// Looks through a text that is no JSON document and may be YAML.
    fn lines(&self, may_be: bool, text: &[u8], place: &Place<'_>, hints: &[usize], scratch: &mut Scratch) {
        if may_be && yaml::may_be(text) {
            let Scratch { yaml, edits, text: out, .. } = scratch;
            self.yaml(text, hints, yaml, |rule, range| {
                self.push(rule, text, &Leaf { range, string: true }, place, out, edits);
            });
        }
        for piece in spelled_pieces(text) {
            self.spelled(Spelling::Json, text, piece, place, hints, scratch);
        }
        self.embedded(text, scratch, |object, fields, scratch| {
            self.select(fields.rule, &fields.set, fields.set.start(), text, object, place, scratch);
        });
        let all = 0..text.len();
        if self.detector.may_find(text, &all) {
            self.detect(text, all, place, hints, scratch);
        }
    }

    /// Looks through `doc[range]`, which is spelled another way.
    fn spelled(
        &self,
        spelling: Spelling,
        doc: &[u8],
        range: Range<usize>,
        place: &Place<'_>,
        hints: &[usize],
        scratch: &mut Scratch,
    ) {
        let (mut decoded, found) = scratch.pool.pop().unwrap_or_default();
        decoded.fill_as(spelling, &doc[range.clone()], range.start);
        let inside = Place::inside(&decoded, place);
        // Texts can be opened in more than one order: all of it together is bounded.
        let afford = inside.level <= MAX_LEVEL && scratch.spend(decoded.bytes.len());
        let looked = match afford {
            true => self.document(true, &decoded.bytes, &inside, hints, scratch),
            false => Document::TooDeep,
        };
        match looked {
            Document::Yes => {}
            Document::No => self.lines(true, &decoded.bytes, &inside, hints, scratch),
            Document::TooDeep => {
                let (leaf, rule) = (Leaf { range, string: true }, self.number(NESTED_LIMIT));
                self.push(rule, doc, &leaf, place, &mut scratch.text, &mut scratch.edits);
            }
        }
        scratch.pool.push((decoded, found));
    }

    /// Tells where in a text JSON objects of kinds with rules begin, also where they are cut.
    fn embedded(
        &self,
        text: &[u8],
        scratch: &mut Scratch,
        mut tell: impl FnMut(usize, &Fields, &mut Scratch),
    ) {
        if self.kind.find(text).is_none() {
            return;
        }
        let (decoded, mut found) = scratch.pool.pop().unwrap_or_default();
        let mut at = 0;
        while let Some(step) = memchr::memchr(b'{', &text[at..]) {
            at += step;
            let swept = scan::value(text, at, &mut Sweep::new(text, &self.kinds, &self.detector, &mut found));
            for (object, kind) in &found.objects {
                tell(*object, &self.fields[self.kind_fields[usize::from(*kind)]], scratch);
            }
            at = swept.unwrap_or_else(|cut| cut.at).max(at + 1).min(text.len());
        }
        scratch.pool.push((decoded, found));
    }

    /// Adds the edits of what has a credential's form in `doc[range]`, and of what holds such in base64 or
    /// percent-encoded.
    pub(super) fn detect(
        &self,
        doc: &[u8],
        range: Range<usize>,
        place: &Place<'_>,
        hints: &[usize],
        scratch: &mut Scratch,
    ) {
        let mut runs = scratch.runs.pop().unwrap_or_default();
        let percent = self.detector.each(doc, range.clone(), &mut runs, |rule, range| {
            self.push(rule, doc, &Leaf { range, string: true }, place, &mut scratch.text, &mut scratch.edits);
        });
        for run in runs.drain(..) {
            if let Some(rule) = self.inside(&doc[run.clone()], scratch, 0) {
                let leaf = Leaf { range: run, string: true };
                self.push(rule, doc, &leaf, place, &mut scratch.text, &mut scratch.edits);
            }
        }
        scratch.runs.push(runs);
        if percent {
            for word in encoded_words(doc, range) {
                self.spelled(Spelling::Percent, doc, word, place, hints, scratch);
            }
        }
    }
}

/// The pieces of a text between quotes that hold backslashes. Which quotes open and which close is not asked: a text may
/// hold a stray one.
fn spelled_pieces(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = if memchr::memchr(b'\\', text).is_some() { 0 } else { text.len() };
    std::iter::from_fn(move || {
        while at < text.len() {
            let (start, mut spelled) = (at, false);
            let mut end = at;
            while let Some(step) = memchr::memchr2(b'"', b'\\', &text[end..]) {
                end += step;
                if text[end] == b'"' {
                    break;
                }
                spelled = true;
                end = (end + 2).min(text.len());
            }
            let end = if text.get(end) == Some(&b'"') { end } else { text.len() };
            at = end + 1;
            // All of it, and not between quotes at all: that has been looked at as it stands.
            if spelled && (start, end) != (0, text.len()) {
                return Some(start..end);
            }
        }
        None
    })
}

/// The words of `text[range]` in which something is percent-encoded; those are encoded as a whole.
fn encoded_words(text: &[u8], range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let start = range.start;
    let words =
        text[range].split(|b| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'<' | b'>' | b'`'));
    words
        .scan(start, |at, word| {
            let here = *at..*at + word.len();
            *at = here.end + 1;
            Some((here, word))
        })
        .filter(|(_, word)| {
            let query = memchr::memchr(b'?', word).is_some_and(|at| word[at..].contains(&b'+'));
            query || memchr::memchr_iter(b'%', word).any(|at| percent(&word[at..]).is_some())
        })
        .map(|(here, _)| here)
}

/// What came of looking through a text as a JSON document.
enum Document {
    Yes,
    No,
    /// It stands in too many strings.
    TooDeep,
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
