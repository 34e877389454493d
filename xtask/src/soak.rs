//! `cargo xtask soak`: what seldom happens, looked for over a long time.
//!
//! Three things in turn, until the time is over: the model test of `crates/tail` with many random cases, the events made
//! to leak of `crates/redact`, and trials of the whole agent after a writer in this process. Each starts from a seed of its own, which is printed first.

use crate::repo;
use crate::trial::Trial;
use crate::writer::Local;
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a trial writes at most: some seconds' worth.
const LINES: u64 = 40_000;

/// Lines a second, which the agent can follow.
const RATE: u64 = 8000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// For how long; the round that has begun is finished.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Only one of the three.
    #[arg(long)]
    only: Option<Kind>,
    /// Cases of the model test in one round.
    #[arg(long, default_value_t = 2000)]
    cases: u32,
    /// Events made to leak in one round.
    #[arg(long, default_value_t = 500_000)]
    events: u32,
    /// Of the first round; the next has the next. A random one where none is given.
    #[arg(long)]
    seed: Option<u64>,
    /// The agent to test, instead of a release build of this tree.
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The model test
    Model,
    /// Events made to leak
    Redaction,
    /// Trials of the agent
    Trials,
}

/// Goes round until the time is over, or until something fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let limit = Duration::try_from_secs_f64(args.minutes * 60.0).context("understand --minutes")?;
    let wanted = |kind| args.only.is_none_or(|only| only == kind);
    let agent = if wanted(Kind::Trials) { Some(repo::agent(args.binary.as_deref())?) } else { None };
    let start = Instant::now();
    let first = args.seed.unwrap_or_else(|| fastrand::u64(..1 << 48));
    for seed in first.. {
        println!("soak: seed {seed}, after {:.0} s", start.elapsed().as_secs_f64());
        if wanted(Kind::Model) {
            model(seed, args.cases)?;
        }
        if wanted(Kind::Redaction) {
            redaction(seed, args.events)?;
        }
        if let Some(agent) = &agent {
            trial(agent, seed)?;
        }
        if start.elapsed() >= limit {
            println!("soak: nothing found from seed {first} to {seed}");
            return Ok(());
        }
    }
    Ok(())
}

/// A failing case is printed, made as small as it can be, by proptest.
fn model(seed: u64, cases: u32) -> Result<()> {
    let mut test = repo::cargo();
    test.args(["test", "--quiet", "--package", "auditship-tail", "--test", "it", "model"]);
    test.env("AUDITSHIP_MODEL_CASES", cases.to_string()).env("AUDITSHIP_MODEL_SEED", seed.to_string());
    repo::run(&mut test).with_context(|| format!("the model test, with AUDITSHIP_MODEL_SEED={seed}"))
}

/// As [`model`].
fn redaction(seed: u64, events: u32) -> Result<()> {
    let mut test = repo::cargo();
    test.args(["test", "--quiet", "--package", "auditship-redact", "--test", "it", "no_canary_leaves"]);
    test.env("AUDITSHIP_REDACT_CASES", events.to_string()).env("AUDITSHIP_REDACT_SEED", seed.to_string());
    repo::run(&mut test).with_context(|| format!("redaction, with AUDITSHIP_REDACT_SEED={seed}"))
}

fn trial(agent: &Path, seed: u64) -> Result<()> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let trial = Trial {
        agent,
        seed,
        lines: chance.u64(LINES / 4..=LINES),
        kills: chance.usize(0..=6),
        outage: Duration::from_millis(chance.u64(0..=3000)),
    };
    println!("  {} lines, {} kills, {:?} without backend", trial.lines, trial.kills, trial.outage);
    println!("  {}", trial.run(|folder| Ok(Local::start(folder, trial.lines, RATE)))?);
    Ok(())
}
