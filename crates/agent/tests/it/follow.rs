//! `run`: followed through rotations, stopped, killed, reloaded, asked.

use crate::support::{
    Agent, INDEX, Log, Place, assert_exactly, audit_id, auditship, event, gzip, run, secret_event, unfinished,
};
use auditship_agent::receiver::{Fault, Options, Receiver};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpListener;

const SEARCH: &str = "search: {type: elasticsearch, endpoint: URL, filter: none, batch: {age: 100ms}}";
const ARCHIVE: &str = "archive: {type: dir, path: DIR/archive, batch: {age: 200ms}}";
const ADMIN: &str = "admin: {listen: \"127.0.0.1:0\"}";

fn both() -> Place {
    let place = Place::new();
    place.configure(&format!("{SEARCH}\n{ARCHIVE}"), ADMIN);
    place
}

fn stored(place: &Place) -> usize {
    place.receiver.counts().stored as usize
}

/// Waits until both outputs have settled all that was written.
#[track_caller]
fn wait_settled(agent: &Agent, lines: usize) {
    agent.until(&format!("{lines} lines read and none open"), || {
        let status = agent.status();
        let outputs = status.outputs();
        // An output is there once its consumer has first told of itself.
        outputs.len() == 2
            && outputs.iter().all(|(name, _)| {
                status.get(name, "read/lines") == lines as u64 && status.get(name, "open") == 0
            })
    });
}

#[test]
fn rotations_under_a_writer() {
    let place = both();
    let mut log = Log::create(&place);
    // Some backups are there before the agent is, one of them compressed.
    for compressed in [true, false] {
        log.append(300);
        let backup = log.rotate();
        if compressed {
            let packed = gzip(&std::fs::read(&backup).unwrap());
            std::fs::write(backup.with_extension("log.gz"), packed).unwrap();
            std::fs::remove_file(backup).unwrap();
        }
    }
    let agent = Agent::start(&place);
    for _ in 0..8 {
        log.append(500);
        log.rotate();
    }
    log.append(123);
    wait_settled(&agent, log.written);
    let status = agent.status();
    status.assert_law();
    assert_eq!(status.get("search", "delivered"), log.written as u64);
    assert_eq!(agent.stop(), 0);
    assert_exactly("search", &place.documents(), log.written);
    assert_exactly("archive", &place.archive("archive"), log.written);
    assert_eq!(place.receiver.counts().repeated, 0);
}

#[test]
fn a_stop_drains_and_a_start_resumes_without_repeating() {
    let place = Place::new();
    // Batches wait for longer than the test takes: only a drain sends them.
    let slow = format!("{SEARCH}\n{ARCHIVE}").replace("100ms", "10m").replace("200ms", "10m");
    place.configure(&slow, ADMIN);
    let mut log = Log::create(&place);
    for round in 1..=3 {
        let agent = Agent::start(&place);
        log.append(400);
        if round == 2 {
            log.rotate();
            log.append(50);
        }
        agent.until("all read", || {
            let status = agent.status();
            ["search", "archive"].iter().all(|name| status.get(name, "read/lines") == log.written as u64)
        });
        let told = agent.log();
        assert!(stored(&place) < log.written, "the batch was not to be sent yet\n{told}");
        assert_eq!(agent.stop(), 0);
        assert_eq!(stored(&place), log.written);
    }
    assert_exactly("search", &place.documents(), log.written);
    assert_exactly("archive", &place.archive("archive"), log.written);
    assert_eq!(place.receiver.counts().repeated, 0, "nothing was sent twice");
    assert_eq!(place.receiver.counts().requests, 3, "one batch for each round");
}

#[test]
fn killed_three_times_and_every_event_is_there_once() {
    let place = Place::new();
    // Slow enough to be killed in the middle.
    let pace = "batch: {age: 100ms, events: 25}, rate_limit: {requests: 30/s}";
    let search = format!("search: {{type: elasticsearch, endpoint: URL, filter: none, {pace}}}");
    place.configure(&format!("{search}\narchive: {{type: dir, path: DIR/archive, {pace}}}"), ADMIN);
    let mut log = Log::create(&place);
    for _ in 0..3 {
        let agent = Agent::start(&place);
        let before = stored(&place);
        log.append(1_000);
        agent.until("some of it", || stored(&place) >= before + 300);
        log.append(200);
        agent.kill();
        assert!(stored(&place) < log.written, "it was to be killed in the middle");
        log.append(100);
        log.rotate();
        log.append(100);
    }
    let agent = Agent::start(&place);
    wait_settled(&agent, log.written);
    let status = agent.status();
    status.assert_law();
    for output in ["search", "archive"] {
        // The totals are stored with the position, so they agree with it after any stop.
        assert_eq!(status.get(output, "read/lines"), log.written as u64, "{status:?}");
        assert_eq!(status.get(output, "delivered"), log.written as u64, "{status:?}");
        assert_eq!(status.get(output, "lost_bytes"), 0, "{status:?}");
    }
    assert_eq!(agent.stop(), 0);
    assert_exactly("search", &place.documents(), log.written);
    assert_exactly("archive", &place.archive("archive"), log.written);
    let left = unfinished(&place.path("archive"));
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn a_dead_output_delays_no_other() {
    let place = Place::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let search = SEARCH.replace("URL", &format!("\"http://{address}\""));
    let more = format!("{ADMIN}\nshutdown_deadline: 500ms");
    place.configure(&format!("{search}\n{ARCHIVE}"), &more);
    let mut log = Log::create(&place);
    let agent = Agent::start(&place);
    for _ in 0..4 {
        log.append(500);
        log.rotate();
    }
    agent.until("the archive", || agent.status().get("archive", "delivered") == log.written as u64);
    agent.until("the dead output is told", || {
        let (code, body) = agent.get("/readyz");
        code == 503 && body.contains("output search")
    });
    let status = agent.status();
    status.assert_law();
    assert_eq!(status.get("search", "delivered"), 0, "{status:?}");
    assert_eq!(status.get("search", "open"), log.written as u64, "{status:?}");
    assert_exactly("archive", &place.archive("archive"), log.written);
    // It would never end if a dead output held it up.
    assert_eq!(agent.stop(), 0);

    // The backend comes back at the same address, after the agent did.
    let agent = Agent::start(&place);
    let receiver = Receiver::start_at(address, Options::default()).unwrap();
    wait_settled(&agent, log.written);
    agent.until("all is well", || agent.get("/readyz").0 == 200);
    assert_eq!(agent.stop(), 0);
    let documents: Vec<serde_json::Value> =
        receiver.documents(INDEX).iter().map(|d| serde_json::from_slice(&d.body).unwrap()).collect();
    assert_exactly("search", &documents, log.written);
    assert_exactly("archive", &place.archive("archive"), log.written);
}

#[test]
fn a_second_signal_leaves_at_once_and_loses_nothing() {
    let place = Place::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let search = SEARCH.replace("URL", &format!("\"http://{address}\""));
    place.configure(&format!("{search}\n{ARCHIVE}"), &format!("{ADMIN}\nshutdown_deadline: 10m"));
    let mut log = Log::create(&place);
    log.append(100);
    let agent = Agent::start(&place);
    agent.until("all read", || agent.status().get("search", "read/lines") == 100);
    agent.signal(Signal::TERM);
    agent.wait_log("stopping: reading no more");
    assert_eq!(agent.stop(), 0);
    place.configure(&format!("{SEARCH}\n{ARCHIVE}"), ADMIN);
    let agent = Agent::start(&place);
    wait_settled(&agent, 100);
    agent.status().assert_law();
    assert_eq!(agent.stop(), 0);
    assert_exactly("search", &place.documents(), 100);
    assert_exactly("archive", &place.archive("archive"), 100);
}

#[test]
fn a_log_may_come_later() {
    let place = both();
    let agent = Agent::start(&place);
    agent.wait_log("started");
    let mut log = Log::create(&place);
    log.append(50);
    wait_settled(&agent, 50);
    assert_eq!(agent.stop(), 0);
    assert_exactly("search", &place.documents(), 50);
}

#[test]
fn what_was_deleted_unread_is_counted_as_lost() {
    let place = Place::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let search = SEARCH.replace("URL", &format!("\"http://{address}\""));
    place.configure(&format!("{search}\n{ARCHIVE}"), &format!("{ADMIN}\nshutdown_deadline: 100ms"));
    let mut log = Log::create(&place);
    log.append(100);
    let agent = Agent::start(&place);
    agent.until("the archive", || agent.status().get("archive", "delivered") == 100);
    agent.until("all read", || agent.status().get("search", "read/lines") == 100);
    assert_eq!(agent.stop(), 0);

    // While the agent is down the file goes that one output has not delivered.
    let gone = log.rotate();
    let bytes = std::fs::metadata(&gone).unwrap().len();
    std::fs::remove_file(gone).unwrap();
    log.append(40);
    place.configure(&format!("{SEARCH}\n{ARCHIVE}"), ADMIN);
    let agent = Agent::start(&place);
    agent.until("the loss is told", || agent.status().get("search", "lost_bytes") == bytes);
    agent.until("what is left", || {
        let status = agent.status();
        status.get("search", "delivered") == 40 && status.get("archive", "delivered") == 140
    });
    let status = agent.status();
    status.assert_law();
    assert_eq!(status.get("archive", "lost_bytes"), 0, "{status:?}");
    assert!(agent.log().contains("bytes can no longer be read"), "{}", agent.log());
    let metrics = agent.get("/metrics").1;
    assert!(metrics.contains("auditship_lost_bytes_total{output=\"search\",reason="), "{metrics}");
    // Alerts ask for it: a counter that is there from the first scrape on has not grown for them.
    let trouble = "auditship_last_trouble_timestamp_seconds{output=\"search\",what=\"lost\"}";
    assert!(metrics.contains(trouble) && !metrics.contains("archive\",what=\"lost\""), "{metrics}");
    assert_eq!(agent.stop(), 0);
    // It is no news after the next start.
    let agent = Agent::start(&place);
    agent.until("what was restored", || agent.status().get("search", "lost_bytes") == bytes);
    let metrics = agent.get("/metrics").1;
    assert!(!metrics.contains(trouble), "{metrics}");
    assert_eq!(agent.stop(), 0);
    assert_eq!(place.documents().len(), 40);
    assert_exactly("archive", &place.archive("archive"), 140);
}

#[test]
fn a_refused_record_goes_to_the_state_directory() {
    let place = both();
    let mut log = Log::create(&place);
    place.receiver.script([Fault::Items(vec![(2, 400)])]);
    log.append(10);
    let agent = Agent::start(&place);
    wait_settled(&agent, 10);
    let status = agent.status();
    status.assert_law();
    assert_eq!(
        (status.get("search", "delivered"), status.get("search", "dead_lettered")),
        (9, 1),
        "{status:?}"
    );
    assert_eq!(status.get("archive", "delivered"), 10);
    assert_eq!(agent.stop(), 0);
    let letters = std::fs::read_to_string(place.path("state/dead-letters.ndjson")).unwrap();
    assert!(letters.contains(&audit_id(2)) && letters.lines().count() == 1, "{letters}");
}

#[test]
fn a_second_agent_is_refused() {
    let place = both();
    Log::create(&place);
    let agent = Agent::start(&place);
    agent.wait_log("started");
    let ran = run(auditship().current_dir(place.path("")).args(["run", "--config", "config.yaml"]), b"");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains(&format!("process {} is using it", agent.pid())), "{ran:?}");
    assert_eq!(agent.stop(), 0);
    // The lock is the process's, not the file's.
    let agent = Agent::start(&place);
    agent.wait_log("started");
    agent.kill();
    let agent = Agent::start(&place);
    agent.wait_log("started");
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_reload_takes_a_good_configuration_and_no_other() {
    let place = both();
    let mut log = Log::create(&place);
    let agent = Agent::start(&place);
    log.append(100);
    agent.until("the first", || stored(&place) == 100);

    let path = place.path("config.yaml");
    let good = std::fs::read_to_string(&path).unwrap();
    for (bad, told) in [
        (good.replace("endpoint", "endpont"), "unknown key `endpont`"),
        (String::new(), "holds no configuration"),
        (good.replace("outputs: [search", "outputs: [serch"), "serch"),
        (good.replace("/state\n", "/other\n"), "state_dir and admin cannot change while running"),
    ] {
        std::fs::write(&path, bad).unwrap();
        agent.signal(Signal::HUP);
        agent.wait_log(told);
    }
    assert_eq!(agent.log().matches("the configuration is not reloaded, the old one stays").count(), 4);
    log.append(100);
    agent.until("the old one still works", || stored(&place) == 200);

    std::fs::write(&path, good.replace("index: audit", "index: audit-new")).unwrap();
    agent.signal(Signal::HUP);
    agent.wait_log("configuration reloaded");
    log.append(100);
    agent.until("the new index", || place.receiver.documents("audit-new").len() == 100);
    log.rotate();
    log.append(50);
    wait_settled(&agent, log.written);
    agent.status().assert_law();
    assert_eq!(agent.stop(), 0);
    assert_eq!((place.documents().len(), place.receiver.documents("audit-new").len()), (200, 150));
    assert_exactly("archive", &place.archive("archive"), log.written);
    assert!(!place.path("other").exists());
}

#[test]
fn the_admin_listener_answers() {
    let place = both();
    let mut log = Log::create(&place);
    log.append(42);
    let agent = Agent::start(&place);
    wait_settled(&agent, 42);
    assert_eq!(agent.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(agent.get("/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(agent.get("/nothing").0, 404);
    let (code, metrics) = agent.get("/metrics");
    assert_eq!(code, 200);
    for line in [
        "auditship_read_lines_total{output=\"search\"} 42",
        "auditship_delivered_lines_total{output=\"archive\"} 42",
        "auditship_delivered_records_total{output=\"search\",index=\"audit\"} 42",
        "auditship_open_lines{output=\"search\"} 0",
        "auditship_output_state{output=\"search\",state=\"ok\"} 1",
        "# EOF",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
    let status = agent.status();
    status.assert_law();
    assert_eq!(status.get("archive", "delivered"), 42);
    assert_eq!(status.0["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_line_is_shipped_only_once_it_is_whole() {
    let place = both();
    let path = place.write("log/audit.log", "");
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    let agent = Agent::start(&place);
    let line = event(0);
    let (head, tail) = line.split_at(200);
    file.write_all(head.as_bytes()).unwrap();
    // A stop in the middle of a line: it is read again from its beginning.
    agent.wait_log("started");
    assert_eq!(agent.stop(), 0);
    assert_eq!(stored(&place), 0);
    let agent = Agent::start(&place);
    file.write_all(format!("{tail}\n{}\n", event(1)).as_bytes()).unwrap();
    wait_settled(&agent, 2);
    assert_eq!(agent.stop(), 0);
    assert_exactly("search", &place.documents(), 2);
    assert_exactly("archive", &place.archive("archive"), 2);
}

#[test]
fn what_was_not_understood_is_kept_on_the_node() {
    let place = both();
    let secret = "c2VjcmV0LXZhbHVlLXRoYXQtbXVzdC1ub3QtbGVhdmUtdGhlLW5vZGU=";
    let torn = secret_event(1, secret);
    let torn = &torn[..torn.find("cmV0").unwrap() + 40];
    place.write("log/audit.log", format!("{}\n{torn}\n{}\n", event(0), event(2)));
    let agent = Agent::start(&place);
    wait_settled(&agent, 3);
    let status = agent.status();
    status.assert_law();
    assert_eq!(status.get("search", "failed_closed/truncated"), 1, "{status:?}");
    let log = agent.log();
    assert!(!log.contains(&secret[..8]), "never event content in a log: {log}");
    assert_eq!(agent.stop(), 0);
    let kept: Vec<_> = std::fs::read_dir(place.path("state/failed-closed")).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1, "one consumer keeps it");
    assert_eq!(std::fs::read(kept[0].path()).unwrap(), torn.as_bytes());
    let mode = std::os::unix::fs::PermissionsExt::mode(&kept[0].metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(crate::support::leak(&place.left(), secret), None);
    assert_eq!(place.archive("archive").len(), 3);
}

#[test]
fn uids_are_the_same_from_run_and_from_ship() {
    let place = both();
    let mut log = Log::create(&place);
    log.append(30);
    let agent = Agent::start(&place);
    wait_settled(&agent, 30);
    assert_eq!(agent.stop(), 0);
    let packed = place.write("copy.gz", gzip(&std::fs::read(place.path("log/audit.log")).unwrap()));
    place.ship(&[], &[&packed], b"").assert_clean();
    assert_eq!((stored(&place), place.receiver.counts().repeated), (30, 30));
    let uids: BTreeSet<String> =
        place.archive("archive").iter().map(|r| r["auditship"]["uid"].to_string()).collect();
    assert_eq!(uids.len(), 30);
}
