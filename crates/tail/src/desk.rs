//! What only the scan touches: the files as they were last seen, and the descriptors that stand for streams.
//!
//! It owns one look at all directories, the choice of the file that a stream is read from, and what is kept open,
//! let go and forgotten. [`crate::catalogue`] calls its steps in order; nothing here knows a consumer's thread.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auditship_event::StreamId;

use crate::catalogue::{Figures, GroupView, Input, InputFigures, Limits, Reach, View};
use crate::files::{self, Encoding, Held, Stat};
use crate::horizon::{Pace, Stock};
use crate::names;
use crate::roster::{Complete, Contents, Group, Roster, Seen};
use crate::watch::{Listing, candidates, listing};

/// How often the directories are read again when their names change under a look.
const LOOKS: usize = 3;

/// Scans in a row without a file after which a stream is gone: a rename may fall between two looks.
const GONE_AFTER: u32 = 2;

/// How many streams without a file are remembered in each group, newest first: their files may come back (a restored
/// backup, a directory that was away) and must not be read again.
const TOMBSTONES: usize = 64;

/// A clock that is set forward does not make a file old: between two scans it gets older by this at most.
const LONGEST_STEP: Duration = Duration::from_secs(10);

/// A file as it was at the last look.
struct Look {
    held: Arc<Held>,
    head: Arc<[u8]>,
    /// For how long it has looked like this.
    quiet: Duration,
    /// Set when it was opened in this look.
    fresh: bool,
    /// What it was found to be.
    stream: Option<StreamId>,
}

/// The files of each input, with their live files' paths.
type Candidates = Vec<Vec<(PathBuf, PathBuf)>>;

/// What only the scan touches.
pub(crate) struct Desk {
    pub(crate) roster: Roster,
    looks: HashMap<PathBuf, Look>,
    holdings: BTreeMap<StreamId, Arc<Held>>,
    /// Why the unread rest of a stream that lost its file is lost, where it was not just deleted.
    reasons: BTreeMap<StreamId, &'static str>,
    paces: BTreeMap<Group, Pace>,
    /// Pairs of files that were compared, by how they looked.
    compared: HashMap<(Stat, Stat), bool>,
    problems: BTreeMap<PathBuf, String>,
    /// When the last scan was.
    scanned: Option<SystemTime>,
    /// The names at the last scan, and what they mean.
    listed: (Vec<Listing>, Arc<Candidates>),
}

/// The files behind one scan.
struct Files<'a> {
    helds: &'a [Arc<Held>],
    holdings: &'a BTreeMap<StreamId, Arc<Held>>,
    compared: &'a mut HashMap<(Stat, Stat), bool>,
}

impl Contents for Files<'_> {
    fn same(&mut self, one: usize, other: usize) -> bool {
        let (one, other): (&Held, &Held) = (&self.helds[one], &self.helds[other]);
        let known = self.compared.entry((one.stat, other.stat));
        *known.or_insert_with(|| files::same_content(one, other).unwrap_or(false))
    }

    fn held(&mut self, stream: StreamId) -> Option<Vec<u8>> {
        self.holdings.get(&stream)?.head().ok()
    }

    fn deleted(&mut self, stream: StreamId) -> bool {
        self.holdings.get(&stream).is_none_or(|held| held.is_deleted())
    }
}

impl Desk {
    pub(crate) fn new(roster: Roster) -> Desk {
        Desk {
            roster,
            looks: HashMap::new(),
            holdings: BTreeMap::new(),
            reasons: BTreeMap::new(),
            paces: BTreeMap::new(),
            compared: HashMap::new(),
            problems: BTreeMap::new(),
            scanned: None,
            listed: Default::default(),
        }
    }

    /// All that is held, for the desk that comes after this one.
    pub(crate) fn give(&mut self) -> BTreeMap<StreamId, Arc<Held>> {
        std::mem::take(&mut self.holdings)
    }

    /// Takes over what the desk before held of the streams that are known.
    pub(crate) fn adopt(&mut self, mut held: BTreeMap<StreamId, Arc<Held>>) {
        held.retain(|stream, held| self.roster.known(*stream).is_some() && held.slot.is_open());
        self.holdings = held;
    }

    /// Looks at everything once.
    pub(crate) fn scan(
        &mut self,
        inputs: &[Input],
        limits: Limits,
        consumers: &BTreeMap<u64, Reach>,
        now: SystemTime,
    ) -> (Vec<GroupView>, Figures) {
        let (seen, helds, complete) = self.look(inputs, limits.descriptors, now);
        let mut contents = Files { helds: &helds, holdings: &self.holdings, compared: &mut self.compared };
        let found = self.roster.scan(&seen, complete, &mut contents);
        if !self.compared.is_empty() {
            let there: HashSet<Stat> = helds.iter().map(|held| held.stat).collect();
            self.compared.retain(|(one, other), _| there.contains(one) && there.contains(other));
        }
        self.measure(consumers);
        self.hold(&seen, &helds, &found, consumers);
        self.release(limits);
        self.pin(limits.descriptors, consumers);
        self.retire(consumers);
        self.pace(&seen, &found, now);
        let groups = self.view(&seen, &found, limits, now);
        self.scanned = Some(now);
        let figures = self.figures(inputs, &groups, now);
        (groups, figures)
    }

    /// A file turned out not to be the stream that its head says: it becomes another one.
    pub(crate) fn disown(&mut self, stream: StreamId, file: &Stat) {
        self.roster.ban(stream, file.device, file.inode);
        let held = self.holdings.get(&stream).map(|held| (held.stat.device, held.stat.inode));
        if held.is_none_or(|held| held == (file.device, file.inode)) {
            self.holdings.remove(&stream);
            self.reasons.insert(stream, "truncated");
            self.roster.cut(stream);
        }
        // The next scan is to ask again what it is.
        for look in self.looks.values_mut().filter(|look| look.stream == Some(stream)) {
            look.stream = None;
        }
    }

    /// The paths that could not be read at the last scan, and why.
    pub(crate) fn problems(&self) -> &BTreeMap<PathBuf, String> {
        &self.problems
    }

    /// Where the files are.
    pub(crate) fn directories(&self) -> BTreeSet<PathBuf> {
        self.looks.keys().filter_map(|path| path.parent().map(Path::to_owned)).collect()
    }

    /// Looks at every file of every input. A rotation in the middle of it would show the new live file without the
    /// backup before it, so it is done again when the names have changed.
    fn look(
        &mut self,
        inputs: &[Input],
        descriptors: usize,
        now: SystemTime,
    ) -> (Vec<Seen>, Vec<Arc<Held>>, Complete) {
        let mut problems = BTreeMap::new();
        let list = |problems: &mut _| -> Vec<Listing> {
            inputs.iter().map(|input| listing(&input.path, problems)).collect()
        };
        let mut listed = list(&mut problems);
        for _ in 0..LOOKS {
            let files = self.candidates(inputs, &listed);
            let looked = self.look_through(&files, &mut problems, descriptors, now);
            let again = list(&mut problems);
            if again == listed {
                return self.note(looked, problems, Complete::Yes);
            }
            listed = again;
        }
        let files = self.candidates(inputs, &listed);
        let (seen, helds) = self.look_through(&files, &mut problems, descriptors, now);
        // What is live now may have predecessors that the names do not show yet: they come first.
        let backups = seen.into_iter().zip(helds).filter(|(seen, _)| seen.stamp.is_some());
        self.note(backups.unzip(), problems, Complete::No)
    }

    /// What names mean has not to be found out again while they stay the same.
    fn candidates(&mut self, inputs: &[Input], listed: &[Listing]) -> Arc<Candidates> {
        if self.listed.0 != listed {
            let files = inputs.iter().zip(listed).map(|(input, listing)| candidates(&input.path, listing));
            self.listed = (listed.to_vec(), Arc::new(files.collect()));
        }
        Arc::clone(&self.listed.1)
    }

    fn look_through(
        &mut self,
        files: &[Vec<(PathBuf, PathBuf)>],
        problems: &mut BTreeMap<PathBuf, String>,
        descriptors: usize,
        now: SystemTime,
    ) -> (Vec<Seen>, Vec<Arc<Held>>) {
        let (mut seen, mut helds) = (Vec::new(), Vec::new());
        let mut open = 0;
        let mut looks = HashMap::new();
        // Hard links, symbolic links, overlapping inputs: one file is read once.
        let mut places = BTreeSet::new();
        for (input, files) in files.iter().enumerate() {
            for (path, live) in files {
                if looks.contains_key(path) {
                    continue;
                }
                let look = match self.look_at(path, now) {
                    Ok(look) => look,
                    // Renamed or removed since the directory was read; the next scan knows more.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
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
        self.looks = looks;
        (seen, helds)
    }

    fn note(
        &mut self,
        (seen, helds): (Vec<Seen>, Vec<Arc<Held>>),
        problems: BTreeMap<PathBuf, String>,
        complete: Complete,
    ) -> (Vec<Seen>, Vec<Arc<Held>>, Complete) {
        for (path, problem) in &problems {
            if !self.problems.contains_key(path) {
                tracing::warn!(path = %path.display(), error = %problem, "cannot read a log file or directory");
            }
        }
        let complete = if problems.is_empty() { complete } else { Complete::No };
        self.problems = problems;
        (seen, helds, complete)
    }

    fn look_at(&mut self, path: &Path, now: SystemTime) -> io::Result<Look> {
        let old = self.looks.remove(path);
        let stat = files::stat(path)?;
        if let Some(old) = old.as_ref().filter(|old| stat == old.held.stat) {
            let (held, head) = (Arc::clone(&old.held), Arc::clone(&old.head));
            let step = self.scanned.and_then(|last| now.duration_since(last).ok()).unwrap_or_default();
            let quiet = old.quiet + step.min(LONGEST_STEP);
            return Ok(Look { held, head, quiet, fresh: false, stream: old.stream });
        }
        let mut fresh = Held::open(path)?;
        // One descriptor a file, however long it lives and whatever it is called. While one is open its inode number
        // stands for the same file.
        let key = (fresh.stat.device, fresh.stat.inode);
        let mut known = old.iter().map(|old| &old.held).chain(self.holdings.values());
        let same = known.find(|held| (held.stat.device, held.stat.inode) == key && held.slot.is_open());
        if let Some(same) = same {
            fresh.slot = Arc::clone(&same.slot);
            fresh.slot.moved(path);
        }
        let head = fresh.head()?.into();
        // How long it was left alone before it was first seen, only its time can tell.
        let before = now.duration_since(fresh.stat.modified).unwrap_or_default();
        let quiet = if old.is_none() { before } else { Duration::ZERO };
        Ok(Look { held: Arc::new(fresh), head, quiet, fresh: true, stream: None })
    }

    /// A compressed stream's length is known when it was read to its end.
    fn measure(&mut self, consumers: &BTreeMap<u64, Reach>) {
        for reach in consumers.values() {
            for stream in &reach.done {
                self.roster.measured(*stream, reach.read.get(stream).copied().unwrap_or(0));
            }
        }
    }

    /// Decides which descriptor stands for each stream.
    fn hold(
        &mut self,
        seen: &[Seen],
        helds: &[Arc<Held>],
        found: &[Option<StreamId>],
        consumers: &BTreeMap<u64, Reach>,
    ) {
        let key = |stat: &Stat| (stat.device, stat.inode);
        let owner: HashMap<_, _> =
            (0..seen.len()).filter_map(|index| Some((key(&helds[index].stat), found[index]?))).collect();
        // A descriptor whose file now is another stream was truncated under us.
        let (reasons, roster) = (&mut self.reasons, &mut self.roster);
        self.holdings.retain(|stream, held| {
            let mine = owner.get(&key(&held.stat)).is_none_or(|other| other == stream);
            if !mine {
                reasons.insert(*stream, "truncated");
                roster.cut(*stream);
            }
            mine
        });
        for (index, stream) in found.iter().enumerate() {
            let Some(stream) = *stream else { continue };
            let visible = &helds[index];
            self.reasons.remove(&stream);
            if let Some(look) = self.looks.get_mut(&seen[index].path) {
                look.stream = Some(stream);
            }
            let keep = self.holdings.get(&stream).is_some_and(|held| {
                // A plain file is cheaper to read than its copy in gzip, as long as someone reads it.
                key(&held.stat) != key(&visible.stat)
                    && held.encoding == Encoding::Plain
                    && held.slot.is_open()
                    && visible.encoding != Encoding::Plain
                    && !all_read(consumers, stream, held)
            });
            if !keep {
                self.holdings.insert(stream, Arc::clone(visible));
            }
        }
        let visible: BTreeSet<StreamId> = found.iter().flatten().copied().collect();
        let last: BTreeSet<StreamId> =
            self.roster.groups().filter_map(|(_, order)| order.last().copied()).collect();
        let (reasons, roster) = (&mut self.reasons, &mut self.roster);
        self.holdings.retain(|stream, held| {
            if let Ok(now) = held.look()
                && now.stat != held.stat
            {
                if now.encoding == Encoding::Plain && now.stat.size < held.stat.size {
                    reasons.insert(*stream, "truncated");
                    roster.cut(*stream);
                }
                *held = Arc::new(now);
            }
            if held.encoding == Encoding::Plain && !owner.contains_key(&key(&held.stat)) {
                roster.measured(*stream, held.stat.size);
            }
            // The last one may still be written to, though its name is gone.
            let wanted = last.contains(stream) || !all_read(consumers, *stream, held);
            visible.contains(stream) || (wanted && held.slot.is_open())
        });
    }

    fn unlinked(&self) -> impl Iterator<Item = (StreamId, &Arc<Held>)> {
        let visible: BTreeSet<(u64, u64)> =
            self.looks.values().map(|look| (look.held.stat.device, look.held.stat.inode)).collect();
        let hidden = move |held: &Held| !visible.contains(&(held.stat.device, held.stat.inode));
        self.holdings.iter().filter(move |(_, held)| hidden(held)).map(|(stream, held)| (*stream, held))
    }

    /// Lets held files go, oldest first, when they are too many bytes or the disk is full. The file system needs a
    /// moment to count what it got back, so a full disk takes one file a scan.
    fn release(&mut self, limits: Limits) {
        let unlinked: BTreeMap<StreamId, u64> =
            self.unlinked().map(|(stream, held)| (stream, held.stat.size)).collect();
        let mut bytes: u64 = unlinked.values().sum();
        let order: Vec<StreamId> = self.roster.groups().flat_map(|(_, order)| order).copied().collect();
        let mut full = None;
        for stream in order.into_iter().filter(|stream| unlinked.contains_key(stream)) {
            let Some(held) = self.holdings.get(&stream) else { continue };
            let first = full.is_none();
            let full = *full.get_or_insert_with(|| held.disk_is_full(limits.free_percent));
            if bytes <= limits.held_bytes && !(full && first) {
                return;
            }
            bytes -= unlinked[&stream];
            tracing::warn!(%stream, bytes = unlinked[&stream], full, "unread deleted file released");
            // Also under the hands of a consumer that does not move: the disk must get its space.
            held.slot.revoke();
            self.holdings.remove(&stream);
            self.reasons.insert(stream, "released");
        }
    }

    /// Keeps open what must be, oldest first: what somebody has not read, and the files that are written to.
    fn pin(&mut self, limit: usize, consumers: &BTreeMap<u64, Reach>) {
        let unlinked: BTreeSet<StreamId> = self.unlinked().map(|(stream, _)| stream).collect();
        let mut room = limit.saturating_sub(unlinked.len());
        let last: BTreeSet<StreamId> =
            self.roster.groups().filter_map(|(_, order)| order.last().copied()).collect();
        let order = || self.roster.groups().flat_map(|(_, order)| order);
        let others = order().filter(|stream| !last.contains(stream));
        let mut kept = HashSet::new();
        for stream in last.iter().chain(others).filter(|stream| !unlinked.contains(stream)) {
            let Some(held) = self.holdings.get(stream) else { continue };
            let wanted = last.contains(stream) || !all_read(consumers, *stream, held);
            // Where it cannot be opened it is not protected, and the next scan tries again.
            if wanted && room > 0 && held.slot.pin().is_ok() {
                room -= 1;
                kept.insert((held.stat.device, held.stat.inode));
            }
        }
        let held =
            self.holdings.iter().filter(|(stream, _)| !unlinked.contains(stream)).map(|(_, held)| held);
        for held in held.chain(self.looks.values().map(|look| &look.held)) {
            if !kept.contains(&(held.stat.device, held.stat.inode)) {
                held.slot.park();
            }
        }
    }

    /// Measures how fast each group is written.
    fn pace(&mut self, seen: &[Seen], found: &[Option<StreamId>], now: SystemTime) {
        for (group, order) in self.roster.groups() {
            if !self.paces.contains_key(group) && !order.is_empty() {
                self.paces.insert(group.clone(), Pace::default());
            }
        }
        let mut files: HashMap<&Group, Vec<usize>> = HashMap::new();
        for (index, seen) in seen.iter().enumerate() {
            files.entry(&seen.group).or_default().push(index);
        }
        for (group, pace) in &mut self.paces {
            let files = files.get(group).map_or(&[][..], |files| files);
            let backups = files.iter().filter(|index| seen[**index].stamp.is_some()).count();
            let lengths = files.iter().filter_map(|index| Some((found[*index]?, seen[*index].length?)));
            pace.look(now, backups, lengths);
        }
    }

    fn stock(&self, group: &Group, files: &[&Seen], limits: Limits, now: SystemTime) -> Stock {
        let pace = self.paces.get(group);
        let backups: Vec<&&Seen> = files.iter().filter(|seen| seen.stamp.is_some()).collect();
        let held = |seen: &Seen| self.looks.get(&seen.path).map(|look| look.held.stat.size);
        let live = files.iter().find(|seen| seen.stamp.is_none());
        let length = |seen: &Seen| {
            let stream = self.looks.get(&seen.path)?.stream?;
            Some(self.roster.known(stream)?.record.length)
        };
        Stock {
            backups: backups.len(),
            bytes: backups.iter().filter_map(|seen| held(seen)).sum(),
            keeps: limits.backups.or(pace.map(Pace::most)).unwrap_or(0),
            live: live.and_then(|seen| seen.length).unwrap_or(0),
            rotates_at: backups.iter().filter_map(|seen| length(seen)).max().unwrap_or(0),
            rate: pace.and_then(|pace| pace.rate(now)),
            oldest: backups.iter().map(|seen| seen.modified).min(),
            newest: backups.iter().map(|seen| seen.modified).max(),
        }
    }

    fn figures(&self, inputs: &[Input], groups: &[GroupView], now: SystemTime) -> Figures {
        let counts = self.roster.counts();
        let unlinked: Vec<u64> = self.unlinked().map(|(_, held)| held.stat.size).collect();
        let open = self.looks.values().filter(|look| look.held.slot.is_open()).count();
        let figures = |group: &GroupView| InputFigures {
            input: inputs[group.group.input].name.clone(),
            live: group.group.live.clone(),
            backups: group.stock.backups,
            backup_bytes: group.stock.bytes,
            most_backups: self.paces.get(&group.group).map_or(0, Pace::most),
            bytes_per_second: self.paces.get(&group.group).and_then(|pace| pace.rate(now)),
            rotates_at: group.stock.rotates_at,
        };
        Figures {
            scans: counts.scans,
            rotations: counts.rotations,
            gaps: counts.gaps,
            held_files: unlinked.len(),
            held_bytes: unlinked.iter().sum(),
            descriptors: open + unlinked.len(),
            inputs: groups.iter().map(figures).collect(),
        }
    }

    /// Forgets the streams that have no file and that every consumer has settled, but for the last ones.
    fn retire(&mut self, consumers: &BTreeMap<u64, Reach>) {
        if consumers.is_empty() {
            return;
        }
        let done = |stream: &StreamId| {
            let Some(known) = self.roster.known(*stream) else { return false };
            let settled = |reach: &Reach| {
                let committed = reach.committed.get(stream).is_some_and(|at| *at >= known.record.length);
                // That something may be missing must have been told.
                let known_end = !known.edge && known.record.length > 0;
                committed && (known_end || reach.done.contains(stream))
            };
            known.missing >= GONE_AFTER
                && !self.holdings.contains_key(stream)
                && consumers.values().all(settled)
        };
        let done = |order: &[StreamId]| order.iter().copied().filter(done).collect::<Vec<_>>();
        let groups: Vec<Vec<StreamId>> = self.roster.groups().map(|(_, order)| done(order)).collect();
        for done in groups {
            done.iter().for_each(|stream| self.roster.entomb(*stream));
            for stream in done.iter().take(done.len().saturating_sub(TOMBSTONES)) {
                self.reasons.remove(stream);
                self.roster.retire(*stream);
            }
        }
    }

    fn view(
        &self,
        seen: &[Seen],
        found: &[Option<StreamId>],
        limits: Limits,
        now: SystemTime,
    ) -> Vec<GroupView> {
        let at: HashMap<StreamId, usize> =
            found.iter().enumerate().filter_map(|(index, stream)| Some(((*stream)?, index))).collect();
        let mut files: HashMap<&Group, Vec<&Seen>> = HashMap::new();
        for seen in seen {
            files.entry(&seen.group).or_default().push(seen);
        }
        let view = |stream: &StreamId, rank: &mut usize| {
            let known = self.roster.known(*stream)?;
            let file = self.holdings.get(stream).cloned();
            let place = at.get(stream).map(|index| &seen[*index]);
            let reason = self.reasons.get(stream).copied();
            let looked = file.as_ref().and_then(|held| self.looks.get(&held.path));
            let mine = *rank;
            *rank += usize::from(place.is_some_and(|seen| seen.stamp.is_some()));
            Some(View {
                id: *stream,
                live: place.is_some_and(|seen| seen.stamp.is_none()),
                gone: file.is_none() && (reason == Some("released") || known.missing >= GONE_AFTER),
                reason: reason.unwrap_or("deleted"),
                edge: known.edge,
                buried: known.record.inode == 0,
                head: known.record.head.clone(),
                rank: place.is_some().then_some(mine),
                length: file.as_ref().map_or(0, |held| content_end(held)).max(known.record.length),
                quiet: looked.map(|look| look.quiet).unwrap_or_default(),
                path: PathBuf::from(&known.record.file),
                file,
            })
        };
        let groups = self.roster.groups();
        groups
            .map(|(group, order)| {
                let mut rank = 0;
                let files = files.get(group).map_or(&[][..], |files| files);
                GroupView {
                    group: group.clone(),
                    streams: order.iter().filter_map(|stream| view(stream, &mut rank)).collect(),
                    stock: self.stock(group, files, limits, now),
                }
            })
            .collect()
    }
}

/// The length of the content, as far as the size of the file tells.
fn content_end(held: &Held) -> u64 {
    if held.encoding == Encoding::Plain { held.stat.size } else { 0 }
}

fn all_read(consumers: &BTreeMap<u64, Reach>, stream: StreamId, held: &Held) -> bool {
    let read = |reach: &Reach| match held.encoding {
        Encoding::Plain => reach.read.get(&stream).is_some_and(|at| *at >= held.stat.size),
        Encoding::Gzip | Encoding::Zstd => reach.done.contains(&stream),
    };
    !consumers.is_empty() && consumers.values().all(read)
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
        head: Arc::clone(&look.head),
        known: look.stream,
    }
}
