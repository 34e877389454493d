//! Following against a simple model: whatever the writer and the agent do, every line comes once.

use std::fs;

use proptest::prelude::*;

use crate::world::{Agent, World, compress, difference};

#[derive(Clone, Debug)]
enum Action {
    Write(usize),
    Partial,
    Rotate,
    /// The oldest backup that is plain.
    Gzip,
    Scan,
    Read,
    Drain,
    Restart,
    /// Read everything while the oldest backup is deleted.
    Delete,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1usize..40).prop_map(Action::Write),
        2 => Just(Action::Partial),
        3 => Just(Action::Rotate),
        2 => Just(Action::Gzip),
        4 => Just(Action::Scan),
        4 => Just(Action::Read),
        2 => Just(Action::Drain),
        2 => Just(Action::Restart),
        1 => Just(Action::Delete),
    ]
}

struct Writer {
    next: u32,
    /// What is still to be written of a line that was begun.
    rest: String,
    /// What was written of it.
    begun: String,
    wanted: Vec<String>,
}

impl Writer {
    fn line(&mut self) -> String {
        self.next += 1;
        // Lines of very different lengths; some longer than what is hashed of a head.
        let pad =
            "p".repeat((self.next as usize * 7919) % if self.next.is_multiple_of(9) { 9000 } else { 60 });
        format!("{{\"kind\":\"Event\",\"n\":{},\"pad\":\"{pad}\"}}", self.next)
    }

    fn write(&mut self, world: &World, count: usize) {
        let mut text = String::new();
        if !self.rest.is_empty() {
            text = std::mem::take(&mut self.rest) + "\n";
            let whole = std::mem::take(&mut self.begun) + text.trim_end();
            self.wanted.push(whole);
        }
        for _ in 0..count {
            let line = self.line();
            text += &line;
            text.push('\n');
            self.wanted.push(line);
        }
        world.write(text);
    }

    fn partial(&mut self, world: &World) {
        if self.rest.is_empty() {
            let mut line = self.line();
            self.rest = line.split_off(line.len() / 2);
            self.begun = line;
            world.write(&self.begun);
        }
    }

    fn rotate(&mut self, world: &mut World) {
        if !self.rest.is_empty() {
            self.rest.clear();
            self.wanted.push(std::mem::take(&mut self.begun));
        }
        world.rotate();
    }
}

fn backups(world: &World) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(world.dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut backups: Vec<_> = entries.filter(|path| *path != world.live()).collect();
    backups.sort();
    backups
}

fn run(actions: Vec<Action>) -> Result<(), TestCaseError> {
    let mut world = World::new();
    let mut agent: Agent = world.start();
    let mut lines = Vec::new();
    let mut writer = Writer { next: 0, rest: String::new(), begun: String::new(), wanted: Vec::new() };
    world.write("");
    for action in actions {
        match action {
            Action::Write(count) => writer.write(&world, count),
            Action::Partial => writer.partial(&world),
            Action::Rotate => writer.rotate(&mut world),
            Action::Gzip => {
                let plain =
                    backups(&world).into_iter().find(|path| path.extension().is_some_and(|ext| ext == "log"));
                plain.map(|path| compress(&path));
            }
            Action::Scan => world.scan(&agent),
            Action::Read => drop(agent.read()),
            Action::Drain => agent.drain(),
            Action::Restart => {
                world.save(&mut agent);
                lines.append(&mut agent.lines);
                drop(agent);
                agent = world.start();
            }
            Action::Delete => {
                // What was seen before it is deleted is held; with content in its successor it is read to its end.
                writer.write(&world, 1);
                world.scan(&agent);
                if let Some(oldest) = backups(&world).first() {
                    fs::remove_file(oldest).unwrap();
                }
                world.scan(&agent);
                agent.drain();
            }
        }
    }
    // A successor with content closes every older file.
    writer.rotate(&mut world);
    writer.write(&world, 1);
    world.settle(&mut agent);
    world.save(&mut agent);
    lines.append(&mut agent.lines);
    prop_assert!(agent.lost.is_empty(), "{:?}", agent.lost);
    prop_assert_eq!(difference(&lines, &writer.wanted), None);
    let totals = agent.ledger.totals();
    prop_assert_eq!(totals.read_lines as usize, lines.len());
    prop_assert_eq!(totals, agent.ledger.committed());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_line_comes_once(actions in proptest::collection::vec(action(), 1..40)) {
        run(actions)?;
    }
}
