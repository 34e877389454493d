//! Who writes the log in a trial: lines that know their number and length, rotated, compressed and deleted as
//! lumberjack does. [`Local`] is a thread of this process, for rounds that are cheap and need no Go.

use crate::growing;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// As `--audit-log-maxsize=1`.
const MAX_BYTES: u64 = 1 << 20;

/// As `--audit-log-maxbackup=3`.
const MAX_BACKUPS: usize = 3;

const WORDS: &str = "the quick brown fox jumps over the lazy dog and waits for nobody ";

/// A writer at work, ended when dropped.
pub(crate) trait Writer {
    /// How many lines it has written.
    fn written(&self) -> u64;
    /// Whether it has written all; an error if it cannot go on.
    fn is_done(&mut self) -> Result<bool>;
    /// The length of every line, newline included, once it is done.
    fn lengths(&mut self) -> Result<Vec<u32>>;
}

/// The event of that number with its newline. `xtask/lumberjack/main.go` writes the same kind.
pub(crate) fn line(number: u64, pad_bytes: usize) -> String {
    let time = jiff::Timestamp::now();
    let padding: String = WORDS.chars().cycle().take(pad_bytes).collect();
    let text = |bytes: usize| {
        format!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"00000000-0000-4000-8000-{number:012}","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/team-a/pods/web-{number}","verb":"update","user":{{"username":"system:serviceaccount:team-a:worker","groups":["system:authenticated"]}},"sourceIPs":["10.0.0.7"],"userAgent":"worker/v1.2.3 (linux/amd64)","objectRef":{{"resource":"pods","namespace":"team-a","name":"web-{number}","apiVersion":"v1"}},"responseStatus":{{"metadata":{{}},"code":200}},"responseObject":{{"kind":"Status","apiVersion":"v1","metadata":{{}},"message":"{padding}"}},"requestReceivedTimestamp":"{time:.6}","stageTimestamp":"{time:.6}","annotations":{{"authorization.k8s.io/decision":"allow","e2e/bytes":"{bytes:08}"}}}}"#
        )
    };
    // The length has a fixed width, because it counts itself.
    text(text(0).len()) + "\n"
}

/// Most lines have about a kilobyte, some ten times, a few a hundred times as much.
fn pad_bytes(number: u64) -> usize {
    match number {
        _ if number % 5003 == 5002 => 100_000,
        _ if number % 197 == 196 => 10_000,
        _ => (number * 7919 % 400) as usize,
    }
}

/// A writer in a thread of its own.
pub(crate) struct Local {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Vec<u32>>>>,
}

#[derive(Default)]
struct Shared {
    written: AtomicU64,
    stopped: AtomicBool,
}

impl Local {
    /// Starts writing `audit.log` in `folder`, `rate` lines a second.
    pub(crate) fn start(folder: &Path, lines: u64, rate: u64) -> Local {
        let shared = Arc::new(Shared::default());
        let (folder, told) = (folder.to_owned(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || write(&folder, lines, rate, &told));
        Local { shared, thread: Some(thread) }
    }
}

impl Writer for Local {
    fn written(&self) -> u64 {
        self.shared.written.load(Ordering::SeqCst)
    }

    fn is_done(&mut self) -> Result<bool> {
        Ok(self.thread.as_ref().is_none_or(JoinHandle::is_finished))
    }

    fn lengths(&mut self) -> Result<Vec<u32>> {
        let thread = self.thread.take().context("the writer was asked twice")?;
        thread.join().ok().context("the writer panicked")?
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

fn write(folder: &Path, lines: u64, rate: u64, shared: &Shared) -> Result<Vec<u32>> {
    let (rotated, mill_work) = channel();
    let miller = std::thread::spawn(move || mill(&mill_work));
    let lengths = write_lines(folder, lines, rate, shared, &rotated);
    drop(rotated);
    miller.join().ok().context("the thread that compresses panicked")??;
    lengths
}

fn write_lines(
    folder: &Path,
    lines: u64,
    rate: u64,
    shared: &Shared,
    rotated: &Sender<PathBuf>,
) -> Result<Vec<u32>> {
    let path = folder.join("audit.log");
    let (mut file, mut size) = (File::create(&path).context("create the log")?, 0);
    let mut lengths = Vec::new();
    let start = Instant::now();
    for number in 0..lines {
        while (start.elapsed().as_secs_f64() * rate as f64) < number as f64 {
            std::thread::sleep(Duration::from_millis(2));
        }
        if shared.stopped.load(Ordering::SeqCst) {
            break;
        }
        let line = line(number, pad_bytes(number));
        let length = line.len() as u64;
        if size + length > MAX_BYTES {
            let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S.%3f").to_string();
            let backup = folder.join(format!("audit-{time}.log"));
            std::fs::rename(&path, &backup).context("rename the log")?;
            (file, size) = (File::create(&path).context("create the new log")?, 0);
            // Its end is told by joining it.
            let _ = rotated.send(backup);
        }
        file.write_all(line.as_bytes()).context("write to the log")?;
        size += length;
        lengths.push(length as u32);
        shared.written.store(number + 1, Ordering::SeqCst);
    }
    Ok(lengths)
}

/// Deletes what is too old, then compresses what is left, beside its plain file, which goes last.
fn mill(rotated: &Receiver<PathBuf>) -> Result<()> {
    let mut backups: Vec<PathBuf> = Vec::new();
    while let Ok(backup) = rotated.recv() {
        backups.push(backup);
        backups.extend(rotated.try_iter());
        while backups.len() > MAX_BACKUPS {
            std::fs::remove_file(backups.remove(0)).context("delete a backup")?;
        }
        for backup in backups.iter_mut().filter(|path| path.extension().is_some_and(|last| last == "log")) {
            *backup = growing::compress(backup)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_long_they_are() {
        for pad in [0, 5, 300] {
            let line = line(123, pad);
            assert!(line.contains(&format!("\"e2e/bytes\":\"{:08}\"", line.len() - 1)), "{line}");
            serde_json::from_str::<serde_json::Value>(&line).unwrap();
        }
    }

    #[test]
    fn three_backups_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Local::start(folder.path(), 8000, 1_000_000);
        let lengths = writer.lengths().unwrap();
        assert_eq!(lengths.len(), 8000);
        let mut names: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!((names.len(), names[3].as_str()), (4, "audit.log"), "{names:?}");
        assert!(names[..3].iter().all(|name| name.ends_with(".log.gz")), "{names:?}");
    }
}
