//! What makes a line be read: a file watch's hint, or the next scan. How soon, is printed.

use std::time::{Duration, Instant};

use crate::world::{Agent, World, events, text};

/// Nothing takes this long unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// No scan comes by itself in the time of a test.
const NEVER: Duration = Duration::from_secs(86_400);

/// Reads until `lines` are there, with the catalogue's thread alone to look for them.
fn wait_for(agent: &mut Agent, lines: usize) -> Duration {
    let begun = Instant::now();
    agent.drain();
    while agent.lines.len() < lines {
        assert!(begun.elapsed() < PATIENCE, "{} of {lines} lines", agent.lines.len());
        agent.follower.wait(PATIENCE);
        agent.drain();
    }
    begun.elapsed()
}

/// Appends, and rotates, and waits for each line before the next is written.
fn quiet(world: &mut World, agent: &mut Agent, what: &str) {
    let mut slowest = Duration::ZERO;
    let first = u32::try_from(agent.lines.len()).unwrap();
    for number in first..first + 6 {
        if number % 3 == 0 {
            world.rotate();
        }
        world.write(text(number..number + 1));
        slowest = slowest.max(wait_for(agent, number as usize + 1));
    }
    assert_eq!(agent.lines, events(0..first + 6));
    println!("{what}: the slowest line took {slowest:?}");
}

#[test]
fn with_a_file_watch_a_line_is_read_though_no_scan_is_due() {
    let mut world = World::new();
    world.write(text(0..1));
    let mut agent = world.start();
    agent.drain();
    let watcher = agent.catalogue.spawn_every(NEVER).unwrap();
    // Whatever the thread is at by now: of what is written from here on comes a hint.
    for number in 1..4 {
        world.write(text(number..number + 1));
        wait_for(&mut agent, number as usize + 1);
    }
    quiet(&mut world, &mut agent, "with a file watch");
    // What a huge interval must not hold up is its end.
    drop(watcher);
}

#[test]
fn case_17_without_a_file_watch_the_next_scan_finds_it() {
    let mut world = World::new();
    world.write(text(0..1));
    let mut agent = world.start();
    agent.drain();
    let watcher = agent.catalogue.spawn_unwatched(Duration::from_millis(5)).unwrap();
    quiet(&mut world, &mut agent, "without one, with a scan every 5 ms");
    drop(watcher);
}
