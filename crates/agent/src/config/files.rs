//! The door of the configuration: files and the environment.
//!
//! Refuses files that are larger than any configuration is.
#![expect(clippy::disallowed_methods, reason = "the configuration is read from files and the environment")]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

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
