//! Following a container runtime's log: whatever is cut where, each tag's content comes once and in order.

use std::fs;
use std::path::Path;

use auditship_tail::Format;
use proptest::prelude::*;

use crate::world::{World, append, compress};

#[derive(Clone, Debug)]
enum Action {
    Write { stderr: bool, partial: bool, length: usize },
    Rotate,
    Gzip,
    Scan,
    Read,
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (any::<bool>(), any::<bool>(), 0usize..30)
            .prop_map(|(stderr, partial, length)| Action::Write { stderr, partial, length }),
        2 => Just(Action::Rotate),
        1 => Just(Action::Gzip),
        3 => Just(Action::Scan),
        3 => Just(Action::Read),
        2 => Just(Action::Restart),
    ]
}

/// Writes records whose content tells their tag: digits or letters.
#[derive(Default)]
struct Writer {
    counts: [u32; 2],
    wanted: [String; 2],
    bytes: u64,
}

impl Writer {
    fn write(&mut self, live: &Path, stderr: bool, partial: bool, length: usize) {
        let tag = usize::from(stderr);
        let next = |count: u32| char::from(if stderr { b'a' } else { b'0' } + (count % 10) as u8);
        let content: String = (0..length as u32).map(|offset| next(self.counts[tag] + offset)).collect();
        self.counts[tag] += length as u32;
        self.wanted[tag] += &content;
        let (name, flag) = (["stdout", "stderr"][tag], if partial { "P" } else { "F" });
        let record = format!("2026-11-24T02:30:{:02}.5Z {name} {flag} {content}\n", self.bytes % 60);
        self.bytes += record.len() as u64;
        append(live, record.as_bytes());
    }
}

fn run(actions: Vec<Action>) -> Result<(), TestCaseError> {
    let mut world = World::new();
    let live = world.path("0.log");
    (world.input.path, world.input.format) = (live.clone(), Format::Cri);
    append(&live, b"");
    let mut agent = world.start();
    let (mut writer, mut lines, mut rotations) = (Writer::default(), Vec::new(), 0);
    let backup = |number: u32| world_path(&live, number);
    for action in actions {
        match action {
            Action::Write { stderr, partial, length } => writer.write(&live, stderr, partial, length),
            Action::Rotate => {
                fs::rename(&live, backup(rotations)).unwrap();
                rotations += 1;
                append(&live, b"");
            }
            Action::Gzip => {
                let plain = (0..rotations).map(backup).find(|path| path.exists());
                plain.map(|path| compress(&path));
            }
            Action::Scan => world.scan(&agent),
            Action::Read => drop(agent.read()),
            Action::Restart => {
                world.save(&mut agent);
                lines.append(&mut agent.lines);
                drop(agent);
                agent = world.start();
            }
        }
    }
    writer.write(&live, false, false, 1);
    writer.write(&live, true, false, 1);
    world.settle(&mut agent);
    lines.append(&mut agent.lines);
    let all: String = lines.concat();
    let (digits, letters): (String, String) = all.chars().partition(char::is_ascii_digit);
    prop_assert_eq!([digits, letters], writer.wanted);
    let totals = agent.ledger.totals();
    prop_assert_eq!((totals.read_bytes, totals.read_lines as usize), (writer.bytes, lines.len()));
    prop_assert_eq!(totals, agent.ledger.committed());
    Ok(())
}

fn world_path(live: &Path, number: u32) -> std::path::PathBuf {
    live.with_file_name(format!("0.log.20261124-02{number:04}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn each_tag_comes_once_and_in_order(actions in proptest::collection::vec(action(), 1..40)) {
        run(actions)?;
    }
}
