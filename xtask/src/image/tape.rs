//! tar as far as images and packages need it: folders and files with short names, owners by number, and one time for
//! all, so that the same content is the same archive byte for byte.

use anyhow::{Context, Result, bail, ensure};
use flate2::{Compression, GzBuilder};
use std::io::Write;

const BLOCK: usize = 512;

/// Names in a header of the oldest form.
const NAME_MAX: usize = 100;

/// One file or folder of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Relative, with a slash at the end for a folder.
    pub(crate) path: String,
    /// Permissions alone.
    pub(crate) mode: u32,
    /// Owner and group.
    pub(crate) owner: u32,
    /// Empty for a folder.
    pub(crate) content: Vec<u8>,
}

impl Entry {
    /// A folder.
    pub(crate) fn folder(path: &str, mode: u32, owner: u32) -> Entry {
        Entry { path: format!("{path}/"), mode, owner, content: Vec::new() }
    }

    /// A file of root.
    pub(crate) fn file(path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Entry {
        Entry { path: path.to_owned(), mode, owner: 0, content: content.into() }
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.path.ends_with('/')
    }

    fn header(&self) -> Result<[u8; BLOCK]> {
        ensure!(self.path.len() < NAME_MAX, "{} is too long a name", self.path);
        ensure!(self.mode & !0o7777 == 0, "{}: mode {:o}", self.path, self.mode);
        let mut header = [0; BLOCK];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, &self.path);
        put(100, &format!("{:07o}", self.mode));
        put(108, &format!("{:07o}", self.owner));
        put(116, &format!("{:07o}", self.owner));
        put(124, &format!("{:011o}", self.content.len()));
        // Its time: the beginning of 1970.
        put(136, "00000000000");
        put(148, "        ");
        put(156, if self.is_folder() { "5" } else { "0" });
        put(257, "ustar\0");
        put(263, "00");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        Ok(header)
    }
}

/// The archive of `entries`, in their order.
pub(crate) fn write(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for entry in entries {
        out.extend_from_slice(&entry.header()?);
        out.extend_from_slice(&entry.content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    Ok(out)
}

/// What an archive holds that [`write`] or GNU tar has written.
pub(crate) fn read(mut archive: &[u8]) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    loop {
        let (header, rest) = archive.split_at_checked(BLOCK).context("the archive has no end")?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(entries);
        }
        let text = |from: usize, to: usize| {
            let field = &header[from..to];
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            String::from_utf8_lossy(&field[..end]).trim().to_owned()
        };
        let number = |from, to| {
            let digits = text(from, to);
            usize::from_str_radix(&digits, 8).with_context(|| format!("{digits:?} is no octal number"))
        };
        let (path, size) = (text(0, 100), number(124, 136)?);
        match header[156] {
            b'0' | 0 | b'5' => {}
            kind => bail!("{path} is a {:?}, neither a file nor a folder", char::from(kind)),
        }
        let (mode, owner) = (number(100, 108)? as u32, number(108, 116)? as u32);
        let content = rest.get(..size).with_context(|| format!("{path} is cut"))?.to_vec();
        archive = rest.get(size.next_multiple_of(BLOCK)..).with_context(|| format!("{path} is cut"))?;
        entries.push(Entry { path, mode, owner, content });
    }
}

/// gzip without a name and a time.
pub(crate) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes).context("compress")?;
    encoder.finish().context("compress")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn what_is_written_is_read() {
        let entries = vec![
            Entry::folder("a", 0o700, 65532),
            Entry::file("a/b", 0o644, "x".repeat(600)),
            Entry::file("c", 0o755, ""),
        ];
        assert_eq!(read(&write(&entries).unwrap()).unwrap(), entries);
        assert!(write(&[Entry::file(&"n".repeat(100), 0o644, "")]).is_err());
        assert!(read(&write(&entries).unwrap()[..900]).is_err());
    }

    #[test]
    fn others_read_it_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive.tar");
        std::fs::write(
            &path,
            write(&[Entry::folder("a", 0o755, 0), Entry::file("a/b", 0o640, "text")]).unwrap(),
        )
        .unwrap();
        let listed = Command::new("tar").arg("--utc").arg("-tvf").arg(&path).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let want = "drwxr-xr-x 0/0               0 1970-01-01 00:00 a/\n-rw-r----- 0/0               4 1970-01-01 00:00 a/b\n";
        assert_eq!(listed, want);
    }
}
