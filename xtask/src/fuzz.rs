//! `cargo xtask fuzz`: the fuzz targets with random inputs, for as long as you say, on a stable compiler.

use crate::repo;
use anyhow::{Context, Result, ensure};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One target instead of all: scan, edits, nested, redact, lines.
    target: Option<String>,
    /// For how long, each.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Of the changes made to the inputs. A random one where none is given.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the targets one after the other; stops at the first input that fails, which is kept.
pub(crate) fn run(args: &Args) -> Result<()> {
    let all = targets()?;
    let targets: Vec<&String> =
        all.iter().filter(|target| args.target.as_ref().is_none_or(|only| only == *target)).collect();
    ensure!(!targets.is_empty(), "there is no such target; there are {}", all.join(", "));
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    for target in targets {
        let mut driver = repo::cargo();
        driver.args(["run", "--quiet", "--package", "auditship-fuzz", "--", target]);
        driver.arg(args.seconds.to_string()).arg(seed.to_string());
        repo::run(&mut driver).with_context(|| format!("fuzz {target}"))?;
    }
    Ok(())
}

/// The names of the targets: each has a corpus.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(repo::root().join("fuzz/corpus")).context("list the corpora")? {
        names.push(entry.context("list the corpora")?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
