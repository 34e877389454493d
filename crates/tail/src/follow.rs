//! One consumer's way through the files: oldest first, from exact offsets, through every rotation.
//!
//! It owns the cursor of each stream and the decision what to read next, from the catalogue's snapshots; the reading
//! itself is done in `files`. Nothing here asks what time it is.
//!
//! Rules. A stream is finished when it has been read to its end *after* a scan that saw it rotated and saw a
//! successor with content: then its writer has moved on, and what is left without a terminator is its last line. A
//! live file's last partial line waits. A finished plain file that grows all the same (two API servers overlapping)
//! is read again from where it ended. What no descriptor reaches any more is lost, by its known range. Where the end
//! of a stream was never seen, a gap is told after it. A file that no longer holds, before the next byte, what was
//! read there is not that stream any more: it is read anew as another one, and the rest of the old one is lost.
//!
//! A stream of container records goes on from its anchor: where its position is, unless a run of records was open
//! there; then from before the run. A stream whose reading fails inside a run goes on where it failed: what is joined
//! of the run stays in memory.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auditship_event::{Line, Span, StreamId};

use crate::anchors::Anchors;
use crate::catalogue::{Catalogue, GroupView, Reach, Snapshot, StartAt, View};
use crate::checkpoint::{Hash, Position};
use crate::cri::Pieces;
use crate::files::{Encoding, Got, Held, Reader, is_stale};
use crate::lines::{Format, Splitter};
use crate::roster::Group;
use crate::source::{Edge, Error, Gap, Lost, Progress, Source};

/// How long a compressed file that does not decode to its end must not have changed before its rest is given up.
pub(crate) const SETTLED: Duration = Duration::from_secs(60);

/// How often the figures are made anew while nothing happens: only ages change.
const FIGURED_EVERY: Duration = Duration::from_secs(5);

/// Of so many groups each is read at every call. Where there are more, those that had nothing are left alone until a
/// scan has seen something new of them.
const FEW: usize = 64;

/// A cursor of all the streams that the catalogue knows.
pub struct Follower {
    catalogue: Arc<Catalogue>,
    id: u64,
    snapshot: Arc<Snapshot>,
    news: u64,
    marks: BTreeMap<StreamId, Mark>,
    /// What must stand before these offsets: the restored positions, and where a stream was closed.
    guards: BTreeMap<StreamId, (u64, Hash)>,
    /// Of the streams of container records: where they can be begun again.
    anchors: BTreeMap<StreamId, Anchors>,
    /// The streams that this process has read from.
    met: BTreeSet<StreamId>,
    /// The guards that were last given out.
    given: BTreeMap<StreamId, (u64, Hash)>,
    lanes: BTreeMap<Group, Lane>,
    turn: usize,
    /// By the number of the group in the snapshot: there was nothing to read in it.
    rests: Vec<bool>,
    lost: Vec<Lost>,
    gaps: Vec<Gap>,
    last_event: Option<SystemTime>,
    figured: RefCell<Option<Figured>>,
}

/// Figures, and what they were made from.
struct Figured {
    figures: Figures,
    snapshot: Arc<Snapshot>,
    reached: u64,
    at: SystemTime,
}

/// What a consumer's reader knows of itself, from the last scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// See [`Follower::lag_bytes`].
    pub lag_bytes: u64,
    /// Files that are not read to their end.
    pub lag_files: u64,
    /// The time since the oldest backup that is not read to its end was last written; `None`: all are read.
    pub oldest_unread: Option<Duration>,
    /// How long until the writer deletes the oldest backup that is not settled; where all are, how long what is
    /// written next will last. From the rate of the last minutes and the number of backups that the writer keeps
    /// ([`crate::Limits::backups`], or the most that were ever seen). `None`: no rotation or no writing is known.
    /// Held descriptors may save what is deleted while the agent runs; this is what a stop may cost.
    pub horizon: Option<Duration>,
    /// NUL bytes passed that a foreign truncation left.
    pub hole_bytes: u64,
}

/// How far a stream is read.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at: u64,
    done: bool,
}

/// The reading of one group: one file at a time.
struct Lane {
    splitter: Splitter,
    format: Format,
    open: Option<Open>,
    /// The stream that an open run of records goes on in.
    next: Option<StreamId>,
    /// In the snapshot, so many streams have nothing more.
    passed: usize,
    /// In the snapshot, nothing but more of the open stream can follow it.
    waits: bool,
}

impl Lane {
    /// The snapshot is another one.
    fn look_again(&mut self) {
        (self.passed, self.waits) = (0, false);
    }
}

struct Open {
    stream: StreamId,
    reader: Reader,
    held: Arc<Held>,
}

/// What a lane can do.
enum Pick {
    Open(Arc<View>),
    /// The open run of records has no next stream.
    Abandon,
    Wait,
}

impl Follower {
    /// A cursor that goes on from `restored`. Where that says nothing of an input, the input's `start_at` is used.
    /// The catalogue must have been scanned.
    pub fn new(catalogue: Arc<Catalogue>, restored: Option<&Position>) -> Result<Follower, Error> {
        let news = catalogue.news();
        let snapshot = catalogue.snapshot();
        let positions = restored.map(|restored| &restored.positions);
        let mut marks: BTreeMap<StreamId, Mark> = positions
            .into_iter()
            .flatten()
            .filter(|(stream, _)| catalogue.knows(**stream))
            .map(|(stream, at)| (*stream, Mark { at: *at, done: false }))
            .collect();
        // A checkpoint that does not name a stream of an input that was already followed has read nothing of it.
        let begins = |input: usize| restored.is_none() || !catalogue.remembers(input);
        for group in snapshot.groups.iter().filter(|group| begins(group.group.input)) {
            let input = &catalogue.inputs()[group.group.input];
            for view in &group.streams {
                if let Some(at) =
                    start(view, catalogue.start_at(group.group.input), input.max_line, &snapshot)?
                {
                    marks.insert(view.id, Mark { at, done: !view.live });
                }
            }
        }
        let guards = restored.into_iter().flat_map(|restored| &restored.guards);
        let guards =
            guards.filter_map(|(stream, hash)| Some((*stream, (marks.get(stream)?.at, hash.clone()))));
        let guards = guards.collect();
        let anchors = restored.into_iter().flat_map(|restored| &restored.anchors);
        let anchors = anchors.filter(|(stream, _)| marks.contains_key(stream));
        let anchors = anchors.map(|(stream, anchor)| (*stream, Anchors::new(*anchor))).collect();
        let last_event = restored.and_then(|restored| restored.last_event).map(micros);
        let read: BTreeMap<StreamId, u64> = marks.iter().map(|(stream, mark)| (*stream, mark.at)).collect();
        let done = marks.iter().filter(|(_, mark)| mark.done).map(|(stream, _)| *stream).collect();
        let id = catalogue.join(Reach { committed: read.clone(), read, done });
        let (met, given, lanes) = Default::default();
        let (turn, rests, lost, gaps) = (0, Vec::new(), Vec::new(), Vec::new());
        Ok(Follower {
            catalogue,
            id,
            snapshot,
            news,
            marks,
            guards,
            anchors,
            met,
            given,
            lanes,
            turn,
            rests,
            lost,
            gaps,
            last_event,
            figured: RefCell::default(),
        })
    }

    /// Where it is in each stream that it knows: at the beginning, what the ledger begins with.
    pub fn positions(&self) -> BTreeMap<StreamId, u64> {
        self.marks.iter().map(|(stream, mark)| (*stream, mark.at)).collect()
    }

    /// Tells what is settled. Gives the guards to save beside these positions: hashes of what stands before them.
    pub fn committed(&mut self, positions: &BTreeMap<StreamId, u64>) -> BTreeMap<StreamId, Hash> {
        self.catalogue.reached(self.id, |reach| reach.committed.clone_from(positions));
        let views = self.snapshot.groups.iter().flat_map(|group| &group.streams);
        let views: BTreeMap<StreamId, &View> = views.map(|view| (view.id, &**view)).collect();
        self.given.retain(|stream, _| positions.contains_key(stream));
        for (stream, at) in positions {
            if let Some(anchors) = self.anchors.get_mut(stream) {
                anchors.forget(*at);
            }
            let fresh = self.given.get(stream).is_some_and(|(of, _)| of == at);
            if fresh || *at == 0 {
                continue;
            }
            self.given.remove(stream);
            // A compressed file does not change any more; its head is enough.
            if let Some(guard) = views.get(stream).and_then(|view| guard(view, *at)) {
                self.given.insert(*stream, (*at, guard));
            }
        }
        self.given.iter().map(|(stream, (_, hash))| (*stream, hash.clone())).collect()
    }

    /// From where the streams of container records are to be read again after a restart at these positions: what to
    /// save beside them.
    pub fn anchors(&self, positions: &BTreeMap<StreamId, u64>) -> BTreeMap<StreamId, u64> {
        let anchors = self.anchors.iter();
        anchors.filter_map(|(stream, anchors)| Some((*stream, anchors.of(*positions.get(stream)?)))).collect()
    }

    /// Waits until there may be something to read, or for `timeout`. Gives whether there may be.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.catalogue.wait(self.news, timeout);
        self.catalogue.news() != self.news
    }

    /// The bytes that are known to be unread: of compressed files only what is known of their length.
    pub fn lag_bytes(&self) -> u64 {
        // Not its own snapshot: that is old when its output hangs.
        let snapshot = self.catalogue.snapshot();
        let views = snapshot.groups.iter().flat_map(|group| &group.streams);
        let unread = |view: &Arc<View>| {
            let mark = self.marks.get(&view.id).copied().unwrap_or_default();
            if mark.done { 0 } else { view.length.saturating_sub(mark.at) }
        };
        views.map(unread).sum()
    }

    /// The places where something may be missing that were found since the last call; to be asked for with
    /// [`Source::lost`].
    pub fn gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
    }

    /// How far behind it is, in figures. `now` is compared with the files' times; while nothing changes, that of some
    /// seconds ago may be.
    pub fn figures(&self, now: SystemTime) -> Figures {
        let (snapshot, reached) = (self.catalogue.snapshot(), self.catalogue.reaches());
        let young = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age < FIGURED_EVERY);
        let mut figured = self.figured.borrow_mut();
        let same = |old: &&Figured| Arc::ptr_eq(&old.snapshot, &snapshot) && old.reached == reached;
        if let Some(old) = figured.as_ref().filter(same).filter(|old| young(old.at)) {
            return old.figures;
        }
        let figures = self.figure(&snapshot, now);
        *figured = Some(Figured { figures, snapshot, reached, at: now });
        figures
    }

    fn figure(&self, snapshot: &Snapshot, now: SystemTime) -> Figures {
        let views = snapshot.groups.iter().flat_map(|group| &group.streams);
        let unread = |view: &&Arc<View>| {
            let mark = self.marks.get(&view.id).copied().unwrap_or_default();
            view.file.as_ref().is_some_and(|held| match held.encoding {
                Encoding::Plain => mark.at < view.length,
                Encoding::Gzip | Encoding::Zstd => !mark.done,
            })
        };
        let age = |view: &View| now.duration_since(view.file.as_ref()?.stat.modified).ok();
        let unread: Vec<&Arc<View>> = views.filter(unread).collect();
        let lanes = self.lanes.values();
        Figures {
            lag_bytes: self.lag_bytes(),
            lag_files: unread.len() as u64,
            oldest_unread: unread.iter().filter(|view| !view.live).filter_map(|view| age(view)).max(),
            horizon: self.catalogue.horizon_of(self.id, now),
            hole_bytes: lanes.map(|lane| lane.splitter.hole_bytes()).sum(),
        }
    }

    /// The bytes of memory that its buffers hold.
    pub fn memory(&self) -> usize {
        self.lanes.values().map(|lane| lane.splitter.memory()).sum()
    }

    /// Takes the newest snapshot: what is gone is lost, what was truncated under a reader is closed.
    fn refresh(&mut self) {
        self.news = self.catalogue.news();
        let snapshot = self.catalogue.snapshot();
        if Arc::ptr_eq(&snapshot, &self.snapshot) {
            return;
        }
        let before = std::mem::replace(&mut self.snapshot, Arc::clone(&snapshot));
        if before.number == snapshot.number {
            // Some live files have grown, no more.
            for (index, (old, new)) in before.groups.iter().zip(&snapshot.groups).enumerate() {
                if !Arc::ptr_eq(old, new) {
                    self.rests.get_mut(index).into_iter().for_each(|rests| *rests = false);
                    self.lanes.get_mut(&new.group).into_iter().for_each(Lane::look_again);
                }
            }
            return;
        }
        self.rests.clear();
        self.lanes.values_mut().for_each(Lane::look_again);
        for group in &snapshot.groups {
            let lane = self.lanes.get(&group.group);
            let opened = lane.as_ref().and_then(|lane| lane.open.as_ref()).map(|open| open.stream);
            // What is still to be said of its last bytes comes before their loss.
            let open_run = lane.filter(|lane| lane.splitter.unfinished()).map(|lane| lane.splitter.stream());
            for view in group.streams.iter().filter(|view| view.gone && Some(view.id) != opened) {
                if open_run != Some(view.id) {
                    self.give_up(group, view);
                }
            }
            let Some(lane) = self.lanes.get_mut(&group.group) else { continue };
            let truncated = lane.open.as_ref().is_some_and(|open| {
                let key = |held: &Held| (held.stat.device, held.stat.inode);
                let same = |held: &Arc<Held>| key(held) == key(&open.held);
                group
                    .streams
                    .iter()
                    .any(|view| view.id != open.stream && view.file.as_ref().is_some_and(same))
            });
            if truncated {
                self.close(&group.group);
            }
        }
        let there: BTreeSet<StreamId> =
            snapshot.groups.iter().flat_map(|group| &group.streams).map(|view| view.id).collect();
        self.marks.retain(|stream, _| there.contains(stream));
        self.guards.retain(|stream, _| there.contains(stream));
        self.anchors.retain(|stream, _| there.contains(stream));
        self.met.retain(|stream| there.contains(stream));
    }

    /// A stream that nothing reaches any more.
    fn give_up(&mut self, group: &GroupView, view: &View) {
        let mark = self.marks.get(&view.id).copied().unwrap_or_default();
        if !mark.done && mark.at < view.length {
            let span = Span { stream: view.id, start: mark.at, end: view.length };
            self.lost.push(Lost { span, reason: view.reason, file: view.path.clone() });
        }
        self.finish(group, view, mark.at.max(view.length));
    }

    /// A stream is read to its end at `at`, or as far as it ever can be.
    fn finish(&mut self, group: &GroupView, view: &View, at: u64) {
        let before = self.marks.insert(view.id, Mark { at, done: true }).unwrap_or_default();
        // A compressed file that was never read to its end may have been of any length.
        let unmeasured = view.file.is_none()
            && !view.buried
            && (view.endless || view.length == 0 || before.at > view.length);
        if (view.edge || unmeasured) && !before.done {
            let mut later = group.streams.iter().skip_while(|other| other.id != view.id).skip(1);
            let next = later.find(|next| next.file.is_some());
            let before = next.map(|next| {
                let offset = self.marks.get(&next.id).map_or(0, |mark| mark.at);
                Edge { stream: next.id, offset, file: next.path.clone() }
            });
            self.gaps.push(Gap {
                input: self.catalogue.inputs()[group.group.input].name.clone(),
                after: Edge { stream: view.id, offset: at, file: view.path.clone() },
                before,
                last_event: self.last_event,
            });
        }
        self.publish(view.id);
    }

    fn publish(&self, stream: StreamId) {
        let Some(mark) = self.marks.get(&stream) else { return };
        self.catalogue.reached(self.id, |reach| {
            reach.read.insert(stream, mark.at);
            if mark.done {
                reach.done.insert(stream);
            } else {
                reach.done.remove(&stream);
            }
        });
    }

    /// Closes the open stream of a lane where its lines are; inside a run it is to go on where it was read to.
    fn close(&mut self, group: &Group) {
        let Some(lane) = self.lanes.get_mut(group) else { return };
        let Some(open) = lane.open.take() else { return };
        lane.next = lane.splitter.unfinished().then_some(open.stream);
        self.marks.insert(open.stream, Mark { at: lane.splitter.position(), done: false });
        if let Some(last) = open.reader.last() {
            self.guards.insert(open.stream, (open.reader.offset(), Hash::of(last)));
        }
        self.publish(open.stream);
    }

    /// Closes the open stream of a lane for good at `at`.
    fn close_done(&mut self, group: &GroupView, at: u64) {
        let Some(open) = self.lanes.get_mut(&group.group).and_then(|lane| lane.open.take()) else { return };
        self.guards.remove(&open.stream);
        match group.streams.iter().find(|view| view.id == open.stream) {
            Some(view) => self.finish(group, view, at),
            None => drop(self.marks.insert(open.stream, Mark { at, done: true })),
        }
        self.publish(open.stream);
    }

    /// What to open next in a lane where nothing is open.
    fn pick(&mut self, view: &GroupView) -> Pick {
        let Some(lane) = self.lanes.get_mut(&view.group) else { return Pick::Wait };
        if lane.splitter.unfinished() {
            let next = view.streams.iter().find(|view| Some(view.id) == lane.next);
            return match next {
                Some(next) if next.file.is_some() => Pick::Open(Arc::clone(next)),
                Some(next) if !next.gone => Pick::Wait,
                _ => Pick::Abandon,
            };
        }
        while let Some(stream) = view.streams.get(lane.passed) {
            let mark = self.marks.get(&stream.id).copied().unwrap_or_default();
            match &stream.file {
                Some(held) if mark.done && !grew(held, mark) => {}
                Some(_) => return Pick::Open(Arc::clone(stream)),
                None if mark.done || stream.gone => {}
                // Between two names: the next scan finds it, or finds it gone.
                None => return Pick::Wait,
            }
            lane.passed += 1;
        }
        Pick::Wait
    }

    /// Opens a stream at its mark. `false`: not now; the next scan will say what it is.
    fn open(&mut self, group: &GroupView, view: &View) -> Result<bool, Error> {
        let Some(held) = view.file.clone() else { return Ok(false) };
        let at = self.marks.get(&view.id).map_or(0, |mark| mark.at);
        match self.open_at(group, view, &held, at) {
            // Renamed or removed since the scan.
            Err(error) if is_stale(&error) => Ok(false),
            Err(error) => Err(Error::Read { path: held.path.clone(), offset: at, error }),
            Ok(opened) => Ok(opened),
        }
    }

    fn open_at(
        &mut self,
        group: &GroupView,
        view: &View,
        held: &Arc<Held>,
        at: u64,
    ) -> std::io::Result<bool> {
        let Some(lane) = self.lanes.get_mut(&group.group) else { return Ok(false) };
        // Opened before the head is looked at: where that is right, so is what the reader has seen.
        let mut reader = Reader::guarded(held)?;
        let head = held.head()?;
        let joins = lane.format.may_join(&head);
        let interrupted = lane.splitter.unfinished() && lane.splitter.stream() == view.id;
        let from = match self.anchors.get(&view.id) {
            _ if interrupted => lane.splitter.fed(),
            _ if !joins => at,
            Some(anchors) => anchors.of(at),
            None => 0,
        };
        let size = held.look()?.stat.size;
        let plain = held.encoding == Encoding::Plain;
        let copied = plain && !view.live && self.met.contains(&view.id);
        if copied && interrupted && from > size {
            // What followed is nowhere: the run is to be given up.
            lane.next = None;
            return Ok(false);
        }
        if copied && at > size && view.head.begins(&head) {
            // Its bytes were read from another file, of which this is a copy that was made before its last lines.
            self.finish(group, view, at);
            return Ok(true);
        }
        let (reached, skipped) = reader.skip_to(from)?;
        let stands = match self.guards.get(&view.id) {
            // A copy that ends between the last whole line and the last byte read.
            Some((offset, _)) if copied && *offset > size => true,
            Some((offset, guard)) if plain => {
                held.before(*offset)?.is_some_and(|bytes| Hash::of(&bytes) == *guard)
            }
            Some((offset, guard)) if *offset == from && reached == from => Hash::of(&skipped) == *guard,
            _ => !plain || at <= size,
        };
        if !stands || !view.head.begins(&head) {
            tracing::warn!(stream = %view.id, at, "a file no longer holds what was read from it");
            self.catalogue.disown(view.id, &held.stat);
            return Ok(false);
        }
        if !interrupted {
            let carried = self.anchors.get_mut(&lane.splitter.stream());
            if let Some(before) = carried.filter(|_| lane.splitter.unfinished()) {
                before.end(lane.splitter.fed());
            }
            lane.splitter.begin(view.id, from, at);
            if joins {
                self.anchors.entry(view.id).or_default().begin(from);
            }
        }
        lane.open = Some(Open { stream: view.id, reader, held: Arc::clone(held) });
        (lane.next, lane.waits) = (None, false);
        self.guards.remove(&view.id);
        self.met.insert(view.id);
        self.marks.entry(view.id).or_default().done = false;
        Ok(true)
    }

    /// One step of one lane.
    fn step(&mut self, view: &GroupView, each: &mut dyn FnMut(Line<'_>, &Pieces)) -> Result<Progress, Error> {
        let input = &self.catalogue.inputs()[view.group.input];
        let (format, limit) = (input.format, input.max_line);
        let lane = self.lanes.entry(view.group.clone()).or_insert_with(|| Lane {
            splitter: Splitter::new(StreamId(0), format, limit),
            format,
            open: None,
            next: None,
            passed: 0,
            waits: false,
        });
        let Some(open) = &mut lane.open else {
            return match self.pick(view) {
                Pick::Wait => Ok(Progress::Idle),
                Pick::Open(stream) => {
                    let opened = self.open(view, &stream)?;
                    Ok(if opened { Progress::More } else { Progress::Idle })
                }
                Pick::Abandon => {
                    self.abandon(&view.group, each);
                    Ok(Progress::More)
                }
            };
        };
        let stream = open.stream;
        match open.reader.read(lane.splitter.space()) {
            Ok(Got::Bytes(count)) => {
                lane.splitter.filled(count);
                while let Some((line, pieces)) = lane.splitter.next() {
                    each(line, pieces);
                }
                note(&mut self.anchors, &mut lane.splitter);
                let at = lane.splitter.position();
                self.marks.entry(stream).or_default().at = at;
                self.publish(stream);
                Ok(Progress::More)
            }
            Ok(Got::End) => Ok(self.at_end(view, stream, each)),
            Ok(Got::Corrupt) => Ok(self.at_corrupt(view, stream, each)),
            Ok(Got::Rewritten) => Ok(self.at_rewritten(view, each)),
            Err(error) => {
                let (path, offset) = (open.held.path.clone(), open.reader.offset());
                self.close(&view.group);
                // Removed or let go: the next scan says what of.
                if is_stale(&error) { Ok(Progress::Idle) } else { Err(Error::Read { path, offset, error }) }
            }
        }
    }

    /// The file was truncated or rewritten under us: what it holds now is another stream.
    fn at_rewritten(&mut self, view: &GroupView, each: &mut dyn FnMut(Line<'_>, &Pieces)) -> Progress {
        let Some(lane) = self.lanes.get_mut(&view.group) else { return Progress::Idle };
        let Some(open) = &lane.open else { return Progress::Idle };
        let (stream, stat) = (open.stream, open.held.stat);
        tracing::warn!(%stream, at = lane.splitter.position(), "a file was truncated or rewritten");
        abandon(&mut lane.splitter, each);
        note(&mut self.anchors, &mut lane.splitter);
        self.close(&view.group);
        self.catalogue.disown(stream, &stat);
        Progress::Idle
    }

    /// The open stream is read to its end: is it finished, or does it wait?
    fn at_end(
        &mut self,
        view: &GroupView,
        stream: StreamId,
        each: &mut dyn FnMut(Line<'_>, &Pieces),
    ) -> Progress {
        if self.lanes.get(&view.group).is_some_and(|lane| lane.waits) {
            return Progress::Idle;
        }
        let Some(index) = view.streams.iter().position(|other| other.id == stream) else {
            self.close(&view.group);
            return Progress::More;
        };
        let (before, rest) = view.streams.split_at(index);
        let successor = rest.iter().skip(1).find(|next| next.file.is_some());
        let Some(lane) = self.lanes.get_mut(&view.group) else { return Progress::Idle };
        let Some(successor) = successor.filter(|_| !rest[0].live) else {
            let late = before.iter().any(|older| {
                let mark = self.marks.get(&older.id).copied().unwrap_or_default();
                older.file.as_ref().is_some_and(|held| !mark.done || grew(held, mark))
            });
            lane.waits = !late;
            if !late || lane.splitter.unfinished() {
                return Progress::Idle;
            }
            self.close(&view.group);
            return Progress::More;
        };
        let (length, path) = (rest[0].length, rest[0].path.clone());
        let place = |held: &Held| (held.stat.device, held.stat.inode);
        let elsewhere = match (&rest[0].file, &lane.open) {
            (Some(file), Some(open)) => place(file) != place(&open.held),
            _ => false,
        };
        if lane.splitter.fed() < length && elsewhere {
            // It was truncated before it was read, and the rest is in a copy.
            self.close(&view.group);
            return Progress::More;
        }
        let direct = rest.get(1).is_some_and(|next| next.id == successor.id);
        while let Some((line, pieces)) = lane.splitter.finish() {
            each(line, pieces);
        }
        if lane.splitter.unfinished() && direct && !lane.splitter.carries() {
            lane.next = Some(successor.id);
        } else {
            abandon(&mut lane.splitter, each);
        }
        note(&mut self.anchors, &mut lane.splitter);
        // What is carried is read, too: it is settled with the line that it belongs to.
        let at = lane.splitter.fed();
        if at < length {
            let span = Span { stream, start: at, end: length };
            self.lost.push(Lost { span, reason: "truncated", file: path });
        }
        self.close_done(view, at.max(length));
        Progress::More
    }

    /// The rest of the open stream does not decode: it is still being written, or lost.
    fn at_corrupt(
        &mut self,
        view: &GroupView,
        stream: StreamId,
        each: &mut dyn FnMut(Line<'_>, &Pieces),
    ) -> Progress {
        let seen = view.streams.iter().find(|other| other.id == stream);
        let Some(lane) = self.lanes.get_mut(&view.group) else { return Progress::Idle };
        let Some(open) = &mut lane.open else { return Progress::Idle };
        if let Some(seen) = seen.filter(|seen| seen.quiet < SETTLED) {
            let Some(held) = seen.file.as_ref().filter(|held| held.stat != open.held.stat) else {
                return Progress::Idle;
            };
            // More of it has been written: decode it again, up to here.
            let mut reader = Reader::new(held);
            if reader.skip_to(lane.splitter.fed()).is_ok_and(|(reached, _)| reached == lane.splitter.fed()) {
                *open = Open { stream, reader, held: Arc::clone(held) };
                return Progress::More;
            }
            return Progress::Idle;
        }
        let held = Arc::clone(&open.held);
        // The bytes left on disk are the least that is lost; and something is, or it would have decoded.
        let left = held.stat.size.saturating_sub(open.reader.taken()).max(1);
        while let Some((line, pieces)) = lane.splitter.finish() {
            each(line, pieces);
        }
        abandon(&mut lane.splitter, each);
        note(&mut self.anchors, &mut lane.splitter);
        let start = lane.splitter.position();
        let end = seen.map_or(0, |seen| seen.length).max(start + left);
        let span = Span { stream, start, end };
        self.lost.push(Lost { span, reason: held.encoding.corrupt(), file: held.path.clone() });
        self.close_done(view, end);
        Progress::More
    }

    fn abandon(&mut self, group: &Group, each: &mut dyn FnMut(Line<'_>, &Pieces)) {
        let Some(lane) = self.lanes.get_mut(group) else { return };
        abandon(&mut lane.splitter, each);
        note(&mut self.anchors, &mut lane.splitter);
        let (stream, at) = (lane.splitter.stream(), lane.splitter.position());
        if let Some(mark) = self.marks.get_mut(&stream) {
            mark.at = mark.at.max(at);
        }
    }
}

impl Source for Follower {
    fn read_pieces(&mut self, each: &mut dyn FnMut(Line<'_>, &Pieces)) -> Result<Progress, Error> {
        self.refresh();
        if !self.lost.is_empty() {
            // To be told of before any line that follows.
            return Ok(Progress::More);
        }
        let snapshot = Arc::clone(&self.snapshot);
        let count = snapshot.groups.len();
        self.rests.resize(count, false);
        let first = self.turn;
        for offset in 0..count {
            let index = (first + offset) % count;
            if count > FEW && self.rests[index] {
                continue;
            }
            // Where one input fails, the others go on with the next call.
            self.turn = index + 1;
            if self.step(&snapshot.groups[index], each)? == Progress::More {
                return Ok(Progress::More);
            }
            self.rests[index] = true;
        }
        Ok(Progress::Idle)
    }

    fn lost(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.lost)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.catalogue.leave(self.id);
    }
}

fn abandon(splitter: &mut Splitter, each: &mut dyn FnMut(Line<'_>, &Pieces)) {
    while let Some((line, pieces)) = splitter.abandon() {
        each(line, pieces);
    }
}

/// Notes in which stretches of its stream a splitter had runs open.
fn note(anchors: &mut BTreeMap<StreamId, Anchors>, splitter: &mut Splitter) {
    if let Some(anchors) = anchors.get_mut(&splitter.stream()) {
        let quiet = splitter.anchor();
        anchors.extend(splitter.stretches(), quiet);
    }
}

/// What stands before `at`. Looked at before the head: where that still stands, so did this.
fn guard(view: &View, at: u64) -> Option<Hash> {
    let held = view.file.as_ref()?;
    let bytes = held.before(at).ok()??;
    held.head().is_ok_and(|head| view.head.begins(&head)).then(|| Hash::of(&bytes))
}

/// Whether a file that was finished has more.
fn grew(held: &Held, mark: Mark) -> bool {
    held.encoding == Encoding::Plain && held.stat.size > mark.at
}

/// Where a consumer without a checkpoint begins in a stream; `None`: at its first byte.
fn start(view: &View, start_at: StartAt, limit: usize, snapshot: &Snapshot) -> Result<Option<u64>, Error> {
    let Some(held) = &view.file else {
        // It was gone before this consumer came: nothing of it was ever promised to it.
        return Ok(Some(view.length));
    };
    let passed = match start_at {
        StartAt::Beginning => false,
        StartAt::End => !view.live,
        StartAt::Since(since) => {
            let from = snapshot.taken.and_then(|now| now.checked_sub(since));
            !view.live && from.is_some_and(|from| held.stat.modified < from)
        }
    };
    let failed = |error| Error::Read { path: held.path.clone(), offset: 0, error };
    if passed {
        return held.content_length().map(Some).map_err(failed);
    }
    if start_at == StartAt::End {
        return held.line_start(held.stat.size, limit).map(Some).map_err(failed);
    }
    Ok(None)
}

fn micros(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    if micros < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}
