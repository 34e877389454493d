//! A real OpenSearch for the tests: Maven fetches the jars, Java runs them, it listens on the loopback interface.

use crate::backends::server::Server;
use crate::{http, repo};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Jars may have to be unpacked, and a translog read again, on a slow disk.
const START_LIMIT: Duration = Duration::from_secs(300);

/// Documents that are asked for at once; the most that a server gives by default.
const PAGE: usize = 10_000;

const JAVA_MIN_VERSION: u32 = 17;

/// Why the server cannot be had on this machine, if it cannot.
pub(crate) fn missing() -> Option<String> {
    let version = |program: &str, argument: &str| Command::new(program).arg(argument).output();
    let Ok(java) = version("java", "-version") else { return Some("java is not installed".to_owned()) };
    let text = String::from_utf8_lossy(&java.stderr).into_owned();
    match java_version(&text) {
        None => return Some("java does not tell its version".to_owned()),
        Some(old) if old < JAVA_MIN_VERSION => {
            return Some(format!("java {old} is too old, {JAVA_MIN_VERSION} is needed"));
        }
        Some(_) => {}
    }
    match version("mvn", "-version") {
        Ok(maven) if maven.status.success() => None,
        _ => Some("maven (mvn) is not installed".to_owned()),
    }
}

/// `openjdk version "17.0.15" 2025-04-15` → 17
fn java_version(text: &str) -> Option<u32> {
    let number = text.split('"').nth(1)?;
    let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Starts a server at `addr` that keeps everything in `folder`, goes on from what is there, and is ready.
pub(crate) fn start(folder: &Path, addr: SocketAddr) -> Result<Server> {
    let source = repo::root().join("xtask/opensearch");
    let mut command = Command::new("java");
    command.args(["-Xmx768m", "-cp", &class_path(&source)?]);
    command.arg(source.join("SearchServer.java")).arg(folder.join("data")).arg(addr.port().to_string());
    let server = Server::spawn(&mut command, "opensearch", addr, folder)?;
    server.ready_within("/_cluster/health?wait_for_status=yellow", START_LIMIT)
}

/// Makes indexes with this prefix take any audit event. Bodies differ too much for a mapping of every field:
/// they are kept, not indexed.
pub(crate) fn prepare(addr: SocketAddr, prefix: &str) -> Result<()> {
    let kept = || json!({"type": "object", "enabled": false});
    let template = json!({
        "index_patterns": [format!("{prefix}*")],
        "template": {
            "settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"},
            "mappings": {
                "dynamic": false,
                "properties": {
                    "auditID": {"type": "keyword"},
                    "stage": {"type": "keyword"},
                    "verb": {"type": "keyword"},
                    "stageTimestamp": {"type": "date"},
                    "annotations": kept(),
                    "requestObject": kept(),
                    "responseObject": kept(),
                }
            }
        }
    });
    let path = format!("/_index_template/{prefix}");
    http::json(addr, "PUT", &path, Some(&template)).map(drop)
}

/// How many documents an index holds; none where there is no such index.
pub(crate) fn count(addr: SocketAddr, index: &str) -> Result<u64> {
    let (status, _) = http::request(addr, "POST", &format!("/{index}/_refresh"), None)?;
    if status == 404 {
        return Ok(0);
    }
    let answer = http::json(addr, "GET", &format!("/{index}/_count"), None)?;
    answer["count"].as_u64().context("the server's count is no number")
}

/// The names of all indexes with this prefix.
pub(crate) fn indexes(addr: SocketAddr, prefix: &str) -> Result<Vec<String>> {
    let answer = http::json(addr, "GET", &format!("/_cat/indices/{prefix}*?format=json&h=index"), None)?;
    let Value::Array(rows) = answer else { return Ok(Vec::new()) };
    let mut names: Vec<String> =
        rows.iter().filter_map(|row| row["index"].as_str().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}

/// Removes an index.
pub(crate) fn delete(addr: SocketAddr, index: &str) -> Result<()> {
    http::json(addr, "DELETE", &format!("/{index}"), None).map(drop)
}

/// The uid of every document in the indexes with this prefix, as its own member says.
pub(crate) fn uids(addr: SocketAddr, prefix: &str) -> Result<Vec<String>> {
    http::json(addr, "POST", &format!("/{prefix}*/_refresh"), None)?;
    let page = json!({"size": PAGE, "sort": ["_doc"], "_source": ["auditship.uid"]});
    let mut answer = http::json(addr, "POST", &format!("/{prefix}*/_search?scroll=5m"), Some(&page))?;
    let mut uids = Vec::new();
    loop {
        let hits = answer["hits"]["hits"].as_array().context("the server's answer has no hits")?;
        if hits.is_empty() {
            return Ok(uids);
        }
        for hit in hits {
            uids.push(hit["_source"]["auditship"]["uid"].as_str().unwrap_or_default().to_owned());
        }
        let next = json!({"scroll": "5m", "scroll_id": answer["_scroll_id"]});
        answer = http::json(addr, "POST", "/_search/scroll", Some(&next))?;
    }
}

/// The jars, by Maven, once for every state of the list.
fn class_path(source: &Path) -> Result<String> {
    let folder: PathBuf = repo::target()?.join("e2e");
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let (list, wanted) = (folder.join("opensearch.classpath"), source.join("pom.xml"));
    let age = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let current = age(&list).is_some_and(|made| Some(made) > age(&wanted));
    if !current {
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "dependency:build-classpath"]);
        maven.arg("--file").arg(&wanted).arg(format!("-Dmdep.outputFile={}", list.display()));
        repo::run(&mut maven)?;
    }
    let text = std::fs::read_to_string(&list).context("read the class path")?;
    ensure!(!text.trim().is_empty(), "maven wrote an empty class path");
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_java() {
        assert_eq!(java_version("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK"), Some(17));
        assert_eq!(java_version("openjdk version \"25-ea\" 2025-09-16"), Some(25));
        assert_eq!(java_version("java version \"1.8.0_400\""), Some(1));
        assert_eq!(java_version("command not found"), None);
    }
}
