//! `cargo xtask bench idle`: what an agent costs that has nothing to do, beside many files that do not change.
//!
//! Invariant: a figure is printed only if every line of these files has arrived before, and none after.

use crate::agent::{Account, Agent};
use crate::bench::Receiver;
use crate::config::Setup;
use crate::corpus::{self, Corpus};
use crate::limits::Codec;
use crate::{http, measure, repo};
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Between two questions whether all was delivered.
const POLL: Duration = Duration::from_millis(500);

/// How long nothing may be delivered before the agent is held to be stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// From the last acknowledgement until it is taken to be idle: positions are saved, directories listed for good.
const SETTLES_IN: Duration = Duration::from_secs(10);

/// How long ago the files were written.
const AGE: Duration = Duration::from_secs(3600);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Backups of one line each, beside the live file.
    #[arg(long, default_value_t = 10_000)]
    idle_files: u32,
    /// How long to measure.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// The agent to measure, instead of a release build of this tree.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// What was measured.
struct Figures {
    /// User and system time while it was idle.
    cpu: Duration,
    over: Duration,
    rss_bytes: u64,
    peak_rss_bytes: u64,
}

/// Measures an agent beside no such files, and beside many; prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    let agent = repo::agent(args.binary.as_deref())?;
    let base = repo::target()?.join("bench");
    std::fs::create_dir_all(&base).with_context(|| format!("make {}", base.display()))?;
    let mut corpus = Corpus::read(&corpus::default_paths())?;
    println!("idle for {} s; CPU seconds are user and system\n", args.seconds);
    println!("| idle files | CPU-s a minute | % of a core | RSS MiB | peak RSS MiB |");
    println!("|-----------:|---------------:|------------:|--------:|-------------:|");
    for files in [0, args.idle_files] {
        let folder = tempfile::tempdir_in(&base).context("make a folder")?;
        let figures = rest(&agent, folder.path(), &mut corpus, files, Duration::from_secs(args.seconds))?;
        let (cpu, over) = (figures.cpu.as_secs_f64(), figures.over.as_secs_f64());
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "| {files:10} | {:14.2} | {:11.2} | {:7.1} | {:12.1} |",
            cpu / over * 60.0,
            cpu / over * 100.0,
            mebibytes(figures.rss_bytes),
            mebibytes(figures.peak_rss_bytes)
        );
    }
    Ok(())
}

/// Lets an agent deliver everything, and then measures it.
fn rest(binary: &Path, folder: &Path, corpus: &mut Corpus, files: u32, over: Duration) -> Result<Figures> {
    let logs = folder.join("logs");
    fill(&logs, corpus, files)?;
    let receiver = Receiver::start(binary, None)?;
    let (log, state, admin) = (logs.join("audit.log"), folder.join("state"), http::free_addr()?);
    let setup =
        Setup { endpoint: receiver.addr, log: &log, state: &state, compression: Codec::Zstd.name(), admin };
    let config = folder.join("idle.yaml");
    std::fs::write(&config, setup.yaml()).context("write the configuration")?;
    let agent_log = File::create(folder.join("agent.log")).context("create the agent's log")?;
    let mut agent = Agent::start(binary, &config, agent_log)?;
    let lines = u64::from(files) + 1;
    let (mut delivered, mut since) = (0, Instant::now());
    while delivered < lines {
        std::thread::sleep(POLL);
        agent.check_alive()?;
        let now = Account::ask(admin).unwrap_or_default().delivered;
        if now != delivered {
            (delivered, since) = (now, Instant::now());
        }
        ensure!(since.elapsed() < STUCK_AFTER, "{delivered} of {lines} lines were delivered");
    }
    std::thread::sleep(SETTLES_IN);
    let (start, before) = (Instant::now(), measure::cpu_so_far(agent.id())?);
    std::thread::sleep(over);
    let (cpu, over) = (measure::cpu_so_far(agent.id())?.saturating_sub(before), start.elapsed());
    let rss_bytes = measure::rss(agent.id()).context("read the agent's memory")?;
    let peak_rss_bytes = measure::peak_rss(agent.id()).context("read the agent's memory")?;
    agent.stop()?;
    let counts = receiver.counts()?;
    ensure!(counts["stored"].as_u64() == Some(lines), "not every line has arrived once: {counts}");
    Ok(Figures { cpu, over, rss_bytes, peak_rss_bytes })
}

/// Writes so many backups and a live file, of one line each, no two alike.
fn fill(logs: &Path, corpus: &mut Corpus, files: u32) -> Result<()> {
    std::fs::create_dir(logs).context("make the log's folder")?;
    let written = SystemTime::now() - AGE;
    let (mut copy, mut line) = (0, 0);
    corpus.become_copy(copy);
    for number in 0..=files {
        if line == corpus.len() {
            (copy, line) = (copy + 1, 0);
            corpus.become_copy(copy);
        }
        let name = if number == files { "audit.log".to_owned() } else { backup(number) };
        let mut file = File::create(logs.join(name)).context("create a log")?;
        file.write_all(corpus.line(line)).context("write a log")?;
        file.set_modified(written).context("make a log old")?;
        line += 1;
    }
    Ok(())
}

/// The name that lumberjack gives to a backup; the numbers' order is that of time.
fn backup(number: u32) -> String {
    let (minutes, seconds) = (number / 60, number % 60);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let (days, hours) = (hours / 24, hours % 24);
    format!("audit-2026-01-{:02}T{hours:02}-{minutes:02}-{seconds:02}.000.log", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_are_in_the_order_of_their_numbers() {
        assert_eq!(backup(0), "audit-2026-01-01T00-00-00.000.log");
        assert_eq!(backup(90_061), "audit-2026-01-02T01-01-01.000.log");
        let names: Vec<String> = (0..100_000).map(backup).collect();
        assert!(names.is_sorted());
    }

    #[test]
    fn no_two_files_are_alike() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "{\"auditID\":\"0a1b2c3d-1\"}\n{\"auditID\":\"0a1b2c3e-2\"}\n").unwrap();
        let logs = folder.path().join("logs");
        fill(&logs, &mut Corpus::read(&[log]).unwrap(), 6).unwrap();
        let texts =
            std::fs::read_dir(&logs).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        assert_eq!(texts.collect::<std::collections::BTreeSet<_>>().len(), 7);
        assert!(logs.join("audit.log").is_file());
    }
}
