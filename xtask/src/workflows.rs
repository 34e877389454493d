//! `cargo xtask workflows`: the workflows by actionlint, and the rule that what may write anything runs no action that
//! somebody else could exchange: each is named by its commit.

use crate::backends::tools;
use crate::repo;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;

const ACTIONLINT: (&str, &str) = ("github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12");

/// Checks every workflow. Where actionlint cannot be had, the rule alone.
pub(crate) fn run() -> Result<()> {
    let folder = repo::root().join(".github/workflows");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder).context("list the workflows")? {
        paths.push(entry.context("list the workflows")?.path());
    }
    paths.sort();
    let mut findings = Vec::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        findings.extend(
            exchangeable(&text)
                .into_iter()
                .map(|action| format!("{name}: {action} is not named by its commit")),
        );
    }
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    lint(&paths)
}

fn lint(paths: &[PathBuf]) -> Result<()> {
    match tools::go_install(ACTIONLINT.0, ACTIONLINT.1)? {
        Ok(program) => {
            // What it would ask of others, if they happen to be installed, differs from machine to machine.
            repo::run(Command::new(program).args(["-shellcheck=", "-pyflakes="]).args(paths))?;
            println!("{} workflows are in order", paths.len());
        }
        Err(reason) => println!("skipped: actionlint: {reason}"),
    }
    Ok(())
}

/// Actions of a workflow with rights that are named by something that can be moved.
fn exchangeable(workflow: &str) -> Vec<String> {
    let has_rights = workflow.lines().any(|line| line.trim_end().ends_with(": write"));
    let actions = workflow.lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches("- ");
        line.strip_prefix("uses:")
            .map(|action| action.split('#').next().unwrap_or_default().trim().to_owned())
    });
    let is_fixed = |action: &String| {
        let version = action.split_once('@').map_or("", |(_, version)| version);
        action.starts_with("./")
            || (version.len() == 40 && version.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    if has_rights { actions.filter(|action| !is_fixed(action)).collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_of_who_may_write_are_fixed() {
        let workflow = |rights: &str, version: &str| {
            format!(
                "permissions:\n  contents: {rights}\njobs:\n  a:\n    steps:\n      - uses: actions/checkout@{version} # v6\n"
            )
        };
        assert_eq!(exchangeable(&workflow("write", "v6")), ["actions/checkout@v6"]);
        assert!(exchangeable(&workflow("read", "v6")).is_empty());
        assert!(exchangeable(&workflow("write", &"0a".repeat(20))).is_empty());
    }
}
