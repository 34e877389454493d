//! Credentials by their form: one multi-pattern pass finds where to look, then each rule decides.

use crate::pairs::{self, FORMS, Form};
use crate::rules::{Rule, Selector};
use aho_corasick::packed::{Config, MatchKind, Searcher};
use aho_corasick::{AhoCorasick, Match};
use std::ops::Range;

/// Looks at `text` around the needle at `at` and tells what must go.
pub(crate) type Find = fn(text: &[u8], at: usize) -> Option<Range<usize>>;

/// The search for all needles at once. The vectorised searcher is named outright: by itself the automaton would
/// look for needles' first bytes, which here are the commonest of all.
#[derive(Clone)]
enum Needles {
    /// Teddy, where the processor has it.
    Packed(Searcher),
    /// The automaton.
    Automaton(AhoCorasick),
}

impl Needles {
    fn new(words: &[&str]) -> Needles {
        let packed = Config::new().match_kind(MatchKind::LeftmostFirst).builder().extend(words).build();
        packed.map_or_else(
            || {
                let automaton = AhoCorasick::builder()
                    .match_kind(aho_corasick::MatchKind::LeftmostFirst)
                    .build(words)
                    .expect("a handful of short constant needles always compiles");
                Needles::Automaton(automaton)
            },
            Needles::Packed,
        )
    }

    fn each(&self, text: &[u8], hit: impl FnMut(Match)) {
        match self {
            Needles::Packed(searcher) => searcher.find_iter(text).for_each(hit),
            Needles::Automaton(automaton) => automaton.find_iter(text).for_each(hit),
        }
    }
}

/// What to do at a needle.
#[derive(Clone, Copy)]
enum Look {
    /// Ask the rule.
    Text(u16, Find),
    /// Look for a name and its value.
    Pair,
}

/// Needles of about one length, and what to do at each.
#[derive(Clone)]
struct Set {
    needles: Needles,
    /// By pattern.
    looks: Vec<Look>,
}

/// Needles of so many bytes go into the first set. The searcher sieves by as many bytes as the shortest needle
/// has, four at most, so short ones among many others would let nearly every position through.
const LONG: usize = 4;

/// All text rules behind one prefilter.
#[derive(Clone)]
pub(crate) struct Detector {
    sets: Vec<Set>,
    /// The needles of text rules.
    words: Vec<(&'static str, Look)>,
    /// The rule's number, by the position of its form in [`FORMS`].
    forms: [Option<u16>; FORMS.len()],
}

impl Detector {
    /// Compiles the text rules of `rules` (numbered by position).
    ///
    /// The vectorised searcher takes at most 64 needles; more would fall back to the automaton, at a third of the
    /// speed (a test counts them).
    pub(crate) fn new(rules: &[&'static Rule]) -> Detector {
        let mut all: Vec<(&'static str, Look)> = Vec::new();
        let mut forms = [None; FORMS.len()];
        for (number, rule) in rules.iter().enumerate() {
            match &rule.selector {
                Selector::Text { needles, find } => {
                    all.extend(needles.iter().map(|word| (*word, Look::Text(number as u16, *find))));
                }
                Selector::Pair(form) => forms[*form as usize] = Some(number as u16),
                Selector::Fields { .. } | Selector::LastApplied => {}
            }
        }
        if forms.iter().any(Option::is_some) {
            all.extend(pairs::NEEDLES.iter().map(|word| (*word, Look::Pair)));
        }
        let (long, short): (Vec<_>, Vec<_>) = all.iter().copied().partition(|(word, _)| word.len() >= LONG);
        let set = |needles: &[(&'static str, Look)]| {
            let (words, looks): (Vec<&str>, Vec<Look>) = needles.iter().copied().unzip();
            Set { needles: Needles::new(&words), looks }
        };
        let sets = long.chunks(32).chain(short.chunks(32)).map(set).collect();
        all.retain(|(_, look)| matches!(look, Look::Text(..)));
        Detector { sets, words: all, forms }
    }

    /// Calls `found` with the rule's number and the range of everything that must go.
    pub(crate) fn each(&self, text: &[u8], mut found: impl FnMut(u16, Range<usize>)) {
        for set in &self.sets {
            let mut done = 0;
            set.needles.each(text, |hit| {
                if hit.start() < done {
                    return;
                }
                match set.looks[hit.pattern().as_usize()] {
                    Look::Text(rule, find) => {
                        if let Some(range) = find(text, hit.start()) {
                            done = range.end;
                            found(rule, range);
                        }
                    }
                    Look::Pair => pairs::look(text, hit.start(), &mut |form, range| {
                        done = done.max(range.end);
                        let rule = self.by_form(&text[range.clone()]).or(self.rule_of(form));
                        if let Some(rule) = rule {
                            found(rule, range);
                        }
                    }),
                }
            });
        }
    }

    /// The rule of something that must go, if there is anything.
    pub(crate) fn first(&self, text: &[u8]) -> Option<u16> {
        let mut first = None;
        self.each(text, |rule, _| first = first.or(Some(rule)));
        first
    }

    /// The rule for values written in `form`.
    pub(crate) fn rule_of(&self, form: Form) -> Option<u16> {
        self.forms[form as usize]
    }

    /// The rule that takes `value` as a whole for what it is: that says more than the name beside it.
    fn by_form(&self, value: &[u8]) -> Option<u16> {
        let begins = |(word, _): &&(&str, Look)| value.starts_with(word.as_bytes());
        match self.words.iter().find(begins) {
            Some((_, Look::Text(rule, find))) => {
                find(value, 0).filter(|range| *range == (0..value.len())).map(|_| *rule)
            }
            _ => None,
        }
    }
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
        [.., b'\\', b'n' | b'r' | b't'] | [.., b'\\', b'u', _, _, _, _] | [.., b'%', _, _] => true,
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
    fn the_needles_fit_the_vectorised_searcher() {
        let detector = Detector::new(RULES);
        for set in &detector.sets {
            assert!(set.looks.len() <= 64, "{} needles", set.looks.len());
        }
    }
}
