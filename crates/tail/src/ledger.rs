//! Which lines of one consumer are open, and how far it may be saved.
//!
//! It owns the law: every span that is read is settled exactly once, and no position passes an open span. It knows
//! neither files nor lines' content. Lines of one stream must be told in the order of their spans.
//!
//! Memory: one entry per open line, and one per run of lines of the same class between them, so millions of dropped
//! lines behind one open line cost one entry. [`Ledger::entries`] is what back-pressure looks at. A stream that is
//! settled holds no memory for entries, and one that was far behind gives back what it needed.

use std::collections::{BTreeMap, HashMap, VecDeque};

use auditship_event::{Span, StreamId};
use serde::{Deserialize, Serialize};

/// The classes that have a name: a rule's, a route's, a reason's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClassKind {
    /// By a filter rule.
    Dropped,
    /// By a route.
    Thinned,
    /// By a route, into a summary.
    RolledUp,
    /// Not an audit event by form, by reason.
    Skipped,
}

/// What became of a line. The numbers are [`Ledger::name`]'s and mean something in their ledger only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Every record of it was delivered.
    Delivered,
    /// A record of it was refused for good, and none is open.
    DeadLettered,
    /// The routes sent it to other outputs only.
    Elsewhere,
    /// No route matched.
    Unrouted,
    /// Dropped by this filter rule.
    Dropped(u16),
    /// Thinned by this route.
    Thinned(u16),
    /// Rolled up by this route.
    RolledUp(u16),
    /// Skipped for this reason.
    Skipped(u16),
}

/// How one record of an open line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AckResult {
    /// The backend has it.
    Delivered,
    /// The dead-letter file has it.
    DeadLettered,
}

/// The law in numbers. Saved in the checkpoint beside the positions that it agrees with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Totals {
    /// Lines.
    pub read_lines: u64,
    /// Bytes of their spans, uncompressed.
    pub read_bytes: u64,
    /// Lines of this class; so are the following.
    pub delivered: u64,
    /// By rule.
    pub dropped: BTreeMap<String, u64>,
    /// By route.
    pub thinned: BTreeMap<String, u64>,
    /// By route.
    pub rolled_up: BTreeMap<String, u64>,
    /// Sent to other outputs only.
    pub elsewhere: u64,
    /// No route matched.
    pub unrouted: u64,
    /// By reason.
    pub skipped: BTreeMap<String, u64>,
    /// Refused for good, and kept.
    pub dead_lettered: u64,
    /// Not settled yet.
    pub open: u64,
    /// Bytes that can no longer be read, by reason; never part of `read_bytes`.
    pub lost_bytes: BTreeMap<String, u64>,
}

impl Totals {
    /// Whether the law holds.
    pub fn adds_up(&self) -> bool {
        let named = [&self.dropped, &self.thinned, &self.rolled_up, &self.skipped];
        let named: u64 = named.iter().flat_map(|map| map.values()).sum();
        let plain = self.delivered + self.elsewhere + self.unrouted + self.dead_lettered + self.open;
        self.read_lines == named + plain
    }
}

/// Counts by class number, so that settling a line costs no look-up by name.
#[derive(Clone, Default)]
struct Counts {
    read_lines: u64,
    read_bytes: u64,
    delivered: u64,
    elsewhere: u64,
    unrouted: u64,
    dead_lettered: u64,
    named: [Vec<u64>; 4],
    lost: BTreeMap<String, u64>,
}

impl Counts {
    fn add(&mut self, class: Class, lines: u64) {
        let (kind, number) = match class {
            Class::Delivered => return self.delivered += lines,
            Class::DeadLettered => return self.dead_lettered += lines,
            Class::Elsewhere => return self.elsewhere += lines,
            Class::Unrouted => return self.unrouted += lines,
            Class::Dropped(number) => (ClassKind::Dropped, number),
            Class::Thinned(number) => (ClassKind::Thinned, number),
            Class::RolledUp(number) => (ClassKind::RolledUp, number),
            Class::Skipped(number) => (ClassKind::Skipped, number),
        };
        let column = &mut self.named[kind as usize];
        let number = usize::from(number);
        if column.len() <= number {
            column.resize(number + 1, 0);
        }
        column[number] += lines;
    }

    fn lose(&mut self, reason: &str, bytes: u64) {
        match self.lost.get_mut(reason) {
            Some(count) => *count += bytes,
            None => drop(self.lost.insert(reason.to_owned(), bytes)),
        }
    }

    fn settled(&self) -> u64 {
        let named: u64 = self.named.iter().flatten().sum();
        named + self.delivered + self.elsewhere + self.unrouted + self.dead_lettered
    }
}

/// What a consumer knows of one stream.
#[derive(Default)]
struct Lane {
    /// Everything before it is settled.
    position: u64,
    /// What is told of already.
    end: u64,
    entries: VecDeque<Entry>,
}

/// A piece of a stream between its position and its end. Tickets grow within a lane.
struct Entry {
    ticket: u64,
    end: u64,
    bytes: u64,
    what: What,
}

enum What {
    /// This many lines of one class.
    Settled(Class, u64),
    /// One line; `parts` of its records are open. `carried` is the stream where it began: boxed, for it is rare and
    /// there are many lines.
    Line { parts: u32, worst: Class, carried: Option<Box<StreamId>> },
    /// The beginning of a line whose end is in `stream`: passed together with it.
    Tied { stream: StreamId },
    /// A number in [`Ledger::reasons`].
    Lost(u16),
}

impl Lane {
    /// Takes the first entry out, and gives back memory that is not needed any more.
    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        let (used, held) = (self.entries.len(), self.entries.capacity());
        if used == 0 {
            self.entries = VecDeque::new();
        } else if held > ENTRIES_KEPT && used < held / 4 {
            self.entries.shrink_to(held / 2);
        }
        Some(entry)
    }
}

/// Room for so many entries is never given back one half after the other.
const ENTRIES_KEPT: usize = 1024;

/// The ledger of one consumer.
#[derive(Default)]
pub struct Ledger {
    lanes: BTreeMap<StreamId, Lane>,
    /// Where the open lines are.
    open: HashMap<u64, StreamId>,
    next_ticket: u64,
    names: [Vec<String>; 4],
    /// Why bytes were lost.
    reasons: Vec<String>,
    all: Counts,
    committed: Counts,
    entries: usize,
    faults: u64,
}

/// How many names one kind may have; the last one stands for all that follow.
const NAMES: usize = u16::MAX as usize;

impl Ledger {
    /// A ledger that goes on from a checkpoint; `Ledger::default()` begins anew.
    pub fn new(positions: &BTreeMap<StreamId, u64>, restored: &Totals) -> Ledger {
        let mut ledger = Ledger::default();
        for (stream, position) in positions {
            let lane = Lane { position: *position, end: *position, entries: VecDeque::new() };
            ledger.lanes.insert(*stream, lane);
        }
        let counts = &mut ledger.committed;
        counts.read_lines = restored.read_lines - restored.open.min(restored.read_lines);
        counts.read_bytes = restored.read_bytes;
        counts.delivered = restored.delivered;
        counts.elsewhere = restored.elsewhere;
        counts.unrouted = restored.unrouted;
        counts.dead_lettered = restored.dead_lettered;
        counts.lost = restored.lost_bytes.clone();
        for (kind, column) in [
            (ClassKind::Dropped, &restored.dropped),
            (ClassKind::Thinned, &restored.thinned),
            (ClassKind::RolledUp, &restored.rolled_up),
            (ClassKind::Skipped, &restored.skipped),
        ] {
            for (name, lines) in column {
                let class = ledger.name(kind, name);
                ledger.committed.add(class, *lines);
            }
        }
        ledger.all = ledger.committed.clone();
        ledger
    }

    /// The class of this name; the same name always gives the same class.
    pub fn name(&mut self, kind: ClassKind, name: &str) -> Class {
        let names = &mut self.names[kind as usize];
        let number = names.iter().position(|known| known == name).unwrap_or_else(|| {
            if names.len() < NAMES {
                names.push(if names.len() + 1 == NAMES { "other".to_owned() } else { name.to_owned() });
            }
            names.len() - 1
        });
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        match kind {
            ClassKind::Dropped => Class::Dropped(number),
            ClassKind::Thinned => Class::Thinned(number),
            ClassKind::RolledUp => Class::RolledUp(number),
            ClassKind::Skipped => Class::Skipped(number),
        }
    }

    /// Tells of a line that was decided at once.
    pub fn settle(&mut self, span: Span, carried: Option<Span>, class: Class) {
        self.read(span, carried);
        self.all.add(class, 1);
        let lane = self.lanes.entry(span.stream).or_default();
        if carried.is_none() {
            if let Some(Entry { end, bytes, what: What::Settled(last, lines), .. }) = lane.entries.back_mut()
                && *last == class
            {
                *lines += 1;
                *bytes += span.len();
                *end = span.end;
                return;
            }
            if lane.entries.is_empty() {
                // Nothing is open before it: it is committed as it comes.
                lane.position = span.end;
                self.committed.read_lines += 1;
                self.committed.read_bytes += span.len();
                self.committed.add(class, 1);
                return;
            }
            self.push(span, What::Settled(class, 1));
            return;
        }
        self.line(span, carried, 0, class);
        self.advance(span.stream);
    }

    /// Tells of a line that went into `parts` records (at least one). Every one must be acknowledged.
    pub fn open(&mut self, span: Span, carried: Option<Span>, parts: u32) -> u64 {
        self.read(span, carried);
        let ticket = self.line(span, carried, parts.max(1), Class::Delivered);
        self.open.insert(ticket, span.stream);
        ticket
    }

    /// One record of a line is settled. A ticket that is not open is counted ([`Ledger::faults`]), nothing else.
    pub fn ack(&mut self, ticket: u64, result: AckResult) {
        let Some(stream) = self.open.get(&ticket).copied() else {
            self.faults += 1;
            return;
        };
        let found = self.lanes.get_mut(&stream).and_then(|lane| {
            let index = lane.entries.binary_search_by_key(&ticket, |entry| entry.ticket).ok()?;
            lane.entries.get_mut(index)
        });
        let Some(Entry { what: What::Line { parts, worst, .. }, .. }) = found else {
            self.faults += 1;
            return;
        };
        if result == AckResult::DeadLettered {
            *worst = Class::DeadLettered;
        }
        *parts -= 1;
        if *parts == 0 {
            let class = *worst;
            self.open.remove(&ticket);
            let (used, held) = (self.open.len(), self.open.capacity());
            if held > ENTRIES_KEPT && used < held / 8 {
                self.open.shrink_to(held / 4);
            }
            self.all.add(class, 1);
            self.advance(stream);
        }
    }

    /// Tells that these bytes can never be read.
    pub fn lost(&mut self, reason: &str, span: Span) {
        self.follow(span);
        self.all.lose(reason, span.len());
        let reason = self.reason(reason);
        self.push(span, What::Lost(reason));
        self.advance(span.stream);
    }

    /// The number of a reason, of which there are a handful.
    fn reason(&mut self, reason: &str) -> u16 {
        let at = self.reasons.iter().position(|known| known == reason).unwrap_or_else(|| {
            self.reasons.push(reason.to_owned());
            self.reasons.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    /// Everything of `stream` before it is settled.
    pub fn position(&self, stream: StreamId) -> u64 {
        self.lanes.get(&stream).map_or(0, |lane| lane.position)
    }

    /// The positions of all the streams: with [`Ledger::committed`], what a checkpoint saves.
    pub fn positions(&self) -> BTreeMap<StreamId, u64> {
        self.lanes.iter().map(|(stream, lane)| (*stream, lane.position)).collect()
    }

    /// Forgets the settled streams that `keep` refuses: their files are gone.
    pub fn retain(&mut self, mut keep: impl FnMut(StreamId) -> bool) {
        self.lanes.retain(|stream, lane| !lane.entries.is_empty() || keep(*stream));
    }

    /// What is settled below the positions.
    pub fn committed(&self) -> Totals {
        self.named(&self.committed)
    }

    /// All that was read, what is open included.
    pub fn totals(&self) -> Totals {
        self.named(&self.all)
    }

    /// How many lines are open.
    pub fn open_lines(&self) -> usize {
        self.open.len()
    }

    /// How many entries are in memory.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// About how many bytes of memory they take.
    pub fn held_bytes(&self) -> usize {
        // A queue has room for up to twice what it holds; a table's slots have one byte more.
        self.entries * size_of::<Entry>() * 3 / 2 + self.open.capacity() * (size_of::<(u64, StreamId)>() + 1)
    }

    /// How often a ticket was acknowledged that is not open, or a span did not follow the one before it: each is
    /// an error of the caller.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    fn read(&mut self, span: Span, carried: Option<Span>) {
        self.follow(span);
        self.all.read_lines += 1;
        self.all.read_bytes += span.len();
        if let Some(carried) = carried {
            self.follow(carried);
            self.all.read_bytes += carried.len();
        }
    }

    fn follow(&mut self, span: Span) {
        let lane = self.lanes.entry(span.stream).or_insert_with(|| {
            // The first line of a stream that is not read from its beginning (`start_at: end`).
            Lane { position: span.start, end: span.start, entries: VecDeque::new() }
        });
        if lane.end != span.start {
            self.faults += 1;
        }
        lane.end = span.end;
    }

    fn line(&mut self, span: Span, carried: Option<Span>, parts: u32, worst: Class) -> u64 {
        if let Some(carried) = carried {
            self.push(carried, What::Tied { stream: span.stream });
        }
        self.push(span, What::Line { parts, worst, carried: carried.map(|carried| Box::new(carried.stream)) })
    }

    fn push(&mut self, span: Span, what: What) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.entries += 1;
        let lane = self.lanes.entry(span.stream).or_default();
        lane.entries.push_back(Entry { ticket, end: span.end, bytes: span.len(), what });
        ticket
    }

    /// Moves the position of `stream` over everything that is settled, and those that waited for it.
    fn advance(&mut self, stream: StreamId) {
        let mut todo = vec![stream];
        while let Some(stream) = todo.pop() {
            while let Some(other) = self.step(stream) {
                todo.extend(other);
            }
        }
    }

    /// Passes the first entry of `stream` if it is settled; says which other stream to look at again.
    fn step(&mut self, stream: StreamId) -> Option<Option<StreamId>> {
        let front = self.lanes.get(&stream)?.entries.front()?;
        match &front.what {
            What::Settled(..) | What::Lost(_) | What::Line { parts: 0, carried: None, .. } => {
                self.pass(stream);
                Some(None)
            }
            What::Line { parts: 1.., .. } => None,
            // Both halves of a carried line pass together, each at the front of its stream: else a restart would
            // read the second half without the first.
            What::Line { carried: Some(other), .. } => {
                let other = **other;
                let tied = self.lanes.get(&other)?.entries.front()?;
                let ready = matches!(tied.what, What::Tied { stream: to } if to == stream);
                if !ready {
                    return None;
                }
                self.pass(other);
                self.pass(stream);
                Some(Some(other))
            }
            What::Tied { stream: other } => {
                let other = *other;
                let line = self.lanes.get(&other)?.entries.front()?;
                let ready = matches!(&line.what, What::Line { parts: 0, carried: Some(from), .. } if **from == stream);
                if !ready {
                    return None;
                }
                self.pass(stream);
                self.pass(other);
                Some(Some(other))
            }
        }
    }

    fn pass(&mut self, stream: StreamId) {
        let Some(lane) = self.lanes.get_mut(&stream) else { return };
        let Some(entry) = lane.pop() else { return };
        self.entries -= 1;
        lane.position = entry.end;
        let counts = &mut self.committed;
        let (class, lines) = match entry.what {
            What::Lost(reason) => {
                let reason = self.reasons.get(usize::from(reason)).map_or("other", String::as_str);
                return counts.lose(reason, entry.bytes);
            }
            What::Tied { .. } => return counts.read_bytes += entry.bytes,
            What::Settled(class, lines) => (class, lines),
            What::Line { worst, .. } => (worst, 1),
        };
        counts.read_lines += lines;
        counts.read_bytes += entry.bytes;
        counts.add(class, lines);
    }

    fn named(&self, counts: &Counts) -> Totals {
        let column = |kind: ClassKind| {
            let names = self.names[kind as usize].iter();
            let lines = counts.named[kind as usize].iter().copied();
            names.cloned().zip(lines).filter(|(_, lines)| *lines > 0).collect()
        };
        Totals {
            read_lines: counts.read_lines,
            read_bytes: counts.read_bytes,
            delivered: counts.delivered,
            dropped: column(ClassKind::Dropped),
            thinned: column(ClassKind::Thinned),
            rolled_up: column(ClassKind::RolledUp),
            elsewhere: counts.elsewhere,
            unrouted: counts.unrouted,
            skipped: column(ClassKind::Skipped),
            dead_lettered: counts.dead_lettered,
            open: counts.read_lines - counts.settled(),
            lost_bytes: counts.lost.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(stream: u64, line: u64) -> Span {
        Span { stream: StreamId(stream), start: 10 * line, end: 10 * line + 10 }
    }

    #[test]
    fn entries_are_small_and_a_settled_stream_holds_none() {
        assert!(size_of::<Entry>() <= 48, "{}", size_of::<Entry>());
        let mut ledger = Ledger::default();
        // As with backups that are caught up with, one after the other.
        for stream in 0..10 {
            let tickets: Vec<u64> =
                (0..10_000).map(|line| ledger.open(span(stream, line), None, 1)).collect();
            assert!(ledger.held_bytes() >= 10_000 * size_of::<Entry>());
            let (last, others) = tickets.split_last().unwrap();
            others.iter().for_each(|ticket| ledger.ack(*ticket, AckResult::Delivered));
            let lane = &ledger.lanes[&StreamId(stream)];
            assert!(lane.entries.len() == 1 && lane.entries.capacity() <= ENTRIES_KEPT);
            ledger.ack(*last, AckResult::Delivered);
        }
        assert!(ledger.lanes.values().all(|lane| lane.entries.capacity() == 0));
        assert!(ledger.held_bytes() < 100_000, "{}", ledger.held_bytes());
        assert_eq!((ledger.entries(), ledger.faults(), ledger.totals().delivered), (0, 0, 100_000));
    }
}
