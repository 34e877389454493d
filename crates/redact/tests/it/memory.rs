//! What is remembered of earlier events never changes what leaves of a later one.

use auditship_event::{Event, Keys};
use auditship_redact::{RedactConfig, Redactor, Scratch};
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
