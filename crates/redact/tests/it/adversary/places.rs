//! Where in an event a text stands, and in what kind of request.

use super::chance::Chance;
use crate::table::{Field, fields, planted, pointer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// All fields of Kubernetes' own types.
static FIELDS: LazyLock<Vec<Field>> = LazyLock::new(fields);
/// Those in which a credential may stand.
static CARRIERS: LazyLock<Vec<&Field>> = LazyLock::new(|| {
    FIELDS.iter().filter(|f| f.verdict != "public" && f.kind != "audit.k8s.io/Event").collect()
});
/// Those of Secrets and tokens, which are few among the others.
static ALWAYS: LazyLock<Vec<&Field>> =
    LazyLock::new(|| FIELDS.iter().filter(|f| f.verdict == "redacted").collect());

/// Where the text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A field of a built-in kind, by its number.
    Field(usize),
    /// A field whose value always goes.
    Always(usize),
    /// `last-applied-configuration` of a built-in kind, which repeats the object with the field.
    LastApplied(usize),
    /// A member of a custom resource.
    Custom,
    /// `responseStatus.message`.
    Message,
    UserAgent,
    /// `user.extra`.
    Extra,
    /// An annotation of the event itself.
    Annotation,
    /// The patch of a webhook in such an annotation.
    WebhookPatch,
    /// A parameter of `requestURI`.
    Uri,
    /// An argument of `exec`.
    Exec,
    /// A cell of a table.
    Cell,
}

/// What the request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    Create,
    Get,
    List,
    Table,
    JsonPatch,
    /// A JSON Patch that writes what the value stands in.
    JsonPatchAbove,
    JsonPatchWhole,
    MergePatch,
    StrategicPatch,
    Apply,
    PartialMetadata,
}

pub const ALL: &[Carrier] = &[
    Carrier::Create,
    Carrier::Get,
    Carrier::List,
    Carrier::Table,
    Carrier::JsonPatch,
    Carrier::JsonPatchAbove,
    Carrier::JsonPatchWhole,
    Carrier::MergePatch,
    Carrier::StrategicPatch,
    Carrier::Apply,
    Carrier::PartialMetadata,
];

/// A place, chosen by a number.
pub fn place(chance: &mut Chance) -> Place {
    match chance.below(20) {
        0..=7 => Place::Field(chance.below(CARRIERS.len())),
        8 | 9 => Place::Always(chance.below(ALWAYS.len())),
        10 | 11 => Place::LastApplied(chance.below(CARRIERS.len())),
        12 => Place::Custom,
        13 => Place::Message,
        14 => Place::UserAgent,
        15 => Place::Extra,
        16 => *chance.pick(&[Place::Annotation, Place::WebhookPatch]),
        17 => Place::Uri,
        18 => Place::Exec,
        _ => Place::Cell,
    }
}

impl Place {
    /// The kind and path, for whoever reads a failure.
    pub fn name(self) -> String {
        match self {
            Place::Field(at) => format!("{} {}", CARRIERS[at].kind, CARRIERS[at].path),
            Place::Always(at) => format!("{} {}", ALWAYS[at].kind, ALWAYS[at].path),
            Place::LastApplied(at) => {
                format!("{} {} in last-applied-configuration", CARRIERS[at].kind, CARRIERS[at].path)
            }
            other => format!("{other:?}"),
        }
    }

    /// The event in which `text` stands at this place.
    pub fn event(self, text: &str, carrier: Carrier, chance: &mut Chance) -> Value {
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": "a",
            "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/n/x", "verb": "get",
            "user": {"username": "alice", "groups": ["system:authenticated"]}, "sourceIPs": ["192.0.2.7"],
            "stageTimestamp": "2026-11-24T02:29:59.024123Z",
        });
        match self {
            Place::Field(at) => carrier.fill(&mut event, CARRIERS[at], text, chance),
            Place::Always(at) => carrier.fill(&mut event, ALWAYS[at], text, chance),
            Place::LastApplied(at) => applied(&mut event, CARRIERS[at], text, carrier, chance),
            Place::Custom => {
                let field = custom(chance);
                carrier.fill(&mut event, &field, text, chance);
            }
            Place::Message => {
                event["responseStatus"] = json!({"code": 422, "message": format!("it failed: {text}")})
            }
            Place::UserAgent => event["userAgent"] = json!(format!("tool/1.0 {text}")),
            Place::Extra => event["user"]["extra"] = json!({"example.com/note": ["x", text]}),
            Place::Annotation => event["annotations"] = json!({"webhook.example.com/note": text}),
            Place::WebhookPatch => {
                let patch = json!({"configuration": "c", "webhook": "w", "patchType": "JSONPatch",
                    "patch": [{"op": "add", "path": "/metadata/annotations/note", "value": text}]});
                event["annotations"] =
                    json!({"patch.webhook.admission.k8s.io/round_0_index_0": patch.to_string()});
            }
            Place::Uri => event["requestURI"] = json!(format!("/api/v1/x?a=1&note={}&b=2", percent(text))),
            Place::Exec => {
                let uri = format!(
                    "/api/v1/namespaces/n/pods/p/exec?command=sh&command=-c&command={}",
                    percent(text)
                );
                event["requestURI"] = json!(uri);
                event["objectRef"] = json!({"resource": "pods", "subresource": "exec"});
            }
            Place::Cell => {
                event["responseObject"] = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1",
                    "rows": [{"cells": ["a", 1, text], "object": {"kind": "PartialObjectMetadata"}}]});
            }
        }
        event
    }
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
            b' ' => "+".to_owned(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

fn custom(chance: &mut Chance) -> Field {
    let path = *chance.pick(&[
        "spec.values",
        "spec.parameters.*",
        "status.info[].text",
        "data.*",
        "spec.template.spec.x[]",
    ]);
    Field {
        kind: "example.com/Widget".into(),
        resource: "widgets".into(),
        path: path.into(),
        type_: "string".into(),
        verdict: "text".into(),
    }
}

/// The object that the annotation repeats, in the annotation.
fn applied(event: &mut Value, field: &Field, text: &str, carrier: Carrier, chance: &mut Chance) {
    let key = *chance.pick(&KEYS);
    let whole = field.object(key, "SETTINGS", &leaf(field, text), true);
    let note = Field {
        path: "metadata.annotations.*".into(),
        type_: "string".into(),
        verdict: "detected".into(),
        ..field.clone()
    };
    let text = whole.to_string() + *chance.pick(&["", "\n"]);
    carrier.fill_at(event, &note, &text, "kubectl.kubernetes.io/last-applied-configuration", chance);
}

/// Keys that tell nothing.
const KEYS: [&str; 4] = ["x", "application.conf", "values.yaml", "example.com/note"];

/// The value at a field: text as it is, or packed, or the document itself where any will do.
fn leaf(field: &Field, text: &str) -> Value {
    match &*field.type_ {
        "bytes" => json!(BASE64.encode(text)),
        "any" => match serde_json::from_str(text) {
            Ok(document @ Value::Object(_)) => document,
            _ => json!({"x": text}),
        },
        _ => json!(text),
    }
}

impl Carrier {
    fn fill(self, event: &mut Value, field: &Field, text: &str, chance: &mut Chance) {
        let key = *chance.pick(&KEYS);
        self.fill_at(event, field, text, key, chance);
    }

    fn fill_at(self, event: &mut Value, field: &Field, text: &str, key: &str, chance: &mut Chance) {
        let leaf = leaf(field, text);
        let mut whole = field.object(key, "SETTINGS", &leaf, true);
        surround(&mut whole, field, chance);
        event["objectRef"] = field.reference();
        let verb = match self {
            Carrier::Create | Carrier::PartialMetadata => "create",
            Carrier::Get => "get",
            Carrier::List | Carrier::Table => "list",
            _ => "patch",
        };
        event["verb"] = json!(verb);
        if chance.once_in(6) {
            event["requestURI"] = json!("/api/v1/namespaces/n/x?dryRun=All&fieldManager=kubectl");
        }
        let (_, kind) = field.names();
        let whole_again = whole.clone();
        let body = match self {
            Carrier::Create | Carrier::Get | Carrier::Apply => whole,
            Carrier::List => {
                let mut item = whole;
                if let (Some(members), true) = (item.as_object_mut(), listed(field)) {
                    members.remove("kind");
                    members.remove("apiVersion");
                }
                json!({"kind": format!("{kind}List"), "metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "o"}}, item]})
            }
            Carrier::Table => json!({"kind": "Table", "rows": [{"cells": ["a", "1"], "object": whole}]}),
            Carrier::JsonPatch => json!([{"op": "test", "path": "/metadata/name", "value": "a"},
                {"op": "replace", "path": pointer(&field.path, key), "value": leaf}]),
            Carrier::JsonPatchAbove => above(field, key, &leaf),
            Carrier::JsonPatchWhole => json!([{"op": "add", "path": "", "value": whole}]),
            Carrier::MergePatch => planted(&field.path, key, "SETTINGS", leaf),
            Carrier::StrategicPatch => {
                let mut patch = planted(&field.path, key, "SETTINGS", leaf);
                patch["metadata"]["$retainKeys"] = json!(["annotations"]);
                patch
            }
            Carrier::PartialMetadata => {
                json!({"kind": "PartialObjectMetadata", "metadata": {"annotations": {key: text}}})
            }
        };
        match self {
            Carrier::Get | Carrier::List | Carrier::Table => event["responseObject"] = body,
            Carrier::Apply => {
                event["requestObject"] = body;
                event["responseObject"] = whole_again;
            }
            _ => event["requestObject"] = body,
        }
    }
}

/// What is answered and never listed keeps its kind, so that it is known in any list.
fn listed(field: &Field) -> bool {
    !field.kind.starts_with("authentication.k8s.io/")
}

/// The operation that writes the member above the last.
fn above(field: &Field, key: &str, leaf: &Value) -> Value {
    let (first, rest) = field.path.split_once('.').unwrap_or((&field.path, ""));
    let whole = planted(&field.path, key, "SETTINGS", leaf.clone());
    let member = first.trim_end_matches("[]");
    let member = if member == "*" { key } else { member };
    let (path, value) = match rest {
        "" => (String::new(), whole),
        _ => (format!("/{member}"), whole[member].clone()),
    };
    json!([{"op": "add", "path": path, "value": value}])
}

/// Other fields of the same kind beside it.
fn surround(whole: &mut Value, field: &Field, chance: &mut Chance) {
    let start = chance.below(FIELDS.len());
    let others = FIELDS.iter().skip(start).chain(FIELDS.iter().take(start));
    for other in
        others.filter(|other| other.kind == field.kind && other.path != field.path).take(chance.below(4))
    {
        let leaf = match &*other.type_ {
            "bytes" => json!(BASE64.encode("nothing of interest")),
            "any" => json!({}),
            _ => json!(*chance.pick(&["web-frontend-1", "10.0.0.1", "true", "a few words, no more"])),
        };
        merge(whole, planted(&other.path, "other", "OTHER", leaf));
    }
    whole["metadata"]["name"] = json!("a");
}

/// Adds the members of `more` that are not there.
fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                match into.get_mut(&key) {
                    Some(there) => merge(there, value),
                    None => drop(into.insert(key, value)),
                }
            }
        }
        (Value::Array(into), Value::Array(more)) => {
            for (there, value) in into.iter_mut().zip(more) {
                merge(there, value);
            }
        }
        _ => {}
    }
}
