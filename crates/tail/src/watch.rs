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
use std::time::{Duration, SystemTime};

use notify::Watcher as _;

use crate::catalogue::Catalogue;
use crate::names;

/// How often the directories are read.
const EVERY: Duration = Duration::from_secs(1);

/// How long at least between two scans, however much a file watch says.
const AT_LEAST: Duration = Duration::from_millis(100);

impl Catalogue {
    /// Scans on a thread of its own until the handle is dropped.
    pub fn spawn(self: &Arc<Catalogue>) -> io::Result<Watcher> {
        let (wake, woken) = mpsc::sync_channel(1);
        let catalogue = Arc::clone(self);
        let hint = wake.clone();
        let work = move || {
            let mut watch = Watch::new(hint);
            loop {
                catalogue.scan(SystemTime::now());
                watch.follow(catalogue.directories());
                let wait = match woken.recv_timeout(EVERY) {
                    Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    Ok(Wake::Look) => AT_LEAST,
                    Err(RecvTimeoutError::Timeout) => continue,
                };
                // A busy log would have us scan all the time.
                if let Ok(Wake::Stop) = woken.recv_timeout(wait) {
                    return;
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

/// The files that `pattern` and the rotations beside it mean, each with its live file's path.
pub(crate) fn candidates(
    pattern: &Path,
    problems: &mut BTreeMap<PathBuf, String>,
) -> Vec<(PathBuf, PathBuf)> {
    let wanted = pattern.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut files = Vec::new();
    for dir in directories(pattern.parent().unwrap_or(Path::new("")), problems) {
        let names: BTreeSet<String> = list(&dir, problems).into_iter().collect();
        for name in &names {
            let backup = names::backup(name);
            let base = backup.as_ref().map_or(&name[..], |backup| &backup.base);
            if !names::glob(&wanted, base) && !names::glob(&wanted, name) {
                continue;
            }
            // lumberjack writes the final name in place and removes the plain file when it is done
            // (natefinch/lumberjack `lumberjack.go`, `compressLogFile`); so do logrotate and the kubelet.
            let (plain, compressed) = names::uncompressed(name);
            if compressed && names.contains(plain) {
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
