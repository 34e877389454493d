//! A server of somebody else's as a process of ours: started, polled until it is ready, killed when dropped.

use crate::{http, repo};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to be ready.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts `command`, which must make it listen at `addr`, with its output in `work/name.log`.
    pub(crate) fn spawn(command: &mut Command, name: &str, addr: SocketAddr, work: &Path) -> Result<Server> {
        let log = work.join(format!("{name}.log"));
        // Appended: a server that is started again goes on in its log.
        let out = File::options().create(true).append(true).open(&log).context("make the server's log")?;
        let errors = out.try_clone().context("make the server's log")?;
        // A server that reads its input can end when this process does, however that ends.
        command.stdin(Stdio::piped()).stdout(out).stderr(errors);
        let child = command.spawn().with_context(|| format!("start {}", repo::name(command)))?;
        Ok(Server { child, addr, log })
    }

    /// Waits until `GET path` is answered with 200.
    pub(crate) fn ready(self, path: &str) -> Result<Server> {
        self.ready_within(path, START_LIMIT)
    }

    /// The same for a server that may take longer than others.
    pub(crate) fn ready_within(mut self, path: &str, limit: Duration) -> Result<Server> {
        let start = Instant::now();
        loop {
            self.check_alive()?;
            match http::request(self.addr, "GET", path, None) {
                Ok((200, _)) => return Ok(self),
                _ if start.elapsed() > limit => {
                    bail!("the server is not ready after {limit:?}:\n{}", self.tail())
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// The exit status of a server that has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("look after the server")
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn stop(mut self, limit: Duration) -> Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("end the server")?;
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            ensure!(start.elapsed() < limit, "the server does not end within {limit:?}:\n{}", self.tail());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A server that has ended by itself has failed.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.ended()? {
            Some(status) => bail!("the server has ended by itself, {status}:\n{}", self.tail()),
            None => Ok(()),
        }
    }

    /// SIGKILL, and waits for its end. A server that is dead already has failed.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.check_alive()?;
        self.child.kill().context("kill the server")?;
        self.child.wait().context("wait for the server").map(drop)
    }

    /// The last lines that it wrote.
    pub(crate) fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(2_000)..]).into_owned();
        text.trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
