//! What only the scan touches: the files as they were last seen, and the descriptors that stand for streams.
//!
//! It owns one look at all directories, the choice of the file that a stream is read from, and what is kept open,
//! let go and forgotten. [`crate::catalogue`] calls its steps in order; nothing here knows a consumer's thread.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auditship_event::StreamId;

use crate::catalogue::{Figures, GroupView, Input, InputFigures, Limits, Pulse, Reach, View};
use crate::files::{self, Encoding, Held, Stat};
use crate::follow::SETTLED;
use crate::horizon::{Pace, Stock};
use crate::looks::{Effort, Grown, Holdings, Looks, Sight};
use crate::roster::{Complete, Contents, Group, Roster, Seen};

/// Scans in a row without a file after which a stream is gone: a rename may fall between two looks.
const GONE_AFTER: u32 = 2;

/// How many streams without a file are remembered in each group, newest first: their files may come back (a restored
/// backup, a directory that was away) and must not be read again.
const TOMBSTONES: usize = 64;

/// What may have to be done though no file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Something at every scan: only a full one will do.
    Always,
    /// Something when a consumer has got on.
    WithReach,
    /// Nothing.
    Never,
}

/// What only the scan touches.
pub(crate) struct Desk {
    pub(crate) roster: Roster,
    looks: Looks,
    holdings: Holdings,
    /// Why the unread rest of a stream that lost its file is lost, where it was not just deleted.
    reasons: BTreeMap<StreamId, &'static str>,
    paces: BTreeMap<Group, Pace>,
    /// Pairs of files that were compared, by how they looked.
    compared: HashMap<(Stat, Stat), bool>,
    due: Due,
    /// What the consumers had told at the last full scan.
    pulse: Pulse,
}

/// The files behind one scan.
struct Files<'a> {
    seen: &'a [Seen],
    helds: &'a [Arc<Held>],
    holdings: &'a Holdings,
    compared: &'a mut HashMap<(Stat, Stat), bool>,
}

impl Contents for Files<'_> {
    fn head(&mut self, file: usize) -> Option<Arc<[u8]>> {
        let held = &self.helds[file];
        let open = held.slot.is_open();
        let head = held.head();
        if !open {
            held.slot.park();
        }
        head.ok().filter(|head| self.seen[file].head.is_cut_of(head)).map(Arc::from)
    }

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
            looks: Looks::default(),
            holdings: Holdings::new(),
            reasons: BTreeMap::new(),
            paces: BTreeMap::new(),
            compared: HashMap::new(),
            due: Due::Always,
            pulse: Pulse::default(),
        }
    }

    /// Looks at what may have changed; gives the live files that have grown. `None`: there is more to be done.
    pub(crate) fn glance(&mut self, pulse: Pulse, now: SystemTime) -> Option<Vec<Grown>> {
        let due = match self.due {
            Due::Always => true,
            Due::WithReach => pulse != self.pulse,
            Due::Never => pulse.members != self.pulse.members,
        };
        if due {
            return None;
        }
        let grown = self.looks.glance(now)?;
        if !grown.iter().all(|grown| self.is_read_from(grown)) {
            return None;
        }
        for grown in &grown {
            let length = grown.held.stat.size;
            self.looks.take(grown);
            self.holdings.insert(grown.stream, Arc::clone(&grown.held));
            self.roster.grew(grown.stream, length);
            if let Some(known) = self.roster.known(grown.stream)
                && let Some(pace) = self.paces.get_mut(&known.group)
            {
                pace.grew(now, grown.stream, length);
            }
        }
        self.roster.glanced();
        Some(grown)
    }

    /// Whether a file that has grown is what its stream is read from, and the last one of its group.
    fn is_read_from(&self, grown: &Grown) -> bool {
        let held = self.holdings.get(&grown.stream);
        let known = self.roster.known(grown.stream);
        held.is_some_and(|held| Arc::ptr_eq(&held.slot, &grown.held.slot))
            && known.is_some_and(|known| self.roster.last(&known.group) == Some(grown.stream))
    }

    /// Brings the last scan's view of a stream that has grown up to date.
    pub(crate) fn regrow(&self, grown: &Grown, groups: &mut [Arc<GroupView>], now: SystemTime) {
        let Some(known) = self.roster.known(grown.stream) else { return };
        let Ok(at) = groups.binary_search_by(|view| view.group.cmp(&known.group)) else { return };
        let group = Arc::make_mut(&mut groups[at]);
        group.stock.live = grown.held.stat.size;
        group.stock.rate = self.paces.get(&known.group).and_then(|pace| pace.rate(now));
        if let Some(view) = group.streams.iter_mut().rfind(|view| view.id == grown.stream) {
            let view = Arc::make_mut(view);
            view.file = Some(Arc::clone(&grown.held));
            (view.length, view.quiet) = (known.record.length, Duration::ZERO);
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
        pulse: Pulse,
        now: SystemTime,
    ) -> (Vec<Arc<GroupView>>, Figures) {
        let sight = self.looks.look(inputs, &self.holdings, &self.roster, limits.descriptors, now);
        let Sight { seen, helds, complete } = sight;
        let (holdings, compared) = (&self.holdings, &mut self.compared);
        let mut contents = Files { seen: &seen, helds: &helds, holdings, compared };
        let found = self.roster.scan(&seen, complete, &mut contents);
        if !self.compared.is_empty() {
            let there: HashSet<Stat> = helds.iter().map(|held| held.stat).collect();
            self.compared.retain(|(one, other), _| there.contains(one) && there.contains(other));
        }
        self.measure(consumers);
        self.hold(&seen, &helds, &found, consumers);
        self.release(limits);
        let pinned = self.pin(limits.descriptors, consumers);
        self.retire(consumers);
        self.pace(&seen, &found, now);
        let groups = self.view(&seen, &found, limits, now);
        self.rest(consumers);
        let idle = complete == Complete::Yes && pinned;
        (self.due, self.pulse) = (if idle { self.due(consumers) } else { Due::Always }, pulse);
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
        self.looks.disown(stream);
        self.due = Due::Always;
    }

    /// A file watch says that this file was written to.
    pub(crate) fn doubt(&mut self, path: PathBuf) {
        self.looks.doubt(path);
    }

    /// What looking has cost since the start.
    pub(crate) fn effort(&self) -> Effort {
        self.looks.effort
    }

    /// The paths that could not be read at the last scan, and why.
    pub(crate) fn problems(&self) -> &BTreeMap<PathBuf, String> {
        self.looks.problems()
    }

    /// Where the files are.
    pub(crate) fn directories(&self) -> BTreeSet<PathBuf> {
        self.looks.directories()
    }

    /// Lets the backups rest that are known and that everyone has read. The last of each group may still be written to.
    fn rest(&mut self, consumers: &BTreeMap<u64, Reach>) {
        let Desk { looks, roster, .. } = self;
        let last: HashSet<StreamId> = roster.groups().filter_map(|(group, _)| roster.last(group)).collect();
        looks.rest(|look| {
            let stream = look.stream.filter(|stream| !last.contains(stream));
            stream.is_some_and(|stream| all_read(consumers, stream, &look.held))
        });
    }

    /// What may have to be done at the next scan though no file changes.
    fn due(&self, consumers: &BTreeMap<u64, Reach>) -> Due {
        // What is held without a name may grow, and must go when the disk is full.
        if self.unlinked().next().is_some() {
            return Due::Always;
        }
        let mut due = Due::Never;
        for (group, order) in self.roster.groups() {
            let last = self.roster.last(group);
            for stream in order {
                let Some(known) = self.roster.known(*stream) else { continue };
                let file = self.holdings.get(stream);
                let unread = file.filter(|held| !all_read(consumers, *stream, held));
                // How long it was left alone decides about a compressed file that ends too soon.
                let young = |held: &&Arc<Held>| {
                    let look = self.looks.get(&held.path);
                    held.encoding != Encoding::Plain && look.is_none_or(|look| look.quiet < SETTLED)
                };
                // A stream without a file is counted, then forgotten as consumers settle it.
                let counted = (1..GONE_AFTER).contains(&known.missing);
                if counted || unread.is_some_and(|held| young(&held)) {
                    return Due::Always;
                }
                let forgotten = known.missing > 0 && known.record.inode != 0;
                // A live file is held anyway, and how long it is, its size tells.
                let live = |held: &Arc<Held>| last == Some(*stream) && held.encoding == Encoding::Plain;
                if forgotten || unread.is_some_and(|held| !live(held)) {
                    due = Due::WithReach;
                }
            }
        }
        due
    }

    /// A compressed stream's length is known when it was read to its end.
    fn measure(&mut self, consumers: &BTreeMap<u64, Reach>) {
        for reach in consumers.values() {
            // Nobody has read to its end what was given up.
            for stream in reach.done.iter().filter(|stream| self.holdings.contains_key(stream)) {
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
        let owner: HashMap<_, _> = (0..seen.len())
            .filter_map(|index| Some((key(&helds[index].stat), (found[index]?, &seen[index].path))))
            .collect();
        let (reasons, roster) = (&mut self.reasons, &mut self.roster);
        self.holdings.retain(|stream, held| {
            if let Some((_, path)) = owner.get(&key(&held.stat)).filter(|(other, _)| other != stream) {
                // A descriptor whose file now is another stream was truncated under us. Without one, the number of a
                // deleted file was given to a new one, unless it even has the same path.
                if held.slot.is_open() || **path == held.path {
                    reasons.insert(*stream, "truncated");
                    roster.cut(*stream);
                }
                return false;
            }
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
            true
        });
        for (index, stream) in found.iter().enumerate() {
            let Some(stream) = *stream else { continue };
            let visible = &helds[index];
            self.reasons.remove(&stream);
            self.looks.found(&seen[index].path, stream);
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
        self.holdings.retain(|stream, held| {
            // The last one may still be written to, though its name is gone.
            let wanted = last.contains(stream) || !all_settled(consumers, *stream, held);
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

    /// Keeps open what must be, oldest first: what somebody has not read, and the files that are written to. Gives
    /// whether all could be opened.
    fn pin(&mut self, limit: usize, consumers: &BTreeMap<u64, Reach>) -> bool {
        let unlinked: BTreeSet<StreamId> = self.unlinked().map(|(stream, _)| stream).collect();
        let mut room = limit.saturating_sub(unlinked.len());
        let last: BTreeSet<StreamId> =
            self.roster.groups().filter_map(|(_, order)| order.last().copied()).collect();
        let order = || self.roster.groups().flat_map(|(_, order)| order);
        let others = order().filter(|stream| !last.contains(stream));
        let (mut kept, mut pinned) = (HashSet::new(), true);
        for stream in last.iter().chain(others).filter(|stream| !unlinked.contains(stream)) {
            let Some(held) = self.holdings.get(stream) else { continue };
            let wanted = last.contains(stream) || !all_settled(consumers, *stream, held);
            if !wanted || room == 0 {
                continue;
            }
            // Where it cannot be opened it is not protected, and the next scan tries again.
            if held.slot.pin().is_err() {
                pinned = false;
                continue;
            }
            room -= 1;
            kept.insert((held.stat.device, held.stat.inode));
        }
        let held =
            self.holdings.iter().filter(|(stream, _)| !unlinked.contains(stream)).map(|(_, held)| held);
        for held in held.chain(self.looks.values().map(|look| &look.held)) {
            if !kept.contains(&(held.stat.device, held.stat.inode)) {
                held.slot.park();
            }
        }
        pinned
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

    fn figures(&self, inputs: &[Input], groups: &[Arc<GroupView>], now: SystemTime) -> Figures {
        let counts = self.roster.counts();
        let unlinked: Vec<u64> = self.unlinked().map(|(_, held)| held.stat.size).collect();
        let open = self.looks.values().filter(|look| look.held.slot.is_open()).count();
        let figures = |group: &Arc<GroupView>| InputFigures {
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
            listings: self.looks.effort.listings,
            looks: self.looks.effort.looks,
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
                // Of what has no known length nothing is ever committed.
                let committed = reach.committed.get(stream).copied().unwrap_or(0) >= known.record.length;
                // That something may be missing must have been told.
                let known_end = !known.edge && !known.record.endless && known.record.length > 0;
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
    ) -> Vec<Arc<GroupView>> {
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
            Some(Arc::new(View {
                id: *stream,
                live: place.is_some_and(|seen| seen.stamp.is_none()),
                gone: file.is_none() && (reason == Some("released") || known.missing >= GONE_AFTER),
                reason: reason.unwrap_or("deleted"),
                edge: known.edge,
                endless: known.record.endless,
                buried: known.record.inode == 0,
                head: known.record.head.clone(),
                rank: place.is_some().then_some(mine),
                length: file.as_ref().map_or(0, |held| content_end(held)).max(known.record.length),
                quiet: looked.map(|look| look.quiet).unwrap_or_default(),
                path: PathBuf::from(&known.record.file),
                file,
            }))
        };
        let groups = self.roster.groups();
        groups
            .map(|(group, order)| {
                let mut rank = 0;
                let files = files.get(group).map_or(&[][..], |files| files);
                Arc::new(GroupView {
                    group: group.clone(),
                    streams: order.iter().filter_map(|stream| view(stream, &mut rank)).collect(),
                    stock: self.stock(group, files, limits, now),
                })
            })
            .collect()
    }
}

/// The length of the content, as far as the size of the file tells.
fn content_end(held: &Held) -> u64 {
    if held.encoding == Encoding::Plain { held.stat.size } else { 0 }
}

/// Whether nobody needs a file any more, not even after a reload, which reads again what was not settled.
fn all_settled(consumers: &BTreeMap<u64, Reach>, stream: StreamId, held: &Held) -> bool {
    let settled = |reach: &Reach| {
        let read = reach.read.get(&stream).copied().unwrap_or(0);
        reach.committed.get(&stream).is_some_and(|at| *at >= read)
    };
    all_read(consumers, stream, held) && consumers.values().all(settled)
}

fn all_read(consumers: &BTreeMap<u64, Reach>, stream: StreamId, held: &Held) -> bool {
    let read = |reach: &Reach| match held.encoding {
        Encoding::Plain => reach.read.get(&stream).is_some_and(|at| *at >= held.stat.size),
        Encoding::Gzip | Encoding::Zstd => reach.done.contains(&stream),
    };
    !consumers.is_empty() && consumers.values().all(read)
}
