//! The files of all inputs as they were last seen, and how little of them must be looked at again.
//!
//! A full look goes through every name and every file. Between two of them a glance asks only for what can have
//! changed without a sign elsewhere: each directory's own times, which change with its names, and the files that may
//! still be written to. What the file system or a file watch says wrongly is put right by a thorough look, which takes
//! nothing for granted.
//!
//! Invariant: a file is resting only if its backup's content is known, read by everyone, and was left alone for long;
//! whatever else changes, it is seen at the next look.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auditship_event::StreamId;

use crate::catalogue::Input;
use crate::files::{self, Encoding, HEAD, Held, Stat};
use crate::head::Head;
use crate::names::{self, Stamp};
use crate::roster::{Complete, Group, Roster, Seen};
use crate::watch::{Listing, candidates};

/// How often the directories are read again when their names change under a look.
const LOOKS: usize = 3;

/// A clock that is set forward does not make a file old: between two looks it gets older by this at most.
const LONGEST_STEP: Duration = Duration::from_secs(10);

/// How often everything is looked at, however quiet it seems: a resting file may be written to by a foreign hand, and
/// there are file systems whose directories' times say little.
const THOROUGH: Duration = Duration::from_secs(30);

/// A backup that was left alone for this long is not written to any more by whoever rotates it.
const RESTS_AFTER: Duration = Duration::from_secs(60);

/// A file as it was at the last look.
pub(crate) struct Look {
    pub(crate) held: Arc<Held>,
    head: Head,
    /// For how long it has looked like this.
    pub(crate) quiet: Duration,
    /// Set when it was opened in this look.
    fresh: bool,
    /// It is no live file by its name.
    backup: bool,
    /// Set while it is not looked at each time.
    rests: bool,
    /// What it was found to be.
    pub(crate) stream: Option<StreamId>,
}

/// The files of each input, with their live files' paths.
type Candidates = Vec<Vec<(PathBuf, PathBuf)>>;

/// The descriptors that stand for streams.
pub(crate) type Holdings = BTreeMap<StreamId, Arc<Held>>;

/// What a full look has found; `seen` and `helds` have the same order.
pub(crate) struct Sight {
    pub(crate) seen: Vec<Seen>,
    pub(crate) helds: Vec<Arc<Held>>,
    pub(crate) complete: Complete,
}

/// A backup that was not looked at.
struct Missed {
    group: Group,
    stamp: Stamp,
}

impl Missed {
    /// Whether it is surely newer than another backup, or of another log.
    fn is_after(&self, file: &Seen, stamp: &Stamp) -> bool {
        self.group != file.group || names::older(stamp, &self.stamp) == Some(Ordering::Less)
    }
}

/// A live file that has grown, and changed in no other way.
pub(crate) struct Grown {
    path: PathBuf,
    pub(crate) stream: StreamId,
    /// As it looks now.
    pub(crate) held: Arc<Held>,
}

/// The files as they were last seen.
#[derive(Default)]
pub(crate) struct Looks {
    files: HashMap<PathBuf, Look>,
    problems: BTreeMap<PathBuf, String>,
    /// The names, one for each input, and what they mean.
    listed: Vec<Listing>,
    candidates: Arc<Candidates>,
    /// The files that do not rest; `None`: a name without a file, such as a link that leads nowhere.
    awake: Vec<(PathBuf, Option<Stat>)>,
    /// The names without a file.
    absent: Vec<PathBuf>,
    /// Files that a file watch spoke of.
    doubted: BTreeSet<PathBuf>,
    /// When it was last looked, in whatever way.
    looked: Option<SystemTime>,
    /// When everything was last looked at.
    thorough: Option<SystemTime>,
    /// The time since the last full look.
    passed: Duration,
    pub(crate) effort: Effort,
}

/// What looking has cost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Times that the names of an input were read.
    pub(crate) listings: u64,
    /// Times that a file was asked for what it looks like.
    pub(crate) looks: u64,
}

impl Looks {
    pub(crate) fn get(&self, path: &Path) -> Option<&Look> {
        self.files.get(path)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Look> {
        self.files.values()
    }

    /// What the file at `path` was found to be.
    pub(crate) fn found(&mut self, path: &Path, stream: StreamId) {
        if let Some(look) = self.files.get_mut(path) {
            look.stream = Some(stream);
        }
    }

    /// A stream's file is not that stream: the next full look is to ask again what it is.
    pub(crate) fn disown(&mut self, stream: StreamId) {
        for look in self.files.values_mut().filter(|look| look.stream == Some(stream)) {
            look.stream = None;
        }
    }

    /// A file watch says that this file was written to.
    pub(crate) fn doubt(&mut self, path: PathBuf) {
        if self.files.get(&path).is_some_and(|look| look.rests) {
            self.doubted.insert(path);
        }
    }

    /// The paths that could not be read at the last full look, and why.
    pub(crate) fn problems(&self) -> &BTreeMap<PathBuf, String> {
        &self.problems
    }

    /// The directories that were read.
    pub(crate) fn directories(&self) -> BTreeSet<PathBuf> {
        self.listed.iter().flat_map(Listing::directories).map(Path::to_owned).collect()
    }

    /// Looks at what may have changed. `None`: something has, and only a full look can tell what.
    pub(crate) fn glance(&mut self, now: SystemTime) -> Option<Vec<Grown>> {
        if self.is_thorough_due(now) || !self.listed.iter().all(Listing::stands) {
            return None;
        }
        let mut grown = Vec::new();
        let doubted =
            self.doubted.iter().filter_map(|path| Some((path, Some(self.files.get(path)?.held.stat))));
        for (path, before) in self.awake.iter().map(|(path, stat)| (path, *stat)).chain(doubted) {
            self.effort.looks += 1;
            match (files::stat(path), before) {
                (Ok(stat), Some(before)) if stat == before => {}
                (Ok(stat), Some(_)) => grown.push(grew(path, self.files.get(path)?, stat)?),
                (Err(error), None) if error.kind() == io::ErrorKind::NotFound => {}
                _ => return None,
            }
        }
        self.doubted.clear();
        self.pass(now);
        Some(grown)
    }

    /// Takes what a glance has found for what was seen.
    pub(crate) fn take(&mut self, grown: &Grown) {
        if let Some(look) = self.files.get_mut(&grown.path) {
            (look.held, look.quiet) = (Arc::clone(&grown.held), Duration::ZERO);
        }
        if let Some((_, stat)) = self.awake.iter_mut().find(|(path, _)| *path == grown.path) {
            *stat = Some(grown.held.stat);
        }
    }

    /// Looks at every file of every input. A rotation in the middle of it would show the new live file without the
    /// backup before it, so it is done again when the names have changed.
    pub(crate) fn look(
        &mut self,
        inputs: &[Input],
        holdings: &Holdings,
        roster: &Roster,
        descriptors: usize,
        now: SystemTime,
    ) -> Sight {
        self.pass(now);
        let mut problems = BTreeMap::new();
        let thorough = self.is_thorough_due(now);
        if thorough {
            self.thorough = Some(now);
        }
        let mut moved = self.listed.len() != inputs.len() || !self.listed.iter().all(Listing::stands);
        // Where names may have moved, every file may be another one.
        let mut all = thorough || moved;
        if all {
            self.list(inputs, true, &mut problems, now);
        }
        for _ in 0..LOOKS {
            let (seen, helds) = self.look_through(all, holdings, roster, &mut problems, descriptors, now);
            // Where they move, times do not vouch for them: the file system's clock may be another one.
            if !self.list(inputs, moved, &mut problems, now) {
                let complete = if problems.is_empty() { Complete::Yes } else { Complete::No };
                return self.note(Sight { seen, helds, complete }, problems);
            }
            (all, moved) = (true, true);
        }
        let (seen, helds) = self.look_through(all, holdings, roster, &mut problems, descriptors, now);
        self.list(inputs, true, &mut problems, now);
        let missed = self.missed();
        // What is live now may have predecessors that the names did not show yet: they come first.
        let stands = |file: &Seen| match &file.stamp {
            Some(stamp) => file.known.is_some() || missed.iter().all(|missed| missed.is_after(file, stamp)),
            None => false,
        };
        let (seen, helds) = seen.into_iter().zip(helds).filter(|(seen, _)| stands(seen)).unzip();
        self.note(Sight { seen, helds, complete: Complete::No }, problems)
    }

    /// The backups that have a name now and were not looked at: one that was compressed meanwhile, or that a listing
    /// has passed over while others were renamed.
    fn missed(&self) -> Vec<Missed> {
        let candidates = self.candidates.iter().enumerate();
        let missed = candidates.flat_map(|(input, files)| files.iter().map(move |file| (input, file)));
        let missed = missed.filter(|(_, (path, _))| !self.files.contains_key(path));
        let missed = missed.filter_map(|(input, (path, live))| {
            let stamp = names::backup(&path.file_name()?.to_string_lossy())?.stamp;
            Some(Missed { group: Group { input, live: live.clone() }, stamp })
        });
        missed.collect()
    }

    /// Lets those files rest that `may_rest` allows and that were left alone for long.
    pub(crate) fn rest(&mut self, may_rest: impl Fn(&Look) -> bool) {
        self.awake.clear();
        for (path, look) in &mut self.files {
            look.rests = look.backup && look.quiet >= RESTS_AFTER && may_rest(look);
            if look.rests {
                look.head.cut();
            } else {
                self.awake.push((path.clone(), Some(look.held.stat)));
            }
        }
        self.awake.extend(self.absent.iter().map(|path| (path.clone(), None)));
        self.doubted.clear();
    }

    fn is_thorough_due(&self, now: SystemTime) -> bool {
        self.thorough.is_none_or(|last| now < last || now >= last + THOROUGH)
    }

    fn pass(&mut self, now: SystemTime) {
        let step = self.looked.and_then(|last| now.duration_since(last).ok()).unwrap_or_default();
        self.passed += step.min(LONGEST_STEP);
        self.looked = Some(now);
    }

    /// Reads the names again where they may have changed, or `all`. Gives whether they have.
    fn list(
        &mut self,
        inputs: &[Input],
        all: bool,
        problems: &mut BTreeMap<PathBuf, String>,
        now: SystemTime,
    ) -> bool {
        let mut changed = self.listed.len() != inputs.len();
        self.listed.resize_with(inputs.len(), Listing::default);
        for (input, listed) in inputs.iter().zip(&mut self.listed) {
            if !all && listed.stands() {
                continue;
            }
            self.effort.listings += 1;
            let fresh = Listing::read(&input.path, now, problems);
            changed |= fresh.names != listed.names;
            *listed = fresh;
        }
        // What names mean has not to be found out again while they stay the same.
        if changed {
            let files = inputs.iter().zip(&self.listed);
            let files = files.map(|(input, listed)| candidates(&input.path, &listed.names));
            self.candidates = Arc::new(files.collect());
        }
        changed
    }

    fn look_through(
        &mut self,
        all: bool,
        holdings: &Holdings,
        roster: &Roster,
        problems: &mut BTreeMap<PathBuf, String>,
        descriptors: usize,
        now: SystemTime,
    ) -> (Vec<Seen>, Vec<Arc<Held>>) {
        let (mut seen, mut helds) = (Vec::new(), Vec::new());
        let mut open = 0;
        let mut looks = HashMap::new();
        self.absent.clear();
        // Hard links, symbolic links, overlapping inputs: one file is read once.
        let mut places = BTreeSet::new();
        let passed = std::mem::take(&mut self.passed);
        let candidates = Arc::clone(&self.candidates);
        for (input, files) in candidates.iter().enumerate() {
            for (path, live) in files {
                if looks.contains_key(path) {
                    continue;
                }
                let old = self.files.remove(path).map(|old| Look { quiet: old.quiet + passed, ..old });
                let look = match old {
                    Some(old) if old.rests && old.stands(roster) && !all && !self.doubted.contains(path) => {
                        Ok(Look { fresh: false, ..old })
                    }
                    old => {
                        self.effort.looks += 1;
                        look_at(path, path != live, old, holdings, roster, now)
                    }
                };
                let look = match look {
                    Ok(look) => look,
                    // Renamed or removed since the directory was read; the next scan knows more.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        self.absent.push(path.clone());
                        continue;
                    }
                    Err(error) => {
                        problems.insert(path.clone(), error.to_string());
                        continue;
                    }
                };
                let stat = look.held.stat;
                // Which of them are to stay open is known once all are seen.
                open += usize::from(look.held.slot.is_open());
                if open > descriptors && look.fresh {
                    look.held.slot.park();
                }
                if places.insert((stat.device, stat.inode)) {
                    seen.push(seen_of(input, path, live.clone(), &look));
                    helds.push(Arc::clone(&look.held));
                }
                looks.insert(path.clone(), look);
            }
        }
        self.files = looks;
        (seen, helds)
    }

    fn note(&mut self, sight: Sight, problems: BTreeMap<PathBuf, String>) -> Sight {
        for (path, problem) in &problems {
            if !self.problems.contains_key(path) {
                tracing::warn!(path = %path.display(), error = %problem, "cannot read a log file or directory");
            }
        }
        self.problems = problems;
        sight
    }
}

impl Look {
    /// Whether a file that has not changed needs no new answer to what it is.
    fn stands(&self, roster: &Roster) -> bool {
        let stat = self.held.stat;
        self.stream.is_some_and(|stream| roster.stands(stream, stat.device, stat.inode))
    }
}

fn look_at(
    path: &Path,
    backup: bool,
    old: Option<Look>,
    holdings: &Holdings,
    roster: &Roster,
    now: SystemTime,
) -> io::Result<Look> {
    let stat = files::stat(path)?;
    // Who must ask anew what it is needs its whole head.
    let same = |old: &Look| stat == old.held.stat && (old.stands(roster) || old.head.whole().is_some());
    let old = match old {
        Some(old) if same(&old) => return Ok(Look { fresh: false, ..old }),
        old => old,
    };
    let mut fresh = Held::open(path)?;
    // One descriptor a file, however long it lives and whatever it is called. While one is open its inode number
    // stands for the same file.
    let key = (fresh.stat.device, fresh.stat.inode);
    let mut known = old.iter().map(|old| &old.held).chain(holdings.values());
    let same = known.find(|held| (held.stat.device, held.stat.inode) == key && held.slot.is_open());
    if let Some(same) = same {
        fresh.slot = Arc::clone(&same.slot);
        fresh.slot.moved(path);
    }
    let mut head = Head::new(fresh.head()?);
    // How long it was left alone before it was first seen, only its time can tell.
    let before = now.duration_since(fresh.stat.modified).unwrap_or_default();
    let quiet = if old.is_none() { before } else { Duration::ZERO };
    if backup && quiet >= RESTS_AFTER {
        head.cut();
    }
    Ok(Look { held: Arc::new(fresh), head, quiet, fresh: true, backup, rests: false, stream: None })
}

/// What a live file is that has only grown; its head is looked at, because a rewritten file may be longer, too.
fn grew(path: &Path, look: &Look, stat: Stat) -> Option<Grown> {
    let before = look.held.stat;
    let same = (stat.device, stat.inode) == (before.device, before.inode) && look.held.slot.is_open();
    if look.backup || !same || stat.size <= before.size || look.held.encoding != Encoding::Plain {
        return None;
    }
    let stream = look.stream?;
    let head = look.head.whole().filter(|head| head.len() == HEAD)?;
    let held = Held { stat, ..(*look.held).clone() };
    let stands = held.head().is_ok_and(|now| now[..] == head[..]);
    stands.then(|| Grown { path: path.to_owned(), stream, held: Arc::new(held) })
}

fn seen_of(input: usize, path: &Path, live: PathBuf, look: &Look) -> Seen {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let plain = look.held.encoding == Encoding::Plain && !names::uncompressed(&name).1;
    Seen {
        group: Group { input, live },
        path: path.to_owned(),
        stamp: names::backup(&name).map(|backup| backup.stamp),
        device: look.held.stat.device,
        inode: look.held.stat.inode,
        length: plain.then_some(look.held.stat.size),
        modified: look.held.stat.modified,
        head: look.head.clone(),
        known: look.stream,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn group() -> Group {
        Group { input: 0, live: PathBuf::from("/log/audit.log") }
    }

    #[test]
    fn no_backup_comes_before_an_older_one_that_was_passed_over() {
        let name = "audit-2026-11-24T03-00-00.000.log";
        let stamp = names::backup(name).unwrap().stamp;
        let file = Seen {
            group: group(),
            path: PathBuf::from("/log").join(name),
            stamp: Some(stamp.clone()),
            device: 1,
            inode: 1,
            length: Some(5),
            modified: UNIX_EPOCH,
            head: Head::new(b"line\n".to_vec()),
            known: None,
        };
        for (other, missed, after) in [
            // Compressed while it was looked for.
            ("audit-2026-11-24T02-00-00.000.log.gz", 1, false),
            // Which is the older one, their names do not tell.
            ("audit.log.1", 1, false),
            ("audit-2026-11-24T04-00-00.000.log", 1, true),
            ("audit.log", 0, true),
            ("other-2026-11-24T02-00-00.000.log", 0, true),
        ] {
            let names = vec![(PathBuf::from("/log"), vec![other.to_owned()])];
            let candidates = vec![candidates(&group().live, &names)];
            let looks = Looks { candidates: Arc::new(candidates), ..Looks::default() };
            let found = looks.missed();
            assert_eq!(found.len(), missed, "{other}");
            assert_eq!(found.iter().all(|missed| missed.is_after(&file, &stamp)), after, "{other}");
        }
        let elsewhere = Missed { group: Group { input: 1, ..group() }, stamp: stamp.clone() };
        assert!(elsewhere.is_after(&file, &stamp));
    }
}
