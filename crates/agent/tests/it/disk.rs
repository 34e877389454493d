//! Disks that are full. A small file system in memory stands for them; mounting one needs root.

use crate::support::{Agent, Log, Place, assert_exactly, is_root, unfinished};
use std::path::PathBuf;
use std::process::Command;

/// A file system of one megabyte, unmounted when dropped.
struct Small(PathBuf);

impl Small {
    /// `None`, with a printed reason, where that is not possible.
    fn mount(path: PathBuf) -> Option<Small> {
        if !is_root("mounting a small file system") {
            return None;
        }
        std::fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs"])
            .arg(&path)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Small(path)),
            Ok(output) => {
                println!("skipped: cannot mount: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                println!("skipped: cannot mount: {error}");
                None
            }
        }
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut size = 1 << 20;
        let mut file = std::fs::File::create(self.filler()).unwrap();
        while size > 0 {
            if std::io::Write::write_all(&mut file, &vec![0; size]).is_err() {
                size /= 2;
            }
        }
    }

    /// Gives it back.
    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

const SEARCH: &str = "search: {type: elasticsearch, endpoint: URL, filter: none, batch: {age: 100ms}}";
const ADMIN: &str = "admin: {listen: \"127.0.0.1:0\"}";

fn configure(place: &Place, archive: &str) {
    let archive = format!("archive: {{type: dir, path: DIR/{archive}, batch: {{age: 200ms}}}}");
    place.configure(&format!("{SEARCH}\n{archive}"), ADMIN);
}

fn stored(place: &Place) -> usize {
    place.receiver.counts().stored as usize
}

#[test]
fn a_full_archive_is_waited_for() {
    let place = Place::new();
    let Some(small) = Small::mount(place.path("small")) else { return };
    configure(&place, "small/archive");
    let mut log = Log::create(&place);
    let agent = Agent::start(&place);
    log.append(200);
    agent.until("the first", || agent.status().get("archive", "delivered") == 200);

    small.fill();
    log.append(300);
    log.rotate();
    log.append(300);
    agent.until("the other output", || stored(&place) == 800);
    agent.until("it is told", || {
        let (code, body) = agent.get("/readyz");
        code == 503 && body.contains("output archive")
    });
    let status = agent.status();
    status.assert_law();
    assert_eq!(status.get("archive", "delivered"), 200, "{status:?}");
    assert_eq!((status.get("archive", "open"), status.get("archive", "lost_bytes")), (600, 0), "{status:?}");
    assert_eq!(agent.get("/healthz").0, 200, "degraded is not dead");

    small.free();
    agent.until("the archive has it all", || agent.status().get("archive", "delivered") == 800);
    agent.until("all is well", || agent.get("/readyz").0 == 200);
    let status = agent.status();
    status.assert_law();
    assert!(status.get("archive", "retries") > 0, "{status:?}");
    assert_eq!(agent.stop(), 0);
    assert_exactly("search", &place.documents(), 800);
    assert_exactly("archive", &place.archive("small/archive"), 800);
    assert!(unfinished(&place.path("small/archive")).is_empty(), "half a file must not take up room");
}

#[test]
fn case_32_a_full_state_directory_stops_nothing() {
    let place = Place::new();
    let Some(small) = Small::mount(place.path("state")) else { return };
    configure(&place, "archive");
    let mut log = Log::create(&place);
    let agent = Agent::start(&place);
    log.append(100);
    agent.until("the first", || agent.status().get("archive", "delivered") == 100);

    small.fill();
    // The log's last page has room yet: many files make it grow beyond that.
    for _ in 0..40 {
        log.append(10);
        log.rotate();
    }
    agent.until("shipping goes on", || {
        stored(&place) == 500 && agent.status().get("archive", "delivered") == 500
    });
    agent.until("it is told", || {
        let (code, body) = agent.get("/readyz");
        code == 503 && body.contains("state: ")
    });
    assert!(agent.log().contains("the state cannot be saved; shipping goes on"), "{}", agent.log());
    let metrics = agent.get("/metrics").1;
    assert!(metrics.contains("auditship_degraded{what=\"state\"} 1"), "{metrics}");
    agent.status().assert_law();

    small.free();
    agent.until("all is well", || agent.get("/readyz").0 == 200);
    assert!(agent.log().contains("the state can be saved again"), "{}", agent.log());
    // What was saved then is what a crash goes on from.
    agent.kill();
    let agent = Agent::start(&place);
    log.append(50);
    agent.until("the rest", || {
        let status = agent.status();
        ["search", "archive"].iter().all(|name| status.get(name, "delivered") == 550)
    });
    let status = agent.status();
    status.assert_law();
    assert_eq!(status.get("archive", "read/lines"), 550, "{status:?}");
    assert_eq!(agent.stop(), 0);
    assert_exactly("search", &place.documents(), 550);
    assert_exactly("archive", &place.archive("archive"), 550);
}

#[test]
fn killed_while_the_state_is_full_loses_nothing() {
    let place = Place::new();
    let Some(small) = Small::mount(place.path("state")) else { return };
    configure(&place, "archive");
    let mut log = Log::create(&place);
    let agent = Agent::start(&place);
    log.append(100);
    agent.until("the first", || agent.status().get("archive", "delivered") == 100);
    small.fill();
    log.append(200);
    agent.until("shipping goes on", || stored(&place) == 300);
    agent.kill();

    // The disk is still full: the agent starts and ships all the same.
    let agent = Agent::start(&place);
    log.append(100);
    agent.until("shipping goes on after a start", || stored(&place) == 400);
    small.free();
    agent.until("all is well", || agent.get("/readyz").0 == 200);
    assert_eq!(agent.stop(), 0);
    assert_exactly("search", &place.documents(), 400);
    // Objects that could not be written down before the kill may be there twice, under the same uids.
    let uids: std::collections::BTreeSet<String> =
        place.archive("archive").iter().map(|record| record["auditship"]["uid"].to_string()).collect();
    assert_eq!(uids.len(), 400);
}
