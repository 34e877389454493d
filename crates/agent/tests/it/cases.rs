//! The numbered faults that a follower of logs must stand, where it takes a whole agent to show them.
//!
//! The list, with all the others, is in `crates/tail/tests/it/cases`.

use crate::support::{
    Agent, INDEX, Log, Place, assert_exactly, audit_id, contains, event, has_room, leak, secret_event,
};
use auditship_agent::receiver::{Fault, Options, Receiver};
use rustix::process::Signal;
use serde_json::Value;
use std::net::TcpListener;

const SEARCH: &str = "search: {type: elasticsearch, endpoint: URL, filter: none, batch: {age: 100ms}}";
const ARCHIVE: &str = "archive: {type: dir, path: DIR/archive, batch: {age: 200ms}}";
const ADMIN: &str = "admin: {listen: \"127.0.0.1:0\"}";

/// Waits until an output has read all that was written and has nothing open.
#[track_caller]
fn wait_settled(agent: &Agent, output: &str, lines: usize) {
    agent.until(&format!("{lines} lines read for {output} and none open"), || {
        let status = agent.status();
        status.get(output, "read/lines") == lines as u64 && status.get(output, "open") == 0
    });
}

fn documents(receiver: &Receiver, index: &str) -> Vec<Value> {
    receiver.documents(index).iter().map(|d| serde_json::from_slice(&d.body).unwrap()).collect()
}

#[test]
fn case_23_a_gap_is_told_with_its_times_and_counted() {
    let place = Place::new();
    place.configure(SEARCH, ADMIN);
    let log = place.write("log/audit.log", format!("{}\n{}\n", event(0), event(1)));
    let agent = Agent::start(&place);
    wait_settled(&agent, "search", 2);
    assert_eq!(agent.stop(), 0);

    // The live file, all of which was read, gets more, is rotated, and goes.
    let mut text = std::fs::read_to_string(&log).unwrap();
    text += &format!("{}\n", event(2));
    std::fs::write(&log, text).unwrap();
    let backup = place.path("log/audit-2026-11-24T00-35-00.000.log");
    std::fs::rename(&log, &backup).unwrap();
    std::fs::remove_file(&backup).unwrap();
    std::fs::write(&log, format!("{}\n", event(3).replace("T00:33:57", "T00:40:00"))).unwrap();

    let agent = Agent::start(&place);
    wait_settled(&agent, "search", 3);
    agent.wait_log("the log goes on behind the gap");
    let told = agent.log();
    let line = |what: &str| told.lines().find(|line| line.contains(what)).unwrap().to_owned();
    let (end, start) =
        (line("an unknown amount of the log is missing"), line("the log goes on behind the gap"));
    assert!(end.contains("last_event=2026-11-24T00:33:57.363042Z"), "{end}");
    assert!(end.contains("api: after byte") && end.contains("before byte 0 of"), "{end}");
    assert!(start.contains("first_event=2026-11-24T00:40:00.363042Z"), "{start}");
    agent.until("the counter", || agent.get("/metrics").1.contains("\nauditship_gaps_total 1\n"));
    let metrics = agent.get("/metrics").1;
    assert!(metrics.contains("auditship_last_trouble_timestamp_seconds{what=\"gap\"} 1"), "{metrics}");
    agent.status().assert_law();
    assert_eq!(agent.stop(), 0);
    assert_eq!(place.audit_ids(), [0, 1, 3].map(audit_id));
}

#[test]
fn case_25_a_torn_line_glued_to_the_next_event_is_stubbed_and_that_is_delivered() {
    const SECRET: &str = "c2VjcmV0LXZhbHVlLXRoYXQtbXVzdC1ub3QtbGVhdmUtdGhlLW5vZGU=";
    let place = Place::new();
    place.configure(SEARCH, ADMIN);
    // The disk was full in the middle of a line; the writer goes on behind the fragment.
    let torn = secret_event(1, SECRET);
    let torn = &torn[..torn.find(SECRET).unwrap() + 30];
    let log = place.write("log/audit.log", format!("{}\n{torn}", event(0)));
    let agent = Agent::start(&place);
    wait_settled(&agent, "search", 1);
    let mut file = std::fs::OpenOptions::new().append(true).open(log).unwrap();
    std::io::Write::write_all(&mut file, format!("{}\n{}\n", event(2), event(3)).as_bytes()).unwrap();
    wait_settled(&agent, "search", 3);
    let status = agent.status();
    status.assert_law();
    assert_eq!(status.get("search", "delivered"), 3, "{status:?}");
    assert_eq!(status.get("search", "failed_closed/torn"), 1, "{status:?}");
    assert_eq!(agent.stop(), 0);
    // The torn one as a stub, without its body.
    let documents = place.documents();
    assert_eq!(documents.len(), 4);
    for n in [0, 2, 3] {
        let of = |document: &&Value| {
            document["auditID"] == audit_id(n) && document["responseStatus"]["code"] == 201
        };
        assert_eq!(documents.iter().filter(of).count(), 1, "event {n}");
    }
    assert!(contains(&place.left(), audit_id(1).as_bytes()), "who and what is known of it");
    assert_eq!(leak(&place.left(), SECRET), None);
    // Its line is kept on the node.
    let kept: Vec<_> = std::fs::read_dir(place.path("state/failed-closed")).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1);
    assert!(std::fs::read(kept[0].path()).unwrap().starts_with(torn.as_bytes()));
}

#[test]
fn case_34_stopped_during_a_flush_the_last_offsets_are_saved() {
    let place = Place::new();
    // What does not fill a batch is sent by the flush alone.
    let batch = "batch: {age: 10m, events: 250}";
    let outputs = format!("{SEARCH}\n{ARCHIVE}");
    let outputs = outputs.replace("batch: {age: 100ms}", batch).replace("batch: {age: 200ms}", batch);
    place.configure(&outputs, ADMIN);
    let mut log = Log::create(&place);
    for round in 1..=3 {
        let agent = Agent::start(&place);
        log.append(390);
        if round == 2 {
            log.rotate();
            log.append(10);
        }
        agent.until("all read", || {
            let status = agent.status();
            ["search", "archive"].iter().all(|name| status.get(name, "read/lines") == log.written as u64)
        });
        assert!((place.receiver.counts().stored as usize) < log.written, "a part of it is yet to be flushed");
        // The backend is busy then, and once it takes all and its answer is lost.
        let busy = Fault::Answer { status: 503, headers: Vec::new(), body: String::new() };
        place.receiver.script([busy, Fault::StoreThenCut]);
        assert_eq!(agent.stop(), 0);
        assert_exactly("search", &place.documents(), log.written);
        assert_exactly("archive", &place.archive("archive"), log.written);
        let repeated = place.receiver.counts().repeated;
        // Nothing is left to do, and nothing is done again.
        let agent = Agent::start(&place);
        agent.wait_log("started");
        agent.until("it has told of itself", || agent.status().outputs().len() == 2);
        for output in ["search", "archive"] {
            let status = agent.status();
            assert_eq!(status.get(output, "read/lines"), log.written as u64, "{status:?}");
            assert_eq!(status.get(output, "delivered"), log.written as u64, "{status:?}");
        }
        assert_eq!(agent.stop(), 0);
        assert_eq!(place.receiver.counts().repeated, repeated, "the offsets of the flush were saved");
    }
}

#[test]
fn case_44_a_reload_while_an_output_is_down_keeps_every_cursor() {
    let place = Place::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let search = SEARCH.replace("URL", &format!("\"http://{address}\""));
    let path = place.configure(&format!("{search}\n{ARCHIVE}"), ADMIN);
    let good = std::fs::read_to_string(&path).unwrap();
    let mut log = Log::create(&place);
    log.append(300);
    let agent = Agent::start(&place);
    agent.until("the other output", || agent.status().get("archive", "delivered") == 300);
    agent.until("it is down", || {
        let (code, body) = agent.get("/readyz");
        code == 503 && body.contains("output search")
    });
    let reloads = |count: usize| {
        agent.until("the reload", || agent.log().matches("configuration reloaded").count() == count)
    };
    for round in 1..=3 {
        // Written before and after, in one file and the next.
        log.append(50);
        std::fs::write(&path, good.replace("index: audit", &format!("index: audit-{round}"))).unwrap();
        agent.signal(Signal::HUP);
        reloads(round);
        log.append(50);
        log.rotate();
        log.append(50);
        agent.until("the other output goes on", || {
            agent.status().get("archive", "delivered") == log.written as u64
        });
        let status = agent.status();
        status.assert_law();
        assert_eq!(status.get("search", "delivered"), 0, "{status:?}");
    }
    let receiver = Receiver::start_at(address, Options::default()).unwrap();
    wait_settled(&agent, "search", log.written);
    let status = agent.status();
    status.assert_law();
    for output in ["search", "archive"] {
        assert_eq!(status.get(output, "delivered"), log.written as u64, "{status:?}");
        assert_eq!(status.get(output, "lost_bytes"), 0, "{status:?}");
    }
    assert_eq!(agent.stop(), 0);
    // All of it came after the last reload.
    assert_exactly("search", &documents(&receiver, "audit-3"), log.written);
    assert_eq!((receiver.counts().stored, receiver.counts().repeated), (log.written as u64, 0));
    assert!(documents(&receiver, INDEX).is_empty());
    assert_exactly("archive", &place.archive("archive"), log.written);
}

#[test]
fn case_44_a_reload_keeps_what_only_a_descriptor_has() {
    if !has_room("holding deleted files") {
        return;
    }
    let place = Place::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // A few small batches are under way, and nothing more is read.
    let search =
        SEARCH.replace("URL", &format!("\"http://{address}\"")).replace("age: 100ms", "age: 1s, events: 20");
    let path = place.configure(&search, ADMIN);
    let good = std::fs::read_to_string(&path).unwrap();
    let mut log = Log::create(&place);
    let agent = Agent::start(&place);
    let mut backups = Vec::new();
    for _ in 0..4 {
        log.append(500);
        backups.push(log.rotate());
    }
    log.append(100);
    let shows = |figure: &str| agent.get("/metrics").1.lines().any(|line| line == figure);
    agent.until("all five are open", || shows("auditship_descriptors 5"));
    assert!(agent.status().get("search", "read/lines") < 500, "{:?}", agent.status());
    // The writer keeps only the first, which is being read.
    for backup in &backups[1..] {
        std::fs::remove_file(backup).unwrap();
    }
    agent.until("the others are held", || shows("auditship_held_files 3"));
    for round in 1..=2 {
        std::fs::write(&path, good.replace("index: audit", &format!("index: audit-{round}"))).unwrap();
        agent.signal(Signal::HUP);
        agent.until("the reload", || agent.log().matches("configuration reloaded").count() == round);
    }
    let receiver = Receiver::start_at(address, Options::default()).unwrap();
    wait_settled(&agent, "search", log.written);
    let status = agent.status();
    status.assert_law();
    assert_eq!(status.get("search", "lost_bytes"), 0, "{status:?}");
    assert_eq!(agent.stop(), 0);
    assert_exactly("search", &documents(&receiver, "audit-2"), log.written);
}
