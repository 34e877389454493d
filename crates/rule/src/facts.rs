//! An event as rules see it: every field decoded at most once, and only when a rule asks.
//!
//! Where the event lacks what the API server's policy checker looked at (the name in the URL, the decoded
//! path), it is derived here from what the event has.

use auditship_event::scan::{self, Str, Visitor};
use auditship_event::{Event, Level, ObjectRef, Stage, text};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;
use std::net::IpAddr;

/// The fields of one event, decoded lazily and kept. Make one per event and show it to all rules.
pub struct Facts<'a> {
    event: &'a Event<'a>,
    verb: OnceCell<Cow<'a, str>>,
    username: OnceCell<Option<Cow<'a, str>>>,
    groups: OnceCell<Vec<Cow<'a, str>>>,
    object: OnceCell<Option<ObjectRef<'a>>>,
    url_named: OnceCell<bool>,
    path: OnceCell<Cow<'a, str>>,
    user_agent: OnceCell<Cow<'a, str>>,
    source_ip: OnceCell<Option<IpAddr>>,
    code: OnceCell<Option<u16>>,
    stage: OnceCell<Stage>,
    level: OnceCell<Level>,
    latency: OnceCell<Option<i64>>,
    decision: OnceCell<Option<Cow<'a, str>>>,
}

impl fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the content.
        write!(f, "Facts({:?})", self.event)
    }
}

impl<'a> Facts<'a> {
    /// The facts of `event`; decodes nothing yet.
    pub fn new(event: &'a Event<'a>) -> Facts<'a> {
        Facts {
            event,
            verb: OnceCell::new(),
            username: OnceCell::new(),
            groups: OnceCell::new(),
            object: OnceCell::new(),
            url_named: OnceCell::new(),
            path: OnceCell::new(),
            user_agent: OnceCell::new(),
            source_ip: OnceCell::new(),
            code: OnceCell::new(),
            stage: OnceCell::new(),
            level: OnceCell::new(),
            latency: OnceCell::new(),
            decision: OnceCell::new(),
        }
    }

    /// The event itself, for what no rule asks.
    pub fn event(&self) -> &'a Event<'a> {
        self.event
    }

    /// `verb`
    pub fn verb(&self) -> &str {
        self.verb.get_or_init(|| self.event.verb())
    }

    /// `user.username`; `None` where authentication failed.
    pub fn username(&self) -> Option<&str> {
        self.username.get_or_init(|| self.event.username()).as_deref()
    }

    /// `user.groups`
    pub fn groups(&self) -> &[Cow<'a, str>] {
        self.groups.get_or_init(|| self.event.groups())
    }

    /// `objectRef`: `None` means a non-resource request.
    pub fn object(&self) -> Option<&ObjectRef<'a>> {
        self.object.get_or_init(|| self.event.object_ref()).as_ref()
    }

    /// The object's name as it stood in the request's URL (or in a `metadata.name` field selector), which is
    /// what the API server's policy looks at. The event's own name differs for a create: there the API server
    /// has filled it in from the body (k8s.io/apiserver `pkg/audit/request.go`, `LogRequestObject`).
    pub fn url_name(&self) -> &str {
        let Some(object) = self.object() else { return "" };
        let named = self.verb() != "create" || *self.url_named.get_or_init(|| has_name(self.path()));
        if named { &object.name } else { "" }
    }

    /// The path of `requestURI`: without the query, percent-decoded, as the API server matches it.
    pub fn path(&self) -> &str {
        self.path.get_or_init(|| path(self.event.request_uri()))
    }

    /// `userAgent`
    pub fn user_agent(&self) -> &str {
        self.user_agent.get_or_init(|| self.event.user_agent())
    }

    /// The last of `sourceIPs`: the only one that the client could not choose (k8s.io/apiserver
    /// `pkg/apis/audit/v1/types.go`). IPv4 addresses written as IPv6 are IPv4 here.
    pub fn source_ip(&self) -> Option<IpAddr> {
        *self
            .source_ip
            .get_or_init(|| Some(self.event.source_ips().last()?.parse::<IpAddr>().ok()?.to_canonical()))
    }

    /// `responseStatus.code`
    pub fn code(&self) -> Option<u16> {
        *self.code.get_or_init(|| self.event.code())
    }

    /// `stage`
    pub fn stage(&self) -> Stage {
        *self.stage.get_or_init(|| self.event.stage())
    }

    /// `level`
    pub fn level(&self) -> Level {
        *self.level.get_or_init(|| self.event.level())
    }

    /// Microseconds from the request's arrival to this event's stage.
    pub fn latency(&self) -> Option<i64> {
        *self.latency.get_or_init(|| self.event.latency())
    }

    /// The authorizer's decision: `allow`, `forbid`, or `None` where it was not asked.
    pub fn decision(&self) -> Option<&str> {
        self.decision.get_or_init(|| self.event.annotation("authorization.k8s.io/decision")).as_deref()
    }

    /// Whether `impersonatedUser` is present.
    pub fn is_impersonated(&self) -> bool {
        self.event.is_impersonated()
    }

    /// Whether some annotation satisfies `accept(key, value)`. Scans the event once more: for keys that are
    /// patterns; one known key is cheaper through [`Event::annotation`].
    pub fn any_annotation(&self, accept: impl Fn(&str, &str) -> bool) -> bool {
        let mut look = Look { doc: self.event.raw(), accept, inside: false, key: None, found: false };
        // Scanned once already: it is valid.
        let _ = scan::value(self.event.raw(), 0, &mut look);
        look.found
    }
}

/// Whether the URL path of a resource request names an object. The path's grammar is that of
/// k8s.io/apiserver `pkg/endpoints/request/requestinfo.go`, `NewRequestInfo`.
fn has_name(path: &str) -> bool {
    let mut segments = path.trim_matches('/').split('/');
    let prefix = if segments.next() == Some("apis") { 2 } else { 1 };
    let mut rest = segments.skip(prefix).peekable();
    if rest.peek() == Some(&"namespaces") {
        let mut ahead = rest.clone().skip(2);
        match ahead.next() {
            // The namespace itself, or a subresource of it.
            None | Some("status" | "finalize") => {}
            Some(_) => drop(rest.by_ref().nth(1)),
        }
    }
    rest.nth(1).is_some_and(|name| !name.is_empty())
}

fn path(uri: Cow<'_, str>) -> Cow<'_, str> {
    let uri = match uri {
        Cow::Borrowed(uri) => Cow::Borrowed(uri.split('?').next().unwrap_or_default()),
        Cow::Owned(mut uri) => {
            uri.truncate(uri.find('?').unwrap_or(uri.len()));
            Cow::Owned(uri)
        }
    };
    if !uri.contains('%') {
        return uri;
    }
    let mut out = Vec::with_capacity(uri.len());
    let mut rest = uri.as_bytes();
    while let [first, after @ ..] = rest {
        match (first, after) {
            (b'%', [high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(nibble(*high) << 4 | nibble(*low));
                rest = tail;
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// The value of a hexadecimal digit.
fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        other => (other | 0x20) - b'a' + 10,
    }
}

struct Look<'d, A> {
    doc: &'d [u8],
    accept: A,
    inside: bool,
    key: Option<Str>,
    found: bool,
}

impl<A: Fn(&str, &str) -> bool> Visitor for Look<'_, A> {
    fn key(&mut self, key: Str, depth: usize) {
        match depth {
            1 => {
                self.inside = text::equals(self.doc, key, "annotations");
                self.key = None;
                // The last of repeated members counts.
                self.found &= !self.inside;
            }
            2 if self.inside => self.key = Some(key),
            _ => {}
        }
    }

    fn string(&mut self, value: Str, depth: usize) {
        if let (2, true, false, Some(key)) = (depth, self.inside, self.found, self.key) {
            self.found = (self.accept)(&text::decoded(self.doc, key), &text::decoded(self.doc, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_query_and_escapes() {
        for (uri, want) in [
            ("/healthz?verbose", "/healthz"),
            ("/a%2Fb%zz%4", "/a/b%zz%4"),
            ("/%e2%82%ac?x=%41", "/€"),
            ("/%ff", "/\u{fffd}"),
            ("", ""),
        ] {
            assert_eq!(path(Cow::Borrowed(uri)), want);
            assert_eq!(path(Cow::Owned(uri.to_string())), want);
        }
    }

    #[test]
    fn names_in_urls() {
        for (path, want) in [
            ("/api/v1/pods", false),
            ("/api/v1/namespaces/n/pods", false),
            ("/api/v1/namespaces/n/pods/", false),
            ("/api/v1/namespaces/n/pods/p", true),
            ("/api/v1/namespaces/n/pods/p/exec", true),
            ("/api/v1/namespaces", false),
            ("/api/v1/namespaces/n", true),
            ("/api/v1/namespaces/n/finalize", true),
            ("/api/v1/nodes/n/proxy/x", true),
            ("/apis/apps/v1/namespaces/n/deployments", false),
            ("/apis/apps/v1/namespaces/n/deployments/d", true),
            ("", false),
        ] {
            assert_eq!(has_name(path), want, "{path}");
        }
    }

    #[test]
    fn the_last_source_ip_counts() {
        for (ips, want) in [
            (r#"["10.0.0.1","::ffff:192.0.2.7"]"#, Some("192.0.2.7")),
            (r#"["2001:db8::1"]"#, Some("2001:db8::1")),
            (r#"["10.0.0.1","nonsense"]"#, None),
            ("[]", None),
        ] {
            let line = format!(r#"{{"sourceIPs":{ips}}}"#);
            let event = Event::parse(line.as_bytes()).unwrap();
            assert_eq!(Facts::new(&event).source_ip(), want.map(|ip| ip.parse().unwrap()), "{ips}");
        }
    }

    #[test]
    fn a_create_has_the_name_of_its_url() {
        for (verb, uri, want) in [
            ("create", "/api/v1/namespaces/n/pods", ""),
            ("create", "/api/v1/namespaces/n/pods/p/exec?command=ls", "p"),
            ("get", "/api/v1/namespaces/n/pods/p", "p"),
            ("list", "/api/v1/pods?fieldSelector=metadata.name%3Dp", "p"),
        ] {
            let line = format!(r#"{{"verb":"{verb}","requestURI":"{uri}","objectRef":{{"name":"p"}}}}"#);
            let event = Event::parse(line.as_bytes()).unwrap();
            assert_eq!(Facts::new(&event).url_name(), want, "{verb} {uri}");
        }
    }

    #[test]
    fn annotations_by_pattern() {
        let line = br#"{"annotations":{"a":"0"},"requestObject":{"annotations":{"b":"1"}},"annotations":{"\u0063":"2","d":{"e":"3"}},"x":["c"]}"#;
        let event = Event::parse(line).unwrap();
        let facts = Facts::new(&event);
        assert!(facts.any_annotation(|k, v| k == "c" && v == "2"));
        for key in ["a", "b", "e"] {
            assert!(!facts.any_annotation(|k, _| k == key), "{key}");
        }
    }

    #[test]
    fn nothing_prints_content() {
        let event = Event::parse(br#"{"verb":"secret"}"#).unwrap();
        let facts = Facts::new(&event);
        assert_eq!(facts.verb(), "secret");
        assert!(!format!("{facts:?}").contains("secret"));
    }
}
