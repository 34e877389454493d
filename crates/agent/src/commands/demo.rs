//! `auditship demo`: the whole product on a real log that is built in.
//!
//! It plays the log into a directory as a live `audit.log` that rotates, runs the agent of `run` on it, and receives
//! what it ships over real HTTP on the loopback interface.
//!
//! A door: it writes the log that is followed, and removes what it made.

#![expect(clippy::disallowed_methods, reason = "plays a log into real files, by the clock")]

use crate::agent::{Agent, open_state};
use crate::cli::DemoArgs;
use crate::config;
use crate::exit::Failure;
use crate::guard;
use crate::outputs;
use crate::plan::{self, Plan};
use crate::receiver::{Counts, Keep, Options, Receiver};
use crate::report::{Account, Report, by_name, bytes, grouped};
use crate::status::Status;
use anyhow::Context as _;
use auditship_event::{Event, Keys};
use auditship_redact::{Redactor, Scratch};
use auditship_tail::store;
use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Two minutes of a real API server's audit log; see testdata/README.md. All secrets in it are synthetic.
static LOG: &[u8] = include_bytes!("../../../../testdata/audit.jsonl.gz");

/// How often the log rotates.
const ROTATIONS: usize = 5;

/// How long the log is played, so that it is followed and not merely found.
const PLAY: Duration = Duration::from_millis(2_500);

/// Nothing takes this long unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command.
///
/// # Errors
/// As every command: see [`crate::exit`].
pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    guard::warn();
    let stage = Stage::new(args.keep.as_deref())?;
    let log = unpack()?;
    let receiver = Receiver::start(Options { keep: Keep::Ids, ..Options::default() })?;
    let (config, located) = stage.configure(&receiver)?;
    let runtime = outputs::runtime()?;
    let shared = open_state(&config.state_dir)?;
    let key = store::master_key(&config.state_dir).map_err(|error| Failure::World(error.into()))?;
    let plan = Arc::new(Plan::compile(&config, &located, &key, &super::host_name())?);

    let status = Arc::new(Status::default());
    let agent = Agent::start(&plan, plan::file_inputs(&config), shared, status.clone(), &runtime, None)?;
    let player = Player::start(stage.log_dir(), log.clone())?;
    let played = follow(&agent, &status, &player, plan.outputs.len());
    let lines = player.finish()?;
    let report = agent.stop(&runtime)?;
    played?;

    if args.json {
        println!("{}", serde_json::to_string(&report).map_err(std::io::Error::from)?);
    } else {
        print!("{}", summary(&report, &receiver.counts(), &log, &key, &stage));
    }
    for (name, account) in &report.consumers {
        if !account.is_clean() || account.read.lines != lines {
            return Err(Failure::Input(format!("output {name:?} did not get everything")));
        }
    }
    Ok(())
}

fn unpack() -> Result<Arc<Vec<u8>>, Failure> {
    let mut log = Vec::new();
    flate2::read::GzDecoder::new(LOG).read_to_end(&mut log).context("unpack the built-in log")?;
    Ok(Arc::new(log))
}

/// Waits until every consumer has read what was played, and shows how far they are.
fn follow(agent: &Agent, status: &Status, player: &Player, consumers: usize) -> Result<(), Failure> {
    let started = Instant::now();
    let show = std::io::stderr().is_terminal();
    let bar = if show { indicatif::ProgressBar::new(player.total) } else { indicatif::ProgressBar::hidden() };
    if let Ok(style) =
        indicatif::ProgressStyle::with_template("following audit.log  {bar:30} {human_pos}/{human_len} lines")
    {
        bar.set_style(style);
    }
    loop {
        let accounts = status.accounts();
        let read = accounts.values().map(|account| account.read.lines).min().unwrap_or(0);
        bar.set_position(read);
        if accounts.len() == consumers && read >= player.total {
            bar.finish_and_clear();
            return Ok(());
        }
        if agent.has_failed() || started.elapsed() > PATIENCE {
            bar.finish_and_clear();
            return Err(Failure::World(anyhow::anyhow!(
                "the agent does not get on ({read} of {} lines)",
                player.total
            )));
        }
        agent.tick();
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The directory in which it all happens.
struct Stage {
    dir: PathBuf,
    /// Removed at the end, unless it is to be kept.
    temporary: Option<tempfile::TempDir>,
}

impl Stage {
    fn new(keep: Option<&Path>) -> Result<Stage, Failure> {
        let stage = match keep {
            Some(dir) => {
                std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
                let mut inside = std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
                if inside.next().is_some() {
                    return Err(Failure::Usage(format!(
                        "--keep {}: the directory is not empty",
                        dir.display()
                    )));
                }
                let dir = std::path::absolute(dir)?;
                Stage { dir, temporary: None }
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("auditship-demo-").tempdir()?;
                Stage { dir: temporary.path().to_owned(), temporary: Some(temporary) }
            }
        };
        std::fs::create_dir_all(stage.log_dir())?;
        Ok(stage)
    }

    fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Writes the configuration that the demo runs with, and loads it as `run` would.
    fn configure(&self, receiver: &Receiver) -> Result<(config::Config, config::Located), Failure> {
        let quoted = |path: PathBuf| serde_json::to_string(&path.to_string_lossy()).unwrap_or_default();
        let text = format!(
            "# What `auditship demo` ran with. No routes are written, so the built-in ones apply.\n\
             cluster: demo\n\
             state_dir: {state}\n\
             inputs:\n  apiserver: {{type: file, path: {log}}}\n\
             filter:\n  packs: [noise]\n\
             outputs:\n  search:\n    type: elasticsearch\n    endpoint: {url}\n    compression: gzip\n  \
             archive:\n    type: dir\n    path: {archive}\n\
             admin: {{listen: null}}\n",
            state = quoted(self.dir.join("state")),
            log = quoted(self.log_dir().join("audit.log")),
            url = receiver.url(),
            archive = quoted(self.dir.join("archive")),
        );
        let path = self.dir.join("config.yaml");
        std::fs::write(&path, text)?;
        let none = std::iter::empty();
        Ok(config::load(&[path], none, &[], &config::files::read)?)
    }
}

/// Writes the log as the API server does: appending, renaming when it is full, beginning anew.
struct Player {
    thread: std::thread::JoinHandle<std::io::Result<u64>>,
    /// How many lines there will be.
    total: u64,
}

impl Player {
    fn start(dir: PathBuf, log: Arc<Vec<u8>>) -> Result<Player, Failure> {
        let total = log.iter().filter(|byte| **byte == b'\n').count() as u64;
        let thread = std::thread::Builder::new()
            .name("apiserver".to_owned())
            .spawn(move || play(&dir, &log))
            .context("start the writer")?;
        Ok(Player { thread, total })
    }

    fn finish(self) -> Result<u64, Failure> {
        match self.thread.join() {
            Ok(played) => Ok(played?),
            Err(_) => Err(anyhow::anyhow!("the writer panicked").into()),
        }
    }
}

fn play(dir: &Path, log: &[u8]) -> std::io::Result<u64> {
    static BACKUP: AtomicU64 = AtomicU64::new(0);
    let live = dir.join("audit.log");
    let mut file = std::fs::File::create(&live)?;
    let part = log.len() / (ROTATIONS + 1) + 1;
    let step = log.len() / 200;
    let (mut in_file, mut since_sleep, mut lines) = (0, 0, 0);
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        if in_file >= part {
            // natefinch/lumberjack `lumberjack.go`, `backupName`: UTC, milliseconds.
            let time = jiff::Timestamp::now()
                + jiff::SignedDuration::from_millis(BACKUP.fetch_add(1, Ordering::Relaxed) as i64);
            let name = time.strftime("audit-%Y-%m-%dT%H-%M-%S%.3f.log").to_string();
            std::fs::rename(&live, dir.join(name))?;
            file = std::fs::File::create(&live)?;
            in_file = 0;
        }
        file.write_all(line)?;
        in_file += line.len();
        since_sleep += line.len();
        lines += 1;
        if since_sleep >= step {
            since_sleep = 0;
            std::thread::sleep(PLAY / 200);
        }
    }
    Ok(lines)
}

fn summary(report: &Report, counts: &Counts, log: &[u8], key: &[u8], stage: &Stage) -> String {
    let mut out = String::new();
    let (Some(search), Some(archive)) = (report.consumers.get("search"), report.consumers.get("archive"))
    else {
        return report.text();
    };
    let _ = writeln!(
        out,
        "auditship {}: two minutes of a real API server's audit log, followed live through {ROTATIONS} rotations\n",
        report.version
    );
    row(
        &mut out,
        "read",
        &format!(
            "{} lines, {} in {:.1} s",
            grouped(search.read.lines),
            bytes(search.read.bytes),
            report.elapsed_s
        ),
    );
    let dropped: u64 = search.dropped.values().sum();
    row(&mut out, "dropped", &format!("{} by the filter: {}", grouped(dropped), by_name(&search.dropped)));
    let thinned: u64 = search.thinned.values().sum();
    row(&mut out, "thinned", &format!("{} by the routes: {}", grouped(thinned), by_name(&search.thinned)));
    row(
        &mut out,
        "indexed",
        &format!("{} records over HTTP into Elasticsearch's _bulk:", grouped(search.delivered)),
    );
    for (index, amount) in &search.indexes {
        row(&mut out, "", &format!("  {index:<22}{:>8}  {}", grouped(amount.records), bytes(amount.bytes)));
    }
    row(&mut out, "", &format!("  {} requests, {}", grouped(search.requests), packed(search)));
    row(
        &mut out,
        "archived",
        &format!("{} records, everything that was read: {}", grouped(archive.delivered), packed(archive)),
    );
    let redacted: u64 = archive.redactions.values().sum();
    row(
        &mut out,
        "redacted",
        &format!("{} values before they left: {}", grouped(redacted), by_name(&archive.redactions)),
    );
    if let Some((before, after)) = example(log, key) {
        row(&mut out, "", &format!("  before  {before}"));
        row(&mut out, "", &format!("  after   {after}"));
    }
    let open: u64 = report.consumers.values().map(|a| a.open).sum();
    let lost: u64 = report.consumers.values().flat_map(|a| a.lost_bytes.values()).sum();
    let adds_up = report.consumers.values().all(Account::adds_up);
    row(
        &mut out,
        "ledger",
        &format!(
            "{} open, {} lost, {}; the receiver holds {} records, {} of them twice",
            grouped(open),
            grouped(lost),
            if adds_up { "every line accounted for in both outputs" } else { "IT DOES NOT ADD UP" },
            grouped(counts.stored),
            grouped(counts.repeated),
        ),
    );
    let _ = writeln!(out, "\n{}", next_steps(stage));
    out
}

fn row(out: &mut String, what: &str, text: &str) {
    let _ = writeln!(out, "  {what:<10}{text}");
}

fn packed(account: &Account) -> String {
    let raw: u64 = account.indexes.values().map(|amount| amount.bytes).sum();
    format!(
        "{} sent for {} ({:.0}:1)",
        bytes(account.wire_bytes),
        bytes(raw),
        raw as f64 / account.wire_bytes.max(1) as f64
    )
}

fn next_steps(stage: &Stage) -> String {
    if stage.temporary.is_some() {
        return "Everything was removed again; `auditship demo --keep DIR` keeps the log, the archive and the configuration.\n\
                Next: `auditship redact audit.log` shows a log of yours as it would leave; examples/ has configurations."
            .to_owned();
    }
    format!(
        "Kept in {}: config.yaml, log/, archive/, state/.\n\
         Next: zstd -dc {}/archive/cluster=*/date=*/hour=*/*.zst | head",
        stage.dir.display(),
        stage.dir.display()
    )
}

/// The first token that was taken out, before and after; of the secret only its beginning is shown.
fn example(log: &[u8], key: &[u8]) -> Option<(String, String)> {
    let redactor =
        Redactor::new(&auditship_redact::RedactConfig::default(), Keys::derive(key, "demo")).ok()?;
    let mut scratch = Scratch::default();
    for line in log.split(|byte| *byte == b'\n') {
        let Ok(event) = Event::parse(line) else { continue };
        let _ = redactor.body(&event, &mut scratch);
        let Some(edit) = scratch.edits().iter().next() else { continue };
        let (start, end) = (edit.range.start, edit.range.end);
        let text = |range: std::ops::Range<usize>| shown(&String::from_utf8_lossy(&line[range]));
        let before = text(start.saturating_sub(10)..start);
        let after = text(end..line.len().min(end + 10));
        let secret = format!("{}{}", text(start..end.min(start + 6)), "•".repeat(12));
        let replaced = String::from_utf8_lossy(scratch.edits().text(edit)).into_owned();
        return Some((format!("…{before}{secret}{after}…"), format!("…{before}{replaced}{after}…")));
    }
    None
}

/// Text of an event as a terminal may be given it: no control and no bidirectional characters.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
            {
                '?'
            } else {
                c
            }
        })
        .collect()
}
