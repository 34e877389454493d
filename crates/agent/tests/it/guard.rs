//! What is seen of a process when it goes wrong: nothing of what it has read.

use crate::support::{Agent, Log, Place, auditship};
use auditship_agent::guard;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Set in the process that is to panic.
const CHILD: &str = "AUDITSHIP_TEST_PANICS";
const CANARY: &str = "Plumbago-canary-7";

#[test]
fn a_panic_shows_its_place_and_not_its_message() {
    if std::env::var_os(CHILD).is_some() {
        guard::arm();
        let text = format!("{CANARY}\u{e9}");
        let thread = std::thread::Builder::new().name("search".to_owned());
        let ended = thread.spawn(move || text[..text.len() - 1].len()).unwrap().join();
        let message = ended.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains(CANARY), "this is what must not be shown");
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "guard::a_panic_shows_its_place_and_not_its_message", "--nocapture"])
        .env(CHILD, "1")
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("error: panic at crates/agent/tests/it/guard.rs:"), "{shown}");
    assert!(shown.contains("in thread \"search\"") && !shown.contains(CANARY), "{shown}");
}

/// What the kernel says of the process, and of each of its threads.
#[track_caller]
fn assert_guarded(pid: u32) {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let words: Vec<&str> = line.split_whitespace().skip(4).take(2).collect();
    assert_eq!(words, ["0", "0"], "{line}");
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // A thread may end while it is looked at.
    let said =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok());
    let said: Vec<String> = said.collect();
    assert!(!said.is_empty());
    for status in said {
        let word = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("no {key} in {status}")).trim().to_owned()
        };
        assert_eq!((&*word("NoNewPrivs:"), &*word("Umask:")), ("1", "0077"), "{status}");
    }
}

#[test]
fn an_agent_is_guarded_and_says_so_before_it_starts() {
    let place = Place::new();
    place.configure("search: {type: elasticsearch, endpoint: URL}", "admin: {listen: \"127.0.0.1:0\"}");
    let _log = Log::create(&place);
    let agent = Agent::start(&place);
    agent.wait_log("started");
    assert_guarded(agent.pid());
    let log = agent.log();
    let started = log.lines().position(|line| line.contains("started"));
    for guard in ["no_core_dumps", "no_new_privileges", "umask_077"] {
        let said = log.lines().position(|line| {
            line.contains(&format!("guard=\"{guard}\""))
                && line.contains("state=on")
                && line.contains("reason=")
        });
        assert!(said.is_some() && said < started, "{guard}: {log}");
    }
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_filter_is_guarded() {
    let mut child = auditship()
        .args(["redact", "--explain"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than the pipes hold, so that it is at work while its limits are looked at.
    let line = crate::support::event(1) + "\n";
    let lines = line.repeat((8 << 20) / line.len());
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    // It ends its input when all is written, which is not before the first answers are read.
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    stdout.read_line(&mut first).unwrap();
    assert_guarded(child.id());
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    writer.join().unwrap().unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr), (Some(0), Vec::new()), "{first}");
}
