//! Where things are in this repository, and how its own programs are started.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Cargo, as it started this program, in the root of the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// What cargo knows about the workspace.
pub(crate) fn metadata() -> Result<Value> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", output.status);
    serde_json::from_slice(&output.stdout).context("read the output of cargo metadata")
}

/// The folder for what is built.
pub(crate) fn target() -> Result<PathBuf> {
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(target))
}

/// Runs a command to its end with its output shown.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {}", name(command)))?;
    ensure!(status.success(), "{}: {status}", name(command));
    Ok(())
}

/// Runs a command to its end and gives what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("start {}", name(command)))?;
    ensure!(output.status.success(), "{}: {}", name(command), output.status);
    String::from_utf8(output.stdout).with_context(|| format!("read the output of {}", name(command)))
}

/// The command as one would type it.
pub(crate) fn name(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let arguments = command.get_args().map(|argument| format!(" {}", argument.to_string_lossy()));
    program.to_string_lossy().into_owned() + &arguments.collect::<String>()
}

/// The agent's binary: the one given, or else a release build of now.
pub(crate) fn agent(given: Option<&Path>) -> Result<PathBuf> {
    let binary = match given {
        Some(path) => path.to_owned(),
        None => {
            run(cargo().args(["build", "--release", "--quiet", "--package", "auditship"]))?;
            target()?.join("release/auditship")
        }
    };
    if !binary.is_file() {
        bail!("there is no program at {}", binary.display());
    }
    Ok(binary)
}

/// A byte count as people write it: `500MB`, `1GB`, `64KiB`, `1000`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        unit => return Err(format!("unknown unit {unit}, expected KB, MB, GB, KiB, MiB or GiB")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text} is no size, expected for example 500MB"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in [("1GB", 1_000_000_000), ("64KiB", 65_536), ("17", 17), ("2MB", 2_000_000)] {
            assert_eq!(bytes(text), Ok(want));
        }
        for text in ["", "MB", "1TB", "99999999999GB", "1.5GB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
