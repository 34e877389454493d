//! One consumer's way through the files: oldest first, from exact offsets, through every rotation.
//!
//! It owns the cursor of each stream and the decision what to read next, from the catalogue's snapshots; the reading
//! itself is done in `files`. Nothing here asks what time it is.
//!
//! Rules. A stream is finished when it has been read to its end *after* a scan that saw it rotated and saw a
//! successor with content: then its writer has moved on, and what is left without a terminator is its last line. A
//! live file's last partial line waits. A finished plain file that grows all the same (two API servers overlapping)
//! is read again from where it ended. What no descriptor reaches any more is lost, by its known range.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use auditship_event::{Line, Span, StreamId};

use crate::catalogue::{Catalogue, GroupView, Reach, Snapshot, StartAt, View};
use crate::checkpoint::{Hash, Position};
use crate::cri::Pieces;
use crate::files::{Encoding, Got, Held, Reader};
use crate::lines::{Format, Splitter};
use crate::roster::Group;
use crate::source::{Error, Lost, Progress, Source};

/// How long a compressed file that does not decode to its end must not have changed before its rest is given up.
const SETTLED: Duration = Duration::from_secs(60);

/// A cursor of all the streams that the catalogue knows.
pub struct Follower {
    catalogue: Arc<Catalogue>,
    id: u64,
    snapshot: Arc<Snapshot>,
    news: u64,
    marks: BTreeMap<StreamId, Mark>,
    /// What must stand before the restored positions; each is looked at once.
    guards: BTreeMap<StreamId, Hash>,
    /// The guards that were last given out.
    given: BTreeMap<StreamId, (u64, Hash)>,
    lanes: BTreeMap<Group, Lane>,
    turn: usize,
    lost: Vec<Lost>,
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
}

struct Open {
    stream: StreamId,
    reader: Reader,
    held: Arc<Held>,
}

/// What a lane can do.
enum Pick {
    Open(View),
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
                if let Some(at) = start(view, input.start_at, input.max_line, &snapshot)? {
                    marks.insert(view.id, Mark { at, done: !view.live });
                }
            }
        }
        let guards = restored.map(|restored| restored.guards.clone()).unwrap_or_default();
        let read: BTreeMap<StreamId, u64> = marks.iter().map(|(stream, mark)| (*stream, mark.at)).collect();
        let done = marks.iter().filter(|(_, mark)| mark.done).map(|(stream, _)| *stream).collect();
        let id = catalogue.join(Reach { committed: read.clone(), read, done });
        let (lanes, given) = Default::default();
        Ok(Follower { catalogue, id, snapshot, news, marks, guards, given, lanes, turn: 0, lost: Vec::new() })
    }

    /// Where it is in each stream that it knows: at the beginning, what the ledger begins with.
    pub fn positions(&self) -> BTreeMap<StreamId, u64> {
        self.marks.iter().map(|(stream, mark)| (*stream, mark.at)).collect()
    }

    /// Tells what is settled. Gives the guards to save beside these positions: hashes of what stands before them.
    pub fn committed(&mut self, positions: &BTreeMap<StreamId, u64>) -> BTreeMap<StreamId, Hash> {
        self.catalogue.reached(self.id, |reach| reach.committed.clone_from(positions));
        let views = self.snapshot.groups.iter().flat_map(|group| &group.streams);
        let files: BTreeMap<StreamId, &Arc<Held>> =
            views.filter_map(|view| Some((view.id, view.file.as_ref()?))).collect();
        self.given.retain(|stream, _| positions.contains_key(stream));
        for (stream, at) in positions {
            let fresh = self.given.get(stream).is_some_and(|(of, _)| of == at);
            if fresh || *at == 0 {
                continue;
            }
            self.given.remove(stream);
            // A compressed file does not change any more; its head is enough.
            if let Some(Ok(Some(bytes))) = files.get(stream).map(|held| held.before(*at)) {
                self.given.insert(*stream, (*at, Hash::of(&bytes)));
            }
        }
        self.given.iter().map(|(stream, (_, hash))| (*stream, hash.clone())).collect()
    }

    /// Waits until there may be something to read, or for `timeout`.
    pub fn wait(&self, timeout: Duration) {
        self.catalogue.wait(self.news, timeout);
    }

    /// The bytes that are known to be unread: of compressed files only what is known of their length.
    pub fn lag_bytes(&self) -> u64 {
        let views = self.snapshot.groups.iter().flat_map(|group| &group.streams);
        let unread = |view: &View| {
            let mark = self.marks.get(&view.id).copied().unwrap_or_default();
            if mark.done { 0 } else { view.length.saturating_sub(mark.at) }
        };
        views.map(unread).sum()
    }

    /// The bytes of memory that its buffers hold.
    pub fn memory(&self) -> usize {
        self.lanes.values().map(|lane| lane.splitter.memory()).sum()
    }

    /// Takes the newest snapshot: what is gone is lost, what was truncated under a reader is closed.
    fn refresh(&mut self) {
        self.news = self.catalogue.news();
        let snapshot = self.catalogue.snapshot();
        if snapshot.number == self.snapshot.number {
            return;
        }
        self.snapshot = snapshot;
        let snapshot = Arc::clone(&self.snapshot);
        for group in &snapshot.groups {
            let lane = self.lanes.get_mut(&group.group);
            let opened = lane.as_ref().and_then(|lane| lane.open.as_ref()).map(|open| open.stream);
            for view in group.streams.iter().filter(|view| view.gone && Some(view.id) != opened) {
                self.give_up(view);
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
                self.close(&group.group, Mark { done: false, ..Mark::default() });
            }
        }
        let there: BTreeSet<StreamId> =
            snapshot.groups.iter().flat_map(|group| &group.streams).map(|view| view.id).collect();
        self.marks.retain(|stream, _| there.contains(stream));
    }

    /// A stream that nothing reaches any more.
    fn give_up(&mut self, view: &View) {
        let mark = self.marks.entry(view.id).or_default();
        if !mark.done && mark.at < view.length {
            let span = Span { stream: view.id, start: mark.at, end: view.length };
            let reason = if view.released { "released" } else { "deleted" };
            self.lost.push(Lost { span, reason, file: view.path.clone() });
        }
        *mark = Mark { at: mark.at.max(view.length), done: true };
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

    /// Closes the open stream of a lane, `at` the further of where its lines are and `mark.at`.
    fn close(&mut self, group: &Group, mark: Mark) {
        let Some(lane) = self.lanes.get_mut(group) else { return };
        let Some(open) = lane.open.take() else { return };
        let at = lane.splitter.position().max(mark.at);
        self.marks.insert(open.stream, Mark { at, done: mark.done });
        self.publish(open.stream);
    }

    /// What to open next in a lane where nothing is open.
    fn pick(&self, view: &GroupView, lane: &Lane) -> Pick {
        if lane.splitter.unfinished() {
            let next = view.streams.iter().find(|view| Some(view.id) == lane.next);
            return match next {
                Some(next) if next.file.is_some() => Pick::Open(next.clone()),
                Some(next) if !next.gone => Pick::Wait,
                _ => Pick::Abandon,
            };
        }
        for stream in &view.streams {
            let mark = self.marks.get(&stream.id).copied().unwrap_or_default();
            match &stream.file {
                Some(held) if mark.done && !grew(held, mark) => {}
                Some(_) => return Pick::Open(stream.clone()),
                None if mark.done || stream.gone => {}
                // Between two names: the next scan finds it, or finds it gone.
                None => return Pick::Wait,
            }
        }
        Pick::Wait
    }

    /// Opens a stream at its mark. `false`: its content is not what it was, the catalogue will say what it is now.
    fn open(&mut self, group: &Group, view: &View) -> Result<bool, Error> {
        let Some(held) = view.file.clone() else { return Ok(false) };
        let at = self.marks.get(&view.id).map_or(0, |mark| mark.at);
        let failed = |error| Error::Read { path: held.path.clone(), offset: at, error };
        let Some(lane) = self.lanes.get_mut(group) else { return Ok(false) };
        let joins = lane.format.may_join(&held.head().map_err(failed)?);
        let from = if joins { 0 } else { at };
        let mut reader = Reader::new(&held);
        let (reached, skipped) = reader.skip_to(from).map_err(failed)?;
        let before = match held.before(at).map_err(failed)? {
            Some(before) => Some(before),
            None => (!joins && reached == from).then_some(skipped),
        };
        let guard = self.guards.remove(&view.id);
        let rewritten = match (guard, before) {
            (Some(guard), Some(before)) => Hash::of(&before) != guard,
            _ => held.encoding == Encoding::Plain && at > held.look().map_err(failed)?.stat.size,
        };
        if rewritten {
            tracing::warn!(stream = %view.id, at, "a file no longer holds what was read from it");
            self.catalogue.disown(view.id);
            return Ok(false);
        }
        lane.splitter.begin(view.id, from, at);
        lane.open = Some(Open { stream: view.id, reader, held });
        lane.next = None;
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
        });
        let Some(open) = &mut lane.open else {
            let lane = &self.lanes[&view.group];
            return match self.pick(view, lane) {
                Pick::Wait => Ok(Progress::Idle),
                Pick::Open(stream) => {
                    let opened = self.open(&view.group, &stream)?;
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
                let at = lane.splitter.position();
                self.marks.entry(stream).or_default().at = at;
                self.publish(stream);
                Ok(Progress::More)
            }
            Ok(Got::End) => Ok(self.at_end(view, stream, each)),
            Ok(Got::Corrupt) => Ok(self.at_corrupt(view, stream, each)),
            Err(error) => {
                let (path, offset) = (open.held.path.clone(), open.reader.offset());
                self.close(&view.group, Mark::default());
                Err(Error::Read { path, offset, error })
            }
        }
    }

    /// The open stream is read to its end: is it finished, or does it wait?
    fn at_end(
        &mut self,
        view: &GroupView,
        stream: StreamId,
        each: &mut dyn FnMut(Line<'_>, &Pieces),
    ) -> Progress {
        let Some(index) = view.streams.iter().position(|other| other.id == stream) else {
            self.close(&view.group, Mark::default());
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
            if !late || lane.splitter.unfinished() {
                return Progress::Idle;
            }
            self.close(&view.group, Mark::default());
            return Progress::More;
        };
        let direct = rest.get(1).is_some_and(|next| next.id == successor.id);
        while let Some((line, pieces)) = lane.splitter.finish() {
            each(line, pieces);
        }
        if lane.splitter.unfinished() && direct && !lane.splitter.carries() {
            lane.next = Some(successor.id);
        } else {
            abandon(&mut lane.splitter, each);
        }
        // What is carried is read, too: it is settled with the line that it belongs to.
        let at = lane.splitter.fed();
        self.close(&view.group, Mark { at, done: true });
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
        let start = lane.splitter.position();
        let end = seen.map_or(0, |seen| seen.length).max(start + left);
        let span = Span { stream, start, end };
        self.lost.push(Lost { span, reason: held.encoding.corrupt(), file: held.path.clone() });
        self.close(&view.group, Mark { at: end, done: true });
        Progress::More
    }

    fn abandon(&mut self, group: &Group, each: &mut dyn FnMut(Line<'_>, &Pieces)) {
        if let Some(lane) = self.lanes.get_mut(group) {
            abandon(&mut lane.splitter, each);
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
        for offset in 0..count {
            let index = (self.turn + offset) % count;
            // Where one input fails, the others go on with the next call.
            self.turn = index + 1;
            if self.step(&snapshot.groups[index], each)? == Progress::More {
                return Ok(Progress::More);
            }
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
