//! The driver: one task for each output, which takes batches and acknowledges every record exactly once.
//!
//! It retries without limit, with full jitter, behind a circuit breaker; halves what is too large; narrows a
//! refusal down to the one bad record, tries that once more with its bodies as strings, and then puts it into
//! the dead-letter file, durably, before it is acknowledged. It drops nothing: what is not acknowledged when it
//! ends is still open in the consumer's ledger.

use crate::backoff::{Backoff, Concurrency};
use crate::batch::Batch;
use crate::deadletter;
use crate::fallback::{self, Fallback};
use crate::learnt::Learnt;
use crate::pace::{Go, Pace, TooLate, Trouble};
use crate::sink::{Door, Failure, Op, Outcome, Refusal, Reply, Sink};
use crate::stats::{Phase, Stats, add, lock};
use crate::throttle::{Due, Throttle};
use crate::units::{ByteRate, RequestRate};
use crossbeam_channel::Sender;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

/// Most questions without a wait that a sink may ask about one attempt.
const ASKS: usize = 8;

/// How often the wait before a question is doubled.
const LONGER: u32 = 3;

/// The reason of a dead letter that was never sent: its backend takes no event of that age.
pub const TOO_OLD: &str = "too_old";

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The backend has it.
    Delivered,
    /// The dead-letter file has it.
    DeadLettered {
        /// Why the backend refused it; no content.
        reason: String,
    },
}

/// The acknowledgement of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The ticket it was pushed with.
    pub ticket: u64,
    /// What became of it.
    pub result: Settled,
}

/// How an output ships.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name, for dead letters and logs.
    pub output: Arc<str>,
    /// Waits between tries.
    pub backoff: Backoff,
    /// Longest wait between tries while somebody must put something right.
    pub hold: Duration,
    /// Most batches under way; begins at two and adapts.
    pub concurrency: usize,
    /// Limit of compressed bytes.
    pub bytes_rate: Option<ByteRate>,
    /// Limit of requests.
    pub requests_rate: Option<RequestRate>,
    /// For commands that must end: how long nothing may succeed before batches are given up, unacknowledged.
    pub give_up_after: Option<Duration>,
    /// Which output takes its records while it does not.
    pub fallback: Option<Arc<Fallback>>,
    /// Where the jitter's randomness begins.
    pub seed: u64,
    /// The time of day, for dead letters.
    pub wall_clock: fn() -> jiff::Timestamp,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            output: "output".into(),
            backoff: Backoff::default(),
            hold: Duration::from_secs(30),
            concurrency: 8,
            bytes_rate: None,
            requests_rate: None,
            give_up_after: None,
            fallback: None,
            seed: 0,
            wall_clock: crate::store::wall_clock,
        }
    }
}

/// Where operations go.
#[derive(Clone)]
pub struct Doors {
    /// The backend; see [`crate::store::open`].
    pub backend: Arc<dyn Door>,
    /// The dead-letter file: a [`crate::store::DeadLetters`]. It gets [`Op::Append`] alone.
    pub dead_letters: Arc<dyn Door>,
}

/// A running output.
pub struct Shipper {
    task: JoinHandle<()>,
}

impl Shipper {
    /// Starts an output on a runtime. It ends when `batches` is closed and all is settled (or given up); then
    /// its end of `acks` is closed. Make `acks` unbounded: what is under way bounds it, and a full one would
    /// stop the runtime's thread.
    pub fn spawn(
        handle: &Handle,
        sink: Arc<dyn Sink>,
        doors: Doors,
        options: Options,
        batches: mpsc::Receiver<Batch>,
        acks: Sender<Ack>,
        stats: Arc<Stats>,
    ) -> Shipper {
        // Tokio's clock is read inside a runtime: tests can stop it there.
        let _entered = handle.enter();
        let fallback = options.fallback.as_deref().map(|other| Lane::of_fallback(other, &acks));
        let lane = Arc::new(Lane { fallback, ..Lane::new(sink, doors, options, acks, stats) });
        Shipper { task: handle.spawn(run(lane, batches)) }
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits so long for it to end by itself (close its channel first), then drops what is under way, which
    /// stays unacknowledged. Tells whether it ended by itself.
    pub async fn drain(mut self, within: Duration) -> bool {
        match timeout(within, &mut self.task).await {
            Ok(ended) => ended.is_ok(),
            Err(_) => {
                self.task.abort();
                // It ends at its next await.
                let _ = self.task.await;
                false
            }
        }
    }

    /// Waits for it to end by itself. False if it failed.
    pub async fn join(self) -> bool {
        self.task.await.is_ok()
    }

    /// Drops what is under way, which stays unacknowledged.
    pub fn abort(&self) {
        self.task.abort();
    }
}

async fn run(lane: Arc<Lane>, mut batches: mpsc::Receiver<Batch>) {
    let mut running = JoinSet::new();
    let mut open = true;
    while open || !running.is_empty() {
        let allowed = lock(&lane.concurrency).allowed();
        lane.stats.concurrency.store(allowed as u64, Ordering::Relaxed);
        lane.stats.batch_bytes.store(lane.batch_bytes() as u64, Ordering::Relaxed);
        tokio::select! {
            Some(done) = running.join_next(), if !running.is_empty() => {
                if let Err(error) = done && error.is_panic() {
                    // Its batch is lost to us, so its records stay open. Ending closes the channel of
                    // acknowledgements, and the consumer begins again from its checkpoint.
                    tracing::error!(output = &*lane.options.output, "shipping a batch panicked, output stops");
                    std::panic::resume_unwind(error.into_panic());
                }
            }
            batch = batches.recv(), if open && running.len() < allowed => match batch {
                Some(batch) => {
                    lane.pace.begin(running.is_empty());
                    running.spawn(ship(lane.clone(), batch));
                }
                None => open = false,
            },
        }
    }
}

/// A batch, or a piece of one, still to be settled.
struct Work {
    batch: Arc<Batch>,
    /// Tries in a row that brought nothing; before the next one there is a wait.
    fruitless: u32,
    /// The backend may have taken it already.
    maybe_done: bool,
}

impl Work {
    fn now(batch: Batch) -> Work {
        Work { batch: Arc::new(batch), fruitless: 0, maybe_done: false }
    }
}

/// The backend has not answered well for so long that so many records are given up.
struct GaveUp(usize);

impl GaveUp {
    fn and(self, more: usize) -> GaveUp {
        GaveUp(self.0 + more)
    }
}

/// Counts a batch as under way for as long as it lives.
struct UnderWay(Arc<Stats>, u64);

impl UnderWay {
    fn new(stats: &Arc<Stats>, batch: &Batch) -> UnderWay {
        let bytes = batch.held_bytes() as u64;
        add(&stats.in_flight_bytes, bytes);
        add(&stats.in_flight, 1);
        UnderWay(stats.clone(), bytes)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.in_flight_bytes.fetch_sub(self.1, Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn ship(lane: Arc<Lane>, batch: Batch) {
    let _under_way = UnderWay::new(&lane.stats, &batch);
    if let Err(GaveUp(records)) = lane.settle_all(vec![Work::now(batch)]).await {
        add(&lane.stats.abandoned, records as u64);
    }
}

/// What all batches of one output share.
struct Lane {
    /// The output that takes what this one does not.
    fallback: Option<Box<Lane>>,
    sink: Arc<dyn Sink>,
    doors: Doors,
    options: Options,
    throttle: Throttle,
    concurrency: Mutex<Concurrency>,
    learnt: Mutex<Learnt>,
    started: Instant,
    pace: Pace,
    acks: Sender<Ack>,
    stats: Arc<Stats>,
}

impl Lane {
    fn new(
        sink: Arc<dyn Sink>,
        doors: Doors,
        options: Options,
        acks: Sender<Ack>,
        stats: Arc<Stats>,
    ) -> Lane {
        let bytes = sink.limits().size();
        stats.batch_bytes.store(bytes as u64, Ordering::Relaxed);
        Lane {
            fallback: None,
            throttle: Throttle::new(options.bytes_rate, options.requests_rate),
            concurrency: Mutex::new(Concurrency::new(options.concurrency)),
            learnt: Mutex::new(Learnt::new(bytes)),
            started: Instant::now(),
            pace: Pace::new(&options, stats.clone(), Instant::now),
            sink,
            doors,
            options,
            acks,
            stats,
        }
    }

    /// Its figures are its own, and its fallback is nobody.
    fn of_fallback(other: &Fallback, acks: &Sender<Ack>) -> Box<Lane> {
        let Fallback { sink, doors, options, .. } = other.clone();
        let options = Options { fallback: None, ..options };
        Box::new(Lane::new(sink, doors, options, acks.clone(), Arc::default()))
    }

    /// Settles all of it.
    async fn settle_all(&self, mut stack: Vec<Work>) -> Result<(), GaveUp> {
        while let Some(work) = stack.pop() {
            match self.settle(&work).await {
                // Earlier records first.
                Ok(pieces) => stack.extend(pieces.into_iter().rev()),
                Err(gave_up) => {
                    let left = stack.iter().map(|work| work.batch.records.len()).sum();
                    return Err(gave_up.and(left));
                }
            }
        }
        Ok(())
    }

    /// Hands the batch to the fallback; `None`: there is none.
    async fn fall_back(&self, batch: &Arc<Batch>) -> Option<Result<(), GaveUp>> {
        let (lane, other) = (self.fallback.as_deref()?, self.options.fallback.clone()?);
        let (now, bytes) = (Instant::now().into_std(), lane.batch_bytes());
        let reframe = move |batch: &Batch| fallback::reframe(batch, &other.sink, &other.context, bytes, now);
        let mut works: Vec<Work> = self.rebuild(batch, reframe).await.into_iter().map(Work::now).collect();
        works.reverse();
        let settled = Box::pin(lane.settle_all(works)).await;
        let left = settled.as_ref().err().map_or(0, |GaveUp(records)| *records);
        add(&self.stats.fallen_back, (batch.records.len() - left) as u64);
        Some(settled)
    }

    /// Tries until all records of `work` are acknowledged or part of what is returned.
    async fn settle(&self, work: &Work) -> Result<Vec<Work>, GaveUp> {
        let batch = &work.batch;
        let gave_up = |TooLate| GaveUp(batch.records.len());
        if work.fruitless > 0 {
            let wait = self.pace.backoff(work.fruitless);
            self.pace.pause(wait).await.map_err(gave_up)?;
        }
        if let Some(pieces) = self.too_old(batch).await? {
            return Ok(pieces);
        }
        if work.fruitless == 0
            && let Some((left, right)) = self.too_large(batch).await
        {
            return Ok(vec![Work::now(left), Work::now(right)]);
        }
        let mut tries = work.fruitless;
        let mut maybe_done = work.maybe_done;
        loop {
            if let Go::Elsewhere = self.pace.permit().await.map_err(gave_up)?
                && let Some(settled) = self.fall_back(batch).await
            {
                return settled.map(|()| Vec::new());
            }
            add(&self.stats.retries, u64::from(tries > 0 || maybe_done));
            add(&self.stats.ambiguous_retries, u64::from(maybe_done));
            tries = tries.saturating_add(1);
            let began = Instant::now();
            let (outcome, reply, waited) = self.attempt(batch, self.sink.request(batch)).await;
            // Who is told to wait was told that the batch has arrived.
            maybe_done = waited || ambiguous(&reply);
            self.feel(&outcome, &reply, began);
            self.learn(&outcome, batch);
            let trouble = match outcome {
                Outcome::Delivered => {
                    self.pace.healthy();
                    self.delivered(batch, |_| true);
                    return Ok(Vec::new());
                }
                Outcome::Partial { retry, reject, reason } => {
                    match self.partial(work, &retry, &reject, &reason).await? {
                        Some(pieces) => return Ok(pieces),
                        None => Trouble::Failing { after: None, reason },
                    }
                }
                Outcome::Split => {
                    self.pace.healthy();
                    let alone = Refusal { status: 413, reason: "too large even alone".to_owned() };
                    return self.narrow(batch, alone).await;
                }
                Outcome::Reject(refusal) => {
                    self.pace.healthy();
                    return self.narrow(batch, refusal).await;
                }
                Outcome::Stopped { at, refusal } => {
                    self.pace.healthy();
                    return self.stopped(batch, at, refusal).await;
                }
                Outcome::Retry { after, reason } => Trouble::Failing { after, reason },
                Outcome::Hold { reason } => Trouble::Held { reason },
                Outcome::PartialCount { rejected, refusal } => {
                    self.pace.healthy();
                    return self.count_refused(batch, rejected, refusal).await;
                }
                Outcome::Ask { .. } => Trouble::Failing {
                    after: None,
                    reason: "the backend has not made up its mind".to_owned(),
                },
            };
            let wait = self.pace.trouble(trouble, tries);
            self.pace.pause(wait).await.map_err(gave_up)?;
            if let Some(pieces) = self.too_old(batch).await? {
                return Ok(pieces);
            }
        }
    }

    /// One try, the sink's questions included, and whether one of them was one to wait for.
    async fn attempt(&self, batch: &Batch, mut op: Op) -> (Outcome, Reply, bool) {
        let (mut asked, mut waits) = (0, 0u32);
        let until = Instant::now() + self.sink.patience();
        loop {
            let mut due = Due::request(op.len());
            while let Err(wait) = self.throttle.pass(&mut due, self.started.elapsed()) {
                sleep(wait).await;
            }
            add(&self.stats.requests, 1);
            add(&self.stats.wire_bytes, op.len() as u64);
            let reply = self.doors.backend.perform(op.clone()).await;
            match self.sink.judge(batch, &op, &reply) {
                Outcome::Ask { op: next, after } if after.is_zero() && asked < ASKS => {
                    op = next;
                    asked += 1;
                }
                Outcome::Ask { op: next, after } if !after.is_zero() => {
                    let wait = after.saturating_mul(1 << waits.min(LONGER));
                    if Instant::now() + wait >= until {
                        return (Outcome::Ask { op: next, after }, reply, true);
                    }
                    op = next;
                    waits += 1;
                    sleep(wait).await;
                }
                outcome => {
                    if matches!(outcome, Outcome::Delivered | Outcome::Partial { .. }) {
                        add(&self.stats.diverted, self.sink.diverted(&reply));
                    }
                    return (outcome, reply, waits > 0);
                }
            }
        }
    }

    /// Adapts the concurrency to what was answered.
    fn feel(&self, outcome: &Outcome, reply: &Reply, began: Instant) {
        let pushed_back = match (reply, outcome) {
            (Reply::Http { status: 429 | 503, .. } | Reply::Failed { kind: Failure::Timeout, .. }, _) => true,
            (_, Outcome::Partial { retry, .. }) => !retry.is_empty(),
            _ => false,
        };
        let mut concurrency = lock(&self.concurrency);
        if pushed_back {
            concurrency.pushed_back(began.into_std(), Instant::now().into_std());
        } else if matches!(outcome, Outcome::Delivered) {
            concurrency.succeeded(self.stats.in_flight.load(Ordering::Relaxed) as usize);
        }
    }

    /// Learns from what was answered how large a batch may be.
    fn learn(&self, outcome: &Outcome, batch: &Batch) {
        let (size, now) = (self.sink.limits().size_of(batch), Instant::now().into_std());
        let mut learnt = lock(&self.learnt);
        match outcome {
            Outcome::Delivered | Outcome::Partial { .. } | Outcome::PartialCount { .. } => learnt.taken(size),
            Outcome::Split => {
                if learnt.refused(size, now) {
                    let (output, bytes) = (&*self.options.output, learnt.limit(now));
                    tracing::info!(output, size, bytes, "a batch was too large, next ones are cut smaller");
                }
            }
            _ => return,
        }
        self.stats.batch_bytes.store(learnt.limit(now) as u64, Ordering::Relaxed);
    }

    /// How many bytes a batch may have.
    fn batch_bytes(&self) -> usize {
        lock(&self.learnt).limit(Instant::now().into_std())
    }

    /// Two halves of a batch that would be refused as too large by what is known, and was never tried. What was
    /// written down is not cut: its object may exist.
    async fn too_large(&self, batch: &Arc<Batch>) -> Option<(Batch, Batch)> {
        let (size, now) = (self.sink.limits().size_of(batch), Instant::now().into_std());
        let known = lock(&self.learnt).is_too_large(size, now);
        if !known || batch.records.len() < 2 || self.sink.object(batch).is_some() {
            return None;
        }
        let halves = self.rebuild(batch, Batch::split).await?;
        add(&self.stats.splits, 1);
        Some(halves)
    }

    /// Settles what a partial answer settles. `None`: it settled nothing.
    async fn partial(
        &self,
        work: &Work,
        retry: &[usize],
        reject: &[(usize, Refusal)],
        reason: &str,
    ) -> Result<Option<Vec<Work>>, GaveUp> {
        let batch = &work.batch;
        let count = batch.records.len();
        let mut again = vec![false; count];
        let mut refused = vec![false; count];
        retry.iter().filter(|at| **at < count).for_each(|at| again[*at] = true);
        // A record named twice is sent again: that costs a repetition at most.
        let reject: Vec<_> = reject.iter().filter(|(at, _)| *at < count && !again[*at]).cloned().collect();
        reject.iter().for_each(|(at, _)| refused[*at] = true);
        let retry: Vec<usize> = (0..count).filter(|at| again[*at]).collect();
        if retry.len() == count {
            return Ok(None);
        }
        let stored = count - retry.len() - refused.iter().filter(|refused| **refused).count();
        self.pace.healthy();
        self.delivered(batch, |at| !again[at] && !refused[at]);
        let mut pieces = Vec::new();
        if !reject.is_empty() {
            let refused = self.refused(batch, reject).await.map_err(|gave_up| gave_up.and(retry.len()));
            pieces.extend(refused?.map(Work::now));
        }
        if !retry.is_empty() {
            self.stats.set_phase(Phase::Retrying, Some(reason));
            let rest = self.rebuild(batch, move |batch| batch.subset(&retry)).await;
            let fruitless = if stored > 0 { 1 } else { work.fruitless + 1 };
            pieces.push(Work { batch: Arc::new(rest), fruitless, maybe_done: false });
        }
        Ok(Some(pieces))
    }

    /// One record is refused. Those before it, which the backend may have taken, and those after it, which it has not,
    /// are sent again apart: so each of them is repeated once at most, however many are refused.
    async fn stopped(&self, batch: &Arc<Batch>, at: usize, refusal: Refusal) -> Result<Vec<Work>, GaveUp> {
        let count = batch.records.len();
        let refused = self.refused(batch, vec![(at, refusal)]).await;
        let refused = refused.map_err(|gave_up| gave_up.and(count.saturating_sub(1)))?;
        let mut pieces: Vec<Work> = refused.map(Work::now).into_iter().collect();
        for (which, maybe_done) in [(0..at.min(count), true), (at + 1..count, false)] {
            if !which.is_empty() {
                let which: Vec<usize> = which.collect();
                let piece = self.rebuild(batch, move |batch| batch.subset(&which)).await;
                pieces.push(Work { maybe_done, ..Work::now(piece) });
            }
        }
        Ok(pieces)
    }

    /// Puts aside the records that the backend would refuse for their age: into the fallback, else into the
    /// dead-letter file. `None`: there are none.
    async fn too_old(&self, batch: &Arc<Batch>) -> Result<Option<Vec<Work>>, GaveUp> {
        let Some(age) = self.sink.limits().event_age else { return Ok(None) };
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let oldest = (self.options.wall_clock)().as_microsecond().saturating_sub(age);
        let (old, young): (Vec<usize>, Vec<usize>) =
            (0..batch.records.len()).partition(|at| batch.records[*at].time < oldest);
        if old.is_empty() {
            return Ok(None);
        }
        let count = old.len() as u64;
        let settled = if self.fallback.is_some() {
            let aside = Arc::new(self.rebuild(batch, move |batch| batch.subset(&old)).await);
            self.fall_back(&aside).await.unwrap_or(Ok(()))
        } else {
            let refusal = Refusal { status: 0, reason: TOO_OLD.to_owned() };
            self.bury(batch, old.into_iter().map(|at| (at, refusal.clone())).collect()).await
        };
        settled.map_err(|gave_up| gave_up.and(young.len()))?;
        add(&self.stats.too_old, count);
        if young.is_empty() {
            return Ok(Some(Vec::new()));
        }
        Ok(Some(vec![Work::now(self.rebuild(batch, move |batch| batch.subset(&young)).await)]))
    }

    /// Some were refused, and nobody knows which: the dead letters get all of them.
    async fn count_refused(
        &self,
        batch: &Arc<Batch>,
        rejected: u64,
        refusal: Refusal,
    ) -> Result<Vec<Work>, GaveUp> {
        let count = batch.records.len();
        add(&self.stats.refused_unnamed, rejected.min(count as u64));
        let reason = if rejected >= count as u64 {
            refusal.reason
        } else {
            format!("{rejected} of {count} refused, not told which: {}", refusal.reason)
        };
        let refusal = Refusal { status: refusal.status, reason };
        self.bury(batch, (0..count).map(|at| (at, refusal.clone())).collect()).await?;
        Ok(Vec::new())
    }

    /// Two halves of a batch that is too large or holds a bad record; a single record is refused.
    async fn narrow(&self, batch: &Arc<Batch>, refusal: Refusal) -> Result<Vec<Work>, GaveUp> {
        match self.rebuild(batch, Batch::split).await {
            Some((left, right)) => {
                add(&self.stats.splits, 1);
                Ok(vec![Work::now(left), Work::now(right)])
            }
            None => Ok(self.refused(batch, vec![(0, refusal)]).await?.map(Work::now).into_iter().collect()),
        }
    }

    /// What can be tried once more with its bodies as strings is returned; the rest goes to the dead letters.
    async fn refused(
        &self,
        batch: &Arc<Batch>,
        refused: Vec<(usize, Refusal)>,
    ) -> Result<Option<Batch>, GaveUp> {
        let which: Vec<usize> =
            refused.iter().filter(|(_, why)| why.status != 413).map(|(at, _)| *at).collect();
        let flattened = self.rebuild(batch, move |batch| batch.flattened(&which)).await;
        add(&self.stats.flattened, flattened.batch.as_ref().map_or(0, |batch| batch.records.len() as u64));
        let dead: Vec<(usize, Refusal)> = refused
            .into_iter()
            .filter(|(at, why)| why.status == 413 || flattened.unchanged.contains(at))
            .collect();
        if !dead.is_empty() {
            let flat = flattened.batch.as_ref().map_or(0, |batch| batch.records.len());
            self.bury(batch, dead).await.map_err(|gave_up| gave_up.and(flat))?;
        }
        Ok(flattened.batch)
    }

    /// Writes dead letters, and acknowledges once they are durable.
    async fn bury(&self, batch: &Arc<Batch>, dead: Vec<(usize, Refusal)>) -> Result<(), GaveUp> {
        let (output, time) = (self.options.output.clone(), (self.options.wall_clock)());
        let refusals = dead.clone();
        let letters = move |batch: &Batch| -> io::Result<Vec<u8>> {
            let (raw, mut out) = (batch.raw()?, Vec::new());
            for (at, refusal) in &refusals {
                let entry = &batch.records[*at];
                let document = batch.document(entry, &raw);
                deadletter::write(&output, time, refusal, entry, &document, &mut out);
            }
            Ok(out)
        };
        let op = Op::Append { bytes: self.rebuild(batch, letters).await.into() };
        let stuck = self.pace.stuck();
        loop {
            match self.doors.dead_letters.perform(op.clone()).await {
                Reply::Done => break,
                Reply::Failed { text, .. } => self.pace.turn(Phase::Held, &format!("dead letters: {text}")),
                other => self.pace.turn(Phase::Held, &format!("dead letters: unexpected reply {other:?}")),
            }
            // Full means stop, not drop.
            let wait = self.pace.hold();
            self.pace.pause(wait).await.map_err(|TooLate| GaveUp(dead.len()))?;
        }
        drop(stuck);
        self.pace.healthy();
        add(&self.stats.dead_lettered, dead.len() as u64);
        for (at, refusal) in dead {
            self.ack(batch.records[at].ticket, Settled::DeadLettered { reason: refusal.reason });
        }
        Ok(())
    }

    /// Works on a batch's raw bytes, away from the network's threads.
    async fn rebuild<T: Send + 'static>(
        &self,
        batch: &Arc<Batch>,
        work: impl FnOnce(&Batch) -> io::Result<T> + Send + 'static,
    ) -> T {
        let batch = batch.clone();
        match tokio::task::spawn_blocking(move || work(&batch)).await {
            Ok(made) => made.expect("a body decompresses: this process made it"),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is going away, and this task with it.
            Err(_) => std::future::pending().await,
        }
    }

    fn delivered(&self, batch: &Batch, which: impl Fn(usize) -> bool) {
        let stored =
            || batch.records.iter().enumerate().filter(|(at, _)| which(*at)).map(|(_, record)| record);
        self.stats.count_delivered(stored().map(|record| (&record.index, record.len as u64)));
        add(&self.stats.trimmed, stored().filter(|record| record.trimmed).count() as u64);
        stored().for_each(|record| self.ack(record.ticket, Settled::Delivered));
    }

    fn ack(&self, ticket: u64, result: Settled) {
        // A consumer that is gone needs no acknowledgement: its checkpoint speaks for it.
        let _ = self.acks.send(Ack { ticket, result });
    }
}

/// Whether the operation may have been carried out although nothing good came back.
fn ambiguous(reply: &Reply) -> bool {
    match reply {
        Reply::Http { status, .. } => *status >= 500,
        Reply::Failed { kind, .. } => matches!(kind, Failure::Timeout | Failure::Reset | Failure::Answer),
        Reply::Done | Reply::Exists => false,
    }
}
