//! What lies in the directory and does not change: it costs next to nothing, and what changes all the same is seen.

use std::fs::{self, File};
use std::time::Duration;

use auditship_tail::StartAt;

use crate::world::{Agent, World, append, difference, events, text};

/// Backups of one line each, read and left alone for so long that they rest.
fn resting(world: &mut World, count: u32) -> Agent {
    for number in 0..count {
        fs::write(backup(world, number), text(number..number + 1)).unwrap();
    }
    world.write(text(count..count + 1));
    let mut agent = world.start();
    for _ in 0..9 {
        agent.drain();
        agent.catalogue.scan(world.tick(10));
    }
    assert_eq!(difference(&agent.lines, &events(0..count + 1)), None);
    agent
}

fn backup(world: &World, number: u32) -> std::path::PathBuf {
    world.path(&format!("audit-2026-11-24T01-{:02}-{:02}.000.log", number / 60, number % 60))
}

/// Scans for longer than anything may stay unseen.
fn soon(world: &mut World, agent: &mut Agent) {
    for _ in 0..35 {
        world.scan(agent);
        agent.drain();
    }
}

#[test]
fn what_rests_is_not_looked_at_and_its_directory_is_not_listed() {
    let mut world = World::new();
    let mut agent = resting(&mut world, 100);
    let before = agent.catalogue.figures();
    for _ in 0..4 {
        world.scan(&agent);
        agent.drain();
    }
    let now = agent.catalogue.figures();
    assert_eq!((now.scans, now.listings), (before.scans + 4, before.listings));
    // The live file alone, each time.
    assert_eq!(now.looks, before.looks + 4);
    // And everything at last.
    soon(&mut world, &mut agent);
    let now = agent.catalogue.figures();
    assert!(now.looks >= before.looks + 100 && now.listings > before.listings, "{now:?}");
}

#[test]
fn a_busy_live_file_wakes_nothing_that_rests() {
    let mut world = World::new();
    let mut agent = resting(&mut world, 100);
    // Past what is hashed of its head.
    world.write(text(101..400));
    soon(&mut world, &mut agent);
    let before = agent.catalogue.figures();
    for number in 400..410 {
        world.write(text(number..number + 1));
        world.scan(&agent);
        assert_eq!(agent.follower.lag_bytes(), text(number..number + 1).len() as u64);
        agent.drain();
    }
    assert!(agent.catalogue.figures().looks < before.looks + 120, "one thorough look at most");
    let rate = agent.catalogue.figures().inputs[0].bytes_per_second;
    assert!(rate.is_some_and(|rate| rate > 1.0), "{rate:?}");
    assert_eq!(difference(&agent.lines, &events(0..410)), None);
    // The length is known where the live file is gone unread.
    world.write(text(410..420));
    world.scan(&agent);
    world.save(&mut agent);
    drop(agent);
    fs::remove_file(world.live()).unwrap();
    let mut agent = world.start();
    soon(&mut world, &mut agent);
    let lost: u64 = agent.lost.iter().map(|lost| lost.span.len()).sum();
    assert!(agent.gaps.len() == 1 || lost > 0, "{:?} {:?}", agent.lost, agent.gaps);
}

#[test]
fn a_name_that_comes_in_the_tick_of_the_last_listing_is_seen() {
    let mut world = World::new();
    let mut agent = resting(&mut world, 3);
    for number in 10..47 {
        // A first change is listed; then comes a second one that leaves the directory's time as it was.
        fs::write(backup(&world, number), text(number..number + 1)).unwrap();
        world.scan(&agent);
        let time = fs::metadata(world.dir.path()).unwrap().modified().unwrap();
        fs::rename(backup(&world, number), world.path("audit-2026-11-24T01-59-59.000.log")).unwrap();
        fs::write(backup(&world, number), text(1000 + number..1001 + number)).unwrap();
        File::open(world.dir.path()).unwrap().set_modified(time).unwrap();
        world.now += Duration::from_secs(1);
        agent.catalogue.scan(world.now);
        let streams = agent.catalogue.streams();
        assert!(streams.iter().any(|(_, path, _)| path.ends_with("audit-2026-11-24T01-59-59.000.log")));
        fs::remove_file(world.path("audit-2026-11-24T01-59-59.000.log")).unwrap();
        agent.drain();
    }
    assert!((10..47).all(|number| agent.lines.contains(&events(1000 + number..1001 + number)[0])));
}

#[test]
fn case_12_a_late_append_to_a_file_that_rests_is_read() {
    let mut world = World::new();
    let mut agent = resting(&mut world, 20);
    append(&backup(&world, 7), text(100..103).as_bytes());
    soon(&mut world, &mut agent);
    assert_eq!(agent.lines[21..], events(100..103));
    // As the next rotation does, which shows at once.
    append(&backup(&world, 8), text(103..105).as_bytes());
    world.rotate();
    world.settle(&mut agent);
    assert_eq!(agent.lines[24..], events(103..105));
    assert!(agent.lost.is_empty() && agent.gaps.is_empty());
}

#[test]
fn case_14_a_resting_file_that_is_rewritten_in_place_is_another_one() {
    let mut world = World::new();
    let mut agent = resting(&mut world, 20);
    // To the same size, with its time set back.
    let path = backup(&world, 7);
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let other = "{\"kind\":\"Event\",\"m\":7}\n";
    assert_eq!(other.len() as u64, fs::metadata(&path).unwrap().len());
    fs::write(&path, other).unwrap();
    File::open(&path).unwrap().set_modified(time).unwrap();
    // And to a shorter one.
    let short = "{\"kind\":\"Event\"}\n";
    fs::write(backup(&world, 9), short).unwrap();
    soon(&mut world, &mut agent);
    assert_eq!(agent.lines[21..], [other.trim_end(), short.trim_end()]);
}

#[test]
fn backups_that_change_places_are_the_same_streams() {
    let mut world = World::new();
    let mut agent = resting(&mut world, 5);
    // No name comes or goes, and no file is written to.
    fs::rename(backup(&world, 1), world.path("aside")).unwrap();
    fs::rename(backup(&world, 2), backup(&world, 1)).unwrap();
    fs::rename(world.path("aside"), backup(&world, 2)).unwrap();
    world.settle(&mut agent);
    assert_eq!(agent.lines.len(), 6);
    let streams = agent.catalogue.streams();
    let lengths: Vec<u64> = streams.iter().map(|(_, _, length)| *length).collect();
    assert_eq!(lengths.len(), 6);
    let place = |number: u64| streams.iter().find(|(id, ..)| id.0 == number).map(|(_, path, _)| path.clone());
    assert_eq!((place(1), place(2)), (Some(backup(&world, 2)), Some(backup(&world, 1))));
}

#[test]
fn a_copy_of_a_resting_file_is_no_second_stream() {
    let mut world = World::new();
    // Heads that differ only behind what is kept of them.
    let long = |number: u32| format!("{{\"pad\":\"{}\",\"n\":{number}}}\n", "x".repeat(1000));
    for number in 0..10 {
        fs::write(backup(&world, number), long(number)).unwrap();
    }
    world.write(text(0..1));
    let mut agent = world.start();
    for _ in 0..9 {
        agent.drain();
        agent.catalogue.scan(world.tick(10));
    }
    assert_eq!(agent.lines.len(), 11);
    fs::copy(backup(&world, 4), world.path("audit-2026-11-24T01-30-00.000.log")).unwrap();
    fs::write(world.path("audit-2026-11-24T01-40-00.000.log"), long(77)).unwrap();
    world.settle(&mut agent);
    assert_eq!(agent.lines[11..], [long(77).trim_end()]);
    // Found again by its whole head where it has moved.
    fs::rename(backup(&world, 6), world.path("audit-2026-11-24T01-50-00.000.log")).unwrap();
    world.settle(&mut agent);
    assert_eq!(agent.lines.len(), 12);
    assert!(agent.lost.is_empty() && agent.gaps.is_empty());
}

#[test]
fn a_consumer_that_joins_late_finds_what_rests() {
    let mut world = World::new();
    let agent = resting(&mut world, 5);
    world.input.start_at = StartAt::Beginning;
    let mut second = auditship_tail::Follower::new(std::sync::Arc::clone(&agent.catalogue), None).unwrap();
    world.scan(&agent);
    let mut lines = Vec::new();
    use auditship_tail::{Progress, Source};
    while second.read(&mut |line| lines.push(String::from_utf8_lossy(line.bytes).into_owned())).unwrap()
        == Progress::More
    {}
    assert_eq!(lines, events(0..6));
}

#[test]
fn a_late_append_is_read_at_once_where_a_file_watch_speaks_of_it() {
    let mut world = World::new();
    let mut agent = resting(&mut world, 20);
    // It may speak of anything.
    agent.catalogue.doubt(backup(&world, 3));
    agent.catalogue.doubt(world.path("other"));
    let before = agent.catalogue.figures();
    world.scan(&agent);
    agent.drain();
    let now = agent.catalogue.figures();
    // The live file and the one that was spoken of.
    assert_eq!((now.looks, now.listings), (before.looks + 2, before.listings));
    append(&backup(&world, 7), text(100..103).as_bytes());
    world.scan(&agent);
    agent.drain();
    assert_eq!(agent.lines.len(), 21);
    agent.catalogue.doubt(backup(&world, 7));
    world.scan(&agent);
    agent.drain();
    assert_eq!(agent.lines[21..], events(100..103));
}

#[test]
fn whatever_else_happens_to_a_live_file_is_seen_at_the_next_scan() {
    let whole = text(100..400);
    // What is done, and what is to be read after two scans.
    type Case = (&'static str, fn(&World), std::ops::Range<u32>);
    let cases: [Case; 6] = [
        ("grown", |world| world.write(text(400..402)), 400..402),
        ("rewritten, longer", |world| fs::write(world.live(), text(500..900)).unwrap(), 500..900),
        ("rewritten, shorter", |world| fs::write(world.live(), text(500..503)).unwrap(), 500..503),
        ("rewritten, as long", |world| fs::write(world.live(), text(500..800)).unwrap(), 500..800),
        (
            "replaced",
            |world| {
                fs::remove_file(world.live()).unwrap();
                world.write(text(500..510));
            },
            500..510,
        ),
        (
            "rotated",
            |world| {
                fs::rename(world.live(), world.path("audit.log.1")).unwrap();
                world.write(text(500..510));
            },
            500..510,
        ),
    ];
    for (what, act, expected) in cases {
        let mut world = World::new();
        fs::write(backup(&world, 0), text(0..1)).unwrap();
        world.write(&whole);
        let mut agent = world.start();
        for _ in 0..9 {
            agent.drain();
            agent.catalogue.scan(world.tick(10));
        }
        assert_eq!(agent.lines.len(), 301);
        act(&world);
        for _ in 0..2 {
            world.scan(&agent);
            agent.drain();
        }
        assert_eq!(difference(&agent.lines[301..], &events(expected)), None, "{what}");
    }
}

#[test]
fn a_link_that_leads_nowhere_is_followed_once_it_leads_somewhere() {
    let mut world = World::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("file");
    std::os::unix::fs::symlink(&target, world.path("audit-2026-11-24T01-30-00.000.log")).unwrap();
    let mut agent = resting(&mut world, 3);
    let before = agent.catalogue.figures();
    world.scan(&agent);
    assert_eq!(agent.catalogue.figures().looks, before.looks + 2);
    fs::write(&target, text(10..12)).unwrap();
    world.scan(&agent);
    agent.drain();
    assert_eq!(agent.lines[4..], events(10..12));
}

#[test]
fn a_line_in_one_of_many_live_files_is_read_after_a_scan() {
    let mut world = World::new();
    world.input.path = world.path("*.log");
    let names: Vec<_> = (0..200).map(|number| world.path(&format!("api-{number:03}.log"))).collect();
    // Some are past what is hashed of a head.
    let lines = |number: u32| number * 100..number * 100 + if number.is_multiple_of(2) { 1 } else { 99 };
    for (number, path) in (0..).zip(&names) {
        fs::write(path, text(lines(number))).unwrap();
    }
    let mut agent = world.start();
    soon(&mut world, &mut agent);
    let first: usize = (0..200).map(|number| lines(number).len()).sum();
    assert_eq!(agent.lines.len(), first);
    for number in [7, 8, 199] {
        append(&names[number as usize], text(90_000 + number..90_001 + number).as_bytes());
        agent.drain();
        world.scan(&agent);
        agent.drain();
        assert_eq!(agent.lines.last(), events(90_000 + number..90_001 + number).last());
    }
    // And a rotation of one.
    let backup = world.path("api-009-2026-11-24T01-00-00.000.log");
    append(&names[9], text(91_000..91_001).as_bytes());
    fs::rename(&names[9], &backup).unwrap();
    fs::write(&names[9], text(91_001..91_003)).unwrap();
    world.settle(&mut agent);
    assert_eq!(agent.lines[first + 3..], events(91_000..91_003));
    assert!(agent.lost.is_empty() && agent.gaps.is_empty());
}
