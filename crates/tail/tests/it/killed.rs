//! What an agent has seen of a file is saved soon, and counted in bytes by the next agent when the file is gone.
//!
//! In all of these the output hangs: nothing is settled, and only what the catalogue knows reaches the state log.

use std::fs;

use auditship_tail::Limits;

use crate::world::{Agent, World, append, compress, difference, events, gzip, text};

/// What the agent saves a few times a second while nothing is settled.
fn note(world: &mut World, agent: &Agent) {
    agent.catalogue.changes().into_iter().for_each(|entry| world.state.apply(entry));
}

/// An agent with a checkpoint in which nothing is settled.
fn start(world: &mut World) -> Agent {
    let mut agent = world.start();
    world.save(&mut agent);
    agent
}

/// What the next agent counts as lost, and how many gaps it tells of.
fn lost_at_restart(world: &mut World) -> (u64, usize) {
    let mut agent = world.start();
    world.settle(&mut agent);
    (agent.lost.iter().map(|lost| lost.span.len()).sum(), agent.gaps.len())
}

fn length(text: &str) -> u64 {
    text.len() as u64
}

/// As ext4 does at once when a file is deleted and another one is made.
fn use_inode_again(old: &std::path::Path, new: &std::path::Path, bytes: &[u8]) {
    fs::rename(old, new).unwrap();
    fs::write(new, bytes).unwrap();
}

#[test]
fn a_backup_read_to_its_end_whose_inode_is_used_again_was_deleted_not_truncated() {
    let mut world = World::new();
    world.write(text(0..100));
    let mut agent = start(&mut world);
    agent.drain();
    let backup = world.rotate();
    let first = compress(&backup);
    world.write(text(200..201));
    world.settle(&mut agent);
    // Settled, though that is not saved yet, and gone: nobody holds it open.
    agent.follower.committed(&agent.ledger.positions());
    world.settle(&mut agent);
    let second = world.path("audit-2026-11-24T02-30-00.000.log.gz");
    use_inode_again(&first, &second, &gzip(text(100..200).as_bytes()));
    world.settle(&mut agent);
    assert_eq!(agent.lines.len(), 201);
    note(&mut world, &agent);
    drop(agent);
    assert_eq!(lost_at_restart(&mut world), (length(&text(0..100)), 0));
}

#[test]
fn how_far_a_live_file_has_grown_is_known_to_the_next_agent() {
    let mut world = World::new();
    world.write(text(0..1));
    let agent = start(&mut world);
    for number in 1..500 {
        world.write(text(number..number + 1));
        world.scan(&agent);
        note(&mut world, &agent);
    }
    drop(agent);
    world.write("more, of which nobody knows\n");
    let backup = world.rotate();
    fs::remove_file(backup).unwrap();
    world.write(text(500..501));
    assert_eq!(lost_at_restart(&mut world), (length(&text(0..500)), 1));
}

#[test]
fn what_a_file_had_when_it_was_compressed_is_known_from_its_descriptor() {
    let mut world = World::new();
    world.write(text(0..10));
    let mut agent = start(&mut world);
    // As far as it was seen, and no further: the reader is held up.
    agent.drain();
    world.scan(&agent);
    world.write(text(10..100));
    let zipped = compress(&world.rotate());
    world.write(text(100..101));
    world.scan(&agent);
    note(&mut world, &agent);
    drop(agent);
    fs::remove_file(zipped).unwrap();
    assert_eq!(lost_at_restart(&mut world), (length(&text(0..100)), 0));
}

#[test]
fn what_was_seen_before_a_stop_is_counted_when_only_its_copy_in_gzip_was_seen_after_it() {
    let mut world = World::new();
    world.write(text(0..10));
    let agent = start(&mut world);
    drop(agent);
    world.write(text(10..20));
    let zipped = compress(&world.rotate());
    world.write(text(20..21));
    // It finds the copy, and is killed before it reads it.
    let agent = world.start();
    note(&mut world, &agent);
    drop(agent);
    fs::remove_file(zipped).unwrap();
    assert_eq!(lost_at_restart(&mut world), (length(&text(0..10)), 1));
}

#[test]
fn what_was_seen_before_a_truncation_is_counted_after_a_kill() {
    for rewritten in [0, 1] {
        let mut world = World::new();
        world.write(text(0..100));
        let agent = start(&mut world);
        fs::write(world.live(), text(100..100 + rewritten)).unwrap();
        world.scan(&agent);
        note(&mut world, &agent);
        drop(agent);
        world.write(text(200..201));
        assert_eq!(lost_at_restart(&mut world), (length(&text(0..100)), 1));
    }
}

#[test]
fn a_file_of_which_nothing_is_known_is_told_of_once() {
    let mut world = World::new();
    let agent = start(&mut world);
    drop(agent);
    world.write(text(0..10));
    let zipped = compress(&world.rotate());
    world.write(text(10..11));
    let agent = world.start();
    note(&mut world, &agent);
    drop(agent);
    fs::remove_file(zipped).unwrap();
    for gaps in [1, 0] {
        let mut agent = world.start();
        world.settle(&mut agent);
        world.save(&mut agent);
        world.scan(&agent);
        world.save(&mut agent);
        assert_eq!((agent.gaps.len(), agent.lost.len()), (gaps, 0));
    }
}

#[test]
fn a_copy_in_gzip_that_was_read_to_its_end_has_no_unknown_rest() {
    let mut world = World::new();
    world.write(text(0..10));
    let agent = start(&mut world);
    drop(agent);
    world.write(text(10..20));
    let zipped = compress(&world.rotate());
    world.write(text(20..21));
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..21));
    note(&mut world, &agent);
    drop(agent);
    fs::remove_file(zipped).unwrap();
    assert_eq!(lost_at_restart(&mut world), (length(&text(0..20)), 0));
}

#[test]
fn all_that_a_writer_deletes_while_the_output_hangs_is_lost_by_its_range() {
    // Descriptors that run out are the harder case.
    for descriptors in [0, 2, 256] {
        let mut world = World::new();
        world.limits = Limits { descriptors, ..world.limits };
        world.write(text(0..1));
        let mut agent = start(&mut world);
        let mut backups = Vec::new();
        let mut written = length(&text(0..1));
        for round in 1..12 {
            let more = text(round * 100..round * 100 + 100);
            world.write(&more);
            written += length(&more);
            world.scan(&agent);
            if round < 5 {
                agent.drain();
            }
            backups.push(compress(&world.rotate()));
            if backups.len() > 2 {
                fs::remove_file(backups.remove(0)).unwrap();
            }
            note(&mut world, &agent);
        }
        drop(agent);
        for backup in backups {
            fs::remove_file(backup).unwrap();
        }
        append(&world.live(), text(9000..9001).as_bytes());
        let (lost, _) = lost_at_restart(&mut world);
        assert_eq!(lost, written, "with {descriptors} descriptors");
    }
}

#[test]
fn a_copy_in_gzip_that_was_made_too_early_loses_what_nobody_has_read() {
    // The copy was made of so many lines, and the live file truncated when it had 2000, of which 1000 were read.
    for (copied, lost) in [(800, 1000..2000), (1500, 1500..2000), (2000, 2000..2000)] {
        let mut world = World::new();
        world.write(text(0..1000));
        let mut agent = start(&mut world);
        world.settle(&mut agent);
        world.write(text(1000..2000));
        world.scan(&agent);
        let copy = world.path("audit-2026-11-24T02-30-00.000.log.gz");
        fs::write(copy, gzip(text(0..copied).as_bytes())).unwrap();
        fs::write(world.live(), text(5000..5001)).unwrap();
        world.settle(&mut agent);
        let wanted = [events(0..lost.start), events(5000..5001)].concat();
        assert_eq!(difference(&agent.lines, &wanted), None);
        let bytes: u64 = agent.lost.iter().map(|lost| lost.span.len()).sum();
        assert_eq!(bytes, length(&text(lost)));
    }
}
