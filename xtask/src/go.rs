//! Go programs of this repository, each in a folder of its own: built where Go is installed.

use crate::repo;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the source of the program `name` stands.
pub(crate) fn source(name: &str) -> PathBuf {
    repo::root().join("xtask").join(name)
}

/// Go, in the folder of a program.
pub(crate) fn go(source: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("go");
    // Whatever Go is installed will do: none is to be fetched.
    command.args(arguments).current_dir(source).env("GOTOOLCHAIN", "local").stdin(Stdio::null());
    command
}

/// The binary of the program `name`, or why it cannot be had on this machine.
pub(crate) fn build(name: &str) -> Result<Result<PathBuf, String>> {
    let source = source(name);
    if !go(&source, &["version"]).output().is_ok_and(|output| output.status.success()) {
        return Ok(Err("go is not installed".to_owned()));
    }
    let fetched = go(&source, &["mod", "download"]).output().context("start go")?;
    if !fetched.status.success() {
        let text = String::from_utf8_lossy(&fetched.stderr).into_owned();
        return Ok(Err(format!("the Go modules cannot be had: {}", text.trim())));
    }
    let folder = repo::target()?.join("e2e");
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let binary = folder.join(format!("{name}-go"));
    repo::run(go(&source, &["build", "-o"]).arg(&binary).arg("."))?;
    Ok(Ok(binary))
}
