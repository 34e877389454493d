//! What is asked of the API server: the life of objects, and everything that brings secrets into an audit log by the
//! ways that docs/redaction.md knows.

use super::client::Request;
use super::secrets::base64;
use super::traffic::{Who, Worker};
use anyhow::Result;
use serde_json::{Value, json};

const JSON: &str = "application/json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Long enough for an event that holds it twice to be longer than a file of one megabyte.
const HUGE_BYTES: usize = 700_000;

const ADMINISTRATOR: Who = Who::Administrator;
const ALICE: Who = Who::User(0);
const BOB: Who = Who::User(1);
const CI: Who = Who::User(2);

type Act = fn(&mut Worker) -> Result<()>;

/// Each with how often it is done, in relation to the others.
const TABLE: &[(u32, Act)] = &[
    (30, reads),
    (20, lease),
    (6, secret),
    (6, config_map),
    (8, pod),
    (3, service_account),
    (6, access_review),
    (3, refused),
    (3, addresses),
    (2, impersonation),
    (2, invalid),
    (1, watch),
    (1, huge),
];

/// Does one of them.
pub(crate) fn one(worker: &mut Worker) -> Result<()> {
    let all: u32 = TABLE.iter().map(|(weight, _)| weight).sum();
    let mut at = worker.secrets.chance.u32(..all);
    for (weight, act) in TABLE {
        if at < *weight {
            return act(worker);
        }
        at -= weight;
    }
    Ok(())
}

/// An object without a namespace of its own; `more` are further members.
pub(crate) fn object(version: &str, kind: &str, name: &str, more: Value) -> Value {
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        for (member, value) in more {
            match (object.get_mut(&member), value) {
                (Some(Value::Object(known)), Value::Object(value)) => known.extend(value),
                (_, value) => drop(object.insert(member, value)),
            }
        }
    }
    object
}

/// Creates.
pub(crate) fn post(target: &str, body: &Value) -> Request {
    with("POST", target, JSON, body)
}

fn with(method: &'static str, target: &str, media_type: &'static str, body: &Value) -> Request {
    let body = Some((media_type, body.to_string().into_bytes()));
    Request {
        method,
        target: target.to_owned(),
        headers: vec![("user-agent", "driver/1.0".to_owned())],
        body,
    }
}

fn bare(method: &'static str, target: &str) -> Request {
    Request { method, target: target.to_owned(), ..Request::default() }
}

fn table(target: &str) -> Request {
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json".to_owned();
    Request { headers: vec![("accept", accept)], ..bare("GET", target) }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// What most requests of a cluster are.
fn reads(worker: &mut Worker) -> Result<()> {
    let namespace = format!("/api/v1/namespaces/{}", worker.namespace);
    let targets = [
        format!("{namespace}/pods?limit=500&resourceVersion=0"),
        format!("{namespace}/configmaps/kube-root-ca.crt"),
        format!("{namespace}/serviceaccounts/default"),
        "/api/v1/nodes".to_owned(),
        "/apis".to_owned(),
        "/apis/apps/v1?timeout=32s".to_owned(),
        "/version".to_owned(),
    ];
    let who = [ADMINISTRATOR, ALICE, BOB, CI, Who::Nobody][worker.secrets.chance.usize(..5)];
    let at = worker.secrets.chance.usize(..targets.len());
    worker.send(who, bare("GET", &targets[at])).map(drop)
}

/// As a controller that holds a lease: get, update.
fn lease(worker: &mut Worker) -> Result<()> {
    let target = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", worker.namespace);
    let mut lease = object(
        "coordination.k8s.io/v1",
        "Lease",
        "leader",
        json!({"spec":
        {"holderIdentity": worker.secrets.letters(12), "leaseDurationSeconds": 40}}),
    );
    let answer = worker.send(ALICE, bare("GET", &format!("{target}/leader")))?;
    if answer.status == 404 {
        return worker.send(ALICE, post(&target, &lease)).map(drop);
    }
    let known: Value = serde_json::from_slice(&answer.body)?;
    lease["metadata"]["resourceVersion"] = known["metadata"]["resourceVersion"].clone();
    worker.send(ALICE, with("PUT", &format!("{target}/leader"), JSON, &lease)).map(drop)
}

fn secret(worker: &mut Worker) -> Result<()> {
    let all = format!("/api/v1/namespaces/{}/secrets", worker.namespace);
    let name = worker.name("secret");
    let one = format!("{all}/{name}");
    let password = worker.secrets.password();
    let body = object(
        "v1",
        "Secret",
        &name,
        json!({
            "metadata": {"annotations": {"example.com/previous-password": worker.secrets.password()}},
            "data": {"username": base64(b"app"), "password": base64(password.as_bytes()),
                "url": base64(worker.secrets.url().as_bytes())},
            "stringData": {"any": worker.secrets.opaque(), "html": worker.secrets.escaped_password(),
                "key.pem": worker.secrets.private_key()},
        }),
    );
    worker.send(ALICE, post(&all, &body))?;
    let patch = json!({"data": {"password": base64(worker.secrets.password().as_bytes())}});
    worker.send(ALICE, with("PATCH", &one, STRATEGIC, &patch))?;
    let patch = json!({"stringData": {"password": worker.secrets.password()}});
    worker.send(CI, with("PATCH", &one, MERGE, &patch))?;
    let patch = json!([
        {"op": "replace", "path": "/data/password", "value": base64(worker.secrets.password().as_bytes())},
        {"op": "add", "path": "/metadata/annotations/example.com~1token", "value": worker.secrets.opaque()},
    ]);
    worker.send(ALICE, with("PATCH", &one, JSON_PATCH, &patch))?;
    // Keys may be escaped too.
    let escaped = format!(r#"{{"stringData":{{"p\u0061ssword":"{}"}}}}"#, worker.secrets.password());
    let body = Some((MERGE, escaped.into_bytes()));
    worker.send(ALICE, Request { body, ..bare("PATCH", &one) })?;
    let applied =
        object("v1", "Secret", "applied-by-driver", json!({"stringData": {"t": worker.secrets.opaque()}}));
    let target = format!("{all}/applied-by-driver?fieldManager=driver&force=true");
    worker.send(CI, with("PATCH", &target, APPLY, &applied))?;
    worker.send(BOB, bare("GET", &one))?;
    worker.send(ALICE, table(&all))?;
    worker.send(CI, bare("GET", &all))?;
    worker.send(ALICE, bare("DELETE", &one)).map(drop)
}

fn config_map(worker: &mut Worker) -> Result<()> {
    let all = format!("/api/v1/namespaces/{}/configmaps", worker.namespace);
    let name = worker.name("config");
    let one = format!("{all}/{name}");
    let properties = format!("db.password={}\ndb.url={}\n", worker.secrets.password(), worker.secrets.url());
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\nusers:\n- name: u\n  user:\n    token: {}\n",
        worker.secrets.opaque()
    );
    let body = object(
        "v1",
        "ConfigMap",
        &name,
        json!({"data": {
            "application.properties": properties,
            "config": kubeconfig,
            "key.pem": worker.secrets.private_key(),
            "settings.json": json!({"api": {"token": worker.secrets.jwt(), "retries": 3}}).to_string(),
            ".env": format!("API_KEY={}\nDEBUG=false\n", worker.secrets.opaque()),
        }}),
    );
    worker.send(ALICE, post(&all, &body))?;
    let patch = json!({"data": {"password": worker.secrets.escaped_password(), "tab": "a\tb \u{1}\u{2028}\u{1f600}"}});
    worker.send(ALICE, with("PATCH", &one, MERGE, &patch))?;
    worker.send(BOB, bare("GET", &all))?;
    worker.send(BOB, table(&format!("{all}?limit=20")))?;
    match worker.secrets.chance.bool() {
        true => worker.send(ALICE, bare("DELETE", &one)).map(drop),
        false => worker.send(CI, bare("DELETE", &all)).map(drop),
    }
}

fn pod(worker: &mut Worker) -> Result<()> {
    let all = format!("/api/v1/namespaces/{}/pods", worker.namespace);
    let name = worker.name("pod");
    let one = format!("{all}/{name}");
    let body = object(
        "v1",
        "Pod",
        &name,
        json!({
            "metadata": {"annotations": {"vault.example.com/token": worker.secrets.opaque()}},
            "spec": {"containers": [{
                "name": "app",
                "image": "registry.example.com/app:1",
                "command": ["/bin/app"],
                "args": [format!("--db-password={}", worker.secrets.password()), "--api-key", worker.secrets.opaque(),
                    format!("--url={}", worker.secrets.url())],
                "env": [
                    {"name": "DB_PASSWORD", "value": worker.secrets.password()},
                    {"name": "ANY", "value": worker.secrets.vendor()},
                    {"name": "OTHER", "value": worker.secrets.jwt()},
                    {"name": "LOG_LEVEL", "value": "info"},
                ],
            }]},
        }),
    );
    worker.send(ALICE, post(&all, &body))?;
    worker.send(CI, post(&format!("{all}?dryRun=All"), &body))?;
    let patch = json!({"metadata": {"annotations": {"example.com/note": worker.secrets.vendor()}}});
    worker.send(ALICE, with("PATCH", &one, STRATEGIC, &patch))?;
    let patch = json!([{"op": "add", "path": "/metadata/labels", "value": {"version": "2"}},
        {"op": "add", "path": "/metadata/annotations/example.com~1password", "value": worker.secrets.password()}]);
    worker.send(ALICE, with("PATCH", &one, JSON_PATCH, &patch))?;
    let known = worker.send(ALICE, bare("GET", &one))?;
    if let (200, Ok(mut known)) = (known.status, serde_json::from_slice::<Value>(&known.body)) {
        known["metadata"]["annotations"]["example.com/secret"] = worker.secrets.opaque().into();
        worker.send(ALICE, with("PUT", &one, JSON, &known))?;
    }
    worker.send(ALICE, bare("DELETE", &format!("{one}?gracePeriodSeconds=0"))).map(drop)
}

/// A service account, a token for it, and a review of that token and of one that nobody has issued.
fn service_account(worker: &mut Worker) -> Result<()> {
    let all = format!("/api/v1/namespaces/{}/serviceaccounts", worker.namespace);
    let name = worker.name("account");
    worker.send(CI, post(&all, &object("v1", "ServiceAccount", &name, json!({}))))?;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": null, "expirationSeconds": 3607}});
    let answer = worker.send(CI, post(&format!("{all}/{name}/token"), &request))?;
    let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let issued = answer["status"]["token"].as_str().unwrap_or_default().to_owned();
    let mut tokens = vec![worker.secrets.opaque(), worker.secrets.jwt()];
    if !issued.is_empty() {
        worker.secrets.note("token issued by the API server", &issued);
        tokens.push(issued);
    }
    for token in tokens {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        worker.send(CI, post("/apis/authentication.k8s.io/v1/tokenreviews", &review))?;
    }
    worker.send(CI, bare("DELETE", &format!("{all}/{name}"))).map(drop)
}

fn access_review(worker: &mut Worker) -> Result<()> {
    let asked = json!({"namespace": worker.namespace, "verb": "get", "resource": "secrets"});
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "carol@example.com", "groups": ["developers"], "resourceAttributes": asked,
            "extra": {"access-token": [worker.secrets.opaque()], "scopes": ["openid"]}}});
    worker.send(CI, post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review))?;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked}});
    worker.send(BOB, post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review)).map(drop)
}

/// 401 and 403, also with a body.
fn refused(worker: &mut Worker) -> Result<()> {
    let all = format!("/api/v1/namespaces/{}/secrets", worker.namespace);
    worker.send(Who::Stranger, bare("GET", &all))?;
    worker.send(Who::Nobody, bare("GET", &all))?;
    let body =
        object("v1", "Secret", "refused", json!({"stringData": {"password": worker.secrets.password()}}));
    worker.send(BOB, post(&all, &body))?;
    worker.send(Who::Stranger, post(&all, &body)).map(drop)
}

/// Secrets in the address, and in the name of the program.
fn addresses(worker: &mut Worker) -> Result<()> {
    let namespace = format!("/api/v1/namespaces/{}", worker.namespace);
    let (password, token) = (encoded(&worker.secrets.password()), worker.secrets.jwt());
    let targets = [
        format!("{namespace}/pods/any/exec?command=app&command=--password%3D{password}&stdout=true"),
        format!("{namespace}/pods/any/exec?command=mysql&command=-p{password}&stdout=true"),
        format!("{namespace}/services/any/proxy/login?access_token={token}&user=app"),
        format!("{namespace}/services/any/proxy/hooks/{}", worker.secrets.opaque()),
        format!("/api/v1/pods?token={token}&limit=1"),
    ];
    for target in targets {
        worker.send(CI, bare("GET", &target))?;
    }
    let agent = format!("deployer/2.1 ({})", worker.secrets.vendor());
    let id = "chosen-by-the-client".to_owned();
    let headers = vec![("user-agent", agent), ("audit-id", id)];
    worker.send(ALICE, Request { headers, ..bare("GET", &format!("{namespace}/configmaps")) }).map(drop)
}

fn impersonation(worker: &mut Worker) -> Result<()> {
    let headers = vec![
        ("impersonate-user", "carol@example.com".to_owned()),
        ("impersonate-group", "developers".to_owned()),
        ("impersonate-extra-access-token", worker.secrets.opaque()),
    ];
    let target = format!("/api/v1/namespaces/{}/configmaps", worker.namespace);
    worker.send(ADMINISTRATOR, Request { headers, ..bare("GET", &target) }).map(drop)
}

/// The answer repeats what it refuses.
fn invalid(worker: &mut Worker) -> Result<()> {
    let all = format!("/api/v1/namespaces/{}/configmaps", worker.namespace);
    let labels = json!({"example.com/password": worker.secrets.password()});
    worker.send(
        ALICE,
        post(&all, &object("v1", "ConfigMap", "invalid", json!({"metadata": {"labels": labels}}))),
    )?;
    let body =
        Some((JSON, b"{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"data\":{\"n\":1e400}}".to_vec()));
    worker.send(ALICE, Request { body, method: "POST", target: all, ..Request::default() }).map(drop)
}

fn watch(worker: &mut Worker) -> Result<()> {
    let target = format!("/api/v1/namespaces/{}/configmaps?watch=true&timeoutSeconds=1", worker.namespace);
    worker.send(BOB, bare("GET", &target)).map(drop)
}

fn huge(worker: &mut Worker) -> Result<()> {
    let all = format!("/api/v1/namespaces/{}/configmaps", worker.namespace);
    let name = worker.name("huge");
    let text = worker.secrets.letters(HUGE_BYTES / 10).repeat(10);
    worker.send(CI, post(&all, &object("v1", "ConfigMap", &name, json!({"data": {"dump": text}}))))?;
    worker.send(CI, bare("DELETE", &format!("{all}/{name}"))).map(drop)
}
