//! How soon a line is read: the way from the file over the scan to a consumer that waits.

use std::time::{Duration, Instant};

use auditship_tail::Watcher;

use crate::world::{Agent, World, events, text};

/// Reads until `lines` are there; how long that took.
fn wait_for(agent: &mut Agent, lines: usize) -> Duration {
    let begun = Instant::now();
    while agent.lines.len() < lines && begun.elapsed() < Duration::from_secs(10) {
        agent.drain();
        if agent.lines.len() < lines {
            // Much longer than what is measured: only news ends it.
            agent.follower.wait(Duration::from_secs(10));
        }
    }
    agent.drain();
    begun.elapsed()
}

fn quiet(spawn: impl Fn(&Agent) -> Watcher, limit: Duration) {
    let mut world = World::new();
    world.write(text(0..1));
    let mut agent = world.start();
    let watcher = spawn(&agent);
    wait_for(&mut agent, 1);
    let mut slowest = Duration::ZERO;
    // Appended only, then a rotation.
    for number in 1..5 {
        if number == 4 {
            world.rotate();
        }
        world.write(text(number..number + 1));
        slowest = slowest.max(wait_for(&mut agent, number as usize + 1));
        // Until it is quiet again.
        agent.follower.wait(Duration::from_millis(300));
    }
    drop(watcher);
    assert_eq!(agent.lines, events(0..5));
    println!("the slowest line took {slowest:?}");
    assert!(slowest < limit, "{slowest:?}");
}

#[test]
fn a_line_in_a_quiet_file_is_read_at_once_with_a_file_watch() {
    quiet(|agent| agent.catalogue.spawn().unwrap(), Duration::from_millis(250));
}

#[test]
fn case_17_without_a_file_watch_a_scan_finds_it_within_a_second() {
    // A little more, because the tests share the machine.
    quiet(|agent| agent.catalogue.spawn_unwatched().unwrap(), Duration::from_millis(1200));
}

#[test]
fn a_busy_file_does_not_make_it_scan_all_the_time() {
    let world = World::new();
    world.write(text(0..1));
    let mut world = world;
    let mut agent = world.start();
    let watcher = agent.catalogue.spawn().unwrap();
    let begun = Instant::now();
    let before = agent.catalogue.figures().scans;
    let mut number = 1;
    while begun.elapsed() < Duration::from_secs(1) {
        world.write(text(number..number + 1));
        number += 1;
        agent.drain();
    }
    let scans = agent.catalogue.figures().scans - before;
    drop(watcher);
    world.settle(&mut agent);
    assert_eq!(agent.lines.len(), number as usize);
    assert!((2..=12).contains(&scans), "{scans} scans in a second");
}
