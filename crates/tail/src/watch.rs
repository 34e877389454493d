//! Reading directories, and the thread that does it.
//!
//! A door. A scan once a second is the truth; the file watch only makes it happen sooner.
#![expect(clippy::disallowed_methods, reason = "door: directories and the clock of the scanning thread")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use notify::Watcher as _;

use crate::catalogue::Catalogue;
use crate::names;

/// How often the directories are read.
const EVERY: Duration = Duration::from_secs(1);

/// How long at least between the beginnings of two scans, however much a file watch says.
const AT_LEAST: Duration = Duration::from_millis(100);

/// And how many times as long as the last scan took, so that a huge directory does not cost a whole core.
const REST: u32 = 10;

impl Catalogue {
    /// Scans on a thread of its own until the handle is dropped, at once where a file watch says that it is worth it.
    pub fn spawn(self: &Arc<Catalogue>) -> io::Result<Watcher> {
        self.spawn_with(Watch::new)
    }

    /// As [`Catalogue::spawn`] without a file watch: for file systems that have none.
    pub fn spawn_unwatched(self: &Arc<Catalogue>) -> io::Result<Watcher> {
        self.spawn_with(|_| Watch { watcher: None, dirs: BTreeSet::new() })
    }

    fn spawn_with(
        self: &Arc<Catalogue>,
        watch: impl FnOnce(SyncSender<Wake>) -> Watch + Send + 'static,
    ) -> io::Result<Watcher> {
        let (wake, woken) = mpsc::sync_channel(1);
        let catalogue = Arc::clone(self);
        let hint = wake.clone();
        let work = move || {
            let mut watch = watch(hint);
            loop {
                let begun = Instant::now();
                catalogue.scan(SystemTime::now());
                watch.follow(catalogue.directories());
                let rest = begun + AT_LEAST.max(begun.elapsed() * REST).min(EVERY);
                match woken.recv_timeout((begun + EVERY).saturating_duration_since(Instant::now())) {
                    Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Ok(Wake::Look) => {}
                }
                // A busy log says so all the time.
                while let Some(wait) = rest.checked_duration_since(Instant::now()) {
                    if let Ok(Wake::Stop) = woken.recv_timeout(wait) {
                        return;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("catalogue".to_owned()).spawn(work)?;
        Ok(Watcher { wake, thread: Some(thread) })
    }
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
        // A full channel holds a wish to look; that is taken within a second.
        let _ = self.wake.send(Wake::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The file watch: only ever a hint.
struct Watch {
    watcher: Option<notify::RecommendedWatcher>,
    dirs: BTreeSet<PathBuf>,
}

impl Watch {
    fn new(hint: SyncSender<Wake>) -> Watch {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Opening a file is an event too: our own looks must not wake us.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                // A full channel already says it.
                let _ = hint.try_send(Wake::Look);
            }
        });
        if let Err(error) = &watcher {
            tracing::debug!(%error, "no file watch, scanning every second");
        }
        Watch { watcher: watcher.ok(), dirs: BTreeSet::new() }
    }

    fn follow(&mut self, dirs: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.dirs.difference(&dirs) {
            let _ = watcher.unwatch(gone);
        }
        self.dirs = dirs
            .into_iter()
            .filter(|dir| {
                let new = !self.dirs.contains(dir);
                !new || watcher.watch(dir, notify::RecursiveMode::NonRecursive).is_ok()
            })
            .collect();
    }
}
