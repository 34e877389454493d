//! A trial: a writer that rotates and deletes, an agent that is killed at random moments, a backend that goes away
//! and returns; and the verdict over what arrived.
//!
//! The verdict is two-sided. No line may be there twice or in part. A line may be missing only if an agent was killed
//! before it had to be delivered, and the writer had deleted it when the next agent came. And then that agent must
//! have said so: each missing line that an agent could have seen must be among those whose bytes are told as lost, line
//! by line and not in sum, and the account must count so many bytes, each once. What was written while no agent was
//! there has no known length; for that it is enough that the loss was told at all.

use crate::agent::{Account, Agent};
use crate::backend::{self, Backend, Stored};
use crate::config::Setup;
use crate::http;
use crate::lost::{Streams, Told};
use crate::writer::Writer;
use anyhow::{Context, Result, ensure};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the trial looks around.
const TURN: Duration = Duration::from_millis(5);

/// How often the files are looked at; they stay for several times as long.
const LOOK: Duration = Duration::from_millis(40);

/// The longest that the agent stays dead.
const DEAD_MAX_MS: u64 = 500;

/// What was written so shortly before the agent was killed it may not have seen, or not written to its state log: at
/// best it looks ten times a second and writes four times, on a busy machine later.
const UNSAVED: Duration = Duration::from_millis(1500);

/// An agent that follows delivers what is older than this, unless the backend was away a short time ago.
const DUE_AFTER: Duration = Duration::from_secs(5);

/// An agent that has delivered something so young follows.
const YOUNG: Duration = Duration::from_secs(1);

/// How long nothing may arrive before the agent, with nothing open, is held to be done.
const QUIET: Duration = Duration::from_secs(5);

/// The same with something open; longer than the agent's longest wait between two attempts.
const STUCK_AFTER: Duration = Duration::from_secs(150);

/// The number of a line stands in so much of its beginning.
const HEAD_BYTES: u64 = 300;

/// How an agent says in its log that something is missing and nobody knows how much.
const GAP: &str = "an unknown amount of the log is missing";

/// So many runs of missing lines are shown.
const SHOWN_RUNS: usize = 20;

/// What is asked of the agent.
pub(crate) struct Trial<'a> {
    /// The agent's binary.
    pub(crate) agent: &'a Path,
    /// When it is killed, and for how long, and when the backend leaves.
    pub(crate) seed: u64,
    pub(crate) lines: u64,
    pub(crate) kills: usize,
    pub(crate) outage: Duration,
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Outcome {
    account: Account,
    gaps: usize,
    stored: Stored,
    verdict: Verdict,
    written_bytes: u64,
    took: Duration,
}

impl Trial<'_> {
    /// Runs it with the writer that `start` starts in a folder. Where the agent has failed, all files are kept.
    pub(crate) fn run<W: Writer>(&self, start: impl FnOnce(&Path) -> Result<W>) -> Result<Outcome> {
        let mut folder =
            tempfile::Builder::new().prefix("auditship-trial-").tempdir().context("make a folder")?;
        let outcome = self.run_in(folder.path(), start).and_then(|outcome| {
            ensure!(outcome.verdict.problems.is_empty(), "{outcome}");
            Ok(outcome)
        });
        if outcome.is_err() {
            folder.disable_cleanup(true);
        }
        outcome.with_context(|| format!("seed {}, see {}", self.seed, folder.path().display()))
    }

    fn run_in<W: Writer>(&self, folder: &Path, start: impl FnOnce(&Path) -> Result<W>) -> Result<Outcome> {
        let began = Instant::now();
        let backend = Backend::start()?;
        let (logs, state) = (folder.join("log"), folder.join("state"));
        std::fs::create_dir_all(&logs).context("make the log's folder")?;
        std::fs::create_dir_all(&state).context("make the state directory")?;
        let (config, admin) = (folder.join("auditship.yaml"), http::free_addr()?);
        let log = logs.join("audit.log");
        let setup = Setup { endpoint: backend.addr, log: &log, state: &state, compression: "gzip", admin };
        std::fs::write(&config, setup.yaml()).context("write the configuration")?;
        let mut stage = Stage {
            trial: self,
            backend,
            config,
            admin,
            log: folder.join("agent.log"),
            logs: logs.clone(),
            state: state.clone(),
            streams: Streams::default(),
            looked: began,
            chance: fastrand::Rng::with_seed(self.seed),
            life: Life::Dead { until: began },
            history: VecDeque::new(),
            calm_from: Some(began),
            due: 0,
            unseen: std::iter::once(0..0).collect(),
            excused: std::iter::once(0..0).collect(),
        };
        stage.step(0)?;
        let mut writer = start(&logs)?;
        stage.play(&mut writer)?;
        let lengths = writer.lengths()?;
        ensure!(lengths.len() as u64 == self.lines, "the writer wrote {} lines", lengths.len());
        let account = stage.drain()?;
        let stored = stage.backend.stored();
        if let Life::Running { agent, .. } = stage.life {
            agent.stop()?;
        }
        let told = std::fs::read_to_string(&stage.log).context("read the agents' log")?;
        let gaps = told.lines().filter(|line| line.contains(GAP)).count();
        stage.streams.learn(self.agent, &state)?;
        let lost = stage.streams.told(&told, &lengths);
        let (unseen, excused) = (&stage.unseen[..], &stage.excused[..]);
        let evidence =
            Evidence { lengths: &lengths, stored: &stored, unseen, excused, account, lost: &lost, gaps };
        let verdict = evidence.judge();
        let written_bytes = lengths.iter().map(|length| u64::from(*length)).sum();
        Ok(Outcome { account, gaps, stored, verdict, written_bytes, took: began.elapsed() })
    }
}

/// A trial that is under way.
struct Stage<'a> {
    trial: &'a Trial<'a>,
    backend: Backend,
    config: PathBuf,
    admin: SocketAddr,
    /// Where the agents' logs go.
    log: PathBuf,
    /// The folder that the writer writes to.
    logs: PathBuf,
    /// The agents' state directory.
    state: PathBuf,
    streams: Streams,
    /// When the files were looked at.
    looked: Instant,
    chance: fastrand::Rng,
    life: Life,
    /// How many lines there were when.
    history: VecDeque<(Instant, u64)>,
    /// From when on an agent can be expected to keep up; `None` while the backend is away.
    calm_from: Option<Instant>,
    /// How many lines must have been delivered, whatever comes.
    due: u64,
    /// Lines that were written while no agent saw them, or too shortly before to have been saved. The last is open
    /// as long as no agent is up.
    unseen: Vec<Range<u64>>,
    /// Lines that may be missing: not due when an agent was killed, and gone when the next was up. The last is open
    /// as long as none is.
    excused: Vec<Range<u64>>,
}

enum Life {
    Dead { until: Instant },
    Running { agent: Agent, up: bool },
}

impl Stage<'_> {
    /// Until the writer is done and everything has happened.
    fn play(&mut self, writer: &mut impl Writer) -> Result<()> {
        let lines = self.trial.lines;
        let mut kills: Vec<u64> =
            (0..self.trial.kills).map(|_| self.chance.u64(lines / 50..=lines)).collect();
        kills.sort_unstable();
        let mut kills = VecDeque::from(kills);
        let mut leave_at = Some(self.chance.u64(lines / 5..=lines / 5 * 3));
        let mut away_until = None;
        loop {
            let done = writer.is_done()?;
            let written = writer.written();
            self.step(written)?;
            if leave_at.is_some_and(|at| written >= at) && !self.trial.outage.is_zero() {
                self.backend.leave();
                println!("  {written} lines: the backend goes away");
                leave_at = None;
                self.calm_from = None;
                away_until = Some(Instant::now() + self.trial.outage);
            }
            if away_until.is_some_and(|until| Instant::now() >= until) {
                self.backend.come_back();
                println!("  {written} lines: the backend is back, {} have arrived", self.backend.count());
                away_until = None;
                // A batch may wait for its next attempt as long as the backend was away.
                self.calm_from = Some(Instant::now() + (self.trial.outage * 3 / 2).max(DUE_AFTER));
            }
            if kills.front().is_some_and(|at| written >= *at) && matches!(self.life, Life::Running { .. }) {
                kills.pop_front();
                self.kill(written)?;
            }
            let calm = away_until.is_none() && kills.is_empty();
            if done && calm && matches!(self.life, Life::Running { up: true, .. }) {
                return Ok(());
            }
            std::thread::sleep(TURN);
        }
    }

    fn kill(&mut self, written: u64) -> Result<()> {
        let dead = Duration::from_millis(self.chance.u64(0..=DEAD_MAX_MS));
        let until = Instant::now() + dead;
        let life = std::mem::replace(&mut self.life, Life::Dead { until });
        let Life::Running { agent, up } = life else { return Ok(()) };
        agent.kill()?;
        self.streams.learn(self.trial.agent, &self.state)?;
        println!("  {written} lines, {} arrived: killed, dead for {dead:?}", self.backend.count());
        if up {
            let saved = self.written_before(UNSAVED);
            self.unseen.push(saved..saved);
            self.excused.push(self.due..self.due);
        }
        Ok(())
    }

    /// Starts the agent when its time has come, and sees whether it follows.
    fn step(&mut self, written: u64) -> Result<()> {
        let now = Instant::now();
        if now.duration_since(self.looked) >= LOOK {
            self.looked = now;
            self.streams.look(&self.logs, backend::number_in)?;
        }
        self.history.push_back((now, written));
        while self.history.front().is_some_and(|(at, _)| now.duration_since(*at) > DUE_AFTER * 2) {
            self.history.pop_front();
        }
        match &mut self.life {
            Life::Dead { until } if now >= *until => {
                let log = File::options().create(true).append(true).open(&self.log);
                let log = log.context("open the agent's log")?;
                let agent = Agent::start(self.trial.agent, &self.config, log)?;
                self.life = Life::Running { agent, up: false };
            }
            Life::Dead { .. } => {}
            Life::Running { agent, up } => {
                agent.check_alive()?;
                // It has looked at all files before it says anything of its output.
                if !*up && Account::ask(self.admin).is_some() {
                    *up = true;
                    if let (Some(unseen), Some(excused)) = (self.unseen.last_mut(), self.excused.last_mut()) {
                        unseen.end = written;
                        excused.end = oldest(&self.logs)?.unwrap_or(written);
                    }
                }
                let follows = *up
                    && self.calm_from.is_some_and(|from| now >= from)
                    && self.backend.newest() > self.written_before(YOUNG);
                if follows {
                    self.due = self.due.max(self.written_before(DUE_AFTER));
                }
            }
        }
        Ok(())
    }

    /// How many lines there were so long ago.
    fn written_before(&self, age: Duration) -> u64 {
        let mut older = self.history.iter().rev().skip_while(|(at, _)| at.elapsed() < age);
        older.next().map_or(0, |(_, written)| *written)
    }

    /// Waits until every line is there, or until no more come.
    fn drain(&mut self) -> Result<Account> {
        let (mut count, mut since) = (0, Instant::now());
        loop {
            let now = self.backend.count();
            if now != count {
                (count, since) = (now, Instant::now());
            }
            if let Life::Running { agent, .. } = &mut self.life {
                agent.check_alive()?;
            }
            let account = Account::ask(self.admin).context("the agent does not answer")?;
            let quiet = since.elapsed();
            if account.open == 0 && (quiet > QUIET || (count >= self.trial.lines && quiet > QUIET / 4)) {
                return Ok(account);
            }
            ensure!(quiet < STUCK_AFTER, "no new document for {quiet:?}: {count} have come, {account:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The number of the oldest line in a folder.
fn oldest(folder: &Path) -> Result<Option<u64>> {
    let mut oldest = None;
    for entry in std::fs::read_dir(folder).context("list the log's folder")? {
        let path = entry.context("list the log's folder")?.path();
        // What goes away meanwhile is not there.
        let Ok(file) = File::open(&path) else { continue };
        let mut head = Vec::new();
        let mut file: Box<dyn Read> = match path.extension().is_some_and(|last| last == "gz") {
            true => Box::new(flate2::read::GzDecoder::new(file)),
            false => Box::new(file),
        };
        // One that is still being compressed breaks off; its plain file is there too.
        let _ = file.by_ref().take(HEAD_BYTES).read_to_end(&mut head);
        let first = head.split(|byte| *byte == b'\n').next().and_then(backend::number_in);
        oldest = oldest.into_iter().chain(first).min();
    }
    Ok(oldest)
}

/// What the verdict is based on.
struct Evidence<'a> {
    lengths: &'a [u32],
    stored: &'a Stored,
    unseen: &'a [Range<u64>],
    excused: &'a [Range<u64>],
    account: Account,
    /// What the agents told as lost.
    lost: &'a Told,
    /// How often the agents told of a gap.
    gaps: usize,
}

/// What is wrong, and what is only notable.
#[derive(Debug, Default)]
struct Verdict {
    problems: Vec<String>,
    missing_lines: u64,
    missing_bytes: u64,
    /// How many of the missing bytes no agent can have measured.
    unseen_bytes: u64,
    /// Lines that are told as lost, and are there: they were delivered, and nobody had time to write that down.
    needless_lines: u64,
    /// Missing lines that follow each other.
    runs: Vec<Range<u64>>,
}

impl Evidence<'_> {
    fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let (mut twice, mut unexcused, mut untold) = (0, 0, 0);
        let within = |ranges: &[Range<u64>], number| ranges.iter().any(|range| range.contains(&number));
        for (number, length) in (0..).zip(self.lengths) {
            match self.stored.times.get(number as usize).copied().unwrap_or(0) {
                0 => {
                    unexcused += u64::from(!within(self.excused, number));
                    let unseen = within(self.unseen, number);
                    untold += u64::from(!unseen && !self.lost.lines.contains(&number));
                    verdict.miss(number, u64::from(*length), unseen);
                }
                1 => verdict.needless_lines += u64::from(self.lost.lines.contains(&number)),
                _ => twice += 1,
            }
        }
        let Evidence { account, stored, .. } = self;
        let missing = verdict.missing_bytes;
        let (counted, lost) = (account.lost_bytes, self.lost);
        let mut problem = |wrong: bool, text: String| {
            if wrong {
                verdict.problems.push(text);
            }
        };
        problem(twice > 0, format!("{twice} lines are there twice"));
        problem(
            stored.malformed > 0,
            format!("{} documents are no whole line: {:?}", stored.malformed, stored.complaints),
        );
        problem(
            stored.times.len() > self.lengths.len(),
            "there are lines that were never written".to_owned(),
        );
        problem(
            unexcused > 0,
            format!("{unexcused} lines are missing that an agent had, and time to deliver"),
        );
        problem(missing > 0 && counted == 0 && self.gaps == 0, "the loss was not told at all".to_owned());
        problem(
            untold > 0,
            format!("{untold} lines are missing that were there to be seen, and are not told as lost"),
        );
        problem(
            counted != lost.bytes,
            format!("{} bytes are told as lost, but {counted} are counted", lost.bytes),
        );
        problem(lost.unplaced > 0, format!("{} losses are told of files that never were", lost.unplaced));
        problem(account.refused > 0, format!("{} lines were not taken for events", account.refused));
        problem(account.open > 0, format!("{} lines are open", account.open));
        problem(
            account.delivered > stored.times.iter().map(|times| u64::from(*times)).sum(),
            format!("{} lines are said to be delivered", account.delivered),
        );
        verdict
    }
}

impl Verdict {
    fn miss(&mut self, number: u64, bytes: u64, unseen: bool) {
        self.missing_lines += 1;
        self.missing_bytes += bytes;
        self.unseen_bytes += if unseen { bytes } else { 0 };
        match self.runs.last_mut() {
            Some(run) if run.end == number => run.end += 1,
            _ => self.runs.push(number..number + 1),
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome { account, gaps, stored, verdict, written_bytes, took } = self;
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let there = stored.times.iter().filter(|times| **times > 0).count();
        write!(
            f,
            "{there} lines arrived of {:.1} MB written, {} came again and were refused; \
             {} are missing ({:.3} MB, of which {:.3} MB nobody saw), {:.3} MB and {} gaps are counted as lost, \
             {} lines of it needlessly; {:.0} s",
            megabytes(*written_bytes),
            stored.repeated,
            verdict.missing_lines,
            megabytes(verdict.missing_bytes),
            megabytes(verdict.unseen_bytes),
            megabytes(account.lost_bytes),
            gaps,
            verdict.needless_lines,
            took.as_secs_f64(),
        )?;
        for problem in &verdict.problems {
            write!(f, "\n  wrong: {problem}")?;
        }
        if !verdict.runs.is_empty() {
            let shown = &verdict.runs[..verdict.runs.len().min(SHOWN_RUNS)];
            write!(f, "\n  missing: {shown:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(times: &[u8], unseen: Range<u64>, lost: &[u64], counted: u64, gaps: usize) -> Vec<String> {
        let delivered = times.iter().map(|times| u64::from(*times)).sum();
        let account = Account { lost_bytes: counted, delivered, ..Account::default() };
        let mut stored = Stored::default();
        stored.times.extend_from_slice(times);
        let excused = std::slice::from_ref(&(1..3));
        let lost =
            &Told { lines: lost.iter().copied().collect(), bytes: 10 * lost.len() as u64, unplaced: 0 };
        Evidence { lengths: &[10; 5], stored: &stored, unseen: &[unseen], excused, account, lost, gaps }
            .judge()
            .problems
    }

    #[test]
    fn both_sides() {
        let none = Vec::<String>::new();
        assert_eq!(problems(&[1, 1, 1, 1, 1], 0..0, &[], 0, 0), none);
        assert_eq!(problems(&[1, 2, 1, 1, 1], 0..0, &[], 0, 0), ["1 lines are there twice"]);
        assert_eq!(problems(&[1, 0, 0, 1, 1], 0..0, &[1, 2], 20, 0), none);
        // In sum it would be enough.
        let untold = problems(&[1, 0, 0, 1, 1], 0..0, &[0, 1], 20, 0);
        assert_eq!(untold, ["1 lines are missing that were there to be seen, and are not told as lost"]);
        let counted = problems(&[1, 0, 0, 1, 1], 0..0, &[1, 2], 40, 0);
        assert_eq!(counted, ["20 bytes are told as lost, but 40 are counted"]);
        let unread = problems(&[1, 0, 0, 1], 0..0, &[1, 2, 4], 30, 0);
        assert_eq!(unread, ["1 lines are missing that an agent had, and time to deliver"]);
        assert_eq!(problems(&[1, 0, 0, 1, 1], 2..3, &[1], 10, 0), none);
        assert_eq!(problems(&[1, 0, 0, 1, 1], 1..3, &[], 0, 0), ["the loss was not told at all"]);
        assert_eq!(problems(&[1, 0, 0, 1, 1], 1..3, &[], 0, 1), none);
        let more = problems(&[1, 1, 1, 1, 1, 1], 0..0, &[], 0, 0);
        assert_eq!(more, ["there are lines that were never written"]);
    }
}
