//! `cargo xtask e2e apiserver`: the agent behind a real kube-apiserver.
//!
//! The API server logs real traffic to files of one megabyte, which it rotates, compresses and deletes. The agent ships
//! them to a `_bulk` server and to an archive. Both the API server and the agent are killed at random, the `_bulk` server
//! goes away and comes back. In the end
//!
//! - both backends have every event that was ever in the API server's files, once, and the same (`judge`), except what
//!   rotation deleted while no agent was there, which must have been told;
//! - the files have as many lines as the API server has counted events (`apiserver_audit_event_total`), less those that
//!   it could not write;
//! - every request that was answered is in the files;
//! - no planted secret is in any backend, nor in what the agent leaves on disk and says of itself (`leaks`).
//!
//! Before that, all that the Helm chart renders is shown to the API server (`chart`).
//!
//! The log's mode is `blocking`, the default for files: an event is written before its request is answered, and a killed
//! API server loses none that anybody could know of. Under `batch` it would lose what it had in memory, which no agent
//! can see, so that the counts could not agree.

mod chart;
mod client;
mod cluster;
mod judge;
mod keeper;
mod leaks;
mod pki;
mod programs;
mod requests;
mod round;
mod secrets;
mod traffic;

pub(crate) use pki::Pki;

use crate::repo;
use anyhow::{Context, Result};
use programs::Programs;
use round::{Round, Summary};
use std::path::PathBuf;
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// For the secrets, the traffic and the moments of the kills; one for each round. Random ones where none is given.
    #[arg(long)]
    seed: Vec<u64>,
    /// How many rounds, where no seed is given: every other one with every body in the log.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// How long the traffic of a round lasts, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..))]
    seconds: u64,
    /// Threads that make traffic.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
    /// As --audit-log-maxbackup of the API server.
    #[arg(long, default_value_t = 5)]
    maxbackup: u32,
    /// Another audit policy for all rounds, instead of the example's and that of every body in turn.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Only show what the chart renders to the API server.
    #[arg(long)]
    chart_only: bool,
    /// The agent to test, instead of a release build of this tree.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// What the examples recommend.
const EXAMPLE_POLICY: &str = "examples/kubeadm-elasticsearch/audit-policy.yaml";

const EVERYTHING_POLICY: &str = "xtask/apiserver/everything.yaml";

/// Builds the programs and runs the rounds.
pub(crate) fn run(args: &Args) -> Result<()> {
    let programs = match Programs::build()? {
        Ok(programs) => programs,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    println!("== the chart, {}", programs.version);
    chart::check(&programs, repo::root().join(EXAMPLE_POLICY).canonicalize().context("find the policy")?)?;
    if args.chart_only {
        return Ok(());
    }
    let binary = repo::agent(args.binary.as_deref())?.canonicalize().context("find the agent")?;
    let seeds = match args.seed.is_empty() {
        true => (0..args.rounds).map(|_| fastrand::u64(..1_000_000)).collect(),
        false => args.seed.clone(),
    };
    let mut summaries: Vec<Summary> = Vec::new();
    for (number, seed) in seeds.iter().enumerate() {
        let policy = match (&args.policy, number % 2) {
            (Some(policy), _) => policy.canonicalize().context("find the policy")?,
            (None, 0) => repo::root().join(EXAMPLE_POLICY).canonicalize().context("find the policy")?,
            (None, _) => repo::root().join(EVERYTHING_POLICY).canonicalize().context("find the policy")?,
        };
        println!("== seed {seed}, {} for {} s, {}", programs.version, args.seconds, policy.display());
        let round = Round {
            programs: &programs,
            binary: &binary,
            seed: *seed,
            length: Duration::from_secs(args.seconds),
            threads: args.threads as usize,
            max_backups: args.maxbackup,
            is_silent: policy.ends_with(EXAMPLE_POLICY),
            policy,
        };
        summaries.push(round.run()?);
    }
    println!("\n{}", Summary::table(&summaries));
    println!("ok: every event is in both backends once, the counts agree, no planted secret is anywhere");
    Ok(())
}
