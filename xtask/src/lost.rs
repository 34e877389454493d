//! Which lines the agents of a trial have told as lost: the spans of their logs, in streams that are recognised by what
//! they begin with.
//!
//! A stream's name is of no use for that: what is lost is told under the last name that its file had, which another
//! file may have by now.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

/// So much of a stream's beginning is hashed in the agent's state at most.
const HEAD_BYTES: u64 = 4096;

/// How an agent says in its log that it has lost bytes.
const LOST: &str = "bytes can no longer be read";

/// The files that there were, and the streams that the agents made of them.
#[derive(Default)]
pub(crate) struct Streams {
    /// What files begin with, by the number of their first line.
    heads: BTreeMap<u64, Vec<u8>>,
    /// The number of each stream's first line.
    firsts: HashMap<u64, u64>,
}

/// What was told as lost.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The lines, also those that were lost in part.
    pub(crate) lines: BTreeSet<u64>,
    /// The bytes, each counted once.
    pub(crate) bytes: u64,
    /// Spans in streams that nobody knows.
    pub(crate) unplaced: u64,
}

impl Streams {
    /// Looks at the files that are there now; `number` reads a line's number in its beginning.
    pub(crate) fn look(&mut self, folder: &Path, number: impl Fn(&[u8]) -> Option<u64>) -> Result<()> {
        for entry in std::fs::read_dir(folder).context("list the log's folder")? {
            let path = entry.context("list the log's folder")?.path();
            // Those that are compressed were seen before; what goes away meanwhile is not there.
            let Ok(file) = File::open(&path) else { continue };
            if path.extension().is_none_or(|last| last != "log") {
                continue;
            }
            let mut head = Vec::new();
            if file.take(HEAD_BYTES).read_to_end(&mut head).is_err() {
                continue;
            }
            let first = head.split(|byte| *byte == b'\n').next().and_then(&number);
            if let Some(first) = first
                && self.heads.get(&first).is_none_or(|known| known.len() < head.len())
            {
                self.heads.insert(first, head);
            }
        }
        Ok(())
    }

    /// Learns which streams there are from an agent's state.
    pub(crate) fn learn(&mut self, agent: &Path, state: &Path) -> Result<()> {
        if !state.join("state.log").exists() {
            return Ok(());
        }
        let mut export = Command::new(agent);
        export.args(["state", "--state-dir"]).arg(state).arg("export").stdin(Stdio::null());
        let output = export.output().context("start the agent")?;
        ensure!(output.status.success(), "auditship state: {}", output.status);
        self.learn_from(&serde_json::from_slice(&output.stdout).context("read the agent's state")?);
        Ok(())
    }

    fn learn_from(&mut self, state: &Value) {
        for entry in state["entries"].as_array().into_iter().flatten() {
            let stream = &entry["stream"];
            let head = &stream["head"];
            let (Some(id), Some(length)) = (stream["id"].as_u64(), head["length"].as_u64()) else { continue };
            let is_its = |bytes: &[u8]| {
                let begins = bytes.get(..length as usize);
                begins
                    .is_some_and(|begins| Some(&blake3::hash(begins).to_hex()[..32]) == head["hash"].as_str())
            };
            let mut alike = self.heads.iter().filter(|(_, bytes)| is_its(bytes)).map(|(first, _)| *first);
            // A short head may be that of several.
            if let (Some(first), None) = (alike.next(), alike.next()) {
                self.firsts.insert(id, first);
            }
        }
    }

    /// The lines of what `log`, the agents' log, tells as lost; `lengths` are those of all lines.
    pub(crate) fn told(&self, log: &str, lengths: &[u32]) -> Told {
        let mut told = Told::default();
        let mut spans: BTreeSet<(u64, u64, u64)> = BTreeSet::new();
        for line in log.lines().filter(|line| line.contains(LOST)) {
            match line.split_whitespace().find_map(|word| span(word.strip_prefix("span=")?)) {
                Some(span) => drop(spans.insert(span)),
                None => told.unplaced += 1,
            }
        }
        let mut covered: HashMap<u64, u64> = HashMap::new();
        for (stream, start, end) in spans {
            // Sorted: what was told twice is counted once.
            let before = covered.entry(stream).or_default();
            told.bytes += end.saturating_sub(start.max(*before));
            *before = end.max(*before);
            let Some(first) = self.firsts.get(&stream) else {
                told.unplaced += 1;
                continue;
            };
            let mut at = 0;
            for (number, length) in (*first..).zip(&lengths[lengths.len().min(*first as usize)..]) {
                let line = at..at + u64::from(*length);
                if line.start >= end {
                    break;
                }
                if line.end > start {
                    told.lines.insert(number);
                }
                at = line.end;
            }
        }
        told
    }
}

/// `s7:0-100`
fn span(text: &str) -> Option<(u64, u64, u64)> {
    let (stream, range) = text.strip_prefix('s')?.split_once(':')?;
    let (start, end) = range.split_once('-')?;
    Some((stream.parse().ok()?, start.parse().ok()?, end.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spans_become_lines() {
        let folder = tempfile::tempdir().unwrap();
        let number = |text: &[u8]| std::str::from_utf8(text.get(..1)?).ok()?.parse().ok();
        let mut streams = Streams::default();
        for text in ["0aa\n", "0aa\n1aa\n2aa\n"] {
            std::fs::write(folder.path().join("audit.log"), text).unwrap();
            streams.look(folder.path(), number).unwrap();
        }
        std::fs::rename(folder.path().join("audit.log"), folder.path().join("audit-x.log")).unwrap();
        std::fs::write(folder.path().join("audit.log"), "3aa\n4aa\n").unwrap();
        std::fs::write(folder.path().join("audit-y.log.gz"), "9aa\n").unwrap();
        streams.look(folder.path(), number).unwrap();
        let hash = |text: &str| blake3::hash(text.as_bytes()).to_hex()[..32].to_owned();
        let stream = |id: u64, head: &str| json!({"stream": {"id": id, "head": {"length": head.len(), "hash": hash(head)}}});
        streams.learn_from(&json!({"entries": [
            stream(5, "0aa\n1aa\n"), stream(6, "3aa"), stream(7, "8aa\n"), {"position": {"consumer": "x"}},
        ]}));
        let told = |log: &str| streams.told(log, &[4; 5]);
        let lost = |span: &str| format!("ERROR {LOST} output=\"x\" span={span} bytes=1\n");
        assert_eq!(told("INFO started"), Told::default());
        assert_eq!(told(&lost("s5:4-8")), Told { lines: [1].into(), bytes: 4, unplaced: 0 });
        // In part, and told by two agents.
        let twice = lost("s5:6-12") + &lost("s5:4-8") + &lost("s5:6-12") + &lost("s6:0-4");
        assert_eq!(told(&twice), Told { lines: [1, 2, 3].into(), bytes: 12, unplaced: 0 });
        assert_eq!(told(&lost("s7:0-4")), Told { lines: [].into(), bytes: 4, unplaced: 1 });
    }
}
