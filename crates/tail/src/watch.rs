//! Reading directories, and the thread that does it.
//!
//! A door. A scan once a second is the truth; the file watch only makes it happen sooner.
#![expect(clippy::disallowed_methods, reason = "door: directories and the clock of the scanning thread")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::catalogue::Catalogue;
use crate::names;

/// How often the directories are read.
const EVERY: Duration = Duration::from_secs(1);

/// How long at least between the beginnings of two scans, however much a file watch says.
const AT_LEAST: Duration = Duration::from_millis(100);

/// And how many times as long as the last scan took, so that a huge directory does not cost a whole core.
const REST: u32 = 10;

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
        let work = move || {
            loop {
                let begun = Instant::now();
                catalogue.scan(SystemTime::now());
                watch.follow(catalogue.directories());
                // A busy log says so all the time. While nobody listens, the kernel keeps one hint of many.
                if wait(&stopped, None, begun + rest(begun.elapsed(), every)) == Woken::Stop {
                    return;
                }
                if wait(&stopped, watch.inotify.as_ref(), begun + every) == Woken::Stop {
                    return;
                }
                watch.take_hints();
            }
        };
        let thread = std::thread::Builder::new().name("catalogue".to_owned()).spawn(work)?;
        Ok(Watcher { stop: Some(stop), thread: Some(thread) })
    }
}

/// From the beginning of a scan that took so long to that of the next one, whatever a file watch says.
fn rest(took: Duration, every: Duration) -> Duration {
    AT_LEAST.max(took * REST).min(every)
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

/// What stands in the directories that a pattern means, in order.
pub(crate) type Listing = Vec<(PathBuf, Vec<String>)>;

/// Lists the directories that `pattern` means.
pub(crate) fn listing(pattern: &Path, problems: &mut BTreeMap<PathBuf, String>) -> Listing {
    let dirs = directories(pattern.parent().unwrap_or(Path::new("")), problems);
    dirs.into_iter()
        .map(|dir| {
            let mut names = list(&dir, problems);
            names.sort_unstable();
            (dir, names)
        })
        .collect()
}

/// The files in `listing` that `pattern` and the rotations beside it mean, each with its live file's path.
pub(crate) fn candidates(pattern: &Path, listing: &Listing) -> Vec<(PathBuf, PathBuf)> {
    let wanted = pattern.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut files = Vec::new();
    for (dir, names) in listing {
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

/// The directories that `pattern` means.
fn directories(pattern: &Path, problems: &mut BTreeMap<PathBuf, String>) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let text = part.as_os_str().to_string_lossy();
        if !is_glob(&text) {
            found.iter_mut().for_each(|dir| dir.push(part));
            continue;
        }
        let mut next = Vec::new();
        for dir in &found {
            let names = list(dir, problems).into_iter().filter(|name| names::glob(&text, name));
            next.extend(names.map(|name| dir.join(name)).filter(|path| path.is_dir()));
        }
        next.sort();
        found = next;
    }
    found
}

fn list(dir: &Path, problems: &mut BTreeMap<PathBuf, String>) -> Vec<String> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let names = std::fs::read_dir(dir).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().into_string().ok())).collect::<io::Result<Vec<_>>>()
    });
    match names {
        // A name that is not UTF-8 is no log file's.
        Ok(names) => names.into_iter().flatten().collect(),
        Err(error) => {
            problems.insert(dir.to_owned(), error.to_string());
            Vec::new()
        }
    }
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

    /// Watches `dirs` and no others. Where one cannot be watched, the scan finds what happens in it.
    fn follow(&mut self, dirs: BTreeSet<PathBuf>) {
        let Some(inotify) = &self.inotify else { return };
        // Opening and reading are left out: our own looks must not wake us.
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
        let kinds = names | WatchFlags::MODIFY | WatchFlags::ONLYDIR;
        // Asked for again each time: another directory may have taken the path.
        let watched: BTreeMap<PathBuf, i32> = dirs
            .into_iter()
            .filter_map(|dir| {
                let path = if dir.as_os_str().is_empty() { Path::new(".") } else { &dir };
                let number = inotify::add_watch(inotify, path, kinds).ok()?;
                Some((dir, number))
            })
            .collect();
        let wanted: BTreeSet<i32> = watched.values().copied().collect();
        for gone in std::mem::replace(&mut self.dirs, watched).into_values() {
            if !wanted.contains(&gone) {
                // It is gone already where the directory is.
                let _ = inotify::remove_watch(inotify, gone);
            }
        }
    }

    /// Takes all hints that are there; gives their number.
    fn take_hints(&self) -> usize {
        let Some(inotify) = &self.inotify else { return 0 };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        let mut taken = 0;
        while taken < HINTS {
            match reader.next() {
                Ok(_) => taken += 1,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn a_busy_file_does_not_make_it_scan_all_the_time() {
        let millis = Duration::from_millis;
        for (took, pause) in [(0, 100), (10, 100), (50, 500), (99, 990), (500, 1000)] {
            assert_eq!(rest(millis(took), EVERY), millis(pause), "{took}");
        }
        assert_eq!(rest(millis(7), millis(5)), millis(5));
    }

    #[test]
    fn a_busy_file_is_one_hint() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = fs::File::create(dir.path().join("audit.log")).unwrap();
        let mut watch = Watch::new();
        watch.follow(BTreeSet::from([dir.path().to_owned()]));
        assert_eq!(watch.take_hints(), 0);
        for _ in 0..1000 {
            file.write_all(b"line\n").unwrap();
        }
        assert_eq!(watch.take_hints(), 1);
        // Neither opening nor reading is one.
        fs::read(dir.path().join("audit.log")).unwrap();
        assert_eq!(watch.take_hints(), 0);
        fs::rename(dir.path().join("audit.log"), dir.path().join("audit.log.1")).unwrap();
        assert!(watch.take_hints() > 0);
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
            watch.follow(dirs.clone());
            watch.take_hints();
            fs::write(dir.join("audit.log"), "line\n").unwrap();
            assert!(watch.take_hints() > 0);
            fs::remove_dir_all(&dir).unwrap();
            watch.follow(dirs.clone());
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
        assert!(watch.take_hints() > 0);
    }
}
