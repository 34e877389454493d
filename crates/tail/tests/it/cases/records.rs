//! Container records: where a stream of them goes on after a stop, a kill, or a read that failed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use auditship_tail::{Format, Progress, Source};

use crate::world::{Agent, World, append, compress};

fn record(tag: &str, flag: &str, content: &str) -> String {
    format!("2026-11-24T02:30:59.511512340Z {tag} {flag} {content}\n")
}

/// So many events of a few hundred bytes, each one record.
fn whole(numbers: std::ops::Range<u32>) -> (String, Vec<String>) {
    let events: Vec<String> =
        numbers.map(|number| format!("{{\"n\":{number},\"pad\":\"{}\"}}", "x".repeat(300))).collect();
    (events.iter().map(|event| record("stdout", "F", event)).collect(), events)
}

fn world() -> World {
    let mut world = World::new();
    (world.input.path, world.input.format) = (world.path("0.log"), Format::Auto);
    world
}

/// Makes the record at `offset` one that its line goes on after: whoever reads it again would join what follows.
fn spoil(file: &File, offset: u64) {
    let flag = offset + record("stderr", "", "").len() as u64 - 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, flag).unwrap();
    assert_eq!(byte, *b"F");
    file.write_all_at(b"P", flag).unwrap();
}

/// What comes before the position is not read again: it was made unreadable meanwhile.
#[test]
fn a_stream_of_records_goes_on_where_it_was_and_does_not_begin_anew() {
    for zipped in [false, true] {
        let mut world = world();
        let live = world.path("0.log");
        let (text, events) = whole(0..100);
        append(&live, text.as_bytes());
        let spoiled = text.len() as u64;
        append(&live, record("stderr", "F", "I1124 klog").as_bytes());
        let (more, _) = whole(100..200);
        append(&live, more.as_bytes());
        let mut agent = world.start();
        world.settle(&mut agent);
        assert_eq!((agent.lines.len(), &agent.lines[..100]), (201, &events[..]));
        world.save(&mut agent);
        let position = &world.state.positions["consumer"];
        assert_eq!(position.anchors, position.positions);
        drop(agent);

        spoil(&File::options().read(true).write(true).open(&live).unwrap(), spoiled);
        if zipped {
            let backup = world.path("0.log.20261124-023059");
            fs::rename(&live, &backup).unwrap();
            compress(&backup);
        }
        append(&live, record("stderr", "F", "I1124 next").as_bytes());
        append(&live, record("stdout", "F", "{\"n\":200}").as_bytes());
        let mut agent = world.start();
        world.settle(&mut agent);
        assert_eq!(agent.lines, ["I1124 next", "{\"n\":200}"]);
        assert_eq!(agent.ledger.totals().read_lines, 203);
    }
}

#[test]
fn inside_a_run_it_goes_on_with_the_first_record_of_the_run() {
    let mut world = world();
    let live = world.path("0.log");
    append(&live, whole(0..199).0.as_bytes());
    let before = fs::metadata(&live).unwrap().len();
    append(&live, whole(199..200).0.as_bytes());
    let run = fs::metadata(&live).unwrap().len();
    append(&live, record("stdout", "P", "{\"n\":").as_bytes());
    append(&live, record("stderr", "F", "I1124 meanwhile").as_bytes());
    append(&live, record("stdout", "P", "2").as_bytes());
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines.last().unwrap(), "I1124 meanwhile");
    world.save(&mut agent);
    let position = &world.state.positions["consumer"];
    assert_eq!(position.anchors.values().collect::<Vec<_>>(), [&run]);
    assert!(position.positions.values().all(|position| *position > run));
    // Killed and started twice in the same place.
    for _ in 0..2 {
        drop(agent);
        agent = world.start();
        world.settle(&mut agent);
        assert!(agent.lines.is_empty());
        world.save(&mut agent);
        assert_eq!(world.state.positions["consumer"].anchors.values().collect::<Vec<_>>(), [&run]);
    }
    drop(agent);
    // Were the record before the run read again, it would be the run's first.
    spoil(&File::options().read(true).write(true).open(&live).unwrap(), before);
    append(&live, record("stdout", "F", "00}").as_bytes());
    append(&live, record("stderr", "F", "I1124 after").as_bytes());
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, ["{\"n\":200}", "I1124 after"]);
    assert_eq!(agent.ledger.committed(), agent.ledger.totals());
    assert_eq!(agent.ledger.totals().read_bytes, fs::metadata(&live).unwrap().len());
}

#[test]
fn a_checkpoint_without_anchors_is_read_from_the_first_byte() {
    let mut world = world();
    let live = world.path("0.log");
    append(&live, record("stdout", "P", "{\"n\":").as_bytes());
    append(&live, record("stderr", "F", "I1124 klog").as_bytes());
    let mut agent = world.start();
    world.settle(&mut agent);
    world.save(&mut agent);
    drop(agent);
    // As an older version wrote it.
    world.state.positions.get_mut("consumer").unwrap().anchors.clear();
    append(&live, record("stdout", "F", "1}").as_bytes());
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, ["{\"n\":1}"]);
}

/// Reads until the running read fails, and says where.
fn fail(agent: &mut Agent) -> u64 {
    loop {
        let (ledger, lines) = (&mut agent.ledger, &mut agent.lines);
        let read = agent.follower.read(&mut |line| {
            ledger.settle(line.span, line.carried, auditship_tail::Class::Delivered);
            lines.push(String::from_utf8_lossy(line.bytes).into_owned());
        });
        match read {
            Ok(Progress::More) => {}
            Ok(other) => panic!("{other:?} before any failure"),
            Err(auditship_tail::Error::Read { offset, .. }) => return offset,
            Err(other) => panic!("{other}"),
        }
    }
}

/// A path that leads nowhere stands where a file was, while its descriptor is parked.
fn case_31(records: bool, zipped: bool) {
    let mut world = World::new();
    world.limits.descriptors = 1;
    let (live, name) = if records {
        ("0.log", "0.log.20261124-023059")
    } else {
        ("audit.log", "audit-2026-11-24T02-30-59.000.log")
    };
    world.input.path = world.path(live);
    let live = world.path(live);
    let mut backup = world.path(name);
    // Much more than one read gives; for records all of the beginning is one run.
    let (mut text, mut wanted) = (String::new(), Vec::new());
    if records {
        let part = "y".repeat(8000);
        for _ in 0..100 {
            text += &record("stdout", "P", &part);
        }
        text += &record("stdout", "F", "");
        wanted.push(part.repeat(100));
    }
    let (more, events) = whole(0..3000);
    text += &if records { more } else { events.iter().map(|event| format!("{event}\n")).collect() };
    wanted.extend(events);
    append(&backup, text.as_bytes());
    if zipped {
        backup = compress(&backup);
    }
    let last = "{\"n\":-1}".to_owned();
    append(&live, if records { record("stdout", "F", &last) } else { format!("{last}\n") }.as_bytes());
    wanted.push(last);

    let mut agent = world.start();
    // Opened, and read once.
    assert_eq!([agent.read(), agent.read()], [Progress::More; 2]);
    let read = agent.lines.len();
    assert_eq!(records, read == 0, "a run is open");
    // The one descriptor is the live file's.
    world.scan(&agent);
    let away = world.path("away");
    fs::rename(&backup, &away).unwrap();
    std::os::unix::fs::symlink(&backup, &backup).unwrap();
    let at = fail(&mut agent);
    assert!(at > 0);
    world.save(&mut agent);
    for _ in 0..3 {
        // Nothing is skipped meanwhile, and it is told of.
        world.scan(&agent);
        assert_eq!(agent.read(), Progress::Idle);
        assert_eq!(agent.catalogue.problems().len(), 1);
    }
    fs::remove_file(&backup).unwrap();
    fs::rename(away, &backup).unwrap();
    world.settle(&mut agent);
    assert_eq!(crate::world::difference(&agent.lines, &wanted), None, "{records} {zipped}");
    let length = (text.len() + fs::read(&live).unwrap().len()) as u64;
    assert_eq!(agent.ledger.totals().read_bytes, length);
    assert!(agent.lost.is_empty() && agent.gaps.is_empty());
}

#[test]
fn case_31_a_read_that_fails_in_the_middle_goes_on_from_there() {
    case_31(false, false);
    case_31(false, true);
}

#[test]
fn case_31_a_read_that_fails_inside_a_run_does_not_tear_it() {
    case_31(true, false);
    case_31(true, true);
}
