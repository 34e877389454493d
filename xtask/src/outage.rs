//! `cargo xtask e2e outage`: three outputs, one of them dead for the whole run with a large backlog.
//!
//! The other two catch up, and then stay with the log as it grows; the agent's memory stays within its budget; the
//! state log is synced no more than once a second. In the end the dead output comes back and gets everything.

use crate::agent::Agent;
use crate::backend::Backend;
use crate::{http, measure, repo, writer};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Backups that stand there before the agent begins.
const BACKUPS: u64 = 10;

/// Padding of a line: about two kilobytes with it.
const PAD_BYTES: usize = 1500;

/// Lines a second of the growing log.
const RATE: u64 = 1_000;

/// The most that an output that works may be behind the growing log.
const LAG: f64 = 2.0;

/// The most memory that the agent may have resident, with three outputs over a gigabyte of backlog.
const RSS_BYTES: u64 = 64 << 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How much stands there before the agent begins, for example 1GB or 100MB.
    #[arg(long, value_parser = repo::bytes, default_value = "1GB")]
    size: u64,
    /// How long the log grows after that, in seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// The agent to test, instead of a release build of this tree.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// Runs the test.
pub(crate) fn run(args: &Args) -> Result<()> {
    let binary = repo::agent(args.binary.as_deref())?;
    let folder = tempfile::tempdir().context("make a folder")?;
    let (alive, dead) = (Backend::start()?, Backend::start()?);
    dead.leave();
    let mut log = Log::create(&folder.path().join("log"))?;
    let backlog = log.fill(args.size)?;
    let admin = http::free_addr()?;
    let config = configure(folder.path(), &log.path, alive.addr, dead.addr, admin)?;
    let started = Instant::now();
    let mut agent = Agent::start(&binary, &config, Stdio::null())?;
    let caught_up = |name: &str, count: u64| settled(admin, name).is_some_and(|settled| settled >= count);
    for name in ["search", "archive"] {
        wait(&mut agent, name, || caught_up(name, backlog))?;
    }
    println!("outage: two outputs have {backlog} lines after {:.0} s", started.elapsed().as_secs_f64());

    let (mut worst, mut rss) = ([0.0f64; 2], 0);
    let live = Instant::now();
    let syncs = metric(admin, "auditship_state_syncs_total")?;
    while live.elapsed() < Duration::from_secs(args.seconds) {
        log.grow(RATE / 10)?;
        let status = http::json(admin, "GET", "/status", None)?;
        for (worst, name) in worst.iter_mut().zip(["search", "archive"]) {
            let lag = status["consumers"][name]["behind"]["lag_seconds"].as_f64();
            *worst = worst.max(lag.context("the status has no lag")?);
        }
        agent.check_alive()?;
        rss = rss.max(measure::peak_rss(agent.id()).context("the agent's memory")?);
        let next = Duration::from_millis(100) * (log.chunks as u32);
        std::thread::sleep(next.saturating_sub(live.elapsed()));
    }
    let (syncs, seconds) =
        (metric(admin, "auditship_state_syncs_total")? - syncs, live.elapsed().as_secs_f64());
    let status = http::json(admin, "GET", "/status", None)?;
    let behind = status["consumers"]["dead"]["behind"]["lag_bytes"].as_u64().unwrap_or(0);
    println!(
        "outage: {} lines in {seconds:.0} s; at most {:.2} s and {:.2} s behind; peak memory {:.1} MiB; {syncs} syncs; \
         the dead output is {:.2} GB behind",
        log.written - backlog,
        worst[0],
        worst[1],
        rss as f64 / f64::from(1 << 20),
        behind as f64 / 1e9,
    );
    ensure!(worst.iter().all(|lag| *lag < LAG), "an output that works is {worst:?} s behind");
    ensure!(rss <= RSS_BYTES, "the agent has {rss} bytes of memory");
    ensure!(syncs <= seconds + 2.0, "the state log was synced {syncs} times in {seconds:.0} s");
    ensure!(behind * 10 > args.size * 9, "the dead output has read {behind} of its backlog");
    ensure!(dead.count() == 0, "a backend that is away has {} documents", dead.count());

    dead.come_back();
    for (name, backend) in [("search", &alive), ("dead", &dead)] {
        wait(&mut agent, name, || caught_up(name, log.written))?;
        let stored = backend.stored();
        let once = stored.times.iter().filter(|times| **times == 1).count() as u64;
        ensure!(
            once == log.written && stored.malformed == 0,
            "{name}: {once} of {} lines are there exactly once, {} malformed: {:?}",
            log.written,
            stored.malformed,
            stored.complaints
        );
    }
    agent.stop()?;
    println!("outage: ok, {} lines are in both backends exactly once", log.written);
    Ok(())
}

/// Polls until `done`, as long as the agent lives, for ten minutes at most.
fn wait(agent: &mut Agent, what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !done() {
        agent.check_alive()?;
        ensure!(start.elapsed() < Duration::from_secs(600), "{what} does not get on");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Lines that an output has delivered.
fn settled(admin: SocketAddr, name: &str) -> Option<u64> {
    http::json(admin, "GET", "/status", None).ok()?["consumers"][name]["delivered"].as_u64()
}

/// One figure without labels.
fn metric(admin: SocketAddr, name: &str) -> Result<f64> {
    let (_, body) = http::request(admin, "GET", "/metrics", None)?;
    let text = String::from_utf8_lossy(&body);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.with_context(|| format!("no metric {name}"))?.parse().context("a figure")
}

fn configure(
    folder: &Path,
    log: &Path,
    alive: SocketAddr,
    dead: SocketAddr,
    admin: SocketAddr,
) -> Result<PathBuf> {
    let quoted = |path: PathBuf| Value::from(path.to_string_lossy().into_owned()).to_string();
    let (state, archive, log) =
        (quoted(folder.join("state")), quoted(folder.join("archive")), quoted(log.to_owned()));
    let text = format!(
        "cluster: test\nnode: test\nstate_dir: {state}\n\
         inputs: {{apiserver: {{type: file, path: {log}}}}}\n\
         filter: {{packs: []}}\n\
         routes: [{{name: all, index: k8s-audit, outputs: [search, archive, dead]}}]\n\
         outputs:\n  \
           search: {{type: elasticsearch, endpoint: \"http://{alive}\"}}\n  \
           archive: {{type: dir, path: {archive}}}\n  \
           dead: {{type: elasticsearch, endpoint: \"http://{dead}\"}}\n\
         admin: {{listen: \"{admin}\"}}\n"
    );
    let path = folder.join("config.yaml");
    std::fs::write(&path, text).context("write the configuration")?;
    Ok(path)
}

/// A log with backups, which goes on growing.
struct Log {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    written: u64,
    chunks: u64,
}

impl Log {
    fn create(folder: &Path) -> Result<Log> {
        std::fs::create_dir_all(folder).context("make the log's folder")?;
        let path = folder.join("audit.log");
        let file = File::create(&path).context("create the log")?;
        Ok(Log { folder: folder.to_owned(), path, file, written: 0, chunks: 0 })
    }

    /// Writes backups of so many bytes altogether; gives their number of lines.
    fn fill(&mut self, bytes: u64) -> Result<u64> {
        for backup in 0..BACKUPS {
            let path = self.folder.join(format!("audit-2026-01-01T00-00-{backup:02}.000.log"));
            let mut file = BufWriter::new(File::create(path).context("create a backup")?);
            let mut left = bytes / BACKUPS;
            while left > 0 {
                let line = writer::line(self.written, PAD_BYTES);
                file.write_all(line.as_bytes()).context("write a backup")?;
                left = left.saturating_sub(line.len() as u64);
                self.written += 1;
            }
            file.flush().context("write a backup")?;
        }
        Ok(self.written)
    }

    /// Appends lines, one write each.
    fn grow(&mut self, lines: u64) -> Result<()> {
        for _ in 0..lines {
            self.file
                .write_all(writer::line(self.written, PAD_BYTES).as_bytes())
                .context("write to the log")?;
            self.written += 1;
        }
        self.chunks += 1;
        Ok(())
    }
}
