//! The committed inputs: one folder for each target, one file for each input.
#![expect(clippy::disallowed_methods, reason = "it reads the corpus")]

use std::io;
use std::path::{Path, PathBuf};

/// Where the inputs of `target` are.
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The inputs of `target`, in the order of their names.
///
/// # Errors
/// Where the folder or a file cannot be read.
pub fn read(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder(target))? {
        paths.push(entry?.path());
    }
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}
