//! The fields of an event as attributes of a log record, by OpenTelemetry's names where it has any.
//!
//! Source: opentelemetry.io, "Semantic Conventions", registry of attributes (`client`, `http`, `k8s`, `log`, `url`,
//! `user`, `user_agent`), and "Logs Data Model" for the numbers of severity. It has no convention for audit logs; what
//! has no name there is under `k8s.audit`, with the words of `audit.k8s.io`. docs/outputs/otlp.md has the table.

use crate::proto;
use crate::sink::Context;
use crate::sinks::beginning;
use auditship_event::Record;
use auditship_event::audit::{Event, Level, Stage};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A longer text is cut: the body has all of it.
const TEXT_BYTES: usize = 4096;
/// Elements of a list.
const LIST_MAX: usize = 64;

/// A message `KeyValue{key=1, value=2: AnyValue}` in field `field`.
fn pair(field: u32, key: &str, out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    proto::message(field, out, |out| {
        proto::bytes(1, key.as_bytes(), out);
        proto::message(2, out, value);
    });
}

/// Appends an attribute with a text; an empty one is left out.
pub(super) fn text(field: u32, key: &str, value: &str, out: &mut Vec<u8>) {
    if !value.is_empty() {
        pair(field, key, out, |out| proto::bytes(1, beginning(value, TEXT_BYTES).as_bytes(), out));
    }
}

fn integer(field: u32, key: &str, value: i64, out: &mut Vec<u8>) {
    pair(field, key, out, |out| proto::integer(3, value as u64, out));
}

fn double(field: u32, key: &str, value: f64, out: &mut Vec<u8>) {
    pair(field, key, out, |out| proto::fixed64(4, value.to_bits(), out));
}

fn list<T: AsRef<str>>(field: u32, key: &str, values: &[T], out: &mut Vec<u8>) {
    if !values.is_empty() {
        pair(field, key, out, |out| {
            proto::message(5, out, |out| {
                for value in values.iter().take(LIST_MAX) {
                    let value = beginning(value.as_ref(), TEXT_BYTES);
                    proto::message(1, out, |out| proto::bytes(1, value.as_bytes(), out));
                }
            });
        });
    }
}

/// A message `KeyValueList{values=1: KeyValue}` in field 6 of the value.
fn map(field: u32, key: &str, pairs: &BTreeMap<Cow<'_, str>, Cow<'_, str>>, out: &mut Vec<u8>) {
    if pairs.values().any(|value| !value.is_empty()) {
        pair(field, key, out, |out| {
            proto::long(6, out, |out| {
                let some = pairs.iter().take(LIST_MAX);
                some.for_each(|(key, value)| text(1, beginning(key, TEXT_BYTES), value, out));
            });
        });
    }
}

/// Appends the attributes of a record as field `field`. `event` is the redacted one.
pub(super) fn write(
    field: u32,
    record: &Record<'_>,
    context: &Context,
    event: Option<&Event<'_>>,
    out: &mut Vec<u8>,
) {
    text(field, "log.record.uid", &record.uid.to_string(), out);
    text(field, "auditship.index", record.index.as_str(), out);
    text(field, "auditship.key", &context.key_id().to_string(), out);
    if let Some(trim) = record.body.trim() {
        list(field, "auditship.trimmed", trim.taken, out);
        integer(field, "auditship.bytes", i64::try_from(trim.bytes).unwrap_or(i64::MAX), out);
    }
    let Some(event) = event else { return };
    let mut add = |key: &str, value: &str| text(field, key, value, out);
    add("k8s.audit.id", &event.audit_id());
    add("k8s.audit.level", level(event.level()));
    add("k8s.audit.stage", stage(event.stage()));
    add("k8s.audit.verb", &event.verb());
    add("user.name", &event.username().unwrap_or_default());
    add("user.id", &event.user_uid().unwrap_or_default());
    add("user_agent.original", &event.user_agent());
    let uri = event.request_uri();
    let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
    add("url.path", path);
    add("url.query", query);
    add("http.request.method", method(&event.verb(), event.object_ref().is_some()));
    if let Some(object) = event.object_ref() {
        add("k8s.namespace.name", &object.namespace);
        add("k8s.audit.object.api_group", &object.group);
        add("k8s.audit.object.api_version", &object.version);
        add("k8s.audit.object.resource", &object.resource);
        add("k8s.audit.object.subresource", &object.subresource);
        add("k8s.audit.object.name", &object.name);
    }
    let annotations = event.annotations();
    for (key, annotation) in [
        ("k8s.audit.decision", "authorization.k8s.io/decision"),
        ("k8s.audit.reason", "authorization.k8s.io/reason"),
    ] {
        add(key, annotations.get(annotation).map(|value| &**value).unwrap_or_default());
    }
    let addresses = event.source_ips();
    if let Some((last, claimed)) = addresses.split_last() {
        // The API server has seen the last one itself; those before are the client's own word.
        add("client.address", last);
        list(field, "k8s.audit.claimed_addresses", claimed, out);
    }
    list(field, "user.roles", &event.groups(), out);
    map(field, "k8s.audit.annotations", &annotations, out);
    if let Some(code) = event.code() {
        integer(field, "http.response.status_code", code.into(), out);
    }
    if let Some(micros) = event.latency() {
        double(field, "k8s.audit.duration", micros as f64 / 1e6, out);
    }
}

/// What kind of event it is: `k8s.audit` with the verb, where that is a plain word.
pub(super) fn event_name(event: Option<&Event<'_>>) -> String {
    let verb = event.map(Event::verb).unwrap_or_default();
    let plain = (1..=24).contains(&verb.len()) && verb.bytes().all(|byte| byte.is_ascii_lowercase());
    if plain { format!("k8s.audit.{verb}") } else { "k8s.audit".to_owned() }
}

/// Number and text of the severity: what was refused to somebody and what has failed stand out. Other codes from 400 on
/// are everyday life (404, 409).
pub(super) fn severity(event: Option<&Event<'_>>) -> (u64, &'static str) {
    let panicked = event.is_some_and(|event| event.stage() == Stage::Panic);
    match event.and_then(Event::code).unwrap_or_default() {
        500.. => (17, "ERROR"),
        _ if panicked => (17, "ERROR"),
        401 | 403 => (13, "WARN"),
        _ => (9, "INFO"),
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Unknown => "",
        Level::None => "None",
        Level::Metadata => "Metadata",
        Level::Request => "Request",
        Level::RequestResponse => "RequestResponse",
    }
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Unknown => "",
        Stage::RequestReceived => "RequestReceived",
        Stage::ResponseStarted => "ResponseStarted",
        Stage::ResponseComplete => "ResponseComplete",
        Stage::Panic => "Panic",
    }
}

/// The HTTP method that the API server made the verb of (k8s.io/apiserver `pkg/endpoints/request/requestinfo.go`; a
/// `HEAD` becomes `get` there); of a request for no resource the verb is the method.
fn method(verb: &str, resource: bool) -> &'static str {
    match (verb, resource) {
        ("get" | "list" | "watch", true) | ("get", false) => "GET",
        ("create", true) | ("post", false) => "POST",
        ("update", true) | ("put", false) => "PUT",
        ("patch", _) => "PATCH",
        ("delete", _) | ("deletecollection", true) => "DELETE",
        ("head", false) => "HEAD",
        ("options", false) => "OPTIONS",
        ("connect", false) => "CONNECT",
        ("trace", false) => "TRACE",
        ("", _) => "",
        // What the conventions say of methods that are not known.
        _ => "_OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(verb: &str, more: &str) -> String {
        format!(r#"{{"kind":"Event","verb":"{verb}"{more}}}"#)
    }

    #[test]
    fn severity_follows_the_answer() {
        for (more, want) in [
            ("", "INFO"),
            (r#","responseStatus":{"code":201}"#, "INFO"),
            (r#","responseStatus":{"code":401}"#, "WARN"),
            (r#","responseStatus":{"code":403}"#, "WARN"),
            (r#","responseStatus":{"code":400}"#, "INFO"),
            (r#","responseStatus":{"code":404}"#, "INFO"),
            (r#","responseStatus":{"code":409}"#, "INFO"),
            (r#","responseStatus":{"code":429}"#, "INFO"),
            (r#","stage":"Panic","responseStatus":{"code":403}"#, "ERROR"),
            (r#","responseStatus":{"code":500}"#, "ERROR"),
            (r#","stage":"Panic""#, "ERROR"),
        ] {
            let text = event("get", more);
            assert_eq!(severity(Event::parse(text.as_bytes()).ok().as_ref()).1, want, "{more}");
        }
        assert_eq!(severity(None), (9, "INFO"));
    }

    #[test]
    fn names_have_few_values() {
        for (verb, want) in
            [("watch", "k8s.audit.watch"), ("", "k8s.audit"), ("a/b", "k8s.audit"), ("GET", "k8s.audit")]
        {
            let text = event(verb, "");
            assert_eq!(event_name(Event::parse(text.as_bytes()).ok().as_ref()), want);
        }
    }

    #[test]
    fn verbs_were_methods() {
        for (verb, resource, want) in [
            ("list", true, "GET"),
            ("list", false, "_OTHER"),
            ("create", true, "POST"),
            ("deletecollection", true, "DELETE"),
            ("post", false, "POST"),
            ("impersonate", true, "_OTHER"),
            ("", false, ""),
        ] {
            assert_eq!(method(verb, resource), want, "{verb}");
        }
    }
}
