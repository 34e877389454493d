//! Shapes: an event in the words of the platform that it goes to, made of its redacted body alone.
//!
//! [`ecs`] nests the event, unchanged, in a document of Elastic's common fields; [`datadog`] puts Datadog's standard
//! attributes beside the event's own. Each has a table of what it makes of what ([`SHAPES`]), from which
//! `docs/shapes.md` is printed; a test holds the code to it. Members are written straight into the buffer.

pub(crate) mod datadog;
pub(crate) mod ecs;

use auditship_event::audit::{Event, Stage};
use auditship_event::scan::{Malformed, Str, Visitor};
use auditship_event::text;
use std::fmt::Display;
use std::io::Write as _;
use std::net::IpAddr;

/// One field of a shape, and what it is made of.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its path.
    pub name: &'static str,
    /// Where it comes from: a member of the event, or words.
    pub from: &'static str,
}

const fn field(name: &'static str, from: &'static str) -> Field {
    Field { name, from }
}

/// A shape and its fields.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Its name in the configuration.
    pub name: &'static str,
    /// What it is for, in a few sentences.
    pub doc: &'static str,
    /// The fields that it makes, in the order in which they are written.
    pub fields: &'static [Field],
}

/// All shapes but `raw`.
pub const SHAPES: &[Shape] = &[ecs::SHAPE, datadog::SHAPE];

/// What the shapes take from an event.
struct Facts<'a> {
    event: Event<'a>,
    user_uid: Option<Str>,
    effective: Option<Str>,
    object_uid: Option<Str>,
}

impl<'a> Facts<'a> {
    /// Reads the redacted event, with `other` on the same pass.
    fn read<V: Visitor>(body: &'a [u8], other: &mut V) -> Result<Facts<'a>, Malformed> {
        let mut more = More { doc: body, top: Top::Other, next: None, found: [None; 3] };
        let both = &mut auditship_event::scan::Both(&mut more, other);
        let (event, _) = Event::parse_first_with(body, both)?;
        let [user_uid, effective, object_uid] = more.found;
        Ok(Facts { event, user_uid, effective, object_uid })
    }

    fn text(&self, place: Option<Str>) -> std::borrow::Cow<'a, str> {
        place.map_or_else(Default::default, |place| text::decoded(self.event.raw(), place))
    }

    /// Who asked: the last of `sourceIPs`, since all others can be set by the client (k8s.io/apiserver
    /// `pkg/apis/audit/v1/types.go`). `None` where it is no address.
    fn client_ip(&self) -> Option<IpAddr> {
        self.event.source_ips().last()?.parse().ok()
    }

    /// `responseStatus.code`; 0 is what is written where there is none.
    fn code(&self) -> Option<u16> {
        self.event.code().filter(|code| *code != 0)
    }

    /// Whether the request succeeded, once that is known.
    fn succeeded(&self) -> Option<bool> {
        if self.event.stage() == Stage::Panic || self.is_forbidden() {
            return Some(false);
        }
        Some(self.code()? < 400)
    }

    fn is_forbidden(&self) -> bool {
        self.event.annotation("authorization.k8s.io/decision").is_some_and(|decision| decision == "forbid")
    }

    /// `success`, `failure` or `unknown`.
    fn outcome(&self) -> &'static str {
        match self.succeeded() {
            Some(true) => "success",
            Some(false) => "failure",
            None => "unknown",
        }
    }

    /// From the request's arrival to this stage, in nanoseconds.
    fn duration(&self) -> Option<i64> {
        self.event.latency().filter(|micros| *micros >= 0).map(|micros| micros.saturating_mul(1_000))
    }

    /// The HTTP method that the verb stands for; empty where several do.
    ///
    /// Verbs of resources: k8s.io/apiserver `pkg/endpoints/request/requestinfo.go`. Requests for anything else have
    /// their method in lower case as their verb.
    fn method(&self) -> &'static str {
        match &*self.event.verb() {
            "get" | "list" | "watch" => "GET",
            "create" | "post" => "POST",
            "update" | "put" => "PUT",
            "patch" => "PATCH",
            "delete" | "deletecollection" => "DELETE",
            "head" => "HEAD",
            "options" => "OPTIONS",
            _ => "",
        }
    }
}

/// The members that [`Event`] does not note.
struct More<'a> {
    doc: &'a [u8],
    top: Top,
    next: Option<usize>,
    found: [Option<Str>; 3],
}

#[derive(Clone, Copy)]
enum Top {
    User,
    Impersonated,
    Object,
    Other,
}

impl Visitor for More<'_> {
    fn key(&mut self, key: Str, depth: usize) {
        let is = |word| text::equals(self.doc, key, word);
        if depth == 1 {
            self.top = match () {
                () if is("user") => Top::User,
                () if is("impersonatedUser") => Top::Impersonated,
                () if is("objectRef") => Top::Object,
                () => Top::Other,
            };
        }
        self.next = match (depth, self.top) {
            (2, Top::User) if is("uid") => Some(0),
            (2, Top::Impersonated) if is("username") => Some(1),
            (2, Top::Object) if is("uid") => Some(2),
            _ => None,
        };
    }

    fn string(&mut self, value: Str, depth: usize) {
        if let (2, Some(at)) = (depth, self.next.take()) {
            self.found[at] = Some(value);
        }
    }
}

/// Path and query of a request URI.
fn split_uri(uri: &str) -> (&str, &str) {
    uri.split_once('?').unwrap_or((uri, ""))
}

/// An object that is being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    fn open(out: &'o mut Vec<u8>) -> Object<'o> {
        out.push(b'{');
        Object { out, empty: true }
    }

    fn close(self) {
        self.out.push(b'}');
    }

    /// The place of the next member, which the caller writes as a whole.
    fn member(&mut self) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out
    }

    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        let out = self.member();
        out.push(b'"');
        text::escape_into(key, out);
        out.extend_from_slice(b"\":");
        out
    }

    /// A string; nothing where it is empty.
    fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            let out = self.key(key);
            out.push(b'"');
            text::escape_into(value, out);
            out.push(b'"');
        }
    }

    /// A string of several words; nothing where there are none.
    fn texts(&mut self, key: &str, values: &[&str]) {
        let (mut before, out) = (b'[', if values.is_empty() { return } else { self.key(key) });
        for value in values {
            out.extend_from_slice(&[before, b'"']);
            text::escape_into(value, out);
            out.push(b'"');
            before = b',';
        }
        out.push(b']');
    }

    /// A number, or something else whose text needs no quotes; nothing where there is none.
    fn number(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            write!(self.key(key), "{value}").expect("memory takes any bytes");
        }
    }

    /// An object; nothing where it stays empty.
    fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        let (from, empty) = (self.out.len(), self.empty);
        let mut inner = Object::open(self.key(key));
        fill(&mut inner);
        if inner.empty {
            self.out.truncate(from);
            self.empty = empty;
        } else {
            inner.close();
        }
    }
}

/// The shapes as a page, for `docs/shapes.md`.
pub fn page() -> String {
    let mut out = String::from(
        "# Shapes\n\n\
         Made from the tables in `crates/ship/src/shape` by `cargo xtask docs`; a test holds the code to them.\n\n\
         The option `shape` of an output says in whose words an event leaves. Every shape is made of the redacted event,\n\
         never of the line. `raw` is the event as it was logged, with the member `auditship`\n\
         (`uid`, `index`, `cluster`, `node`, `key`). A field whose source is missing or empty is left out.\n",
    );
    for shape in SHAPES {
        out.push_str(&format!("\n## `{}`\n\n{}\n\n| field | from |\n|---|---|\n", shape.name, shape.doc));
        for field in shape.fields {
            out.push_str(&format!("| `{}` | {} |\n", field.name, field.from));
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use auditship_event::{Body, Edits, Index, Keys, Record, Span, StreamId};
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    /// An event that has everything.
    pub(crate) fn full() -> Value {
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse",
            "auditID": "a-1", "stage": "ResponseComplete",
            "requestURI": "/apis/apps/v1/namespaces/pay/deployments/api/scale?dryRun=All", "verb": "update",
            "user": {"username": "al\"ice", "uid": "u-1", "groups": ["ops", "system:authenticated"],
                     "extra": {"authentication.kubernetes.io/pod-name": ["x"]}},
            "impersonatedUser": {"username": "root", "groups": ["system:masters"]},
            "sourceIPs": ["1.2.3.4", "2001:db8::7"], "userAgent": "kubectl/v1",
            "objectRef": {"resource": "deployments", "namespace": "pay", "name": "api", "uid": "o-1",
                          "apiGroup": "apps", "apiVersion": "v1", "subresource": "scale"},
            "responseStatus": {"metadata": {}, "code": 200},
            "requestObject": {"metadata": {"managedFields": [{"manager": "m"}]}, "spec": {"replicas": 2}},
            "responseObject": {"kind": "Scale", "spec": {"replicas": 2}},
            "requestReceivedTimestamp": "2026-11-24T02:30:59.000001Z",
            "stageTimestamp": "2026-11-24T02:30:59.123456Z",
            "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
        })
    }

    /// What `frame` makes of `line`, and the place that it gives for the document.
    pub(crate) fn framed(
        line: &str,
        frame: impl FnOnce(&Record<'_>, &mut Vec<u8>) -> std::ops::Range<usize>,
    ) -> (Value, String) {
        let none = Edits::new();
        let record = Record {
            index: &Index("audit".into()),
            time: 1_795_487_459_123_456,
            uid: Keys::derive(b"k", "prod").uid(line.as_bytes()),
            span: Span { stream: StreamId(1), start: 0, end: 1 },
            body: Body::redacted(line.as_bytes(), &none),
        };
        let mut out = Vec::new();
        let document = frame(&record, &mut out);
        let text = String::from_utf8(out).unwrap();
        (serde_json::from_str(&text).unwrap(), text[document].to_owned())
    }

    /// The paths of everything that is no object, but for what is below `kept`.
    pub(crate) fn paths(value: &Value, kept: &[&str]) -> BTreeSet<String> {
        fn walk(value: &Value, path: &str, kept: &[&str], out: &mut BTreeSet<String>) {
            match value {
                Value::Object(members) if !kept.contains(&path) => {
                    let dot = if path.is_empty() { "" } else { "." };
                    members
                        .iter()
                        .for_each(|(key, value)| walk(value, &format!("{path}{dot}{key}"), kept, out));
                }
                _ => drop(out.insert(path.to_owned())),
            }
        }
        let mut out = BTreeSet::new();
        walk(value, "", kept, &mut out);
        out
    }

    /// The paths of a table.
    pub(crate) fn listed(shape: &Shape) -> BTreeSet<String> {
        shape.fields.iter().map(|field| field.name.to_owned()).collect()
    }

    #[test]
    fn what_a_request_has_come_to() {
        for (change, outcome, method) in [
            (json!({}), "success", "PUT"),
            (json!({"responseStatus": {"code": 403}, "verb": "list"}), "failure", "GET"),
            (
                json!({"annotations": {"authorization.k8s.io/decision": "forbid"}, "verb": "get"}),
                "failure",
                "GET",
            ),
            (json!({"stage": "Panic", "verb": "deletecollection"}), "failure", "DELETE"),
            (json!({"stage": "RequestReceived", "responseStatus": null, "verb": "proxy"}), "unknown", ""),
            (json!({"responseStatus": {"code": 0}, "verb": "post"}), "unknown", "POST"),
        ] {
            let mut event = full();
            event.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let line = event.to_string();
            let facts = Facts::read(line.as_bytes(), &mut auditship_event::scan::Ignore).unwrap();
            assert_eq!((facts.outcome(), facts.method()), (outcome, method), "{change}");
        }
    }

    #[test]
    fn the_client_is_the_last_address_if_it_is_one() {
        for (ips, want) in [
            (json!(["1.1.1.1", "10.0.0.1"]), Some("10.0.0.1")),
            (json!(["::1"]), Some("::1")),
            (json!(["1.1.1.1", "proxy.example"]), None),
            (json!([]), None),
        ] {
            let line = json!({"sourceIPs": ips}).to_string();
            let facts = Facts::read(line.as_bytes(), &mut auditship_event::scan::Ignore).unwrap();
            assert_eq!(facts.client_ip().map(|ip| ip.to_string()).as_deref(), want);
        }
    }
}
