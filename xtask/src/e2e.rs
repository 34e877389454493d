//! `cargo xtask e2e`: the agent against a real server, or after a real writer.
//!
//! What is asked of it here, against OpenSearch: every line is in the server exactly once, after shipping files, and
//! after following a log that grows and rotates while the agent is killed again and again.

use crate::agent::Agent;
use crate::backends::server::Server;
use crate::config::{INDEX, OUTPUT, Setup};
use crate::corpus::{self, Corpus};
use crate::growing::{self, Log};
use crate::{apiserver, backends, http, image, kills, ledger, lumberjack, opensearch, outage, repo};
use anyhow::{Context, Result, ensure};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Lines that the growing log gets altogether.
const GROWN_LINES: usize = 60_000;

/// Lines between two looks at whether to rotate or to kill; also what is written while the agent is dead.
const CHUNK_LINES: usize = 500;

/// Chunks between two rotations.
const ROTATE_CHUNKS: usize = 8;

/// Chunks before which the agent is killed, in mid-stream. It stays dead over a rotation.
const KILL_CHUNKS: [usize; 3] = [23, 55, 87];

const DEAD_CHUNKS: usize = 3;

/// The pace of the writer: about 12,000 lines a second.
const CHUNK_PAUSE: Duration = Duration::from_millis(40);

/// How long the server may go without a new document before the agent is held to be stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    test: Test,
}

#[derive(clap::Subcommand)]
enum Test {
    /// Behind a real kube-apiserver under traffic, with kills; needs Go, and ten minutes the first time
    Apiserver(apiserver::Args),
    /// Against real servers, each fetched, started and asked by the command itself
    Backends(backends::Args),
    /// The container image, run in namespaces as a node runs it; needs root, and bubblewrap
    Image(image::inside::Args),
    /// Kills the agent and the server at random in front of each backend that repeats nothing, and counts every event
    Kills(kills::Args),
    /// Against OpenSearch 2.19; needs Java 17 and Maven
    Opensearch(OpensearchArgs),
    /// After the writer that kube-apiserver has, which rotates, compresses and deletes; needs Go
    Lumberjack(lumberjack::Args),
    /// Three outputs, one of them dead with a backlog of a gigabyte: what the others notice of it
    Outage(outage::Args),
}

#[derive(clap::Args)]
struct OpensearchArgs {
    /// Logs to ship, plain or .gz; the logs in testdata/ where none is named.
    logs: Vec<PathBuf>,
    /// The agent to test, instead of a release build of this tree.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Only start the server and see that it takes and counts documents.
    #[arg(long)]
    server_only: bool,
}

/// What both tests share.
struct World<'a> {
    agent: &'a Path,
    server: Server,
    folder: &'a Path,
}

/// Runs the test that was asked for.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.test {
        Test::Apiserver(args) => apiserver::run(args),
        Test::Backends(args) => backends::run(args),
        Test::Image(args) => image::inside::run(args),
        Test::Kills(args) => kills::run(args),
        Test::Opensearch(args) => opensearch(args),
        Test::Lumberjack(args) => lumberjack::run(args),
        Test::Outage(args) => outage::run(args),
    }
}

/// Starts the server and runs the tests.
fn opensearch(args: &OpensearchArgs) -> Result<()> {
    if let Some(reason) = opensearch::missing() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let folder = tempfile::tempdir().context("make a folder")?;
    if args.server_only {
        return server_only(&opensearch::start(folder.path(), http::free_addr()?)?);
    }
    against_opensearch(&repo::agent(args.binary.as_deref())?, folder.path(), &args.logs)
}

/// Ships `logs` (those in testdata/ where none is named) to a new server, then follows them as a growing log.
pub(crate) fn against_opensearch(agent: &Path, folder: &Path, logs: &[PathBuf]) -> Result<()> {
    let server = opensearch::start(folder, http::free_addr()?)?;
    println!("OpenSearch is ready at {}", server.addr);
    opensearch::prepare(server.addr, INDEX)?;
    let world = World { agent, server, folder };
    let logs = if logs.is_empty() { corpus::default_paths() } else { logs.to_owned() };
    ship(&world, &logs).context("ship")?;
    follow(&world, &logs).context("run")?;
    Ok(())
}

/// The harness's own test: the server takes a document, and counts it once.
fn server_only(server: &Server) -> Result<()> {
    opensearch::prepare(server.addr, INDEX)?;
    let event = serde_json::json!({"auditID": "a", "requestObject": [{"op": "add"}]});
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(http::request(server.addr, "PUT", &format!("/{INDEX}/_create/1"), Some(&event))?.0);
    }
    ensure!(statuses == [201, 409], "the server answered {statuses:?} to the same document twice");
    let count = opensearch::count(server.addr, INDEX)?;
    ensure!(count == 1, "the server counts {count} documents instead of 1");
    println!("OpenSearch at {} takes documents and counts them", server.addr);
    Ok(())
}

/// Every line of the files is in the server exactly once, and the ledger says so.
fn ship(world: &World<'_>, logs: &[PathBuf]) -> Result<()> {
    let corpus = Corpus::read(logs)?;
    let mut distinct = HashSet::new();
    for number in 0..corpus.len() {
        distinct.insert(growing::hash(corpus.line(number)));
    }
    let config = world.configure(&world.folder.join("unused.log"), "ship")?;
    let mut command = Command::new(world.agent);
    command.arg("ship").arg("--config").arg(&config).args(logs).arg("--json").stdin(Stdio::null());
    let printed = repo::output(&mut command)?;
    let ledger = ledger::read(printed.as_bytes(), OUTPUT)?;
    let mut stored = 0;
    for index in opensearch::indexes(world.server.addr, INDEX)? {
        let count = opensearch::count(world.server.addr, &index)?;
        println!("ship: {index} holds {count} documents");
        stored += count;
        opensearch::delete(world.server.addr, &index)?;
    }
    println!("ship: {} lines, {} distinct, ledger {ledger:?}", corpus.len(), distinct.len());
    ensure!(ledger.read == corpus.len() as u64, "the ledger has read {} lines", ledger.read);
    ensure!(ledger.delivered == ledger.read, "the ledger has delivered {} lines", ledger.delivered);
    ensure!(stored == distinct.len() as u64, "the server has {stored} documents");
    println!("ship: ok, every line is there exactly once");
    Ok(())
}

/// Every line of a log that grows and rotates is in the server exactly once, though the agent is killed.
fn follow(world: &World<'_>, logs: &[PathBuf]) -> Result<()> {
    let folder = world.folder.join("log");
    std::fs::create_dir_all(&folder).context("make the log's folder")?;
    let mut log = Log::create(&folder, Corpus::read(logs)?)?;
    let config = world.configure(&log.path, "run")?;
    let mut agent = Some(Agent::start(world.agent, &config, Stdio::inherit())?);
    let mut kills = KILL_CHUNKS.into_iter().peekable();
    let mut dead_chunks = 0;
    for chunk in 0..GROWN_LINES / CHUNK_LINES {
        if kills.next_if_eq(&chunk).is_some()
            && let Some(running) = agent.take()
        {
            println!(
                "run: {} lines written, {} stored: kill",
                log.written,
                opensearch::count(world.server.addr, INDEX)?
            );
            running.kill()?;
            dead_chunks = 0;
        }
        log.write(CHUNK_LINES)?;
        if chunk % ROTATE_CHUNKS == ROTATE_CHUNKS - 1 {
            log.rotate()?;
        }
        std::thread::sleep(CHUNK_PAUSE);
        if agent.is_none() {
            dead_chunks += 1;
            if dead_chunks == DEAD_CHUNKS {
                agent = Some(Agent::start(world.agent, &config, Stdio::inherit())?);
            }
        }
    }
    let mut agent = agent.context("the agent ended the test dead")?;
    let written = log.written as u64;
    let stored = drain(world, &mut agent, written)?;
    agent.stop()?;
    println!("run: {written} distinct lines in {} files, {stored} stored", log.backups.len() + 1);
    let stored = opensearch::count(world.server.addr, INDEX)?;
    ensure!(stored == written, "the server has {stored} documents instead of {written}");
    println!("run: ok, every line is there exactly once");
    Ok(())
}

/// Waits until the server has as many documents as there should be, or no more come.
fn drain(world: &World<'_>, agent: &mut Agent, wanted: u64) -> Result<u64> {
    let (mut stored, mut since) = (0, Instant::now());
    loop {
        let now = opensearch::count(world.server.addr, INDEX)?;
        if now >= wanted {
            return Ok(now);
        }
        if now > stored {
            (stored, since) = (now, Instant::now());
        }
        ensure!(since.elapsed() < STUCK_AFTER, "no new document for {STUCK_AFTER:?}: {now} of {wanted}");
        agent.check_alive()?;
        std::thread::sleep(Duration::from_millis(500));
    }
}

impl World<'_> {
    fn configure(&self, log: &Path, name: &str) -> Result<PathBuf> {
        let state = self.folder.join(format!("{name}-state"));
        std::fs::create_dir_all(&state).context("make the state directory")?;
        let setup = Setup {
            endpoint: self.server.addr,
            log,
            state: &state,
            compression: "gzip",
            admin: http::free_addr()?,
        };
        let path = self.folder.join(format!("{name}.yaml"));
        std::fs::write(&path, setup.yaml()).context("write the configuration")?;
        Ok(path)
    }
}
