//! `cargo xtask fuzz`: the fuzz targets with random inputs, for as long as you say: on a stable compiler, or guided by
//! coverage where a nightly one and cargo-fuzz are installed.

use crate::backends::tools;
use crate::repo;
use anyhow::{Context, Result, ensure};
use std::process::Command;

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
    /// With libFuzzer, which keeps what reaches new code (in target/fuzz) and goes on from there the next time.
    #[arg(long)]
    guided: bool,
}

/// No input may take longer.
const LONGEST_SECONDS: u32 = 30;

/// No input may need more, with what the sanitizer takes.
const MOST_MIB: u32 = 3000;

/// Runs the targets one after the other; stops at the first input that fails, which is kept.
pub(crate) fn run(args: &Args) -> Result<()> {
    let all = targets()?;
    let targets: Vec<&String> =
        all.iter().filter(|target| args.target.as_ref().is_none_or(|only| only == *target)).collect();
    ensure!(!targets.is_empty(), "there is no such target; there are {}", all.join(", "));
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    if args.guided {
        return guided(&targets, args.seconds, seed);
    }
    for target in targets {
        let mut driver = repo::cargo();
        driver.args(["run", "--quiet", "--package", "auditship-fuzz", "--", target]);
        driver.arg(args.seconds.to_string()).arg(seed.to_string());
        repo::run(&mut driver).with_context(|| format!("fuzz {target}"))?;
    }
    Ok(())
}

/// Runs cargo-fuzz on each of the targets.
fn guided(targets: &[&String], seconds: f64, seed: u64) -> Result<()> {
    let nightly = || {
        let mut rustup = Command::new("rustup");
        rustup.current_dir(repo::root()).args(["run", "nightly", "cargo", "fuzz"]);
        // What cargo has set for this program is about another compiler.
        for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
            rustup.env_remove(name);
        }
        rustup
    };
    if let Err(reason) = tools::done(nightly().arg("--version"))? {
        println!("skipped: needs a nightly toolchain and cargo-fuzz (cargo install cargo-fuzz): {reason}");
        return Ok(());
    }
    for target in targets {
        let kept = repo::target()?.join("fuzz").join(target);
        std::fs::create_dir_all(&kept).with_context(|| format!("make {}", kept.display()))?;
        let found = repo::root().join("fuzz/artifacts").join(target);
        std::fs::create_dir_all(&found).with_context(|| format!("make {}", found.display()))?;
        let mut fuzz = nightly();
        fuzz.args(["run", "--fuzz-dir", "fuzz/libfuzzer", target]).arg(&kept);
        fuzz.arg(repo::root().join("fuzz/corpus").join(target)).arg("--");
        fuzz.arg(format!("-max_total_time={}", seconds.ceil())).arg(format!("-seed={}", seed as u32));
        fuzz.arg(format!("-timeout={LONGEST_SECONDS}")).arg(format!("-rss_limit_mb={MOST_MIB}"));
        fuzz.arg(format!("-artifact_prefix={}/", found.display()));
        fuzz.args(["-verbosity=0", "-print_final_stats=1"]);
        repo::run(&mut fuzz)
            .with_context(|| format!("fuzz {target}; what was found is in {}", found.display()))?;
        println!("{target}: {seconds} s, nothing found (seed {})", seed as u32);
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
