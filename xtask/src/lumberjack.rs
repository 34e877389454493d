//! `cargo xtask e2e lumberjack`: a trial with the writer that kube-apiserver has, in a Go program of its own.

use crate::trial::Trial;
use crate::writer::Writer;
use crate::{go, repo};
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many audit lines to write.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100..))]
    lines: u64,
    /// How often to kill the agent.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// For how many seconds the backend goes away.
    #[arg(long, default_value_t = 60.0)]
    outage: f64,
    /// Lines a second, which the agent must be able to follow.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Write so many lines at once, then pause until the rate is kept.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    burst: u64,
    /// As --audit-log-maxsize of the API server, in MB.
    #[arg(long, default_value_t = 1)]
    maxsize: u32,
    /// As --audit-log-maxbackup of the API server; 0 keeps all.
    #[arg(long, default_value_t = 3)]
    maxbackup: u32,
    /// For the moments of the kills and of the outage; a random one where none is given.
    #[arg(long)]
    seed: Option<u64>,
    /// The agent to test, instead of a release build of this tree.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// Builds the writer and runs the trial.
pub(crate) fn run(args: &Args) -> Result<()> {
    let writer = match go::build("lumberjack")? {
        Ok(writer) => writer,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    let agent = repo::agent(args.binary.as_deref())?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let outage = Duration::try_from_secs_f64(args.outage).context("understand --outage")?;
    println!(
        "lumberjack: {} lines at {} a second in bursts of {}, {} kills, {outage:?} without backend, seed {seed}",
        args.lines, args.rate, args.burst, args.kills
    );
    let trial = Trial { agent: &agent, seed, lines: args.lines, kills: args.kills, outage };
    let outcome = trial.run(|folder| Lumberjack::start(&writer, folder, args))?;
    println!("{outcome}\nok: every line is there exactly once, except what is counted as lost");
    Ok(())
}

/// The Go program, killed when dropped.
struct Lumberjack {
    child: Child,
    written: Arc<AtomicU64>,
    listener: Option<JoinHandle<()>>,
    lengths: PathBuf,
}

impl Lumberjack {
    fn start(binary: &Path, folder: &Path, args: &Args) -> Result<Lumberjack> {
        let lengths = folder.with_file_name("lengths.bin");
        let mut command = Command::new(binary);
        let mut flag = |name: &str, value: String| {
            command.arg(format!("-{name}={value}"));
        };
        flag("path", folder.join("audit.log").display().to_string());
        flag("lengths", lengths.display().to_string());
        flag("lines", args.lines.to_string());
        flag("rate", args.rate.to_string());
        flag("burst", args.burst.to_string());
        flag("maxsize", args.maxsize.to_string());
        flag("maxbackup", args.maxbackup.to_string());
        // It ends when its input does: also when this process is killed.
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start the writer")?;
        let written = Arc::new(AtomicU64::new(0));
        let stdout = child.stdout.take();
        let told = Arc::clone(&written);
        let listener = std::thread::spawn(move || {
            let lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
            for number in lines.map_while(Result::ok).filter_map(|line| line.parse().ok()) {
                told.store(number, Ordering::SeqCst);
            }
        });
        Ok(Lumberjack { child, written, listener: Some(listener), lengths })
    }
}

impl Writer for Lumberjack {
    fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    fn is_done(&mut self) -> Result<bool> {
        let Some(status) = self.child.try_wait().context("look after the writer")? else { return Ok(false) };
        ensure!(status.success(), "the writer ended with {status}");
        if let Some(listener) = self.listener.take()
            && listener.join().is_err()
        {
            bail!("the thread that listens to the writer panicked");
        }
        Ok(true)
    }

    fn lengths(&mut self) -> Result<Vec<u32>> {
        let bytes = std::fs::read(&self.lengths).context("read the lengths of the lines")?;
        let (lengths, rest) = bytes.as_chunks::<4>();
        ensure!(rest.is_empty(), "the writer left a torn list of lengths");
        Ok(lengths.iter().map(|length| u32::from_le_bytes(*length)).collect())
    }
}

impl Drop for Lumberjack {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
