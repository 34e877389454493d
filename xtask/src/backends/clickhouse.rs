//! `http` against ClickHouse's engine: the batch's name is the insert's token, so that a repeated batch is stored once.
//!
//! The engine comes as a Python package (chdb); `xtask/assets/clickhouse_http.py` puts the HTTP interface before it.

use super::sent::Sent;
use super::server::Server;
use super::{json, tools};
use crate::agent::Agent;
use crate::kills::Target;
use crate::{http, repo};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PACKAGES: &[&str] = &["chdb==4.4.0", "zstandard==0.25.0"];

/// How long the agent may need for all of the log after the server is back.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(120);

/// The members of an event, which become columns; objects and lists become text.
const MEMBERS: &[&str] = &[
    "kind",
    "apiVersion",
    "level",
    "auditID",
    "stage",
    "requestURI",
    "verb",
    "user",
    "impersonatedUser",
    "authenticationMetadata",
    "sourceIPs",
    "userAgent",
    "objectRef",
    "responseStatus",
    "requestObject",
    "responseObject",
    "requestReceivedTimestamp",
    "stageTimestamp",
    "annotations",
];

pub(crate) fn run(binary: &Path, work: &Path) -> Result<()> {
    let python = match tools::venv("clickhouse", PACKAGES)? {
        Ok(python) => python,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    let sent = Sent::prepare(binary, work)?;
    let addr = http::free_addr()?;
    let server = start(&python, work, addr)?;
    query(addr, "CREATE DATABASE a")?;
    let columns: String = MEMBERS.iter().map(|member| format!(", {member} String")).collect();
    query(
        addr,
        &format!(
            "CREATE TABLE a.audit (auditship Tuple(uid String, trimmed Array(String)){columns}) ENGINE = MergeTree \
             ORDER BY auditship.uid SETTINGS non_replicated_deduplication_window = 1000"
        ),
    )?;
    let output = format!(
        "type: http\nurl: http://{addr}/\nquery:\n  query: INSERT INTO a.audit FORMAT JSONEachRow\n  \
         insert_deduplication_token: \"{{batch_id}}\"\n\
         compression: zstd\n\
         batch: {{bytes: 1MiB, events: 2000, age: 60s}}\n"
    );
    sent.ship(binary, work, "clickhouse", &output)?;
    println!("ship: {}", compare(addr, &sent)?);
    // The same lines are cut into the same batches, whose tokens are known.
    sent.ship(binary, work, "clickhouse", &output)?;
    let again = compare(addr, &sent)?;
    ensure!(again.ends_with(", 0 repeated"), "the same batches were stored again: {again}");
    println!("the same tokens again: {again}");
    query(addr, "TRUNCATE TABLE a.audit")?;
    // Truncating forgets no token: other batches are needed.
    let server =
        killed(&sent, binary, work, &output.replace("events: 2000", "events: 1700"), server, &python)?;
    let after = compare(addr, &sent)?;
    ensure!(after.ends_with(", 0 repeated"), "stored twice around a kill: {after}");
    println!("server killed twice: {after}");
    drop(server);
    Ok(())
}

fn start(python: &Path, work: &Path, addr: SocketAddr) -> Result<Server> {
    let mut command = Command::new(python);
    command.arg(repo::root().join("xtask/assets/clickhouse_http.py"));
    command.arg(addr.port().to_string()).arg(work.join("clickhouse-data"));
    Server::spawn(&mut command, "clickhouse", addr, work)?.ready("/ping")
}

/// Follows the log while the server is killed twice in mid-stream.
fn killed(
    sent: &Sent,
    binary: &Path,
    work: &Path,
    output: &str,
    server: Server,
    python: &Path,
) -> Result<Server> {
    let addr = server.addr;
    let mut server = Some(server);
    let config = sent.config(work, "killed", output)?;
    let mut agent = Agent::start(binary, &config, Stdio::null())?;
    for part in [3, 2] {
        wait(addr, sent.lines / part, &mut agent)?;
        if let Some(running) = server.take() {
            running.kill()?;
        }
        server = Some(start(python, work, addr)?);
    }
    wait(addr, sent.events.len(), &mut agent)?;
    agent.stop()?;
    server.context("the server is there")
}

/// Until so many events are stored.
fn wait(addr: SocketAddr, events: usize, agent: &mut Agent) -> Result<()> {
    let start = Instant::now();
    loop {
        let answer = query(addr, "SELECT uniqExact(auditship.uid) AS n FROM a.audit")?;
        let answer: Value = serde_json::from_slice(&answer).context("read the count")?;
        if answer["n"].as_u64().is_some_and(|stored| stored >= events as u64) {
            return Ok(());
        }
        ensure!(start.elapsed() < CATCH_UP_LIMIT, "only {answer} of {events} events are stored");
        agent.check_alive()?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The preset, whose server is killed.
struct Killed {
    python: PathBuf,
    addr: SocketAddr,
    work: PathBuf,
    preset: String,
}

impl Killed {
    /// The value of one of the preset's options.
    fn option(&self, name: &str) -> Result<&str> {
        let mut lines = self.preset.lines().map(str::trim);
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.with_context(|| format!("the preset has no {name}"))
    }
}

impl Target for Killed {
    fn output(&self) -> Result<String> {
        let mut output = format!("type: http\nurl: http://{}/\nquery:\n", self.addr);
        for name in ["query", "insert_deduplication_token", "date_time_input_format"] {
            let value = self.option(name)?.split(" #").next().unwrap_or_default().trim();
            output += &format!("  {name}: {value}\n");
        }
        // Smaller than the preset's, so that there are more of them to be hit.
        let compression = self.option("compression")?;
        Ok(output + &format!("compression: {compression}\nbatch: {{bytes: 1MiB, events: 5000, age: 1s}}\n"))
    }

    fn start(&self) -> Result<Option<Server>> {
        start(&self.python, &self.work, self.addr).map(Some)
    }

    /// The table is the one that the preset shows.
    fn prepare(&self) -> Result<()> {
        let from = self.preset.find("CREATE TABLE").context("the preset shows no table")?;
        let lines = self.preset[from..].lines().map(|line| line.trim_start_matches('#'));
        let table: Vec<&str> = lines.take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
        query(self.addr, "CREATE DATABASE audit")?;
        query(self.addr, &table.join(" "))?;
        Ok(())
    }

    fn uids(&self) -> Result<Vec<String>> {
        let rows = query(self.addr, "SELECT auditship.uid AS uid FROM audit.events")?;
        let rows = rows.split(|byte| *byte == b'\n').filter(|row| !row.is_empty());
        rows.map(|row| {
            let row: Value = serde_json::from_slice(row).context("read a row")?;
            Ok(row["uid"].as_str().unwrap_or_default().to_owned())
        })
        .collect()
    }
}

/// The server for `e2e kills`, or why it cannot be had.
pub(crate) fn target(work: &Path) -> Result<Result<Box<dyn Target>, String>> {
    let (addr, work) = (http::lasting_addr()?, work.to_owned());
    let path = repo::root().join("examples/outputs/clickhouse.yaml");
    let preset = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let python = tools::venv("clickhouse", PACKAGES)?;
    Ok(python.map(|python| Box::new(Killed { python, addr, work, preset }) as Box<dyn Target>))
}

fn query(addr: SocketAddr, query: &str) -> Result<Vec<u8>> {
    let path = format!("/?query={}", query.replace(' ', "%20"));
    let (status, answer) = http::request(addr, "POST", &path, None)?;
    ensure!(status == 200, "{query}: {status} {}", String::from_utf8_lossy(&answer));
    Ok(answer)
}

fn compare(addr: SocketAddr, sent: &Sent) -> Result<String> {
    let rows = query(addr, "SELECT * FROM a.audit")?;
    let mut arrived = Vec::new();
    for row in rows.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()) {
        let value: Value = serde_json::from_slice(row).context("read a row")?;
        arrived.push((value["auditship"]["uid"].as_str().unwrap_or_default().to_owned(), row.to_vec()));
    }
    sent.compare(&arrived, same)
}

/// An event as it was sent, and the columns that it became.
fn same(sent: &[u8], row: &[u8]) -> bool {
    let (Some(sent), Ok(Value::Object(row))) = (json::flat(sent, MEMBERS), serde_json::from_slice(row))
    else {
        return false;
    };
    let mut stored = Vec::new();
    for member in MEMBERS {
        let value = row.get(*member).and_then(Value::as_str).unwrap_or_default();
        let value =
            if value.starts_with(['{', '[']) { json::canonical(value.as_bytes()) } else { value.into() };
        if !value.is_empty() {
            stored.push(((*member).to_owned(), value));
        }
    }
    stored.sort();
    stored == sent
}
