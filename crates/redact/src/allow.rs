//! What stays although a rule would take it: the user's suppressions, compiled, and what they have spared.
//!
//! Each edit is judged by itself before it is made, so that a value that one rule leaves is still looked at by all
//! others. Refuses to spare what the agent takes on its own account (see [`Pen::strict`] and the redactor's own rules).

use crate::config::Allow;
use crate::patch;
use crate::path::{Leaf, PathSet, Select, States};
use crate::redactor::Invalid;
use auditship_event::scan;
use auditship_event::{Event, Keys, text};
use auditship_rule::pattern::Glob;
use std::ops::Range;

/// A reason is a label of metrics.
const MAX_REASON: usize = 200;

/// The suppressions, compiled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed {
    list: Vec<One>,
    /// The reasons, each once.
    reasons: Vec<String>,
}

#[derive(Clone, Debug)]
struct One {
    what: What,
    /// Numbers of the rules that it is about; `None` for all.
    rules: Option<Vec<u16>>,
    /// Its place in `reasons`.
    reason: usize,
}

#[derive(Clone, Debug)]
enum What {
    /// The token of the value; `None` where it was made with another key.
    Value(Option<[u8; 16]>),
    Path(PathSet),
    Pattern(Glob),
}

/// Where replacements are written, and what is known of the event meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Pen {
    /// The replacement in the making.
    pub(crate) text: Vec<u8>,
    /// Nothing is spared: the text at hand is that of a stub.
    pub(crate) strict: bool,
    /// What the paths select in the event at hand, sorted and disjoint; beside the suppressions.
    places: Vec<Vec<Range<usize>>>,
    /// What was spared in the line at hand, and the reason's place.
    spared: Vec<(usize, usize, usize)>,
}

impl Allowed {
    /// Compiles `config` for rules of these `names`.
    ///
    /// # Errors
    /// [`Invalid`] with the place from the `redact` section.
    pub(crate) fn compile(config: &[Allow], names: &[String], keys: &Keys) -> Result<Allowed, Invalid> {
        let mut allowed = Allowed::default();
        for (index, allow) in config.iter().enumerate() {
            let invalid = |at: &str, why: String| Invalid { at: format!("allow[{index}]{at}"), why };
            check_reason(&allow.reason).map_err(|why| invalid(".reason", why.to_owned()))?;
            let what = match (&allow.value, &allow.path, &allow.pattern) {
                (Some(value), None, None) => {
                    let (key, hash) = token(value).ok_or_else(|| {
                        let why = "expected KEY-HASH, as at the end of a token: 8 and 16 hexadecimal digits";
                        invalid(".value", why.to_owned())
                    })?;
                    What::Value((key == keys.id().to_string()).then_some(hash))
                }
                (None, Some(path), None) => {
                    What::Path(PathSet::new(&[path]).map_err(|(_, why)| invalid(".path", why))?)
                }
                (None, None, Some(pattern)) => {
                    if allow.rules.is_empty() && pattern.bytes().all(|b| matches!(b, b'*' | b'?')) {
                        let why = "a pattern of wildcards alone lets everything stay: name the `rules`";
                        return Err(invalid(".pattern", why.to_owned()));
                    }
                    What::Pattern(Glob::new(pattern))
                }
                _ => {
                    let why = "exactly one of `value`, `path` and `pattern` says what stays";
                    return Err(invalid("", why.to_owned()));
                }
            };
            let number = |name: &String| names.iter().position(|known| known == name);
            let numbers = allow.rules.iter().filter_map(number).map(|number| number as u16);
            // Rules that are not among these (switched off, not chosen) take nothing, so nothing of theirs stays.
            let rules = (!allow.rules.is_empty()).then(|| numbers.collect());
            let known = allowed.reasons.iter().position(|reason| *reason == allow.reason);
            let reason = known.unwrap_or_else(|| {
                allowed.reasons.push(allow.reason.clone());
                allowed.reasons.len() - 1
            });
            allowed.list.push(One { what, rules, reason });
        }
        Ok(allowed)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The reasons of values whose hash was made with another key.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = &str> {
        let foreign = |one: &&One| matches!(one.what, What::Value(None));
        self.list.iter().filter(foreign).map(|one| self.reasons[one.reason].as_str())
    }

    /// Why things stay; the counts run beside it.
    pub(crate) fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// Finds what the paths select in `event`, whose first byte stands at `base` of the line. In bodies that are JSON
    /// Patches too, as for rules.
    pub(crate) fn locate(
        &self,
        event: &Event<'_>,
        base: usize,
        pen: &mut Pen,
        stack: &mut Vec<States>,
        leaves: &mut Vec<Leaf>,
    ) {
        pen.places.resize(self.list.len(), Vec::new());
        for (one, places) in self.list.iter().zip(&mut pen.places) {
            places.clear();
            let What::Path(set) = &one.what else { continue };
            let raw = event.raw();
            leaves.clear();
            let _ = scan::value(raw, 0, &mut Select::new(raw, set, set.start(), stack, leaves));
            places.extend(leaves.iter().map(|leaf| base + leaf.range.start..base + leaf.range.end));
            if let Some(body) = event.request_object() {
                let states = set.step(set.start(), b"requestObject");
                let from = base + body.start;
                let body = &raw[body];
                for (path, value) in patch::operations(body) {
                    let states = set.step_pointer(states, &text::decoded(body, path));
                    leaves.clear();
                    let _ = scan::value(body, value, &mut Select::new(body, set, states, stack, leaves));
                    places.extend(leaves.iter().map(|leaf| from + leaf.range.start..from + leaf.range.end));
                }
            }
            places.sort_unstable_by_key(|place| (place.start, place.end));
            places.dedup();
        }
    }

    /// Whether `rule` must leave the value `raw`, which stands at `range` of the line.
    pub(crate) fn spares(
        &self,
        rule: u16,
        raw: &[u8],
        range: &Range<usize>,
        keys: &Keys,
        pen: &mut Pen,
    ) -> bool {
        if pen.strict {
            return false;
        }
        let (mut plain, mut hash) = (None, None);
        let found = self.list.iter().enumerate().find(|(at, one)| {
            if one.rules.as_ref().is_some_and(|rules| !rules.contains(&rule)) {
                return false;
            }
            match &one.what {
                What::Value(want) => {
                    let plain = plain.get_or_insert_with(|| plain_text(raw));
                    want.is_some_and(|want| want == *hash.get_or_insert_with(|| keys.token(plain)))
                }
                What::Path(_) => pen.places.get(*at).is_some_and(|places| {
                    let at = places.partition_point(|place| place.end < range.end);
                    places.get(at).is_some_and(|place| place.start <= range.start && range.end <= place.end)
                }),
                What::Pattern(glob) => {
                    let plain = plain.get_or_insert_with(|| plain_text(raw));
                    std::str::from_utf8(plain).is_ok_and(|text| glob.matches(text))
                }
            }
        });
        if let Some((_, one)) = found {
            pen.spared.push((range.start, range.end, one.reason));
        }
        found.is_some()
    }
}

impl Pen {
    /// Forgets the line before.
    pub(crate) fn begin(&mut self) {
        self.strict = false;
        self.places.iter_mut().for_each(Vec::clear);
        self.spared.clear();
    }

    /// Counts what was spared, by the reason's place. The same value under several rules is one.
    pub(crate) fn settle(&mut self, counts: &mut [u64]) {
        self.spared.sort_unstable();
        self.spared.dedup();
        for (_, _, reason) in self.spared.drain(..) {
            counts[reason] += 1;
        }
    }
}

/// The text of a value as it stands in its document.
pub(crate) fn plain_text(raw: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !raw.contains(&b'\\') {
        return raw.into();
    }
    let mut plain = Vec::with_capacity(raw.len());
    text::unescape(raw, &mut plain, |_, _| {});
    plain.into()
}

fn check_reason(reason: &str) -> Result<(), &'static str> {
    if reason.trim().is_empty() {
        Err("say why it may leave")
    } else if reason.len() > MAX_REASON || reason.contains(char::is_control) {
        Err("a reason is one line of at most 200 bytes")
    } else {
        Ok(())
    }
}

/// The two halves of `KEY-HASH`.
fn token(text: &str) -> Option<(&str, [u8; 16])> {
    let (key, hash) = text.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let hash = hash.as_bytes().try_into().ok().filter(|_| digits(hash))?;
    (key.len() == 8 && digits(key)).then_some((key, hash))
}
