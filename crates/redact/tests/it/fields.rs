//! Every field of Kubernetes' own types that could hold a credential, by the table `fields.tsv`: what goes, what goes
//! where something tells that it is a credential, and what stays. `cargo xtask fields` renews the table.

use crate::search::holds;
use crate::support::{Bench, broken};
use crate::table::{Field, fields, lines, planted, pointer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const GO_MODULES: &str = include_str!("../../../../xtask/fields/go.mod");

/// A word that is in no name, and that no detector takes for a credential by itself.
const CANARY: &str = "Plumbago-canary-7";

/// Kinds that are answered and never listed: they are not stored.
const NEVER_LISTED: &[&str] = &[
    "authentication.k8s.io/SelfSubjectReview",
    "authentication.k8s.io/TokenRequest",
    "authentication.k8s.io/TokenReview",
    "authorization.k8s.io/LocalSubjectAccessReview",
    "authorization.k8s.io/SelfSubjectAccessReview",
    "authorization.k8s.io/SelfSubjectRulesReview",
    "authorization.k8s.io/SubjectAccessReview",
];

/// What leaves although it should not: the end of a path, the event, and why. An entry that is needed no more fails.
const KNOWN_LEAKS: &[(&str, &str, &str)] = &[
    (
        "httpHeaders[].value",
        "JSON patch",
        "an operation on the value alone does not tell the header's name; `/env/N/value` is always taken",
    ),
    (
        "extra.*[]",
        "JSON patch",
        "the pointer's last segment is a list's index, the telling key stands before it",
    ),
    ("attestations.*[]", "JSON patch", "as `extra`"),
];

impl Field {
    /// All events in which the field stands, with what they are for whoever reads a failure.
    fn events(&self, key: &str, name: &str, leaf: &Value) -> Vec<(&'static str, String)> {
        if self.kind == "audit.k8s.io/Event" {
            let event = json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1"});
            let planted = planted(&self.path, key, name, leaf.clone());
            return vec![("event", merged(event, planted).to_string())];
        }
        let whole = self.object(key, name, leaf, true);
        let mut bodies = vec![
            ("request", json!({"verb": "create", "requestObject": whole})),
            ("response", json!({"verb": "get", "responseObject": whole})),
            ("apply", json!({"verb": "patch", "requestObject": whole, "responseObject": whole})),
            ("merge patch", json!({"verb": "patch", "requestObject": self.object(key, name, leaf, false)})),
            ("JSON patch", json!({"verb": "patch", "requestObject": [self.operation(key, leaf)]})),
            (
                "JSON patch of all",
                json!({"verb": "patch", "requestObject": [{"op": "add", "path": "", "value": whole}]}),
            ),
            (
                "table",
                json!({"verb": "list", "responseObject": {"kind": "Table", "apiVersion": "meta.k8s.io/v1",
                "rows": [{"cells": ["a", 1], "object": whole}]}}),
            ),
        ];
        if !NEVER_LISTED.contains(&&*self.kind) {
            let (_, kind) = self.names();
            let item = self.object(key, name, leaf, false);
            let list = json!({"kind": format!("{kind}List"), "items": [item]});
            bodies.push(("list", json!({"verb": "list", "responseObject": list})));
        }
        let head = json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "objectRef": self.reference()});
        bodies.into_iter().map(|(what, body)| (what, merged(head.clone(), body).to_string())).collect()
    }

    /// The operation that writes the leaf. What stands in a list is written with what stands beside it.
    fn operation(&self, key: &str, leaf: &Value) -> Value {
        json!({"op": "add", "path": pointer(&self.path, key), "value": leaf})
    }
}

fn merged(mut object: Value, members: Value) -> Value {
    let into = object.as_object_mut().expect("both are objects");
    into.extend(members.as_object().cloned().unwrap_or_else(Map::new));
    object
}

/// What to plant: a key, a name beside it, the value, and what must not leave.
struct Plant {
    key: &'static str,
    name: &'static str,
    leaf: Value,
    canary: String,
}

fn plant(key: &'static str, name: &'static str, leaf: Value) -> Plant {
    Plant { key, name, leaf, canary: CANARY.to_owned() }
}

/// Credentials that their form betrays in any text.
fn forms() -> Vec<(String, String)> {
    let token = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    let jwt = format!("{}.{}.c2lnbmF0dXJlc2lnbmF0dXJl", "eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiJwbHVtYmFnbyJ9");
    vec![
        (token.clone(), token),
        (format!("see {jwt} there"), jwt),
        (format!("postgres://app:{CANARY}@db.example.com/app"), CANARY.to_owned()),
        (format!("curl -H 'Authorization: Bearer {CANARY}1' x"), CANARY.to_owned()),
    ]
}

/// What is planted in a field whose value goes where something tells that it is a credential.
fn told(field: &Field) -> Vec<Plant> {
    let path = &field.path;
    if field.type_ == "bytes" {
        return vec![
            plant("password", "", json!(BASE64.encode(CANARY))),
            plant("x", "", json!(BASE64.encode(format!("db.url=x\ndb.password={CANARY}\n")))),
        ];
    }
    if field.type_ == "any" {
        return vec![plant(
            "",
            "",
            json!({"spec": {"password": CANARY, "env": [{"name": "DB_PASSWORD", "value": CANARY}]}}),
        )];
    }
    let mut plants: Vec<Plant> = forms()
        .into_iter()
        .map(|(text, canary)| Plant { key: "x", name: "x", leaf: json!(text), canary })
        .collect();
    if path.ends_with("args[]") || path.ends_with("command[]") {
        plants.push(plant("", "", json!(["app", "--password", CANARY])));
        plants.push(plant("", "", json!(["app", format!("--db-password={CANARY}")])));
        plants.push(plant("", "", json!(["sh", "-c", format!("app --password {CANARY} --verbose")])));
    } else if path.ends_with("[].value") {
        plants.push(plant("", "DB_PASSWORD", json!(CANARY)));
        plants.push(plant("", "X-Api-Key", json!(CANARY)));
    } else if path.contains(".*") || path.starts_with('*') {
        plants.push(plant("password", "", json!(CANARY)));
        plants.push(plant("example.com/api-key", "", json!(CANARY)));
    }
    plants
}

/// What is planted in the field, and must be gone.
fn secrets(field: &Field) -> Vec<Plant> {
    match &*field.verdict {
        "redacted" => {
            let opaque = "Vq2Xb8Lm4Tz9Rk7Wd3".to_owned();
            let encoded =
                |text: &str| if field.type_ == "bytes" { BASE64.encode(text) } else { text.to_owned() };
            vec![
                plant("x", "", json!(encoded(CANARY))),
                Plant { key: "x", name: "", leaf: json!(encoded(&opaque)), canary: opaque },
            ]
        }
        "detected" => told(field),
        _ => forms()
            .into_iter()
            .map(|(text, canary)| Plant { key: "x", name: "x", leaf: json!(text), canary })
            .collect(),
    }
}

/// What is planted in the field, and must stay: names, addresses, references, settings, public keys.
fn ordinary(field: &Field) -> Vec<Value> {
    if field.type_ == "bytes" {
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIBhTCCASugAwIBAgIQIRi6zePL6mKjOipn+dNuaTAKBggqhkjOPQQDAjAS\n-----END CERTIFICATE-----\n";
        return vec![json!(BASE64.encode(certificate))];
    }
    ["web-frontend-1", "db-credentials", "10.0.0.1", "registry.example.com/team/app:1.2.3", "true", "v1"]
        .iter()
        .map(|word| json!(word))
        .collect()
}

#[test]
fn every_field_has_a_verdict() {
    let verdicts = ["redacted", "detected", "text", "digest", "public"];
    let open: Vec<Field> = fields().into_iter().filter(|f| !verdicts.contains(&&*f.verdict)).collect();
    assert!(open.is_empty(), "decide in fields.tsv what becomes of these: {open:#?}");
}

#[test]
fn the_table_is_of_the_version_that_is_pinned() {
    let version = lines("version").next().expect("the table names its version")[0];
    let pinned =
        GO_MODULES.lines().any(|line| line.trim().starts_with(&format!("k8s.io/client-go {version}")));
    assert!(pinned, "the table is of {version}: run `cargo xtask fields`");
}

#[test]
fn the_table_knows_where_credentials_stand() {
    let all = fields();
    for (kind, path) in [
        ("core/Secret", "data.*"),
        ("core/Secret", "stringData.*"),
        ("core/ConfigMap", "binaryData.*"),
        ("core/Pod", "spec.containers[].env[].value"),
        ("batch/CronJob", "spec.jobTemplate.spec.template.spec.initContainers[].args[]"),
        ("apps/StatefulSet", "spec.template.metadata.annotations.*"),
        ("authentication.k8s.io/TokenReview", "spec.token"),
        ("authentication.k8s.io/TokenRequest", "status.token"),
        ("audit.k8s.io/Event", "user.extra.*[]"),
    ] {
        assert!(all.iter().any(|field| field.kind == kind && field.path == path), "{kind} {path}");
    }
}

/// Runs `check` for every event of every field for which it is wanted, and tells each field and place that fails.
fn failures(
    wanted: impl Fn(&Field) -> bool,
    mut check: impl FnMut(&Field, &mut dyn FnMut(&str)),
) -> BTreeSet<String> {
    let mut failed = BTreeSet::new();
    for field in fields().iter().filter(|field| wanted(field)) {
        check(field, &mut |why| {
            failed.insert(format!("{} {} ({}): {why}", field.kind, field.path, field.verdict));
        });
    }
    failed
}

fn report(failed: &BTreeSet<String>) {
    let all: Vec<&str> = failed.iter().map(String::as_str).collect();
    assert!(failed.is_empty(), "{} cases:\n{}", failed.len(), all.join("\n"));
}

#[test]
fn what_must_not_leave_is_gone() {
    let mut bench = Bench::new();
    let mut unused: BTreeSet<_> = KNOWN_LEAKS.iter().collect();
    let failed = failures(
        |field| field.verdict != "public",
        |field, fail| {
            for Plant { key, name, leaf, canary } in secrets(field) {
                for (place, event) in field.events(key, name, &leaf) {
                    assert!(holds(event.as_bytes(), &canary), "planted nothing: {event}");
                    let done = bench.redact(event.as_bytes());
                    let known =
                        KNOWN_LEAKS.iter().find(|(end, at, _)| field.path.ends_with(end) && *at == place);
                    match (holds(&done.out, &canary), known) {
                        (true, Some(known)) => drop(unused.remove(known)),
                        (true, None) => {
                            fail(&format!("{place}: {canary} is left with key {key:?}, name {name:?}"))
                        }
                        (false, _) => {}
                    }
                    if let Some(why) = broken(event.as_bytes(), &done) {
                        fail(&format!("{place}: {why}"));
                    }
                }
            }
        },
    );
    report(&failed);
    assert!(unused.is_empty(), "no leak any more: {unused:?}");
}

#[test]
fn what_is_public_and_bulky_leaves_as_a_digest() {
    let mut bench = Bench::new();
    let failed = failures(
        |field| field.verdict == "digest",
        |field, fail| {
            for leaf in ordinary(field) {
                let value = leaf.as_str().expect("bytes are text in JSON");
                for (place, event) in field.events("x", "x", &leaf) {
                    let done = bench.redact(event.as_bytes());
                    let digest = done.edits.iter().all(|(range, rule, text)| {
                        event[range.clone()] == *value
                            && rule == "public-certificate"
                            && text.starts_with(b"redacted:public-certificate:sha256-")
                            && text.ends_with(format!(":{}", value.len()).as_bytes())
                    });
                    if done.edits.is_empty() || !digest || holds(&done.out, value) {
                        fail(&format!("{place}: {:?}", done.edits));
                    }
                }
            }
        },
    );
    report(&failed);
}

#[test]
fn what_is_no_secret_stays() {
    let mut bench = Bench::new();
    let failed = failures(
        |field| matches!(&*field.verdict, "public" | "text"),
        |field, fail| {
            for leaf in ordinary(field) {
                for (place, event) in field.events("example.com/x", "x", &leaf) {
                    let done = bench.redact(event.as_bytes());
                    if done.out != event.as_bytes() {
                        fail(&format!("{place}: {leaf} went by {:?}", done.edits[0].1));
                    }
                }
            }
        },
    );
    report(&failed);
}
