//! `cargo xtask e2e backends`: every output against a real server of its kind, or the nearest that can be had.
//!
//! A backend is one file here and one line in the table. It gets its server (kept under `target/e2e` from run to
//! run), starts it on the loopback interface, ships to it, asks it for what it has, and compares every event with
//! what was sent. A server that cannot be had on this machine is skipped, with the reason.

pub(crate) mod clickhouse;
mod datadog;
pub(crate) mod dir;
mod ecs;
mod json;
pub(crate) mod opensearch;
mod otelcol;
pub(crate) mod s3;
pub(crate) mod sent;
pub(crate) mod server;
mod splunk;
pub(crate) mod tools;
mod victorialogs;

use crate::repo;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// One line of the table.
struct Backend {
    /// What `--only` knows it by.
    name: &'static str,
    /// Ships with the agent `binary`, and keeps what it writes in the empty folder `work`.
    run: fn(binary: &Path, work: &Path) -> Result<()>,
}

const BACKENDS: &[Backend] = &[
    Backend { name: "clickhouse", run: clickhouse::run },
    Backend { name: "loki", run: no_loki },
    Backend { name: "opensearch", run: opensearch::run },
    Backend { name: "otelcol", run: otelcol::run },
    Backend { name: "ecs", run: ecs::run },
    Backend { name: "s3", run: s3::run },
    Backend { name: "victorialogs", run: victorialogs::run },
    Backend { name: "datadog", run: datadog::run },
    Backend { name: "splunk", run: splunk::run },
];

/// Loki's licence is AGPL-3.0: it is not fetched. What it answers is in the tests of the sink, by its source.
fn no_loki(_: &Path, _: &Path) -> Result<()> {
    println!("skipped: Loki (AGPL-3.0) is not used here; `victorialogs` takes the same requests");
    Ok(())
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these backends.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The agent to test, instead of a release build of this tree.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// Runs the backends that were asked for, one after the other; fails at the end if one has failed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let known: Vec<&str> = BACKENDS.iter().map(|backend| backend.name).collect();
    for name in &args.only {
        ensure!(known.contains(&name.as_str()), "there is no backend {name}, only {}", known.join(", "));
    }
    let binary = repo::agent(args.binary.as_deref())?.canonicalize().context("find the agent")?;
    let mut failed = Vec::new();
    let chosen =
        |backend: &&Backend| args.only.is_empty() || args.only.iter().any(|name| name == backend.name);
    for backend in BACKENDS.iter().filter(chosen) {
        println!("== {}", backend.name);
        let start = Instant::now();
        let work = tempfile::tempdir().context("make a folder")?;
        match (backend.run)(&binary, work.path()) {
            Ok(()) => println!("== {}: {:.1} s", backend.name, start.elapsed().as_secs_f64()),
            Err(error) => {
                println!("== {}: failed: {error:#}", backend.name);
                failed.push(backend.name);
            }
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}
