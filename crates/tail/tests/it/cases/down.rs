//! What happened while the agent was down.

use std::fs;

use auditship_tail::{Opened, StartAt, State, Store};

use crate::world::{World, append, compress, difference, events, gzip, text};

/// An agent that has read the first ten lines and was stopped.
fn stopped() -> World {
    let mut world = World::new();
    world.write(text(0..10));
    let mut agent = world.start();
    agent.drain();
    world.save(&mut agent);
    world
}

#[test]
fn case_18_rotated_many_times_oldest_first_from_the_exact_offset() {
    let mut world = stopped();
    for number in 1..20 {
        world.write(text(number * 10..number * 10 + 10));
        let backup = world.rotate();
        if number % 3 == 0 {
            compress(&backup);
        }
    }
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(10..200));
    assert!(agent.gaps.is_empty());
}

#[test]
fn case_19_a_half_read_file_goes_on_in_whatever_it_is_compressed_with() {
    for step in [700, 5_000, 30_000] {
        let mut world = World::new();
        world.write(text(0..20_000));
        let mut lines = Vec::new();
        let mut agent = world.start();
        for round in 0.. {
            while agent.lines.len() < step && agent.read() == auditship_tail::Progress::More {}
            world.save(&mut agent);
            lines.append(&mut agent.lines);
            drop(agent);
            match round {
                0 => drop(world.rotate()),
                1 => drop(compress(&world.path("audit-2026-11-24T02-01-00.000.log"))),
                2 => {
                    let zipped = world.path("audit-2026-11-24T02-01-00.000.log.gz");
                    let plain = text(0..20_000);
                    fs::write(world.path("audit.log.1.zst"), zstd::encode_all(plain.as_bytes(), 1).unwrap())
                        .unwrap();
                    fs::remove_file(zipped).unwrap();
                    world.write(text(20_000..20_001));
                }
                _ => break,
            }
            agent = world.start();
        }
        let mut agent = world.start();
        world.settle(&mut agent);
        lines.append(&mut agent.lines);
        assert_eq!(difference(&lines, &events(0..20_001)), None, "{step}");
    }
}

#[test]
fn case_20_a_partial_gzip_beside_its_plain_file_is_ignored() {
    let mut world = stopped();
    world.write(text(10..2000));
    let backup = world.rotate();
    let zipped = gzip(&fs::read(&backup).unwrap());
    fs::write(world.path("audit-2026-11-24T02-01-00.000.log.gz"), &zipped[..zipped.len() / 2]).unwrap();
    world.write(text(2000..2010));
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(10..2010));
    // The next run of the API server writes it anew and takes the plain file away.
    compress(&backup);
    world.settle(&mut agent);
    assert_eq!(agent.lines.len(), 2000);
    assert!(agent.lost.is_empty());
}

#[test]
fn case_21_a_gzip_of_several_members_is_read_whole() {
    let mut world = World::new();
    let members = [gzip(text(0..500).as_bytes()), gzip(b""), gzip(text(500..900).as_bytes())].concat();
    fs::write(world.path("audit-2026-11-24T02-01-00.000.log.gz"), members).unwrap();
    world.write(text(900..901));
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..901));
}

#[test]
fn case_21_a_flipped_bit_is_lost_and_told() {
    let mut world = World::new();
    let mut zipped = gzip(text(0..20_000).as_bytes());
    let middle = zipped.len() / 2;
    zipped[middle] ^= 0x20;
    fs::write(world.path("audit-2026-11-24T02-01-00.000.log.gz"), zipped).unwrap();
    world.write(text(20_000..20_001));
    let mut agent = world.start();
    world.settle(&mut agent);
    for _ in 0..8 {
        world.tick(9);
        world.scan(&agent);
    }
    world.settle(&mut agent);
    assert_eq!((agent.lost.len(), agent.lost[0].reason), (1, "corrupt_gz"));
    assert_eq!(agent.lines.last(), events(20_000..20_001).last());
    assert!(agent.ledger.totals().adds_up());
}

#[test]
fn case_21_a_gzip_that_is_rewritten_under_the_reader_is_read_once() {
    let mut world = World::new();
    let plain = text(0..20_000);
    let zipped = gzip(plain.as_bytes());
    let path = world.path("audit-2026-11-24T02-01-00.000.log.gz");
    fs::write(&path, &zipped[..zipped.len() / 3]).unwrap();
    world.write(text(20_000..20_001));
    let mut agent = world.start();
    world.settle(&mut agent);
    // In place, with another compressor: the content is the same, its bytes are not.
    let mut other = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut other, plain.as_bytes()).unwrap();
    fs::write(&path, other.finish().unwrap()).unwrap();
    world.settle(&mut agent);
    assert_eq!(difference(&agent.lines, &events(0..20_001)), None);
    assert!(agent.lost.is_empty());
}

#[test]
fn case_22_renumbered_backups_are_not_read_again() {
    let mut world = World::new();
    let mut read = Vec::new();
    for round in 0..6u32 {
        for number in (1..round).rev() {
            let from = if number == 1 { "audit.log.1".to_owned() } else { format!("audit.log.{number}.gz") };
            let to = world.path(&format!("audit.log.{}.gz", number + 1));
            if number == 1 {
                fs::rename(compress(&world.path(&from)), to).unwrap();
            } else {
                fs::rename(world.path(&from), to).unwrap();
            }
        }
        if round > 0 {
            fs::rename(world.live(), world.path("audit.log.1")).unwrap();
        }
        world.write(text(round * 10..round * 10 + 10));
        let mut agent = world.start();
        world.settle(&mut agent);
        world.save(&mut agent);
        read.append(&mut agent.lines);
        assert!(agent.gaps.is_empty() && agent.lost.is_empty());
    }
    assert_eq!(read, events(0..60));
}

#[test]
fn case_23_files_that_came_and_went_unseen_are_a_gap() {
    let mut world = stopped();
    let event = 1_763_953_239_000_000;
    world.state.positions.get_mut("consumer").unwrap().last_event = Some(event);
    for number in 1..5 {
        world.write(text(number * 10..number * 10 + 10));
        let backup = world.rotate();
        if number < 3 {
            fs::remove_file(backup).unwrap();
        }
    }
    world.write(text(50..60));
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(30..60));
    assert_eq!(agent.gaps.len(), 1);
    let gap = &agent.gaps[0];
    assert_eq!((gap.after.offset, gap.before.as_ref().unwrap().offset), (text(0..10).len() as u64, 0));
    assert!(gap.before.as_ref().unwrap().file.ends_with("audit-2026-11-24T02-03-00.000.log"));
    let since = gap.last_event.unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since.as_micros(), event as u128);
    assert!(gap.to_string().contains("apiserver: after byte") && !gap.to_string().contains("kind"));
    assert_eq!(agent.catalogue.figures().gaps, 1);
    // Told once, and not again after a restart.
    world.save(&mut agent);
    world.scan(&agent);
    world.save(&mut agent);
    drop(agent);
    let mut agent = world.start();
    world.settle(&mut agent);
    assert!(agent.lines.is_empty() && agent.gaps.is_empty() && agent.lost.is_empty());
}

/// A live file at whose known end the agent stopped gets more, is rotated, and goes: what it got nobody knows, and
/// that is never silent.
#[test]
fn case_23_the_last_known_end_is_a_gap_when_its_file_is_gone() {
    for (what, after) in [("more", 10), ("nothing yet", 0), ("not even a live file", 0)] {
        for zipped in [false, true] {
            let mut world = stopped();
            world.write(text(10..20));
            let mut backup = world.rotate();
            if zipped {
                backup = compress(&backup);
            }
            fs::remove_file(backup).unwrap();
            match what {
                "not even a live file" => fs::remove_file(world.live()).unwrap(),
                _ => world.write(text(20..20 + after)),
            }
            let mut agent = world.start();
            world.settle(&mut agent);
            assert_eq!(agent.lines, events(20..20 + after), "{what}");
            assert_eq!((agent.gaps.len(), agent.catalogue.figures().gaps), (1, 1), "{what}");
            let gap = &agent.gaps[0];
            assert_eq!(gap.after.offset, text(0..10).len() as u64);
            assert_eq!(gap.before.as_ref().map(|edge| edge.offset), (after > 0).then_some(0), "{what}");
            assert!(agent.lost.is_empty() && agent.ledger.totals().adds_up());
        }
    }
}

/// The live file was still empty when the agent stopped: there was no stream of it to remember.
#[test]
fn case_23_the_file_after_the_last_known_one_is_a_gap_too() {
    let mut world = World::new();
    world.write(text(0..10));
    let mut agent = world.start();
    agent.drain();
    let first = world.rotate();
    world.settle(&mut agent);
    world.save(&mut agent);
    drop(agent);
    world.write(text(10..20));
    let second = world.rotate();
    fs::remove_file(first).unwrap();
    fs::remove_file(second).unwrap();
    world.write(text(20..30));
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(20..30));
    assert_eq!((agent.gaps.len(), agent.catalogue.figures().gaps), (1, 1));
}

#[test]
fn case_23_a_burst_between_two_scans_is_a_gap() {
    let mut world = World::new();
    world.write(text(0..10));
    let mut agent = world.start();
    agent.drain();
    for number in 1..5 {
        let backup = world.rotate();
        world.write(text(number * 10..number * 10 + 10));
        if number < 4 {
            fs::remove_file(backup).unwrap();
        }
    }
    world.settle(&mut agent);
    assert_eq!(agent.lines, [events(0..10), events(30..50)].concat());
    assert_eq!(agent.gaps.len(), 1);
    assert!(agent.lost.is_empty());
}

#[test]
fn case_24_half_a_line_survives_a_crash() {
    let mut world = stopped();
    world.write("{\"kind\":\"Event\",");
    let mut agent = world.start();
    world.settle(&mut agent);
    assert!(agent.lines.is_empty());
    world.save(&mut agent);
    drop(agent);
    world.write("\"n\":10}\n");
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(10..11));
}

#[test]
fn case_25_a_torn_line_comes_with_what_was_glued_to_it() {
    let mut world = stopped();
    // The disk was full; lumberjack goes on after the fragment.
    world.write("{\"kind\":\"Event\",\"n\":");
    world.write(text(11..13));
    let mut agent = world.start();
    world.settle(&mut agent);
    let glued = format!("{{\"kind\":\"Event\",\"n\":{}", events(11..12)[0]);
    assert_eq!(agent.lines, [vec![glued], events(12..13)].concat());
}

#[test]
fn case_30_without_state_everything_is_read_and_never_from_the_end() {
    let mut world = stopped();
    world.rotate();
    world.write(text(10..20));
    world.state = State::default();
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..20));
    // Damaged, and told to begin at the end: nobody knows whether it had begun.
    let state = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(state.path()).unwrap();
    agent.catalogue.changes().into_iter().for_each(|entry| store.append(entry));
    store.sync().unwrap();
    drop((store, agent));
    let log = state.path().join("state.log");
    let mut bytes = fs::read(&log).unwrap();
    bytes[20] ^= 1;
    fs::write(&log, bytes).unwrap();
    let (store, opened) = Store::open(state.path()).unwrap();
    assert!(matches!(opened, Opened::Damaged { .. }), "{opened:?}");
    world.state = store.state().clone();
    world.input.start_at = StartAt::End;
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..20));
}

#[test]
fn case_33_a_settled_file_that_comes_back_is_not_read_again() {
    let mut world = stopped();
    let backup = world.rotate();
    world.write(text(10..20));
    let mut agent = world.start();
    world.settle(&mut agent);
    let bytes = fs::read(&backup).unwrap();
    fs::remove_file(&backup).unwrap();
    world.tick(3600);
    world.settle(&mut agent);
    world.save(&mut agent);
    fs::write(&backup, &bytes).unwrap();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(10..20));
    // The whole directory was away, over a restart.
    let (away, live) = (world.path("away"), fs::read(world.live()).unwrap());
    fs::rename(world.live(), &away).unwrap();
    fs::remove_file(&backup).unwrap();
    world.settle(&mut agent);
    world.save(&mut agent);
    drop(agent);
    fs::write(&backup, bytes).unwrap();
    fs::write(world.live(), live).unwrap();
    let mut agent = world.start();
    world.settle(&mut agent);
    assert!(agent.lines.is_empty(), "{}", agent.lines.len());
    append(&world.live(), text(20..21).as_bytes());
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(20..21));
    // And they are not remembered without limit.
    for number in 0..100 {
        let backup = world.rotate();
        fs::rename(&backup, world.path(&format!("audit-2026-11-25T{:02}-00-00.000.log", number))).unwrap();
        world.write(text(100 + number..101 + number));
        world.settle(&mut agent);
        fs::remove_file(world.path(&format!("audit-2026-11-25T{:02}-00-00.000.log", number))).unwrap();
        world.save(&mut agent);
    }
    world.settle(&mut agent);
    world.save(&mut agent);
    assert!(world.state.streams.len() < 70, "{}", world.state.streams.len());
}

#[test]
fn case_34_a_position_saved_at_the_end_is_where_it_goes_on() {
    let mut world = stopped();
    world.write(text(10..5000));
    let mut agent = world.start();
    while agent.lines.len() < 100 {
        agent.read();
    }
    let read = u32::try_from(agent.lines.len()).unwrap();
    world.save(&mut agent);
    drop(agent);
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(difference(&agent.lines, &events(10 + read..5000)), None);
}

/// A reload makes a catalogue and followers anew, from what is saved. Files that only a descriptor has are not lost.
#[test]
fn case_44_a_reload_keeps_what_is_held() {
    // Where all files went before their successor had content, nobody knows whether it is the next one. The old agent
    // would have told of it, and so must the new one, once.
    for (successor, gaps) in [(true, 0), (false, 1)] {
        let mut world = stopped();
        let mut agent = world.start();
        for number in 1..4 {
            world.write(text(number * 10..number * 10 + 10));
            world.scan(&agent);
            world.rotate();
            world.scan(&agent);
        }
        if successor {
            world.write(text(40..50));
            world.scan(&agent);
        }
        for number in 1..4 {
            fs::remove_file(world.path(&format!("audit-2026-11-24T02-0{number}-00.000.log"))).unwrap();
        }
        if !successor {
            world.write(text(40..50));
        }
        world.scan(&agent);
        // Its output is down: it has read a part of it, and nothing of that is settled.
        let mut read = Vec::new();
        for _ in 0..3 {
            let collect = &mut |line: auditship_event::Line<'_>| read.push(line.span);
            auditship_tail::Source::read(&mut agent.follower, collect).unwrap();
        }
        assert_eq!(read.len(), 10);
        world.save(&mut agent);
        let before = std::sync::Arc::clone(&agent.catalogue);
        drop(agent);
        assert_eq!(before.figures().held_files, 3);
        for round in 0..2 {
            let mut agent = world.start_after((round == 0).then_some(&*before));
            world.settle(&mut agent);
            assert_eq!(agent.gaps.len(), if round == 0 { gaps } else { 0 }, "{:?}", agent.gaps);
            assert!(agent.lost.is_empty(), "{:?}", agent.lost);
            assert_eq!(agent.lines, if round == 0 { events(10..50) } else { Vec::new() });
            world.save(&mut agent);
            world.scan(&agent);
            world.save(&mut agent);
        }
    }
}
