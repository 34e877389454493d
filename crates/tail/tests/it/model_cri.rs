//! Following a container runtime's log: whatever is cut where, and whenever the follower is killed, each tag's content
//! comes once and in order.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use auditship_event::Span;
use auditship_tail::{AckResult, Format, Progress, Source};
use proptest::prelude::*;

use crate::world::{Agent, World, append, compress};

#[derive(Clone, Debug)]
enum Action {
    Write {
        stderr: bool,
        partial: bool,
        length: usize,
    },
    Rotate,
    Gzip,
    Scan,
    Read,
    Ack(usize),
    Save,
    Restart,
    /// Killed: what was acknowledged since the last save is read again.
    Kill,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (any::<bool>(), any::<bool>(), 0usize..30)
            .prop_map(|(stderr, partial, length)| Action::Write { stderr, partial, length }),
        2 => Just(Action::Rotate),
        1 => Just(Action::Gzip),
        3 => Just(Action::Scan),
        3 => Just(Action::Read),
        3 => (1usize..10).prop_map(Action::Ack),
        2 => Just(Action::Save),
        1 => Just(Action::Restart),
        2 => Just(Action::Kill),
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

/// What was handed out in this life, in order: acknowledged up to the open ones.
#[derive(Default)]
struct Life {
    acked: Vec<(String, Span)>,
    open: VecDeque<(u64, String, Span)>,
}

impl Life {
    fn read(&mut self, agent: &mut Agent) -> Progress {
        let (ledger, open) = (&mut agent.ledger, &mut self.open);
        let progress = agent.follower.read(&mut |line| {
            let ticket = ledger.open(line.span, line.carried, 1);
            open.push_back((ticket, String::from_utf8_lossy(line.bytes).into_owned(), line.span));
        });
        assert!(agent.follower.lost().is_empty());
        progress.unwrap()
    }

    fn ack(&mut self, agent: &mut Agent, count: usize) {
        for (ticket, line, span) in self.open.drain(..count.min(self.open.len())) {
            agent.ledger.ack(ticket, AckResult::Delivered);
            self.acked.push((line, span));
        }
    }

    /// The end of it: the lines that the saved positions have behind them.
    fn end(self, world: &World) -> Vec<String> {
        let saved = world.state.positions.get("consumer").map(|position| &position.positions);
        let behind = |span: &Span| {
            saved.and_then(|saved| saved.get(&span.stream)).is_some_and(|position| *position >= span.end)
        };
        self.acked.into_iter().filter(|(_, span)| behind(span)).map(|(line, _)| line).collect()
    }
}

fn run(actions: Vec<Action>) -> Result<(), TestCaseError> {
    let mut world = World::new();
    let live = world.path("0.log");
    (world.input.path, world.input.format) = (live.clone(), Format::Cri);
    append(&live, b"");
    let mut agent = world.start();
    let (mut writer, mut life, mut lines, mut rotations) = (Writer::default(), Life::default(), vec![], 0);
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
            Action::Read => drop(life.read(&mut agent)),
            Action::Ack(count) => life.ack(&mut agent, count),
            Action::Save => world.save(&mut agent),
            Action::Restart | Action::Kill => {
                if let Action::Restart = action {
                    world.save(&mut agent);
                }
                lines.append(&mut std::mem::take(&mut life).end(&world));
                drop(agent);
                agent = world.start();
            }
        }
    }
    writer.write(&live, false, false, 1);
    writer.write(&live, true, false, 1);
    for _ in 0..4 {
        world.scan(&agent);
        while life.read(&mut agent) == Progress::More {}
    }
    life.ack(&mut agent, usize::MAX);
    world.save(&mut agent);
    lines.append(&mut life.end(&world));
    let all: String = lines.concat();
    let (digits, letters): (String, String) = all.chars().partition(char::is_ascii_digit);
    prop_assert_eq!([digits, letters], writer.wanted);
    let totals = agent.ledger.totals();
    prop_assert_eq!((totals.read_bytes, totals.read_lines as usize), (writer.bytes, lines.len()));
    prop_assert_eq!(totals, agent.ledger.committed());
    // All is read: wherever a run was, nothing has to be read again.
    let position = &world.state.positions["consumer"];
    for (stream, anchor) in &position.anchors {
        prop_assert_eq!(anchor, &position.positions[stream]);
    }
    Ok(())
}

fn world_path(live: &Path, number: u32) -> PathBuf {
    live.with_file_name(format!("0.log.20261124-02{number:04}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn each_tag_comes_once_and_in_order(actions in proptest::collection::vec(action(), 1..60)) {
        run(actions)?;
    }
}
