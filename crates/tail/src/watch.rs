//! Reading directories, and the thread that does it.
//!
//! A door. A scan once a second is the truth; the file watch only makes it happen sooner.
#![expect(clippy::disallowed_methods, reason = "door: directories and the clock of the scanning thread")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use notify::Watcher as _;
use rustix::time::{ClockId, clock_gettime};

use crate::catalogue::{Catalogue, Scan};
use crate::files::{self, Stat};
use crate::names;

/// How often the directories are read.
const EVERY: Duration = Duration::from_secs(1);

/// How long at least between the beginnings of two scans, however much a file watch says.
const AT_LEAST: Duration = Duration::from_millis(100);

/// And how many times the last scan's processor time, so that a huge directory does not cost a whole core.
const REST: u32 = 10;

/// And how many times as long as it took, so that a slow file system is not asked all the time.
const PAUSE: u32 = 2;

/// So many files that the file watch has named are kept. Of others the next thorough look finds what is new.
const HINTS: usize = 16_384;

impl Catalogue {
    /// Scans on a thread of its own until the handle is dropped, at once where a file watch says that it is worth it.
    pub fn spawn(self: &Arc<Catalogue>) -> io::Result<Watcher> {
        self.spawn_every(EVERY)
    }

    /// As [`Catalogue::spawn`], with another time between two scans that no file watch asked for.
    pub fn spawn_every(self: &Arc<Catalogue>, every: Duration) -> io::Result<Watcher> {
        self.spawn_with(Watch::new, every)
    }

    /// As [`Catalogue::spawn_every`] without a file watch: for file systems that have none.
    pub fn spawn_unwatched(self: &Arc<Catalogue>, every: Duration) -> io::Result<Watcher> {
        self.spawn_with(|_| Watch::default(), every)
    }

    fn spawn_with(
        self: &Arc<Catalogue>,
        watch: impl FnOnce(SyncSender<Wake>) -> Watch,
        every: Duration,
    ) -> io::Result<Watcher> {
        let (wake, woken) = mpsc::sync_channel(1);
        let catalogue = Arc::clone(self);
        let mut watch = watch(wake.clone());
        // Before the first look: of what is written after it, a hint comes.
        watch.follow(self.directories());
        let work = move || {
            loop {
                let (begun, used) = (Instant::now(), cpu());
                let full = catalogue.look(SystemTime::now()) == Scan::Full;
                let added = full && watch.follow(catalogue.directories());
                let rest = begun + rest(begun.elapsed(), cpu().saturating_sub(used), every);
                // What was written between the look and the watch gives no hint.
                if !added {
                    match woken.recv_timeout((begun + every).saturating_duration_since(Instant::now())) {
                        Ok(Wake::Look) => {}
                        Err(RecvTimeoutError::Timeout) => continue,
                        Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
                for path in watch.take_hints() {
                    catalogue.doubt(path);
                }
                if Instant::now() < rest {
                    // A busy log says so all the time: until the pause is over nobody listens. The look after it finds
                    // what happened meanwhile.
                    watch.follow(BTreeSet::new());
                    if pause(&woken, rest) == Woken::Stop {
                        return;
                    }
                    watch.follow(catalogue.directories());
                }
            }
        };
        let thread = std::thread::Builder::new().name("catalogue".to_owned()).spawn(work)?;
        Ok(Watcher { wake, thread: Some(thread) })
    }
}

/// From the beginning of a look that took so long, and so much processor time, to that of the next one, whatever a file
/// watch says.
fn rest(took: Duration, used: Duration, every: Duration) -> Duration {
    AT_LEAST.max(used * REST).max(took * PAUSE).min(every)
}

/// The processor time that this thread has used.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    Stop,
    No,
}

/// Waits until `end`, whatever a file watch says; or until it is to stop.
fn pause(woken: &Receiver<Wake>, end: Instant) -> Woken {
    loop {
        match woken.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Wake::Look) => {}
            Err(RecvTimeoutError::Timeout) => return Woken::No,
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return Woken::Stop,
        }
    }
}

pub(crate) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// The names in each directory, in order.
pub(crate) type Names = Vec<(PathBuf, Vec<String>)>;

/// What stands in the directories that a pattern means.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) names: Names,
    /// Every directory that was read for it, as it looked before; `None`: it was not there.
    read: Vec<(PathBuf, Option<Stat>)>,
    /// One could not be read.
    failed: bool,
    /// The directory is a pattern, too.
    globbed: bool,
    /// When it was read.
    at: Option<SystemTime>,
}

/// The longest step of a file system's clock (two seconds on FAT). What is done to a directory within one step gives it
/// the same time.
const STEP: Duration = Duration::from_secs(2);

impl Listing {
    /// Lists the directories that `pattern` means.
    pub(crate) fn read(pattern: &Path, now: SystemTime, problems: &mut BTreeMap<PathBuf, String>) -> Listing {
        let parent = pattern.parent().unwrap_or(Path::new(""));
        let globbed = is_glob(&parent.to_string_lossy());
        let mut listing = Listing { at: Some(now), globbed, ..Listing::default() };
        let dirs = listing.resolve(parent, problems);
        for dir in dirs {
            let mut names = listing.list(&dir, problems);
            names.sort_unstable();
            listing.names.push((dir, names));
        }
        listing
    }

    /// Whether it surely says what stands there now. A directory's times change with its names; but one that was
    /// changed shortly before it was read may have been changed again since, without a sign.
    pub(crate) fn stands(&self) -> bool {
        let Some(at) = self.at.filter(|_| !self.failed) else { return false };
        self.read.iter().all(|(dir, old)| match (files::stat(here(dir)), old) {
            (Ok(now), Some(old)) => now == *old && rested(old, at),
            (Err(error), None) => error.kind() == io::ErrorKind::NotFound,
            _ => false,
        })
    }

    /// The directories that were read.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.read.iter().filter(|(_, stat)| stat.is_some()).map(|(dir, _)| dir.as_path())
    }

    /// The directories that `pattern` means.
    fn resolve(&mut self, pattern: &Path, problems: &mut BTreeMap<PathBuf, String>) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::new()];
        for part in pattern.components() {
            let text = part.as_os_str().to_string_lossy();
            if !is_glob(&text) {
                found.iter_mut().for_each(|dir| dir.push(part));
                continue;
            }
            let mut next = Vec::new();
            for dir in &found {
                let names = self.list(dir, problems).into_iter().filter(|name| names::glob(&text, name));
                next.extend(names.map(|name| dir.join(name)).filter(|path| path.is_dir()));
            }
            next.sort();
            found = next;
        }
        found
    }

    fn list(&mut self, dir: &Path, problems: &mut BTreeMap<PathBuf, String>) -> Vec<String> {
        // Before it is read: what happens meanwhile must show.
        self.read.push((dir.to_owned(), files::stat(here(dir)).ok()));
        let names = std::fs::read_dir(here(dir)).and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name().into_string().ok())).collect::<io::Result<Vec<_>>>()
        });
        match names {
            // A name that is not UTF-8 is no log file's.
            Ok(names) => names.into_iter().flatten().collect(),
            // Not every directory that a `*` stands for has what comes behind it.
            Err(error) if self.globbed && error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                problems.insert(here(dir).to_owned(), error.to_string());
                self.failed = true;
                Vec::new()
            }
        }
    }
}

/// Whether what is done from `now` on gives another time than the one that `stat` has.
fn rested(stat: &Stat, now: SystemTime) -> bool {
    now.duration_since(stat.modified.max(stat.changed)).is_ok_and(|age| age >= STEP)
}

/// A path that is given relative to where the agent runs.
fn here(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}

/// The files in `names` that `pattern` and the rotations beside it mean, each with its live file's path.
pub(crate) fn candidates(pattern: &Path, names: &Names) -> Vec<(PathBuf, PathBuf)> {
    let wanted = pattern.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut files = Vec::new();
    for (dir, names) in names {
        for name in names {
            let backup = names::backup(name);
            let base = backup.as_ref().map_or(&name[..], |backup| &backup.base);
            if !names::glob(&wanted, base) && !names::glob(&wanted, name) {
                continue;
            }
            // lumberjack writes the final name in place and removes the plain file when it is done
            // (natefinch/lumberjack `lumberjack.go`, `compressLogFile`); so do logrotate and the kubelet.
            let (plain, compressed) = names::uncompressed(name);
            if compressed && names.binary_search_by(|name| name.as_str().cmp(plain)).is_ok() {
                continue;
            }
            files.push((dir.join(name), dir.join(base)));
        }
    }
    files
}

/// What wakes the scanning thread.
enum Wake {
    Look,
    Stop,
}

/// The scanning thread; it ends when this is dropped.
pub struct Watcher {
    wake: SyncSender<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // A full channel holds a wish to look, which is taken soon.
        let _ = self.wake.send(Wake::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A directory that is watched: by its real path, which two names of it share.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Watched {
    real: PathBuf,
    /// Another directory may take the path.
    device: u64,
    inode: u64,
}

/// The file watch: only ever a hint.
#[derive(Default)]
struct Watch {
    watcher: Option<notify::RecommendedWatcher>,
    dirs: BTreeMap<PathBuf, Watched>,
    /// The files that were named since they were last taken.
    named: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Watch {
    fn new(wake: SyncSender<Wake>) -> Watch {
        let named = Arc::new(Mutex::new(BTreeSet::new()));
        let names = Arc::clone(&named);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Opening a file is an event too: our own looks must not wake us.
            let Some(event) = event.ok().filter(|event| !event.kind.is_access()) else { return };
            let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
            if names.len() < HINTS {
                names.extend(event.paths);
            }
            drop(names);
            // A full channel already says it.
            let _ = wake.try_send(Wake::Look);
        });
        if let Err(error) = &watcher {
            tracing::debug!(%error, "no file watch, scanning every second");
        }
        Watch { watcher: watcher.ok(), dirs: BTreeMap::new(), named }
    }

    /// Watches `dirs` and no others. Where one cannot be watched, the scan finds what happens in it. Gives whether one
    /// was not watched before.
    fn follow(&mut self, dirs: BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let mut after: BTreeMap<PathBuf, Watched> = dirs
            .into_iter()
            .filter_map(|dir| {
                let real = std::fs::canonicalize(here(&dir)).ok()?;
                let Stat { device, inode, .. } = files::stat(&real).ok()?;
                Some((dir, Watched { real, device, inode }))
            })
            .collect();
        let all = |dirs: &BTreeMap<PathBuf, Watched>| -> Vec<Watched> { dirs.values().cloned().collect() };
        let (old, new) = (all(&self.dirs), all(&after));
        for gone in old.iter().filter(|dir| !new.contains(dir)) {
            // It is gone already where the directory is.
            let _ = watcher.unwatch(&gone.real);
        }
        let mut added = false;
        for dir in new.iter().filter(|dir| !old.contains(dir)) {
            match watcher.watch(&dir.real, notify::RecursiveMode::NonRecursive) {
                Ok(()) => added = true,
                Err(_) => after.retain(|_, other| other != dir),
            }
        }
        self.dirs = after;
        added
    }

    /// Takes the files that were named.
    fn take_hints(&self) -> BTreeSet<PathBuf> {
        let named = std::mem::take(&mut *self.named.lock().unwrap_or_else(PoisonError::into_inner));
        let known = |path: &PathBuf| -> Vec<PathBuf> {
            let (dir, name) = (path.parent(), path.file_name().unwrap_or_default());
            let dirs = self.dirs.iter().filter(|(_, watched)| Some(&*watched.real) == dir);
            dirs.map(|(dir, _)| dir.join(name)).collect()
        };
        named.iter().flat_map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn a_busy_file_does_not_make_it_look_all_the_time() {
        let millis = Duration::from_millis;
        let (few, many) = (AT_LEAST / REST.max(PAUSE), AT_LEAST);
        assert_eq!(rest(few, few, EVERY), AT_LEAST);
        assert_eq!(rest(few * 2, few * 2, EVERY), few * 2 * REST.max(PAUSE));
        assert_eq!(rest(many, many, EVERY), (many * REST.max(PAUSE)).min(EVERY));
        assert_eq!(rest(millis(7), millis(7), millis(5)), millis(5));
    }

    #[test]
    fn a_listing_stands_once_a_change_would_show() {
        let dir = tempfile::tempdir().unwrap();
        let pattern = dir.path().join("audit.log");
        let listing = |age: Duration| {
            let changed = files::stat(dir.path()).unwrap().changed;
            Listing::read(&pattern, changed + age, &mut BTreeMap::new())
        };
        // Within one step of the file system's clock another change may leave the same time.
        assert!(!listing(Duration::ZERO).stands());
        assert!(!listing(STEP / 2).stands());
        assert!(listing(STEP).stands());
        // A clock that is behind the file system's.
        assert!(!Listing::read(&pattern, SystemTime::UNIX_EPOCH, &mut BTreeMap::new()).stands());
        let hour = SystemTime::now() - Duration::from_secs(3600);
        fs::File::open(dir.path()).unwrap().set_modified(hour).unwrap();
        let listing = listing(STEP);
        fs::write(&pattern, "").unwrap();
        assert!(!listing.stands());
    }

    #[test]
    fn a_listing_of_many_directories_stands_as_long_as_each_of_them() {
        let root = tempfile::tempdir().unwrap();
        let later = SystemTime::now() + Duration::from_secs(3600);
        let hour = SystemTime::now() - Duration::from_secs(3600);
        let pattern = root.path().join("*/log/*.log");
        for pod in ["a", "b"] {
            fs::create_dir_all(root.path().join(pod).join("log")).unwrap();
        }
        let mut problems = BTreeMap::new();
        for change in ["a/log/0.log", "c", "c/log", "a/log"] {
            for dir in ["", "a", "b", "a/log", "b/log"] {
                fs::File::open(root.path().join(dir)).unwrap().set_modified(hour).unwrap();
            }
            let listing = Listing::read(&pattern, later, &mut problems);
            assert!(listing.stands() && problems.is_empty());
            match change {
                "a/log/0.log" => fs::write(root.path().join(change), "").unwrap(),
                "a/log" => fs::remove_dir_all(root.path().join(change)).unwrap(),
                _ => fs::create_dir(root.path().join(change)).unwrap(),
            }
            assert!(!listing.stands(), "{change}");
        }
        let missing = Listing::read(&root.path().join("d/audit.log"), later, &mut problems);
        assert!(!missing.stands() && problems.len() == 1);
    }

    /// A watch of `dirs`, and what it says.
    fn watch(dirs: &[&Path]) -> (Watch, Receiver<Wake>) {
        let (wake, woken) = mpsc::sync_channel(1);
        let mut watch = Watch::new(wake);
        assert!(watch.follow(dirs.iter().map(|dir| dir.to_path_buf()).collect()));
        (watch, woken)
    }

    /// What is named until `name` is among it.
    fn named(watch: &Watch, woken: &Receiver<Wake>, name: &Path) {
        let mut all = BTreeSet::new();
        while !all.contains(name) {
            assert!(woken.recv_timeout(Duration::from_secs(60)).is_ok(), "{all:?}");
            all.extend(watch.take_hints());
        }
    }

    #[test]
    fn writing_and_renaming_are_hints_and_reading_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (log, backup) = (dir.path().join("audit.log"), dir.path().join("audit.log.1"));
        let mut file = fs::File::create(&log).unwrap();
        let (mut watch, woken) = watch(&[dir.path()]);
        fs::read(&log).unwrap();
        file.write_all(b"line\n").unwrap();
        named(&watch, &woken, &log);
        fs::rename(&log, &backup).unwrap();
        named(&watch, &woken, &backup);
        // While nobody listens nothing is kept.
        assert!(!watch.follow(BTreeSet::new()));
        watch.take_hints();
        file.write_all(b"line\n").unwrap();
        assert!(watch.follow(BTreeSet::from([dir.path().to_owned()])));
        fs::write(dir.path().join("other"), "").unwrap();
        named(&watch, &woken, &dir.path().join("other"));
        assert!(!watch.take_hints().contains(&backup));
    }

    #[test]
    fn a_directory_that_came_back_is_watched_again() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("log");
        let dirs = BTreeSet::from([dir.clone()]);
        let (wake, woken) = mpsc::sync_channel(1);
        let mut watch = Watch::new(wake);
        assert!(!watch.follow(dirs.clone()));
        for _ in 0..3 {
            fs::create_dir(&dir).unwrap();
            // What was written in it before gave no hint: it has to be looked at once more, and only once.
            assert!(watch.follow(dirs.clone()));
            assert!(!watch.follow(dirs.clone()));
            fs::write(dir.join("audit.log"), "line\n").unwrap();
            named(&watch, &woken, &dir.join("audit.log"));
            fs::remove_dir_all(&dir).unwrap();
            assert!(!watch.follow(dirs.clone()));
        }
    }

    #[test]
    fn a_directory_under_two_names_stays_watched_under_one() {
        let parent = tempfile::tempdir().unwrap();
        let (dir, link) = (parent.path().join("log"), parent.path().join("link"));
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        let (mut watch, woken) = watch(&[&dir, &link]);
        assert!(!watch.follow(BTreeSet::from([link.clone()])));
        fs::write(dir.join("audit.log"), "").unwrap();
        named(&watch, &woken, &link.join("audit.log"));
    }
}
