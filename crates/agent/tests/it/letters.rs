//! What a backend refuses for good, looked at and sent again; and the output that takes what another does not.

use crate::support::{
    INDEX, Place, Ran, assert_exactly, audit_id, auditship, contains, event, event_with, events, run,
    secret_event,
};
use auditship_agent::receiver::Fault;
use serde_json::Value;
use std::net::TcpListener;

const SECRET: &str = "c2VjcmV0LXZhbHVlLXRoYXQtbXVzdC1ub3QtbGVhdmUtdGhlLW5vZGU=";
const SEARCH: &str = "search: {type: elasticsearch, endpoint: URL, filter: none, concurrency: 1}";
const FILE: &str = "auditship-dead-letters.ndjson";

fn letters(place: &Place, args: &[&str]) -> Ran {
    let mut command = auditship();
    command.current_dir(place.path("")).args(["dead-letter", "--config", "config.yaml", "--file", FILE]);
    run(command.args(args), b"")
}

/// A place where `ship` has left letters for the events `refused` of twenty.
fn refused(refused: &[usize]) -> Place {
    let place = Place::new();
    place.configure(SEARCH, "");
    let items = refused.iter().map(|at| (*at, 400)).collect();
    place.receiver.script([Fault::Items(items)]);
    if refused.contains(&3) {
        // It has a body, so it is tried once more.
        place.receiver.script([Fault::Items(vec![(0, 400)])]);
    }
    let text: String =
        (0..20).map(|n| if n == 3 { secret_event(n, SECRET) } else { event(n) } + "\n").collect();
    let file = place.write("in", text);
    let shipped = place.ship(&[], &[&file], b"");
    shipped.report.assert_law();
    assert_eq!(shipped.report.get("search", "dead_lettered"), refused.len() as u64, "{shipped:?}");
    place
}

#[test]
fn what_was_refused_can_be_seen_and_sent_again() {
    let place = refused(&[3, 7, 9]);
    let list = letters(&place, &["list"]);
    assert_eq!(list.code, 0, "{list:?}");
    assert!(list.out.contains("3 dead letters") && list.out.contains("search: 3 400"), "{}", list.out);
    let show = letters(&place, &["show", "1"]);
    assert!(show.out.contains(&audit_id(3)) || show.out.contains(&audit_id(7)), "{}", show.out);
    assert_eq!(letters(&place, &["show", "4"]).code, 2);
    assert_eq!(letters(&place, &["list", "--json"]).out.lines().count(), 3);

    let dry = letters(&place, &["replay", "--dry-run"]);
    assert!(dry.out.contains("3 would be sent again"), "{dry:?}");
    assert_eq!(place.documents().len(), 17);

    // One by number; then the rest.
    let one = letters(&place, &["replay", "2"]);
    assert_eq!((one.code, one.out.trim()), (0, "delivered 1, refused again 0, not delivered 0, kept 2"));
    let rest = letters(&place, &["replay", "--json"]);
    assert_eq!(rest.out.trim(), r#"{"delivered":2,"kept":0,"not_delivered":0,"refused":0}"#);
    assert_exactly("search", &place.documents(), 20);
    assert_eq!(place.receiver.counts().repeated, 0);
    assert!(!contains(&place.left(), SECRET.as_bytes()));
    assert!(!place.path(&format!("{FILE}.replaying")).exists());
    assert!(letters(&place, &["list"]).out.contains("0 dead letters"));
    // With the members that a sink puts first only once.
    let text = place.left();
    let twice = text
        .split(|b| *b == b'\n')
        .any(|line| memchr::memmem::find_iter(line, b"\"auditship\":{").count() > 1);
    assert!(!twice);
}

#[test]
fn what_was_tried_as_strings_is_sent_as_it_was() {
    let place = refused(&[3]);
    let letter: Value = serde_json::from_slice(&std::fs::read(place.path(FILE)).unwrap()).unwrap();
    assert_eq!((&letter["form"], letter["body"]["requestObject"].is_string()), (&Value::from("flat"), true));
    assert_eq!(
        letters(&place, &["replay"]).out.trim(),
        "delivered 1, refused again 0, not delivered 0, kept 0"
    );
    let document = place.documents().into_iter().find(|document| document["auditID"] == audit_id(3)).unwrap();
    for body in ["requestObject", "responseObject"] {
        let password = &document[body]["data"]["password"];
        assert!(password.as_str().is_some_and(|text| text.starts_with("redacted:")), "{document}");
    }
    assert_eq!(document["auditship"]["uid"], letter["uid"]);
    assert_eq!(place.receiver.counts().repeated, 0);
}

#[test]
fn an_entry_in_datadogs_words_is_an_event_elsewhere() {
    let place = Place::new();
    place.configure(SEARCH, "");
    let text = r#""requestObject":"{\"kind\":\"Scale\",\"spec\":{\"replicas\":2}}","#;
    let object = r#""requestObject":{"kind":"Scale","spec":{"replicas":2}},"#;
    let uid = "00112233445566778899aabbccddeeff";
    let entry = format!(
        r#"{{"ddsource":"kubernetes.audit","service":"kube-apiserver","hostname":"n","ddtags":"cluster:c","timestamp":1,"message":"create configmaps","status":"info","usr":{{"id":"alice"}},"http":{{"status_code":201}},"auditship":{{"uid":"{uid}","index":"{INDEX}","cluster":"c","node":"n","key":"k"}},{}"#,
        &event_with(3, text)[1..]
    );
    let letter = format!(
        r#"{{"v":1,"time":"2026-11-24T00:00:00.000Z","output":"gone","status":400,"reason":"http 400","uid":"{uid}","index":"{INDEX}","span":{{"stream":1,"start":0,"end":1}},"body":{entry}}}"#
    );
    std::fs::write(place.path(FILE), letter + "\n").unwrap();
    let told = letters(&place, &["replay", "--to", "search"]);
    assert_eq!((told.code, told.out.trim()), (0, "delivered 1, refused again 0, not delivered 0, kept 0"));
    let mut document = place.documents().remove(0);
    let members = document.as_object_mut().unwrap();
    assert_eq!(members.remove("auditship").unwrap()["uid"], uid);
    assert!(members.remove("@timestamp").is_some());
    assert_eq!(document, serde_json::from_str::<Value>(&event_with(3, object)).unwrap());
}

#[test]
fn nothing_is_forgotten_by_a_replay_that_fails() {
    let place = refused(&[7, 9]);
    place.receiver.script([Fault::Items(vec![(0, 400)])]);
    let again = letters(&place, &["replay"]);
    assert_eq!((again.code, again.out.trim()), (2, "delivered 1, refused again 1, not delivered 0, kept 0"));
    place.receiver.script(vec![Fault::Answer { status: 401, headers: vec![], body: String::new() }; 9]);
    let held = letters(&place, &["replay", "--give-up-after", "1"]);
    assert_eq!((held.code, held.out.trim()), (2, "delivered 0, refused again 0, not delivered 1, kept 0"));
    assert_eq!(
        letters(&place, &["replay", "--output", "nobody"]).out.trim(),
        "delivered 0, refused again 0, not delivered 0, kept 1"
    );
    // A file that was set aside by a replay which was killed, and a line that is no letter.
    let text = std::fs::read(place.path(FILE)).unwrap();
    std::fs::rename(place.path(FILE), place.path(&format!("{FILE}.replaying"))).unwrap();
    std::fs::write(place.path(FILE), "torn {\n").unwrap();
    assert!(letters(&place, &["list"]).out.contains("1 dead letters"));
    place.configure(&format!("{SEARCH}\nother: {{type: stdout}}"), "");
    let to = letters(&place, &["replay", "--to", "other"]);
    assert_eq!(to.code, 0, "{to:?}");
    assert!(to.out.contains(&format!("\"index\":\"{INDEX}\"")) && to.out.contains("delivered 1"), "{to:?}");
    assert!(!text.is_empty());
    assert_eq!(std::fs::read_to_string(place.path(FILE)).unwrap(), "torn {\n");
    assert_eq!(letters(&place, &["replay", "--to", "nobody"]).code, 64);
}

#[test]
fn what_an_output_does_not_take_goes_to_its_fallback() {
    let place = Place::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    place.configure(
        &format!(
            "search: {{type: elasticsearch, endpoint: \"http://{closed}\", filter: none, fallback: {{output: other, after: 1s}}}}\n\
             other: {{type: elasticsearch, endpoint: URL}}"
        ),
        "",
    );
    let file = place.write("in", events(0..20));
    let shipped =
        place.ship(&["--set", "routes[0].outputs=[search]", "--give-up-after", "30"], &[&file], b"");
    let report = shipped.assert_clean();
    assert_eq!(
        (report.get("search", "delivered"), report.get("search", "fallen_back")),
        (20, 20),
        "{report:?}"
    );
    assert_eq!(report.get("other", "elsewhere"), 20, "{report:?}");
    assert_exactly("other", &place.documents(), 20);
}
