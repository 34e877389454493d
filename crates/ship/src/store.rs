//! The door to local storage: archive files, standard output, the dead-letter file, and the wall clock.
//!
//! What it says is [`Reply::Done`] is on the disk, not in a cache. Files are 0600 and directories 0700; a file
//! is never replaced and never seen half-written under its final name.
#![expect(clippy::disallowed_methods, reason = "a door: writes files and reads the clock")]

use crate::client::{Client, OpenError};
use crate::sink::{Door, Failure, Op, Reply};
use crate::sinks::Transport;
use rustix::fs::{AtFlags, CWD, FlockOperation, RenameFlags};
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

/// Opens the door that an output's operations go through.
///
/// # Errors
/// [`OpenError`].
pub fn open(transport: &Transport) -> Result<Arc<dyn Door>, OpenError> {
    Ok(match transport {
        Transport::Http(options) => Arc::new(Client::new(options)?),
        Transport::Dir { path } => Arc::new(Files::open(path)?),
        Transport::Stdout => Arc::new(Stdout),
    })
}

/// The time of day.
pub fn wall_clock() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// A future that does blocking work on tokio's threads for it. Work once begun is finished even if nobody waits.
fn blocking(work: impl FnOnce() -> Reply + Send + 'static) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
    Box::pin(async move {
        let lost = |_| Reply::Failed { kind: Failure::Storage, text: "the work was not finished".to_owned() };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(lost)
    })
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Reply {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let kind = if full { Failure::NoSpace } else { Failure::Storage };
    Reply::Failed { kind, text: format!("{what} {}: {error}", path.display()) }
}

fn invalid() -> Reply {
    Reply::Failed { kind: Failure::Invalid, text: "not an operation of this store".to_owned() }
}

/// A directory that whole files are put into.
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// Opens the directory, and makes it if it is missing.
    ///
    /// # Errors
    /// If it cannot be made, or is no directory.
    pub fn open(root: &Path) -> Result<Files, OpenError> {
        let made = make_dirs(root).and_then(|()| std::fs::read_dir(root).map(drop));
        made.map_err(|source| OpenError::Write { path: root.to_owned(), source })?;
        Ok(Files { root: root.to_owned() })
    }
}

impl Door for Files {
    fn perform(&self, op: Op) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let Op::Put { path, bytes } = op else { return Box::pin(async { invalid() }) };
        // Sinks make only safe components; this is the lock on the door.
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Box::pin(async { invalid() });
        }
        let path = self.root.join(path);
        blocking(move || put(&path, &bytes).unwrap_or_else(|error| failed("write", &path, &error)))
    }
}

/// What could be told of a directory without leaving anything in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Whether it is there; if not, it would be made.
    pub(crate) exists: bool,
    /// Bytes that are free for us.
    pub(crate) free_bytes: u64,
}

/// Tries whether files can be written below `root`; the file that is made for that never has a name.
pub(crate) fn try_dir(root: &Path) -> io::Result<Room> {
    use rustix::fs::{Mode, OFlags, openat, statvfs};
    let here = |dir: &Path| if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir.to_owned() };
    // What is missing is made below the nearest that is there.
    let there = root.ancestors().map(here).find(|dir| dir.symlink_metadata().is_ok());
    let there = there.unwrap_or_else(|| PathBuf::from("/"));
    std::fs::read_dir(&there)?;
    match openat(CWD, &there, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR) {
        Ok(_) => {}
        // Not known to every file system (NFS, some overlays): then as far as its mode tells.
        Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
            rustix::fs::access(&there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?;
        }
        Err(error) => return Err(error.into()),
    }
    let room = statvfs(&there)?;
    Ok(Room { exists: there == here(root), free_bytes: room.f_bavail.saturating_mul(room.f_frsize) })
}

/// Removes what a crash has left of writing the file `path`.
pub fn remove_unfinished(path: &Path) {
    if let (Some(dir), Some(name)) = (path.parent(), path.file_name()) {
        // Mostly there is none.
        let _ = std::fs::remove_file(dir.join(hidden(name)));
    }
}

/// The name of a file that is not finished.
fn hidden(name: &OsStr) -> OsString {
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".tmp");
    hidden
}

/// Writes a temporary file, makes it durable, and gives it its name unless that is taken.
fn put(path: &Path, bytes: &[u8]) -> io::Result<Reply> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(invalid()) };
    make_dirs(dir)?;
    if std::fs::symlink_metadata(path).is_ok() {
        sync_dir(dir)?;
        return Ok(Reply::Exists);
    }
    let temp = dir.join(hidden(name));
    let named = write_synced(&temp, bytes).and_then(|()| rename_new(&temp, path));
    if !matches!(named, Ok(Reply::Done)) {
        // What could not be finished must not take up space.
        let _ = std::fs::remove_file(&temp);
    }
    let reply = named?;
    sync_dir(dir)?;
    Ok(reply)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Renames without replacing; where the file system knows no such rename (NFS, some overlays), by hard link.
fn rename_new(from: &Path, to: &Path) -> io::Result<Reply> {
    use rustix::io::Errno;
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Reply::Done),
        Err(Errno::EXIST) => Ok(Reply::Exists),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()) {
                Ok(()) => std::fs::remove_file(from).map(|()| Reply::Done),
                Err(Errno::EXIST) => Ok(Reply::Exists),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes `dir` and what is missing above it, durably.
fn make_dirs(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new("/"));
    make_dirs(parent)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_dir(parent)
}

/// A name is durable once its directory is.
fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

/// Standard output.
pub struct Stdout;

impl Door for Stdout {
    fn perform(&self, op: Op) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let Op::Append { bytes } = op else { return Box::pin(async { invalid() }) };
        blocking(move || {
            let mut out = io::stdout().lock();
            match out.write_all(&bytes).and_then(|()| out.flush()) {
                Ok(()) => Reply::Done,
                Err(error) => failed("write to", Path::new("standard output"), &error),
            }
        })
    }
}

/// The dead-letter file: appended to, synced, capped. Outputs may share one.
///
/// It is opened for each append, so that somebody may move it away to make room.
pub struct DeadLetters {
    file: Arc<Mutex<PathBuf>>,
    cap_bytes: u64,
}

impl DeadLetters {
    /// Keeps dead letters in `path`, which never grows beyond `cap_bytes`.
    pub fn new(path: &Path, cap_bytes: u64) -> DeadLetters {
        DeadLetters { file: Arc::new(Mutex::new(path.to_owned())), cap_bytes }
    }
}

impl Door for DeadLetters {
    fn perform(&self, op: Op) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let Op::Append { bytes } = op else { return Box::pin(async { invalid() }) };
        let (file, cap_bytes) = (self.file.clone(), self.cap_bytes);
        blocking(move || {
            // Held while writing: appends do not mix.
            let path = file.lock().unwrap_or_else(PoisonError::into_inner);
            append(&path, &bytes, cap_bytes).unwrap_or_else(|error| failed("write", &path, &error))
        })
    }
}

fn append(path: &Path, bytes: &[u8], cap_bytes: u64) -> io::Result<Reply> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    make_dirs(dir)?;
    let mut file = open_letters(path)?;
    let len = file.metadata()?.len();
    let torn = len > 0 && last_byte(&mut file)? != b'\n';
    if len + u64::from(torn) + bytes.len() as u64 > cap_bytes {
        let text = format!("dead-letter file {} is full ({cap_bytes} bytes): move it away", path.display());
        return Ok(Reply::Failed { kind: Failure::NoSpace, text });
    }
    let seam: &[u8] = if torn { b"\n" } else { b"" };
    if let Err(error) = file.write_all(seam).and_then(|()| file.write_all(bytes)) {
        // Half a letter would be read as damage.
        let _ = file.set_len(len);
        return Err(error);
    }
    file.sync_all()?;
    sync_dir(dir)?;
    Ok(Reply::Done)
}

/// Opens the file of dead letters and locks it (flock(2)) against whoever moves it away to work on it: once the
/// lock is had, the file still has its name.
fn open_letters(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        let (mine, named) = (file.metadata()?, std::fs::symlink_metadata(path));
        if named.is_ok_and(|named| (named.dev(), named.ino()) == (mine.dev(), mine.ino())) {
            return Ok(file);
        }
    }
}

/// Moves a file of dead letters aside to `to`, unless something is there, and locks that: nobody appends to it any
/// more, and nobody else works on it. `None`: there is neither file.
///
/// # Errors
/// The file system refuses, or somebody else has the lock (`WouldBlock`).
pub fn take_letters(path: &Path, to: &Path) -> io::Result<Option<File>> {
    match rename_new(path, to) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound && std::fs::symlink_metadata(to).is_err() => {
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    sync_dir(to.parent().unwrap_or(Path::new(".")))?;
    let file = File::open(to)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(Some(file))
}

/// Puts lines back into a file of dead letters, durably.
///
/// # Errors
/// The file system refuses.
pub fn put_letters_back(path: &Path, lines: &[u8]) -> io::Result<()> {
    match append(path, lines, u64::MAX)? {
        Reply::Done => Ok(()),
        _ => Err(io::ErrorKind::Other.into()),
    }
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut byte = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn perform(door: &dyn Door, op: Op) -> Reply {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(door.perform(op))
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn puts_once_privately_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("deep/archive");
        let files = Files::open(&root).unwrap();
        let put = |text: &'static str| {
            perform(&files, Op::Put { path: "a=1/b=2/x.ndjson".into(), bytes: text.into() })
        };
        assert!(matches!(put("first"), Reply::Done));
        assert!(matches!(put("second"), Reply::Exists));
        let file = root.join("a=1/b=2/x.ndjson");
        assert_eq!(std::fs::read(&file).unwrap(), b"first");
        std::fs::write(file.with_file_name(".x.ndjson.tmp"), b"half").unwrap();
        remove_unfinished(&file);
        assert_eq!((mode(&file), mode(&root), mode(file.parent().unwrap())), (0o600, 0o700, 0o700));
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn never_leaves_its_root() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        for path in ["../x", "/etc/x", "a/../../x"] {
            let reply = perform(&files, Op::Put { path: path.into(), bytes: "x".into() });
            assert!(matches!(reply, Reply::Failed { kind: Failure::Invalid, .. }), "{path}");
        }
    }

    #[test]
    fn a_taken_name_is_not_replaced_by_the_rename_either() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, "new").unwrap();
        std::fs::write(&to, "old").unwrap();
        assert!(matches!(rename_new(&from, &to).unwrap(), Reply::Exists));
        assert_eq!(std::fs::read(&to).unwrap(), b"old");
    }

    #[test]
    fn a_full_device_is_told_apart() {
        // `/dev/full` answers every write with ENOSPC (full(4)).
        let error = OpenOptions::new().write(true).open("/dev/full").unwrap().write_all(b"x").unwrap_err();
        let reply = failed("write", Path::new("/x"), &error);
        assert!(matches!(reply, Reply::Failed { kind: Failure::NoSpace, .. }), "{reply:?}");
    }

    #[test]
    fn letters_are_taken_by_one_alone_and_missed_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("dead"), dir.path().join("dead.replaying"));
        assert!(take_letters(&path, &aside).unwrap().is_none());
        put_letters_back(&path, b"one\n").unwrap();
        let taken = take_letters(&path, &aside).unwrap().unwrap();
        assert_eq!(take_letters(&path, &aside).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        put_letters_back(&path, b"two\n").unwrap();
        drop(taken);
        // What was left of an earlier time comes first.
        let mut text = String::new();
        take_letters(&path, &aside).unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), std::fs::read(&path).unwrap()), ("one\n", b"two\n".to_vec()));
    }

    #[test]
    fn dead_letters_are_private_capped_and_mended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/dead.jsonl");
        let letters = DeadLetters::new(&path, 20);
        let append = |text: &'static str| perform(&letters, Op::Append { bytes: text.into() });
        assert!(matches!(append("one\n"), Reply::Done));
        assert_eq!(mode(&path), 0o600);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"torn").unwrap();
        assert!(matches!(append("two\n"), Reply::Done));
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntorn\ntwo\n");
        assert!(matches!(append("far too long\n"), Reply::Failed { kind: Failure::NoSpace, .. }));
        std::fs::rename(&path, dir.path().join("away")).unwrap();
        assert!(matches!(append("far too long\n"), Reply::Done));
    }
}
