//! `cargo xtask bench`: what the agent costs, beside what parts of its work cost alone, in the same run.
//!
//! The receiver is a process of its own and so is every measured thing; all are release builds.

use crate::config::{INDEX, OUTPUT, Setup};
use crate::corpus::Corpus;
use crate::limits::Codec;
use crate::measure::{self, median};
use crate::{follow, http, idle, ledger, repo};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const HEADING: &str = "\
| codec  | agent CPU-s/GB | MB/s a core | MB/s wall | peak RSS MiB | sent MB | on the wire MB \
| compressing alone CPU-s/GB | serde_json trees alone CPU-s/GB |
|--------|---------------:|------------:|----------:|-------------:|--------:|---------------:\
|---------------------------:|--------------------------------:|";

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    input: InputArgs,
    /// Only this compression.
    #[arg(long)]
    only: Option<Codec>,
}

#[derive(clap::Subcommand)]
enum Part {
    /// What it costs to follow a log that grows, and to catch up with compressed backups, beside `ship`.
    Follow(InputArgs),
    /// What an agent costs that has nothing to do, beside many files that do not change.
    Idle(idle::Args),
    /// What framing costs in each output, beside a plain copy, and what each compression costs.
    Codecs,
    /// What redaction alone costs, beside `serde_json` trees of the same lines, and over lines made to be slow.
    Redact {
        /// Logs to redact, plain or .gz; those in testdata/ where none is named.
        logs: Vec<PathBuf>,
    },
}

/// What all measurements are asked for.
#[derive(clap::Args)]
pub(crate) struct InputArgs {
    /// How much log to ship: the corpus is repeated, with fresh audit IDs and later times.
    #[arg(long, default_value = "1GB", value_parser = repo::bytes)]
    size: u64,
    /// A log to repeat, plain or .gz; the logs in testdata/ where none is named.
    #[arg(long)]
    corpus: Vec<PathBuf>,
    /// Every figure is the median of so many runs.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// The agent to measure, instead of a release build of this tree.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// All that the measurements share.
pub(crate) struct Bench {
    pub(crate) agent: PathBuf,
    pub(crate) xtask: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
}

/// The figures of one compression: CPU seconds per GB of input, where nothing else is said.
#[derive(Debug, Default)]
struct Figures {
    agent: Vec<f64>,
    wall_seconds: Vec<f64>,
    peak_rss_bytes: Vec<f64>,
    compressing: Vec<f64>,
    parsing: Vec<f64>,
    wire_bytes: f64,
    raw_bytes: f64,
}

/// Generates, measures, prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.part {
        Some(Part::Follow(input)) => return follow::run(input),
        Some(Part::Idle(idle)) => return idle::run(idle),
        Some(Part::Codecs) => {
            let bench = ["bench", "--quiet", "--package", "auditship-ship", "--bench", "codecs"];
            return repo::run(repo::cargo().args(bench));
        }
        Some(Part::Redact { logs }) => return redact(logs),
        None => {}
    }
    let bench = Bench::prepare(&args.input)?;
    let bodies = bench.save_bodies()?;
    let codecs = args.only.map_or(vec![Codec::Gzip, Codec::Zstd], |only| vec![only]);
    println!(
        "{} lines, {:.1} MB; median of {}; CPU seconds are user and system, per GB of input\n",
        bench.lines,
        bench.bytes as f64 / 1e6,
        args.input.runs
    );
    println!("{HEADING}");
    for codec in codecs {
        let mut figures = Figures::default();
        for _ in 0..args.input.runs {
            bench.measure(codec, &bodies, &mut figures)?;
        }
        figures.print(codec, bench.bytes as f64);
    }
    Ok(())
}

/// The benchmark of `crates/redact`, with paths as they are here.
fn redact(logs: &[PathBuf]) -> Result<()> {
    let bench = ["bench", "--quiet", "--package", "auditship-redact", "--bench", "redact", "--"];
    let logs: Vec<PathBuf> = logs
        .iter()
        .map(|log| log.canonicalize().with_context(|| format!("find {}", log.display())))
        .collect::<Result<_>>()?;
    repo::run(repo::cargo().args(bench).args(logs))
}

impl Bench {
    /// Builds what is measured and writes the log.
    pub(crate) fn prepare(args: &InputArgs) -> Result<Bench> {
        let agent = repo::agent(args.binary.as_deref())?;
        repo::run(repo::cargo().args(["build", "--release", "--quiet", "--package", "xtask"]))?;
        let target = repo::target()?;
        let folder = target.join("bench");
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let paths = if args.corpus.is_empty() { crate::corpus::default_paths() } else { args.corpus.clone() };
        let log = folder.join("audit.jsonl");
        let (lines, bytes) = Corpus::read(&paths)?.write(&log, args.size)?;
        ensure!(lines > 0, "not even one line fits into {} bytes", args.size);
        Ok(Bench { agent, xtask: target.join("release/xtask"), folder, log, lines, bytes })
    }

    /// Ships once without measuring, to have the bodies that the agent makes (and the log in the page cache).
    fn save_bodies(&self) -> Result<PathBuf> {
        let bodies = self.folder.join("bodies.bin");
        let receiver = Receiver::start(&self.agent, Some(&bodies))?;
        self.ship(Codec::Zstd, &receiver)?;
        Ok(bodies)
    }

    fn measure(&self, codec: Codec, bodies: &Path, figures: &mut Figures) -> Result<()> {
        let receiver = Receiver::start(&self.agent, None)?;
        let usage = self.ship(codec, &receiver)?;
        let counts = receiver.counts()?;
        drop(receiver);
        let gigabytes = self.bytes as f64 / 1e9;
        figures.agent.push(usage.cpu.as_secs_f64() / gigabytes);
        figures.wall_seconds.push(usage.wall.as_secs_f64());
        figures.peak_rss_bytes.push(usage.peak_rss_bytes as f64);
        figures.wire_bytes = counts["wire_bytes"].as_f64().unwrap_or(f64::NAN);
        figures.raw_bytes = counts["raw_bytes"].as_f64().unwrap_or(f64::NAN);
        let mut limits = Command::new(&self.xtask);
        limits.arg("limits").arg("--bodies").arg(bodies).args(["--codec", codec.name()]);
        let printed = repo::output(limits.arg("--lines").arg(&self.log))?;
        let mut seconds = printed.lines().map(|line| {
            let figure: Value = serde_json::from_str(line).context("read a limit")?;
            figure["seconds"].as_f64().context("a limit without seconds")
        });
        figures.compressing.push(seconds.next().context("no figure for compressing")?? / gigabytes);
        figures.parsing.push(seconds.next().context("no figure for parsing")?? / gigabytes);
        Ok(())
    }

    /// Ships the log once and makes sure that all of it arrived.
    pub(crate) fn ship(&self, codec: Codec, receiver: &Receiver) -> Result<measure::Usage> {
        let state = self.folder.join("state");
        let setup = Setup {
            endpoint: receiver.addr,
            log: &self.log,
            state: &state,
            compression: codec.name(),
            admin: http::free_addr()?,
        };
        let config = self.folder.join("auditship.yaml");
        std::fs::write(&config, setup.yaml()).context("write the configuration")?;
        let printed = self.folder.join("ship.json");
        let mut ship = Command::new(&self.agent);
        ship.arg("ship").arg("--config").arg(&config).arg(&self.log).arg("--json");
        ship.stdin(Stdio::null()).stdout(File::create(&printed).context("create the file for the ledger")?);
        let (status, usage) = measure::run(&mut ship)?;
        ensure!(status.success(), "auditship ship: {status}");
        let ledger = ledger::read(&std::fs::read(&printed).context("read the ledger")?, OUTPUT)?;
        ensure!(
            ledger.delivered == self.lines,
            "{} of {} lines were delivered",
            ledger.delivered,
            self.lines
        );
        let counts = receiver.counts()?;
        let stored = counts["indexes"][INDEX].as_u64().unwrap_or(0);
        ensure!(stored == self.lines, "{stored} of {} lines have arrived: {counts}", self.lines);
        Ok(usage)
    }
}

impl Figures {
    fn print(self, codec: Codec, bytes: f64) {
        let agent = median(self.agent);
        println!(
            "| {}-1 | {agent:14.2} | {:11.0} | {:9.0} | {:12.1} | {:7.1} | {:14.1} | {:26.2} | {:31.2} |",
            codec.name(),
            1e3 / agent,
            bytes / 1e6 / median(self.wall_seconds),
            median(self.peak_rss_bytes) / f64::from(1 << 20),
            self.raw_bytes / 1e6,
            self.wire_bytes / 1e6,
            median(self.compressing),
            median(self.parsing),
        );
    }
}

/// The counting receiver, a process of its own, ended when dropped.
pub(crate) struct Receiver {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Receiver {
    pub(crate) fn start(agent: &Path, save: Option<&Path>) -> Result<Receiver> {
        let mut command = Command::new(agent);
        command.args(["receiver", "--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped());
        if let Some(save) = save {
            command.arg("--save").arg(save);
        }
        let mut child = command.spawn().context("start the receiver")?;
        let mut line = String::new();
        let read = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        let addr = line.trim().strip_prefix("listening on ").and_then(|addr| addr.parse().ok());
        let receiver = Receiver { child, addr: addr.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))) };
        read.context("the receiver has no output")?.context("read where the receiver listens")?;
        addr.with_context(|| format!("understand where the receiver listens: {line:?}"))?;
        Ok(receiver)
    }

    pub(crate) fn counts(&self) -> Result<Value> {
        http::json(self.addr, "GET", "/_counts", None)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It has nothing to save; an error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
