//! The door of the configuration: files and the environment.
//!
//! Refuses files that are larger than any configuration is. Remembers by its digest, never by its content, what
//! stood in a file that a value was taken from.
#![expect(clippy::disallowed_methods, reason = "the configuration is read from files and the environment")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest file that is read, for a configuration as for a secret.
const FILE_MAX: u64 = 1 << 20;

/// The text of a file.
pub fn read(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The files that values were taken from (`${file:PATH}`), and what was in them.
///
/// By content, not by time: a Secret that is mounted changes by the swap of a link above the file.
#[derive(Debug, Default)]
pub struct Referenced {
    /// Keyed for this process, so that it tells nothing.
    hasher: RandomState,
    /// `None`: it could not be read.
    files: RefCell<BTreeMap<PathBuf, Option<u64>>>,
}

impl Referenced {
    /// Reads a file and remembers what was in it.
    pub fn read(&self, path: &Path) -> io::Result<String> {
        let text = read(path);
        let digest = text.as_ref().ok().map(|text| self.hasher.hash_one(text));
        self.files.borrow_mut().insert(path.to_owned(), digest);
        text
    }

    /// The first file that does not hold what it held when this was asked before. One that cannot be read counts
    /// once, and again when it can be.
    pub fn changed(&self) -> Option<PathBuf> {
        let paths: Vec<(PathBuf, Option<u64>)> =
            self.files.borrow().iter().map(|(path, digest)| (path.clone(), *digest)).collect();
        let mut changed = None;
        for (path, before) in paths {
            // What is wrong with it, a reload will say.
            let _ = self.read(&path);
            if self.files.borrow().get(&path) != Some(&before) {
                changed = changed.or(Some(path));
            }
        }
        changed
    }
}

/// The environment. A variable that is not UTF-8 is no configuration, and is left out.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_link_is_a_change_and_a_new_time_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        // As the kubelet lays out a mounted Secret.
        let lay = |version: &str, text: &str| {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("token"), text).unwrap();
            std::os::unix::fs::symlink(version, at("..data_tmp")).unwrap();
            std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        lay("..1", "one");
        std::os::unix::fs::symlink("..data/token", at("token")).unwrap();
        let referenced = Referenced::default();
        assert_eq!(referenced.changed(), None);
        assert_eq!(referenced.read(&at("token")).unwrap(), "one");
        assert_eq!(referenced.changed(), None);
        lay("..2", "one");
        assert_eq!(referenced.changed(), None, "the same content");
        lay("..3", "two");
        assert_eq!(referenced.changed(), Some(at("token")));
        assert_eq!(referenced.changed(), None, "told once");
        std::fs::remove_file(at("..data")).unwrap();
        assert_eq!(referenced.changed(), Some(at("token")), "it is gone");
        assert_eq!(referenced.changed(), None);
        lay("..4", "two");
        assert_eq!(referenced.changed(), Some(at("token")), "it is back");
        assert!(!format!("{referenced:?}").contains("two"));
    }

    #[test]
    fn what_is_no_text_is_refused_by_kind() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("good"), "cluster: x\n").unwrap();
        std::fs::write(at("latin1"), b"cluster: \xe9\n").unwrap();
        std::fs::write(at("huge"), vec![b'#'; FILE_MAX as usize + 1]).unwrap();
        assert_eq!(read(&at("good")).unwrap(), "cluster: x\n");
        assert_eq!(read(&at("latin1")).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(&at("huge")).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(read(directory.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }
}
