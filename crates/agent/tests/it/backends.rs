//! Backends that fail in every way: what can be delivered is, once; what is refused for good is kept; nothing is
//! dropped.

use crate::support::{
    INDEX, Place, Shipped, assert_exactly, audit_id, contains, event, event_with, events, lines, secret_event,
};
use auditship_agent::receiver::{Fault, Options};
use serde_json::Value;
use std::net::TcpListener;

const SECRET: &str = "c2VjcmV0LXZhbHVlLXRoYXQtbXVzdC1ub3QtbGVhdmUtdGhlLW5vZGU=";

fn place(more: &str) -> Place {
    place_with(Options::default(), more)
}

fn place_with(options: Options, more: &str) -> Place {
    let place = Place::with(options);
    place.configure(
        &format!("search: {{type: elasticsearch, endpoint: URL, filter: none, concurrency: 1{more}}}"),
        "",
    );
    place
}

fn ship(place: &Place, text: &str, args: &[&str]) -> Shipped {
    let file = place.write("in", text);
    place.ship(args, &[&file], b"")
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Fault::Answer { status, headers, body: body.to_owned() }
}

/// The dead letters that `ship` has left.
fn dead_letters(place: &Place) -> Vec<Value> {
    let bytes = std::fs::read(place.path("auditship-dead-letters.ndjson")).unwrap_or_default();
    lines(&bytes).into_iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[test]
fn trouble_that_passes_is_waited_out() {
    let nonsense = "<html>Welcome to nginx!</html>";
    for (what, faults, requests) in [
        ("500 twice", vec![answer(500, &[], "x"), answer(500, &[], "")], 3),
        ("502 from something in between", vec![answer(502, &[], nonsense)], 2),
        ("503 and the connection closed", vec![answer(503, &[], ""), Fault::Close], 3),
        ("429", vec![answer(429, &[], "{}")], 2),
        ("200 that is not a bulk answer", vec![answer(200, &[], nonsense)], 2),
        ("200 with no items", vec![answer(200, &[], r#"{"errors":false,"items":[]}"#)], 2),
        ("200 with errors inside", vec![Fault::Items(vec![(0, 500), (9, 503), (19, 429)])], 2),
        ("429 for items", vec![Fault::Items(vec![(3, 429)]), Fault::Items(vec![(0, 429)])], 3),
        ("closed without an answer", vec![Fault::Close], 2),
    ] {
        let place = place("");
        place.receiver.script(faults);
        let shipped = ship(&place, &events(0..20), &[]);
        let report = shipped.assert_clean();
        assert_eq!(report.get("search", "delivered"), 20, "{what}: {report:?}");
        assert_eq!(report.get("search", "requests"), requests, "{what}: {report:?}");
        assert_eq!(place.receiver.counts().requests, requests, "{what}");
        assert_eq!(place.receiver.counts().repeated, 0, "{what}: what was stored is not sent again");
        assert_exactly(what, &place.documents(), 20);
        assert!(dead_letters(&place).is_empty(), "{what}");
    }
}

#[test]
fn stored_but_not_answered_gives_no_duplicates() {
    for (what, fault) in
        [("cut in the answer", Fault::StoreThenCut), ("stored, then 500", Fault::StoreThenAnswer(500))]
    {
        let place = place("");
        place.receiver.script([fault]);
        let shipped = ship(&place, &events(0..20), &[]);
        let report = shipped.assert_clean();
        assert_eq!((report.get("search", "delivered"), report.get("search", "retries")), (20, 1), "{what}");
        assert_eq!(place.receiver.counts().repeated, 20, "{what}: the second try meets 409 for each");
        assert_exactly(what, &place.documents(), 20);
    }
}

#[test]
fn retry_after_is_honoured() {
    let place = place("");
    place.receiver.script([answer(429, &[("Retry-After", "1")], "")]);
    ship(&place, &events(0..5), &[]).assert_clean();
    assert_eq!(place.receiver.counts().requests, 2);
    assert_exactly("search", &place.documents(), 5);

    // Longer than it may take: without the header the second try would come within half a second.
    place.receiver.script([answer(429, &[("Retry-After", "300")], "")]);
    let shipped = ship(&place, &events(5..10), &["--give-up-after", "3"]);
    assert_eq!((shipped.code, shipped.report.get("search", "open")), (2, 5), "{shipped:?}");
    assert_eq!(place.receiver.counts().requests, 3, "no try before its time");
}

#[test]
fn a_hanging_backend_is_timed_out() {
    let place = place(", timeout: 1s");
    place.receiver.script([Fault::Hang]);
    let shipped = ship(&place, &events(0..20), &[]);
    let report = shipped.assert_clean();
    assert_eq!((report.get("search", "delivered"), report.get("search", "retries")), (20, 1), "{report:?}");
    assert_exactly("search", &place.documents(), 20);
}

#[test]
fn too_large_is_split() {
    // Small enough for about eight events in a request.
    let place = place_with(Options { body_max_bytes: 8_000, ..Options::default() }, "");
    let shipped = ship(&place, &events(0..100), &[]);
    let report = shipped.assert_clean();
    assert_eq!(report.get("search", "delivered"), 100, "{report:?}");
    assert_exactly("search", &place.documents(), 100);
    assert_eq!(place.receiver.counts().repeated, 0);

    // What was refused is remembered: batches that come after are not tried at that size.
    let large = |n| event_with(n, &format!("\"requestObject\":{{\"x\":\"{}\"}},", "y".repeat(2_000)));
    let text: String = (0..1_000).map(|n| large(n) + "\n").collect();
    let small = Options { body_max_bytes: 100_000, ..Options::default() };
    let place = place_with(small, ", batch: {bytes: 256KiB}");
    let shipped = ship(&place, &text, &[]);
    let report = shipped.assert_clean();
    assert_exactly("search", &place.documents(), 1_000);
    let get = |name| report.get("search", name);
    // Eleven batches, of which each would be seven requests (one, two halves, four quarters that are taken). Only the
    // first one is; of the others a half that is a little smaller may still be tried.
    assert!(get("requests") <= 7 + 10 * 5, "{report:?}");
    assert!((64 << 10..=100_000).contains(&get("batch_bytes")), "{report:?}");

    // One record that is too large by itself costs no neighbour.
    let place = place_with(Options { body_max_bytes: 8_000, ..Options::default() }, "");
    let large = event_with(5, &format!("\"requestObject\":{{\"x\":\"{}\"}},", "y".repeat(20_000)));
    let text = events(0..5) + &large + "\n" + &events(6..10);
    let shipped = ship(&place, &text, &[]);
    shipped.report.assert_law();
    assert_eq!(shipped.code, 2, "{shipped:?}");
    let get = |name| shipped.report.get("search", name);
    assert_eq!((get("delivered"), get("dead_lettered"), get("open")), (9, 1, 0), "{shipped:?}");
    let letters = dead_letters(&place);
    assert_eq!((letters.len(), &letters[0]["body"]["auditID"]), (1, &Value::from(audit_id(5))));
    assert_eq!(letters[0]["status"], 413);
}

#[test]
fn a_refused_record_is_tried_once_more_and_then_kept() {
    let text = events(0..3) + &secret_event(3, SECRET) + "\n" + &events(4..20);
    let place = place("");
    place.receiver.script([Fault::Items(vec![(3, 400)]), Fault::Items(vec![(0, 400)])]);
    let shipped = ship(&place, &text, &[]);
    shipped.report.assert_law();
    assert_eq!(shipped.code, 2, "{shipped:?}");
    assert!(shipped.err.contains("1 lines refused, see auditship-dead-letters.ndjson"), "{shipped:?}");
    let get = |name| shipped.report.get("search", name);
    assert_eq!((get("delivered"), get("dead_lettered"), get("open")), (19, 1, 0), "{shipped:?}");
    assert_eq!(place.receiver.counts().requests, 2);

    let letters = dead_letters(&place);
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((&letter["status"], &letter["output"]), (&Value::from(400), &Value::from("search")));
    assert_eq!(letter["body"]["auditID"], audit_id(3));
    assert!(letter["body"]["requestObject"].is_string(), "it was tried with its bodies as strings");
    let file = std::fs::read(place.path("auditship-dead-letters.ndjson")).unwrap();
    assert!(!contains(&file, SECRET.as_bytes()) && contains(&file, b"redacted:"));
    assert!(!contains(&place.left(), SECRET.as_bytes()));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(place.path("auditship-dead-letters.ndjson")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_record_is_taken_with_its_bodies_as_strings() {
    let text = events(0..3) + &secret_event(3, SECRET) + "\n" + &events(4..20);
    let place = place("");
    place.receiver.script([Fault::Items(vec![(3, 400)])]);
    let shipped = ship(&place, &text, &[]);
    let report = shipped.assert_clean();
    assert_eq!((report.get("search", "delivered"), report.get("search", "requests")), (20, 2), "{report:?}");
    assert_exactly("search", &place.documents(), 20);
    let flat = place.documents().into_iter().find(|d| d["auditID"] == audit_id(3)).unwrap();
    let body: Value = serde_json::from_str(flat["requestObject"].as_str().unwrap()).unwrap();
    assert!(body["data"]["password"].as_str().unwrap().starts_with("redacted:"), "{body}");
    assert!(dead_letters(&place).is_empty());
}

#[test]
fn a_record_without_bodies_is_kept_at_once() {
    let place = place("");
    place.receiver.script([Fault::Items(vec![(7, 400), (8, 400)])]);
    let shipped = ship(&place, &events(0..20), &[]);
    shipped.report.assert_law();
    assert_eq!(shipped.code, 2, "{shipped:?}");
    let get = |name| shipped.report.get("search", name);
    assert_eq!((get("delivered"), get("dead_lettered"), get("requests")), (18, 2, 1), "{shipped:?}");
    let ids: Vec<Value> =
        dead_letters(&place).iter().map(|letter| letter["body"]["auditID"].clone()).collect();
    assert_eq!(ids, [audit_id(7), audit_id(8)]);
}

#[test]
fn what_somebody_must_put_right_is_held_and_nothing_is_dropped() {
    for (what, fault) in [
        ("401", answer(401, &[], "{}")),
        ("403", answer(403, &[], "{}")),
        ("404", answer(404, &[], "{}")),
        ("403 for every item", Fault::Items((0..20).map(|at| (at, 403)).collect())),
    ] {
        let place = place("");
        place.receiver.script(vec![fault; 10]);
        let shipped = ship(&place, &events(0..20), &["--give-up-after", "1"]);
        shipped.report.assert_law();
        assert_eq!(shipped.code, 2, "{what}: {shipped:?}");
        let get = |name| shipped.report.get("search", name);
        assert_eq!((get("delivered"), get("dead_lettered"), get("open")), (0, 0, 20), "{what}: {shipped:?}");
        assert!(shipped.err.contains("20 lines not delivered"), "{what}: {shipped:?}");
        assert!(shipped.err.contains(&what[..3]), "{what}: the reason is told: {shipped:?}");
        assert!(place.receiver.counts().requests <= 2, "{what}: no hammering");
        assert!(dead_letters(&place).is_empty(), "{what}");
    }
}

#[test]
fn a_backend_that_is_down_is_given_up() {
    let place = Place::new();
    // A port on which nobody listens.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    place.configure(
        &format!("search: {{type: elasticsearch, endpoint: \"http://{closed}\", filter: none}}\narchive: {{type: dir, path: DIR/archive}}"),
        "",
    );
    let shipped = ship(&place, &events(0..20), &["--give-up-after", "1"]);
    shipped.report.assert_law();
    assert_eq!(shipped.code, 2, "{shipped:?}");
    assert_eq!(shipped.report.get("search", "open"), 20, "{shipped:?}");
    assert_eq!(
        shipped.report.get("archive", "delivered"),
        20,
        "the other output has everything: {shipped:?}"
    );
    assert!(shipped.err.contains("output \"search\": 20 lines not delivered"), "{shipped:?}");
    assert_exactly("archive", &place.archive("archive"), 20);
    // Later it is there: the same command delivers, and the archive is not doubled.
    place.configure(
        "search: {type: elasticsearch, endpoint: URL, filter: none}\narchive: {type: dir, path: DIR/archive}",
        "",
    );
    ship(&place, &events(0..20), &[]).assert_clean();
    assert_exactly("search", &place.documents(), 20);
    assert_exactly("archive", &place.archive("archive"), 20);
}

#[test]
fn a_batch_is_sent_in_bounds() {
    let place = place(", batch: {events: 7}");
    let text: String = (0..100).map(|n| event(n) + "\n").collect();
    ship(&place, &text, &[]).assert_clean();
    assert_eq!(place.receiver.counts().requests, 15);
    assert_eq!(place.receiver.counts().indexes[INDEX], 100);
    assert!(place.receiver.heads().iter().all(|head| head.contains("content-encoding: gzip")));
}
