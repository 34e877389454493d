//! The shape `datadog`: Datadog's standard attributes beside the event's own members, within Datadog's limits.
//!
//! Sources: Datadog's standard attributes (`docs.datadoghq.com/logs/log_configuration/attributes_naming_convention`);
//! `ddsource: kubernetes.audit`, which starts the platform's own pipeline for these events and is why their members
//! keep their names; limits of a log: fewer than 256 attributes, fewer than 10 levels, keys shorter than 50
//! characters.

use super::{Facts, Object, Shape, field, split_uri};
use crate::sink::{Context, WithIndex};
use crate::trim;
use auditship_event::scan::{Scalar, Str, Visitor};
use auditship_event::{Record, text};
use std::ops::Range;

pub(super) const SHAPE: Shape = Shape {
    name: "datadog",
    doc: "For Datadog: its standard attributes beside the event's own members, which keep their names, so that what\n\
          Datadog knows of the source `kubernetes.audit` goes on to work. `requestObject` and `responseObject` are text,\n\
          without `managedFields`: as attributes they would be thousands. So is any other member that has more than 60\n\
          attributes, is nested deeper than six levels or has a key longer than 49 bytes.",
    fields: &[
        field("message", "one sentence: verb, object or URI, user, code"),
        field(
            "status",
            "`error` for the stage Panic and codes from 500, `warn` for 401 and 403, else `info`",
        ),
        field("usr.id", "`user.username`"),
        field("usr.name", "`user.username`"),
        field("network.client.ip", "the last of `sourceIPs`: the others can be set by the client"),
        field("http.status_code", "`responseStatus.code`"),
        field("http.method", "`verb`, as Datadog's rules for this source expect it"),
        field("http.url", "`requestURI`"),
        field("http.url_details.path", "`requestURI` up to `?`"),
        field("http.useragent", "`userAgent`"),
        field("duration", "`requestReceivedTimestamp` to `stageTimestamp`, nanoseconds"),
        field("evt.name", "`verb`"),
        field(
            "evt.outcome",
            "`failure` for the stage Panic, a decision `forbid` and codes from 400, `success` for lower ones, else `unknown`",
        ),
        field("auditship", "`uid`, `index`, `cluster`, `node`, `key`"),
    ],
};

/// Most attributes of one member that stays an object.
const MEMBER_KEYS: usize = 60;
/// Most attributes of all members together; what a record has besides are fewer than 40.
const KEYS: usize = 200;
/// Deepest nesting inside of a member.
const LEVELS: usize = 6;
/// Longest key.
const KEY_BYTES: usize = 49;

/// The names that the record gives a meaning of its own; an event's member of that name is left out.
pub(crate) const OURS: &[&str] = &[
    "ddsource",
    "ddtags",
    "hostname",
    "service",
    "timestamp",
    "message",
    "status",
    "usr",
    "network",
    "http",
    "duration",
    "evt",
    "auditship",
];

/// Appends the members of the record, without braces, with a comma before each where `comma` says so.
pub(crate) fn members(record: &Record<'_>, context: &Context, out: &mut Vec<u8>) {
    let mut body = record.body.to_vec();
    trim::drop_managed_fields(&mut body);
    let mut members = Members { doc: &body, list: Vec::new() };
    let Ok(facts) = Facts::read(&body, &mut members) else {
        // No JSON cannot be, by the invariant of `Body`.
        return;
    };
    let members = members.list;
    // The brace of an object that goes on.
    let mut to = Object { out, empty: false };
    let mut message = Vec::with_capacity(128);
    sentence(&facts, &mut message);
    if message.is_empty() {
        message.extend_from_slice(b"audit event");
    }
    to.text("message", &String::from_utf8_lossy(&message));
    to.text("status", status(&facts));
    own(&facts, &mut to);
    context.write_member(record, WithIndex::Yes, to.member());
    let mut keys = 0;
    for member in &members {
        let name = text::decoded(&body, member.key);
        if OURS.contains(&&*name) {
            continue;
        }
        let value = &body[member.value.clone()];
        let container = matches!(value.first(), Some(b'{' | b'['));
        let is_body = matches!(&*name, "requestObject" | "responseObject");
        let fits = member.keys <= MEMBER_KEYS && member.levels <= LEVELS && !member.long_key;
        let to_value = to.key(&name);
        if container && (is_body || !fits || keys + member.keys > KEYS) {
            keys += 1;
            to_value.push(b'"');
            text::escape_into(&String::from_utf8_lossy(value), to_value);
            to_value.push(b'"');
        } else {
            keys += member.keys.max(1);
            to_value.extend_from_slice(value);
        }
    }
}

fn own(facts: &Facts<'_>, to: &mut Object<'_>) {
    let event = &facts.event;
    let (user, verb, uri) = (event.username().unwrap_or_default(), event.verb(), event.request_uri());
    to.object("usr", |to| {
        to.text("id", &user);
        to.text("name", &user);
    });
    to.object("network", |to| {
        to.object("client", |to| {
            to.text("ip", &facts.client_ip().map(|ip| ip.to_string()).unwrap_or_default());
        });
    });
    to.object("http", |to| {
        to.number("status_code", facts.code());
        to.text("method", &verb);
        to.text("url", &uri);
        to.object("url_details", |to| to.text("path", split_uri(&uri).0));
        to.text("useragent", &event.user_agent());
    });
    to.number("duration", facts.duration());
    to.object("evt", |to| {
        to.text("name", &verb);
        to.text("outcome", facts.outcome());
    });
}

fn status(facts: &Facts<'_>) -> &'static str {
    match facts.code() {
        _ if facts.event.stage() == auditship_event::audit::Stage::Panic => "error",
        Some(500..) => "error",
        Some(401 | 403) => "warn",
        _ => "info",
    }
}

/// `update deployments/scale pay/api by alice: 200`
fn sentence(facts: &Facts<'_>, out: &mut Vec<u8>) {
    let event = &facts.event;
    let mut push = |words: &[&str]| words.iter().for_each(|word| out.extend_from_slice(word.as_bytes()));
    push(&[&event.verb()]);
    match event.object_ref() {
        Some(object) => {
            push(&[" ", &object.resource]);
            if !object.subresource.is_empty() {
                push(&["/", &object.subresource]);
            }
            match (object.namespace.is_empty(), object.name.is_empty()) {
                (false, false) => push(&[" ", &object.namespace, "/", &object.name]),
                (false, true) => push(&[" in ", &object.namespace]),
                (true, false) => push(&[" ", &object.name]),
                (true, true) => {}
            }
        }
        None if event.request_uri().is_empty() => {}
        None => push(&[" ", split_uri(&event.request_uri()).0]),
    }
    if let Some(user) = event.username() {
        push(&[" by ", &user]);
    }
    if let Some(code) = facts.code() {
        push(&[": ", &code.to_string()]);
    }
}

/// A member of the event.
struct Member {
    key: Str,
    value: Range<usize>,
    /// How many attributes it would become, about: the keys inside.
    keys: usize,
    levels: usize,
    long_key: bool,
}

/// Notes the members of the outermost object.
struct Members<'a> {
    doc: &'a [u8],
    list: Vec<Member>,
}

impl Members<'_> {
    fn note(&mut self, value: Range<usize>, depth: usize) {
        if let (1, Some(member)) = (depth, self.list.last_mut()) {
            member.value = value;
        }
    }

    fn open(&mut self, at: usize, depth: usize) {
        self.note(at..at, depth);
        if let Some(member) = self.list.last_mut() {
            member.levels = member.levels.max(depth);
        }
    }
}

impl Visitor for Members<'_> {
    fn open_object(&mut self, at: usize, depth: usize) {
        self.open(at, depth);
    }

    fn open_array(&mut self, at: usize, depth: usize) {
        self.open(at, depth);
    }

    fn close(&mut self, at: usize, depth: usize) {
        if let (1, Some(member)) = (depth, self.list.last_mut()) {
            member.value.end = at + 1;
        }
    }

    fn key(&mut self, key: Str, depth: usize) {
        if depth == 1 {
            self.list.push(Member { key, value: 0..0, keys: 0, levels: 0, long_key: false });
        } else if let Some(member) = self.list.last_mut() {
            member.keys += 1;
            member.long_key |= key.raw(self.doc).len() > KEY_BYTES;
        }
    }

    fn string(&mut self, value: Str, depth: usize) {
        self.note(value.start - 1..value.end + 1, depth);
    }

    fn scalar(&mut self, start: usize, end: usize, _: Scalar, depth: usize) {
        self.note(start..end, depth);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{framed, full, listed, paths};
    use super::*;
    use crate::sinks::tests::context;
    use serde_json::{Value, json};

    fn datadog(line: &str) -> Value {
        let frame = |record: &Record<'_>, out: &mut Vec<u8>| {
            out.extend_from_slice(b"{\"ddsource\":\"s\"");
            members(record, &context(), out);
            out.push(b'}');
            0..0
        };
        framed(line, frame).0
    }

    #[test]
    fn every_field_is_in_the_table() {
        let record = datadog(&full().to_string());
        let mut own = record.clone();
        for key in full().as_object().unwrap().keys().map(String::as_str).chain(["ddsource"]) {
            own.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(paths(&own, &["auditship"]), listed(&SHAPE));
        assert_eq!(record["message"], "update deployments/scale pay/api by al\"ice: 200");
        assert_eq!(record["usr"], json!({"id": "al\"ice", "name": "al\"ice"}));
        assert_eq!(record["network"]["client"]["ip"], "2001:db8::7");
        assert_eq!(record["http"]["status_code"], 200);
        assert_eq!(record["http"]["method"], "update");
        assert_eq!(record["duration"], 123_455_000);
        assert_eq!(record["evt"], json!({"name": "update", "outcome": "success"}));
        // The event's own members are there as they were, its bodies as text.
        for key in ["level", "verb", "user", "objectRef", "annotations", "responseStatus", "stageTimestamp"] {
            assert_eq!(record[key], full()[key], "{key}");
        }
        let body: Value = serde_json::from_str(record["requestObject"].as_str().unwrap()).unwrap();
        assert_eq!(body, json!({"metadata": {"managedFields": []}, "spec": {"replicas": 2}}));
        assert_eq!(record["responseObject"], full()["responseObject"].to_string());
    }

    #[test]
    fn statuses_and_sentences() {
        for (event, status, message) in [
            (json!({}), "info", "audit event"),
            (json!({"verb": "get", "requestURI": "/healthz?x"}), "info", "get /healthz"),
            (
                json!({"verb": "list", "objectRef": {"resource": "pods", "namespace": "a"}, "responseStatus": {"code": 403}}),
                "warn",
                "list pods in a: 403",
            ),
            (
                json!({"verb": "get", "objectRef": {"resource": "nodes", "name": "n"}, "responseStatus": {"code": 504}}),
                "error",
                "get nodes n: 504",
            ),
            (
                json!({"verb": "watch", "stage": "Panic", "objectRef": {"resource": "pods"}}),
                "error",
                "watch pods",
            ),
        ] {
            let record = datadog(&event.to_string());
            assert_eq!((&record["status"], &record["message"]), (&json!(status), &json!(message)));
        }
    }

    #[test]
    fn what_would_be_too_much_is_text() {
        let wide: Value =
            (0..70).map(|n| (format!("k{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
        let some = |n: usize| -> Value {
            (0..n).map(|n| (format!("k{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into()
        };
        let deep = json!({"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}});
        let long = json!({"x".repeat(50): 1});
        let event = json!({"a": wide, "b": deep, "c": long, "d": some(60), "e": some(60), "f": some(60), "g": some(60),
                           "h": [1, 2, {"x": 1}], "i": "text"});
        let record = datadog(&event.to_string());
        for key in ["a", "b", "c", "g"] {
            assert_eq!(record[key], event[key].to_string(), "{key}");
        }
        for key in ["d", "e", "f", "h", "i"] {
            assert_eq!(record[key], event[key], "{key}");
        }
    }

    #[test]
    fn an_event_cannot_take_our_names() {
        let record = datadog(
            r#"{"st\u0061tus":"x","timestamp":1,"auditship":{},"message":"m","verb":"get","ddsource":"evil"}"#,
        );
        assert_eq!((&record["status"], &record["message"]), (&json!("info"), &json!("get")));
        assert_eq!((&record["timestamp"], &record["ddsource"]), (&Value::Null, &json!("s")));
        assert!(record["auditship"]["uid"].is_string());
    }
}
