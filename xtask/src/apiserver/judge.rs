//! The verdict: what the API server has written, beside what both backends have.
//!
//! It is asked twice. Once with the agent's own words: `auditship ship` over what was kept, to standard output, says
//! which records there must be, byte for byte. And once without them: each event is known by its audit ID, stage and
//! time as the API server has written them.
//!
//! An event may be missing only if its file was deleted while no agent was there; then the agent must have told of it.

use super::keeper::Kept;
use super::traffic::Answered;
use crate::agent::Account;
use crate::backends::sent::unframe;
use crate::repo;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// After its start an agent needs so long to find and hold what there is.
const FINDS: Duration = Duration::from_secs(2);

/// An API server that is killed so soon after an answer need not have logged it: a large answer is sent before its event
/// is written.
const UNLOGGED: Duration = Duration::from_secs(1);

/// So many are named in a complaint.
const NAMED: usize = 5;

/// Uid and event of each record that a backend has.
pub(crate) type Records = Vec<(String, Vec<u8>)>;

/// An event by what the API server has written: audit ID, stage, time of the stage.
type Name = (String, String, String);

/// What both backends are held against.
pub(crate) struct Truth {
    /// The records that there must be, and how many lines are each.
    records: BTreeMap<String, (Vec<u8>, usize)>,
    /// In which file each event stands.
    files: BTreeMap<Name, usize>,
    /// How often each event stands there.
    names: BTreeMap<Name, usize>,
    /// When each file was deleted, if it was.
    gone: Vec<Option<Instant>>,
    /// Lines, torn ones included.
    pub(crate) lines: u64,
    /// Lines that an unclean end of the API server has torn.
    pub(crate) torn: u64,
    pub(crate) bytes: u64,
}

/// How lives of the API server ended.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// When it was killed.
    pub(crate) deaths: Vec<Instant>,
    /// From when to when it was leaving in good order.
    pub(crate) leaves: Vec<Range<Instant>>,
}

impl Ends {
    /// Whether a request need not have been logged: it was answered shortly before a kill, or turned away by an API server
    /// that was leaving, which does so before it thinks of its audit log (its filter `WithWaitGroup`).
    fn excuse(&self, answered: &Answered) -> bool {
        let died = |death: &Instant| *death >= answered.at && death.duration_since(answered.at) < UNLOGGED;
        self.deaths.iter().any(died)
            || (matches!(answered.status, 429 | 503)
                && self.leaves.iter().any(|leave| leave.contains(&answered.at)))
    }
}

/// What is asked of one backend.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) records: u64,
    pub(crate) missing: u64,
    /// Of the missing ones, those whose file was deleted while no agent was there.
    pub(crate) excused: u64,
    pub(crate) repeated: u64,
    pub(crate) problems: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    stage_timestamp: String,
}

impl Truth {
    /// Reads what was kept: the agent `binary` with `config`, which names standard output alone, says what must leave.
    pub(crate) fn new(kept: &[Kept], binary: &Path, config: &Path, work: &Path) -> Result<Truth> {
        let mut truth = Truth {
            records: BTreeMap::new(),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            gone: kept.iter().map(|kept| kept.gone).collect(),
            lines: 0,
            torn: 0,
            bytes: 0,
        };
        let folder = work.join("kept");
        std::fs::create_dir_all(&folder).context("make a folder")?;
        let mut ship = Command::new(binary);
        ship.arg("ship").arg("--config").arg(config).current_dir(work).stdin(Stdio::null());
        for (number, kept) in kept.iter().enumerate().filter(|(_, kept)| !kept.content.is_empty()) {
            let path = folder.join(format!("{number:05}.log"));
            std::fs::write(&path, &kept.content).context("write what was kept")?;
            ship.arg(path);
            truth.read(number, &kept.content);
        }
        let output = ship.stderr(Stdio::null()).output().context("start the agent")?;
        // Exit code 2 tells of what could not be read as an event: torn lines are.
        let code = output.status.code();
        ensure!(
            code == Some(0) || (truth.torn > 0 && code == Some(2)),
            "{}: {}",
            repo::name(&ship),
            output.status
        );
        for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let (uid, body) = unframe(line).context("the agent's standard output is not as expected")?;
            truth.records.entry(uid).or_insert((body, 0)).1 += 1;
        }
        let records: usize = truth.records.values().map(|(_, lines)| lines).sum();
        ensure!(
            truth.torn > 0 || records as u64 == truth.lines,
            "{} lines were written, but the agent makes {records} records of them",
            truth.lines
        );
        Ok(truth)
    }

    fn read(&mut self, number: usize, content: &[u8]) {
        self.bytes += content.len() as u64;
        for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.lines += 1;
            let Some(name) = named(line) else {
                self.torn += 1;
                continue;
            };
            *self.names.entry(name.clone()).or_default() += 1;
            self.files.insert(name, number);
        }
    }

    /// Answered requests that are in no file, by status, and how many that the policy should have left out are in one.
    pub(crate) fn unlogged(
        &self,
        answered: &[Answered],
        ends: &Ends,
        policy_is_silent: bool,
    ) -> (BTreeMap<u16, u64>, u64) {
        let known: BTreeSet<&str> = self.names.keys().map(|(audit_id, _, _)| audit_id.as_str()).collect();
        let (mut missing, mut unwanted) = (BTreeMap::new(), 0);
        for answered in answered {
            let is_there = known.contains(answered.audit_id.as_str());
            match answered.is_silent && policy_is_silent {
                true => unwanted += u64::from(is_there),
                false if !is_there && !ends.excuse(answered) => {
                    *missing.entry(answered.status).or_default() += 1
                }
                false => {}
            }
        }
        (missing, unwanted)
    }

    /// Compares what a backend has. `absent` is when no agent was there; `account` what the agent says of this output.
    pub(crate) fn compare(
        &self,
        arrived: &Records,
        absent: &[Range<Instant>],
        account: Account,
        gaps: usize,
    ) -> Found {
        let mut found = Found { records: arrived.len() as u64, ..Found::default() };
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        let mut names: BTreeMap<Name, usize> = BTreeMap::new();
        let (mut foreign, mut different) = (Vec::new(), Vec::new());
        for (uid, body) in arrived {
            *times.entry(uid).or_default() += 1;
            if let Some(name) = named(body) {
                *names.entry(name).or_default() += 1;
            }
            match self.records.get(uid) {
                None => foreign.push(uid.clone()),
                Some((wanted, _)) if wanted != body => different.push(uid.clone()),
                Some(_) => {}
            }
        }
        let mut unexcused = Vec::new();
        let mut missing_bytes = 0;
        for (uid, (body, _)) in self.records.iter().filter(|(uid, _)| !times.contains_key(uid.as_str())) {
            found.missing += 1;
            missing_bytes += body.len();
            let gone = named(body).and_then(|name| self.gone[*self.files.get(&name)?]);
            let excused = gone.is_some_and(|gone| {
                absent.iter().any(|absent| gone >= absent.start && gone < absent.end + FINDS)
            });
            match excused {
                true => found.excused += 1,
                false => unexcused.push(uid.clone()),
            }
        }
        let repeated: Vec<String> =
            times.iter().filter(|(_, times)| **times > 1).map(|(uid, _)| (*uid).to_owned()).collect();
        found.repeated = repeated.len() as u64;
        for (what, uids) in [
            ("missing although an agent was there", unexcused),
            ("not in the log", foreign),
            ("different", different),
            ("there more than once", repeated),
        ] {
            if !uids.is_empty() {
                let named = &uids[..uids.len().min(NAMED)];
                found.problems.push(format!("{} events are {what}: {}", uids.len(), named.join(" ")));
            }
        }
        found.problems.extend(self.own_count(&names, found.missing));
        if missing_bytes > 0 && account.lost_bytes == 0 && gaps == 0 {
            found.problems.push("the loss was not told at all".to_owned());
        }
        if account.open > 0 {
            found.problems.push(format!("{} lines are open", account.open));
        }
        if account.refused > self.torn {
            found.problems.push(format!("{} lines were not taken for events", account.refused));
        }
        found
    }

    /// The same without the agent's words.
    fn own_count(&self, names: &BTreeMap<Name, usize>, missing: u64) -> Option<String> {
        let wrong = |(name, times): &(&Name, &usize)| names.get(*name).copied().unwrap_or(0) != **times;
        let (mut absent, mut other) = (0, Vec::new());
        for (name, times) in self.names.iter().filter(wrong) {
            match names.contains_key(name) {
                // Equal lines are one record.
                true if *times > 1 => {}
                true => other.push(format!("{name:?}")),
                false => absent += 1,
            }
        }
        other.extend(
            names.keys().filter(|name| !self.names.contains_key(*name)).map(|name| format!("{name:?}")),
        );
        // A stub of a torn line has its name too, if it could be read.
        let stubs = self.torn as usize;
        (absent > missing || other.len() > stubs).then(|| {
            format!(
                "by audit ID, stage and time {absent} events are missing, {} differ: {:.3?}",
                other.len(),
                other
            )
        })
    }
}

/// By what an event is known, whoever has written it.
fn named(event: &[u8]) -> Option<Name> {
    // Bytes that are no text may stand in a value; the names are not touched by what takes their place.
    let text = String::from_utf8_lossy(event);
    let event: Event = serde_json::from_str(&text).ok()?;
    Some((event.audit_id, event.stage, event.stage_timestamp))
}

/// What a document of Elasticsearch holds: as standard output frames it, behind its time.
pub(crate) fn of_search(document: &[u8]) -> Option<(String, Vec<u8>)> {
    let rest = document.strip_prefix(b"{\"@timestamp\":\"")?;
    let end = memchr::memmem::find(rest, b"\",")?;
    unframe(&[b"{", &rest[end + 2..]].concat())
}

/// All records below a `dir` archive, and how many files there are.
pub(crate) fn of_archive(folder: &Path) -> Result<(Records, u64)> {
    let (mut records, mut files) = (Records::new(), 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry.context("list the archive")?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            ensure!(path.to_string_lossy().ends_with(".ndjson.zst"), "what is {}?", path.display());
            let packed = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let text = zstd::stream::decode_all(&packed[..])
                .with_context(|| format!("unpack {}", path.display()))?;
            for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                records
                    .push(unframe(line).with_context(|| format!("{} holds another line", path.display()))?);
            }
            files += 1;
        }
    }
    Ok((records, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u32) -> String {
        format!(
            r#"{{"auditID":"a{id}","stage":"ResponseComplete","stageTimestamp":"2026-01-02T03:04:05.000006Z"}}"#
        )
    }

    fn truth(gone: Option<Instant>) -> Truth {
        let mut truth = Truth {
            records: (0..3).map(|id| (format!("u{id}"), (event(id).into_bytes(), 1))).collect(),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            gone: vec![gone],
            lines: 0,
            torn: 0,
            bytes: 0,
        };
        truth.read(0, (0..3).map(event).collect::<Vec<_>>().join("\n").as_bytes());
        truth
    }

    fn records(ids: &[u32]) -> Records {
        ids.iter().map(|id| (format!("u{id}"), event(*id).into_bytes())).collect()
    }

    #[test]
    fn what_is_missing_needs_an_excuse_and_must_be_told() {
        let now = Instant::now();
        let absent = &[now..now][..];
        let told = Account { lost_bytes: 1, ..Account::default() };
        assert!(truth(None).compare(&records(&[0, 1, 2]), &[], Account::default(), 0).problems.is_empty());
        let found = truth(Some(now)).compare(&records(&[0, 2]), absent, told, 0);
        assert_eq!((found.missing, found.excused, found.problems), (1, 1, vec![]));
        let silent = truth(Some(now)).compare(&records(&[0, 2]), absent, Account::default(), 0);
        assert_eq!(silent.problems, ["the loss was not told at all"]);
        let there = truth(None).compare(&records(&[0, 2]), absent, told, 0);
        assert_eq!(there.problems, ["1 events are missing although an agent was there: u1"]);
    }

    #[test]
    fn what_is_there_must_be_there_once_and_the_same() {
        let problems = |arrived: &Records| truth(None).compare(arrived, &[], Account::default(), 0).problems;
        assert_eq!(problems(&records(&[0, 1, 1, 2]))[0], "1 events are there more than once: u1");
        let mut other = records(&[0, 1, 2]);
        other[1].1 = event(7).into_bytes();
        let problems = problems(&other);
        assert_eq!(problems[0], "1 events are different: u1");
        assert!(
            problems[1].starts_with("by audit ID, stage and time 1 events are missing, 1 differ"),
            "{problems:?}"
        );
    }

    #[test]
    fn answers_are_in_the_log() {
        let now = Instant::now();
        let answered =
            |id: &str, status, is_silent| Answered { at: now, status, audit_id: id.to_owned(), is_silent };
        let all = [
            answered("a1", 200, false),
            answered("a9", 200, false),
            answered("a7", 503, false),
            answered("a2", 200, true),
            answered("a8", 200, true),
        ];
        let nobody = Ends::default();
        let told = |ends: &Ends, silent| truth(None).unlogged(&all, ends, silent);
        assert_eq!(told(&nobody, true), (BTreeMap::from([(200, 1), (503, 1)]), 1));
        assert_eq!(told(&nobody, false), (BTreeMap::from([(200, 2), (503, 1)]), 0));
        let killed = Ends { deaths: vec![now], ..Ends::default() };
        assert_eq!(told(&killed, true), (BTreeMap::new(), 1));
        let left = Ends { leaves: vec![now..now + UNLOGGED], ..Ends::default() };
        assert_eq!(told(&left, true), (BTreeMap::from([(200, 1)]), 1));
    }

    #[test]
    fn documents_of_both_backends() {
        let uid = "0123456789abcdef0123456789abcdef";
        let framed = format!(r#""auditship":{{"uid":"{uid}","key":"k"}}, "a":1}}"#);
        let document = format!(r#"{{"@timestamp":"2026-01-02T03:04:05.000006Z",{framed}"#);
        assert_eq!(of_search(document.as_bytes()), Some((uid.to_owned(), b"{\"a\":1}".to_vec())));
    }
}
