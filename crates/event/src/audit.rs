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
    fields: Fields,
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

#[derive(Clone, Default)]
struct Fields {
    kind: Slot,
    api_version: Slot,
    level: Slot,
    audit_id: Slot,
    stage: Slot,
    request_uri: Slot,
    verb: Slot,
    user_agent: Slot,
    received: Slot,
    staged: Slot,
    user: Slot,
    username: Slot,
    groups: Slot,
    impersonated: Slot,
    source_ips: Slot,
    object_ref: Slot,
    resource: Slot,
    subresource: Slot,
    namespace: Slot,
    name: Slot,
    api_group: Slot,
    object_version: Slot,
    code: Slot,
    annotations: Slot,
    request_object: Slot,
    response_object: Slot,
    items: Slot,
}

/// The members of the event that the scan takes note of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Top {
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
}

impl Top {
    fn of(key: &[u8]) -> Top {
        match key {
            b"kind" => Top::Kind,
            b"apiVersion" => Top::ApiVersion,
            b"level" => Top::Level,
            b"auditID" => Top::AuditId,
            b"stage" => Top::Stage,
            b"requestURI" => Top::RequestUri,
            b"verb" => Top::Verb,
            b"user" => Top::User,
            b"impersonatedUser" => Top::Impersonated,
            b"sourceIPs" => Top::SourceIps,
            b"userAgent" => Top::UserAgent,
            b"objectRef" => Top::ObjectRef,
            b"responseStatus" => Top::ResponseStatus,
            b"requestObject" => Top::RequestObject,
            b"responseObject" => Top::ResponseObject,
            b"requestReceivedTimestamp" => Top::Received,
            b"stageTimestamp" => Top::Staged,
            b"annotations" => Top::Annotations,
            b"items" => Top::Items,
            _ => Top::Other,
        }
    }
}

/// The visitor behind [`Event::parse`].
struct Notes<'a> {
    doc: &'a [u8],
    fields: Fields,
    top: Top,
    sub: Option<Sub>,
}

/// The members one level down that are noted.
#[derive(Clone, Copy)]
enum Sub {
    Username,
    Groups,
    Resource,
    Subresource,
    Namespace,
    Name,
    ApiGroup,
    ObjectVersion,
    Code,
}

impl Notes<'_> {
    fn top_slot(&mut self) -> Option<&mut Slot> {
        let f = &mut self.fields;
        Some(match self.top {
            Top::Kind => &mut f.kind,
            Top::ApiVersion => &mut f.api_version,
            Top::Level => &mut f.level,
            Top::AuditId => &mut f.audit_id,
            Top::Stage => &mut f.stage,
            Top::RequestUri => &mut f.request_uri,
            Top::Verb => &mut f.verb,
            Top::UserAgent => &mut f.user_agent,
            Top::Received => &mut f.received,
            Top::Staged => &mut f.staged,
            Top::User => &mut f.user,
            Top::Impersonated => &mut f.impersonated,
            Top::SourceIps => &mut f.source_ips,
            Top::ObjectRef => &mut f.object_ref,
            Top::RequestObject => &mut f.request_object,
            Top::ResponseObject => &mut f.response_object,
            Top::Annotations => &mut f.annotations,
            Top::Items => &mut f.items,
            Top::ResponseStatus | Top::Other => return None,
        })
    }

    fn sub_slot(&mut self) -> Option<&mut Slot> {
        let f = &mut self.fields;
        Some(match self.sub? {
            Sub::Username => &mut f.username,
            Sub::Groups => &mut f.groups,
            Sub::Resource => &mut f.resource,
            Sub::Subresource => &mut f.subresource,
            Sub::Namespace => &mut f.namespace,
            Sub::Name => &mut f.name,
            Sub::ApiGroup => &mut f.api_group,
            Sub::ObjectVersion => &mut f.object_version,
            Sub::Code => &mut f.code,
        })
    }

    /// Notes the value at `start..end` of the member last named at `depth`.
    fn note(&mut self, start: usize, end: usize, escaped: bool, depth: usize) {
        let slot = match depth {
            1 => self.top_slot(),
            2 => self.sub_slot(),
            _ => None,
        };
        if let Some(slot) = slot {
            *slot = Slot { start: start as u32, end: end as u32, escaped };
        }
    }

    #[inline(always)]
    fn open(&mut self, at: usize, depth: usize) {
        if depth == 1 || depth == 2 {
            self.note(at, at, false, depth);
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
        if depth == 1 {
            (self.top, self.sub) = (Top::of(word), None);
            return;
        }
        self.sub = match (self.top, word) {
            (Top::User, b"username") => Some(Sub::Username),
            (Top::User, b"groups") => Some(Sub::Groups),
            (Top::ObjectRef, b"resource") => Some(Sub::Resource),
            (Top::ObjectRef, b"subresource") => Some(Sub::Subresource),
            (Top::ObjectRef, b"namespace") => Some(Sub::Namespace),
            (Top::ObjectRef, b"name") => Some(Sub::Name),
            (Top::ObjectRef, b"apiGroup") => Some(Sub::ApiGroup),
            (Top::ObjectRef, b"apiVersion") => Some(Sub::ObjectVersion),
            (Top::ResponseStatus, b"code") => Some(Sub::Code),
            _ => None,
        };
    }
}

impl Visitor for Notes<'_> {
    #[inline(always)]
    fn open_object(&mut self, at: usize, depth: usize) {
        self.open(at, depth);
    }

    #[inline(always)]
    fn open_array(&mut self, at: usize, depth: usize) {
        self.open(at, depth);
    }

    #[inline(always)]
    fn close(&mut self, at: usize, depth: usize) {
        if depth == 1 || depth == 2 {
            let slot = if depth == 1 { self.top_slot() } else { self.sub_slot() };
            if let Some(slot) = slot {
                slot.end = at as u32 + 1;
            }
        }
    }

    #[inline(always)]
    fn key(&mut self, key: Str, depth: usize) {
        if depth == 1 || (depth == 2 && matches!(self.top, Top::User | Top::ObjectRef | Top::ResponseStatus))
        {
            self.key_of(key, depth);
        }
    }

    #[inline(always)]
    fn string(&mut self, value: Str, depth: usize) {
        if depth <= 2 {
            self.note(value.start, value.end, value.escaped, depth);
        }
    }

    #[inline(always)]
    fn scalar(&mut self, start: usize, end: usize, _kind: Scalar, depth: usize) {
        if depth <= 2 {
            self.note(start, end, false, depth);
        }
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
        let mut notes = Notes { doc: raw, fields: Fields::default(), top: Top::Other, sub: None };
        let end = scan::value(raw, 0, &mut scan::Both(&mut notes, other))?;
        let rest = &raw[scan::skip_space(raw, end)..];
        Ok((Event { raw: &raw[..end], fields: notes.fields }, rest))
    }

    /// The event's bytes.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether this is one audit event: an object of kind `Event` in `audit.k8s.io`, or an item of an
    /// `EventList` (those have neither, but an audit ID and a stage).
    pub fn is_audit(&self) -> bool {
        let kind = self.text(self.fields.kind);
        if kind == "Event" {
            return self.text(self.fields.api_version).starts_with("audit.k8s.io/");
        }
        kind.is_empty() && self.fields.audit_id.start != 0 && self.fields.stage.start != 0
    }

    /// The raw items, where this is an `EventList` (what the webhook backend posts).
    pub fn items(&self) -> Option<&'a [u8]> {
        if self.text(self.fields.kind) != "EventList" {
            return None;
        }
        self.bytes(self.fields.items).filter(|items| items.first() == Some(&b'['))
    }

    /// `level`
    pub fn level(&self) -> Level {
        match &*self.text(self.fields.level) {
            "None" => Level::None,
            "Metadata" => Level::Metadata,
            "Request" => Level::Request,
            "RequestResponse" => Level::RequestResponse,
            _ => Level::Unknown,
        }
    }

    /// `stage`
    pub fn stage(&self) -> Stage {
        match &*self.text(self.fields.stage) {
            "RequestReceived" => Stage::RequestReceived,
            "ResponseStarted" => Stage::ResponseStarted,
            "ResponseComplete" => Stage::ResponseComplete,
            "Panic" => Stage::Panic,
            _ => Stage::Unknown,
        }
    }

    /// `auditID`: chosen by the client where it sends an `Audit-ID` header, so never an identity.
    pub fn audit_id(&self) -> Cow<'a, str> {
        self.text(self.fields.audit_id)
    }

    /// `verb`: a Kubernetes verb, or the lower-case HTTP method of a non-resource request.
    pub fn verb(&self) -> Cow<'a, str> {
        self.text(self.fields.verb)
    }

    /// `requestURI`, query included, as the client sent it.
    pub fn request_uri(&self) -> Cow<'a, str> {
        self.text(self.fields.request_uri)
    }

    /// `userAgent`, as the client sent it.
    pub fn user_agent(&self) -> Cow<'a, str> {
        self.text(self.fields.user_agent)
    }

    /// `user.username`; `None` for a request whose authentication failed.
    pub fn username(&self) -> Option<Cow<'a, str>> {
        (self.fields.username.start != 0).then(|| self.text(self.fields.username))
    }

    /// `user.uid`, where it is present and a string.
    pub fn user_uid(&self) -> Option<Cow<'a, str>> {
        self.member(self.fields.user, "uid")
    }

    /// `user.groups`
    pub fn groups(&self) -> Vec<Cow<'a, str>> {
        self.strings(self.fields.groups)
    }

    /// Whether the request impersonated somebody (`impersonatedUser` is present).
    pub fn is_impersonated(&self) -> bool {
        self.fields.impersonated.start != 0
    }

    /// `sourceIPs`: all but the last one can be set by the client.
    pub fn source_ips(&self) -> Vec<Cow<'a, str>> {
        self.strings(self.fields.source_ips)
    }

    /// `objectRef`, where the request was for a resource.
    pub fn object_ref(&self) -> Option<ObjectRef<'a>> {
        let f = &self.fields;
        (f.object_ref.start != 0 && self.raw[f.object_ref.start as usize] == b'{').then(|| ObjectRef {
            group: self.text(f.api_group),
            version: self.text(f.object_version),
            resource: self.text(f.resource),
            subresource: self.text(f.subresource),
            namespace: self.text(f.namespace),
            name: self.text(f.name),
        })
    }

    /// `objectRef.resource` alone, empty where there is none.
    pub fn resource(&self) -> Cow<'a, str> {
        self.text(self.fields.resource)
    }

    /// Whether `known` says of `objectRef.resource` that it is one of those that it knows; it must not know the empty
    /// one. Costs less than asking [`Event::resource`].
    pub fn is_resource(&self, known: impl FnOnce(&[u8]) -> bool) -> bool {
        match self.fields.resource {
            Slot { escaped: true, .. } => known(self.resource().as_bytes()),
            slot => self.bytes(slot).is_some_and(known),
        }
    }

    /// `responseStatus.code`, where the event has one.
    pub fn code(&self) -> Option<u16> {
        std::str::from_utf8(self.bytes(self.fields.code)?).ok()?.parse().ok()
    }

    /// The value of one annotation, where it is present and a string.
    pub fn annotation(&self, key: &str) -> Option<Cow<'a, str>> {
        self.member(self.fields.annotations, key)
    }

    /// All annotations that are strings, by name; of those with the same name the last.
    pub fn annotations(&self) -> BTreeMap<Cow<'a, str>, Cow<'a, str>> {
        let Some(object) = self.bytes(self.fields.annotations) else { return BTreeMap::new() };
        let mut all = Pairs { next: None, found: Vec::new() };
        // It was scanned before: it is valid.
        let _ = scan::value(object, 0, &mut all);
        let decoded = |(key, value)| (text::decoded(object, key), text::decoded(object, value));
        all.found.into_iter().map(decoded).collect()
    }

    /// `stageTimestamp` as it stands in the event.
    pub fn stage_timestamp(&self) -> Cow<'a, str> {
        self.text(self.fields.staged)
    }

    /// `requestReceivedTimestamp` as it stands in the event.
    pub fn received_timestamp(&self) -> Cow<'a, str> {
        self.text(self.fields.received)
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
        range(self.fields.request_object)
    }

    /// The raw range of `responseObject`.
    pub fn response_object(&self) -> Option<Range<usize>> {
        range(self.fields.response_object)
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
