//! Credentials by their form, in text of any kind: one pass finds the places where a look is due, then rules decide.
//!
//! A look is due where a word begins as a credential may begin (`ghp_…`), and where a word ends as a telling name may
//! end (`…word=`). Words are letters, digits, `_` and `-`; sixteen bytes are looked at together for what ends one. At
//! each end, four bytes on either side go through a small table: so the cost does not grow with the catalogue.

use crate::names;
use crate::nested::percent;
use crate::packed;
use crate::pairs::{self, FORMS, Form};
use crate::rules::{Needle, Rule, Selector};
use auditship_event::scan::Str;
use std::ops::Range;
use wide::u8x16;

/// Looks at `text` around `needle`, which stands at `at`, and tells what must go.
pub(crate) type Find = fn(text: &[u8], at: usize, needle: &str) -> Option<Range<usize>>;

/// Four bytes, letters in lower case, and perhaps one of a set.
#[derive(Clone)]
pub(crate) struct Fours {
    bits: Box<[u64; 1 << (BITS - 6)]>,
}

/// So many bits has a set of [`Fours`].
const BITS: u32 = 16;

impl Fours {
    pub(crate) fn new() -> Fours {
        Fours { bits: Box::new([0; 1 << (BITS - 6)]) }
    }

    #[inline(always)]
    fn slot(four: [u8; 4]) -> (usize, u64) {
        // The bit that tells cases apart is set for all bytes: some others fall together, which costs a closer look.
        let folded = u32::from_le_bytes(four) | 0x2020_2020;
        let hash = folded.wrapping_mul(0x9e37_79b1) >> (32 - BITS);
        ((hash >> 6) as usize, 1 << (hash & 63))
    }

    pub(crate) fn insert(&mut self, four: [u8; 4]) {
        let (word, bit) = Fours::slot(four);
        self.bits[word] |= bit;
    }

    #[inline(always)]
    pub(crate) fn may_hold(&self, four: [u8; 4]) -> bool {
        let (word, bit) = Fours::slot(four);
        self.bits[word] & bit != 0
    }
}

/// What a text rule looks for, and what to do there.
#[derive(Clone, Copy)]
struct Look {
    word: &'static str,
    /// Its first four bytes, and which of those it has.
    first: u32,
    mask: u32,
    rule: u16,
    find: Find,
}

/// A rule that looks where a dot joins words of so many bytes.
#[derive(Clone, Copy)]
struct Joint {
    before: usize,
    after: usize,
    rule: u16,
    find: Find,
}

impl Joint {
    /// Whether the words around the dot at `dot` have those lengths.
    #[inline(always)]
    fn fits(&self, text: &[u8], dot: usize) -> bool {
        let end = dot + 1 + self.after;
        // The byte behind the second word is in most cases of the same word, or there is none: asked first.
        end <= text.len()
            && text.get(end).is_none_or(|behind| !is_base64url(*behind))
            && dot >= self.before
            && begins(text, dot - self.before)
            && text[dot - self.before..dot].iter().chain(&text[dot + 1..end]).all(|b| is_base64url(*b))
    }
}

/// All text rules behind one pass.
#[derive(Clone)]
pub(crate) struct Detector {
    /// First bytes of words at which a look is due.
    begins: Fours,
    /// Last bytes of words at which a look is due.
    ends: Fours,
    starts: Vec<Look>,
    closing: Vec<Look>,
    marks: Vec<Look>,
    joints: Vec<Joint>,
    /// First bytes of marks.
    marked: Fours,
    /// The rule's number, by the position of its form in [`FORMS`].
    forms: [Option<u16>; FORMS.len()],
    pairs: bool,
}

impl Detector {
    /// Compiles the text rules of `rules` (numbered by position).
    pub(crate) fn new(rules: &[&'static Rule]) -> Detector {
        let mut detector = Detector {
            begins: Fours::new(),
            ends: Fours::new(),
            starts: Vec::new(),
            closing: Vec::new(),
            marks: Vec::new(),
            joints: Vec::new(),
            marked: Fours::new(),
            forms: [None; FORMS.len()],
            pairs: false,
        };
        for (number, rule) in rules.iter().enumerate() {
            match &rule.selector {
                Selector::Text { needles, find } => {
                    for needle in *needles {
                        detector.add(*needle, number as u16, *find);
                    }
                }
                Selector::Pair(form) => {
                    detector.forms[*form as usize] = Some(number as u16);
                    detector.pairs = true;
                }
                Selector::Fields { .. } | Selector::Name { .. } | Selector::LastApplied => {}
            }
        }
        if detector.pairs {
            names::endings(|four| detector.ends.insert(four));
        }
        // By their first bytes, so that few are tried at a place.
        for looks in [&mut detector.starts, &mut detector.marks] {
            looks.sort_by_key(|look| look.word.as_bytes().first().copied());
        }
        detector
    }

    fn add(&mut self, needle: Needle, rule: u16, find: Find) {
        let look = |word: &'static str| {
            let mut four = [0; 4];
            let length = word.len().min(4);
            four[..length].copy_from_slice(&word.as_bytes()[..length]);
            let (first, mask) = (u32::from_le_bytes(four), u32::MAX >> (32 - 8 * length));
            Look { word, first, mask, rule, find }
        };
        match needle {
            Needle::Begin(word) => {
                first_four(word, |four| self.begins.insert(four));
                self.starts.push(look(word));
            }
            Needle::End(word) => {
                let last = word.as_bytes().last_chunk();
                self.ends.insert(*last.expect("needles are constants, compiled by every test"));
                self.closing.push(look(word));
            }
            Needle::Mark(word) => {
                first_four(word, |four| self.marked.insert(four));
                self.marks.push(look(word));
            }
            Needle::Joined(before, after) => self.joints.push(Joint { before, after, rule, find }),
        }
    }

    /// Calls `found` with the rule's number and the range of everything in `text[range]` that must go. What goes may
    /// end behind it. Adds to `runs` what may be base64; returns whether something is encoded as in URIs.
    pub(crate) fn each(
        &self,
        text: &[u8],
        range: Range<usize>,
        runs: &mut Vec<Range<usize>>,
        mut found: impl FnMut(u16, Range<usize>),
    ) -> bool {
        let mut pass = Pass {
            detector: self,
            text,
            range: range.clone(),
            done: range.start,
            query: false,
            encoded: false,
            found: &mut found,
        };
        let mut run_end = range.start;
        pass.begin(range.start);
        let mut at = range.start;
        while at < range.end {
            let Sieved { mut others, mut ends, mut dots, base64 } = sieve(lanes(text, at));
            let left = range.end - at;
            if left < LANES {
                others &= (1 << left) - 1;
                ends &= others;
                dots &= others;
            } else if base64 && range.len() >= packed::MIN && at >= run_end.max(pass.done) {
                let run = packed::run(text, at, &range);
                run_end = run.end;
                if packed::may_hold(&text[run.clone()]) {
                    runs.push(run);
                }
            }
            while ends != 0 {
                pass.boundary(at + ends.trailing_zeros() as usize);
                ends &= ends - 1;
            }
            while dots != 0 {
                pass.dot(at + dots.trailing_zeros() as usize);
                dots &= dots - 1;
            }
            while others != 0 {
                pass.begin(at + others.trailing_zeros() as usize + 1);
                others &= others - 1;
            }
            at += LANES;
        }
        pass.encoded
    }

    /// Whether [`Detector::each`] may do anything in `text[range]`. Looks at the same places, but does no more than ask:
    /// with most strings nothing else is done.
    #[inline]
    pub(crate) fn may_find(&self, text: &[u8], range: &Range<usize>) -> bool {
        let may_be_packed = range.len() >= packed::MIN;
        // Whether the byte before `at` belongs to a word.
        let mut within = 0;
        let mut query = false;
        let mut at = range.start;
        while at < range.end {
            // As many bytes together as a mask has bits: most strings are no longer.
            let length = (range.end - at).min(64);
            let (mut words, mut names, mut dots) = (0, 0, 0);
            let mut step = 0;
            while step < length {
                let lanes = lanes(text, at + step);
                let sorted = sort(lanes);
                words |= u64::from(sorted.words) << step;
                names |= u64::from(sorted.names) << step;
                dots |= u64::from(lanes.simd_eq(u8x16::splat(b'.')).to_bitmask()) << step;
                if may_be_packed
                    && sorted.names | lanes.simd_eq(u8x16::splat(b'+')).to_bitmask() == 0xffff
                    && sieve(lanes).base64
                    && packed::may_hold(&text[packed::run(text, at + step, range)])
                {
                    return true;
                }
                step += LANES;
            }
            let valid = u64::MAX >> (64 - length);
            let after = words << 1 | within;
            within = words >> 63;
            let mut begins = words & valid & !after;
            while begins != 0 {
                let here = at + begins.trailing_zeros() as usize;
                if self.begins(text, here) {
                    return true;
                }
                begins &= begins - 1;
            }
            // Only between words.
            let mut dots = dots & valid & after;
            while dots != 0 {
                let here = at + dots.trailing_zeros() as usize;
                if self.joints.iter().any(|joint| joint.fits(&text[..range.end], here)) {
                    return true;
                }
                dots &= dots - 1;
            }
            let mut ends = !names & valid;
            while ends != 0 {
                let step = ends.trailing_zeros();
                let here = at + step as usize;
                if after >> step & 1 != 0 && self.may_tell(text, here)
                    || SPECIAL[usize::from(text[here])] && self.may_be_special(text, here, &mut query)
                {
                    return true;
                }
                ends &= ends - 1;
            }
            at += length;
        }
        false
    }

    /// Whether one of the needles with which a word begins stands at `at`.
    #[inline(always)]
    pub(crate) fn begins(&self, text: &[u8], at: usize) -> bool {
        self.may_begin(text, at) && self.begins_with_any(text, at)
    }

    #[inline(never)]
    fn begins_with_any(&self, text: &[u8], at: usize) -> bool {
        looks_at(&self.starts, text, at).next().is_some()
    }

    /// What [`Pass::boundary`] makes of those bytes that are more than the end of a word.
    #[inline(never)]
    fn may_be_special(&self, text: &[u8], at: usize, query: &mut bool) -> bool {
        match text[at] {
            b':' | b'$' | b'{' => self.may_mark(text, at),
            b'\\' => match text.get(at + 1) {
                Some(b'n' | b'r' | b't' | b'b' | b'f') => self.may_begin(text, at + 2),
                Some(b'u') => self.may_begin(text, at + 6),
                _ => false,
            },
            b'?' => {
                *query = true;
                false
            }
            b'+' => *query,
            _ => true,
        }
    }

    /// The rule for values written in `form`.
    pub(crate) fn rule_of(&self, form: Form) -> Option<u16> {
        self.forms[form as usize]
    }

    /// Whether a look is due at the word that begins at `at`.
    #[inline(always)]
    fn may_begin(&self, text: &[u8], at: usize) -> bool {
        text.get(at..).and_then(|rest| rest.first_chunk()).is_some_and(|first| self.begins.may_hold(*first))
    }

    /// Whether a look is due at the mark that begins at `at`.
    #[inline(always)]
    fn may_mark(&self, text: &[u8], at: usize) -> bool {
        self.marked.may_hold(text[at..].first_chunk().copied().unwrap_or_default())
    }

    /// Whether the name that ends at `at` may be a telling one.
    #[inline(always)]
    pub(crate) fn may_tell(&self, text: &[u8], at: usize) -> bool {
        match text[..at].last_chunk() {
            Some(last) => {
                self.ends.may_hold(*last) || (last[3].is_ascii_digit() && self.may_tell_numbered(text, at))
            }
            None => matches!(text[..at], [a, b, c] if self.ends.may_hold([b' ', a, b, c])),
        }
    }

    /// As [`Detector::may_tell`], for a name that stands in a string of its own.
    #[inline(always)]
    pub(crate) fn may_tell_name(&self, text: &[u8], name: Str) -> bool {
        match name.raw(text).last_chunk::<4>() {
            Some(last) => {
                self.ends.may_hold(*last)
                    || (last[3].is_ascii_digit() && self.may_tell_numbered(text, name.end))
            }
            None => self.may_tell(text, name.end),
        }
    }

    /// `password2`, `token-1`: numbers tell nothing.
    fn may_tell_numbered(&self, text: &[u8], at: usize) -> bool {
        let window = &text[at.saturating_sub(16)..at];
        let mut name = window.trim_ascii_end();
        while let [rest @ .., b'0'..=b'9' | b'_' | b'-' | b'.'] = name {
            name = rest;
        }
        name.last_chunk().is_some_and(|last| self.ends.may_hold(*last))
    }

    /// The rule for `value` beside a telling name, written in `form`: one that takes the value as a whole for what it
    /// is says more than the name.
    pub(crate) fn rule_for(&self, value: &[u8], form: Form) -> Option<u16> {
        let whole = |look: &Look| {
            let found = (look.find)(value, 0, look.word)?;
            (found == (0..value.len())).then_some(look.rule)
        };
        // Most values do not begin as any does.
        let rule =
            if self.may_begin(value, 0) { looks_at(&self.starts, value, 0).find_map(whole) } else { None };
        rule.or(self.rule_of(form))
    }
}

/// One pass over a text.
struct Pass<'d, F> {
    detector: &'d Detector,
    text: &'d [u8],
    /// What of the text is passed over.
    range: Range<usize>,
    /// What was found ends here: nothing inside of it is looked at.
    done: usize,
    /// A query string has begun.
    query: bool,
    /// Something was encoded as in URIs.
    encoded: bool,
    found: &'d mut F,
}

impl<F: FnMut(u16, Range<usize>)> Pass<'_, F> {
    /// A byte that belongs to no word, and is none of those at which a name never ends, stands at `at`.
    #[inline(always)]
    fn boundary(&mut self, at: usize) {
        let byte = self.text[at];
        if self.detector.may_tell(self.text, at) {
            self.end(at);
        }
        match byte {
            b':' | b'$' | b'{' | b'%' => self.mark(at),
            b'~' => self.look(&self.detector.marks, at),
            b'\\' => match self.text.get(at + 1) {
                Some(b'n' | b'r' | b't' | b'b' | b'f') => self.begin(at + 2),
                Some(b'u') => self.begin(at + 6),
                _ => {}
            },
            _ => {}
        }
        self.query |= byte == b'?';
        self.encoded |= (byte == b'+' && self.query) || (byte == b'%' && percent(&self.text[at..]).is_some());
    }

    /// A dot stands at `at`.
    #[inline(always)]
    fn dot(&mut self, at: usize) {
        let text = &self.text[..self.range.end];
        if at < self.done {
            return;
        }
        let fitting = self.detector.joints.iter().filter(|joint| joint.fits(text, at));
        let found = fitting
            .filter_map(|joint| Some((joint.rule, (joint.find)(text, at - joint.before, ".")?)))
            .next();
        if let Some((rule, range)) = found {
            self.tell(rule, range);
        }
    }

    /// A word may begin at `at`.
    #[inline(always)]
    fn begin(&mut self, at: usize) {
        if self.detector.may_begin(self.text, at) {
            self.start(at);
        }
    }

    #[inline(never)]
    fn start(&mut self, at: usize) {
        self.look(&self.detector.starts, at);
    }

    #[inline(always)]
    fn mark(&mut self, at: usize) {
        if self.detector.may_mark(self.text, at) {
            self.look(&self.detector.marks, at);
        }
    }

    fn look(&mut self, looks: &[Look], at: usize) {
        if at < self.done {
            return;
        }
        let text = self.text;
        let found = looks_at(looks, text, at).find_map(|look| {
            let range = (look.find)(text, at, look.word)?;
            Some((look.rule, range))
        });
        if let Some((rule, range)) = found {
            self.tell(rule, range);
        }
    }

    fn tell(&mut self, rule: u16, range: Range<usize>) {
        self.done = self.done.max(range.end);
        (self.found)(rule, range);
    }

    /// A word ends at `at` whose end may tell something.
    #[inline(never)]
    fn end(&mut self, at: usize) {
        if at < self.done {
            return;
        }
        for look in &self.detector.closing {
            if self.text[..at].ends_with(look.word.as_bytes())
                && let Some(range) = (look.find)(self.text, at - look.word.len(), look.word)
            {
                self.tell(look.rule, range);
                return;
            }
        }
        if self.detector.pairs {
            let (detector, text) = (self.detector, &self.text[..self.range.end]);
            pairs::look(text, self.range.start, at, &mut |form, range| {
                if let Some(rule) = detector.rule_for(&text[range.clone()], form) {
                    self.tell(rule, range);
                }
            });
        }
    }
}

/// Tells the first four bytes of what begins with `word`; a needle is a constant, and has at least two bytes.
fn first_four(word: &str, mut tell: impl FnMut([u8; 4])) {
    match *word.as_bytes() {
        [a, b, c, d, ..] => tell([a, b, c, d]),
        [a, b, c] => {
            // A word goes on with more of itself; what follows a mark may be anything.
            let word = a.is_ascii_alphanumeric();
            let more = (0..=u8::MAX).filter(|b| !word || is_base64url(*b) || matches!(b, b'.' | b'/' | b':'));
            more.for_each(|any| tell([a, b, c, any]));
        }
        // Rare enough to look at each.
        [b'~'] => {}
        _ => debug_assert!(false, "the needle {word:?} is too short"),
    }
}

/// Those of `looks`, which are in the order of their first bytes, whose word stands at `at`.
fn looks_at<'l>(looks: &'l [Look], text: &'l [u8], at: usize) -> impl Iterator<Item = &'l Look> {
    let rest = &text[at..];
    let first = rest.first_chunk().map_or(0, |first| u32::from_le_bytes(*first));
    let byte = rest.first().copied();
    let from = looks.partition_point(|look| look.word.as_bytes().first().copied() < byte);
    let these = looks[from..].iter().take_while(move |look| look.word.as_bytes().first().copied() == byte);
    these.filter(move |look| first & look.mask == look.first && rest.starts_with(look.word.as_bytes()))
}

/// Bytes that are looked at together.
const LANES: usize = 16;

/// The bytes from `at` on.
#[inline(always)]
fn lanes(text: &[u8], at: usize) -> u8x16 {
    match text[at..].first_chunk() {
        Some(lanes) => u8x16::new(*lanes),
        None => last_lanes(&text[at..]),
    }
}

/// The last bytes of a text, and zeros.
#[cold]
fn last_lanes(rest: &[u8]) -> u8x16 {
    let mut lanes = [0; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    u8x16::new(lanes)
}

/// The bytes that are more than the end of a word.
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let bytes = b":$%{~\\?+";
    let mut at = 0;
    while at < bytes.len() {
        special[bytes[at] as usize] = true;
        at += 1;
    }
    special
};

/// Some bytes by what they are, as masks.
struct Sorted {
    /// Those that belong to words.
    words: u32,
    /// Those, dots and slashes.
    names: u32,
}

#[inline(always)]
fn sort(lanes: u8x16) -> Sorted {
    let letters = within(lanes | u8x16::splat(0x20), b'a', 26);
    // Dash, dot, slash and digits follow each other.
    let names = letters | within(lanes, b'-', 13) | lanes.simd_eq(u8x16::splat(b'_'));
    let words = names & !within(lanes, b'.', 2);
    Sorted { words: words.to_bitmask(), names: names.to_bitmask() }
}

/// Those of `lanes` that are one of `count` bytes from `from`.
#[inline(always)]
fn within(lanes: u8x16, from: u8, count: u8) -> u8x16 {
    let moved = lanes - u8x16::splat(from);
    moved.min(u8x16::splat(count - 1)).simd_eq(moved)
}

/// What is to be done with some bytes, as masks.
struct Sieved {
    /// Those that belong to no word.
    others: u32,
    /// Those of them before which a name may end: dots and slashes are the commonest of all, and join names.
    ends: u32,
    /// Those that are dots.
    dots: u32,
    /// Whether they may be in the midst of base64: all others are slashes or plus signs, and a capital is among them, as
    /// in few names.
    base64: bool,
}

#[inline(always)]
fn sieve(lanes: u8x16) -> Sieved {
    let letters = within(lanes | u8x16::splat(0x20), b'a', 26);
    let digits = within(lanes, b'0', 10);
    let joints = lanes.simd_eq(u8x16::splat(b'_')) | lanes.simd_eq(u8x16::splat(b'-'));
    let words = letters | digits | joints;
    let is = |byte| lanes.simd_eq(u8x16::splat(byte));
    let slashes = is(b'/');
    let others = !words.to_bitmask() & 0xffff;
    let base64 = (words | slashes | is(b'+')).to_bitmask() == 0xffff && within(lanes, b'A', 26).any();
    let (slashes, dots) = (slashes.to_bitmask(), is(b'.').to_bitmask());
    Sieved { others, ends: others & !(slashes | dots), dots, base64 }
}

/// The end of the run of bytes that `keep` accepts, from `at`.
pub(crate) fn run(text: &[u8], at: usize, keep: impl Fn(u8) -> bool) -> usize {
    text[at..].iter().position(|b| !keep(*b)).map_or(text.len(), |step| at + step)
}

/// A byte of unpadded base64url (RFC 4648 §5).
pub(crate) fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// Whether the byte before `at` cannot belong to a token that begins there.
pub(crate) fn begins(text: &[u8], at: usize) -> bool {
    match &text[..at] {
        [.., b'\\', b'n' | b'r' | b't' | b'b' | b'f'] | [.., b'\\', b'u', _, _, _, _] | [.., b'%', _, _] => {
            true
        }
        [.., before] => !(before.is_ascii_alphanumeric() || *before == b'_' || *before == b'-'),
        [] => true,
    }
}

/// A token of a known form: `prefix` at `at`, then as many bytes that `keep` accepts as `length` says, not all alike.
pub(crate) fn token(
    text: &[u8],
    at: usize,
    prefix: &str,
    keep: impl Fn(u8) -> bool,
    length: std::ops::RangeInclusive<usize>,
) -> Option<Range<usize>> {
    if !text[at..].starts_with(prefix.as_bytes()) || !begins(text, at) {
        return None;
    }
    let body = at + prefix.len();
    let window = &text[..text.len().min(body + length.end() + 1)];
    let end = run(window, body, keep);
    (length.contains(&(end - body)) && is_varied(&text[body..end])).then_some(at..end)
}

/// Whether `value` holds enough different bytes for no placeholder (`xxxxxxxx`, `00000000`).
pub(crate) fn is_varied(value: &[u8]) -> bool {
    let mut seen = [0u64; 4];
    for byte in value {
        seen[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }
    seen.iter().map(|word| word.count_ones()).sum::<u32>() >= 6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::RULES;

    #[test]
    fn the_tables_are_sparse() {
        let detector = Detector::new(RULES);
        for fours in [&detector.begins, &detector.ends] {
            let set: u32 = fours.bits.iter().map(|word| word.count_ones()).sum();
            assert!(set < (1 << BITS) / 8, "{set} of {} bits are set", 1 << BITS);
        }
    }

    /// What [`Detector::may_find`] relies on.
    #[test]
    fn words_begin_and_end_with_letters_or_digits() {
        let detector = Detector::new(RULES);
        assert!(detector.starts.iter().all(|look| look.word.as_bytes()[0].is_ascii_alphanumeric()));
        assert!(detector.closing.iter().all(|look| look.word.ends_with(|c: char| c.is_ascii_alphanumeric())));
        names::endings(|four| assert!(four[3].is_ascii_alphanumeric(), "{four:?}"));
    }

    #[test]
    fn words_are_letters_digits_and_joints() {
        for byte in 0..=u8::MAX {
            let word = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            assert_eq!(sieve(u8x16::splat(byte)).others == 0, word, "{byte:#x}");
            let Sorted { words, names, .. } = sort(u8x16::splat(byte));
            assert_eq!(words != 0, word, "{byte:#x}");
            assert_eq!(names != 0, word || matches!(byte, b'.' | b'/'), "{byte:#x}");
        }
    }
}
