//! What is remembered of earlier events never changes what leaves of a later one.

use auditship_event::{Event, Keys};
use auditship_redact::{RedactConfig, Redactor, Scratch};
use proptest::prelude::*;
use std::io::Read;
use std::path::Path;

fn redactor() -> Redactor {
    Redactor::new(&RedactConfig::default(), Keys::derive(b"key", "c")).expect("the default is valid")
}

fn body(redactor: &Redactor, line: &[u8], scratch: &mut Scratch) -> Option<Vec<u8>> {
    let looked = redactor.look(line, scratch)?;
    let mut out = Vec::new();
    redactor.body_of(&looked, scratch).expect("no panic").write(&mut out);
    redactor.forget(looked, scratch);
    Some(out)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads testdata")]
fn of_real_logs() {
    let (redactor, mut scratch) = (redactor(), Scratch::default());
    for name in ["audit.jsonl.gz", "requestresponse.jsonl.gz"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name);
        let mut log = Vec::new();
        flate2::read::MultiGzDecoder::new(&*std::fs::read(path).unwrap()).read_to_end(&mut log).unwrap();
        let mut changed = 0;
        for (number, line) in log.split(|byte| *byte == b'\n').enumerate() {
            let after = body(&redactor, line, &mut scratch);
            changed += u64::from(after.as_deref().is_some_and(|after| after != line));
            // Each is looked at with memory; a part of them without, which costs more.
            if number % 7 == 0 {
                assert_eq!(after, body(&redactor, line, &mut Scratch::default()), "line {number} of {name}");
            }
        }
        assert!(changed > 500, "{changed} lines of {name} have changed");
    }
}

/// A document that is percent-encoded is a secret's where the request is for one, and nothing elsewhere.
#[test]
fn of_what_depends_on_the_request() {
    let (redactor, mut scratch) = (redactor(), Scratch::default());
    let line = |resource: &str| {
        serde_json::json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "objectRef": {"resource": resource, "apiVersion": "v1"},
            "requestObject": {"note": "%7B%22data%22:%7B%22k%22:%22aHVudGVyMg==%22%7D%7D"},
        })
        .to_string()
        .into_bytes()
    };
    let of_pods = body(&redactor, &line("pods"), &mut Scratch::default()).unwrap();
    let of_secrets = body(&redactor, &line("secrets"), &mut Scratch::default()).unwrap();
    assert_eq!(of_pods, line("pods"));
    assert!(!String::from_utf8_lossy(&of_secrets).contains("aHVudGVyMg"), "it is not a secret's");
    for _ in 0..5 {
        assert_eq!(body(&redactor, &line("pods"), &mut scratch), Some(of_pods.clone()));
        assert_eq!(body(&redactor, &line("secrets"), &mut scratch), Some(of_secrets.clone()));
    }
}

/// More names than there is room for, some of which tell.
#[test]
fn of_names_that_displace_each_other() {
    let (redactor, mut scratch) = (redactor(), Scratch::default());
    for round in 0..3 {
        for number in 0..4000 {
            let text = match number % 3 {
                0 => format!("a name, number {number}, of usual length"),
                1 => format!("a longer text, number {number}, with nothing in it {}", "at all ".repeat(9)),
                _ => format!("password=hunter{number}x"),
            };
            let line = serde_json::json!({
                "kind": "Event", "apiVersion": "audit.k8s.io/v1", "requestObject": {"note": text},
            });
            let line = line.to_string().into_bytes();
            Event::parse(&line).unwrap();
            let after = body(&redactor, &line, &mut scratch).unwrap();
            assert_eq!(after == line, number % 3 != 2, "round {round}: {text}");
        }
    }
}

/// A log whose events differ in little, as those of a cluster at rest, and what may be changed in one.
const LINE: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"1d50b2c6-b72a-45d2-a016-d4e9221680d5","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/web/pods?labelSelector=a%3Db\u0026resourceVersion=1234\u0026timeoutSeconds=547\u0026watch=true","verb":"watch","user":{"username":"system:node:worker-1","groups":["system:nodes"]},"sourceIPs":["192.0.2.7"],"userAgent":"kubelet/v1.37.2 (linux/amd64) kubernetes/0000000","objectRef":{"resource":"pods","namespace":"web","apiVersion":"v1","resourceVersion":"1234"},"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2026-11-24T00:33:57.317232Z","stageTimestamp":"2026-11-24T00:33:57.382595Z","annotations":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"RBAC: allowed by ClusterRoleBinding \"system:node\""}}"#;

/// The line, so that a later one may be taken for its twin.
fn remembered(redactor: &Redactor) -> Scratch {
    let mut scratch = Scratch::default();
    for _ in 0..3 {
        assert_eq!(body(redactor, LINE.as_bytes(), &mut scratch).as_deref(), Some(LINE.as_bytes()));
    }
    scratch
}

/// What is told of an event.
fn facts(redactor: &Redactor, line: &[u8], scratch: &mut Scratch) -> Option<String> {
    let looked = redactor.look(line, scratch)?;
    let event = &looked.event;
    let told = format!(
        "{} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {}",
        event.audit_id(),
        event.request_uri(),
        event.verb(),
        event.username(),
        event.groups(),
        event.source_ips(),
        event.user_agent(),
        event.object_ref(),
        event.code(),
        event.annotations(),
        event.time(),
        event.received_timestamp(),
    );
    redactor.forget(looked, scratch);
    Some(told)
}

#[test]
fn of_events_that_differ_in_their_numbers() {
    let redactor = redactor();
    let mut scratch = remembered(&redactor);
    let twin = LINE
        .replace("1d50b2c6-b72a-45d2-a016-d4e9221680d5", "00000000-ffff-45d2-a016-d4e922168abc")
        .replace("=1234", "=9876")
        .replace("\"1234\"", "\"0000\"")
        .replace("=547", "=301")
        .replace("57.317232Z", "58.000001Z")
        .replace("57.382595Z", "59.999999Z");
    assert_eq!(body(&redactor, twin.as_bytes(), &mut scratch).unwrap(), twin.as_bytes());
    let told = facts(&redactor, twin.as_bytes(), &mut scratch);
    assert!(told.as_ref().unwrap().starts_with("00000000-ffff-45d2-a016-d4e922168abc /api"));
    assert_eq!(told, facts(&redactor, twin.as_bytes(), &mut Scratch::default()));
}

/// Something of the client's that takes the place of as many bytes.
#[test]
fn of_events_that_differ_in_a_secret() {
    let redactor = redactor();
    let mut scratch = remembered(&redactor);
    for (before, after) in [
        ("labelSelector=a%3Db", "token=a1B2c3D4e5F6g"),
        ("/v1.37.2 (linux/amd64) kubernetes/0000000", " ghp_0123456789abcdefghijABCDEFGHIJ012345"),
        ("\"1234\"}", "\"a1b2\"}"),
        ("2026-11-24T00:33:57.317232Z", "password=correct horse bat5"),
        ("system:node\\\"", "password=a1\\\""),
        ("authorization.k8s.io/reason", "authorization.k8s.io/token2"),
    ] {
        let line = LINE.replacen(before, after, 1);
        assert_eq!(line.len(), LINE.len(), "{before}");
        let fresh = body(&redactor, line.as_bytes(), &mut Scratch::default());
        for _ in 0..3 {
            assert_eq!(body(&redactor, line.as_bytes(), &mut scratch), fresh, "{after}");
        }
    }
    // Those that a rule changes.
    let changed = |before: &str, after: &str| {
        let line = LINE.replacen(before, after, 1);
        body(&redactor, line.as_bytes(), &mut remembered(&redactor)).unwrap() != line.as_bytes()
    };
    assert!(changed("labelSelector=a%3Db", "token=a1B2c3D4e5F6g"));
    assert!(changed("2026-11-24T00:33:57.317232Z", "password=correct horse bat5"));
}

/// A rule of the user's is asked each time.
#[test]
fn beside_rules_of_the_users() {
    let config = r#"{"rules": [{"name": "ids", "paths": ["auditID"], "match": {"verbs": ["watch"]}},
        {"name": "agents", "paths": ["userAgent"], "match": {"namespaces": ["other"]}}]}"#;
    let redactor = Redactor::new(&serde_json::from_str(config).unwrap(), Keys::derive(b"key", "c"))
        .expect("a valid rule");
    let mut scratch = Scratch::default();
    for _ in 0..5 {
        let out = String::from_utf8(body(&redactor, LINE.as_bytes(), &mut scratch).unwrap()).unwrap();
        assert!(out.contains("redacted:ids") && out.contains("kubelet/v1.37.2"), "{out}");
    }
    assert_eq!(scratch.counts().iter().sum::<u64>(), 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Any other byte, or some of another line's, at any place.
    #[test]
    fn of_an_event_that_differs_somewhere(
        changes in prop::collection::vec((0..LINE.len(), "[0-9a-f\"\\\\,:= ]|password=|eyJ|\\{|\\}|\\[|\\]"), 1..4)
    ) {
        let redactor = redactor();
        let mut scratch = remembered(&redactor);
        let mut line = LINE.as_bytes().to_vec();
        for (at, text) in &changes {
            let end = (at + text.len()).min(line.len());
            line[*at..end].copy_from_slice(&text.as_bytes()[..end - at]);
        }
        for _ in 0..2 {
            prop_assert_eq!(facts(&redactor, &line, &mut scratch), facts(&redactor, &line, &mut Scratch::default()));
            prop_assert_eq!(body(&redactor, &line, &mut scratch), body(&redactor, &line, &mut Scratch::default()));
        }
    }
}
