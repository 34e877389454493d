//! The chores of this repository: `cargo xtask test` is exactly what CI runs.
//!
//! Nothing here is part of the product, and nothing depends on it. It is a door as a whole: it reads files, starts
//! processes and talks to servers on the loopback interface.
#![expect(clippy::disallowed_methods, reason = "xtask is a door as a whole")]

mod agent;
mod apiserver;
mod backend;
mod backends;
mod bench;
mod chart;
mod config;
mod corpus;
mod docs;
mod e2e;
mod fields;
mod follow;
mod fuzz;
mod go;
mod growing;
mod http;
mod idle;
mod image;
mod kills;
mod ledger;
mod limits;
mod links;
mod lost;
mod lumberjack;
mod measure;
mod opensearch;
mod outage;
mod repo;
mod soak;
mod test;
mod tidy;
mod trial;
mod workflows;
mod writer;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The chores of the auditship repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything that CI checks, step by step; stops at the first failure.
    Test,
    /// The house rules that no compiler knows.
    Tidy,
    /// CPU, memory and speed of `auditship ship`, beside what compressing and parsing alone cost.
    Bench(bench::Args),
    /// The Helm chart: lint, golden files, Kubernetes' schemas, alerts; gets the tools itself, needs Go.
    Chart(chart::Args),
    /// Writes the generated documentation; with --check, fails where it is not current.
    Docs(docs::Args),
    /// Renews the table of all fields of Kubernetes' own types that could hold a credential; needs Go.
    Fields(fields::Args),
    /// The fuzz targets with random inputs, for as long as you say; stable Rust will do.
    Fuzz(fuzz::Args),
    /// The container image, as an OCI archive, without a daemon.
    Image(image::Args),
    /// Static binaries, packages of them, and the list of what is in them.
    Dist(image::DistArgs),
    /// Tests against a real server, or after a real writer.
    E2e(e2e::Args),
    /// Looks for what seldom happens, for as long as you say: random cases of the tests, and trials of the agent.
    Soak(soak::Args),
    /// The workflows of .github, by actionlint; needs Go.
    Workflows,
    /// The inner loop of `bench`: compressing and parsing alone. Run as a release build.
    #[command(hide = true)]
    Limits(limits::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Test => test::run(),
        Command::Tidy => tidy::run(),
        Command::Bench(args) => bench::run(&args),
        Command::Chart(args) => chart::run(&args),
        Command::Docs(args) => docs::run(&args),
        Command::Fields(args) => fields::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Dist(args) => image::run_dist(&args),
        Command::E2e(args) => e2e::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Workflows => workflows::run(),
        Command::Limits(args) => limits::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
