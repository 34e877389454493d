//! A log of real events that grows, and rotates as lumberjack rotates: rename to a name with the time, then create anew.
//!
//! Invariant: no two lines are equal, however many are written.

use crate::corpus::Corpus;
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The log and its backups.
pub(crate) struct Log {
    /// The file that grows.
    pub(crate) path: PathBuf,
    /// Lines written.
    pub(crate) written: usize,
    /// Bytes written.
    pub(crate) bytes: u64,
    /// The backups, oldest first.
    pub(crate) backups: Vec<PathBuf>,
    file: File,
    corpus: Corpus,
    /// Lines of the corpus and of its copies that were looked at.
    looked_at: usize,
    hashes: HashSet<u64>,
}

impl Log {
    /// An empty log in `folder`, to be written from `corpus` and its copies.
    pub(crate) fn create(folder: &Path, corpus: Corpus) -> Result<Log> {
        let path = folder.join("audit.log");
        let file = File::create(&path).context("create the log")?;
        let (written, bytes, backups) = (0, 0, Vec::new());
        Ok(Log { path, written, bytes, backups, file, corpus, looked_at: 0, hashes: HashSet::new() })
    }

    /// Appends lines, each of which was never written before.
    pub(crate) fn write(&mut self, lines: usize) -> Result<()> {
        let end = self.written + lines;
        while self.written < end {
            let number = self.looked_at % self.corpus.len();
            if number == 0 {
                // Copy 0 is the corpus itself, which may have been shipped from elsewhere.
                self.corpus.become_copy(1 + (self.looked_at / self.corpus.len()) as u32);
            }
            self.looked_at += 1;
            let line = self.corpus.line(number);
            if self.hashes.insert(hash(line)) {
                // One write a line, as the API server does.
                self.file.write_all(line).context("write to the log")?;
                self.written += 1;
                self.bytes += line.len() as u64;
            }
        }
        Ok(())
    }

    /// Makes the log a backup, and begins a new one.
    pub(crate) fn rotate(&mut self) -> Result<()> {
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S.%3f").to_string();
        let backup = self.path.with_file_name(format!("audit-{time}.log"));
        std::fs::rename(&self.path, &backup).context("rename the log")?;
        self.backups.push(backup);
        self.file = File::create(&self.path).context("create the new log")?;
        Ok(())
    }

    /// Compresses a backup.
    pub(crate) fn compress(&mut self, backup: usize) -> Result<()> {
        self.backups[backup] = compress(&self.backups[backup])?;
        Ok(())
    }
}

/// Compresses a backup beside its plain file, which goes last; gives the new file's path.
pub(crate) fn compress(plain: &Path) -> Result<PathBuf> {
    let packed = PathBuf::from(format!("{}.gz", plain.display()));
    let bytes = std::fs::read(plain).context("read a backup")?;
    let file = File::create(&packed).context("create a compressed backup")?;
    // lumberjack compresses with Go's default, which is the same level.
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::default());
    encoder.write_all(&bytes).context("compress a backup")?;
    encoder.finish().context("compress a backup")?;
    std::fs::remove_file(plain).context("delete a compressed backup")?;
    Ok(packed)
}

/// Enough to tell some hundred thousand lines apart.
pub(crate) fn hash(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn lines_are_distinct_over_rotation_and_compression() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        // The second line is the first again; the copies of the third cannot be told apart.
        let line = r#"{"auditID":"0a1b2c3d-0000","stageTimestamp":"2026-11-24T00:33:57.363000Z"}"#;
        std::fs::write(&source, format!("{line}\n{line}\n{{}}\n")).unwrap();
        let mut log = Log::create(folder.path(), Corpus::read(&[source]).unwrap()).unwrap();
        log.write(3).unwrap();
        log.rotate().unwrap();
        log.compress(0).unwrap();
        log.write(2).unwrap();
        let mut text = String::new();
        let backup = File::open(&log.backups[0]).unwrap();
        flate2::read::MultiGzDecoder::new(backup).read_to_string(&mut text).unwrap();
        text += &std::fs::read_to_string(&log.path).unwrap();
        assert_eq!((log.written, log.bytes), (5, text.len() as u64));
        let distinct: HashSet<&str> = text.lines().collect();
        assert_eq!(distinct.len(), 5, "{text}");
        assert!(!folder.path().join(log.backups[0].with_extension("")).exists());
    }
}
