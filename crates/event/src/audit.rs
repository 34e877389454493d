//! The audit event, parsed lazily: one validating scan notes where the fields stand, accessors decode them.
//!
//! Field names and their meaning: k8s.io/apiserver `pkg/apis/audit/v1/types.go`. Bodies (`requestObject`,
//! `responseObject`) are kept as raw ranges and never interpreted here. Where a key is repeated the last one
//! counts for decisions, as in Go's decoder; redaction looks at every one of them.

use crate::scan::{self, Malformed, Scalar, Str, Visitor};
use crate::text;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// How much of a request an event records (`audit.k8s.io/v1` `Level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Absent, or a word this version does not know.
    Unknown,
    /// `None`
    None,
    /// `Metadata`
    Metadata,
    /// `Request`
    Request,
    /// `RequestResponse`
    RequestResponse,
}

/// Where in the handling of a request the event was made (`audit.k8s.io/v1` `Stage`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Absent, or a word this version does not know.
    Unknown,
    /// `RequestReceived`
    RequestReceived,
    /// `ResponseStarted`: long-running requests, and every refused authentication.
    ResponseStarted,
    /// `ResponseComplete`
    ResponseComplete,
    /// `Panic`
    Panic,
}

/// What the request was about (`objectRef`); absent members are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectRef<'a> {
    /// API group, empty for the core group.
    pub group: Cow<'a, str>,
    /// API version, without the group.
    pub version: Cow<'a, str>,
    /// Plural resource name.
    pub resource: Cow<'a, str>,
    /// Subresource, as in `pods/exec`.
    pub subresource: Cow<'a, str>,
    /// Namespace.
    pub namespace: Cow<'a, str>,
    /// Object name.
    pub name: Cow<'a, str>,
}

/// One audit event, borrowing from its line. Cheap to make: nothing is decoded until asked for.
#[derive(Clone)]
pub struct Event<'a> {
    raw: &'a [u8],
    outline: Outline,
}

impl std::fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the content.
        write!(f, "Event({} bytes)", self.raw.len())
    }
}

/// A string's or value's place; `start == 0` means absent (nothing inside an object stands at offset 0).
#[derive(Clone, Copy, Default)]
struct Slot {
    // `u32`: lines are far below 4 GiB ([`Event::parse`] refuses longer ones), and events are moved about.
    start: u32,
    end: u32,
    escaped: bool,
}

/// Where the fields of an event stand.
#[derive(Clone)]
pub struct Outline([Slot; FIELDS]);

/// The members of an event, and below some of them, that the scan takes note of: each has its place in an [`Outline`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    /// Not noted.
    Other,
    Kind,
    ApiVersion,
    Level,
    AuditId,
    Stage,
    RequestUri,
    Verb,
    User,
    Impersonated,
    SourceIps,
    UserAgent,
    ObjectRef,
    ResponseStatus,
    RequestObject,
    ResponseObject,
    Received,
    Staged,
    Annotations,
    Items,
    // Below `user`.
    Username,
    Groups,
    // Below `objectRef`.
    Resource,
    Subresource,
    Namespace,
    Name,
    ApiGroup,
    ObjectVersion,
    // Below `responseStatus`.
    Code,
}

const FIELDS: usize = Field::Code as usize + 1;

impl Field {
    fn of(key: &[u8]) -> Field {
        match key {
            b"kind" => Field::Kind,
            b"apiVersion" => Field::ApiVersion,
            b"level" => Field::Level,
            b"auditID" => Field::AuditId,
            b"stage" => Field::Stage,
            b"requestURI" => Field::RequestUri,
            b"verb" => Field::Verb,
            b"user" => Field::User,
            b"impersonatedUser" => Field::Impersonated,
            b"sourceIPs" => Field::SourceIps,
            b"userAgent" => Field::UserAgent,
            b"objectRef" => Field::ObjectRef,
            b"responseStatus" => Field::ResponseStatus,
            b"requestObject" => Field::RequestObject,
            b"responseObject" => Field::ResponseObject,
            b"requestReceivedTimestamp" => Field::Received,
            b"stageTimestamp" => Field::Staged,
            b"annotations" => Field::Annotations,
            b"items" => Field::Items,
            _ => Field::Other,
        }
    }

    /// The one below `self` with this key.
    fn below(self, key: &[u8]) -> Field {
        match (self, key) {
            (Field::User, b"username") => Field::Username,
            (Field::User, b"groups") => Field::Groups,
            (Field::ObjectRef, b"resource") => Field::Resource,
            (Field::ObjectRef, b"subresource") => Field::Subresource,
            (Field::ObjectRef, b"namespace") => Field::Namespace,
            (Field::ObjectRef, b"name") => Field::Name,
            (Field::ObjectRef, b"apiGroup") => Field::ApiGroup,
            (Field::ObjectRef, b"apiVersion") => Field::ObjectVersion,
            (Field::ResponseStatus, b"code") => Field::Code,
            _ => Field::Other,
        }
    }
}

impl Outline {
    fn none() -> Outline {
        Outline([Slot::default(); FIELDS])
    }

    fn at(&self, field: Field) -> Slot {
        self.0[field as usize]
    }
}

/// The visitor behind [`Event::parse`].
struct Notes<'a> {
    doc: &'a [u8],
    outline: Outline,
    /// What the last key names, at depth 1 and at depth 2.
    top: Field,
    sub: Field,
}

impl Notes<'_> {
    /// The place of the member last named at `depth`, which is 1 or 2.
    #[inline(always)]
    fn slot(&mut self, depth: usize) -> &mut Slot {
        let field = if depth == 1 { self.top } else { self.sub };
        &mut self.outline.0[field as usize]
    }

    #[inline(always)]
    fn note(&mut self, start: usize, end: usize, escaped: bool, depth: usize) {
        if depth == 1 || depth == 2 {
            *self.slot(depth) = Slot { start: start as u32, end: end as u32, escaped };
        }
    }

    fn key_of(&mut self, key: Str, depth: usize) {
        let decoded;
        let word = if key.escaped {
            decoded = text::decoded(self.doc, key);
            decoded.as_bytes()
        } else {
            key.raw(self.doc)
        };
        match depth {
            1 => (self.top, self.sub) = (Field::of(word), Field::Other),
            _ => self.sub = self.top.below(word),
        }
    }
}

impl Visitor for Notes<'_> {
    #[inline(always)]
    fn open_object(&mut self, at: usize, depth: usize) {
        self.note(at, at, false, depth);
    }

    #[inline(always)]
    fn open_array(&mut self, at: usize, depth: usize) {
        self.note(at, at, false, depth);
    }

    #[inline(always)]
    fn close(&mut self, at: usize, depth: usize) {
        if depth == 1 || depth == 2 {
            self.slot(depth).end = at as u32 + 1;
        }
    }

    #[inline(always)]
    fn key(&mut self, key: Str, depth: usize) {
        if depth == 1
            || (depth == 2 && matches!(self.top, Field::User | Field::ObjectRef | Field::ResponseStatus))
        {
            self.key_of(key, depth);
        }
    }

    #[inline(always)]
    fn string(&mut self, value: Str, depth: usize) {
        self.note(value.start, value.end, value.escaped, depth);
    }

    #[inline(always)]
    fn scalar(&mut self, start: usize, end: usize, _kind: Scalar, depth: usize) {
        self.note(start, end, false, depth);
    }
}

impl<'a> Event<'a> {
    /// Parses `raw`, which must be exactly one JSON value.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes are not JSON, or are nested deeper than [`scan::MAX_DEPTH`].
    pub fn parse(raw: &'a [u8]) -> Result<Event<'a>, Malformed> {
        let (event, rest) = Event::parse_first(raw)?;
        if rest.is_empty() {
            Ok(event)
        } else {
            Err(Malformed { at: raw.len() - rest.len(), reason: scan::Reason::Grammar })
        }
    }

    /// Parses the first JSON value of `raw`; returns it with what follows it (white space taken off).
    ///
    /// # Errors
    /// As [`Event::parse`].
    pub fn parse_first(raw: &'a [u8]) -> Result<(Event<'a>, &'a [u8]), Malformed> {
        Event::parse_first_with(raw, &mut scan::Ignore)
    }

    /// As [`Event::parse_first`], with another visitor on the same pass.
    ///
    /// # Errors
    /// As [`Event::parse`].
    pub fn parse_first_with<V: Visitor>(
        raw: &'a [u8],
        other: &mut V,
    ) -> Result<(Event<'a>, &'a [u8]), Malformed> {
        if raw.len() > u32::MAX as usize {
            return Err(Malformed { at: u32::MAX as usize, reason: scan::Reason::TooLong });
        }
        let mut notes = Notes { doc: raw, outline: Outline::none(), top: Field::Other, sub: Field::Other };
        let end = scan::value(raw, 0, &mut scan::Both(&mut notes, other))?;
        let rest = &raw[scan::skip_space(raw, end)..];
        Ok((Event { raw: &raw[..end], outline: notes.outline }, rest))
    }

    /// Where its fields stand.
    pub fn outline(&self) -> Outline {
        self.outline.clone()
    }

    /// The event of a line that need not be parsed, for it is like one that was: of the same length, with the same
    /// bytes outside of strings, and strings at the same places with the same escapes in them.
    pub fn like(raw: &'a [u8], outline: &Outline) -> Event<'a> {
        Event { raw, outline: outline.clone() }
    }

    /// The event's bytes.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether this is one audit event: an object of kind `Event` in `audit.k8s.io`, or an item of an
    /// `EventList` (those have neither, but an audit ID and a stage).
    pub fn is_audit(&self) -> bool {
        let kind = self.text(self.outline.at(Field::Kind));
        if kind == "Event" {
            return self.text(self.outline.at(Field::ApiVersion)).starts_with("audit.k8s.io/");
        }
        kind.is_empty()
            && self.outline.at(Field::AuditId).start != 0
            && self.outline.at(Field::Stage).start != 0
    }

    /// The raw items, where this is an `EventList` (what the webhook backend posts).
    pub fn items(&self) -> Option<&'a [u8]> {
        if self.text(self.outline.at(Field::Kind)) != "EventList" {
            return None;
        }
        self.bytes(self.outline.at(Field::Items)).filter(|items| items.first() == Some(&b'['))
    }

    /// `level`
    pub fn level(&self) -> Level {
        match &*self.text(self.outline.at(Field::Level)) {
            "None" => Level::None,
            "Metadata" => Level::Metadata,
            "Request" => Level::Request,
            "RequestResponse" => Level::RequestResponse,
            _ => Level::Unknown,
        }
    }

    /// `stage`
    pub fn stage(&self) -> Stage {
        match &*self.text(self.outline.at(Field::Stage)) {
            "RequestReceived" => Stage::RequestReceived,
            "ResponseStarted" => Stage::ResponseStarted,
            "ResponseComplete" => Stage::ResponseComplete,
            "Panic" => Stage::Panic,
            _ => Stage::Unknown,
        }
    }

    /// `auditID`: chosen by the client where it sends an `Audit-ID` header, so never an identity.
    pub fn audit_id(&self) -> Cow<'a, str> {
        self.text(self.outline.at(Field::AuditId))
    }

    /// `verb`: a Kubernetes verb, or the lower-case HTTP method of a non-resource request.
    pub fn verb(&self) -> Cow<'a, str> {
        self.text(self.outline.at(Field::Verb))
    }

    /// `requestURI`, query included, as the client sent it.
    pub fn request_uri(&self) -> Cow<'a, str> {
        self.text(self.outline.at(Field::RequestUri))
    }

    /// `userAgent`, as the client sent it.
    pub fn user_agent(&self) -> Cow<'a, str> {
        self.text(self.outline.at(Field::UserAgent))
    }

    /// `user.username`; `None` for a request whose authentication failed.
    pub fn username(&self) -> Option<Cow<'a, str>> {
        (self.outline.at(Field::Username).start != 0).then(|| self.text(self.outline.at(Field::Username)))
    }

    /// `user.uid`, where it is present and a string.
    pub fn user_uid(&self) -> Option<Cow<'a, str>> {
        self.member(self.outline.at(Field::User), "uid")
    }

    /// `user.groups`
    pub fn groups(&self) -> Vec<Cow<'a, str>> {
        self.strings(self.outline.at(Field::Groups))
    }

    /// Whether the request impersonated somebody (`impersonatedUser` is present).
    pub fn is_impersonated(&self) -> bool {
        self.outline.at(Field::Impersonated).start != 0
    }

    /// `sourceIPs`: all but the last one can be set by the client.
    pub fn source_ips(&self) -> Vec<Cow<'a, str>> {
        self.strings(self.outline.at(Field::SourceIps))
    }

    /// `objectRef`, where the request was for a resource.
    pub fn object_ref(&self) -> Option<ObjectRef<'a>> {
        let object = self.outline.at(Field::ObjectRef);
        (object.start != 0 && self.raw[object.start as usize] == b'{').then(|| ObjectRef {
            group: self.text(self.outline.at(Field::ApiGroup)),
            version: self.text(self.outline.at(Field::ObjectVersion)),
            resource: self.text(self.outline.at(Field::Resource)),
            subresource: self.text(self.outline.at(Field::Subresource)),
            namespace: self.text(self.outline.at(Field::Namespace)),
            name: self.text(self.outline.at(Field::Name)),
        })
    }

    /// `objectRef.resource` alone, empty where there is none.
    pub fn resource(&self) -> Cow<'a, str> {
        self.text(self.outline.at(Field::Resource))
    }

    /// Whether `known` says of `objectRef.resource` that it is one of those that it knows; it must not know the empty
    /// one. Costs less than asking [`Event::resource`].
    pub fn is_resource(&self, known: impl FnOnce(&[u8]) -> bool) -> bool {
        match self.outline.at(Field::Resource) {
            Slot { escaped: true, .. } => known(self.resource().as_bytes()),
            slot => self.bytes(slot).is_some_and(known),
        }
    }

    /// `responseStatus.code`, where the event has one.
    pub fn code(&self) -> Option<u16> {
        std::str::from_utf8(self.bytes(self.outline.at(Field::Code))?).ok()?.parse().ok()
    }

    /// The value of one annotation, where it is present and a string.
    pub fn annotation(&self, key: &str) -> Option<Cow<'a, str>> {
        self.member(self.outline.at(Field::Annotations), key)
    }

    /// All annotations that are strings, by name; of those with the same name the last.
    pub fn annotations(&self) -> BTreeMap<Cow<'a, str>, Cow<'a, str>> {
        let Some(object) = self.bytes(self.outline.at(Field::Annotations)) else { return BTreeMap::new() };
        let mut all = Pairs { next: None, found: Vec::new() };
        // It was scanned before: it is valid.
        let _ = scan::value(object, 0, &mut all);
        let decoded = |(key, value)| (text::decoded(object, key), text::decoded(object, value));
        all.found.into_iter().map(decoded).collect()
    }

    /// `stageTimestamp` as it stands in the event.
    pub fn stage_timestamp(&self) -> Cow<'a, str> {
        self.text(self.outline.at(Field::Staged))
    }

    /// `requestReceivedTimestamp` as it stands in the event.
    pub fn received_timestamp(&self) -> Cow<'a, str> {
        self.text(self.outline.at(Field::Received))
    }

    /// The event's time: `stageTimestamp` (RFC 3339) in microseconds since 1970, `None` where unreadable.
    pub fn time(&self) -> Option<i64> {
        micros(&self.stage_timestamp())
    }

    /// From `requestReceivedTimestamp` to `stageTimestamp`, in microseconds.
    pub fn latency(&self) -> Option<i64> {
        Some(self.time()? - micros(&self.received_timestamp())?)
    }

    /// The raw range of `requestObject`: an object, an array (JSON Patch) or a string.
    pub fn request_object(&self) -> Option<Range<usize>> {
        range(self.outline.at(Field::RequestObject))
    }

    /// The raw range of `responseObject`.
    pub fn response_object(&self) -> Option<Range<usize>> {
        range(self.outline.at(Field::ResponseObject))
    }

    fn bytes(&self, slot: Slot) -> Option<&'a [u8]> {
        range(slot).and_then(|range| self.raw.get(range))
    }

    fn text(&self, slot: Slot) -> Cow<'a, str> {
        let (start, end) = (slot.start as usize, slot.end as usize);
        if start == 0 || self.raw[start - 1] != b'"' {
            return Cow::Borrowed("");
        }
        text::decoded(self.raw, Str { start, end, escaped: slot.escaped })
    }

    /// The string `key` of the object in `slot`.
    fn member(&self, slot: Slot, key: &str) -> Option<Cow<'a, str>> {
        let object = self.bytes(slot)?;
        let mut find = FindMember { doc: object, key, here: false, found: None };
        scan::value(object, 0, &mut find).ok()?;
        find.found.map(|value| text::decoded(object, value))
    }

    fn strings(&self, slot: Slot) -> Vec<Cow<'a, str>> {
        let Some(array) = self.bytes(slot) else { return Vec::new() };
        let mut all = Strings(Vec::new());
        // It was scanned before: it is valid.
        let _ = scan::value(array, 0, &mut all);
        all.0.into_iter().map(|value| text::decoded(array, value)).collect()
    }
}

fn range(slot: Slot) -> Option<Range<usize>> {
    (slot.start != 0).then_some(slot.start as usize..slot.end as usize)
}

/// RFC 3339 text as microseconds since 1970.
pub fn micros(text: &str) -> Option<i64> {
    fast_micros(text.as_bytes()).or_else(|| text.parse::<jiff::Timestamp>().ok().map(|t| t.as_microsecond()))
}

/// The one shape the API server writes, `2006-01-02T15:04:05.000000Z`, without a general parser.
fn fast_micros(text: &[u8]) -> Option<i64> {
    const SHAPE: &[u8; 27] = b"0000-00-00T00:00:00.000000Z";
    let text: &[u8; 27] = text.try_into().ok()?;
    let fits = SHAPE.iter().zip(text).all(|(s, b)| if *s == b'0' { b.is_ascii_digit() } else { s == b });
    if !fits {
        return None;
    }
    let number = |range: Range<usize>| text[range].iter().fold(0i64, |n, b| n * 10 + i64::from(b - b'0'));
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (hour, minute, second) = (number(11..13), number(14..16), number(17..19));
    let days = match month {
        // Leap days and leap seconds go the long way.
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=12).contains(&month) || !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days from civil: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + number(20..26))
}

struct Strings(Vec<Str>);

impl Visitor for Strings {
    fn string(&mut self, value: Str, depth: usize) {
        if depth == 1 {
            self.0.push(value);
        }
    }
}

/// The members of an object that are strings.
struct Pairs {
    next: Option<Str>,
    found: Vec<(Str, Str)>,
}

impl Visitor for Pairs {
    fn key(&mut self, key: Str, depth: usize) {
        if depth == 1 {
            self.next = Some(key);
        }
    }

    fn string(&mut self, value: Str, depth: usize) {
        if let (1, Some(key)) = (depth, self.next.take()) {
            self.found.push((key, value));
        }
    }
}

struct FindMember<'d, 'k> {
    doc: &'d [u8],
    key: &'k str,
    here: bool,
    found: Option<Str>,
}

impl Visitor for FindMember<'_, '_> {
    fn key(&mut self, key: Str, depth: usize) {
        if depth == 1 {
            self.here = text::equals(self.doc, key, self.key);
        }
    }

    fn string(&mut self, value: Str, depth: usize) {
        if depth == 1 && self.here {
            self.found = Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/n/pods/p/exec?command=\u0026x","verb":"create","user":{"username":"alice","uid":"7","groups":["dev","system:authenticated"],"extra":{"username":["no"]}},"sourceIPs":["10.0.0.1","192.0.2.7"],"userAgent":"kubectl/v1","objectRef":{"resource":"pods","namespace":"n","name":"p","apiVersion":"v1","subresource":"exec"},"responseStatus":{"metadata":{"code":1},"code":403},"requestObject":{"verb":"no","code":1},"responseObject":[{"stage":"no"}],"requestReceivedTimestamp":"2026-01-02T03:04:05.000001Z","stageTimestamp":"2026-01-02T03:04:06.500000Z","annotations":{"authorization.k8s.io/decision":"forbid","authorization.k8s.io/reason":"\"x\""}}"#;

    #[test]
    fn reads_every_field() {
        let event = Event::parse(LINE).unwrap();
        assert!(event.is_audit());
        assert_eq!(event.level(), Level::RequestResponse);
        assert_eq!(event.stage(), Stage::ResponseComplete);
        assert_eq!(event.audit_id(), "a1");
        assert_eq!(event.verb(), "create");
        assert_eq!(event.request_uri(), "/api/v1/namespaces/n/pods/p/exec?command=&x");
        assert_eq!(event.username().unwrap(), "alice");
        assert_eq!(event.user_uid().unwrap(), "7");
        assert_eq!(event.groups(), ["dev", "system:authenticated"]);
        assert_eq!(event.source_ips(), ["10.0.0.1", "192.0.2.7"]);
        assert_eq!(event.user_agent(), "kubectl/v1");
        assert_eq!(event.code(), Some(403));
        let object = event.object_ref().unwrap();
        assert_eq!((&*object.resource, &*object.subresource), ("pods", "exec"));
        assert_eq!(
            (&*object.group, &*object.version, &*object.namespace, &*object.name),
            ("", "v1", "n", "p")
        );
        assert_eq!(event.latency(), Some(1_499_999));
        assert_eq!(event.annotation("authorization.k8s.io/decision").unwrap(), "forbid");
        assert_eq!(event.annotation("authorization.k8s.io/reason").unwrap(), "\"x\"");
        assert_eq!(event.annotation("no"), None);
        let annotations: Vec<_> =
            event.annotations().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            annotations,
            ["authorization.k8s.io/decision=forbid", "authorization.k8s.io/reason=\"x\""]
        );
        assert_eq!(&LINE[event.request_object().unwrap()], br#"{"verb":"no","code":1}"#);
        assert_eq!(&LINE[event.response_object().unwrap()], br#"[{"stage":"no"}]"#);
        assert!(!event.is_impersonated());
    }

    #[test]
    fn absent_and_odd_fields_are_no_trouble() {
        let event =
            Event::parse(br#"{"verb":7,"user":"x","objectRef":[],"responseStatus":null,"annotations":1}"#)
                .unwrap();
        assert_eq!(event.verb(), "");
        assert_eq!(event.username(), None);
        assert_eq!(event.object_ref(), None);
        assert_eq!(event.code(), None);
        assert_eq!(event.annotation("a"), None);
        assert_eq!(event.user_uid(), None);
        assert!(event.annotations().is_empty());
        let odd = Event::parse(br#"{"annotations":{"a":{"b":"no"},"c":"1","\u0063":"2","d":["no"],"e":3}}"#)
            .unwrap();
        assert_eq!(odd.annotations(), BTreeMap::from([("c".into(), "2".into())]));
        assert_eq!(event.time(), None);
        assert!(event.groups().is_empty() && !event.is_audit());
        assert!(Event::parse(b"[1]").is_ok_and(|e| !e.is_audit()));
    }

    #[test]
    fn escaped_keys_compare_decoded_and_the_last_duplicate_counts() {
        let event = Event::parse(br#"{"v\u0065rb":"get","verb":"list"}"#).unwrap();
        assert_eq!(event.verb(), "list");
        let event = Event::parse(br#"{"verb":"list","v\u0065rb":"get"}"#).unwrap();
        assert_eq!(event.verb(), "get");
    }

    #[test]
    fn times() {
        for text in [
            "2026-11-24T02:29:59.024123Z",
            "2024-02-29T23:59:59.999999Z",
            "2000-03-01T00:00:00.000000Z",
            "1970-01-01T00:00:00.000000Z",
            "2026-01-31T00:00:00.000000Z",
            "2026-01-02T03:04:05Z",
        ] {
            let want = text.parse::<jiff::Timestamp>().unwrap().as_microsecond();
            assert_eq!(micros(text), Some(want), "{text}");
        }
        assert_eq!(micros("yesterday"), None);
        assert_eq!(micros("2026-13-02T03:04:05.000000Z"), None);
    }
}
