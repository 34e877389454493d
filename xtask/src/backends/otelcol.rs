//! `otlp` against OpenTelemetry's collector, which writes what it takes to a file.

use super::sent::Sent;
use super::server::Server;
use super::tools;
use crate::{http, repo};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const BUILDER: &str = "go.opentelemetry.io/collector/cmd/builder";
const VERSION: &str = "v0.165.0";

/// How long what was taken may be missing in the file.
const WRITTEN_LIMIT: Duration = Duration::from_secs(30);

/// Less than a request's usual size: the collector answers 400 "request body too large", and it must be halved.
const SMALL_BYTES: usize = 3 << 20;

pub(crate) fn run(binary: &Path, work: &Path) -> Result<()> {
    let program = match build()? {
        Ok(program) => program,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    let sent = Sent::prepare(binary, work)?;
    for (name, compression, limit) in
        [("gzip", "gzip", 20 << 20), ("zstd", "zstd", 20 << 20), ("too large", "none", SMALL_BYTES)]
    {
        let file = work.join(format!("{compression}.jsonl"));
        let addr = http::free_addr()?;
        let mut command = Command::new(&program);
        command.arg("--config").arg(repo::root().join("xtask/otelcol/collector.yaml"));
        command.env("LISTEN", addr.to_string()).env("OUT", &file).env("LIMIT", limit.to_string());
        let server = ready(Server::spawn(&mut command, "collector", addr, work)?)?;
        // An event must fit into the collector's limit.
        let output = format!(
            "type: otlp\nendpoint: http://{addr}\ncompression: {compression}\nbatch: {{event_bytes: 2MiB}}\n"
        );
        sent.ship(binary, work, compression, &output)?;
        println!("{name}: {}", sent.compare(&records(&file, &sent)?, same)?);
        drop(server);
    }
    Ok(())
}

/// It has no page that says so: an empty export is answered once it is ready.
fn ready(server: Server) -> Result<Server> {
    let start = Instant::now();
    while !empty_export(server.addr) {
        ensure!(start.elapsed() < WRITTEN_LIMIT, "the collector does not answer:\n{}", server.tail());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(server)
}

fn empty_export(addr: SocketAddr) -> bool {
    let body = serde_json::json!({"resourceLogs": []});
    http::request(addr, "POST", "/v1/logs", Some(&body)).is_ok_and(|(status, _)| status == 200)
}

/// Uid and body of every record in the file, once there are as many as were sent.
fn records(file: &Path, sent: &Sent) -> Result<Vec<(String, Vec<u8>)>> {
    let start = Instant::now();
    loop {
        let text = std::fs::read(file).context("read the collector's file")?;
        let mut records = Vec::new();
        // The last line may be in the making.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let request: Value = serde_json::from_slice(line).context("read a request")?;
            collect(&request, &mut records);
        }
        if records.len() >= sent.lines || start.elapsed() > WRITTEN_LIMIT {
            return Ok(records);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn collect(request: &Value, records: &mut Vec<(String, Vec<u8>)>) {
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    for resource in list(request, "resourceLogs") {
        for scope in list(&resource, "scopeLogs") {
            for record in list(&scope, "logRecords") {
                let uid =
                    list(&record, "attributes").into_iter().find(|pair| pair["key"] == "log.record.uid");
                let uid = uid.and_then(|pair| pair["value"]["stringValue"].as_str().map(str::to_owned));
                let body = record["body"]["stringValue"].as_str().unwrap_or_default();
                records.push((uid.unwrap_or_default(), body.as_bytes().to_vec()));
            }
        }
    }
}

/// The same bytes, but for what is not UTF-8.
fn same(sent: &[u8], arrived: &[u8]) -> bool {
    arrived == String::from_utf8_lossy(sent).as_bytes()
}

/// The collector, made of the list in `xtask/otelcol/builder.yaml`. The builder's own `go mod tidy` wants modules that
/// only tests of others import, so it writes the sources alone and the rest is done here.
fn build() -> Result<Result<PathBuf, String>> {
    let list = repo::root().join("xtask/otelcol/builder.yaml");
    let text = std::fs::read_to_string(&list).context("read the list of the collector's parts")?;
    let (folder, program) =
        (tools::cache()?.join("otelcol"), tools::cache()?.join("otelcol/collector/collector"));
    let (kept, sources) = (folder.join("builder.yaml"), folder.join("collector"));
    if program.is_file() && std::fs::read_to_string(&kept).is_ok_and(|kept| kept == text) {
        return Ok(Ok(program));
    }
    let builder = match tools::go_install(BUILDER, VERSION)? {
        Ok(builder) => builder,
        Err(reason) => return Ok(Err(reason)),
    };
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let mut generate = Command::new(builder);
    generate.arg("--config").arg(&list).args(["--skip-compilation", "--skip-get-modules"]);
    let mut steps = vec![generate];
    let go = |arguments: &[&str]| {
        let mut go = tools::go();
        go.args(arguments);
        go
    };
    steps.push(go(&["mod", "init", "auditship.test/collector"]));
    let parts = text.lines().filter_map(|line| line.trim().strip_prefix("- gomod: "));
    let parts = parts.map(|part| part.replace(' ', "@"));
    for part in parts.chain([format!("go.opentelemetry.io/collector/otelcol@{VERSION}")]) {
        steps.push(go(&["mod", "edit", &format!("-require={part}")]));
    }
    steps.push(go(&["build", "-mod=mod", "-o", "collector", "."]));
    for (number, step) in steps.iter_mut().enumerate() {
        step.current_dir(if number == 0 { &folder } else { &sources });
        if let Err(reason) = tools::done(step)? {
            return Ok(Err(reason));
        }
    }
    std::fs::write(&kept, text).with_context(|| format!("write {}", kept.display()))?;
    Ok(Ok(program))
}
