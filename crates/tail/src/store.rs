//! The state directory: the lock, the log, the master key.
//!
//! A door. It owns `state.log` (append-only, records of [`crate::checkpoint`]), `lock` and `key`, all 0600 in a
//! directory of 0700. What is appended counts at once in memory and reaches the disk with the next
//! [`Store::sync`], or [`Store::sync_paced`], since the disk is etcd's too.
//!
//! Invariant: a failed write never loses state. After one, the log on disk is suspect (a failed `fdatasync` may have
//! dropped pages: Linux `Documentation/filesystems/vfs.rst`, "Handling errors during writeback"), so the whole state
//! is written anew at the next sync, beside the old log, and renamed over it.
#![expect(clippy::disallowed_methods, reason = "door: the state directory")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::checkpoint::{self, End, Entry, State};

/// The log is rewritten when it is longer than this and than four times the state.
const COMPACT_ABOVE: u64 = 1 << 20;

/// The log is synced at most so often, whoever asks for it.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another agent has it.
    #[error("lock {}: process {pid} is using it", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// What the lock file says.
        pid: String,
    },
    /// A newer agent wrote it.
    #[error("read {}: it was written by a newer version (format {version})", path.display())]
    Newer {
        /// The log.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// The master key is not 32 bytes.
    #[error("read {}: a key has 32 bytes, this has {length}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: u64,
    },
    /// The world failed.
    #[error("{what} {}: {error}", path.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// In what condition the log was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// There was none.
    Fresh,
    /// Every byte of it was used.
    Clean,
    /// A record at its end was never finished (a crash while writing); it was cut off.
    TornTail {
        /// How many bytes.
        bytes: u64,
    },
    /// It is damaged. What could be read before the damage is used, the rest is kept in `kept`. Positions may be
    /// older than they were, or missing: read from the oldest file, never from the end, and say so loudly.
    Damaged {
        /// Where the damage begins.
        at: u64,
        /// The damaged log.
        kept: PathBuf,
    },
}

const LOG: &str = "state.log";
const BESIDE: &str = "state.log.new";
const KEPT: &str = "state.log.damaged";

/// All that the log needs of a disk, by names in one directory. What is not synced may be lost in part when the power
/// goes; so may the names, until [`Disk::sync_names`].
trait Disk: Send {
    /// `None`: there is no such file.
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Makes `bytes` all that the file holds from `offset` on; makes the file where there is none.
    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self, name: &str) -> io::Result<()>;
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&mut self, name: &str) -> io::Result<()>;
    fn sync_names(&mut self) -> io::Result<()>;
}

/// A directory. The file that was last written stays open.
struct Directory {
    dir: PathBuf,
    open: Option<(String, File)>,
}

impl Directory {
    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        match self.open.take() {
            Some((known, file)) if known == name => Ok(&mut self.open.insert((known, file)).1),
            _ => {
                let file = private().open(self.dir.join(name))?;
                // A file left by a crash keeps the mode that it had.
                file.set_permissions(fs::Permissions::from_mode(0o600))?;
                Ok(&mut self.open.insert((name.to_owned(), file)).1)
            }
        }
    }
}

impl Disk for Directory {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.dir.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.file(name)?;
        if file.metadata()?.len() > offset {
            file.set_len(offset)?;
        }
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))?;
        self.open = self.open.take().and_then(|(name, file)| (name == from).then(|| (to.to_owned(), file)));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.open = self.open.take().filter(|(open, _)| open != name);
        fs::remove_file(self.dir.join(name))
    }

    fn sync_names(&mut self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

/// The state directory, held by this process alone.
pub struct Store {
    dir: PathBuf,
    disk: Box<dyn Disk>,
    /// The length of the log that is known to be good.
    length: u64,
    state: State,
    /// Records that are not written yet.
    queue: Vec<u8>,
    /// Whether something is written that is not synced.
    unsynced: bool,
    /// Set when the log on disk cannot be trusted: the next sync writes all of it.
    suspect: bool,
    /// How many records were appended, and how many of them are on the disk.
    appended: u64,
    synced: u64,
    synced_at: Option<Instant>,
    syncs: u64,
    _lock: Option<File>,
}

impl Store {
    /// Opens or creates the state directory `dir`.
    pub fn open(dir: &Path) -> Result<(Store, Opened), Error> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(dir).map_err(io_error("create", dir))?;
        let lock = take_lock(dir)?;
        let disk = Directory { dir: dir.to_owned(), open: None };
        let (mut store, opened) = Store::over(dir, Box::new(disk))?;
        store._lock = Some(lock);
        Ok((store, opened))
    }

    fn over(dir: &Path, mut disk: Box<dyn Disk>) -> Result<(Store, Opened), Error> {
        let path = dir.join(LOG);
        let found = disk.read(LOG).map_err(io_error("read", &path))?;
        let bytes = found.as_deref().unwrap_or_default();
        let replay = checkpoint::replay(bytes);
        let length = replay.good as u64;
        let opened = match replay.end {
            End::Newer(version) => return Err(Error::Newer { path, version }),
            End::Clean if bytes.is_empty() => Opened::Fresh,
            End::Clean => Opened::Clean,
            End::Torn => Opened::TornTail { bytes: bytes.len() as u64 - length },
            End::Damaged => {
                let kept = dir.join(KEPT);
                disk.write(KEPT, 0, bytes).map_err(io_error("copy to", &kept))?;
                Opened::Damaged { at: length, kept }
            }
        };
        let suspect = matches!(opened, Opened::Damaged { .. });
        match opened {
            Opened::Fresh => {
                disk.write(LOG, 0, &[]).map_err(io_error("create", &path))?;
                disk.sync_names().map_err(io_error("sync", dir))?;
            }
            Opened::TornTail { .. } => disk.write(LOG, length, &[]).map_err(io_error("cut", &path))?,
            Opened::Clean | Opened::Damaged { .. } => {}
        }
        let dir = dir.to_owned();
        let state = State { damaged: suspect, ..replay.state };
        let store = Store {
            dir,
            disk,
            length,
            state,
            queue: Vec::new(),
            unsynced: false,
            suspect,
            appended: 0,
            synced: 0,
            synced_at: None,
            syncs: 0,
            _lock: None,
        };
        Ok((store, opened))
    }

    /// What is known.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Applies `entry` and puts it in line for the disk.
    pub fn append(&mut self, entry: Entry) {
        if !self.suspect {
            checkpoint::encode(&entry, &mut self.queue);
        }
        self.state.apply(entry);
        self.appended += 1;
    }

    /// How many records were appended: what [`Store::is_safe`] is asked with.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// Whether the first `count` records that were appended are on the disk, or the disk refuses to be written to,
    /// which the next sync tells of.
    pub fn is_safe(&self, count: u64) -> bool {
        self.synced >= count || self.suspect
    }

    /// How often the disk was asked to make the log durable.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Whether everything appended is on disk.
    pub fn is_synced(&self) -> bool {
        self.queue.is_empty() && !self.suspect && !self.unsynced
    }

    /// As [`Store::sync`], unless that was done within the last second: then it does nothing. However many ask, the
    /// disk is asked once a second.
    pub fn sync_paced(&mut self) -> Result<(), Error> {
        let recent = self.synced_at.is_some_and(|at| at.elapsed() < SYNC_EVERY);
        if recent && !self.suspect { Ok(()) } else { self.sync() }
    }

    /// Brings what was appended to the disk. On an error nothing is lost: the state stays in memory (degraded) and
    /// the next call writes all of it.
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.suspect {
            return self.rewrite();
        }
        self.write()?;
        if self.unsynced {
            self.synced_at = Some(Instant::now());
            self.syncs += 1;
            let synced = self.disk.sync(LOG);
            self.written(synced)?;
            self.unsynced = false;
        }
        self.synced = self.appended;
        if self.length > COMPACT_ABOVE && self.length / 4 > self.state.encode().len() as u64 {
            self.rewrite()?;
        }
        Ok(())
    }

    /// Hands what was appended to the operating system, where it survives the death of the process (not of the
    /// machine), at no cost for the disk. On an error nothing is lost: see [`Store::sync`].
    pub fn write(&mut self) -> Result<(), Error> {
        if self.suspect || self.queue.is_empty() {
            return Ok(());
        }
        let written = self.disk.write(LOG, self.length, &self.queue);
        self.written(written)?;
        self.length += self.queue.len() as u64;
        self.queue.clear();
        self.unsynced = true;
        Ok(())
    }

    /// After an error the log cannot be trusted: the next sync writes all of it anew.
    fn written(&mut self, result: io::Result<()>) -> Result<(), Error> {
        result.map_err(|error| {
            self.suspect = true;
            self.queue = Vec::new();
            io_error("write", &self.dir.join(LOG))(error)
        })
    }

    /// Writes the state beside the log and renames it over the log.
    fn rewrite(&mut self) -> Result<(), Error> {
        self.suspect = true;
        self.synced_at = Some(Instant::now());
        self.syncs += 1;
        self.queue.clear();
        let bytes = self.state.encode();
        let disk = &mut self.disk;
        let written = disk
            .write(BESIDE, 0, &bytes)
            .and_then(|()| disk.sync(BESIDE))
            .and_then(|()| disk.rename(BESIDE, LOG));
        if let Err(error) = written {
            // On a full disk the half-written file would only make it worse.
            let _ = self.disk.remove(BESIDE);
            return Err(io_error("write", &self.dir.join(BESIDE))(error));
        }
        self.length = bytes.len() as u64;
        self.disk.sync_names().map_err(io_error("sync", &self.dir))?;
        (self.suspect, self.unsynced, self.synced) = (false, false, self.appended);
        Ok(())
    }
}

/// The 32 bytes that all keys are derived from: read from `key` in `dir`, or made there.
pub fn master_key(dir: &Path) -> Result<[u8; 32], Error> {
    let path = dir.join("key");
    if !path.exists() {
        let mut key = [0; 32];
        let random = Path::new("/dev/urandom");
        let read = File::open(random).and_then(|mut file| file.read_exact(&mut key));
        read.map_err(io_error("read", random))?;
        let beside = dir.join("key.new");
        write_new(&beside, &key).map_err(io_error("write", &beside))?;
        // A link never replaces a key that another process made in between.
        let linked = fs::hard_link(&beside, &path);
        let _ = fs::remove_file(&beside);
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("create", &path)(error));
            }
            _ => sync_dir(dir)?,
        }
    }
    read_key(&path)
}

/// The master key in the file `path` (`key_file` in the configuration).
pub fn read_key(path: &Path) -> Result<[u8; 32], Error> {
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    let length = bytes.len() as u64;
    bytes.try_into().map_err(|_| Error::Key { path: path.to_owned(), length })
}

fn take_lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let mut lock = private().open(&path).map_err(io_error("open", &path))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid);
            let pid = pid.trim();
            let known = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
            let pid = if known { pid.to_owned() } else { "(unknown)".to_owned() };
            return Err(Error::Locked { dir: dir.to_owned(), pid });
        }
        Err(error) => return Err(io_error("lock", &path)(error.into())),
    }
    let pid = format!("{}\n", std::process::id());
    lock.set_len(0)
        .and_then(|()| lock.write_all(pid.as_bytes()))
        // The lock is what counts; a full disk must not keep the agent from starting.
        .or_else(|error| if error.kind() == io::ErrorKind::StorageFull { Ok(()) } else { Err(error) })
        .map_err(io_error("write", &path))?;
    Ok(lock)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = private().truncate(true).open(path)?;
    // A file left by a crash keeps the mode that it had.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(io_error("sync", dir))
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::Io { what, path, error }
}

#[cfg(test)]
mod power;

#[cfg(test)]
mod tests {
    use auditship_event::StreamId;

    use super::*;
    use crate::checkpoint::Position;

    fn at(offset: u64) -> Entry {
        let positions = [(StreamId(1), offset)].into();
        Entry::Position(Position { consumer: "c".into(), positions, ..Position::default() })
    }

    fn offset(store: &Store) -> Option<u64> {
        Some(store.state().positions.get("c")?.positions[&StreamId(1)])
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_was_synced_is_there_again() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("state");
        let (mut store, opened) = Store::open(&dir).unwrap();
        assert_eq!(opened, Opened::Fresh);
        store.append(at(7));
        store.sync().unwrap();
        store.append(at(9));
        drop(store);
        let (store, opened) = Store::open(&dir).unwrap();
        assert_eq!((opened, offset(&store)), (Opened::Clean, Some(7)));
        assert_eq!(mode(&dir), 0o700);
        assert_eq!((mode(&dir.join("state.log")), mode(&dir.join("lock"))), (0o600, 0o600));
    }

    #[test]
    fn the_disk_is_asked_once_a_second() {
        let temp = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(temp.path()).unwrap();
        store.append(at(1));
        let first = store.appended();
        assert!(!store.is_safe(first));
        store.sync_paced().unwrap();
        assert!(store.is_safe(first));
        store.append(at(2));
        // As if it had just been synced, however slow the machine is.
        store.synced_at = Some(Instant::now() + Duration::from_secs(60));
        store.sync_paced().unwrap();
        assert!(store.is_safe(first) && !store.is_safe(store.appended()) && !store.is_synced());
        assert_eq!(store.syncs(), 1);
        store.synced_at = Instant::now().checked_sub(SYNC_EVERY);
        store.sync_paced().unwrap();
        assert!(store.is_safe(store.appended()) && store.is_synced());
    }

    #[test]
    fn a_second_agent_is_told_who_is_first() {
        let temp = tempfile::tempdir().unwrap();
        let first = Store::open(temp.path()).unwrap();
        let Err(error) = Store::open(temp.path()) else { panic!("it opened") };
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        assert!(Store::open(temp.path()).is_ok());
    }

    #[test]
    fn a_torn_tail_is_cut_and_a_damage_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state.log");
        let (mut store, _) = Store::open(temp.path()).unwrap();
        for offset in 1..4 {
            store.append(at(offset));
        }
        store.sync().unwrap();
        drop(store);
        let whole = fs::read(&path).unwrap();

        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let (mut store, opened) = Store::open(temp.path()).unwrap();
        assert!(matches!(opened, Opened::TornTail { .. }), "{opened:?}");
        assert_eq!(offset(&store), Some(2));
        store.append(at(5));
        store.sync().unwrap();
        drop(store);
        assert_eq!(offset(&Store::open(temp.path()).unwrap().0), Some(5));

        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let (mut store, opened) = Store::open(temp.path()).unwrap();
        assert!(matches!(opened, Opened::Damaged { .. }), "{opened:?}");
        assert_eq!(offset(&store), Some(1));
        store.sync().unwrap();
        drop(store);
        assert_eq!(Store::open(temp.path()).unwrap().1, Opened::Clean);
        assert_eq!(fs::read(temp.path().join("state.log.damaged")).unwrap(), damaged);
    }

    #[test]
    fn a_long_log_is_compacted() {
        let temp = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(temp.path()).unwrap();
        for offset in 0..40_000 {
            store.append(at(offset));
            if offset % 1000 == 0 {
                store.sync().unwrap();
            }
        }
        store.sync().unwrap();
        assert!(fs::metadata(temp.path().join("state.log")).unwrap().len() < 2 * COMPACT_ABOVE);
        drop(store);
        assert_eq!(offset(&Store::open(temp.path()).unwrap().0), Some(39_999));
    }

    #[test]
    fn the_key_is_made_once() {
        let temp = tempfile::tempdir().unwrap();
        let key = master_key(temp.path()).unwrap();
        assert_eq!(master_key(temp.path()).unwrap(), key);
        assert_eq!(mode(&temp.path().join("key")), 0o600);
        fs::write(temp.path().join("key"), b"short").unwrap();
        assert!(master_key(temp.path()).is_err());
    }
}
