//! The file catalogue: which streams exist, where their bytes are, and descriptors that keep unread ones alive.
//!
//! One [`Catalogue`] is shared by all consumers. A scan of the directories once a second is the truth; a
//! file watch only makes it happen sooner. It never waits for a consumer: they take a snapshot, and tell it how far
//! they are so that it knows what it may let go.
//!
//! Invariant: a file that was seen and that some consumer has not read to its end stays open, oldest first as far as
//! the limit on descriptors goes, unless the limits on held bytes force it out (then it is `released`, and reported).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use auditship_event::StreamId;

use crate::checkpoint::{Entry, Hash, State};
use crate::desk::Desk;
use crate::files::{Encoding, Held, Stat};
use crate::horizon::Stock;
use crate::lines::Format;
use crate::roster::{Group, Roster};
use crate::watch::is_glob;

/// Where a consumer without a checkpoint begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// With the oldest backup.
    #[default]
    Beginning,
    /// With the live file's last line that is not complete; backups are passed.
    End,
    /// With the oldest backup that was last written within this time. A file is begun at its beginning, so some
    /// lines may be older.
    Since(Duration),
}

/// A file input.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name in the configuration.
    pub name: String,
    /// The live file; `*` and `?` in any part. Backups beside it are found by themselves.
    pub path: PathBuf,
    /// How its lines stand in the file.
    pub format: Format,
    /// For consumers that have no checkpoint of it.
    pub start_at: StartAt,
    /// The limit on a line.
    pub max_line: usize,
}

/// How much may be held, and what the writer keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes on disk of files that no directory has any more.
    pub held_bytes: u64,
    /// Under this much free space of the file system, in percent, such files are released, one a scan.
    pub free_percent: u64,
    /// Files that are kept open although nobody reads them now: the live ones and the oldest unread ones. Files that
    /// no directory has any more count, but are never closed for its sake.
    pub descriptors: usize,
    /// How many backups the API server keeps (`--audit-log-maxbackup`). `None`: as many as were ever seen at once.
    pub backups: Option<usize>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { held_bytes: 2 << 30, free_percent: 10, descriptors: 256, backups: None }
    }
}

/// What a catalogue knows of itself, as of its last scan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Scans since the start.
    pub scans: u64,
    /// Live files that became backups since the start.
    pub rotations: u64,
    /// How often files may have come and gone unseen since the start; see [`crate::source::Gap`].
    pub gaps: u64,
    /// Times that the names of an input were read since the start.
    pub listings: u64,
    /// Times that a file was asked for what it looks like since the start.
    pub looks: u64,
    /// Files that are held although no directory has them.
    pub held_files: usize,
    /// Their bytes on disk.
    pub held_bytes: u64,
    /// Log files that are open, those included.
    pub descriptors: usize,
    /// One for each live file and its backups.
    pub inputs: Vec<InputFigures>,
}

/// What a catalogue knows of one live file and its backups.
#[derive(Clone, Debug, PartialEq)]
pub struct InputFigures {
    /// The input's name.
    pub input: String,
    /// The live file.
    pub live: PathBuf,
    /// Backups on disk.
    pub backups: usize,
    /// Their bytes on disk.
    pub backup_bytes: u64,
    /// The most backups that were there at once, over two scans.
    pub most_backups: usize,
    /// How fast the writer writes, over the last minutes; `None` before that is known.
    pub bytes_per_second: Option<f64>,
    /// The size at which the writer rotates, as far as backups tell; 0 before that is known.
    pub rotates_at: u64,
}

/// One stream as consumers see it.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) id: StreamId,
    /// Where to read it; `None`: nowhere.
    pub(crate) file: Option<Arc<Held>>,
    /// Its file stands at the live path.
    pub(crate) live: bool,
    /// It will not come back.
    pub(crate) gone: bool,
    /// Why what is unread of it would be lost: `deleted`, `released`, `truncated`.
    pub(crate) reason: &'static str,
    /// Its end was not seen: more may have been written, here and in files after it.
    pub(crate) edge: bool,
    /// There may be more of it than `length`.
    pub(crate) endless: bool,
    /// It was settled by everyone before its file went away.
    pub(crate) buried: bool,
    /// What it begins with.
    pub(crate) head: Hash,
    /// How many backups are older; of a live file: how many there are. `None`: it has no name any more.
    pub(crate) rank: Option<usize>,
    /// As far as it is known; uncompressed.
    pub(crate) length: u64,
    /// For how long its file has not changed.
    pub(crate) quiet: Duration,
    /// Its last known path.
    pub(crate) path: PathBuf,
}

/// The streams of one live file and its backups, oldest first.
#[derive(Clone)]
pub(crate) struct GroupView {
    pub(crate) group: Group,
    pub(crate) streams: Vec<Arc<View>>,
    /// The backups on disk, and how fast they come.
    pub(crate) stock: Stock,
}

/// What one scan found.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    /// Grows with every full scan: between two of them live files have grown, no more.
    pub(crate) number: u64,
    pub(crate) taken: Option<SystemTime>,
    pub(crate) groups: Vec<Arc<GroupView>>,
}

/// How much the consumers have told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// Grows when one joins or leaves.
    pub(crate) members: u64,
    /// Grows when one has got on.
    pub(crate) reached: u64,
}

/// How a scan was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// Only what could have changed was looked at.
    Glance,
    Full,
}

/// How far a consumer is, as the catalogue needs it.
#[derive(Clone, Default)]
pub(crate) struct Reach {
    pub(crate) read: BTreeMap<StreamId, u64>,
    /// Read to the end; of a compressed file only its reader knows where that is.
    pub(crate) done: BTreeSet<StreamId>,
    pub(crate) committed: BTreeMap<StreamId, u64>,
}

#[derive(Default)]
struct Shared {
    snapshot: Arc<Snapshot>,
    figures: Figures,
    consumers: BTreeMap<u64, Reach>,
    next_consumer: u64,
    pulse: Pulse,
    /// Grows with everything that a reader may want to know.
    news: u64,
}

/// The file catalogue.
pub struct Catalogue {
    inputs: Vec<Input>,
    /// The inputs that the state log knew a stream of.
    remembered: BTreeSet<usize>,
    damaged: bool,
    limits: Limits,
    desk: Mutex<Desk>,
    shared: Mutex<Shared>,
    changed: Condvar,
}

impl Catalogue {
    /// A catalogue that knows what `state` knows. Nothing is looked at before [`Catalogue::scan`].
    pub fn new(inputs: Vec<Input>, state: &State, limits: Limits) -> Arc<Catalogue> {
        let names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
        let known = |name: &String| state.streams.values().any(|record| record.input == *name);
        let remembered = (0..names.len()).filter(|input| known(&names[*input])).collect();
        let desk = Desk::new(Roster::new(names, state));
        Arc::new(Catalogue {
            inputs,
            remembered,
            damaged: state.damaged,
            limits,
            desk: Mutex::new(desk),
            shared: Mutex::new(Shared::default()),
            changed: Condvar::new(),
        })
    }

    /// Goes on holding what `before` holds, a catalogue that is not scanned any more. To be called before the first
    /// scan: a state log knows of streams, not of the descriptors of files that no directory has.
    pub fn adopt(&self, before: &Catalogue) {
        let held = before.desk().give();
        self.desk().adopt(held);
    }

    /// Looks once at all that may have changed.
    pub fn scan(&self, now: SystemTime) {
        self.look(now);
    }

    pub(crate) fn look(&self, now: SystemTime) -> Scan {
        let pulse = self.shared().pulse;
        if self.glance(pulse, now) {
            return Scan::Glance;
        }
        let consumers = self.shared().consumers.clone();
        let (groups, figures) = self.desk().scan(&self.inputs, self.limits, &consumers, pulse, now);
        let mut shared = self.shared();
        shared.figures = figures;
        let number = shared.snapshot.number + 1;
        if differs(&shared.snapshot.groups, &groups) {
            shared.news += 1;
            self.changed.notify_all();
        }
        shared.snapshot = Arc::new(Snapshot { number, taken: Some(now), groups });
        Scan::Full
    }

    /// A scan where nothing has changed but the lengths of live files; else `false`.
    fn glance(&self, pulse: Pulse, now: SystemTime) -> bool {
        let mut desk = self.desk();
        let Some(grown) = desk.glance(pulse, now) else { return false };
        let snapshot = self.snapshot();
        let regrown = (!grown.is_empty()).then(|| {
            let mut groups = snapshot.groups.clone();
            grown.iter().for_each(|grown| desk.regrow(grown, &mut groups, now));
            Arc::new(Snapshot { number: snapshot.number, taken: Some(now), groups })
        });
        let effort = desk.effort();
        drop(desk);
        let mut shared = self.shared();
        shared.figures.scans += 1;
        shared.figures.looks = effort.looks;
        if let Some(snapshot) = regrown {
            shared.snapshot = snapshot;
            shared.news += 1;
            self.changed.notify_all();
        }
        true
    }

    /// A file watch says that this file was written to: the next scan looks at it, also where it rests.
    pub fn doubt(&self, path: PathBuf) {
        self.desk().doubt(path);
    }

    /// The state log's records that changed since the last call. Append them before any position that was asked for
    /// earlier: a position must never name a stream that the log does not know.
    pub fn changes(&self) -> Vec<Entry> {
        self.desk().roster.changes()
    }

    /// The paths that could not be read at the last scan, and why.
    pub fn problems(&self) -> BTreeMap<PathBuf, String> {
        self.desk().problems().clone()
    }

    /// Grows with each full scan; between two of them [`Catalogue::knows`] gives the same answers.
    pub fn full_scans(&self) -> u64 {
        self.snapshot().number
    }

    /// Whether a stream is still known; see [`crate::Ledger::retain`].
    pub fn knows(&self, stream: StreamId) -> bool {
        self.desk().roster.known(stream).is_some()
    }

    /// The streams that are known, with their files' last paths and lengths.
    pub fn streams(&self) -> Vec<(StreamId, PathBuf, u64)> {
        let snapshot = self.snapshot();
        let views = snapshot.groups.iter().flat_map(|group| &group.streams);
        views.map(|view| (view.id, view.path.clone(), view.length)).collect()
    }

    /// The bytes on disk of the files that are held although no directory has them.
    pub fn held_bytes(&self) -> u64 {
        self.shared().figures.held_bytes
    }

    /// What the last scan found, in figures.
    pub fn figures(&self) -> Figures {
        self.shared().figures.clone()
    }

    /// How long until the writer deletes something that some consumer has not settled: the least over all consumers;
    /// see [`crate::follow::Figures::horizon`].
    pub fn horizon(&self, now: SystemTime) -> Option<Duration> {
        let shared = self.shared();
        let consumers = shared.consumers.values();
        consumers.filter_map(|reach| horizon(&shared.snapshot, reach, now)).min()
    }

    pub(crate) fn horizon_of(&self, id: u64, now: SystemTime) -> Option<Duration> {
        let shared = self.shared();
        horizon(&shared.snapshot, shared.consumers.get(&id)?, now)
    }

    pub(crate) fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shared().snapshot)
    }

    /// Whether the state log knew a stream of this input when the catalogue was made.
    pub(crate) fn remembers(&self, input: usize) -> bool {
        self.remembered.contains(&input)
    }

    /// Where a consumer begins that has no checkpoint: with a damaged state log nobody knows whether it had one.
    pub(crate) fn start_at(&self, input: usize) -> StartAt {
        if self.damaged { StartAt::Beginning } else { self.inputs[input].start_at }
    }

    pub(crate) fn join(&self, reach: Reach) -> u64 {
        let mut shared = self.shared();
        let id = shared.next_consumer;
        shared.next_consumer += 1;
        shared.pulse.members += 1;
        shared.consumers.insert(id, reach);
        id
    }

    pub(crate) fn leave(&self, id: u64) {
        let mut shared = self.shared();
        shared.consumers.remove(&id);
        shared.pulse.members += 1;
    }

    pub(crate) fn reached(&self, id: u64, update: impl FnOnce(&mut Reach)) {
        let mut shared = self.shared();
        shared.pulse.reached += 1;
        if let Some(reach) = shared.consumers.get_mut(&id) {
            update(reach);
        }
    }

    /// A file turned out not to be the stream that its head says: it becomes another one.
    pub(crate) fn disown(&self, stream: StreamId, file: &Stat) {
        self.desk().disown(stream, file);
    }

    /// Grows when a consumer has got on.
    pub(crate) fn reaches(&self) -> u64 {
        self.shared().pulse.reached
    }

    pub(crate) fn news(&self) -> u64 {
        self.shared().news
    }

    /// Waits until there is other news than `seen`, or for `timeout`.
    pub(crate) fn wait(&self, seen: u64, timeout: Duration) {
        let shared = self.shared();
        let waited = self.changed.wait_timeout_while(shared, timeout, |shared| shared.news == seen);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Wakes all who wait.
    pub fn wake(&self) {
        self.shared().news += 1;
        self.changed.notify_all();
    }

    pub(crate) fn directories(&self) -> BTreeSet<PathBuf> {
        let live = self.inputs.iter().filter_map(|input| input.path.parent().map(Path::to_owned));
        let fixed = live.filter(|dir| !is_glob(&dir.to_string_lossy()));
        fixed.chain(self.desk().directories()).collect()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time until the writer deletes a backup that `reach` has not settled.
fn horizon(snapshot: &Snapshot, reach: &Reach, now: SystemTime) -> Option<Duration> {
    let group = |group: &GroupView| {
        let settled = |view: &Arc<View>| {
            let committed = reach.committed.get(&view.id).is_some_and(|at| *at >= view.length);
            let plain = view.file.as_ref().is_some_and(|held| held.encoding == Encoding::Plain);
            committed && (plain || reach.done.contains(&view.id))
        };
        let backups = group.streams.iter().filter(|view| !view.live && !settled(view));
        group.stock.horizon(backups.filter_map(|view| view.rank).next(), now)
    };
    snapshot.groups.iter().filter_map(|view| group(view)).min()
}

/// Whether a reader that waits should look again.
fn differs(old: &[Arc<GroupView>], new: &[Arc<GroupView>]) -> bool {
    let key = |view: &Arc<View>| {
        let stat = view.file.as_ref().map(|held| held.stat);
        (view.id, stat, view.live, view.gone, view.length)
    };
    let old = old.iter().flat_map(|group| &group.streams).map(key);
    old.ne(new.iter().flat_map(|group| &group.streams).map(key))
}
