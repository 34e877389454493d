//! An agent that follows a log: a process of its own, which may be killed.

use crate::config::OUTPUT;
use crate::http;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the agent has to drain after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A running agent, killed when dropped.
pub(crate) struct Agent {
    child: Child,
}

impl Agent {
    /// Starts `auditship run`; its log goes to `log`.
    pub(crate) fn start(binary: &Path, config: &Path, log: impl Into<Stdio>) -> Result<Agent> {
        let mut command = Command::new(binary);
        command.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stderr(log);
        Ok(Agent { child: command.spawn().context("start the agent")? })
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// An agent that has ended by itself has failed.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait().context("look after the agent")? {
            Some(status) => bail!("the agent has ended by itself: {status}"),
            None => Ok(()),
        }
    }

    /// SIGKILL. An agent that is dead already has failed.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.check_alive()?;
        self.child.kill().context("kill the agent")
    }

    /// SIGTERM: it drains, saves and leaves with 0.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("end the agent")?;
        let start = Instant::now();
        while start.elapsed() < STOP_LIMIT {
            if let Some(status) = self.child.try_wait().context("wait for the agent")? {
                ensure!(status.success(), "the agent ended with {status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the agent does not end within {STOP_LIMIT:?} of SIGTERM")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an agent says of its one output at `/status`, as far as it is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// Lines read.
    pub(crate) read: u64,
    /// Lines that the output has.
    pub(crate) delivered: u64,
    /// Lines read and not settled.
    pub(crate) open: u64,
    /// Lines that were not delivered for what is in them.
    pub(crate) refused: u64,
    /// Bytes that could not be read, for whatever reason.
    pub(crate) lost_bytes: u64,
}

impl Account {
    /// Asks the agent; `None` while it has not begun to follow.
    pub(crate) fn ask(admin: SocketAddr) -> Option<Account> {
        Account::of(&http::json(admin, "GET", "/status", None).ok()?, OUTPUT)
    }

    /// That of one output, in what `/status` has answered.
    pub(crate) fn of(status: &Value, output: &str) -> Option<Account> {
        let account = &status["consumers"][output];
        Some(Account {
            read: account["read"]["lines"].as_u64()?,
            delivered: account["delivered"].as_u64()?,
            open: account["open"].as_u64()?,
            refused: sum(&account["dead_lettered"])
                + sum(&account["skipped"])
                + sum(&account["failed_closed"]),
            lost_bytes: sum(&account["lost_bytes"]),
        })
    }
}

/// A figure, or all figures in it; what is not there counts nothing.
fn sum(value: &Value) -> u64 {
    match value {
        Value::Object(members) => members.values().map(sum).sum(),
        other => other.as_u64().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn accounts() {
        let account = json!({"read": {"lines": 9, "bytes": 90}, "delivered": 5, "open": 1, "dead_lettered": 1, "skipped": {"text": 2},
            "lost_bytes": {"deleted": 30, "released": 12}});
        let want = Account { read: 9, delivered: 5, open: 1, refused: 3, lost_bytes: 42 };
        assert_eq!(Account::of(&json!({"consumers": {"search": account}}), "search"), Some(want));
        assert_eq!(Account::of(&json!({"consumers": {}}), "search"), None);
    }
}
