//! Credentials by their form: one multi-pattern pass finds where to look, then each rule decides.

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

/// All text rules behind one prefilter.
#[derive(Clone)]
pub(crate) struct Detector {
    needles: Option<Needles>,
    /// By pattern: the rule's number, and its function.
    finds: Vec<(u16, Find)>,
}

impl Detector {
    /// Compiles the text rules of `rules` (numbered by position).
    pub(crate) fn new(rules: &[&'static Rule]) -> Detector {
        let (mut needles, mut finds) = (Vec::new(), Vec::new());
        for (number, rule) in rules.iter().enumerate() {
            if let Selector::Text { needles: words, find } = &rule.selector {
                for word in *words {
                    needles.push(*word);
                    finds.push((number as u16, *find));
                }
            }
        }
        let needles = (!needles.is_empty()).then(|| Needles::new(&needles));
        Detector { needles, finds }
    }

    /// Calls `found` with the rule's number and the range of everything that must go.
    pub(crate) fn each(&self, text: &[u8], mut found: impl FnMut(u16, Range<usize>)) {
        let Some(needles) = &self.needles else { return };
        let mut done = 0;
        needles.each(text, |hit| {
            if hit.start() < done {
                return;
            }
            let (rule, find) = self.finds[hit.pattern().as_usize()];
            if let Some(range) = find(text, hit.start()) {
                done = range.end;
                found(rule, range);
            }
        });
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
