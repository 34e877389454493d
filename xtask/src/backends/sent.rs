//! What was sent, event by event, and whether it is what has arrived.
//!
//! The measure is the agent's own standard output over the same lines with the same key: what other outputs frame
//! in their own ways stands there as it is.

use crate::config::{self, Everything};
use crate::corpus::{self, Corpus};
use crate::{ledger, repo};
use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Uids that a complaint names.
const NAMED: usize = 5;

/// One event as it was sent.
pub(crate) struct Event {
    /// The redacted event.
    pub(crate) body: Vec<u8>,
    /// How many lines were this event: lines that are equal byte for byte are one.
    pub(crate) lines: usize,
}

/// What was sent.
pub(crate) struct Sent {
    /// The log that was shipped.
    pub(crate) log: PathBuf,
    /// Its lines.
    pub(crate) lines: usize,
    /// The events by uid, in hexadecimal digits.
    pub(crate) events: BTreeMap<String, Event>,
    key: PathBuf,
}

impl Sent {
    /// Writes the logs of `testdata/` into `work`, with new audit IDs and times up to about now (there are backends
    /// that take nothing old), and ships them to standard output.
    pub(crate) fn prepare(binary: &Path, work: &Path) -> Result<Sent> {
        let mut corpus = Corpus::read(&corpus::default_paths())?;
        corpus.become_recent(jiff::Timestamp::now());
        let (log, key) = (work.join("audit.log"), work.join("key"));
        let mut file = File::create(&log).context("create the log")?;
        for number in 0..corpus.len() {
            file.write_all(corpus.line(number)).context("write the log")?;
        }
        std::fs::write(&key, [7; 32]).context("write the key")?;
        let mut sent = Sent { log, lines: corpus.len(), events: BTreeMap::new(), key };
        let config = sent.config(work, "reference", "type: stdout")?;
        let log = [sent.log.clone()];
        each_event(binary, &config, &log, |uid, body| {
            sent.events.entry(uid).or_insert(Event { body, lines: 0 }).lines += 1;
        })?;
        Ok(sent)
    }

    /// The configuration `name` for shipping the log to one output, whose options are `output`, one a line.
    pub(crate) fn config(&self, work: &Path, name: &str, output: &str) -> Result<PathBuf> {
        self.configure(work, name, &self.log, output, None)
    }

    /// The same for following another log, with an admin listener.
    pub(crate) fn configure(
        &self,
        work: &Path,
        name: &str,
        log: &Path,
        output: &str,
        admin: Option<SocketAddr>,
    ) -> Result<PathBuf> {
        let state = work.join(format!("{name}-state"));
        std::fs::create_dir_all(&state).context("make the state directory")?;
        let text = Everything { log, state: &state, key: Some(&self.key), output, admin }.yaml();
        let path = work.join(format!("{name}.yaml"));
        std::fs::write(&path, text).context("write the configuration")?;
        Ok(path)
    }

    /// Ships the log to one output; all of it must be delivered.
    pub(crate) fn ship(&self, binary: &Path, work: &Path, name: &str, output: &str) -> Result<()> {
        let config = self.config(work, name, output)?;
        let mut command = Command::new(binary);
        command.arg("ship").arg("--config").arg(&config).arg(&self.log).arg("--json");
        // Dead letters go to the current directory.
        command.current_dir(work).stdin(Stdio::null());
        let printed = repo::output(&mut command)?;
        let ledger = ledger::read(printed.as_bytes(), config::OUTPUT)?;
        ensure!(ledger.read == self.lines as u64, "{} of {} lines were read", ledger.read, self.lines);
        ensure!(ledger.delivered == ledger.read, "only {} lines were delivered", ledger.delivered);
        Ok(())
    }

    /// Every event has arrived, none that was not sent, and each is the `same` as what was sent. Gives a line
    /// about it.
    pub(crate) fn compare(
        &self,
        arrived: &[(String, Vec<u8>)],
        same: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Result<String> {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        let (mut foreign, mut different, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (uid, body) in arrived {
            *times.entry(uid).or_default() += 1;
            bytes += body.len();
            match self.events.get(uid) {
                None => foreign.push(uid.as_str()),
                Some(event) if !same(&event.body, body) => different.push(uid.as_str()),
                Some(_) => {}
            }
        }
        let missing: Vec<&str> =
            self.events.keys().map(String::as_str).filter(|uid| !times.contains_key(uid)).collect();
        for (what, uids) in [("missing", missing), ("not sent", foreign), ("different", different)] {
            if !uids.is_empty() {
                bail!("{} events are {what}: {}", uids.len(), uids[..uids.len().min(NAMED)].join(" "));
            }
        }
        let repeated: usize = times
            .iter()
            .map(|(uid, times)| times.saturating_sub(self.events.get(*uid).map_or(0, |event| event.lines)))
            .sum();
        Ok(format!(
            "ok: {} events ({} lines, {bytes} bytes) are all there and the same, {repeated} repeated",
            times.len(),
            self.lines
        ))
    }
}

/// Ships logs to standard output, which is what `config` must say, and gives uid and event of each record.
pub(crate) fn each_event(
    binary: &Path,
    config: &Path,
    logs: &[PathBuf],
    mut take: impl FnMut(String, Vec<u8>),
) -> Result<()> {
    let mut command = Command::new(binary);
    command.arg("ship").arg("--config").arg(config).args(logs);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("start the agent")?;
    let mut lines = BufReader::new(child.stdout.take().context("the agent has no output")?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).context("read from the agent")? > 0 {
        let (uid, body) =
            unframe(line.trim_ascii_end()).context("the agent's standard output is not as expected")?;
        take(uid, body);
        line.clear();
    }
    let status = child.wait().context("wait for the agent")?;
    ensure!(status.success(), "{}: {status}", repo::name(&command));
    Ok(())
}

/// The uid and the event of a line as `stdout` frames it: `{"auditship":{"uid":"…",…}, …}`. None of the names in
/// the member holds a brace.
pub(crate) fn unframe(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let rest = line.strip_prefix(b"{\"auditship\":{\"uid\":\"")?;
    let uid = String::from_utf8(rest.get(..32)?.to_vec()).ok()?;
    let end = memmem::find(rest, b"}")?;
    let mut body = b"{".to_vec();
    body.extend_from_slice(rest[end + 1..].strip_prefix(b", ").unwrap_or(&rest[end + 1..]));
    Some((uid, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_standard_output() {
        let uid = "0123456789abcdef0123456789abcdef";
        let line = |rest: &str| format!("{{\"auditship\":{{\"uid\":\"{uid}\",\"key\":\"k\"}}{rest}");
        for (rest, body) in [(", \"a\":{\"b\":1}}", "{\"a\":{\"b\":1}}"), ("}", "{}")] {
            assert_eq!(unframe(line(rest).as_bytes()), Some((uid.to_owned(), body.as_bytes().to_vec())));
        }
        assert_eq!(unframe(b"{}"), None);
    }

    #[test]
    fn what_differs_is_told() {
        let event = |body: &str, lines| Event { body: body.as_bytes().to_vec(), lines };
        let events = BTreeMap::from([("u1".to_owned(), event("a", 1)), ("u2".to_owned(), event("b", 2))]);
        let sent = Sent { log: PathBuf::new(), lines: 3, events, key: PathBuf::new() };
        let told = |arrived: &[(&str, &str)]| {
            let arrived: Vec<_> =
                arrived.iter().map(|(uid, body)| ((*uid).to_owned(), body.as_bytes().to_vec())).collect();
            sent.compare(&arrived, |left, right| left == right).unwrap_or_else(|error| error.to_string())
        };
        assert!(told(&[("u1", "a"), ("u2", "b"), ("u2", "b")]).ends_with(", 0 repeated"));
        assert!(told(&[("u1", "a"), ("u1", "a"), ("u2", "b")]).ends_with(", 1 repeated"));
        assert_eq!(told(&[("u1", "a")]), "1 events are missing: u2");
        assert_eq!(told(&[("u1", "a"), ("u2", "x")]), "1 events are different: u2");
        assert_eq!(told(&[("u1", "a"), ("u2", "b"), ("u3", "b")]), "1 events are not sent: u3");
    }
}
