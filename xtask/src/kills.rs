//! `cargo xtask e2e kills`: a log grows and rotates while the agent and the server are killed at random, each again and
//! again, also both together. In the end every event must be in the server exactly once.
//!
//! The writer deletes nothing, so there is no excuse for a missing event. What should be there is what the agent's own
//! `ship` writes to standard output for the same files with the same key, by uid; contents are compared by
//! `e2e backends`.

use crate::agent::{Account, Agent};
use crate::backends::server::Server;
use crate::backends::{clickhouse, dir, opensearch, s3, sent};
use crate::config::Everything;
use crate::corpus::{self, Corpus};
use crate::growing::Log;
use crate::{http, repo};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often what is killed.
const BLOWS: [(Blow, usize); 3] = [(Blow::Agent, 12), (Blow::Server, 6), (Blow::Both, 4)];

/// The longest that something stays dead.
const DEAD_MAX_MS: u64 = 2000;

/// A kill comes at most so long after the agent was seen to deliver again.
const LATER_MAX_MS: u64 = 1500;

/// How often the trial looks around.
const TURN: Duration = Duration::from_millis(20);

/// How often the writer writes.
const WRITE_TURN: Duration = Duration::from_millis(10);

/// How long nothing may be delivered before the agent is held to be stuck: longer than its longest wait between two
/// attempts, and than it waits for the lines of a batch that it cuts again.
const STUCK_AFTER: Duration = Duration::from_secs(240);

/// Lines between two rotations, at least and at most.
const ROTATED_LINES: (usize, usize) = (2000, 15_000);

/// Uids that a complaint names.
const NAMED: usize = 5;

/// A backend that repeats nothing, and can be killed and started again with what it has.
pub(crate) trait Target: Send + Sync {
    /// The output's options, one a line.
    fn output(&self) -> Result<String>;
    /// Starts the server on what it has, always at the same address; `None` where there is no server.
    fn start(&self) -> Result<Option<Server>>;
    /// Whether the server outlives a kill at all: one that keeps everything in memory does not.
    fn is_killed(&self) -> bool {
        true
    }
    /// Makes the index, table or bucket.
    fn prepare(&self) -> Result<()>;
    /// The uids of all that is there, each as often as it is there.
    fn uids(&self) -> Result<Vec<String>>;
}

/// A backend that keeps what it has in a folder; or why it cannot be had.
type Make = fn(&Path) -> Result<Result<Box<dyn Target>, String>>;

/// One line of the table.
struct Entry {
    /// What `--only` knows it by.
    name: &'static str,
    target: Make,
}

const TARGETS: &[Entry] = &[
    Entry { name: "opensearch", target: opensearch::target },
    Entry { name: "clickhouse", target: clickhouse::target },
    Entry { name: "s3", target: |work| s3::target("versitygw", work) },
    Entry { name: "s3-moto", target: |work| s3::target("moto", work) },
    Entry { name: "s3-rclone", target: |work| s3::target("rclone", work) },
    Entry { name: "dir", target: |work| Ok(Ok(dir::target(work))) },
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these backends: opensearch, clickhouse, s3, s3-moto, s3-rclone, dir.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How many events to write.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1000..))]
    events: u64,
    /// Events a second at most; the writer waits for kills that take longer.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// For the moments of the kills and of the rotations; a random one where none is given.
    #[arg(long)]
    seed: Option<u64>,
    /// The agent to test, instead of a release build of this tree.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// Runs the trial for each backend that was asked for; fails at the end if one has failed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let known: Vec<&str> = TARGETS.iter().map(|entry| entry.name).collect();
    for name in &args.only {
        ensure!(known.contains(&name.as_str()), "there is no backend {name}, only {}", known.join(", "));
    }
    let binary = repo::agent(args.binary.as_deref())?.canonicalize().context("find the agent")?;
    let chosen = |entry: &&Entry| args.only.is_empty() || args.only.iter().any(|name| name == entry.name);
    let mut failed = Vec::new();
    for entry in TARGETS.iter().filter(chosen) {
        let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1 << 48));
        println!("== {}: {} events, seed {seed}", entry.name, args.events);
        let mut work =
            tempfile::Builder::new().prefix("auditship-kills-").tempdir().context("make a folder")?;
        let outcome = match (entry.target)(work.path()) {
            Ok(Ok(target)) => {
                Trial { target: &*target, binary: &binary, work: work.path(), seed, args }.run()
            }
            Ok(Err(reason)) => {
                println!("skipped: {reason}");
                continue;
            }
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            work.disable_cleanup(true);
            println!("== {}: failed, see {}: {error:#}", entry.name, work.path().display());
            failed.push(format!("{} with seed {seed}", entry.name));
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Agent,
    Server,
    /// The agent once more, perhaps, while the server is dead.
    Both,
}

/// What is to be done.
struct Trial<'a> {
    target: &'a dyn Target,
    binary: &'a Path,
    work: &'a Path,
    seed: u64,
    args: &'a Args,
}

impl Trial<'_> {
    fn run(&self) -> Result<()> {
        let began = Instant::now();
        let (logs, state, key) = (self.work.join("log"), self.work.join("state"), self.work.join("key"));
        for folder in [&logs, &state] {
            std::fs::create_dir_all(folder).context("make a folder")?;
        }
        std::fs::write(&key, [7; 32]).context("write the key")?;
        let (log, admin) = (logs.join("audit.log"), http::lasting_addr()?);
        let configure = |name: &str, output: &str, admin| {
            let path = self.work.join(name);
            let text = Everything { log: &log, state: &state, key: Some(&key), output, admin }.yaml();
            std::fs::write(&path, text).context("write the configuration").map(|()| path)
        };
        let mut stage = Stage {
            trial: self,
            config: configure("agent.yaml", &self.target.output()?, Some(admin))?,
            admin,
            server: self.target.start()?,
            agent: None,
            delivered: None,
            chance: fastrand::Rng::with_seed(self.seed),
            kills: [0; 2],
        };
        self.target.prepare()?;
        let mut writer = Writer::start(&logs, self.args, self.seed)?;
        stage.start_agent()?;
        stage.play(&writer)?;
        let (files, bytes) = writer.finish()?;
        let account = stage.drain(self.args.events)?;
        stage.end()?;
        let [agent, server] = stage.kills;
        println!(
            "{} events ({} MB) in {} files, agent killed {agent} times, server {server} times, {:.0} s",
            self.args.events,
            bytes / 1_000_000,
            files.len(),
            began.elapsed().as_secs_f64()
        );
        println!("the ledger: {account:?}");
        let mut wanted = HashMap::new();
        let reference = configure("reference.yaml", "type: stdout", None)?;
        sent::each_event(self.binary, &reference, &files, |uid, _| {
            *wanted.entry(uid).or_insert(0) += 1;
        })?;
        ensure!(wanted.len() as u64 == self.args.events, "{} distinct events were written", wanted.len());
        let verdict = Verdict::of(&wanted, &self.target.uids()?);
        println!("{verdict}");
        ensure!(verdict.is_good(), "not every event is there exactly once");
        Ok(())
    }
}

/// A trial that is under way.
struct Stage<'a> {
    trial: &'a Trial<'a>,
    config: PathBuf,
    admin: SocketAddr,
    server: Option<Server>,
    agent: Option<Agent>,
    /// What was delivered when it was looked first since something was started.
    delivered: Option<u64>,
    chance: fastrand::Rng,
    /// How often the agent and the server were killed.
    kills: [usize; 2],
}

impl Stage<'_> {
    /// Until everything has happened.
    fn play(&mut self, writer: &Writer) -> Result<()> {
        let schedule = schedule(self.trial.args.events, &mut self.chance);
        for (number, (at, blow)) in schedule.iter().copied().enumerate() {
            // So that there is something under way at every kill, however long a server needs to start.
            writer.go_on_to(schedule.get(number + 2).map_or(u64::MAX, |(at, _)| *at));
            while writer.written() < at {
                ensure!(!writer.has_ended() || writer.written() >= at, "the writer has ended too early");
                self.look()?;
                std::thread::sleep(TURN);
            }
            let blow = match self.server {
                Some(_) if self.trial.target.is_killed() => blow,
                _ => Blow::Agent,
            };
            let account = self.until_delivering(writer)?;
            std::thread::sleep(self.span(LATER_MAX_MS));
            println!("  {} written, {} delivered: kill {blow:?}", writer.written(), account.delivered);
            self.strike(blow)?;
        }
        Ok(())
    }

    fn strike(&mut self, blow: Blow) -> Result<()> {
        if blow == Blow::Agent {
            self.kill_agent()?;
            std::thread::sleep(self.span(DEAD_MAX_MS));
            return self.start_agent();
        }
        let server = self.server.take().context("there is no server to kill")?;
        server.kill()?;
        self.kills[1] += 1;
        let dead = self.span(DEAD_MAX_MS);
        let target = self.trial.target;
        std::thread::scope(|scope| {
            let starting = scope.spawn(move || {
                std::thread::sleep(dead);
                target.start()
            });
            if blow == Blow::Both {
                self.kill_agent()?;
                std::thread::sleep(self.span(DEAD_MAX_MS));
                self.start_agent()?;
                if self.chance.bool() {
                    std::thread::sleep(self.span(DEAD_MAX_MS));
                    self.kill_agent()?;
                    self.start_agent()?;
                }
            }
            let started = starting.join().ok().context("the thread that starts the server panicked")?;
            self.server = started?;
            self.delivered = None;
            Ok(())
        })
    }

    fn span(&mut self, most_ms: u64) -> Duration {
        Duration::from_millis(self.chance.u64(0..=most_ms))
    }

    fn kill_agent(&mut self) -> Result<()> {
        self.kills[0] += 1;
        self.agent.take().context("there is no agent to kill")?.kill()
    }

    fn start_agent(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.trial.work.join("agent.log"));
        let log = log.context("open the agent's log")?;
        self.agent = Some(Agent::start(self.trial.binary, &self.config, log)?);
        self.delivered = None;
        Ok(())
    }

    /// What the agent says, if it does: nothing may be lost or refused, and nobody may have ended by himself.
    fn look(&mut self) -> Result<Option<Account>> {
        self.agent.as_mut().map_or(Ok(()), Agent::check_alive)?;
        self.server.as_mut().map_or(Ok(()), Server::check_alive)?;
        let Some(account) = Account::ask(self.admin) else { return Ok(None) };
        ensure!(account.lost_bytes == 0 && account.refused == 0, "lost or refused: {account:?}");
        ensure!(account.read == account.delivered + account.open, "it does not add up: {account:?}");
        self.delivered.get_or_insert(account.delivered);
        Ok(Some(account))
    }

    /// Waits until something has been delivered since the last start, or all that there is.
    fn until_delivering(&mut self, writer: &Writer) -> Result<Account> {
        let start = Instant::now();
        loop {
            if let Some(account) = self.look()?
                && (self.delivered.is_some_and(|before| account.delivered > before)
                    || account.delivered == writer.written())
            {
                return Ok(account);
            }
            ensure!(start.elapsed() < STUCK_AFTER, "nothing is delivered any more");
            std::thread::sleep(TURN);
        }
    }

    /// Waits until all is delivered.
    fn drain(&mut self, events: u64) -> Result<Account> {
        let (mut delivered, mut since) = (0, Instant::now());
        loop {
            if let Some(account) = self.look()? {
                if account.delivered >= events && account.open == 0 {
                    ensure!(account.read == events, "the agent has read something else: {account:?}");
                    return Ok(account);
                }
                if account.delivered != delivered {
                    (delivered, since) = (account.delivered, Instant::now());
                }
            }
            ensure!(
                since.elapsed() < STUCK_AFTER,
                "nothing is delivered any more, at {delivered} of {events}"
            );
            std::thread::sleep(TURN);
        }
    }

    /// Stops the agent, and kills the server once more: what it has only in memory does not count.
    fn end(&mut self) -> Result<()> {
        self.agent.take().context("there is no agent")?.stop()?;
        if self.trial.target.is_killed()
            && let Some(server) = self.server.take()
        {
            server.kill()?;
            self.kills[1] += 1;
            self.server = self.trial.target.start()?;
        }
        Ok(())
    }
}

/// What happens after how many lines, in order.
fn schedule(events: u64, chance: &mut fastrand::Rng) -> Vec<(u64, Blow)> {
    let blows = BLOWS.iter().flat_map(|(blow, times)| std::iter::repeat_n(*blow, *times));
    let mut schedule: Vec<(u64, Blow)> = blows.map(|blow| (chance.u64(events / 50..=events), blow)).collect();
    schedule.sort_by_key(|(at, _)| *at);
    schedule
}

/// Who writes the log, in a thread of its own.
struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Log>>>,
}

#[derive(Default)]
struct Shared {
    written: AtomicU64,
    /// So many may be written now.
    allowed: AtomicU64,
    stopped: AtomicBool,
}

impl Writer {
    fn start(folder: &Path, args: &Args, seed: u64) -> Result<Writer> {
        let mut log = Log::create(folder, Corpus::read(&corpus::default_paths())?)?;
        let shared = Arc::new(Shared::default());
        let (events, rate, told) = (args.events, args.rate, Arc::clone(&shared));
        let thread = std::thread::spawn(move || write(&mut log, events, rate, seed, &told).map(|()| log));
        Ok(Writer { shared, thread: Some(thread) })
    }

    fn written(&self) -> u64 {
        self.shared.written.load(Ordering::SeqCst)
    }

    fn go_on_to(&self, events: u64) {
        self.shared.allowed.store(events, Ordering::SeqCst);
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// All files, oldest first, and the bytes written.
    fn finish(&mut self) -> Result<(Vec<PathBuf>, u64)> {
        let thread = self.thread.take().context("the writer was asked twice")?;
        let log = thread.join().ok().context("the writer panicked")??;
        let files = log.backups.iter().chain([&log.path]).cloned().collect();
        Ok((files, log.bytes))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

fn write(log: &mut Log, events: u64, rate: u64, seed: u64, shared: &Shared) -> Result<()> {
    let mut chance = fastrand::Rng::with_seed(!seed);
    let mut rotate_at = chance.usize(ROTATED_LINES.0..=ROTATED_LINES.1);
    while (log.written as u64) < events {
        if shared.stopped.load(Ordering::SeqCst) {
            bail!("the trial has ended");
        }
        std::thread::sleep(WRITE_TURN);
        let allowed = shared.allowed.load(Ordering::SeqCst).min(events) as usize;
        let chunk = (rate as f64 * WRITE_TURN.as_secs_f64()).ceil() as usize;
        let end = allowed.min(rotate_at).min(log.written + chunk);
        log.write(end.saturating_sub(log.written))?;
        shared.written.store(log.written as u64, Ordering::SeqCst);
        if log.written == rotate_at {
            log.rotate()?;
            // Every other backup is compressed when the next is made.
            if let Some(before) = log.backups.len().checked_sub(2).filter(|before| before % 2 == 0) {
                log.compress(before)?;
            }
            rotate_at += chance.usize(ROTATED_LINES.0..=ROTATED_LINES.1);
        }
    }
    Ok(())
}

/// What is wrong with what is there: uids, and how many of them.
struct Verdict {
    wanted: usize,
    missing: Vec<String>,
    /// How many of what is there are there more often than written.
    repeated: Vec<String>,
    foreign: Vec<String>,
}

impl Verdict {
    fn of(wanted: &HashMap<String, usize>, there: &[String]) -> Verdict {
        let mut times: HashMap<&str, usize> = HashMap::new();
        for uid in there {
            *times.entry(uid).or_default() += 1;
        }
        let missing = wanted.keys().filter(|uid| !times.contains_key(uid.as_str())).cloned().collect();
        let (mut repeated, mut foreign) = (Vec::new(), Vec::new());
        for (uid, times) in times {
            match wanted.contains_key(uid) {
                true => repeated.extend(std::iter::repeat_n(uid.to_owned(), times - 1)),
                false => foreign.extend(std::iter::repeat_n(uid.to_owned(), times)),
            }
        }
        Verdict { wanted: wanted.len(), missing, repeated, foreign }
    }

    fn is_good(&self) -> bool {
        self.missing.is_empty() && self.repeated.is_empty() && self.foreign.is_empty()
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Verdict { wanted, missing, repeated, foreign } = self;
        let counts = [missing, repeated, foreign].map(Vec::len);
        let [missed, again, strange] = counts;
        write!(f, "of {wanted} events {missed} are missing, {again} repeated, {strange} foreign")?;
        for (what, uids) in [("missing", missing), ("repeated", repeated), ("foreign", foreign)] {
            if !uids.is_empty() {
                write!(f, "\n  {what}: {}", uids[..uids.len().min(NAMED)].join(" "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_repeated_and_foreign_is_counted_apart() {
        let wanted = ["a", "b", "c"].map(|uid| (uid.to_owned(), 1)).into();
        let told = |there: &[&str]| {
            let there: Vec<String> = there.iter().map(|uid| (*uid).to_owned()).collect();
            Verdict::of(&wanted, &there).to_string()
        };
        assert_eq!(told(&["c", "b", "a"]), "of 3 events 0 are missing, 0 repeated, 0 foreign");
        // As many as there should be, and yet wrong.
        assert_eq!(
            told(&["a", "a", "b"]),
            "of 3 events 1 are missing, 1 repeated, 0 foreign\n  missing: c\n  repeated: a"
        );
        assert!(
            told(&["a", "b", "c", "", ""]).starts_with("of 3 events 0 are missing, 0 repeated, 2 foreign")
        );
    }

    #[test]
    fn a_seed_gives_the_moments() {
        let of = |seed| schedule(1000, &mut fastrand::Rng::with_seed(seed));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert!(of(1).is_sorted_by_key(|(at, _)| *at) && of(1).len() == 22);
    }
}
