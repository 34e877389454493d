//! A real OpenSearch for the tests: Maven fetches the jars, Java runs them, it listens on the loopback interface.

use crate::{http, repo};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Jars may have to be unpacked, on a slow disk.
const START_LIMIT: Duration = Duration::from_secs(120);

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

/// A running server, stopped when dropped.
pub(crate) struct OpenSearch {
    child: Child,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

impl OpenSearch {
    /// Starts one that keeps everything in `folder`, and waits until it is ready.
    pub(crate) fn start(folder: &Path) -> Result<OpenSearch> {
        let source = repo::root().join("xtask/opensearch");
        let classpath = class_path(&source)?;
        let addr = http::free_addr()?;
        let log_path = folder.join("opensearch.log");
        let log = File::create(&log_path).context("create the server's log")?;
        let errors = log.try_clone().context("create the server's log")?;
        let child = Command::new("java")
            .args(["-Xmx768m", "-cp", &classpath])
            .arg(source.join("SearchServer.java"))
            .arg(folder.join("data"))
            .arg(addr.port().to_string())
            // The server ends when this pipe closes: also when this process is killed.
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .context("start java")?;
        let server = OpenSearch { child, addr };
        http::wait_ready(addr, "/_cluster/health?wait_for_status=yellow", START_LIMIT)
            .with_context(|| format!("start OpenSearch, see {}", log_path.display()))?;
        Ok(server)
    }

    /// Makes indexes with this prefix take any audit event. Bodies differ too much for a mapping of every field:
    /// they are kept, not indexed.
    pub(crate) fn prepare(&self, prefix: &str) -> Result<()> {
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
        http::json(self.addr, "PUT", &path, Some(&template)).map(drop)
    }

    /// How many documents an index holds; none where there is no such index.
    pub(crate) fn count(&self, index: &str) -> Result<u64> {
        let (status, _) = http::request(self.addr, "POST", &format!("/{index}/_refresh"), None)?;
        if status == 404 {
            return Ok(0);
        }
        let answer = http::json(self.addr, "GET", &format!("/{index}/_count"), None)?;
        answer["count"].as_u64().context("the server's count is no number")
    }

    /// The names of all indexes with this prefix.
    pub(crate) fn indexes(&self, prefix: &str) -> Result<Vec<String>> {
        let answer =
            http::json(self.addr, "GET", &format!("/_cat/indices/{prefix}*?format=json&h=index"), None)?;
        let Value::Array(rows) = answer else { return Ok(Vec::new()) };
        let mut names: Vec<String> =
            rows.iter().filter_map(|row| row["index"].as_str().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    /// Removes an index.
    pub(crate) fn delete(&self, index: &str) -> Result<()> {
        http::json(self.addr, "DELETE", &format!("/{index}"), None).map(drop)
    }
}

impl Drop for OpenSearch {
    fn drop(&mut self) {
        // Closing its input asks it to stop and save; what it kept is thrown away, so there is nothing to wait for.
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
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
