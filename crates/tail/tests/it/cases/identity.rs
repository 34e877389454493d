//! What a stream is, whatever the file system says.

use std::fs;
use std::sync::Arc;

use auditship_tail::{Catalogue, Follower, Input, Ledger};

use crate::world::{Agent, World, events, text};

#[test]
fn case_04_another_device_number_is_the_same_file() {
    let mut world = World::new();
    world.write(text(0..10));
    world.rotate();
    world.write(text(10..15));
    let mut agent = world.start();
    world.settle(&mut agent);
    world.save(&mut agent);
    drop(agent);
    // Mounted again: other numbers.
    for record in world.state.streams.values_mut() {
        (record.device, record.inode) = (record.device + 7, record.inode + 7);
    }
    world.write(text(15..20));
    let mut agent = world.start();
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(15..20));
    assert!(agent.lost.is_empty() && agent.gaps.is_empty());
}

#[test]
fn case_05_links_and_overlapping_inputs_are_one_reader() {
    let mut world = World::new();
    world.write(text(0..10));
    fs::hard_link(world.live(), world.path("audit-hard.log")).unwrap();
    std::os::unix::fs::symlink(world.live(), world.path("audit-soft.log")).unwrap();
    let globbed = Input { name: "other".into(), path: world.path("*.log"), ..world.input.clone() };
    let catalogue = Catalogue::new(vec![world.input.clone(), globbed], &world.state, world.limits);
    catalogue.scan(world.tick(1));
    let follower = Follower::new(Arc::clone(&catalogue), None).unwrap();
    let mut agent = Agent::new(catalogue, follower, Ledger::default());
    world.settle(&mut agent);
    world.rotate();
    world.write(text(10..20));
    world.settle(&mut agent);
    assert_eq!(agent.lines, events(0..20));
}
