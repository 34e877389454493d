//! `cargo xtask test`: exactly what CI runs.

use crate::{docs, repo, tidy, workflows};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Instant;

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("format", || cargo(&["fmt", "--all", "--check"])),
    ("lint", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
    ("tidy", tidy::run),
    // Doc tests are part of this: no target is named.
    ("test", || cargo(&["test", "--workspace", "--no-fail-fast"])),
    ("examples", examples),
    ("docs", docs::check),
    ("workflows", workflows::run),
];

/// Runs every step in its order and stops at the first that fails.
pub(crate) fn run() -> Result<()> {
    for (number, (name, step)) in STEPS.iter().enumerate() {
        println!("\n== {}/{} {name}", number + 1, STEPS.len());
        let start = Instant::now();
        step().with_context(|| format!("step {name}"))?;
        println!("== {name}: ok, {:.1} s", start.elapsed().as_secs_f64());
    }
    println!("\nall {} steps passed", STEPS.len());
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    repo::run(repo::cargo().args(arguments))
}

/// Every configuration in `examples/` must be one that the agent takes.
fn examples() -> Result<()> {
    let examples = example_files()?;
    if examples.is_empty() {
        println!("no examples");
        return Ok(());
    }
    cargo(&["build", "--quiet", "--package", "auditship"])?;
    for example in examples {
        println!("check {}", example.display());
        let run = ["run", "--quiet", "--package", "auditship", "--", "check", "--config"];
        // Stand-ins for what the examples take from the environment.
        let from_outside = [
            "NODE_NAME",
            "ES_API_KEY",
            "AUDIT_HTTP_TOKEN",
            "AUDIT_TOKEN",
            "DD_API_KEY",
            "SPLUNK_HEC_TOKEN",
            "AWS_REGION",
        ]
        .map(|name| (name, "example"));
        repo::run(repo::cargo().args(run).arg(&example).envs(from_outside))?;
    }
    Ok(())
}

/// The example configurations, relative to the root, sorted.
fn example_files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in ["examples", "examples/outputs"] {
        let Ok(entries) = std::fs::read_dir(repo::root().join(folder)) else { continue };
        for entry in entries {
            let name = PathBuf::from(entry.context("list examples")?.file_name());
            if name.extension().is_some_and(|extension| extension == "yaml") {
                files.push(PathBuf::from(folder).join(name));
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_has_its_line() {
        let root = repo::root();
        let page = std::fs::read_to_string(root.join("docs/outputs/presets.md")).unwrap();
        let presets: Vec<PathBuf> = example_files()
            .unwrap()
            .into_iter()
            .filter(|file| file.starts_with("examples/outputs"))
            .collect();
        assert!(presets.len() >= 11, "{presets:?}");
        for preset in presets {
            assert!(page.contains(&format!("(../../{})", preset.display())), "{}", preset.display());
        }
    }
}
