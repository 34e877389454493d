//! What the user lets stay, and what he does otherwise than the catalogue: what stays is exactly that, it is counted by
//! reason, and nothing suppresses what the agent does on its own account.

use auditship_event::{Broken, Event, Keys, Span, StreamId};
use auditship_redact::{RedactConfig, Redactor, Scratch};
use std::collections::BTreeMap;

const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ";

fn keys() -> Keys {
    Keys::derive(b"key", "c")
}

fn redactor(config: &str) -> Redactor {
    let config: RedactConfig = serde_json::from_str(config).expect("it has the shape");
    Redactor::new(&config, keys()).expect("it compiles")
}

/// What leaves of `line`, and how often each reason has let something stay.
fn redacted(config: &str, line: &str) -> (String, BTreeMap<String, u64>) {
    let redactor = redactor(config);
    let (mut scratch, mut out, mut again) = (Scratch::default(), Vec::new(), Vec::new());
    redactor
        .body(&Event::parse(line.as_bytes()).expect("valid JSON"), &mut scratch)
        .expect("no panic")
        .write(&mut out);
    let counts = redactor.count_allowed(&scratch);
    // The way of the agent comes to the same.
    if let Some(looked) = redactor.look(line.as_bytes(), &mut scratch) {
        redactor.body_of(&looked, &mut scratch).expect("no panic").write(&mut again);
        assert!(out == again);
    }
    (String::from_utf8(out).expect("still text"), counts)
}

/// `want` has `‹…›` around what goes; all else stays.
#[track_caller]
fn check(allow: &str, marked: &str, stayed: u64) {
    let line = marked.replace(['‹', '›'], "");
    let (out, counts) = redacted(&format!(r#"{{"allow":[{allow}]}}"#), &line);
    let mut want = marked.to_owned();
    let mut got = out.clone();
    while let (Some(from), Some(at)) = (want.find('‹'), got.find("redacted:")) {
        let to = want.find('›').expect("marks come in pairs") + '›'.len_utf8();
        want.replace_range(from..to, "GONE");
        let mask = |c: char| c.is_ascii_alphanumeric() || ":.-".contains(c);
        let end = got[at..].find(|c| !mask(c)).map_or(got.len(), |end| at + end);
        got.replace_range(at..end, "GONE");
    }
    assert_eq!(got, want, "{allow}");
    assert_eq!(counts.values().sum::<u64>(), stayed, "{allow}: {counts:?}");
}

const SECRET: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","objectRef":{"resource":"secrets"},"requestObject":{"kind":"Secret","data":{"a":"UUE9PQ==","b":"Qkg9PQ=="}}}"#;

#[test]
fn a_value_by_the_hash_that_stood_in_its_place() {
    let (out, _) = redacted("{}", SECRET);
    let at = out.find("redacted:secret-data:").unwrap() + "redacted:secret-data:".len();
    let hash = &out[at..at + 25];
    assert_eq!(hash, redactor("{}").hash(b"UUE9PQ=="));
    let allow = format!(r#"{{"reason":"a test value","value":"{hash}"}}"#);
    // Found twice there, by kind and by resource, and counted once.
    check(&allow, &SECRET.replace("Qkg9PQ==", "‹Qkg9PQ==›"), 1);
    let nested = r#"{"requestObject":{"kind":"ConfigMap","data":{"x":"{\"password\":\"UUE9PQ==\",\"dbPassword\":\"‹hunter2›\"}"}}}"#;
    check(&allow, nested, 1);
    let escaped = r#"{"requestObject":{"kind":"Secret","data":{"x":"\u0055UE9PQ==","y":"‹VUE9PQ==›"}}}"#;
    check(&allow, escaped, 1);
    let other = hash.replace(&hash[..8], "00000000");
    let gone = SECRET.replace("UUE9PQ==", "‹UUE9PQ==›").replace("Qkg9PQ==", "‹Qkg9PQ==›");
    check(&format!(r#"{{"reason":"r","value":"{other}"}}"#), &gone, 0);
}

#[test]
fn a_path_and_all_beneath_it() {
    let allow = r#"{"reason":"public","path":"requestObject.data.a"}"#;
    check(allow, &SECRET.replace("Qkg9PQ==", "‹Qkg9PQ==›"), 1);
    let patch = r#"{"objectRef":{"resource":"secrets"},"requestObject":[{"op":"add","path":"/data/a","value":"UUE9PQ=="},{"op":"add","path":"/data/b","value":"‹Qkg9PQ==›"}]}"#;
    check(allow, patch, 1);
    let other = r#"{"responseObject":{"kind":"Secret","data":{"a":"‹UUE9PQ==›"}}}"#;
    check(allow, other, 0);
    let deep = r#"{"requestObject":{"items":[{"note":"{\"password\":\"hunter2x\",\"n\":[\"Bearer abcdefgh12345678\"]}"},{"x":{"password":"‹hunter2x›"}}]}}"#;
    check(r#"{"reason":"r","path":"requestObject.items.note"}"#, deep, 2);
    let number = r#"{"requestObject":{"kind":"Secret","data":{"a":1234567,"b":"‹Qkg9PQ==›"}}}"#;
    check(allow, number, 1);
}

#[test]
fn a_pattern_of_the_whole_value() {
    let allow = r#"{"reason":"r","pattern":"changeme-??-*"}"#;
    let line = r#"{"requestObject":{"x":{"password":"changeme-ab-1","dbPassword":"‹changeme-abc-1›","adminPassword":"‹x-changeme-ab-1›","userPassword":"changeme-é\u00e9-"}}}"#;
    check(allow, line, 2);
}

#[test]
fn of_some_rules_only() {
    let packed = format!(r#"{{"kind":"Secret","data":{{"a":"{JWT}","b":"QQ=="}}}}"#);
    let line = format!(r#"{{"requestObject":{packed}}}"#);
    // The place is that of a Secret's data; what stands there is a token all the same.
    let gone = line.replace(JWT, &format!("‹{JWT}›"));
    check(r#"{"reason":"r","path":"requestObject.data","rules":["secret-data"]}"#, &gone, 2);
    check(r#"{"reason":"r","path":"requestObject.data","rules":["secret-data","jwt"]}"#, &line, 2);
    check(r#"{"reason":"r","path":"requestObject.data"}"#, &line, 2);
    let whole = gone.replace("QQ==", "‹QQ==›");
    check(r#"{"reason":"r","path":"requestObject.data","rules":["jwt"]}"#, &whole, 0);
    check(r#"{"reason":"r","pattern":"*","rules":["secret-data"]}"#, &gone, 2);
    // A rule that is not there takes nothing, so nothing of it stays.
    check(r#"{"reason":"r","pattern":"*","rules":["no-such-rule"]}"#, &whole, 0);
}

#[test]
fn rules_of_the_users_own() {
    let config = r#"{"rules":[{"name":"notes","paths":["requestObject.note"]}],
        "allow":[{"reason":"r","pattern":"public*","rules":["notes"]}]}"#;
    let line = |note: &str| format!(r#"{{"requestObject":{{"note":"{note}"}}}}"#);
    assert_eq!(redacted(config, &line("public note")).0, line("public note"));
    assert_eq!(redacted(config, &line("a public note")).0, line("redacted:notes"));
}

#[test]
fn counts_go_by_reason() {
    let config = r#"{"allow":[{"reason":"one","pattern":"QQ=="},{"reason":"two","pattern":"Qg=="},{"reason":"one","path":"requestObject.data.c"}]}"#;
    let line = r#"{"requestObject":{"kind":"Secret","data":{"a":"QQ==","b":"Qg==","c":"Qw==","d":"QQ=="}}}"#;
    let (out, counts) = redacted(config, line);
    assert_eq!(out, line);
    assert_eq!(counts, BTreeMap::from([("one".to_owned(), 3), ("two".to_owned(), 1)]));
}

#[test]
fn not_what_the_agent_does_on_its_own_account() {
    let everything = r#"{"allow":[{"reason":"r","path":"**"},{"reason":"r","pattern":"ey*"}]}"#;
    let mut deep = format!(r#"{{"token":"{JWT}"}}"#);
    for _ in 0..9 {
        deep = serde_json::json!({ "a": deep }).to_string();
    }
    let (out, counts) = redacted(everything, &format!(r#"{{"requestObject":{deep}}}"#));
    assert!(out.contains("redacted:nested-limit") && counts.is_empty(), "{out} {counts:?}");

    let redactor = redactor(everything);
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    let invalid = b"{\"requestObject\":{\"a\":\"\xff\"}}";
    redactor.body(&Event::parse(invalid).unwrap(), &mut scratch).unwrap().write(&mut out);
    assert_eq!(out, "{\"requestObject\":{\"a\":\"\u{fffd}\"}}".as_bytes());

    let head = format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","requestURI":"/x?token={JWT}","requestObject":{{"data":{{"k":"QQ=="#
    );
    let broken = Broken { head: head.as_bytes(), tail: b"", reason: "truncated" };
    let span = Span { stream: StreamId(0), start: 0, end: head.len() as u64 };
    let mut out = Vec::new();
    redactor.stub(&broken, span, &mut scratch).write(&mut out);
    let stub = String::from_utf8(out).unwrap();
    assert!(stub.contains("/x?token=redacted:") && !stub.contains("QQ=="), "{stub}");
    redactor.begin(&mut scratch);
    redactor.replace(&broken, span, 0..head.len(), &mut scratch);
    let mut out = Vec::new();
    redactor.end(&mut scratch).apply(head.as_bytes(), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), stub);
}

#[test]
fn actions_of_built_in_rules() {
    for (action, want) in [
        ("mask", "redacted:secret-data".to_owned()),
        ("token", format!("redacted:secret-data:{}", redactor("{}").hash(b"UUE9PQ=="))),
        ("remove", String::new()),
    ] {
        let config = format!(r#"{{"actions":{{"secret-data":"{action}"}}}}"#);
        let (out, _) = redacted(&config, SECRET);
        assert!(out.contains(&format!(r#""a":"{want}""#)), "{action}: {out}");
    }
    let config = r#"{"actions":{"secret-data":"digest"}}"#;
    assert!(serde_json::from_str::<RedactConfig>(config).is_err(), "guesses of a digest can be tested");
}

#[test]
fn a_hash_of_another_key_is_told() {
    let own = redactor("{}").hash(b"x");
    let config = format!(
        r#"{{"allow":[{{"reason":"mine","value":"{own}"}},{{"reason":"theirs","value":"00000000-{}"}}]}}"#,
        &own[9..]
    );
    assert_eq!(redactor(&config).foreign_values().collect::<Vec<_>>(), ["theirs"]);
}

#[test]
fn what_cannot_be_meant() {
    for (allow, at) in [
        (r#"{"reason":"r"}"#, "allow[0]"),
        (r#"{"reason":"r","path":"a","pattern":"b"}"#, "allow[0]"),
        (r#"{"reason":" ","path":"a"}"#, "allow[0].reason"),
        (r#"{"reason":"a\nb","path":"a"}"#, "allow[0].reason"),
        (r#"{"reason":"r","path":"a..b"}"#, "allow[0].path"),
        (r#"{"reason":"r","value":"hunter2"}"#, "allow[0].value"),
        (r#"{"reason":"r","value":"e776f6a3-97C70949AAD3F71E"}"#, "allow[0].value"),
        (r#"{"reason":"r","pattern":"*?"}"#, "allow[0].pattern"),
        (r#"{"reason":"r","pattern":""}"#, "allow[0].pattern"),
    ] {
        let config: RedactConfig = serde_json::from_str(&format!(r#"{{"allow":[{allow}]}}"#)).unwrap();
        let invalid = Redactor::new(&config, keys()).unwrap_err();
        assert_eq!(invalid.at, at, "{allow}: {}", invalid.why);
        assert!(!invalid.why.contains("hunter2"));
    }
    assert!(serde_json::from_str::<RedactConfig>(r#"{"allow":[{"path":"a"}]}"#).is_err());
    assert!(serde_json::from_str::<RedactConfig>(r#"{"allow":[{"reason":"r","because":"a"}]}"#).is_err());
}
