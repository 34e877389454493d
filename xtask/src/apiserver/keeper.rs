//! What the API server has written, kept before its rotation compresses and deletes it.
//!
//! Each file of the log is opened as soon as it is there. A descriptor keeps the content of a file that is deleted, and
//! nobody sees it: a hard link would change how many names a file has, which is something that the agent looks at.
//!
//! Invariant: what is kept was read from a file which nobody could write to any more, or after the API server had ended.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the folder is looked at. A file of a megabyte that is written, renamed, compressed and deleted within so
/// short a time is missed, and then the counts do not agree.
const TURN: Duration = Duration::from_millis(4);

/// One file of the log: what was `audit.log` until it was renamed.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Its lines, compressed backups read as what they hold.
    pub(crate) content: Vec<u8>,
    /// Since when it has been in no directory, neither plain nor compressed.
    pub(crate) gone: Option<Instant>,
}

/// Keeps the files of a folder until it is dropped.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    /// In the order in which they were seen.
    all: Vec<Held>,
    /// Where in `all` the inodes stand that are still in the folder.
    present: BTreeMap<u64, usize>,
}

struct Held {
    is_packed: bool,
    file: Option<File>,
    content: Vec<u8>,
    gone: Option<Instant>,
}

impl Keeper {
    /// Begins to keep what is and what comes in `folder`.
    pub(crate) fn start(folder: &Path) -> Result<Keeper> {
        std::fs::create_dir_all(folder).context("make the log's folder")?;
        let shared = Arc::new(Shared::default());
        let (keeping, folder) = (Arc::clone(&shared), folder.to_owned());
        let thread = std::thread::Builder::new().name("keeper".into()).spawn(move || {
            while !keeping.stopped.load(Ordering::SeqCst) {
                keeping.look(&folder)?;
                std::thread::sleep(TURN);
            }
            keeping.look(&folder)
        })?;
        Ok(Keeper { shared, thread: Some(thread) })
    }

    /// How many lines there are up to now, whoever writes on.
    pub(crate) fn lines(&self) -> Result<u64> {
        let mut files = self.shared.files();
        let mut lines = 0;
        for held in files.all.iter_mut().filter(|held| !held.is_packed) {
            lines += memchr::memchr_iter(b'\n', &held.read()?).count();
        }
        Ok(lines as u64)
    }

    /// Everything, oldest first. To be asked when nobody writes any more.
    pub(crate) fn finish(mut self) -> Result<Vec<Kept>> {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let thread = self.thread.take().context("the keeper runs")?;
        thread.join().map_err(|_| anyhow::anyhow!("the keeper panicked"))??;
        self.shared.files().finish()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Its failure is told by whoever asks for what it has kept.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, folder: &Path) -> Result<()> {
        self.files().look(folder)
    }
}

impl Files {
    /// Takes in what is new and lets go of what has left the folder.
    fn look(&mut self, folder: &Path) -> Result<()> {
        let mut present = BTreeMap::new();
        for entry in std::fs::read_dir(folder).context("list the log's folder")? {
            let entry = entry.context("list the log's folder")?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with("audit") {
                continue;
            }
            let at = match self.present.get(&std::os::unix::fs::DirEntryExt::ino(&entry)) {
                Some(at) => *at,
                None => match self.open(&entry.path())? {
                    Some(at) => at,
                    // Renamed or deleted in between: seen under its new name, or kept before.
                    None => continue,
                },
            };
            let held = &mut self.all[at];
            held.is_packed = name.ends_with(".gz");
            present.insert(held.inode()?, at);
        }
        let left: Vec<usize> = self
            .present
            .iter()
            .filter(|(inode, _)| !present.contains_key(inode))
            .map(|(_, at)| *at)
            .collect();
        for at in left {
            // A listing is not one moment: a file that is renamed meanwhile may be in none of its places.
            if self.all[at].is_linked()? {
                present.insert(self.all[at].inode()?, at);
                continue;
            }
            self.all[at].release()?;
        }
        self.present = present;
        Ok(())
    }

    fn open(&mut self, path: &Path) -> Result<Option<usize>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
        };
        let inode = file.metadata()?.ino();
        // The name may have come to another file since it was listed.
        if let Some(at) = self.present.get(&inode) {
            return Ok(Some(*at));
        }
        if let Some(at) = self.all.iter().position(|held| held.inode().is_ok_and(|known| known == inode)) {
            return Ok(Some(at));
        }
        self.all.push(Held { is_packed: false, file: Some(file), content: Vec::new(), gone: None });
        Ok(Some(self.all.len() - 1))
    }

    /// Plain files, and compressed ones whose plain file was not seen. Which is which is told by the content: a name may
    /// be gone before it was seen.
    fn finish(&mut self) -> Result<Vec<Kept>> {
        let mut out = Vec::new();
        for held in self.all.iter_mut().filter(|held| !held.is_packed) {
            out.push(Kept { content: held.read()?, gone: held.gone });
        }
        for held in self.all.iter_mut().filter(|held| held.is_packed) {
            let mut content = Vec::new();
            flate2::read::MultiGzDecoder::new(&held.read()?[..])
                .read_to_end(&mut content)
                .context("unpack a backup")?;
            match out.iter_mut().find(|kept| kept.content == content) {
                Some(kept) => kept.gone = held.gone,
                None => out.push(Kept { content, gone: held.gone }),
            }
        }
        Ok(out)
    }
}

impl Held {
    fn inode(&self) -> Result<u64> {
        Ok(self.file.as_ref().context("the file is held")?.metadata()?.ino())
    }

    fn is_linked(&self) -> Result<bool> {
        Ok(self.file.as_ref().context("the file is held")?.metadata()?.nlink() > 0)
    }

    /// The content as it is now.
    fn read(&mut self) -> Result<Vec<u8>> {
        let Some(file) = &mut self.file else { return Ok(self.content.clone()) };
        let mut content = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut content).context("read a file of the log")?;
        Ok(content)
    }

    /// Takes the content over, and lets the file go.
    fn release(&mut self) -> Result<()> {
        self.content = self.read()?;
        self.gone = Some(Instant::now());
        self.file = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A folder in which things happen, and what is known of it.
    struct World {
        folder: tempfile::TempDir,
        files: Files,
    }

    impl World {
        fn at(&self, name: &str) -> std::path::PathBuf {
            self.folder.path().join(name)
        }

        fn pack(&self, name: &str, text: &str) {
            let file = File::create(self.at(name)).unwrap();
            let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap();
        }

        /// What is kept, and whether it is gone.
        fn told(&mut self) -> Vec<(String, bool)> {
            let kept = self.files.finish().unwrap();
            kept.into_iter()
                .map(|kept| (String::from_utf8(kept.content).unwrap(), kept.gone.is_some()))
                .collect()
        }

        fn look(&mut self) {
            self.files.look(self.folder.path()).unwrap();
        }
    }

    #[test]
    fn files_are_kept_over_rename_compression_and_deletion() {
        let mut world = World { folder: tempfile::tempdir().unwrap(), files: Files::default() };
        let mut live = File::create(world.at("audit.log")).unwrap();
        world.look();
        live.write_all(b"one\n").unwrap();
        std::fs::rename(world.at("audit.log"), world.at("audit-1.log")).unwrap();
        std::fs::write(world.at("audit.log"), "two\n").unwrap();
        world.look();
        // Compressed: the plain file goes, but its content is still there.
        world.pack("audit-1.log.gz", "one\n");
        std::fs::remove_file(world.at("audit-1.log")).unwrap();
        world.look();
        assert!(world.files.all[0].file.is_none());
        assert_eq!(world.told(), [("one\n".to_owned(), false), ("two\n".to_owned(), false)]);
        std::fs::remove_file(world.at("audit-1.log.gz")).unwrap();
        world.look();
        assert_eq!(world.told(), [("one\n".to_owned(), true), ("two\n".to_owned(), false)]);
    }

    #[test]
    fn a_backup_that_was_never_seen_plain_is_unpacked() {
        let mut world = World { folder: tempfile::tempdir().unwrap(), files: Files::default() };
        world.pack("audit-1.log.gz", "one\n");
        world.look();
        assert_eq!(world.told(), [("one\n".to_owned(), false)]);
    }
}
