//! Descriptors, memory, time: what following may cost, and what it does when they run out.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditship_tail::{Catalogue, Follower, Input, Ledger, Limits};

use crate::world::{Agent, World, append, difference, events, text};

#[test]
fn case_26_lines_of_many_megabytes_are_cut_and_reading_goes_on() {
    let mut world = World::new();
    let megabytes = [1usize, 10, 100];
    for size in megabytes {
        world.write(format!("{{\"pad\":\"{}\"}}\n", "x".repeat(size << 20)));
        world.write(text(0..1));
    }
    let mut agent = world.start();
    world.settle(&mut agent);
    let lengths: Vec<usize> = agent.lines.iter().map(String::len).collect();
    let (whole, cut, line) = ((1 << 20) + 10, 64 << 10, events(0..1)[0].len());
    assert_eq!(lengths, [whole, line, cut, line, cut, line]);
    assert!(agent.follower.memory() < 10 << 20, "{}", agent.follower.memory());
}

#[test]
fn case_27_odd_bytes_across_reads() {
    let mut world = World::new();
    world.write("");
    let mut agent = world.start();
    let bytes = b"{\"a\":\"\xff\xfe\"}\r\n\0\0{\"b\":\"\0\"}\r\n\n{\"c\":1}\n";
    for byte in bytes {
        append(&world.live(), &[*byte]);
        world.scan(&agent);
        agent.drain();
    }
    assert_eq!(agent.lines, ["{\"a\":\"\u{fffd}\u{fffd}\"}", "{\"b\":\"\0\"}", "", "{\"c\":1}"]);
    assert_eq!(agent.ledger.totals().read_bytes, bytes.len() as u64);
}

#[test]
fn case_31_what_cannot_be_read_moves_nothing() {
    let mut world = World::new();
    world.write(text(0..10));
    // A regular file by its kind, and every read of its beginning fails.
    std::os::unix::fs::symlink("/proc/self/mem", world.path("audit-2026-11-24T01-00-00.000.log")).unwrap();
    let mut agent = world.start();
    world.settle(&mut agent);
    world.write(text(10..20));
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..20));
    assert_eq!(agent.catalogue.problems().len(), 1);
    world.save(&mut agent);
    assert_eq!(world.state.positions["consumer"].positions.values().max(), Some(&(text(0..20).len() as u64)));
}

#[test]
fn case_46_a_full_disk_takes_one_file_a_scan_from_a_stuck_consumer() {
    let mut world = World::new();
    // Every disk is less than wholly free.
    world.limits = Limits { free_percent: 100, ..Limits::default() };
    world.write(text(0..10));
    let mut agent = world.start();
    // It has the file open, and then its output hangs.
    agent.read();
    agent.read();
    let read = agent.lines.len();
    assert_eq!(read, 10);
    let mut backups = Vec::new();
    for number in 1..4 {
        world.write(text(number * 10..number * 10 + 10));
        backups.push(world.rotate());
        world.scan(&agent);
    }
    world.write(text(40..41));
    world.scan(&agent);
    assert_eq!(agent.follower.figures(world.now).lag_files, 4);
    assert!(agent.follower.figures(world.now).oldest_unread.is_some());
    for backup in backups {
        fs::remove_file(backup).unwrap();
    }
    let deleted = |world: &World| {
        let dir = world.dir.path().to_string_lossy().into_owned();
        let open = fs::read_dir("/proc/self/fd").unwrap();
        let open = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        let open = open.map(|link| link.to_string_lossy().into_owned());
        open.filter(|link| link.starts_with(&dir) && link.ends_with("(deleted)")).count()
    };
    assert_eq!(deleted(&world), 3);
    for left in [2, 1, 0] {
        world.scan(&agent);
        let figures = agent.catalogue.figures();
        assert_eq!((figures.held_files, figures.held_bytes), (left, left as u64 * text(10..20).len() as u64));
        assert_eq!(deleted(&world), left, "closed under the consumer's hands");
    }
    world.settle(&mut agent);
    assert_eq!(agent.lines[read..], events(40..41));
    assert!(agent.lost.iter().all(|lost| lost.reason == "released"));
    assert_eq!(agent.lost.iter().map(|lost| lost.span.len()).sum::<u64>(), text(10..40).len() as u64);
}

/// A directory with so many backups of one line each.
fn many(world: &mut World, count: u32) {
    for number in 0..count {
        let name = format!(
            "audit-2026-11-24T{:02}-{:02}-{:02}.000.log",
            number / 3600,
            number / 60 % 60,
            number % 60
        );
        fs::write(world.path(&name), text(number..number + 1)).unwrap();
    }
    world.write(text(count..count + 1));
}

#[test]
fn case_47_thousands_of_files_need_few_descriptors() {
    let mut world = World::new();
    world.limits.descriptors = 16;
    many(&mut world, 2000);
    let mut agent = world.start();
    assert_eq!(agent.catalogue.figures().descriptors, 16);
    for _ in 0..2000 {
        agent.read();
    }
    world.save(&mut agent);
    world.scan(&agent);
    // The oldest that are unread, and the live one, are safe from deletion.
    let next = u32::try_from(agent.lines.len()).unwrap();
    assert!(next > 100);
    let paths: Vec<_> = agent.catalogue.streams().into_iter().map(|(_, path, _)| path).collect();
    for path in &paths[next as usize..next as usize + 15] {
        fs::remove_file(path).unwrap();
    }
    world.scan(&agent);
    assert_eq!(agent.catalogue.figures().held_files, 15);
    world.settle(&mut agent);
    assert_eq!(difference(&agent.lines, &events(0..2001)), None);
    world.save(&mut agent);
    world.settle(&mut agent);
    // Nothing is needed any more: the live file alone.
    assert_eq!(agent.catalogue.figures().descriptors, 1);
    assert!(agent.lost.is_empty() && agent.gaps.is_empty());
}

#[test]
fn case_48_a_scan_of_many_idle_files_is_cheap_and_wakes_nobody() {
    let mut world = World::new();
    // Figures are for an optimised build; the rest is shown by fewer files.
    let count = if cfg!(debug_assertions) { 2_000 } else { 10_000 };
    many(&mut world, count);
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines.len(), count as usize + 1);
    assert!(!agent.follower.wait(Duration::ZERO));
    let (begun, scans) = (Instant::now(), 5);
    let before = agent.catalogue.figures().scans;
    for _ in 0..scans {
        world.scan(&agent);
        assert!(!agent.follower.wait(Duration::ZERO), "there is no news");
    }
    println!("a scan of {count} idle files takes {:?}", begun.elapsed() / scans);
    assert_eq!(agent.catalogue.figures().scans, before + u64::from(scans));
    world.write(text(count + 1..count + 2));
    world.scan(&agent);
    assert!(agent.follower.wait(Duration::ZERO), "this is");
}

#[test]
fn case_49_a_clock_that_steps_by_a_day_changes_nothing() {
    let day = Duration::from_secs(86_400);
    let mut world = World::new();
    world.write(text(0..10));
    let mut agent = world.start();
    agent.drain();
    let backup = world.rotate();
    let whole = crate::world::gzip(text(100..20_000).as_bytes());
    let path = world.path("audit-2026-11-24T02-09-00.000.log.gz");
    for step in 0..4u32 {
        world.now = if step % 2 == 0 { world.now + day } else { world.now - day };
        world.write(text(10 + step..11 + step));
        // Half a gzip that is still being written is not given up because the clock says that it is old.
        if step == 1 {
            fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        }
        world.settle(&mut agent);
        let horizon = agent.catalogue.horizon(world.now);
        assert!(horizon.is_none_or(|horizon| horizon < day * 365), "{horizon:?}");
    }
    append(&path, &whole[whole.len() / 2..]);
    world.settle(&mut agent);
    let mut lines = agent.lines.clone();
    lines.sort_by_key(|line| (line.len(), line.clone()));
    assert_eq!(difference(&lines, &[events(0..14), events(100..20_000)].concat()), None);
    assert!(agent.lost.is_empty(), "{:?}", agent.lost);
    drop(backup);
}

#[test]
fn the_horizon_of_a_consumer_is_that_of_its_oldest_unsettled_backup() {
    let mut world = World::new();
    world.limits.backups = Some(4);
    let mut agent = world.start();
    let second = Arc::clone(&agent.catalogue);
    let mut slow = Follower::new(second, None).unwrap();
    // A thousand bytes a second, rotated at ten thousand.
    let line = format!("{}\n", "x".repeat(999));
    for second in 1..=60 {
        world.write(format!("{second:03}{}", &line[3..]));
        if second % 10 == 0 {
            world.rotate();
        }
        world.scan(&agent);
        agent.drain();
        let positions = agent.ledger.positions();
        agent.follower.committed(&positions);
    }
    let figures = agent.catalogue.figures();
    let input = &figures.inputs[0];
    assert_eq!((input.backups, input.most_backups, input.rotates_at), (6, 5, 10_000));
    assert_eq!((input.backup_bytes, figures.rotations), (60_000, 6));
    let rate = input.bytes_per_second.unwrap();
    assert!((800.0..1200.0).contains(&rate), "{rate}");
    let seconds = |horizon: Option<Duration>| horizon.map(|horizon| horizon.as_secs_f64().round());
    // Six are there though four are kept: the next rotation takes the oldest.
    slow.committed(&std::collections::BTreeMap::new());
    let next = 10_000.0 / rate;
    assert_eq!(seconds(slow.figures(world.now).horizon), Some(next.round()));
    assert_eq!(seconds(agent.catalogue.horizon(world.now)), Some(next.round()));
    // Who has settled all has the time until what comes next is the oldest.
    assert_eq!(seconds(agent.follower.figures(world.now).horizon), Some((next * 7.0).round()));
    assert_eq!(agent.follower.figures(world.now).oldest_unread, None);
}

#[test]
fn two_inputs_have_figures_of_their_own() {
    let mut world = World::new();
    world.write(text(0..10));
    append(&world.path("other.log"), text(0..5).as_bytes());
    let other = Input { name: "other".into(), path: world.path("other.log"), ..world.input.clone() };
    let catalogue = Catalogue::new(vec![world.input.clone(), other], &world.state, world.limits);
    catalogue.scan(world.tick(1));
    let follower = Follower::new(Arc::clone(&catalogue), None).unwrap();
    assert_eq!(follower.lag_bytes(), (text(0..10).len() + text(0..5).len()) as u64);
    let mut agent = Agent::new(catalogue, follower, Ledger::default());
    world.settle(&mut agent);
    assert_eq!(agent.follower.lag_bytes(), 0);
    let inputs = agent.catalogue.figures().inputs;
    assert_eq!(inputs.iter().map(|input| &input.input[..]).collect::<Vec<_>>(), ["apiserver", "other"]);
}
