//! VictoriaLogs, which takes several protocols: NDJSON through `http`.

use super::sent::Sent;
use super::server::Server;
use super::{json, tools};
use crate::http;
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PACKAGE: &str = "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs";
const VERSION: &str = "v1.52.1";

/// What it stores can be seen after a second or two.
const SEEN_LIMIT: Duration = Duration::from_secs(60);

/// Members that stay JSON text instead of becoming a field for each of theirs.
const KEPT: [&str; 2] = ["requestObject", "responseObject"];

pub(crate) fn run(binary: &Path, work: &Path) -> Result<()> {
    let program = match tools::go_install(PACKAGE, VERSION)? {
        Ok(program) => program,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    let sent = Sent::prepare(binary, work)?;
    let server = start(&program, work, "jsonline")?;
    let output = format!(
        "type: http\n\
         url: http://{}/insert/jsonline?_time_field=stageTimestamp&_msg_field=requestURI\
         &_stream_fields=auditship.cluster,auditship.node,auditship.index&preserve_json_keys={}\n\
         headers: {{content-type: application/stream+json}}\n\
         compression: zstd\n\
         batch: {{event_bytes: 255KiB}}\n",
        server.addr,
        KEPT.join(",")
    );
    sent.ship(binary, work, "jsonline", &output)?;
    let arrived = events(&server, &sent)?
        .into_iter()
        .map(|row| (text(&row, "auditship.uid"), Value::Object(row).to_string().into_bytes()))
        .collect::<Vec<_>>();
    println!("jsonline: {}", sent.compare(&arrived, same_fields)?);
    Ok(())
}

/// A new server with an empty store.
fn start(program: &Path, work: &Path, name: &str) -> Result<Server> {
    let addr = http::free_addr()?;
    let mut command = Command::new(program);
    command.arg(format!("-httpListenAddr={addr}"));
    command.arg(format!("-storageDataPath={}", work.join(format!("{name}-data")).display()));
    command.args(["-retentionPeriod=100y", "-loggerLevel=WARN"]);
    Server::spawn(&mut command, name, addr, work)?.ready("/health")
}

/// Everything that is stored, once as much of it can be seen as was sent.
fn events(server: &Server, sent: &Sent) -> Result<Vec<Map<String, Value>>> {
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

fn text(row: &Map<String, Value>, field: &str) -> String {
    row.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
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
