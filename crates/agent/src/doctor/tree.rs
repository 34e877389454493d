//! A node's files below a directory: the machine's own, another one's that is mounted somewhere, a process' view.
//!
//! A door: it opens, reads and lists, and never writes. Invariant: below a given directory no link and no `..` leads out
//! of it (openat2(2), `RESOLVE_IN_ROOT`), so that `/var/log` in a mounted node means that node's. Only regular files are
//! read, and only so much of them.

use super::facts::{Stat, System};
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2, readlinkat};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// No manifest, policy or configuration is longer.
pub const TEXT_MAX: u64 = 1 << 20;
/// More entries of a directory than this are not looked at.
const ENTRIES_MAX: usize = 20_000;

/// Where paths begin.
pub struct Tree {
    /// `None`: the machine's own root.
    dir: Option<OwnedFd>,
    path: PathBuf,
}

impl Tree {
    /// The files below `path`, or the machine's own.
    ///
    /// # Errors
    /// It is no directory, or may not be looked at.
    pub fn new(path: Option<&Path>) -> io::Result<Tree> {
        let Some(path) = path else { return Ok(Tree { dir: None, path: PathBuf::from("/") }) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Tree { dir: Some(dir), path: path.to_owned() })
    }

    /// Where its paths begin, on this machine.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        // Never waits for a pipe's other end, and never becomes anybody's terminal; a mere look can do neither.
        let careful =
            if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK | OFlags::NOCTTY };
        let flags = flags | OFlags::CLOEXEC | careful;
        let opened = match &self.dir {
            None => rustix::fs::open(path, flags, Mode::empty()),
            Some(dir) => openat2(dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT),
        };
        Ok(opened?)
    }

    /// Whether there is something of that name.
    pub fn has(&self, path: &str) -> bool {
        self.open(path, OFlags::PATH).is_ok()
    }

    /// Whose a path is.
    ///
    /// # Errors
    /// There is none, or it may not be looked at.
    pub fn stat(&self, path: &str) -> io::Result<Stat> {
        stat_of(self.open(path, OFlags::PATH)?)
    }

    /// The file system of a path.
    ///
    /// # Errors
    /// As [`Tree::stat`].
    pub fn system(&self, path: &str) -> io::Result<System> {
        let system = fstatfs(self.open(path, OFlags::PATH)?)?;
        let block = u64::try_from(system.f_bsize).unwrap_or(0);
        Ok(System {
            kind: kind(system.f_type as u64),
            bytes: system.f_blocks.saturating_mul(block),
            free: system.f_bavail.saturating_mul(block),
        })
    }

    /// Opens a regular file, and says how long it is.
    ///
    /// # Errors
    /// It is something else, or may not be read.
    pub fn file(&self, path: &str) -> io::Result<(File, u64)> {
        regular(File::from(self.open(path, OFlags::RDONLY)?))
    }

    /// The whole of a small file.
    ///
    /// # Errors
    /// As [`Tree::file`], or it is longer than [`TEXT_MAX`].
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let file = self.file(path)?.0;
        read_all(file)
    }

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// It is none, or may not be read.
    pub fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let dir = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::new(dir)?.take(ENTRIES_MAX) {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Where a link in a directory points to.
    ///
    /// # Errors
    /// It is none.
    pub fn link(&self, dir: &str, name: &str) -> io::Result<String> {
        let dir = self.open(dir, OFlags::PATH | OFlags::DIRECTORY)?;
        let target = readlinkat(dir.as_fd(), name, Vec::new())?;
        Ok(target.to_string_lossy().into_owned())
    }
}

/// Reads a file that was named on the command line; `-` is standard input.
///
/// # Errors
/// It may not be read, is no regular file, or is longer than [`TEXT_MAX`].
pub fn read_named(path: &Path) -> io::Result<Vec<u8>> {
    if path.as_os_str() == OsStr::from_bytes(b"-") {
        return read_all(io::stdin().lock());
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    read_all(regular(file)?.0)
}

fn regular(file: File) -> io::Result<(File, u64)> {
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(io::Error::other(if data.is_dir() {
            "it is a directory"
        } else {
            "it is no regular file"
        }));
    }
    let bytes = data.len();
    Ok((file, bytes))
}

fn read_all(file: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(TEXT_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > TEXT_MAX {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(text)
}

fn stat_of(file: OwnedFd) -> io::Result<Stat> {
    let stat = fstat(file)?;
    let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
    Ok(Stat { mode: stat.st_mode & 0o7777, user: stat.st_uid, group: stat.st_gid, is_dir })
}

/// A file system's name by its number (statfs(2), linux/magic.h).
fn kind(number: u64) -> String {
    let name = match number & 0xffff_ffff {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0x0102_1994 => "tmpfs",
        0x8584_58f6 => "ramfs",
        0x794c_7630 => "overlay",
        0x6969 => "nfs",
        0xff53_4d42 => "cifs",
        0xfe53_4d42 => "smb2",
        0x6573_5546 => "fuse",
        0x0102_1997 => "9p",
        0x00c3_6400 => "ceph",
        other => return format!("file system {other:#x}"),
    };
    name.to_owned()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make the files that are looked at")]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn no_link_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "outside").unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/x"), "inside").unwrap();
        symlink("/etc/x", dir.path().join("absolute")).unwrap();
        symlink("../../../../../etc/x", dir.path().join("etc/up")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("out")).unwrap();
        let tree = Tree::new(Some(dir.path())).unwrap();
        for path in ["/etc/x", "/absolute", "/etc/up", "/../../etc/x"] {
            assert_eq!(tree.read(path).unwrap(), b"inside", "{path}");
        }
        assert!(tree.read("/out").is_err());
        assert_eq!(tree.list("/etc").unwrap(), ["up", "x"]);
        assert_eq!(tree.link("/", "absolute").unwrap(), "/etc/x");
    }

    #[test]
    fn only_small_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("huge");
        File::create(&path).unwrap().set_len(TEXT_MAX + 1).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        let tree = Tree::new(Some(dir.path())).unwrap();
        for (name, want) in [("huge", "longer than 1 MiB"), ("pipe", "no regular file"), ("", "a directory")]
        {
            let told = tree.read(&format!("/{name}")).unwrap_err().to_string();
            assert!(told.contains(want), "{name}: {told}");
            let told = read_named(&dir.path().join(name)).unwrap_err().to_string();
            assert!(told.contains(want), "{name}: {told}");
        }
        assert_eq!(tree.read("/none").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o710)).unwrap();
        let tree = Tree::new(Some(dir.path())).unwrap();
        let stat = tree.stat("/").unwrap();
        assert!(stat.is_dir && stat.mode == 0o710, "{stat:?}");
        assert_eq!(stat.user, rustix::process::geteuid().as_raw());
        let system = tree.system("/").unwrap();
        assert!(system.bytes >= system.free && !system.kind.is_empty());
    }
}
