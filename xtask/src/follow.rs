//! `cargo xtask bench follow`: what it costs to follow a log that grows, and to catch up with compressed backups,
//! beside shipping the same bytes as one complete file and beside inflating alone, all in the same run.
//!
//! Invariant: a figure is printed only if every line has arrived.

use crate::agent::{Account, Agent};
use crate::bench::{Bench, InputArgs, Receiver};
use crate::config::Setup;
use crate::limits::Codec;
use crate::measure::{self, median};
use crate::{http, repo};
use anyhow::{Context, Result, ensure};
use memchr::memrchr;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// As `--audit-log-maxsize=100`, which most clusters have.
const ROTATED_BYTES: u64 = 100 << 20;

/// Fine enough for runs of seconds, and not so often that the questions cost the agent anything.
const POLL: Duration = Duration::from_millis(100);

/// How long nothing may be delivered before the agent is held to be stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// The figures of one way to read: CPU seconds, seconds on the clock, bytes resident.
#[derive(Default)]
struct Figures {
    cpu: Vec<f64>,
    wall: Vec<f64>,
    peak_rss_bytes: Vec<f64>,
}

/// Generates, measures, prints.
pub(crate) fn run(args: &InputArgs) -> Result<()> {
    let bench = Bench::prepare(args)?;
    let folder = tempfile::tempdir_in(&bench.folder).context("make a folder")?;
    let packed = folder.path().join("packed");
    let backups = pack(&bench.log, &packed)?;
    println!(
        "{} lines, {:.1} MB, rotated every {} MB, {} backups; median of {}; zstd-1; CPU seconds are user and system\n",
        bench.lines,
        bench.bytes as f64 / 1e6,
        ROTATED_BYTES >> 20,
        backups.len(),
        args.runs
    );
    let [mut complete, mut growing, mut catching_up, mut inflating] = <[Figures; 4]>::default();
    for run in 0..args.runs {
        let usage = bench.ship(Codec::Zstd, &Receiver::start(&bench.agent, None)?)?;
        complete.add(usage);
        let logs = folder.path().join(format!("growing-{run}"));
        std::fs::create_dir(&logs).context("make the log's folder")?;
        growing.add(follow(&bench, &logs, |path| grow(&bench.log, path))?);
        std::fs::remove_dir_all(&logs).context("remove a log")?;
        catching_up
            .add(follow(&bench, &packed, |path| File::create(path).map(drop).context("create the log"))?);
        inflating.cpu.push(inflate(&bench, &backups)?);
    }
    print(&bench, [complete, growing, catching_up], inflating);
    Ok(())
}

impl Figures {
    fn add(&mut self, usage: measure::Usage) {
        self.cpu.push(usage.cpu.as_secs_f64());
        self.wall.push(usage.wall.as_secs_f64());
        self.peak_rss_bytes.push(usage.peak_rss_bytes as f64);
    }
}

fn print(bench: &Bench, agent: [Figures; 3], inflating: Figures) {
    let gigabytes = bench.bytes as f64 / 1e9;
    println!("| way | CPU-s/GB | MB/s wall | peak RSS MiB |\n|-----|---------:|----------:|-------------:|");
    let names = [
        "ship: one complete file",
        "run: following while it is written",
        "run: catching up with .gz backups",
    ];
    let [complete, growing, catching_up] = std::array::from_fn(|at| {
        let cpu = median(agent[at].cpu.clone()) / gigabytes;
        let speed = gigabytes * 1e3 / median(agent[at].wall.clone());
        let rss = median(agent[at].peak_rss_bytes.clone()) / f64::from(1 << 20);
        println!("| {:34} | {cpu:8.2} | {speed:9.0} | {rss:12.1} |", names[at]);
        cpu
    });
    let inflate = median(inflating.cpu) / gigabytes;
    println!("| {:34} | {inflate:8.2} | {:9} | {:12} |", "inflating the backups alone", "", "");
    println!(
        "\nfollowing costs {:+.1} % beside a complete file\n\
         catching up costs {:.2} CPU-s/GB more than a complete file; inflating alone is {inflate:.2}",
        (growing / complete - 1.0) * 100.0,
        catching_up - complete
    );
}

/// Runs an agent over `logs`, where `prepare` makes and may fill the live file, until every line is delivered.
fn follow(bench: &Bench, logs: &Path, prepare: impl FnOnce(&Path) -> Result<()>) -> Result<measure::Usage> {
    let receiver = Receiver::start(&bench.agent, None)?;
    let state = tempfile::tempdir_in(&bench.folder).context("make the state directory")?;
    let (log, admin) = (logs.join("audit.log"), http::free_addr()?);
    let setup = Setup {
        endpoint: receiver.addr,
        log: &log,
        state: state.path(),
        compression: Codec::Zstd.name(),
        admin,
    };
    let config = bench.folder.join("follow.yaml");
    std::fs::write(&config, setup.yaml()).context("write the configuration")?;
    let start = Instant::now();
    let agent_log = File::create(bench.folder.join("follow.log")).context("create the agent's log")?;
    let mut agent = Agent::start(&bench.agent, &config, agent_log)?;
    prepare(&log)?;
    let (mut delivered, mut since) = (0, Instant::now());
    while delivered < bench.lines {
        std::thread::sleep(POLL);
        agent.check_alive()?;
        let now = Account::ask(admin).unwrap_or_default().delivered;
        if now != delivered {
            (delivered, since) = (now, Instant::now());
        }
        ensure!(since.elapsed() < STUCK_AFTER, "{delivered} of {} lines were delivered", bench.lines);
    }
    let usage = measure::Usage {
        cpu: measure::cpu_so_far(agent.id())?,
        wall: start.elapsed(),
        peak_rss_bytes: measure::peak_rss(agent.id()).context("read the agent's memory")?,
    };
    agent.stop()?;
    let counts = receiver.counts()?;
    ensure!(counts["stored"].as_u64() == Some(bench.lines), "not every line has arrived once: {counts}");
    Ok(usage)
}

/// Writes the log again, at full speed, one write a line as the API server does, and rotates it.
fn grow(source: &Path, path: &Path) -> Result<()> {
    let mut lines = BufReader::with_capacity(1 << 20, File::open(source).context("open the log")?);
    let mut file = File::create(path).context("create the log")?;
    let (mut line, mut size, mut rotations) = (Vec::new(), 0, 0);
    while lines.read_until(b'\n', &mut line).context("read the log")? > 0 {
        if size + line.len() as u64 > ROTATED_BYTES {
            std::fs::rename(path, backup(path, rotations)).context("rename the log")?;
            (file, size) = (File::create(path).context("create the new log")?, 0);
            rotations += 1;
        }
        file.write_all(&line).context("write to the log")?;
        size += line.len() as u64;
        line.clear();
    }
    Ok(())
}

/// The name that lumberjack gives to a backup, with the number in place of the milliseconds.
fn backup(path: &Path, number: u32) -> PathBuf {
    path.with_file_name(format!("audit-2026-01-02T03-{:02}-{:02}.000.log", number / 60 % 60, number % 60))
}

/// The log as compressed backups without a live file.
fn pack(source: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir(folder).context("make the backups' folder")?;
    let mut source = File::open(source).context("open the log")?;
    let (mut text, mut paths) = (Vec::new(), Vec::new());
    loop {
        let read = (&mut source).take(ROTATED_BYTES - text.len() as u64).read_to_end(&mut text);
        if read.context("read the log")? == 0 {
            ensure!(text.is_empty(), "the log has no end");
            return Ok(paths);
        }
        let end = memrchr(b'\n', &text).context("a line is longer than a backup")? + 1;
        let plain = backup(&folder.join("audit.log"), paths.len() as u32);
        let path = PathBuf::from(format!("{}.gz", plain.display()));
        let file = File::create(&path).context("create a backup")?;
        // lumberjack compresses with Go's default, which is the same level.
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::default());
        encoder.write_all(&text[..end]).context("compress a backup")?;
        encoder.finish().context("compress a backup")?;
        text.drain(..end);
        paths.push(path);
    }
}

/// CPU seconds.
fn inflate(bench: &Bench, backups: &[PathBuf]) -> Result<f64> {
    let mut limits = Command::new(&bench.xtask);
    limits.arg("limits").arg("--inflate").args(backups);
    let figure: Value = serde_json::from_str(&repo::output(&mut limits)?).context("read a limit")?;
    ensure!(figure["out"].as_u64() == Some(bench.bytes), "the backups are not the log: {figure}");
    figure["seconds"].as_f64().context("a limit without seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_hold_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "{\"a\":1}\n{\"b\":2}\n").unwrap();
        let paths = pack(&log, &folder.path().join("packed")).unwrap();
        assert!(paths[0].ends_with("audit-2026-01-02T03-00-00.000.log.gz"), "{paths:?}");
        let mut text = String::new();
        let file = File::open(&paths[0]).unwrap();
        flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!((paths.len(), text.as_str()), (1, "{\"a\":1}\n{\"b\":2}\n"));
        let copy = folder.path().join("audit.log");
        grow(&log, &copy).unwrap();
        assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&log).unwrap());
    }
}
