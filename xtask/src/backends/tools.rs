//! Servers and tools from the registries of Go and Python, kept under `target/e2e` from run to run.
//!
//! What cannot be had is told as text (`Ok(Err(reason))`): the backend is then skipped, not failed.

use crate::repo;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder that is kept.
pub(crate) fn cache() -> Result<PathBuf> {
    let folder = repo::target()?.join("e2e");
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// The program of the Go package `package` at `version`, built with `go install`.
pub(crate) fn go_install(package: &str, version: &str) -> Result<Result<PathBuf, String>> {
    let folder = cache()?.join(format!("bin-{version}"));
    let binary = folder.join(package.rsplit('/').next().unwrap_or(package));
    if binary.is_file() {
        return Ok(Ok(binary));
    }
    let mut go = go();
    go.arg("install").arg(format!("{package}@{version}")).env("GOBIN", &folder);
    Ok(done(&mut go)?.map(|()| binary))
}

/// Go, as it is installed: none is to be fetched.
pub(crate) fn go() -> Command {
    let mut command = Command::new("go");
    command.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-buildvcs=false").env("CGO_ENABLED", "0");
    command.stdin(Stdio::null());
    command
}

/// The Python of a virtual environment that holds `packages` (`name==version`).
pub(crate) fn venv(name: &str, packages: &[&str]) -> Result<Result<PathBuf, String>> {
    let folder = cache()?.join(format!("venv-{name}"));
    let (python, list) = (folder.join("bin/python"), folder.join("packages"));
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&list).is_ok_and(|have| have == wanted) {
        return Ok(Ok(python));
    }
    if let Err(reason) = done(Command::new("python3").args(["-m", "venv"]).arg(&folder))? {
        return Ok(Err(reason));
    }
    if let Err(reason) = done(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))?
    {
        return Ok(Err(reason));
    }
    std::fs::write(&list, wanted).with_context(|| format!("write {}", list.display()))?;
    Ok(Ok(python))
}

/// Installs a package of Debian's.
pub(crate) fn apt_install(package: &str) -> Result<Result<(), String>> {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--yes", "--quiet", "--no-install-recommends", package]).stdin(Stdio::null());
    done(&mut apt)
}

/// Runs a command to its end; says why it did not succeed.
pub(crate) fn done(command: &mut Command) -> Result<Result<(), String>> {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            let program = Path::new(command.get_program()).display().to_string();
            return Ok(Err(format!("{program} cannot be started: {error}")));
        }
    };
    if output.status.success() {
        return Ok(Ok(()));
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Ok(Err(format!("{}: {}: {}", repo::name(command), output.status, last.trim())))
}
