//! The file catalogue: which streams exist, where their bytes are, and descriptors that keep unread ones alive.
//!
//! One [`Catalogue`] is shared by all consumers. A scan of the directories once a second is the truth; a
//! file watch only makes it happen sooner. It never waits for a consumer: they take a snapshot, and tell it how far
//! they are so that it knows what it may let go.
//!
//! Invariant: a file that was seen and that some consumer has not read to its end stays open, unless the limits on
//! held bytes force it out (then it is `released`, and reported).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use auditship_event::StreamId;

use crate::checkpoint::{Entry, State};
use crate::files::{self, Encoding, Held, Stat};
use crate::lines::Format;
use crate::names;
use crate::roster::{Complete, Contents, Group, Roster, Seen};
use crate::watch::{candidates, is_glob};

/// How often the directories are read again when their names change under a look.
const LOOKS: usize = 3;

/// Scans in a row without a file after which a stream is gone: a rename may fall between two looks.
const GONE_AFTER: u32 = 2;

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

/// How much may be held of files that no directory has any more.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes on disk.
    pub held_bytes: u64,
    /// Under this much free space of the file system, in percent, held files are released.
    pub free_percent: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { held_bytes: 2 << 30, free_percent: 10 }
    }
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
    /// Its file was let go for the limits' sake.
    pub(crate) released: bool,
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
    pub(crate) streams: Vec<View>,
}

/// What one scan found.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) number: u64,
    pub(crate) taken: Option<SystemTime>,
    pub(crate) groups: Vec<GroupView>,
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
    consumers: BTreeMap<u64, Reach>,
    next_consumer: u64,
    /// Grows with everything that a reader may want to know.
    news: u64,
}

/// A file as it was at the last look.
struct Look {
    held: Arc<Held>,
    head: Vec<u8>,
    /// Since when it looks like this.
    since: SystemTime,
}

/// What only the scan touches.
struct Desk {
    roster: Roster,
    looks: HashMap<PathBuf, Look>,
    holdings: BTreeMap<StreamId, Arc<Held>>,
    released: BTreeSet<StreamId>,
    /// Pairs of files that were compared, by how they looked.
    compared: HashMap<(Stat, Stat), bool>,
    problems: BTreeMap<PathBuf, String>,
}

/// The file catalogue.
pub struct Catalogue {
    inputs: Vec<Input>,
    /// The inputs that the state log knew a stream of.
    remembered: BTreeSet<usize>,
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
        let desk = Desk {
            roster: Roster::new(names, state),
            looks: HashMap::new(),
            holdings: BTreeMap::new(),
            released: BTreeSet::new(),
            compared: HashMap::new(),
            problems: BTreeMap::new(),
        };
        Arc::new(Catalogue {
            inputs,
            remembered,
            limits,
            desk: Mutex::new(desk),
            shared: Mutex::new(Shared::default()),
            changed: Condvar::new(),
        })
    }

    /// Looks at all directories once.
    pub fn scan(&self, now: SystemTime) {
        let consumers = self.shared().consumers.clone();
        let mut desk = self.desk();
        let desk = &mut *desk;
        let (seen, helds, complete) = desk.look(&self.inputs, now);
        let mut contents = Files { helds: &helds, holdings: &desk.holdings, compared: &mut desk.compared };
        let found = desk.roster.scan(&seen, complete, &mut contents);
        desk.compared.retain(|(one, other), _| {
            let there = |stat: &Stat| helds.iter().any(|held| held.stat == *stat);
            there(one) && there(other)
        });
        desk.measure(&consumers);
        desk.hold(&seen, &helds, &found, &consumers);
        desk.release(self.limits);
        desk.retire(&consumers);
        let groups = desk.view(&seen, &found, now);
        let mut shared = self.shared();
        let number = shared.snapshot.number + 1;
        if differs(&shared.snapshot.groups, &groups) {
            shared.news += 1;
            self.changed.notify_all();
        }
        shared.snapshot = Arc::new(Snapshot { number, taken: Some(now), groups });
    }

    /// The state log's records that changed since the last call. Append them before any position that was asked for
    /// earlier: a position must never name a stream that the log does not know.
    pub fn changes(&self) -> Vec<Entry> {
        self.desk().roster.changes()
    }

    /// The paths that could not be read at the last scan, and why.
    pub fn problems(&self) -> BTreeMap<PathBuf, String> {
        self.desk().problems.clone()
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
        self.desk().unlinked().map(|(_, held)| held.stat.size).sum()
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

    pub(crate) fn join(&self, reach: Reach) -> u64 {
        let mut shared = self.shared();
        let id = shared.next_consumer;
        shared.next_consumer += 1;
        shared.consumers.insert(id, reach);
        id
    }

    pub(crate) fn leave(&self, id: u64) {
        self.shared().consumers.remove(&id);
    }

    pub(crate) fn reached(&self, id: u64, update: impl FnOnce(&mut Reach)) {
        if let Some(reach) = self.shared().consumers.get_mut(&id) {
            update(reach);
        }
    }

    /// What a stream was identified by turned out to be wrong: its file becomes another stream.
    pub(crate) fn disown(&self, stream: StreamId) {
        let mut desk = self.desk();
        desk.roster.disown(stream);
        desk.holdings.remove(&stream);
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
        let desk = self.desk();
        let found = desk.looks.keys().filter_map(|path| path.parent().map(Path::to_owned));
        fixed.chain(found).collect()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files behind one scan.
struct Files<'a> {
    helds: &'a [Arc<Held>],
    holdings: &'a BTreeMap<StreamId, Arc<Held>>,
    compared: &'a mut HashMap<(Stat, Stat), bool>,
}

impl Contents for Files<'_> {
    fn same(&mut self, one: usize, other: usize) -> bool {
        let (one, other): (&Held, &Held) = (&self.helds[one], &self.helds[other]);
        let known = self.compared.entry((one.stat, other.stat));
        *known.or_insert_with(|| files::same_content(one, other).unwrap_or(false))
    }

    fn held(&mut self, stream: StreamId) -> Option<Vec<u8>> {
        self.holdings.get(&stream)?.head().ok()
    }
}

impl Desk {
    /// Looks at every file of every input. A rotation in the middle of it would show the new live file without the
    /// backup before it, so it is done again when the names have changed.
    fn look(&mut self, inputs: &[Input], now: SystemTime) -> (Vec<Seen>, Vec<Arc<Held>>, Complete) {
        let mut problems = BTreeMap::new();
        let list = |problems: &mut _| -> Vec<_> {
            inputs.iter().map(|input| candidates(&input.path, problems)).collect()
        };
        let mut files = list(&mut problems);
        for _ in 0..LOOKS {
            let looked = self.look_through(&files, &mut problems, now);
            let again = list(&mut problems);
            if again == files {
                return self.note(looked, problems, Complete::Yes);
            }
            files = again;
        }
        let looked = self.look_through(&files, &mut problems, now);
        self.note(looked, problems, Complete::No)
    }

    fn look_through(
        &mut self,
        files: &[Vec<(PathBuf, PathBuf)>],
        problems: &mut BTreeMap<PathBuf, String>,
        now: SystemTime,
    ) -> (Vec<Seen>, Vec<Arc<Held>>) {
        let (mut seen, mut helds) = (Vec::new(), Vec::new());
        let mut looks = HashMap::new();
        // Hard links, symbolic links, overlapping inputs: one file is read once.
        let mut places = BTreeSet::new();
        for (input, files) in files.iter().enumerate() {
            for (path, live) in files {
                if looks.contains_key(path) {
                    continue;
                }
                let look = match self.look_at(path, now) {
                    Ok(look) => look,
                    // Renamed or removed since the directory was read; the next scan knows more.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => {
                        problems.insert(path.clone(), error.to_string());
                        continue;
                    }
                };
                let stat = look.held.stat;
                if places.insert((stat.device, stat.inode)) {
                    seen.push(seen_of(input, path, live.clone(), &look));
                    helds.push(Arc::clone(&look.held));
                }
                looks.insert(path.clone(), look);
            }
        }
        self.looks = looks;
        (seen, helds)
    }

    fn note(
        &mut self,
        (seen, helds): (Vec<Seen>, Vec<Arc<Held>>),
        problems: BTreeMap<PathBuf, String>,
        complete: Complete,
    ) -> (Vec<Seen>, Vec<Arc<Held>>, Complete) {
        for (path, problem) in &problems {
            if !self.problems.contains_key(path) {
                tracing::warn!(path = %path.display(), error = %problem, "cannot read a log file or directory");
            }
        }
        let complete = if problems.is_empty() { complete } else { Complete::No };
        self.problems = problems;
        (seen, helds, complete)
    }

    fn look_at(&mut self, path: &Path, now: SystemTime) -> io::Result<Look> {
        let old = self.looks.remove(path);
        if let Some(old) =
            old.as_ref().filter(|old| files::stat(path).is_ok_and(|stat| stat == old.held.stat))
        {
            return Ok(Look { held: Arc::clone(&old.held), head: old.head.clone(), since: old.since });
        }
        let mut fresh = Held::open(path)?;
        if let Some(old) = old
            && (old.held.stat.device, old.held.stat.inode) == (fresh.stat.device, fresh.stat.inode)
        {
            // One descriptor a file, however long it lives.
            fresh.file = Arc::clone(&old.held.file);
        }
        let head = fresh.head()?;
        Ok(Look { held: Arc::new(fresh), head, since: now })
    }

    /// A compressed stream's length is known when it was read.
    fn measure(&mut self, consumers: &BTreeMap<u64, Reach>) {
        for (stream, offset) in consumers.values().flat_map(|reach| &reach.read) {
            self.roster.measured(*stream, *offset);
        }
    }

    /// Decides which descriptor stands for each stream.
    fn hold(
        &mut self,
        seen: &[Seen],
        helds: &[Arc<Held>],
        found: &[Option<StreamId>],
        consumers: &BTreeMap<u64, Reach>,
    ) {
        let key = |stat: &Stat| (stat.device, stat.inode);
        let owner: HashMap<_, _> =
            (0..seen.len()).filter_map(|index| Some((key(&helds[index].stat), found[index]?))).collect();
        // A descriptor whose file now is another stream was truncated under us.
        self.holdings.retain(|stream, held| owner.get(&key(&held.stat)).is_none_or(|other| other == stream));
        for (index, stream) in found.iter().enumerate() {
            let Some(stream) = *stream else { continue };
            let visible = &helds[index];
            self.released.remove(&stream);
            let keep = self.holdings.get(&stream).is_some_and(|held| {
                // A plain file is cheaper to read than its copy in gzip, as long as someone reads it.
                key(&held.stat) != key(&visible.stat)
                    && held.encoding == Encoding::Plain
                    && visible.encoding != Encoding::Plain
                    && !all_read(consumers, stream, held)
            });
            if !keep {
                self.holdings.insert(stream, Arc::clone(visible));
            }
        }
        let visible: BTreeSet<StreamId> = found.iter().flatten().copied().collect();
        let last: BTreeSet<StreamId> =
            self.roster.groups().filter_map(|(_, order)| order.last().copied()).collect();
        self.holdings.retain(|stream, held| {
            if let Ok(now) = held.look()
                && now.stat != held.stat
            {
                *held = Arc::new(now);
            }
            // The last one may still be written to, though its name is gone.
            visible.contains(stream) || last.contains(stream) || !all_read(consumers, *stream, held)
        });
    }

    fn unlinked(&self) -> impl Iterator<Item = (StreamId, &Arc<Held>)> {
        let visible: BTreeSet<(u64, u64)> =
            self.looks.values().map(|look| (look.held.stat.device, look.held.stat.inode)).collect();
        let hidden = move |held: &Held| !visible.contains(&(held.stat.device, held.stat.inode));
        self.holdings.iter().filter(move |(_, held)| hidden(held)).map(|(stream, held)| (*stream, held))
    }

    /// Lets held files go, oldest first, when they are too many bytes or the disk is full.
    fn release(&mut self, limits: Limits) {
        let unlinked: BTreeMap<StreamId, u64> =
            self.unlinked().map(|(stream, held)| (stream, held.stat.size)).collect();
        let mut bytes: u64 = unlinked.values().sum();
        let order: Vec<StreamId> = self.roster.groups().flat_map(|(_, order)| order).copied().collect();
        for stream in order.into_iter().filter(|stream| unlinked.contains_key(stream)) {
            let Some(held) = self.holdings.get(&stream) else { continue };
            let full = rustix::fs::fstatvfs(&held.file).is_ok_and(|disk| {
                disk.f_bavail.saturating_mul(100) < disk.f_blocks.saturating_mul(limits.free_percent)
            });
            if bytes <= limits.held_bytes && !full {
                return;
            }
            bytes -= unlinked[&stream];
            tracing::warn!(%stream, bytes = unlinked[&stream], full, "unread deleted file released");
            self.holdings.remove(&stream);
            self.released.insert(stream);
        }
    }

    /// Forgets the streams that have no file and that every consumer has settled.
    fn retire(&mut self, consumers: &BTreeMap<u64, Reach>) {
        if consumers.is_empty() {
            return;
        }
        let done = |stream: &StreamId| {
            let Some(known) = self.roster.known(*stream) else { return false };
            let settled =
                |reach: &Reach| reach.committed.get(stream).is_some_and(|at| *at >= known.record.length);
            known.missing >= GONE_AFTER
                && !self.holdings.contains_key(stream)
                && consumers.values().all(settled)
        };
        let streams = self.roster.groups().flat_map(|(_, order)| order).copied();
        let done: Vec<StreamId> = streams.filter(done).collect();
        for stream in done {
            self.released.remove(&stream);
            self.roster.retire(stream);
        }
    }

    fn view(&self, seen: &[Seen], found: &[Option<StreamId>], now: SystemTime) -> Vec<GroupView> {
        let at: HashMap<StreamId, usize> =
            found.iter().enumerate().filter_map(|(index, stream)| Some(((*stream)?, index))).collect();
        let view = |stream: &StreamId| {
            let known = self.roster.known(*stream)?;
            let file = self.holdings.get(stream).cloned();
            let place = at.get(stream).map(|index| &seen[*index]);
            let released = self.released.contains(stream);
            let since = file.as_ref().map_or(now, |held| {
                let looked = self.looks.get(&held.path).map_or(now, |look| look.since);
                looked.min(held.stat.modified)
            });
            Some(View {
                id: *stream,
                live: place.is_some_and(|seen| seen.stamp.is_none()),
                gone: file.is_none() && (released || known.missing >= GONE_AFTER),
                released,
                length: file.as_ref().map_or(0, |held| content_end(held)).max(known.record.length),
                quiet: now.duration_since(since).unwrap_or_default(),
                path: PathBuf::from(&known.record.file),
                file,
            })
        };
        let groups = self.roster.groups();
        groups
            .map(|(group, order)| GroupView {
                group: group.clone(),
                streams: order.iter().filter_map(view).collect(),
            })
            .collect()
    }
}

/// The length of the content, as far as the size of the file tells.
fn content_end(held: &Held) -> u64 {
    if held.encoding == Encoding::Plain { held.stat.size } else { 0 }
}

fn all_read(consumers: &BTreeMap<u64, Reach>, stream: StreamId, held: &Held) -> bool {
    let read = |reach: &Reach| match held.encoding {
        Encoding::Plain => reach.read.get(&stream).is_some_and(|at| *at >= held.stat.size),
        Encoding::Gzip | Encoding::Zstd => reach.done.contains(&stream),
    };
    !consumers.is_empty() && consumers.values().all(read)
}

/// Whether a reader that waits should look again.
fn differs(old: &[GroupView], new: &[GroupView]) -> bool {
    let key = |view: &View| {
        let stat = view.file.as_ref().map(|held| held.stat);
        (view.id, stat, view.live, view.gone, view.length)
    };
    let old = old.iter().flat_map(|group| &group.streams).map(key);
    old.ne(new.iter().flat_map(|group| &group.streams).map(key))
}

fn seen_of(input: usize, path: &Path, live: PathBuf, look: &Look) -> Seen {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let plain = look.held.encoding == Encoding::Plain && !names::uncompressed(&name).1;
    Seen {
        group: Group { input, live },
        path: path.to_owned(),
        stamp: names::backup(&name).map(|backup| backup.stamp),
        device: look.held.stat.device,
        inode: look.held.stat.inode,
        length: plain.then_some(look.held.stat.size),
        modified: look.held.stat.modified,
        head: look.head.clone(),
    }
}
