//! Following real files through rotation, restart and loss.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use auditship_tail::{Format, Limits, Progress, StartAt};

use crate::world::{World, append, compress, difference, events, gzip, text};

#[test]
fn a_live_file_is_read_as_it_grows_and_its_partial_line_waits() {
    let mut world = World::new();
    world.write(text(0..3));
    let mut agent = world.start();
    agent.drain();
    world.write("{\"kind\":\"Ev");
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..3));
    world.write("ent\",\"n\":3}\r\n");
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..4));
}

#[test]
fn case_10_rotation_is_read_in_order_also_twice_between_two_scans() {
    let mut world = World::new();
    world.write(text(0..5));
    let mut agent = world.start();
    agent.drain();
    world.write(text(5..7));
    world.rotate();
    world.write(text(7..9));
    world.rotate();
    world.write(text(9..11));
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..11));
}

#[test]
fn the_torn_last_line_of_a_rotated_file_is_a_line_when_it_has_a_successor() {
    let mut world = World::new();
    world.write(text(0..1));
    world.write("{\"kind\":\"torn");
    let mut agent = world.start();
    agent.drain();
    world.rotate();
    world.settle(&mut agent);
    assert_eq!(agent.lines.len(), 1, "the successor is empty: the writer may not have moved on");
    world.write(text(1..2));
    world.settle(&mut agent);
    assert_eq!(agent.lines[1..], ["{\"kind\":\"torn".to_owned(), events(1..2)[0].clone()]);
}

#[test]
fn a_restart_goes_on_in_the_middle() {
    let mut world = World::new();
    world.write(text(0..10));
    let mut agent = world.start();
    agent.drain();
    world.save(&mut agent);
    drop(agent);
    world.write(text(10..15));
    world.rotate();
    world.write(text(15..20));
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(10..20));
    assert_eq!(agent.ledger.totals().read_lines, 20);
    assert!(agent.lost.is_empty());
}

#[test]
fn case_19_a_half_read_file_goes_on_inside_its_gzip() {
    let mut world = World::new();
    world.write(text(0..10));
    let mut agent = world.start();
    agent.drain();
    world.save(&mut agent);
    drop(agent);
    world.write(text(10..2000));
    let backup = world.rotate();
    compress(&backup);
    world.write(text(2000..2010));
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(10..2010));
}

#[test]
fn case_20_a_file_compressed_while_it_is_read_is_read_once() {
    let mut world = World::new();
    let many = text(0..30_000);
    world.write(&many);
    let mut agent = world.start();
    while agent.lines.is_empty() {
        assert_eq!(agent.read(), Progress::More);
    }
    let backup = world.rotate();
    world.write(text(30_000..30_001));
    world.scan(&agent);
    agent.read();
    // Both exist for a while, the copy half-written.
    let zipped = gzip(many.as_bytes());
    append(&world.path("audit-2026-11-24T02-01-00.000.log.gz"), &zipped[..zipped.len() / 2]);
    world.scan(&agent);
    agent.read();
    append(&world.path("audit-2026-11-24T02-01-00.000.log.gz"), &zipped[zipped.len() / 2..]);
    fs::remove_file(backup).unwrap();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..30_001));
}

#[test]
fn case_09_unread_backups_that_are_deleted_are_read_through_the_held_descriptor() {
    let mut world = World::new();
    let mut agent = world.start();
    let mut backups = Vec::new();
    for number in 0..3 {
        world.write(text(number * 10..number * 10 + 10));
        world.scan(&agent);
        backups.push(world.rotate());
        world.scan(&agent);
    }
    for backup in backups {
        fs::remove_file(backup).unwrap();
    }
    world.scan(&agent);
    assert!(agent.catalogue.held_bytes() > 0);
    world.write(text(30..31));
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..31));
    assert!(agent.lost.is_empty());
    world.save(&mut agent);
    world.settle(&mut agent);
    assert_eq!(agent.catalogue.held_bytes(), 0);
}

#[test]
fn what_is_read_and_not_settled_is_held_for_a_reload() {
    let mut world = World::new();
    world.write(text(0..10));
    let mut agent = world.start();
    world.scan(&agent);
    world.save(&mut agent);
    world.settle(&mut agent);
    let backup = world.rotate();
    world.write(text(10..11));
    world.settle(&mut agent);
    agent.catalogue.changes().into_iter().for_each(|entry| world.state.apply(entry));
    fs::remove_file(backup).unwrap();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..11));
    assert!(agent.catalogue.held_bytes() > 0);
    // Nothing of it is settled for good: it is read again.
    let before = std::sync::Arc::clone(&agent.catalogue);
    drop(agent);
    let mut agent = world.start_after(Some(&before));
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..11));
    assert!(agent.lost.is_empty() && agent.gaps.is_empty());
}

#[test]
fn case_23_a_backup_deleted_while_down_is_lost_by_its_known_range() {
    let mut world = World::new();
    world.write(text(0..10));
    let mut agent = world.start();
    agent.drain();
    world.save(&mut agent);
    let read = text(0..10).len() as u64;
    world.write(text(10..20));
    world.rotate();
    world.write(text(20..21));
    // Seen, but not read.
    world.scan(&agent);
    agent.catalogue.changes().into_iter().for_each(|entry| world.state.apply(entry));
    drop(agent);
    fs::remove_file(world.path("audit-2026-11-24T02-01-00.000.log")).unwrap();
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(20..21));
    assert_eq!(agent.lost.len(), 1);
    let lost = &agent.lost[0];
    assert_eq!((lost.reason, lost.span.start, lost.span.end), ("deleted", read, text(0..20).len() as u64));
    assert_eq!(agent.ledger.totals().lost_bytes["deleted"], text(10..20).len() as u64);
    // Settled and gone, and remembered all the same: its file may come back.
    world.save(&mut agent);
    world.scan(&agent);
    world.save(&mut agent);
    assert_eq!(world.state.streams.len(), 2);
}

#[test]
fn case_46_what_must_be_let_go_is_released_and_counted() {
    let mut world = World::new();
    world.limits = Limits { held_bytes: 100, free_percent: 0, ..Limits::default() };
    let mut agent = world.start();
    world.write(text(0..10));
    world.scan(&agent);
    let backup = world.rotate();
    world.write(text(10..11));
    world.scan(&agent);
    fs::remove_file(backup).unwrap();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(10..11));
    assert_eq!((agent.lost[0].reason, agent.lost[0].span.len()), ("released", text(0..10).len() as u64));
}

#[test]
fn case_02_files_with_the_same_first_line_are_both_read() {
    let mut world = World::new();
    let same = format!("{{\"kind\":\"Event\",\"pad\":\"{}\"}}\n", "x".repeat(6000));
    world.write(format!("{same}{}", text(0..3)));
    world.rotate();
    world.write(&same);
    let mut agent = world.start();
    world.settle(&mut agent);
    world.write(text(3..6));
    world.settle(&mut agent);
    let numbered: Vec<_> = agent.lines.iter().filter(|line| line.len() < 100).cloned().collect();
    assert_eq!(numbered, events(0..6));
    assert_eq!(agent.lines.len(), 8);
}

#[test]
fn case_01_an_inode_that_is_used_again_is_a_new_file() {
    let mut world = World::new();
    world.write(text(0..10));
    let mut agent = world.start();
    world.settle(&mut agent);
    world.save(&mut agent);
    drop(agent);
    // While the agent is down nothing keeps the number from being used again; rewriting in place is the same.
    fs::write(world.live(), text(100..120)).unwrap();
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(100..120));
}

#[test]
fn case_14_a_guard_that_does_not_match_means_another_file() {
    let mut world = World::new();
    let same = format!("{{\"kind\":\"Event\",\"pad\":\"{}\"}}\n", "x".repeat(6000));
    world.write(format!("{same}{}", text(0..10)));
    let mut agent = world.start();
    world.settle(&mut agent);
    world.save(&mut agent);
    drop(agent);
    // The same head, as long as before, other content.
    fs::write(world.live(), format!("{same}{}", text(10..40))).unwrap();
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines[1..], events(10..40));
}

#[test]
fn a_live_file_shorter_than_what_was_read_of_it_is_read_anew() {
    let mut world = World::new();
    world.write(text(0..10));
    let mut agent = world.start();
    world.settle(&mut agent);
    world.save(&mut agent);
    drop(agent);
    // A power cut took what was not on disk yet; the writer goes on at its end.
    let file = fs::File::options().write(true).open(world.live()).unwrap();
    file.set_len(text(0..4).len() as u64).unwrap();
    world.write(text(20..25));
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, [events(0..4), events(20..25)].concat());
}

#[test]
fn what_one_consumer_has_not_read_is_held_for_it() {
    let mut world = World::new();
    world.write(text(0..10));
    let mut fast = world.start();
    let slow = auditship_tail::Follower::new(std::sync::Arc::clone(&fast.catalogue), None).unwrap();
    let backup = world.rotate();
    world.write(text(10..11));
    world.settle(&mut fast);
    fs::remove_file(backup).unwrap();
    world.settle(&mut fast);
    assert!(fast.catalogue.held_bytes() > 0);
    fast.follower = slow;
    fast.ledger = auditship_tail::Ledger::default();
    fast.lines.clear();
    world.settle(&mut fast);
    assert_eq!(fast.lines, events(0..11));
    world.save(&mut fast);
    world.settle(&mut fast);
    assert_eq!(fast.catalogue.held_bytes(), 0);
}

#[test]
fn case_06_copies_links_and_restored_backups_are_not_read_again() {
    let mut world = World::new();
    world.write(text(0..1000));
    let backup = world.rotate();
    world.write(text(1000..1001));
    let mut agent = world.start();
    world.settle(&mut agent);
    let copy = world.path("audit-2026-11-24T01-00-00.000.log");
    fs::copy(&backup, &copy).unwrap();
    fs::hard_link(&backup, world.path("audit.log.7")).unwrap();
    std::os::unix::fs::symlink(&backup, world.path("audit.log.8")).unwrap();
    fs::write(world.path("audit.log.9.gz"), gzip(&fs::read(&backup).unwrap())).unwrap();
    world.settle(&mut agent);
    fs::remove_file(backup).unwrap();
    world.settle(&mut agent);
    world.save(&mut agent);
    drop(agent);
    let mut agent2 = world.start();
    world.settle(&mut agent2);
    assert!(agent2.lines.is_empty(), "{}", agent2.lines.len());
}

#[test]
fn case_12_a_late_append_to_a_renamed_file_is_read_once() {
    let mut world = World::new();
    world.write(text(0..10));
    let mut agent = world.start();
    agent.drain();
    let backup = world.rotate();
    world.write(text(10..20));
    world.settle(&mut agent);
    append(&backup, text(100..102).as_bytes());
    world.settle(&mut agent);
    world.write(text(20..21));
    world.settle(&mut agent);
    assert_eq!(agent.lines, [events(0..20), events(100..102), events(20..21)].concat());
}

#[test]
fn case_16_a_live_file_that_is_unlinked_is_read_on() {
    let mut world = World::new();
    world.write(text(0..2));
    let mut writer = fs::OpenOptions::new().append(true).open(world.live()).unwrap();
    let mut agent = world.start();
    world.settle(&mut agent);
    fs::remove_file(world.live()).unwrap();
    world.settle(&mut agent);
    std::io::Write::write_all(&mut writer, text(2..4).as_bytes()).unwrap();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..4));
}

#[test]
fn a_corrupt_backup_gives_what_decodes_and_waits_a_minute_for_the_rest() {
    let mut world = World::new();
    let whole = gzip(text(0..20_000).as_bytes());
    let path = world.path("audit-2026-11-24T02-00-00.000.log.gz");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    world.write(text(20_000..20_001));
    let mut agent = world.start();
    world.settle(&mut agent);
    let read = agent.lines.len();
    assert!(read > 0 && agent.lines == events(0..20_000)[..read] && agent.lost.is_empty());
    for _ in 0..7 {
        world.tick(9);
        world.scan(&agent);
    }
    world.settle(&mut agent);
    assert_eq!((agent.lost.len(), agent.lost[0].reason), (1, "corrupt_gz"));
    assert_eq!(agent.lines.last(), events(20_000..20_001).last());
    assert!(agent.ledger.totals().adds_up());

    // The other ending: it was only slow.
    let mut world = World::new();
    let path = world.path("audit-2026-11-24T02-00-00.000.log.gz");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    world.write(text(20_000..20_001));
    let mut agent = world.start();
    world.settle(&mut agent);
    append(&path, &whole[whole.len() / 2..]);
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..20_001));
    assert!(agent.lost.is_empty());
}

#[test]
fn a_consumer_without_a_checkpoint_starts_where_it_is_told() {
    let mut world = World::new();
    world.write(text(0..5));
    let old = world.rotate();
    let hour = Duration::from_secs(3600);
    fs::File::options().append(true).open(&old).unwrap().set_modified(world.now - 2 * hour).unwrap();
    world.write(text(5..10));
    let new = world.rotate();
    compress(&new);
    world.write(text(10..15));
    world.write("{\"kind\":\"Ev");
    for (start_at, from) in [(StartAt::Beginning, 0), (StartAt::Since(hour), 5), (StartAt::End, 15)] {
        let mut world =
            World { input: auditship_tail::Input { start_at, ..world.input.clone() }, ..clone(&world) };
        let mut agent = world.start();
        world.settle(&mut agent);
        assert_eq!(agent.lines, events(from..15), "{start_at:?}");
        world.save(&mut agent);
        drop(agent);
        let mut agent = world.start();
        world.settle(&mut agent);
        assert!(agent.lines.is_empty(), "{start_at:?}");
    }
}

/// Another agent's state over the same kind of directory.
fn clone(world: &World) -> World {
    let copy = World::new();
    World { limits: world.limits, now: world.now, rotations: world.rotations, ..copy }
}

#[test]
fn case_11_a_glob_that_also_matches_the_backups_reads_each_file_once() {
    let mut world = World::new();
    world.input.path = world.path("audit*");
    world.write(text(0..5));
    world.rotate();
    world.write(text(5..10));
    append(&world.path("audit-other.log"), text(100..103).as_bytes());
    append(&world.path("unrelated.log"), text(200..203).as_bytes());
    let mut agent = world.start();
    world.settle(&mut agent);
    agent.lines.sort();
    let mut expected = [events(0..10), events(100..103)].concat();
    expected.sort();
    assert_eq!(agent.lines, expected);
}

#[test]
fn a_run_of_records_goes_on_in_the_next_file_also_after_a_restart() {
    let record =
        |tag: &str, flag: &str, content: &str| format!("2026-11-24T02:30:59.5Z {tag} {flag} {content}\n");
    for save_before_end in [true, false] {
        let mut world = World::new();
        world.input.path = world.path("0.log");
        world.input.format = Format::Cri;
        let live = world.path("0.log");
        append(&live, record("stdout", "F", "{\"n\":0}").as_bytes());
        append(&live, record("stdout", "P", "{\"n\":").as_bytes());
        append(&live, record("stderr", "F", "I1124 hello").as_bytes());
        append(&live, record("stdout", "P", "1").as_bytes());
        let mut agent = world.start();
        world.settle(&mut agent);
        assert_eq!(agent.lines, ["{\"n\":0}", "I1124 hello"]);
        let mut lines = agent.lines.clone();
        if save_before_end {
            world.save(&mut agent);
        }
        fs::rename(&live, world.path("0.log.20261124-023059")).unwrap();
        compress(&world.path("0.log.20261124-023059"));
        append(&live, record("stdout", "F", "23}").as_bytes());
        append(&live, record("stdout", "F", "{\"n\":2}").as_bytes());
        if save_before_end {
            drop(agent);
            agent = world.start();
        } else {
            lines.clear();
        }
        world.settle(&mut agent);
        lines.extend(agent.lines.iter().cloned());
        assert_eq!(lines, ["{\"n\":0}", "I1124 hello", "{\"n\":123}", "{\"n\":2}"]);
        assert_eq!(agent.ledger.totals().read_lines, 4);
        assert_eq!(agent.ledger.committed(), agent.ledger.totals());
    }
}

#[test]
fn a_run_that_was_given_up_is_not_taken_up_again_after_a_restart() {
    let mut world = World::new();
    (world.input.path, world.input.format) = (world.path("0.log"), Format::Cri);
    let record = |flag: &str, content: &str| format!("2026-11-24T02:30:59.5Z stdout {flag} {content}\n");
    for (file, text) in
        [("0.log.20261124-020000", record("P", "1")), ("0.log.20261124-020001", record("P", "2"))]
    {
        append(&world.path(file), text.as_bytes());
    }
    append(&world.path("0.log"), record("F", "3").as_bytes());
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, ["12", "3"]);
    world.save(&mut agent);
    drop(agent);
    let mut agent = world.start();
    append(&world.path("0.log"), record("F", "4").as_bytes());
    world.settle(&mut agent);
    assert_eq!(agent.lines, ["4"]);
}

#[test]
fn a_writer_that_rotates_under_load_is_followed() {
    let mut world = World::new();
    let mut agent = world.start();
    let done = AtomicBool::new(false);
    let (live, dir) = (world.live(), world.dir.path().to_owned());
    let total = 6000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..total {
                append(&live, text(number..number + 1).as_bytes());
                if number % 300 == 299 {
                    let backup = dir.join(format!("audit-2026-11-24T03-00-00.{:03}.log", number / 300));
                    fs::rename(&live, &backup).unwrap();
                    fs::File::create(&live).unwrap();
                    if number % 600 == 599 {
                        compress(&backup);
                    }
                }
            }
            done.store(true, Ordering::Release);
        });
        loop {
            let last = done.load(Ordering::Acquire);
            world.settle(&mut agent);
            if last {
                break;
            }
        }
    });
    world.settle(&mut agent);
    assert_eq!(difference(&agent.lines, &events(0..total)), None);
    assert!(agent.lost.is_empty());
}

#[test]
fn the_thread_scans_and_wakes_those_who_wait() {
    let mut world = World::new();
    let mut agent = world.start();
    agent.drain();
    let watcher = agent.catalogue.spawn().unwrap();
    world.write(text(0..1));
    while agent.lines.is_empty() {
        agent.follower.wait(Duration::from_secs(5));
        agent.drain();
    }
    drop(watcher);
    assert_eq!(agent.lines, events(0..1));
}
