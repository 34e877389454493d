//! Reading directories, and the thread that does it.
//!
//! A door. A scan once a second is the truth; the file watch only makes it happen sooner.
#![expect(clippy::disallowed_methods, reason = "door: directories and the clock of the scanning thread")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
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

/// How many hints are taken at once: as many as the kernel keeps (`/proc/sys/fs/inotify/max_queued_events`). A writer
/// may be faster than who takes them.
const HINTS: usize = 16_384;

impl Catalogue {
    /// Scans on a thread of its own until the handle is dropped, at once where a file watch says that it is worth it.
    pub fn spawn(self: &Arc<Catalogue>) -> io::Result<Watcher> {
        self.spawn_every(EVERY)
    }

    /// As [`Catalogue::spawn`], with another time between two scans that no file watch asked for.
    pub fn spawn_every(self: &Arc<Catalogue>, every: Duration) -> io::Result<Watcher> {
        self.spawn_with(Watch::new(), every)
    }

    /// As [`Catalogue::spawn_every`] without a file watch: for file systems that have none.
    pub fn spawn_unwatched(self: &Arc<Catalogue>, every: Duration) -> io::Result<Watcher> {
        self.spawn_with(Watch { inotify: None, dirs: BTreeMap::new() }, every)
    }

    fn spawn_with(self: &Arc<Catalogue>, mut watch: Watch, every: Duration) -> io::Result<Watcher> {
        let (stopped, stop) = io::pipe()?;
        let catalogue = Arc::clone(self);
        // Before the first look: of what is written after it, a hint comes.
        watch.follow(self.directories());
        let work = move || {
            loop {
                let (begun, used) = (Instant::now(), cpu());
                let full = catalogue.look(SystemTime::now()) == Scan::Full;
                let added = full && watch.follow(catalogue.directories());
                // A busy log says so all the time. While nobody listens, the kernel keeps one hint of many.
                let rest = rest(begun.elapsed(), cpu().saturating_sub(used), every);
                if wait(&stopped, None, begun + rest) == Woken::Stop {
                    return;
                }
                // What was written between the look and the watch gives no hint.
                if added {
                    continue;
                }
                if wait(&stopped, watch.inotify.as_ref(), begun + every) == Woken::Stop {
                    return;
                }
                for path in watch.take_hints() {
                    catalogue.doubt(path);
                }
            }
        };
        let thread = std::thread::Builder::new().name("catalogue".to_owned()).spawn(work)?;
        Ok(Watcher { stop: Some(stop), thread: Some(thread) })
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

/// Waits until a file watch has a hint, or until `end`; or until it is to stop.
fn wait(stopped: &PipeReader, hints: Option<&OwnedFd>, end: Instant) -> Woken {
    let left = end.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
    let fds = [Some(PollFd::new(stopped, PollFlags::IN)), hints.map(|fd| PollFd::new(fd, PollFlags::IN))];
    let mut fds: Vec<PollFd<'_>> = fds.into_iter().flatten().collect();
    // A signal only makes it look sooner.
    let _ = poll(&mut fds, Some(&timeout));
    // Its other end was closed.
    if fds[0].revents().is_empty() { Woken::No } else { Woken::Stop }
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

/// The scanning thread; it ends when this is dropped.
pub struct Watcher {
    /// Closing it says so.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The file watch: only ever a hint.
struct Watch {
    inotify: Option<OwnedFd>,
    /// By their numbers, which two paths of one directory share.
    dirs: BTreeMap<PathBuf, i32>,
}

impl Watch {
    fn new() -> Watch {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        if let Err(error) = &inotify {
            tracing::debug!(%error, "no file watch, scanning every second");
        }
        Watch { inotify: inotify.ok(), dirs: BTreeMap::new() }
    }

    /// Watches `dirs` and no others. Where one cannot be watched, the scan finds what happens in it. Gives whether one
    /// was not watched before.
    fn follow(&mut self, dirs: BTreeSet<PathBuf>) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        // Opening and reading are left out: our own looks must not wake us.
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
        let kinds = names | WatchFlags::MODIFY | WatchFlags::ONLYDIR;
        // Asked for again each time: another directory may have taken the path.
        let watched: BTreeMap<PathBuf, i32> = dirs
            .into_iter()
            .filter_map(|dir| {
                let number = inotify::add_watch(inotify, here(&dir), kinds).ok()?;
                Some((dir, number))
            })
            .collect();
        let wanted: BTreeSet<i32> = watched.values().copied().collect();
        let before = std::mem::replace(&mut self.dirs, watched);
        let before: BTreeSet<i32> = before.into_values().collect();
        for gone in before.difference(&wanted) {
            // It is gone already where the directory is.
            let _ = inotify::remove_watch(inotify, *gone);
        }
        wanted.difference(&before).next().is_some()
    }

    /// Takes all hints that are there; gives the files that they name.
    fn take_hints(&self) -> BTreeSet<PathBuf> {
        let mut named = BTreeSet::new();
        let Some(inotify) = &self.inotify else { return named };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        for _ in 0..HINTS {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    let dirs = self.dirs.iter().filter(|(_, number)| **number == event.wd());
                    named.extend(dirs.filter_map(|(dir, _)| Some(dir.join(name?))));
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        named
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

    #[test]
    fn a_busy_file_is_one_hint() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = fs::File::create(dir.path().join("audit.log")).unwrap();
        let mut watch = Watch::new();
        watch.follow(BTreeSet::from([dir.path().to_owned()]));
        assert!(watch.take_hints().is_empty());
        for _ in 0..1000 {
            file.write_all(b"line\n").unwrap();
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(watch.inotify.as_ref().unwrap(), &mut buffer);
        assert!(reader.next().is_ok());
        assert_eq!(reader.next().err(), Some(Errno::AGAIN));
        file.write_all(b"line\n").unwrap();
        assert_eq!(watch.take_hints(), BTreeSet::from([dir.path().join("audit.log")]));
        // Neither opening nor reading is one.
        fs::read(dir.path().join("audit.log")).unwrap();
        assert!(watch.take_hints().is_empty());
        fs::rename(dir.path().join("audit.log"), dir.path().join("audit.log.1")).unwrap();
        assert_eq!(watch.take_hints().len(), 2);
    }

    #[test]
    fn a_directory_that_came_back_is_watched_again() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("log");
        let dirs = BTreeSet::from([dir.clone()]);
        let mut watch = Watch::new();
        watch.follow(dirs.clone());
        for _ in 0..3 {
            fs::create_dir(&dir).unwrap();
            // What was written in it before gave no hint: it has to be looked at once more, and only once.
            assert!(watch.follow(dirs.clone()));
            assert!(!watch.follow(dirs.clone()));
            watch.take_hints();
            fs::write(dir.join("audit.log"), "line\n").unwrap();
            assert!(!watch.take_hints().is_empty());
            fs::remove_dir_all(&dir).unwrap();
            assert!(!watch.follow(dirs.clone()));
        }
        watch.follow(BTreeSet::new());
        assert!(watch.dirs.is_empty());
    }

    #[test]
    fn a_directory_under_two_names_stays_watched_under_one() {
        let parent = tempfile::tempdir().unwrap();
        let (dir, link) = (parent.path().join("log"), parent.path().join("link"));
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        let mut watch = Watch::new();
        watch.follow(BTreeSet::from([dir.clone(), link.clone()]));
        watch.follow(BTreeSet::from([link]));
        watch.take_hints();
        fs::write(dir.join("audit.log"), "").unwrap();
        assert!(!watch.take_hints().is_empty());
    }
}
