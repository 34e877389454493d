//! The compiled catalogue: an event in, edits out.
//!
//! Order of work on one event: its bytes (UTF-8, then detectors over the raw line), the bodies of requests for
//! resources that have rules, then one sweep that finds objects by their kind and opens documents inside strings,
//! which are swept in turn. Every step adds edits in raw coordinates; where they overlap the enclosing one wins.

mod closer;

use crate::allow::{Allowed, Pen, plain_text};
use crate::clean::{Clean, CleanTexts};
use crate::config::{Action, Catalogue, RedactConfig};
use crate::detect::Detector;
use crate::digest;
use crate::nested::{Decoded, Place};
use crate::packed;
use crate::patch;
use crate::path::{Leaf, PathSet, Select, States};
use crate::rules::{RULES, Resource, Rule, Selector};
use crate::stub;
use crate::sweep::{Found, Sweep};
use crate::twins::{Mark, Twins};
use crate::yaml::Yaml;
use auditship_event::scan;
use auditship_event::{Body, Broken, Edits, Event, Keys, ObjectRef, Span, text};
use auditship_rule::{Facts, Matcher};
use memchr::memmem;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What the agent's own edits are called, after the catalogue's rules.
const INVALID_UTF8: &str = "invalid-utf8";
const NESTED_LIMIT: &str = "nested-limit";
const FAILED_CLOSED: &str = "failed-closed";
const OWN: [&str; 3] = [INVALID_UTF8, NESTED_LIMIT, FAILED_CLOSED];

/// Why a redaction configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Where, from the `redact` section: `rules[2].paths[0]`.
    pub at: String,
    /// What is wrong.
    pub why: String,
}

/// An event whose line was looked through while it was parsed. Hand it back with [`Redactor::body_of`] or
/// [`Redactor::forget`], so that its memory is used again.
pub struct Looked<'a> {
    /// The event.
    pub event: Event<'a>,
    found: Found,
    mark: Option<Mark>,
    /// Nothing was found in another line that is the same where it matters.
    twin: bool,
}

/// What is known of an event before it is edited.
enum Known<'f> {
    /// It is valid.
    Parsed,
    /// What the look at its line has found.
    Found(&'f Found),
    /// There is nothing in it.
    Nothing,
}

/// The redactor panicked over an event. What it knew of the event is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// A rule over fields, compiled.
#[derive(Clone)]
struct Fields {
    rule: u16,
    set: PathSet,
    resources: &'static [Resource],
    /// The name of the object that the request is for is one.
    named: bool,
}

/// What an object's name stands at.
const NAMES: &[&str] = &["metadata.name", "items.metadata.name", "rows.object.metadata.name", "rows.cells"];

/// A shorter name is not looked for in the rest of the event: it would be found in words.
const NAME_BYTES: usize = 16;

/// A rule of the user's.
#[derive(Clone)]
struct UserRule {
    rule: u16,
    matcher: Matcher,
    set: PathSet,
}

/// The compiled redaction. Immutable; one serves all consumers.
#[derive(Clone)]
pub struct Redactor {
    keys: Keys,
    names: Vec<String>,
    actions: Vec<Action>,
    fields: Vec<Fields>,
    /// Kinds that have rules, and beside each the rule's place in `fields`.
    kinds: Vec<&'static str>,
    kind_fields: Vec<usize>,
    user: Vec<UserRule>,
    /// The resources that rules over fields are about.
    resources: Vec<&'static str>,
    last_applied: Option<u16>,
    detector: Detector,
    /// Finds the end of a member's name without which text holds no object of a kind.
    kind: memmem::Finder<'static>,
    allowed: Allowed,
    /// The first of the agent's own rules, which nothing suppresses.
    own: u16,
    on: bool,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("rules", &self.names).finish_non_exhaustive()
    }
}

/// Memory that is reused from event to event, and the counts of what was done. It serves one redactor.
#[derive(Debug, Default)]
pub struct Scratch {
    edits: Edits,
    stack: Vec<States>,
    leaves: Vec<Leaf>,
    pool: Vec<(Decoded, Found)>,
    spare: Option<Found>,
    text: Pen,
    /// What was packed in strings, one a depth.
    opened: Vec<Vec<u8>>,
    /// Runs of base64 in text, one list a depth.
    runs: Vec<Vec<Range<usize>>>,
    yaml: Yaml,
    /// Strings in which nothing was found, as they stand, and those that are spelled with escapes.
    clean: CleanTexts,
    clean_spelled: Clean<256, 254>,
    /// Lines in which nothing was found.
    twins: Twins,
    /// How many bytes of the line's packed strings may still be opened.
    budget: usize,
    stub: Vec<u8>,
    counts: Vec<u64>,
    /// How often each reason has let something stay.
    allowed: Vec<u64>,
}

impl Scratch {
    /// How often each rule has changed something, by the rule's number.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The edits of the last event.
    pub fn edits(&self) -> &Edits {
        &self.edits
    }

    /// Takes `bytes` from what of this line may still be opened; `false`: that is used up.
    fn spend(&mut self, bytes: usize) -> bool {
        let left = self.budget.checked_sub(bytes);
        self.budget = left.unwrap_or(0);
        left.is_some()
    }

    fn settle(&mut self) {
        self.edits.settle();
        for edit in self.edits.iter() {
            self.counts[usize::from(edit.rule)] += 1;
        }
        self.text.settle(&mut self.allowed);
    }
}

impl Redactor {
    /// Compiles the catalogue and the user's rules.
    ///
    /// # Errors
    /// [`Invalid`] where a path or a matching word of the user's rules is wrong.
    pub fn new(config: &RedactConfig, keys: Keys) -> Result<Redactor, Invalid> {
        let builtin: &[&'static Rule] = if config.catalogue == Catalogue::Default { RULES } else { &[] };
        Redactor::of(builtin, config, keys)
    }

    /// Compiles these built-in rules and the user's, whatever `config` says of the catalogue.
    ///
    /// # Errors
    /// As [`Redactor::new`].
    pub fn of(builtin: &[&'static Rule], config: &RedactConfig, keys: Keys) -> Result<Redactor, Invalid> {
        let mut redactor = Redactor {
            keys,
            names: builtin.iter().map(|rule| rule.name.to_owned()).collect(),
            actions: builtin
                .iter()
                .map(|rule| config.actions.get(rule.name).copied().unwrap_or(rule.action))
                .collect(),
            fields: Vec::new(),
            kinds: Vec::new(),
            kind_fields: Vec::new(),
            user: Vec::new(),
            resources: Vec::new(),
            last_applied: None,
            detector: Detector::new(builtin),
            kind: memmem::Finder::new(b"kind\""),
            allowed: Allowed::default(),
            own: 0,
            on: !builtin.is_empty(),
        };
        for (number, rule) in builtin.iter().enumerate() {
            redactor.add_builtin(number as u16, rule);
        }
        redactor.add_user(config)?;
        redactor.allowed = Allowed::compile(&config.allow, &redactor.names, &redactor.keys)?;
        redactor.own = redactor.names.len() as u16;
        for own in OWN {
            redactor.names.push(own.to_owned());
            redactor.actions.push(Action::Mask);
        }
        Ok(redactor)
    }

    fn add_builtin(&mut self, rule: u16, from: &'static Rule) {
        match &from.selector {
            Selector::Fields { kinds, resources, paths } => {
                self.add_fields(rule, kinds, resources, paths, false)
            }
            Selector::Name { kinds, resources } => self.add_fields(rule, kinds, resources, NAMES, true),
            Selector::LastApplied => self.last_applied = Some(rule),
            Selector::Text { .. } | Selector::Pair(_) => {}
        }
    }

    fn add_fields(
        &mut self,
        rule: u16,
        kinds: &[&'static str],
        resources: &'static [Resource],
        paths: &[&str],
        named: bool,
    ) {
        self.kinds.extend_from_slice(kinds);
        self.kind_fields.resize(self.kinds.len(), self.fields.len());
        self.resources.extend(resources.iter().map(|resource| resource.resource));
        self.resources.sort_unstable_by_key(|resource| (resource.len(), *resource));
        self.resources.dedup();
        let set = PathSet::new(paths).expect("the catalogue's paths are constants, compiled by every test");
        self.fields.push(Fields { rule, set, resources, named });
    }

    fn add_user(&mut self, config: &RedactConfig) -> Result<(), Invalid> {
        for (index, rule) in config.rules.iter().enumerate() {
            let invalid = |at: String, why: String| Invalid { at: format!("rules[{index}].{at}"), why };
            let known = self.names.contains(&rule.name);
            if known || OWN.contains(&&*rule.name) {
                return Err(invalid("name".into(), format!("there is a rule named {:?} already", rule.name)));
            }
            if rule.name.is_empty()
                || !rule.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            {
                return Err(invalid("name".into(), "a name is made of letters, digits, dots, dashes".into()));
            }
            let matcher = Matcher::compile(&rule.matches)
                .map_err(|e| invalid(auditship_rule::invalid::join("match", &e.path), e.message))?;
            if rule.paths.is_empty() {
                return Err(invalid("paths".into(), "a rule needs at least one path".into()));
            }
            let set = PathSet::new(&rule.paths).map_err(|(at, why)| invalid(format!("paths[{at}]"), why))?;
            let number = self.names.len() as u16;
            self.names.push(rule.name.clone());
            self.actions.push(rule.action);
            self.user.push(UserRule { rule: number, matcher, set });
            self.on = true;
        }
        Ok(())
    }

    /// The rules' names, by number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The reasons of suppressions by a value's hash that was made with another key: they let nothing stay.
    pub fn foreign_values(&self) -> impl Iterator<Item = &str> {
        self.allowed.foreign()
    }

    /// The reasons that have let something stay, with how often.
    pub fn count_allowed(&self, scratch: &Scratch) -> BTreeMap<String, u64> {
        let counts = scratch.allowed.iter().copied();
        self.allowed.reasons().iter().cloned().zip(counts).filter(|(_, count)| *count > 0).collect()
    }

    /// What the rule of this number does with a value.
    pub fn action(&self, rule: u16) -> Action {
        self.actions[usize::from(rule)]
    }

    /// Parses `raw` and looks through it in the same pass, where it is one audit event and nothing else.
    pub fn look<'a>(&self, raw: &'a [u8], scratch: &mut Scratch) -> Option<Looked<'a>> {
        let mut found = scratch.spare.take().unwrap_or_default();
        // Where a user lets something stay, that is counted each time.
        let mark = if self.allowed.is_empty() { Mark::of(raw) } else { None };
        if let Some(outline) = mark.and_then(|mark| scratch.twins.outline(mark, raw)) {
            return Some(Looked { event: Event::like(raw, outline), found, mark, twin: true });
        }
        let mut sweep = Sweep::new(raw, &self.kinds, &self.detector, &mut found);
        let parsed = Event::parse_first_with(raw, &mut sweep);
        match parsed {
            Ok((event, [])) if event.is_audit() => Some(Looked { event, found, mark, twin: false }),
            _ => {
                scratch.spare = Some(found);
                None
            }
        }
    }

    /// Takes back an event that does not leave.
    pub fn forget(&self, looked: Looked<'_>, scratch: &mut Scratch) {
        scratch.spare = Some(looked.found);
    }

    /// What of an event that was looked through may leave.
    ///
    /// # Errors
    /// As [`Redactor::body`].
    pub fn body_of<'s>(&self, looked: &Looked<'s>, scratch: &'s mut Scratch) -> Result<Body<'s>, Panicked> {
        let event = &looked.event;
        if looked.twin {
            return self.edit(event, &Known::Nothing, scratch);
        }
        self.edit(event, &Known::Found(&looked.found), scratch)?;
        if let (Some(mark), true) = (looked.mark, scratch.edits.is_empty()) {
            scratch.twins.keep(mark, event);
        }
        Ok(Body::redacted(event.raw(), &scratch.edits))
    }

    /// What of `event` may leave.
    ///
    /// # Errors
    /// [`Panicked`]: this event makes the redactor panic, which is a mistake in it; ship a stub instead.
    pub fn body<'s>(&self, event: &Event<'s>, scratch: &'s mut Scratch) -> Result<Body<'s>, Panicked> {
        self.edit(event, &Known::Parsed, scratch)
    }

    fn edit<'s>(
        &self,
        event: &Event<'s>,
        known: &Known<'_>,
        scratch: &'s mut Scratch,
    ) -> Result<Body<'s>, Panicked> {
        let raw = event.raw();
        let edited = catch_unwind(AssertUnwindSafe(|| {
            self.begin(scratch);
            self.edit_event(event, 0, known, scratch);
            scratch.settle();
            // An edit outside of its event would make whoever writes the body panic.
            assert!(
                scratch.edits.iter().all(|edit| raw.get(edit.range.clone()).is_some()),
                "an edit is out of bounds"
            );
        }));
        match edited {
            Ok(()) => Ok(Body::redacted(raw, &scratch.edits)),
            Err(_) => Err(Panicked),
        }
    }

    /// What of a broken piece may leave: see [`stub`].
    pub fn stub<'s>(&self, broken: &Broken<'_>, span: Span, scratch: &'s mut Scratch) -> Body<'s> {
        self.begin(scratch);
        let mut text = std::mem::take(&mut scratch.stub);
        text.clear();
        stub::write(broken, span, &mut text);
        scratch.text.strict = true;
        // What stood on the top level can hold a credential too (a token in the URI).
        self.text(&text, 0, scratch);
        scratch.settle();
        scratch.stub = text;
        Body::redacted(&scratch.stub, &scratch.edits)
    }

    /// Forgets the last event's edits; then [`Redactor::event`], [`Redactor::text`] and [`Redactor::replace`] add
    /// to them, and [`Redactor::end`] settles them. For callers that edit a line of several parts.
    pub fn begin(&self, scratch: &mut Scratch) {
        scratch.edits.clear();
        scratch.text.begin();
        scratch.budget = packed::LINE_BUDGET;
        scratch.counts.resize(self.names.len(), 0);
        scratch.allowed.resize(self.allowed.reasons().len(), 0);
    }

    /// Settles what was added since [`Redactor::begin`].
    pub fn end<'s>(&self, scratch: &'s mut Scratch) -> &'s Edits {
        scratch.settle();
        &scratch.edits
    }

    /// Adds the edits of `event`, whose first byte stands at `base` of the line.
    pub fn event(&self, event: &Event<'_>, base: usize, scratch: &mut Scratch) {
        self.edit_event(event, base, &Known::Parsed, scratch);
    }

    fn edit_event(&self, event: &Event<'_>, base: usize, known: &Known<'_>, scratch: &mut Scratch) {
        let place = Place::line(base);
        if !matches!(known, Known::Nothing) {
            self.utf8(event.raw(), base, scratch);
            if self.on {
                self.builtin_rules(event, &place, known, scratch);
            }
        }
        self.user_rules(event, &place, scratch);
    }

    fn builtin_rules(&self, event: &Event<'_>, place: &Place<'_>, known: &Known<'_>, scratch: &mut Scratch) {
        let raw = event.raw();
        if !self.allowed.is_empty() {
            let Scratch { text, stack, leaves, .. } = scratch;
            self.allowed.locate(event, place.raw(0), text, stack, leaves);
        }
        let hints = self.hints(event);
        for at in &hints {
            let fields = &self.fields[*at];
            if fields.named
                && let Some(object) = event.object_ref()
            {
                self.name(fields.rule, raw, object.name.as_bytes(), place, scratch);
            }
            for body in [event.request_object(), event.response_object()].into_iter().flatten() {
                let (set, start) = (&fields.set, fields.set.start());
                self.select(fields.rule, set, start, raw, body.start, place, scratch);
                self.patch(fields.rule, set, start, &raw[body.clone()], body.start, place, scratch);
            }
        }
        match known {
            Known::Found(found) => {
                let (mut decoded, unused) = scratch.pool.pop().unwrap_or_default();
                self.closer(found, raw, place, &hints, &mut decoded, scratch);
                scratch.pool.push((decoded, unused));
            }
            // It is valid.
            _ => drop(self.sweep(raw, place, &hints, scratch)),
        }
    }

    /// The rules over fields that are about the event's resource, by their place.
    fn hints(&self, event: &Event<'_>) -> Vec<usize> {
        // Most resources have no rule: the other fields need not be decoded.
        let order =
            |resource: &[u8], known: &str| (known.len(), known.as_bytes()).cmp(&(resource.len(), resource));
        let known = |resource: &[u8]| self.resources.binary_search_by(|known| order(resource, known)).is_ok();
        if !event.is_resource(known) {
            return Vec::new();
        }
        let Some(object) = event.object_ref() else { return Vec::new() };
        (0..self.fields.len()).filter(|at| self.fields[*at].concerns(&object)).collect()
    }

    /// Adds the edits of text that is no JSON (a line of another format).
    pub fn text(&self, raw: &[u8], base: usize, scratch: &mut Scratch) {
        self.detect(raw, 0..raw.len(), &Place::line(base), &[], scratch);
    }

    /// Adds the stub of `broken` in the place of `range`.
    pub fn replace(&self, broken: &Broken<'_>, span: Span, range: Range<usize>, scratch: &mut Scratch) {
        let mut text = std::mem::take(&mut scratch.stub);
        text.clear();
        stub::write(broken, span, &mut text);
        let mut inner = Scratch { counts: std::mem::take(&mut scratch.counts), ..Scratch::default() };
        inner.text.strict = true;
        self.text(&text, 0, &mut inner);
        inner.settle();
        scratch.counts = inner.counts;
        let mut safe = Vec::with_capacity(text.len());
        inner.edits.apply(&text, &mut safe);
        scratch.edits.push(range, &safe, self.number(FAILED_CLOSED));
        scratch.stub = text;
    }

    fn number(&self, name: &str) -> u16 {
        self.names.iter().position(|n| n == name).unwrap_or(0) as u16
    }

    fn utf8(&self, raw: &[u8], base: usize, scratch: &mut Scratch) {
        if raw.is_ascii() {
            return;
        }
        let mut at = 0;
        while let Err(bad) = std::str::from_utf8(&raw[at..]) {
            let from = at + bad.valid_up_to();
            let len = bad.error_len().unwrap_or(raw.len() - from);
            let range = base + from..base + from + len;
            scratch.edits.push(range, "\u{fffd}".as_bytes(), self.number(INVALID_UTF8));
            at = from + len;
        }
    }

    /// Adds edits for what `set` selects of the value that stands at `at` in `doc`, in `states`.
    #[expect(clippy::too_many_arguments, reason = "a rule, a place and the memory; they vary independently")]
    fn select(
        &self,
        rule: u16,
        set: &PathSet,
        states: States,
        doc: &[u8],
        at: usize,
        place: &Place<'_>,
        scratch: &mut Scratch,
    ) {
        let Scratch { edits, stack, leaves, text, .. } = scratch;
        leaves.clear();
        let mut select = Select::new(doc, set, states, stack, leaves);
        // Cut documents select what comes before the cut; whoever calls decides what becomes of the rest.
        let _ = scan::value(doc, at, &mut select);
        for leaf in leaves.iter() {
            self.push(rule, doc, leaf, place, text, edits);
        }
    }

    /// Adds edits for `name` wherever it stands in `raw`.
    fn name(&self, rule: u16, raw: &[u8], name: &[u8], place: &Place<'_>, scratch: &mut Scratch) {
        if name.len() < NAME_BYTES {
            return;
        }
        let Scratch { edits, text, .. } = scratch;
        for at in memchr::memmem::find_iter(raw, name) {
            self.push(rule, raw, &Leaf { range: at..at + name.len(), string: true }, place, text, edits);
        }
    }

    /// Adds edits for the JSON Patch operations (RFC 6902) in `doc`, which begins at `base` of its document.
    #[expect(clippy::too_many_arguments, reason = "a rule, a place and the memory; they vary independently")]
    fn patch(
        &self,
        rule: u16,
        set: &PathSet,
        states: States,
        doc: &[u8],
        base: usize,
        place: &Place<'_>,
        scratch: &mut Scratch,
    ) {
        for (path, value) in patch::operations(doc) {
            let states = set.step_pointer(states, &text::decoded(doc, path));
            if states != 0 {
                let Scratch { edits, stack, leaves, text, .. } = scratch;
                leaves.clear();
                let mut select = Select::new(doc, set, states, stack, leaves);
                let _ = scan::value(doc, value, &mut select);
                for leaf in leaves.iter() {
                    self.push_at(rule, doc, leaf, base, place, text, edits);
                }
            }
        }
    }

    fn push(&self, rule: u16, doc: &[u8], leaf: &Leaf, place: &Place<'_>, out: &mut Pen, edits: &mut Edits) {
        self.push_at(rule, doc, leaf, 0, place, out, edits);
    }

    /// Adds the edit of one leaf of `doc`, which begins at `base` of the document at `place`.
    #[expect(clippy::too_many_arguments, reason = "a rule, a place and the memory; they vary independently")]
    fn push_at(
        &self,
        rule: u16,
        doc: &[u8],
        leaf: &Leaf,
        base: usize,
        place: &Place<'_>,
        out: &mut Pen,
        edits: &mut Edits,
    ) {
        if leaf.range.is_empty() {
            return;
        }
        let value = &doc[leaf.range.clone()];
        let range = place.raw(base + leaf.range.start)..place.raw(base + leaf.range.end);
        if !self.allowed.is_empty()
            && rule < self.own
            && self.allowed.spares(rule, value, &range, &self.keys, out)
        {
            return;
        }
        let out = &mut out.text;
        out.clear();
        if !leaf.string {
            place.quote(out);
        }
        self.replacement(rule, value, out);
        if !leaf.string {
            place.quote(out);
        }
        edits.push(range, out, rule);
    }

    fn replacement(&self, rule: u16, raw: &[u8], out: &mut Vec<u8>) {
        let action = self.actions[usize::from(rule)];
        if action == Action::Remove {
            return;
        }
        out.extend_from_slice(b"redacted:");
        out.extend_from_slice(self.names[usize::from(rule)].as_bytes());
        let digested = action == Action::Digest && digest::write(raw, out);
        if action == Action::Token || (action == Action::Digest && !digested) {
            out.extend_from_slice(b":");
            out.extend_from_slice(self.keys.id().digits());
            out.extend_from_slice(b"-");
            out.extend_from_slice(&self.keys.token(&plain_text(raw)));
        }
    }

    /// `KEY-HASH` of a value: what stands at the end of a token that takes its place.
    pub fn hash(&self, value: &[u8]) -> String {
        let token = self.keys.token(value);
        format!("{}-{}", self.keys.id(), std::str::from_utf8(&token).unwrap_or_default())
    }

    fn user_rules(&self, event: &Event<'_>, place: &Place<'_>, scratch: &mut Scratch) {
        if self.user.is_empty() {
            return;
        }
        let facts = Facts::new(event);
        let raw = event.raw();
        for UserRule { rule, matcher, set } in &self.user {
            if !matcher.matches(&facts) {
                continue;
            }
            self.select(*rule, set, set.start(), raw, 0, place, scratch);
            if let Some(body) = event.request_object() {
                let states = set.step(set.start(), b"requestObject");
                self.patch(*rule, set, states, &raw[body.clone()], body.start, place, scratch);
            }
        }
    }
}

impl Fields {
    fn concerns(&self, object: &ObjectRef<'_>) -> bool {
        self.resources.iter().any(|r| {
            r.resource == object.resource
                && r.group == object.group
                && (r.subresource == "*" || r.subresource == object.subresource)
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};
    use crate::{RedactConfig, Redactor, Scratch};
    use auditship_event::{Event, Keys};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use std::io::Write;

    /// An event with `text` in a ConfigMap.
    fn config_map(text: &str) -> String {
        serde_json::json!({"requestObject": {"kind": "ConfigMap", "data": {"a": text}}}).to_string()
    }

    #[test]
    fn manifests_in_yaml() {
        check(
            &config_map(
                "kind: ConfigMap\ndata:\n  k: v\n---\n# b\ndata:\n  k: QQ==\n  l: |\n    a\n    b\nkind: Secret\nmetadata:\n  name: n\n---\nitems:\n- kind: Secret\n  stringData: {k: v}\n- kind: B\n  data:\n    k: v\n",
            ),
            &config_map(
                "kind: ConfigMap\ndata:\n  k: v\n---\n# b\ndata:\n  k: ‹secret-data›\n  l: |\n    ‹secret-data›\nkind: Secret\nmetadata:\n  name: n\n---\nitems:\n- kind: Secret\n  stringData: ‹secret-data›\n- kind: B\n  data:\n    k: v\n",
            ),
        );
        check(
            &config_map(
                "files:\n  s.yaml: |\n    kind: Secret\n    data:\n      k: QQ==\nenv:\n- name: DB_PASSWORD\n  value: x y\n- value: \"z\"\n  name: apiKey\n- name: OTHER\n  value: z\npassword: |-\n  one\n  two\npasswords:\n- a\nadminPassword:\n  secretKeyRef: x\n",
            ),
            &config_map(
                "files:\n  s.yaml: |\n    kind: Secret\n    data:\n      k: ‹secret-data›\nenv:\n- name: DB_PASSWORD\n  value: ‹named-value›\n- value: \"‹named-value›\"\n  name: apiKey\n- name: OTHER\n  value: z\npassword: |-\n  ‹key-value-text›\npasswords:\n- a\nadminPassword:\n  secretKeyRef: x\n",
            ),
        );
    }

    #[test]
    fn base64_in_text() {
        let packed = STANDARD.encode("some settings\npassword: hunter2\nand more of them\n");
        let plain = STANDARD.encode("some settings\nuser: somebody\nand more of them, all public\n");
        let glued = [("x-", ""), ("xy-", ""), ("xyz-", "")];
        let apart = ["data is ", "a\nb: ", "?q=", "\"", "1,"].map(|before| (before, before));
        for (before, kept) in glued.into_iter().chain(apart) {
            for after in ["", " and", "\n", ".", "\"", ","] {
                check(
                    &config_map(&format!("{before}{packed}{after}")),
                    &config_map(&format!("{kept}‹key-value-text›{after}")),
                );
                unchanged(&config_map(&format!("{before}{plain}{after}")));
            }
        }
        let long = STANDARD
            .encode("some settings, many of them, on one line and more\n".repeat(4) + "password: hunter2\n");
        let wrap = |width: usize, by: &str| {
            let lines: Vec<&str> =
                long.as_bytes().chunks(width).map(|l| std::str::from_utf8(l).unwrap()).collect();
            lines.join(by)
        };
        for by in ["\n", "\r\n", "\n    "] {
            for width in [64, 76] {
                check(
                    &config_map(&format!("file:\n    {}\nend", wrap(width, by))),
                    &config_map("file:\n    ‹key-value-text›\nend"),
                );
            }
        }
    }

    /// Text whose base64 is half slashes, dashes and underscores, as paths and names are.
    #[test]
    fn base64_of_what_is_hardly_letters() {
        let url_safe = base64::engine::general_purpose::URL_SAFE;
        for text in [
            "\u{fffd}".repeat(30),
            "x\u{fffd}".repeat(20),
            "{".to_owned() + &"\u{fffd}".repeat(46),
            "???>>>".repeat(12),
            "~".repeat(80),
        ] {
            let text = format!("{text}\npassword: hunter2\n");
            for packed in [STANDARD.encode(&text), url_safe.encode(&text)] {
                check(&config_map(&packed), &config_map("‹key-value-text›"));
            }
        }
    }

    #[test]
    fn what_is_packed_in_a_string_goes_as_a_whole() {
        let secret = r#"{"kind":"Secret","data":{"k":"QQ=="},"metadata":{"name":"s"}}"#;
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(br#"{"auth":{"rootPassword":"hunter2"}}"#).unwrap();
        let helm = STANDARD.encode(STANDARD.encode(gz.finish().unwrap()));
        check(
            &format!(
                r#"{{"requestObject":{{"kind":"ConfigMap","binaryData":{{"a":"{}","b":"{}","c":"{helm}"}}}}}}"#,
                STANDARD.encode(secret),
                STANDARD.encode("db.url=x\ndb.password=hunter2\n"),
            ),
            r#"{"requestObject":{"kind":"ConfigMap","binaryData":{"a":"‹secret-data›","b":"‹key-value-text›","c":"‹sensitive-member›"}}}"#,
        );
        unchanged(&format!(
            r#"{{"requestObject":{{"kind":"ConfigMap","binaryData":{{"a":"{}"}}}}}}"#,
            STANDARD.encode("a text about passwords and other things")
        ));
    }

    #[test]
    fn telling_keys_in_an_escaped_spelling() {
        check(
            r#"{"requestObject":{"annotations":{"tok\u0065n":"Scl017X4yjvUR2ZPs9oc","example.com/p\u0061ssword":"x","n\u0061me":"y"}}}"#,
            r#"{"requestObject":{"annotations":{"tok\u0065n":"‹sensitive-member›","example.com/p\u0061ssword":"‹sensitive-member›","n\u0061me":"y"}}}"#,
        );
    }

    fn redacted(line: &str) -> Option<String> {
        let redactor = Redactor::new(&RedactConfig::default(), Keys::derive(b"key", "c")).unwrap();
        let (mut scratch, mut out) = (Scratch::default(), Vec::new());
        redactor.body(&Event::parse(line.as_bytes()).unwrap(), &mut scratch).ok()?.write(&mut out);
        String::from_utf8(out).ok()
    }

    /// Pieces of which nearly every rule knows one.
    const PIECES: &str = "(password|token|apiKey|\"|\\\\|=|:|://|@|, | |\\n|--|'|&|%3D|%22|<|>|eyJ|Basic |Bearer |name|value|/env/0/value|-----BEGIN PRIVATE KEY-----|ghp_|mysql -p|Invalid value: |é|\\{|\\[|\\]|\\}|a1B2c3D4e5F6){0,24}";

    proptest! {
        #[test]
        fn any_text_at_any_depth_stays_json(text in PIECES, other in PIECES, depth in 0usize..4) {
            let mut body = serde_json::json!({ "name": text, "value": other, "password": text, "a": [text, other] });
            for _ in 0..depth {
                body = serde_json::json!({ "nested": body.to_string() });
            }
            let line = serde_json::json!({ "requestObject": body }).to_string();
            let out = redacted(&line);
            prop_assert!(out.is_some(), "a panic");
            let parsed = serde_json::from_str::<serde_json::Value>(&out.unwrap());
            prop_assert!(parsed.is_ok());
        }
    }
}
