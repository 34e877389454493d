//! One round: what happens when, by chance from a seed, and what came of it.

use super::client::Client;
use super::cluster::{Audit, Cluster, Counted, USERS};
use super::judge::{self, Ends, Found, Records, Truth};
use super::keeper::Keeper;
use super::leaks::{Leak, Needles};
use super::programs::Programs;
use super::secrets::{Planted, Secrets};
use super::traffic::{Answered, Traffic};
use crate::agent::{Account, Agent};
use crate::backend::Backend;
use crate::http;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::fs::File;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often the round looks around.
const TURN: Duration = Duration::from_millis(10);

/// Within this a count of the API server and the lines of its files must agree, while nobody asks anything of it.
const AGREE_LIMIT: Duration = Duration::from_secs(60);

/// How long nothing may arrive before the agent, with nothing open, is held to be done.
const QUIET: Duration = Duration::from_secs(6);

/// The same with something open; longer than the agent's longest wait between two attempts.
const STUCK_AFTER: Duration = Duration::from_secs(150);

/// How an agent says in its log that something is missing and nobody knows how much.
const GAP: &str = "an unknown amount of the log is missing";

/// Events a second that the API server makes by itself, at most: it asks much of itself after a start.
const OWN_RATE: u64 = 300;

/// Leaks that are shown.
const SHOWN: usize = 20;

/// What happens in a round.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// The agent is killed, and stays dead for so long.
    KillAgent(Duration),
    /// SIGKILL to the API server, so long after its count was compared.
    KillApiserver(Duration),
    /// SIGTERM to the API server.
    StopApiserver,
    /// The `_bulk` server goes away for so long.
    Leave(Duration),
}

impl Act {
    fn needs_apiserver(self) -> bool {
        matches!(self, Act::KillApiserver(_) | Act::StopApiserver)
    }
}

/// What is asked of the agent.
pub(crate) struct Round<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) binary: &'a Path,
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    pub(crate) threads: usize,
    pub(crate) max_backups: u32,
    pub(crate) policy: PathBuf,
    /// The policy leaves out what the example leaves out.
    pub(crate) is_silent: bool,
}

/// How a round went.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    rows: Vec<(&'static str, String)>,
}

/// Where everything of a round is.
struct Places {
    config: PathBuf,
    reference: PathBuf,
    archive: PathBuf,
    state: PathBuf,
    agent_log: PathBuf,
    admin: SocketAddr,
}

/// A round that is under way. What is dropped first stands first.
struct Stage<'a> {
    round: &'a Round<'a>,
    traffic: Traffic,
    agent: Option<Agent>,
    cluster: Cluster,
    administrator: Client,
    backend: Backend,
    keeper: Keeper,
    places: Places,
    /// When the next agent comes, while there is none.
    comes: Instant,
    agents: u64,
    /// When no agent was there. The last is open as long as none is.
    absent: Vec<Range<Instant>>,
    ends: Ends,
    lives: Vec<Life>,
    life: Life,
    is_up: bool,
    away_until: Option<Instant>,
    outages: u64,
}

/// One life of the API server.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    /// Lines that there were when it began.
    from: u64,
    /// Lines that it has written.
    lines: u64,
    /// The last that it has told.
    counted: Counted,
    was_killed: bool,
}

impl Round<'_> {
    /// Runs it. Where something is wrong, all files are kept.
    pub(crate) fn run(&self) -> Result<Summary> {
        let mut folder =
            tempfile::Builder::new().prefix("auditship-apiserver-").tempdir().context("make a folder")?;
        let done = self.run_in(folder.path());
        if done.is_err() {
            folder.disable_cleanup(true);
        }
        done.with_context(|| format!("seed {}, see {}", self.seed, folder.path().display()))
    }

    fn run_in(&self, work: &Path) -> Result<Summary> {
        let mut chance = fastrand::Rng::with_seed(self.seed);
        let planted = Planted::default();
        let mut secrets = Secrets::new(chance.u64(..), planted.clone());
        let tokens = USERS.iter().map(|_| secrets.opaque()).collect();
        let (backend, keeper) = (Backend::start_keeping()?, Keeper::start(&work.join("log"))?);
        let audit = Audit { policy: self.policy.clone(), max_backups: self.max_backups };
        let mut cluster = Cluster::start(self.programs, work, audit, tokens)?;
        let places = Places::make(work, &cluster.log(), backend.addr)?;
        cluster.wait_ready()?;
        let mut acts = self.acts(&mut chance);
        let (now, administrator) = (Instant::now(), cluster.client(true)?);
        let mut stage = Stage {
            round: self,
            traffic: Traffic::start(&cluster, chance.u64(..), self.threads, &planted)?,
            agent: None,
            cluster,
            administrator,
            backend,
            keeper,
            places,
            comes: now + Duration::from_millis(chance.u64(0..3_000)),
            agents: 0,
            absent: std::iter::once(now..now).collect(),
            ends: Ends::default(),
            lives: Vec::new(),
            life: Life::default(),
            is_up: true,
            away_until: None,
            outages: 0,
        };
        let began = Instant::now();
        while began.elapsed() < self.length || !stage.is_calm() {
            stage.step()?;
            let is_due = |(at, act): &&(Duration, Act)| {
                began.elapsed() >= *at && (stage.is_up || !act.needs_apiserver())
            };
            if let Some((_, act)) = acts.front().filter(is_due).copied() {
                acts.pop_front();
                let (now, documents) = (began.elapsed().as_secs_f64(), stage.backend.count());
                println!("  {now:5.1} s: {act:?}, {documents} documents");
                stage.act(act)?;
            }
            std::thread::sleep(TURN);
        }
        stage.finish(planted, work)
    }

    /// What happens when.
    fn acts(&self, chance: &mut fastrand::Rng) -> VecDeque<(Duration, Act)> {
        let seconds = self.length.as_secs();
        let millis = |chance: &mut fastrand::Rng, range: Range<u64>| Duration::from_millis(chance.u64(range));
        let mut acts = Vec::new();
        for _ in 0..seconds.div_ceil(8) {
            acts.push(Act::KillAgent(millis(chance, 0..4_000)));
        }
        for _ in 0..seconds.div_ceil(30) {
            acts.push(Act::KillApiserver(millis(chance, 0..2_000)));
            acts.push(Act::Leave(millis(chance, 500..8_000)));
        }
        acts.push(Act::StopApiserver);
        let end = self.length.as_millis() as u64;
        let mut timed: Vec<_> =
            acts.into_iter().map(|act| (millis(chance, 3_000..end - 2_000), act)).collect();
        timed.sort_by_key(|(at, _)| *at);
        timed.into()
    }
}

impl Stage<'_> {
    /// Whether everybody is there.
    fn is_calm(&self) -> bool {
        self.is_up && self.agent.is_some() && self.away_until.is_none()
    }

    /// Brings back who is away.
    fn step(&mut self) -> Result<()> {
        let now = Instant::now();
        match &mut self.agent {
            Some(agent) => agent.check_alive()?,
            None if now >= self.comes => {
                let log = File::options().create(true).append(true).open(&self.places.agent_log)?;
                self.agent = Some(Agent::start(self.round.binary, &self.places.config, log)?);
                self.agents += 1;
                if let Some(absent) = self.absent.last_mut() {
                    absent.end = now;
                }
            }
            None => {}
        }
        if self.away_until.is_some_and(|until| now >= until) {
            self.backend.come_back();
            self.away_until = None;
        }
        if self.is_up {
            self.cluster.check_alive()?;
        } else {
            self.is_up = self.cluster.is_ready()?;
        }
        Ok(())
    }

    fn act(&mut self, act: Act) -> Result<()> {
        let now = Instant::now();
        match act {
            Act::KillAgent(dead) => {
                if let Some(agent) = self.agent.take() {
                    agent.kill()?;
                    self.absent.push(now..now + dead);
                    self.comes = now + dead;
                }
            }
            Act::Leave(away) => {
                self.backend.leave();
                self.away_until = Some(now + away);
                self.outages += 1;
            }
            Act::StopApiserver => {
                self.agree()?;
                self.traffic.resume();
                let leaves = Instant::now();
                self.cluster.stop_apiserver()?;
                self.ends.leaves.push(leaves..Instant::now());
                self.next_life()?;
            }
            Act::KillApiserver(after) => {
                self.agree()?;
                self.traffic.resume();
                std::thread::sleep(after);
                let (asked, begun) = (Instant::now(), self.traffic.shared().begun.load(Ordering::SeqCst));
                self.life.counted = self.cluster.counted(&mut self.administrator)?;
                self.cluster.kill_apiserver()?;
                self.ends.deaths.push(Instant::now());
                self.life.was_killed = true;
                let begun = self.traffic.shared().begun.load(Ordering::SeqCst) - begun;
                self.bounded(begun, asked.elapsed())?;
                self.next_life()?;
            }
        }
        Ok(())
    }

    /// With nothing under way, the files have as many lines as the API server has counted. The traffic rests afterwards.
    fn agree(&mut self) -> Result<()> {
        self.traffic.pause()?;
        let start = Instant::now();
        loop {
            let counted = self.cluster.counted(&mut self.administrator)?;
            let lines = self.keeper.lines()? - self.life.from;
            let after = self.cluster.counted(&mut self.administrator)?;
            (self.life.lines, self.life.counted) = (lines, after);
            if counted == after && lines == after.events - after.errors {
                return Ok(());
            }
            ensure!(
                start.elapsed() < AGREE_LIMIT,
                "the API server has counted {after:?}, but its files have {lines} lines more than when it was started"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// After a kill, the last count is close: what was counted is written, but for what was just being written, and
    /// there is no more than what was asked since, and what the API server asks of itself.
    fn bounded(&mut self, begun: u64, since: Duration) -> Result<()> {
        let lines = self.keeper.lines()? - self.life.from;
        self.life.lines = lines;
        let Counted { events, errors } = self.life.counted;
        let (counted, threads) = (events - errors, self.round.threads as u64 + 2);
        let own = OWN_RATE * (since.as_secs() + 1);
        ensure!(
            lines + threads >= counted && lines <= counted + 3 * (begun + threads) + own,
            "the API server had counted {counted} events {since:?} before it was killed, its files have {lines}"
        );
        Ok(())
    }

    fn next_life(&mut self) -> Result<()> {
        let lines = self.keeper.lines()?;
        // An orderly end is logged too.
        self.life.lines = lines - self.life.from;
        self.lives.push(self.life);
        self.life = Life { from: lines, ..Life::default() };
        // The connection to the one that is gone is of no use.
        self.administrator = self.cluster.client(true)?;
        self.cluster.start_apiserver()?;
        self.is_up = false;
        Ok(())
    }

    /// Lets everything arrive, and judges.
    fn finish(mut self, planted: Planted, work: &Path) -> Result<Summary> {
        self.agree()?;
        self.lives.push(self.life);
        let mut summary = Summary::default();
        self.traffic_rows(&mut summary);
        let (statuses, threads) = (self.traffic.shared().statuses(), self.round.threads);
        let answered = self.traffic.stop()?;
        self.cluster.stop_apiserver()?;
        let mut agent = self.agent.take().context("an agent is there")?;
        let status = drained(&mut agent, &self.backend, self.places.admin)?;
        let metrics = http::request(self.places.admin, "GET", "/metrics", None)?.1;
        agent.stop()?;
        let kept = self.keeper.finish()?;
        let truth = Truth::new(&kept, self.round.binary, &self.places.reference, work)?;
        summary.row("lines in its files", format!("{} ({:.1} MB)", truth.lines, truth.bytes as f64 / 1e6));
        let deleted = kept.iter().filter(|kept| kept.gone.is_some()).count();
        summary.row("files of them, deleted", format!("{}, {deleted}", kept.len()));
        summary.row("torn lines", truth.torn.to_string());

        let documents = self.backend.stored();
        let mut search = Records::new();
        for (id, document) in documents.documents.iter().flatten() {
            let (uid, body) = judge::of_search(document).context("a document is not as expected")?;
            ensure!(format!("{id:032x}") == uid, "document {uid} has another id");
            search.push((uid, body));
        }
        let (archive, objects) = judge::of_archive(&self.places.archive)?;
        let told = std::fs::read_to_string(&self.places.agent_log).context("read the agents' log")?;
        let gaps = told.lines().filter(|line| line.contains(GAP)).count();
        let mut problems = Vec::new();
        for (name, records) in [("search", &search), ("archive", &archive)] {
            let account = Account::of(&status, name).with_context(|| format!("no account of {name}"))?;
            let found = truth.compare(records, &self.absent, account, gaps);
            summary.found(name, &found);
            problems.extend(found.problems.into_iter().map(|problem| format!("{name}: {problem}")));
        }
        summary.row("sent again to search", documents.repeated.to_string());
        summary.row("files in the archive", objects.to_string());
        problems.extend(unlogged(&truth, &answered, &self.ends, self.round.is_silent));
        ensure!(threads == 0 || statuses.len() > 3, "the traffic was too uniform: {statuses:?}");

        let mut texts: Vec<(&str, Vec<u8>)> =
            vec![("the agent's log", told.into_bytes()), ("/metrics", metrics)];
        texts.push(("/status", status.to_string().into_bytes()));
        texts.extend(documents.documents.into_iter().flatten().map(|(_, document)| ("search", document)));
        texts.extend(archive.into_iter().map(|(_, body)| ("archive", body)));
        texts.extend(files(&self.places.state)?.into_iter().map(|bytes| ("the state directory", bytes)));
        problems.extend(leaks(&texts, &planted.all(), &kept, &mut summary)?);
        ensure!(problems.is_empty(), "{}\n{}", problems.join("\n"), Summary::table(&[summary]));
        println!("{}", Summary::table(std::slice::from_ref(&summary)));
        Ok(summary)
    }

    fn traffic_rows(&self, summary: &mut Summary) {
        let shared = self.traffic.shared();
        let killed = self.lives.iter().filter(|life| life.was_killed).count();
        let sum = |figure: fn(&Life) -> u64| self.lives.iter().map(figure).sum::<u64>();
        summary.row("seed", self.round.seed.to_string());
        summary.row("requests, of them failed", {
            let (begun, failed) = (shared.begun.load(Ordering::SeqCst), shared.failed.load(Ordering::SeqCst));
            format!("{begun}, {failed}")
        });
        summary.row("calls of kubectl", shared.kubectl.load(Ordering::SeqCst).to_string());
        summary.row("API server: lives, of them killed", format!("{}, {killed}", self.lives.len()));
        summary.row("agent: lives", self.agents.to_string());
        summary.row("outages of search", self.outages.to_string());
        summary.row("counted by the API server, not writable", {
            format!("{}, {}", sum(|life| life.counted.events), sum(|life| life.counted.errors))
        });
        let tails: Vec<String> = self
            .lives
            .iter()
            .map(|life| {
                let counted = life.counted.events - life.counted.errors;
                format!("{:+}", life.lines as i64 - counted as i64)
            })
            .collect();
        summary.row("lines beside the last count, each life", tails.join(" "));
    }
}

impl Places {
    fn make(work: &Path, log: &Path, search: SocketAddr) -> Result<Places> {
        let places = Places {
            config: work.join("auditship.yaml"),
            reference: work.join("reference.yaml"),
            archive: work.join("archive"),
            state: work.join("state"),
            agent_log: work.join("agent.log"),
            admin: http::free_addr()?,
        };
        std::fs::create_dir_all(&places.state).context("make the state directory")?;
        std::fs::create_dir_all(&places.archive).context("make the archive")?;
        let key = work.join("key");
        std::fs::write(&key, [7; 32]).context("write the key")?;
        let quoted = |path: &Path| Value::from(path.to_string_lossy()).to_string();
        let head = format!(
            "cluster: test\nnode: test\nstate_dir: {}\nkey_file: {}\n\
             inputs:\n  apiserver:\n    type: file\n    path: {}\n\
             filter:\n  packs: []\n  rules: []\n",
            quoted(&places.state),
            quoted(&key),
            quoted(log)
        );
        let route = |outputs: &str| {
            format!(
                "routes:\n  - name: everything\n    index: audit\n    outputs: [{outputs}]\n    keep: 100%\n"
            )
        };
        let config = format!(
            "{head}{}outputs:\n  search:\n    type: elasticsearch\n    endpoint: http://{search}\n  \
             archive:\n    type: dir\n    path: {}\n    batch: {{age: 2s}}\nadmin:\n  listen: {}\n",
            route("search, archive"),
            quoted(&places.archive),
            places.admin
        );
        std::fs::write(&places.config, config).context("write the configuration")?;
        let reference = format!("{head}{}outputs:\n  out:\n    type: stdout\n", route("out"));
        std::fs::write(&places.reference, reference).context("write the configuration")?;
        Ok(places)
    }
}

/// Waits until nothing more arrives; gives the agent's last word.
fn drained(agent: &mut Agent, backend: &Backend, admin: SocketAddr) -> Result<Value> {
    let (mut last, mut since) = ((0, 0), Instant::now());
    loop {
        agent.check_alive()?;
        if let Ok(status) = http::json(admin, "GET", "/status", None) {
            let accounts = ["search", "archive"].map(|name| Account::of(&status, name).unwrap_or_default());
            let open: u64 = accounts.iter().map(|account| account.open).sum();
            let now = (backend.count(), accounts.iter().map(|account| account.delivered).sum());
            if now != last {
                (last, since) = (now, Instant::now());
            }
            if since.elapsed() > if open == 0 { QUIET } else { STUCK_AFTER } {
                return Ok(status);
            }
        }
        ensure!(since.elapsed() < STUCK_AFTER * 2, "the agent does not answer");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn unlogged(truth: &Truth, answered: &[Answered], ends: &Ends, is_silent: bool) -> Vec<String> {
    let (missing, unwanted) = truth.unlogged(answered, ends, is_silent);
    let mut problems = Vec::new();
    if !missing.is_empty() {
        let all = answered.len();
        problems
            .push(format!("of {all} requests these were answered, but not logged, by status: {missing:?}"));
    }
    if unwanted > 0 {
        problems.push(format!("{unwanted} requests were logged that the policy should leave out"));
    }
    problems
}

/// The contents of all files below a folder.
fn files(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut contents = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.context("list a folder")?.path();
        match path.is_dir() {
            true => contents.extend(files(&path)?),
            false => contents.push(std::fs::read(&path).with_context(|| format!("read {}", path.display()))?),
        }
    }
    Ok(contents)
}

/// What was found of what was planted. That much of it had been in the log shows that there was something to find.
fn leaks(
    texts: &[(&str, Vec<u8>)],
    planted: &BTreeMap<String, &'static str>,
    kept: &[super::keeper::Kept],
    summary: &mut Summary,
) -> Result<Vec<String>> {
    let needles = Needles::new(planted)?;
    let (mut before, mut after): (BTreeSet<Leak>, BTreeSet<Leak>) = Default::default();
    for kept in kept {
        for line in kept.content.split(|byte| *byte == b'\n') {
            needles.search(line, "the log", &mut before);
        }
    }
    for (place, text) in texts {
        needles.search(text, place, &mut after);
    }
    let distinct =
        |leaks: &BTreeSet<Leak>| leaks.iter().map(|leak| &leak.value).collect::<BTreeSet<_>>().len();
    summary.row("secrets planted, in the log", format!("{}, {}", planted.len(), distinct(&before)));
    let searched: usize = texts.iter().map(|(_, text)| text.len()).sum();
    summary.row("searched, secrets found", format!("{:.1} MB, {}", searched as f64 / 1e6, distinct(&after)));
    let mut kinds: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for leak in &after {
        *kinds.entry((leak.kind, &leak.place)).or_default() += 1;
    }
    let mut problems: Vec<String> =
        kinds.iter().map(|((kind, place), times)| format!("{place} holds a {kind}, {times} times")).collect();
    problems.extend(after.iter().take(SHOWN).map(|leak| format!("  {} in …{}…", leak.value, leak.around)));
    Ok(problems)
}

impl Summary {
    fn row(&mut self, name: &'static str, value: String) {
        self.rows.push((name, value));
    }

    fn found(&mut self, name: &'static str, found: &Found) {
        let Found { records, missing, excused, repeated, .. } = found;
        let value =
            format!("{records} records, {missing} missing ({excused} deleted unseen), {repeated} twice");
        self.row(name, value);
    }

    /// A table with a column for each round.
    pub(crate) fn table(rounds: &[Summary]) -> String {
        let mut text = String::new();
        let rows = rounds.iter().map(|round| round.rows.len()).max().unwrap_or(0);
        for at in 0..rows {
            let name = rounds.iter().find_map(|round| round.rows.get(at)).map_or("", |(name, _)| name);
            let _ = write!(text, "| {name:40} |");
            for round in rounds {
                let value = round.rows.get(at).map_or("", |(_, value)| value);
                let _ = write!(text, " {value:>60} |");
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_column_for_each_round() {
        let mut first = Summary::default();
        first.row("lines", "7".to_owned());
        let table = Summary::table(&[first, Summary::default()]);
        assert_eq!(table.lines().count(), 1);
        assert_eq!(table.matches('|').count(), 4);
    }
}
