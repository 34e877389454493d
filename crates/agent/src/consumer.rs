//! One consumer's thread: reads, decides, batches, and keeps the ledger; the network is the shipper's.
//!
//! A door: it reads the clock. Back-pressure is to stop reading: while the shipper's channel is full, while the
//! memory budget is used up, or while the ledger has too many entries. It never waits for another consumer.

#![expect(clippy::disallowed_methods, reason = "a consumer's loop lives by the clock")]

use crate::pipeline::{Kept, Now, Pipeline};
use crate::report::Account;
use crate::status::Status;
use auditship_event::Span;
use auditship_ship::{Ack, Batch, Stats};
use auditship_tail::source::{Lost, Progress, Source};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Most entries of a ledger before reading stops (about 40 bytes each).
const LEDGER_ENTRIES: usize = 1 << 17;

/// What the process itself takes before it reads a line: code, the catalogue of rules, the runtime and its threads.
const PROCESS_BYTES: usize = 6 << 20;

/// What a consumer has beside batches and ledger: buffers to read into, its thread, the scratch of redaction with up to a
/// thousand lines that it remembers.
const CONSUMER_BYTES: usize = 4 << 20;

/// How long at most to wait before reading again what could not be read.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Most batches that wait until they are written down, which is done once a second. The memory budget bounds them too.
const UNWRITTEN: usize = 64;

/// How long a batch of the last run waits for lines that nobody reads. Compressed backups are left alone for a minute.
const THAW_PATIENCE: Duration = Duration::from_secs(120);

/// How often the account is published and the checkpoint offered.
const TICK: Duration = Duration::from_millis(250);

/// One byte budget for all consumers.
///
/// Each is guaranteed room for one batch: while nothing of its own is under way it may go on whatever the others
/// hold, so that none can starve another.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes for everything, of which the process and its `consumers` have taken a part already.
    pub fn new(limit: usize, consumers: usize) -> Budget {
        Budget { limit, used: AtomicUsize::new(PROCESS_BYTES + consumers * CONSUMER_BYTES) }
    }

    fn replace(&self, before: usize, after: usize) {
        self.used.fetch_add(after, Ordering::Relaxed);
        self.used.fetch_sub(before, Ordering::Relaxed);
    }

    fn is_spent(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit
    }
}

/// What stops a consumer.
#[derive(Debug, Default)]
pub struct Stop {
    /// Read no more; flush, and wait for acknowledgements until the deadline.
    pub drain: AtomicBool,
    /// Leave at once.
    pub now: AtomicBool,
}

/// What a consumer that reads from an `S` needs of its surroundings; `run` and `ship` differ here alone.
pub trait World<S>: Send {
    /// A line is about to be touched; `None`: there is none under way.
    fn touch(&mut self, line: Option<Span>);
    /// Waits for news from the source, at most for `timeout`.
    fn wait(&mut self, source: &S, timeout: Duration);
    /// Saves the position that may be saved. Called a few times a second and at the end.
    fn save(&mut self, source: &mut S, pipeline: &mut Pipeline, last: Last);
    /// A batch is about to be shipped: its place may have to be written down first. Then it gives what
    /// [`World::is_frozen`] is asked with.
    fn freeze(&mut self, batch: &Batch) -> Option<u64>;
    /// Whether what was written down is on the disk.
    fn is_frozen(&mut self, mark: u64) -> bool;
    /// Adds what the source knows to the account.
    fn amend(&mut self, source: &S, pipeline: &Pipeline, account: &mut Account);
    /// Keeps lines that were not understood.
    fn keep(&mut self, kept: Vec<Kept>);
    /// Reading failed. Gives the error back where that is the end; else reading is tried again.
    fn failed(&mut self, error: auditship_tail::Error) -> Result<(), auditship_tail::Error>;
    /// Bytes were lost.
    fn lost(&mut self, lost: &Lost);
}

/// Whether this is the last call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// More will come.
    No,
    /// The consumer ends.
    Yes,
}

/// How a consumer ended.
#[derive(Debug)]
pub enum End {
    /// The source is at its end and everything is settled.
    Done,
    /// It was stopped, or the shipper gave up; lines may be open.
    Stopped,
    /// The source failed.
    Failed(auditship_tail::source::Error),
}

/// A consumer, ready to run.
pub struct Consumer<S, W> {
    /// The path from line to batch.
    pub pipeline: Pipeline,
    /// Where lines come from.
    pub source: S,
    /// The rest of the world.
    pub world: W,
    /// To the shipper; closed once nothing more will come.
    pub batches: Option<mpsc::Sender<Batch>>,
    /// From the shipper.
    pub acks: Receiver<Ack>,
    /// The shipper's figures.
    pub stats: Arc<Stats>,
    /// Shared by all consumers.
    pub budget: Arc<Budget>,
    /// Shared by all consumers.
    pub status: Arc<Status>,
    /// Shared by all consumers.
    pub stop: Arc<Stop>,
    /// How long to wait for acknowledgements once told to drain.
    pub deadline: Duration,
}

/// What changes while it runs.
struct Turn {
    /// Waiting to be on the disk, where that is asked for, and for room in the channel.
    pending: VecDeque<(Batch, Option<u64>)>,
    began: Instant,
    ended: bool,
    drained_since: Option<Instant>,
    accounted: usize,
    ticked: Instant,
    disconnected: bool,
}

impl<S: Source, W: World<S>> Consumer<S, W> {
    /// Runs until the end of the source, or until stopped.
    pub fn run(mut self) -> End {
        let mut turn = Turn {
            pending: VecDeque::new(),
            began: Instant::now(),
            ended: false,
            drained_since: None,
            accounted: 0,
            ticked: Instant::now(),
            disconnected: false,
        };
        // It is there from the start, for whoever asks.
        self.publish(Last::No);
        let end = loop {
            self.take_acks(&mut turn);
            let now = Instant::now();
            if now.duration_since(turn.ticked) >= TICK {
                turn.ticked = now;
                self.publish(Last::No);
            }
            if self.stop.now.load(Ordering::Relaxed) {
                break End::Stopped;
            }
            if turn.disconnected {
                let done = turn.ended && self.pipeline.ledger.open_lines() == 0;
                break if done { End::Done } else { End::Stopped };
            }
            if self.stop.drain.load(Ordering::Relaxed) && turn.drained_since.is_none() {
                turn.drained_since = Some(now);
            }
            self.pipeline.batcher.cut_at(self.stats.batch_bytes.load(Ordering::Relaxed) as usize);
            let closing = turn.ended || turn.drained_since.is_some();
            if closing {
                self.pipeline.batcher.flush_all();
            } else {
                self.pipeline.batcher.flush_due(now);
            }
            self.send(&mut turn);
            self.account_bytes(&mut turn);
            if closing {
                if self.pipeline.ledger.open_lines() == 0 {
                    break if turn.ended { End::Done } else { End::Stopped };
                }
                if turn.pending.is_empty() && self.pipeline.batcher.open_records() == 0 {
                    // Tells the shipper that this is all: it ends when it has settled it or given it up.
                    self.batches = None;
                }
                if turn.drained_since.is_some_and(|since| now.duration_since(since) >= self.deadline) {
                    break End::Stopped;
                }
                self.wait_ack(&mut turn, Duration::from_millis(50));
            } else if self.is_blocked(&turn) {
                self.unblock(&turn);
                self.wait_ack(&mut turn, Duration::from_millis(20));
            } else {
                match self.read() {
                    Ok(Progress::More) => {}
                    Ok(Progress::Idle) => {
                        if now.duration_since(turn.began) >= THAW_PATIENCE {
                            self.pipeline.batcher.flush_thawing();
                        }
                        let patience = self.patience(now);
                        self.world.wait(&self.source, patience);
                    }
                    Ok(Progress::End) => turn.ended = true,
                    Err(error) => {
                        if let Err(error) = self.world.failed(error) {
                            break End::Failed(error);
                        }
                        self.world.wait(&self.source, AFTER_ERROR);
                    }
                }
            }
        };
        self.publish(Last::Yes);
        self.budget.replace(turn.accounted, 0);
        end
    }

    fn read(&mut self) -> Result<Progress, auditship_tail::source::Error> {
        let micros = jiff::Timestamp::now().as_microsecond();
        let now = Now { instant: Instant::now(), micros };
        let Consumer { pipeline, source, world, .. } = self;
        let read = source.read(&mut |line| {
            world.touch(Some(line.span));
            pipeline.line(&line, now);
        });
        world.touch(None);
        let progress = read?;
        for lost in self.source.lost() {
            self.pipeline.ledger.lost(lost.reason, lost.span);
            self.pipeline.batcher.pass(lost.span);
            self.world.lost(&lost);
        }
        if let Some(kept) = &mut self.pipeline.kept
            && !kept.is_empty()
        {
            self.world.keep(std::mem::take(kept));
        }
        Ok(progress)
    }

    /// Hands batches that are written down to the shipper until its channel is full.
    fn send(&mut self, turn: &mut Turn) {
        loop {
            let waits = turn.pending.front().is_some_and(|(_, mark)| mark.is_some());
            let room = turn.pending.is_empty() || (waits && turn.pending.len() < UNWRITTEN);
            if room && let Some(batch) = self.pipeline.take_ready() {
                let mark = self.world.freeze(&batch);
                turn.pending.push_back((batch, mark));
                continue;
            }
            let Some((batch, mark)) = turn.pending.pop_front() else { return };
            let Some(batches) = &self.batches else { return };
            if mark.is_some_and(|mark| !self.world.is_frozen(mark)) {
                turn.pending.push_front((batch, mark));
                return;
            }
            match batches.try_send(batch) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(batch)) => {
                    turn.pending.push_front((batch, None));
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    turn.disconnected = true;
                    return;
                }
            }
        }
    }

    fn is_blocked(&self, turn: &Turn) -> bool {
        let in_flight = self.stats.in_flight.load(Ordering::Relaxed) > 0;
        let full = turn.pending.front().is_some_and(|(_, mark)| mark.is_none());
        full || turn.pending.len() >= UNWRITTEN
            || self.pipeline.ledger.entries() > LEDGER_ENTRIES
            || ((in_flight || !turn.pending.is_empty()) && self.budget.is_spent())
    }

    /// Nothing is under way whose acknowledgement would make room: then what waits for lines waits for ever.
    fn unblock(&mut self, turn: &Turn) {
        let channel = self.batches.as_ref();
        let handed_over = channel.is_some_and(|batches| batches.capacity() < batches.max_capacity());
        let in_flight = self.stats.in_flight.load(Ordering::Relaxed) > 0;
        if turn.pending.is_empty() && !handed_over && !in_flight {
            self.pipeline.batcher.flush_thawing();
        }
    }

    fn account_bytes(&self, turn: &mut Turn) {
        let pending: usize = turn.pending.iter().map(|(batch, _)| batch.held_bytes()).sum();
        let flying = self.stats.in_flight_bytes.load(Ordering::Relaxed) as usize;
        let held = self.pipeline.batcher.open_bytes() + pending + flying + self.pipeline.ledger.held_bytes();
        self.budget.replace(turn.accounted, held);
        turn.accounted = held;
    }

    fn patience(&self, now: Instant) -> Duration {
        let due = self.pipeline.batcher.next_due().map(|due| due.saturating_duration_since(now));
        // Acknowledgements are taken between waits, so waits are short while some are expected.
        let most = if self.pipeline.ledger.open_lines() > 0 { Duration::from_millis(50) } else { TICK };
        due.unwrap_or(most).min(most)
    }

    fn take_acks(&mut self, turn: &mut Turn) {
        loop {
            match self.acks.try_recv() {
                Ok(ack) => self.pipeline.ack(&ack),
                Err(crossbeam_channel::TryRecvError::Empty) => return,
                Err(crossbeam_channel::TryRecvError::Disconnected) => {
                    turn.disconnected = true;
                    return;
                }
            }
        }
    }

    fn wait_ack(&mut self, turn: &mut Turn, timeout: Duration) {
        match self.acks.recv_timeout(timeout) {
            Ok(ack) => self.pipeline.ack(&ack),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => turn.disconnected = true,
        }
    }

    fn publish(&mut self, last: Last) {
        let mut account = self.pipeline.account(&self.stats);
        self.world.amend(&self.source, &self.pipeline, &mut account);
        self.status.set(&self.pipeline.output().name, account, jiff::Timestamp::now());
        self.world.save(&mut self.source, &mut self.pipeline, last);
    }
}
