//! Rotation, and foreign hands, while the agent runs.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use auditship_tail::Progress;

use crate::world::{World, append, compress, difference, events, text};

#[test]
fn case_03_an_empty_or_begun_file_is_rotated() {
    let mut world = World::new();
    world.write("");
    let mut agent = world.start();
    agent.drain();
    world.rotate();
    world.settle(&mut agent);
    world.write("{\"kind\":\"Event\",\"n\":");
    world.scan(&agent);
    let begun = world.rotate();
    world.scan(&agent);
    // Its writer had it open, and ends its line.
    append(&begun, b"0}\n");
    world.write(text(1..3));
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..3));
}

#[test]
fn case_07_rotate_under_load() {
    const ROTATIONS: u32 = 1000;
    let mut world = World::new();
    world.write("");
    let mut agent = world.start();
    let done = AtomicBool::new(false);
    let (live, dir) = (world.live(), world.dir.path().to_owned());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..ROTATIONS {
                append(&live, text(number * 5..number * 5 + 5).as_bytes());
                let stamp = format!("{:02}-{:02}.{:03}", number / 600, number / 10 % 60, number % 1000);
                let backup = dir.join(format!("audit-2026-11-24T03-{stamp}.log"));
                fs::rename(&live, &backup).unwrap();
                File::create(&live).unwrap();
                if number % 4 == 0 {
                    compress(&backup);
                }
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            world.scan(&agent);
            agent.drain();
        }
    });
    append(&live, text(ROTATIONS * 5..ROTATIONS * 5 + 1).as_bytes());
    world.settle(&mut agent);
    assert_eq!(difference(&agent.lines, &events(0..ROTATIONS * 5 + 1)), None);
    assert!(agent.lost.is_empty() && agent.gaps.is_empty());
    assert_eq!(agent.catalogue.figures().rotations, u64::from(ROTATIONS));
}

#[test]
fn case_08_rotated_while_the_output_is_down() {
    let mut world = World::new();
    world.write(text(0..10));
    let mut agent = world.start();
    assert_eq!(agent.read(), Progress::More);
    for number in 1..30 {
        let backup = world.rotate();
        if number % 2 == 0 {
            compress(&backup);
        }
        world.write(text(number * 10..number * 10 + 10));
        world.scan(&agent);
    }
    let figures = agent.follower.figures(world.now);
    assert!(figures.horizon.is_some());
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..300));
}

/// `cp`, then truncation: what external rotation does with `copytruncate`.
fn copytruncate(world: &World, backup: &str) {
    fs::copy(world.live(), world.path(backup)).unwrap();
    File::options().write(true).open(world.live()).unwrap().set_len(0).unwrap();
}

#[test]
fn case_13_copytruncate_moves_the_rest_to_the_copy() {
    for (look, backup) in [(true, "audit.log.1"), (false, "audit.log.1"), (false, "audit.log-20261124")] {
        let mut world = World::new();
        world.write(text(0..20));
        let mut agent = world.start();
        agent.drain();
        world.write(text(20..30));
        copytruncate(&world, backup);
        if look {
            world.scan(&agent);
        }
        // Longer than before, between two scans.
        world.write(text(30..90));
        agent.drain();
        world.settle(&mut agent);
        assert_eq!(agent.lines, events(0..90), "{look} {backup}");
        assert!(agent.lost.is_empty(), "{:?}", agent.lost);
    }
}

#[test]
fn case_13_what_the_copy_missed_is_not_read_twice() {
    let mut world = World::new();
    world.write(text(0..20));
    let mut agent = world.start();
    fs::copy(world.live(), world.path("audit.log.1")).unwrap();
    // Written after the copy was made, and read before the truncation.
    world.write(text(20..25));
    agent.drain();
    File::options().write(true).open(world.live()).unwrap().set_len(0).unwrap();
    world.settle(&mut agent);
    world.write(text(25..30));
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..30));
    assert!(agent.lost.is_empty(), "{:?}", agent.lost);
}

#[test]
fn case_13_a_hole_is_passed_and_counted() {
    let mut world = World::new();
    world.write(text(0..20));
    let mut agent = world.start();
    agent.drain();
    world.save(&mut agent);
    // The writer keeps its offset, because it does not append.
    let mut writer = File::options().write(true).open(world.live()).unwrap();
    let hole = writer.seek(SeekFrom::End(0)).unwrap();
    File::options().write(true).open(world.live()).unwrap().set_len(0).unwrap();
    writer.write_all(text(20..40).as_bytes()).unwrap();
    agent.drain();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..40));
    assert_eq!(agent.follower.figures(world.now).hole_bytes, hole);
    assert_eq!(agent.ledger.totals().read_bytes, hole * 2 + text(20..40).len() as u64);
}

#[test]
fn case_14_a_file_rewritten_under_the_reader_is_read_anew() {
    let long = format!("{{\"kind\":\"Event\",\"pad\":\"{}\"}}\n", "x".repeat(6000));
    for head in ["", &long[..]] {
        for count in [20, 200] {
            let mut world = World::new();
            world.write(format!("{head}{}", text(0..20)));
            let mut agent = world.start();
            agent.drain();
            // Ten more that nobody reads, but a scan sees.
            world.write(text(20..30));
            world.scan(&agent);
            fs::write(world.live(), format!("{head}{}", text(1000..1000 + count))).unwrap();
            agent.drain();
            world.settle(&mut agent);
            let lines: Vec<_> = agent.lines.iter().filter(|line| line.len() < 100).cloned().collect();
            assert_eq!(lines, [events(0..20), events(1000..1000 + count)].concat(), "{count}");
            let lost: Vec<_> = agent.lost.iter().map(|lost| (lost.reason, lost.span.len())).collect();
            assert_eq!(lost, [("truncated", text(20..30).len() as u64)]);
            assert_eq!(agent.gaps.len(), 1, "what was written after the last look nobody knows");
        }
    }
}

#[test]
fn case_15_a_file_moved_away_is_drained() {
    let mut world = World::new();
    world.write(text(0..10));
    let mut agent = world.start();
    let other = tempfile::tempdir_in(world.dir.path()).unwrap();
    fs::rename(world.live(), other.path().join("old.log")).unwrap();
    world.write(text(10..20));
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..20));
    // To another file system: a copy there, and the original removed.
    world.write(text(20..30));
    world.scan(&agent);
    fs::remove_file(world.live()).unwrap();
    world.write(text(30..40));
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..40));
    assert!(agent.lost.is_empty());
}

#[test]
fn case_50_two_api_servers_overlap() {
    let mut world = World::new();
    world.write(text(0..10));
    let mut old = File::options().append(true).open(world.live()).unwrap();
    let mut agent = world.start();
    agent.drain();
    world.rotate();
    let (mut lines, mut expected) = (Vec::new(), events(0..10));
    for number in 0..10 {
        // The old one writes on into what is a backup now.
        old.write_all(text(1000 + number..1001 + number).as_bytes()).unwrap();
        world.write(text(10 + number..11 + number));
        if number == 5 {
            world.rotate();
            world.save(&mut agent);
            lines.append(&mut agent.lines);
            agent = world.start();
        }
        world.settle(&mut agent);
        expected.extend([events(1000 + number..1001 + number), events(10 + number..11 + number)].concat());
    }
    lines.append(&mut agent.lines);
    lines.sort();
    expected.sort();
    assert_eq!(difference(&lines, &expected), None);
}
