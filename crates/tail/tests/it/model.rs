//! Following against a simple model that knows every line: whatever the writer, foreign hands and crashes do, what is
//! delivered is what was written, less what was deleted unread, and that is told of.
//!
//! `AUDITSHIP_MODEL_CASES` says how many cases to try, `AUDITSHIP_MODEL_SEED` with which seed; a failure prints it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use auditship_event::{Span, StreamId};
use auditship_tail::{
    AckResult, Catalogue, Entry, Follower, Ledger, Limits, Position, Progress, Source, Totals,
};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::world::{World, append, gzip};

/// Enough for the usual run; a soak says more.
const CASES: u32 = 3000;

#[derive(Clone, Debug)]
enum Action {
    Write(usize),
    Partial,
    Rotate,
    /// The oldest backup that is plain: half of its copy in gzip, the rest, the end of the plain one.
    Gzip,
    /// The oldest backup, in all its forms.
    Delete,
    /// The live file, in place; with a hole when the writer does not append.
    Truncate(bool),
    CopyTruncate,
    /// A backup is restored under another name.
    Copy,
    /// After so many seconds.
    Scan(u64),
    /// Scans over so long a time that what was read rests.
    Rest,
    Read,
    Drain,
    Ack(usize),
    Save,
    /// In good order, or not; the agent stays down until it is started.
    Stop,
    Crash,
    Start,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (1usize..30).prop_map(Action::Write),
        2 => Just(Action::Partial),
        5 => Just(Action::Rotate),
        5 => Just(Action::Gzip),
        2 => Just(Action::Delete),
        1 => any::<bool>().prop_map(Action::Truncate),
        1 => Just(Action::CopyTruncate),
        1 => Just(Action::Copy),
        4 => Just(Action::Scan(1)),
        2 => (2u64..30).prop_map(Action::Scan),
        1 => Just(Action::Rest),
        5 => Just(Action::Read),
        3 => Just(Action::Drain),
        4 => (1usize..60).prop_map(Action::Ack),
        3 => Just(Action::Save),
        1 => Just(Action::Stop),
        2 => Just(Action::Crash),
        4 => Just(Action::Start),
    ]
}

/// What the model knows of a line.
#[derive(Default)]
struct Fate {
    acked: u32,
    /// How often it may come again: it was acknowledged, and that was not saved when the agent crashed.
    again: u32,
    /// It was taken away before it can be said to have been read.
    excused: bool,
    /// Taken away by a deletion, of which the agent has to tell.
    deleted: bool,
    /// It stood in a file that an agent has looked at, and what that knew was saved.
    noted: bool,
}

#[derive(Clone, Default)]
struct Backup {
    name: String,
    lines: Vec<String>,
    /// How far it is on the way to gzip.
    step: u8,
    /// The running agent has looked at it when it had content.
    seen: bool,
}

/// A running agent whose output acknowledges when it is told to.
struct Agent {
    catalogue: Arc<Catalogue>,
    follower: Follower,
    ledger: Ledger,
    open: VecDeque<(u64, String, Span)>,
    /// Acknowledged in this life.
    acked: Vec<(String, Span)>,
    saved: BTreeMap<StreamId, u64>,
    /// Gone from the disk, read through a descriptor.
    held: BTreeSet<String>,
    /// In the plain files that it has looked at since it last saved.
    looked: BTreeSet<String>,
    last: u32,
}

struct Model {
    world: World,
    fates: HashMap<String, Fate>,
    next: u32,
    /// A line that is begun, and its rest.
    begun: Option<(String, String)>,
    live: Backup,
    backups: Vec<Backup>,
    copies: u32,
    hole: Option<u64>,
    agent: Option<Agent>,
    lost: u64,
    gaps: usize,
}

impl Model {
    fn new() -> Model {
        let mut model = Model {
            world: World::new(),
            fates: HashMap::new(),
            next: 0,
            begun: None,
            live: Backup::default(),
            backups: Vec::new(),
            copies: 0,
            hole: None,
            agent: None,
            lost: 0,
            gaps: 0,
        };
        model.world.write("");
        model.start();
        model
    }

    /// Lines of very different lengths; some longer than what is hashed of a head.
    fn line(&mut self) -> String {
        self.next += 1;
        let next = self.next;
        // No stretch of one line stands in another: what a reader keeps of the bytes before its place tells lines apart.
        let length = (next as usize * 7919) % if next.is_multiple_of(9) { 9000 } else { 60 };
        let pad: String = format!("{next:06}p").chars().cycle().take(length).collect();
        format!("{{\"n\":{next:06},\"kind\":\"Event\",\"pad\":\"{pad}\"}}")
    }

    fn append(&mut self, text: &str) {
        if let Some(hole) = self.hole.take() {
            fs::File::options().write(true).open(self.world.live()).unwrap().set_len(hole).unwrap();
        }
        self.world.write(text);
    }

    fn written(&mut self, line: String) {
        self.fates.entry(line.clone()).or_default();
        self.live.lines.push(line);
    }

    fn write(&mut self, count: usize) {
        let mut text = String::new();
        if let Some((begun, rest)) = self.begun.take() {
            text += &format!("{rest}\n");
            self.written(begun + &rest);
        }
        for _ in 0..count {
            let line = self.line();
            text += &format!("{line}\n");
            self.written(line);
        }
        self.append(&text);
    }

    fn partial(&mut self) {
        if self.begun.is_none() {
            let mut line = self.line();
            let rest = line.split_off((line.len() / 2).max(16));
            self.append(&line);
            self.begun = Some((line, rest));
        }
    }

    /// The live file's writer never comes back to a line that it has begun.
    fn tear(&mut self) {
        if let Some((begun, _)) = self.begun.take() {
            self.written(begun);
        }
    }

    fn rotate(&mut self) {
        self.tear();
        self.hole = None;
        let path = self.world.rotate();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let backup = Backup { name, ..std::mem::take(&mut self.live) };
        self.backups.push(backup);
    }

    fn gzip(&mut self) {
        let Some(backup) = self.backups.iter_mut().find(|backup| backup.step < 3) else { return };
        let plain = self.world.path(&backup.name);
        let zipped = self.world.path(&format!("{}.gz", backup.name));
        let bytes = gzip(&fs::read(&plain).unwrap());
        match backup.step {
            0 => fs::write(&zipped, &bytes[..bytes.len() / 2]).unwrap(),
            1 => append(&zipped, &bytes[bytes.len() / 2..]),
            _ => fs::remove_file(&plain).unwrap(),
        }
        backup.step += 1;
    }

    fn delete(&mut self) {
        if self.backups.is_empty() {
            return;
        }
        let backup = self.backups.remove(0);
        for path in self.paths(&backup) {
            fs::remove_file(path).unwrap();
        }
        self.removed(&backup, Removed::Deleted);
    }

    fn paths(&self, backup: &Backup) -> Vec<PathBuf> {
        let (plain, zipped) =
            (self.world.path(&backup.name), self.world.path(&format!("{}.gz", backup.name)));
        [plain, zipped].into_iter().filter(|path| path.exists()).collect()
    }

    fn truncate(&mut self, hole: bool) {
        self.tear();
        let file = fs::File::options().write(true).open(self.world.live()).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(0).unwrap();
        self.hole = hole.then_some(length);
        let backup = std::mem::take(&mut self.live);
        self.removed(&backup, Removed::Truncated);
    }

    fn copy_truncate(&mut self) {
        self.tear();
        self.world.rotations += 1;
        let name = format!("audit-2026-11-24T02-{:02}-00.000.log", self.world.rotations);
        fs::copy(self.world.live(), self.world.path(&name)).unwrap();
        fs::File::options().write(true).open(self.world.live()).unwrap().set_len(0).unwrap();
        self.hole = None;
        // The copy was not looked at, and what was looked at is gone.
        let backup = Backup { name, seen: false, ..std::mem::take(&mut self.live) };
        self.backups.push(backup);
    }

    fn copy(&mut self) {
        // One torn line is no content to know a file by.
        let known = |backup: &&Backup| backup.lines.iter().any(|line| line.ends_with('}'));
        let Some(backup) = self.backups.last().filter(known) else { return };
        self.copies += 1;
        let mut copy = backup.clone();
        copy.name = format!("audit-2026-11-24T01-{:02}-00.000.log", self.copies);
        copy.seen = false;
        let from = self.paths(backup).remove(0);
        let zipped = from.extension().is_some_and(|extension| extension == "gz");
        copy.step = if zipped { 3 } else { 0 };
        fs::copy(from, self.world.path(&format!("{}{}", copy.name, if zipped { ".gz" } else { "" })))
            .unwrap();
        self.backups.insert(self.copies as usize - 1 - self.gone_copies(), copy);
    }

    fn gone_copies(&self) -> usize {
        let left = self.backups.iter().filter(|backup| backup.name.contains("T01-")).count();
        (self.copies as usize - 1) - left
    }

    /// The lines of a file that is no more may be missing, unless they are elsewhere or a descriptor has them.
    fn removed(&mut self, backup: &Backup, how: Removed) {
        // Who has never seen a file cannot know that one is missing.
        let running = self.agent.as_ref().is_some_and(|agent| !agent.catalogue.streams().is_empty());
        let known = running || !self.world.state.streams.is_empty();
        for line in &backup.lines {
            let there = |other: &Backup| other.lines.contains(line);
            if there(&self.live) || self.backups.iter().any(there) {
                continue;
            }
            let fate = self.fates.get_mut(line).unwrap();
            match (&mut self.agent, how) {
                (Some(agent), Removed::Deleted) if backup.seen => drop(agent.held.insert(line.clone())),
                (_, how) if fate.acked == 0 => {
                    fate.excused = true;
                    fate.deleted |= known && how == Removed::Deleted;
                }
                _ => {}
            }
        }
    }

    fn start(&mut self) {
        if self.agent.is_some() {
            return;
        }
        let limits = Limits { free_percent: 0, ..Limits::default() };
        let catalogue = Catalogue::new(vec![self.world.input.clone()], &self.world.state, limits);
        let position = self.world.state.positions.get("c").cloned();
        catalogue.scan(self.world.tick(1));
        self.look();
        let follower = Follower::new(Arc::clone(&catalogue), position.as_ref()).unwrap();
        let totals = position.map_or_else(Totals::default, |position| position.totals);
        let saved = follower.positions();
        let ledger = Ledger::new(&saved, &totals);
        self.agent = Some(Agent {
            catalogue,
            follower,
            ledger,
            open: VecDeque::new(),
            acked: Vec::new(),
            saved,
            held: BTreeSet::new(),
            looked: BTreeSet::new(),
            last: 0,
        });
        self.measure();
    }

    fn look(&mut self) {
        for backup in self.backups.iter_mut().chain([&mut self.live]) {
            let there = !backup.lines.is_empty();
            backup.seen |= there;
        }
        self.live.seen |= self.begun.is_some();
        self.measure();
    }

    /// How much there is in a plain file, a look tells; not where it is taken for a copy of a compressed one.
    fn measure(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        let (plain, zipped): (Vec<&Backup>, Vec<&Backup>) =
            self.backups.iter().chain([&self.live]).partition(|backup| backup.step < 3);
        let copied = |backup: &Backup| zipped.iter().any(|other| other.lines.first() == backup.lines.first());
        let plain = plain.into_iter().filter(|backup| !copied(backup));
        agent.looked.extend(plain.flat_map(|backup| &backup.lines).cloned());
    }

    fn scan(&mut self, seconds: u64) {
        let now = self.world.tick(seconds);
        if let Some(agent) = &self.agent {
            agent.catalogue.scan(now);
            self.look();
        }
    }

    fn read(&mut self) -> Result<Progress, TestCaseError> {
        let Some(agent) = &mut self.agent else { return Ok(Progress::Idle) };
        let mut order = Ok(());
        let (ledger, open, last) = (&mut agent.ledger, &mut agent.open, &mut agent.last);
        let progress = agent.follower.read(&mut |line| {
            let ticket = ledger.open(line.span, line.carried, 1);
            let text = String::from_utf8_lossy(line.bytes).into_owned();
            let number: u32 = text.get(5..11).and_then(|number| number.parse().ok()).unwrap_or(0);
            // A restored backup may have any place in the order.
            if number <= *last && self.copies == 0 {
                order = Err(TestCaseError::fail(format!("line {number} after {last}")));
            }
            *last = number;
            open.push_back((ticket, text, line.span));
        });
        order?;
        for lost in agent.follower.lost() {
            agent.ledger.lost(lost.reason, lost.span);
            self.lost += lost.span.len();
        }
        self.gaps += agent.follower.gaps().len();
        prop_assert_eq!(agent.ledger.faults(), 0);
        Ok(progress.unwrap())
    }

    fn drain(&mut self) -> Result<(), TestCaseError> {
        while self.read()? == Progress::More {}
        Ok(())
    }

    fn ack(&mut self, count: usize) -> Result<(), TestCaseError> {
        let Some(agent) = &mut self.agent else { return Ok(()) };
        for _ in 0..count {
            let Some((ticket, line, span)) = agent.open.pop_front() else { break };
            agent.ledger.ack(ticket, AckResult::Delivered);
            let Some(fate) = self.fates.get_mut(&line) else {
                return Err(TestCaseError::fail(format!("a line that nobody wrote, {} bytes", line.len())));
            };
            fate.acked += 1;
            agent.acked.push((line, span));
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), TestCaseError> {
        let Some(agent) = &mut self.agent else { return Ok(()) };
        agent.ledger.retain(|stream| agent.catalogue.knows(stream));
        let positions = agent.ledger.positions();
        for (_, _, span) in &agent.open {
            let position = positions.get(&span.stream).copied().unwrap_or(0);
            prop_assert!(position <= span.start, "a position is ahead of an open line");
        }
        let guards = agent.follower.committed(&positions);
        let anchors = agent.follower.anchors(&positions);
        for entry in agent.catalogue.changes() {
            self.world.state.apply(entry);
        }
        for line in std::mem::take(&mut agent.looked) {
            self.fates.get_mut(&line).unwrap().noted = true;
        }
        let totals = agent.ledger.committed();
        prop_assert!(totals.adds_up());
        agent.saved.clone_from(&positions);
        let position =
            Position { consumer: "c".into(), positions, guards, anchors, totals, last_event: None };
        self.world.state.apply(Entry::Position(position));
        Ok(())
    }

    fn crash(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        for (line, span) in &agent.acked {
            let saved = agent.saved.get(&span.stream).is_some_and(|at| *at >= span.end);
            self.fates.get_mut(line).unwrap().again += u32::from(!saved);
        }
        for line in &agent.held {
            let fate = self.fates.get_mut(line).unwrap();
            if fate.acked == 0 {
                (fate.excused, fate.deleted) = (true, true);
            }
        }
        for backup in self.backups.iter_mut().chain([&mut self.live]) {
            backup.seen = false;
        }
        if self.world.state.streams.is_empty() {
            self.fates.values_mut().for_each(|fate| fate.deleted = false);
        }
    }

    fn act(&mut self, action: Action) -> Result<(), TestCaseError> {
        match action {
            Action::Write(count) => self.write(count),
            Action::Partial => self.partial(),
            Action::Rotate => self.rotate(),
            Action::Gzip => self.gzip(),
            Action::Delete => self.delete(),
            Action::Truncate(hole) => self.truncate(hole),
            Action::CopyTruncate => self.copy_truncate(),
            Action::Copy => self.copy(),
            Action::Scan(seconds) => self.scan(seconds),
            Action::Rest => (0..9).for_each(|_| self.scan(9)),
            Action::Read => drop(self.read()?),
            Action::Drain => self.drain()?,
            Action::Ack(count) => self.ack(count)?,
            Action::Save => self.save()?,
            Action::Stop => {
                self.save()?;
                self.crash();
            }
            Action::Crash => self.crash(),
            Action::Start => self.start(),
        }
        Ok(())
    }

    /// A successor with content closes every older file; then all is read and acknowledged.
    fn end(mut self) -> Result<(), TestCaseError> {
        self.start();
        self.rotate();
        self.write(1);
        for _ in 0..5 {
            self.scan(1);
            self.drain()?;
        }
        self.ack(usize::MAX)?;
        self.save()?;
        let agent = self.agent.as_ref().unwrap();
        prop_assert_eq!(agent.ledger.totals(), agent.ledger.committed());
        let name = |line: &str| line.chars().take(11).collect::<String>();
        let (mut untold, mut known) = (None, 0);
        for (line, fate) in &self.fates {
            prop_assert!(fate.acked > 0 || fate.excused, "{} is missing", name(line));
            prop_assert!(fate.acked <= 1 + fate.again, "{} came {} times", name(line), fate.acked);
            untold = untold.or((fate.acked == 0 && fate.deleted).then(|| name(line)));
            known += if fate.acked == 0 && fate.noted { line.len() as u64 } else { 0 };
        }
        let lost: u64 = agent.ledger.committed().lost_bytes.values().sum();
        prop_assert!(known <= lost, "{known} bytes are missing that an agent knew of, {lost} are lost");
        prop_assert!(untold.is_none() || self.lost > 0 || self.gaps > 0, "{:?} is missing silently", untold);
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Removed {
    Deleted,
    Truncated,
}

fn run(actions: Vec<Action>) -> Result<(), TestCaseError> {
    let mut model = Model::new();
    for action in actions {
        model.act(action)?;
    }
    model.end()
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_line_is_delivered_or_told_to_be_lost() {
    let cases = env("AUDITSHIP_MODEL_CASES").map_or(CASES, |cases| u32::try_from(cases).unwrap());
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = env("AUDITSHIP_MODEL_SEED").unwrap_or(u64::from(clock.subsec_nanos()) ^ clock.as_secs());
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let actions = proptest::collection::vec(action(), 1..50);
    if let Err(error) = runner.run(&actions, run) {
        panic!("AUDITSHIP_MODEL_SEED={seed}: {error}");
    }
}
