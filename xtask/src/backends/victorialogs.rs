//! VictoriaLogs, which takes several protocols: NDJSON through `http`, Loki's, and OpenTelemetry's.

use super::sent::Sent;
use super::server::Server;
use super::{json, tools};
use crate::http;
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const PACKAGE: &str = "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs";
const VERSION: &str = "v1.52.1";

/// What it stores can be seen after a second or two.
const SEEN_LIMIT: Duration = Duration::from_secs(60);

/// Members that stay JSON text instead of becoming a field for each of theirs.
const KEPT: [&str; 2] = ["requestObject", "responseObject"];

/// The server's program, or why it cannot be had.
pub(super) fn program() -> Result<Result<PathBuf, String>> {
    tools::go_install(PACKAGE, VERSION)
}

pub(crate) fn run(binary: &Path, work: &Path) -> Result<()> {
    let program = match program()? {
        Ok(program) => program,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    let sent = Sent::prepare(binary, work)?;
    let jsonline = |addr| {
        format!(
            "type: http\n\
             url: http://{addr}/insert/jsonline\n\
             query:\n  _time_field: stageTimestamp\n  _msg_field: requestURI\n  \
             _stream_fields: auditship.cluster,auditship.node,auditship.index\n  preserve_json_keys: {}\n\
             headers: {{content-type: application/stream+json}}\n\
             compression: zstd\n\
             batch: {{event_bytes: 255KiB}}\n",
            KEPT.join(",")
        )
    };
    one(
        &Case { name: "jsonline", output: &jsonline, uid: "auditship.uid", same: same_fields },
        binary,
        work,
        &program,
        &sent,
    )?;
    // It would take the line apart otherwise.
    let loki = |more: &str, addr| {
        format!(
            "type: loki\nendpoint: http://{addr}/insert\n\
             headers: {{VL-Loki-Disable-Message-Parsing: \"1\"}}\n{more}"
        )
    };
    let (protobuf, json) = (|addr| loki("", addr), |addr| loki("format: json\n", addr));
    for (name, output) in [("loki", &protobuf as &dyn Fn(SocketAddr) -> String), ("loki-json", &json)] {
        one(&Case { name, output, uid: "uid", same: same_message }, binary, work, &program, &sent)?;
    }
    let otlp = |addr| {
        format!(
            "type: otlp\nendpoint: http://{addr}/insert/opentelemetry\ncompression: zstd\nbatch: {{event_bytes: 1900KiB}}\n"
        )
    };
    one(
        &Case { name: "otlp", output: &otlp, uid: "log.record.uid", same: same_message },
        binary,
        work,
        &program,
        &sent,
    )
}

/// One protocol.
struct Case<'a> {
    name: &'a str,
    /// The output's options for a server there.
    output: &'a dyn Fn(SocketAddr) -> String,
    /// The field that has the uid.
    uid: &'a str,
    /// Compares an event as it was sent with the stored row.
    same: fn(&[u8], &[u8]) -> bool,
}

fn one(case: &Case<'_>, binary: &Path, work: &Path, program: &Path, sent: &Sent) -> Result<()> {
    let server = start(program, work, case.name)?;
    sent.ship(binary, work, case.name, &(case.output)(server.addr))?;
    let rows = events(&server, sent)?.into_iter();
    let arrived: Vec<_> =
        rows.map(|row| (text(&row, case.uid), Value::Object(row).to_string().into_bytes())).collect();
    println!("{}: {}", case.name, sent.compare(&arrived, case.same).context(case.name.to_owned())?);
    Ok(())
}

/// A new server with an empty store.
fn start(program: &Path, work: &Path, name: &str) -> Result<Server> {
    start_with(program, work, name, &[])
}

/// The same with more arguments.
pub(super) fn start_with(program: &Path, work: &Path, name: &str, more: &[&str]) -> Result<Server> {
    let addr = http::free_addr()?;
    let mut command = Command::new(program);
    command.arg(format!("-httpListenAddr={addr}"));
    command.arg(format!("-storageDataPath={}", work.join(format!("{name}-data")).display()));
    command.args(["-retentionPeriod=100y", "-loggerLevel=WARN"]).args(more);
    Server::spawn(&mut command, name, addr, work)?.ready("/health")
}

/// Everything that is stored, once as much of it can be seen as was sent.
pub(super) fn events(server: &Server, sent: &Sent) -> Result<Vec<Map<String, Value>>> {
    let start = Instant::now();
    loop {
        let (status, body) = http::request(server.addr, "GET", "/select/logsql/query?query=*", None)?;
        ensure!(status == 200, "the query was answered with {status}");
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let rows: Vec<_> =
            lines.map(serde_json::from_slice).collect::<Result<_, _>>().context("read the stored events")?;
        if rows.len() >= sent.lines || start.elapsed() > SEEN_LIMIT {
            return Ok(rows);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

pub(super) fn text(row: &Map<String, Value>, field: &str) -> String {
    row.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// An event as it was sent, and the text that it became: the same bytes, but for what is not UTF-8.
fn same_message(sent: &[u8], arrived: &[u8]) -> bool {
    let Ok(Value::Object(row)) = serde_json::from_slice(arrived) else { return false };
    let trimmed = row.contains_key("trimmed") || row.contains_key("auditship.trimmed");
    let message = text(&row, "_msg");
    if trimmed { message.len() < sent.len() } else { message == String::from_utf8_lossy(sent) }
}

/// An event as it was sent, and the fields that were made of it.
fn same_fields(sent: &[u8], arrived: &[u8]) -> bool {
    let (Some(mut sent), Ok(Value::Object(row))) = (json::flat(sent, &KEPT), serde_json::from_slice(arrived))
    else {
        return false;
    };
    let time = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let mut stored = Vec::new();
    let mut trimmed = false;
    for (field, value) in &row {
        let value = value.as_str().unwrap_or_default();
        match field.as_str() {
            "_stream" | "_stream_id" => {}
            "_time" => stored.push(("stageTimestamp".to_owned(), format!("{:?}", time(value)).into_bytes())),
            "_msg" => stored.push(("requestURI".to_owned(), value.as_bytes().to_vec())),
            own if own.starts_with("auditship.") => trimmed |= own == "auditship.trimmed",
            _ if value.starts_with(['{', '[']) => {
                stored.push((field.clone(), json::canonical(value.as_bytes())))
            }
            _ => stored.push((field.clone(), value.as_bytes().to_vec())),
        }
    }
    for (field, value) in &mut sent {
        if field == "stageTimestamp" {
            *value = format!("{:?}", time(&String::from_utf8_lossy(value))).into_bytes();
        } else if value.first().is_some_and(|first| matches!(first, b'{' | b'[')) {
            *value = json::canonical(value);
        }
    }
    if trimmed {
        // What is left is as it was; what is gone was asked to go.
        let long = |(field, value): &(String, Vec<u8>)| KEPT.contains(&field.as_str()) || value.len() > 256;
        sent.retain(|member| !long(member));
        stored.retain(|member| !long(member));
    }
    stored.sort();
    stored == sent
}
