//! A directory with a log in it, the writer that rotates it, and a consumer that saves its position.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auditship_tail::{
    Catalogue, Class, DEFAULT_LIMIT, Entry, Follower, Format, Gap, Input, Ledger, Limits, Lost, Position,
    Progress, Source, StartAt, State,
};

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) now: SystemTime,
    pub(crate) input: Input,
    pub(crate) limits: Limits,
    pub(crate) state: State,
    pub(crate) rotations: u32,
    /// The directory's names and files at the last tick.
    pub(crate) names: BTreeSet<(OsString, u64)>,
}

/// A running agent with one consumer, that settles every line at once.
pub(crate) struct Agent {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) follower: Follower,
    pub(crate) ledger: Ledger,
    pub(crate) lines: Vec<String>,
    pub(crate) lost: Vec<Lost>,
    pub(crate) gaps: Vec<Gap>,
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl World {
    pub(crate) fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let input = Input {
            name: "apiserver".into(),
            path: dir.path().join("audit.log"),
            format: Format::Auto,
            start_at: StartAt::Beginning,
            max_line: DEFAULT_LIMIT,
        };
        // The disk of whoever runs the tests may be nearly full.
        let limits = Limits { free_percent: 0, ..Limits::default() };
        let now = SystemTime::now();
        World { dir, now, input, limits, state: State::default(), rotations: 0, names: BTreeSet::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn live(&self) -> PathBuf {
        self.path("audit.log")
    }

    pub(crate) fn write(&self, bytes: impl AsRef<[u8]>) {
        append(&self.live(), bytes.as_ref());
    }

    /// As lumberjack does it: rename, create.
    pub(crate) fn rotate(&mut self) -> PathBuf {
        self.rotations += 1;
        let backup = self.path(&format!("audit-2026-11-24T02-{:02}-00.000.log", self.rotations));
        fs::rename(self.live(), &backup).unwrap();
        File::create(self.live()).unwrap();
        backup
    }

    pub(crate) fn start(&mut self) -> Agent {
        self.start_after(None)
    }

    /// As after a reload, with what another catalogue holds.
    pub(crate) fn start_after(&mut self, before: Option<&Catalogue>) -> Agent {
        let catalogue = Catalogue::new(vec![self.input.clone()], &self.state, self.limits);
        if let Some(before) = before {
            catalogue.adopt(before);
        }
        catalogue.scan(self.tick(1));
        let position = self.state.positions.get("consumer");
        let follower = Follower::new(Arc::clone(&catalogue), position).unwrap();
        let totals = position.map(|position| position.totals.clone()).unwrap_or_default();
        let ledger = Ledger::new(&follower.positions(), &totals);
        Agent::new(catalogue, follower, ledger)
    }

    /// Lets time pass. The clock of the file system is that of the world: a directory of which the names have changed
    /// changed now.
    pub(crate) fn tick(&mut self, seconds: u64) -> SystemTime {
        self.now += Duration::from_secs(seconds);
        let entries = fs::read_dir(self.dir.path()).unwrap().map(Result::unwrap);
        let names = entries.map(|entry| (entry.file_name(), entry.ino())).collect();
        if names != self.names {
            self.names = names;
            File::open(self.dir.path()).unwrap().set_modified(self.now).unwrap();
        }
        self.now
    }

    pub(crate) fn scan(&mut self, agent: &Agent) {
        agent.catalogue.scan(self.tick(1));
    }

    /// Scans and reads until nothing comes any more.
    pub(crate) fn settle(&mut self, agent: &mut Agent) {
        for _ in 0..4 {
            self.scan(agent);
            agent.drain();
        }
    }

    pub(crate) fn save(&mut self, agent: &mut Agent) {
        let positions = agent.ledger.positions();
        let guards = agent.follower.committed(&positions);
        let anchors = agent.follower.anchors(&positions);
        agent.catalogue.changes().into_iter().for_each(|entry| self.state.apply(entry));
        let totals = agent.ledger.committed();
        assert!(totals.adds_up());
        let consumer = "consumer".to_owned();
        let position = Position { consumer, positions, guards, anchors, totals, last_event: None };
        self.state.apply(Entry::Position(position));
        // What is saved is what a log would give back.
        let replay = auditship_tail::checkpoint::replay(&self.state.encode());
        assert_eq!(replay.state, self.state);
        agent.ledger.retain(|stream| agent.catalogue.knows(stream));
    }
}

impl Agent {
    pub(crate) fn new(catalogue: Arc<Catalogue>, follower: Follower, ledger: Ledger) -> Agent {
        Agent { catalogue, follower, ledger, lines: Vec::new(), lost: Vec::new(), gaps: Vec::new() }
    }

    /// One call of read; what it gives is settled.
    pub(crate) fn read(&mut self) -> Progress {
        let (ledger, lines) = (&mut self.ledger, &mut self.lines);
        let progress = self
            .follower
            .read(&mut |line| {
                ledger.settle(line.span, line.carried, Class::Delivered);
                lines.push(String::from_utf8_lossy(line.bytes).into_owned());
            })
            .unwrap();
        for lost in self.follower.lost() {
            self.ledger.lost(lost.reason, lost.span);
            self.lost.push(lost);
        }
        self.gaps.extend(self.follower.gaps());
        assert_eq!(self.ledger.faults(), 0);
        progress
    }

    pub(crate) fn drain(&mut self) {
        while self.read() == Progress::More {}
    }
}

pub(crate) fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// Replaces a file by its copy in gzip, as lumberjack does it.
pub(crate) fn compress(path: &Path) -> PathBuf {
    let zipped = PathBuf::from(format!("{}.gz", path.display()));
    fs::write(&zipped, gzip(&fs::read(path).unwrap())).unwrap();
    fs::remove_file(path).unwrap();
    zipped
}

pub(crate) fn events(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("{{\"kind\":\"Event\",\"n\":{number}}}")).collect()
}

pub(crate) fn text(numbers: std::ops::Range<u32>) -> String {
    events(numbers).iter().map(|line| format!("{line}\n")).collect()
}

/// Says where two lists of lines differ, and not all of them.
pub(crate) fn difference(got: &[String], wanted: &[String]) -> Option<String> {
    let at = got.iter().zip(wanted).position(|(got, wanted)| got != wanted);
    let at = at.or((got.len() != wanted.len()).then_some(got.len().min(wanted.len())))?;
    let show = |lines: &[String]| -> Vec<String> {
        let from = at.saturating_sub(1).min(lines.len());
        lines[from..].iter().take(4).map(|line| line.chars().take(40).collect()).collect()
    };
    let (left, right) = (show(got), show(wanted));
    Some(format!("line {at} of {} and {}: {left:?} instead of {right:?}", got.len(), wanted.len()))
}
