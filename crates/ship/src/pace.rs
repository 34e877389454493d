//! When an output may try: waits, the breaker, giving up, and the state that people see.
//!
//! One for each output, shared by its batches under way, so that a dead backend is probed by one of them alone.

use crate::backoff::{Breaker, Permit};
use crate::shipper::Options;
use crate::stats::{Phase, Stats, lock};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// It is too late to wait any longer.
pub(crate) struct TooLate;

/// Why a try has brought nothing.
pub(crate) enum Trouble {
    /// The backend is failing.
    Failing { after: Option<Duration>, reason: String },
    /// Somebody must put something right.
    Held { reason: String },
}

/// Counts a batch as waiting for the dead-letter file for as long as it lives.
pub(crate) struct Stuck<'a>(&'a AtomicUsize);

impl Stuck<'_> {
    fn new(count: &AtomicUsize) -> Stuck<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        Stuck(count)
    }
}

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The pace of one output.
pub(crate) struct Pace {
    /// Tokio's clock, which tests can stop; the driver hands it in.
    clock: fn() -> Instant,
    options: Options,
    stats: Arc<Stats>,
    breaker: Mutex<Breaker>,
    breaker_changed: Notify,
    random: Mutex<fastrand::Rng>,
    /// Batches that wait for room in the dead-letter file.
    stuck: AtomicUsize,
    /// When the backend last answered well, or was last known to have nothing to do.
    progress: Mutex<Instant>,
    /// Since when it has not answered well.
    troubled: Mutex<Option<Instant>>,
}

/// What to do with a batch.
pub(crate) enum Go {
    /// Try.
    Try,
    /// The output has been in trouble for so long that another one is to take it.
    Elsewhere,
}

impl Pace {
    pub(crate) fn new(options: &Options, stats: Arc<Stats>, clock: fn() -> Instant) -> Pace {
        Pace {
            clock,
            options: options.clone(),
            stats,
            breaker: Mutex::default(),
            breaker_changed: Notify::new(),
            random: Mutex::new(fastrand::Rng::with_seed(options.seed)),
            stuck: AtomicUsize::new(0),
            progress: Mutex::new(clock()),
            troubled: Mutex::new(None),
        }
    }

    /// A batch begins; `idle` if none was under way.
    pub(crate) fn begin(&self, idle: bool) {
        if idle && self.stats.state().phase == Phase::Ok {
            *lock(&self.progress) = (self.clock)();
        }
    }

    /// A batch waits for room in the dead-letter file until what is returned is dropped.
    pub(crate) fn stuck(&self) -> Stuck<'_> {
        Stuck::new(&self.stuck)
    }

    /// The wait after so many fruitless tries.
    pub(crate) fn backoff(&self, fruitless: u32) -> Duration {
        self.options.backoff.wait(fruitless, self.chance())
    }

    /// The wait while somebody must put something right.
    pub(crate) fn hold(&self) -> Duration {
        self.options.hold.mul_f64(0.5 + self.chance() / 2.0)
    }

    /// The backend has answered as it should.
    pub(crate) fn healthy(&self) {
        *lock(&self.progress) = (self.clock)();
        *lock(&self.troubled) = None;
        lock(&self.breaker).succeeded();
        self.breaker_changed.notify_waiters();
        // A record that the dead-letter file cannot take holds the output, whatever the others do.
        if self.stuck.load(Ordering::Relaxed) == 0 && self.stats.set_phase(Phase::Ok, None) {
            tracing::info!(output = &*self.options.output, "output delivers again");
        }
    }

    /// Notes a failure and says how long to wait.
    pub(crate) fn trouble(&self, trouble: Trouble, tries: u32) -> Duration {
        lock(&self.troubled).get_or_insert_with(self.clock);
        let now = (self.clock)().into_std();
        let wait = {
            let mut breaker = lock(&self.breaker);
            match &trouble {
                Trouble::Failing { after, .. } => {
                    let wait = self.backoff(tries.max(breaker.rounds() + 1));
                    match after {
                        Some(after) => {
                            let wait = wait.max(*after);
                            breaker.told_to_wait(now, wait);
                            wait
                        }
                        None => {
                            breaker.failed(now, wait);
                            wait
                        }
                    }
                }
                Trouble::Held { .. } => {
                    let wait = self.hold();
                    breaker.told_to_wait(now, wait);
                    wait
                }
            }
        };
        self.breaker_changed.notify_waiters();
        match trouble {
            Trouble::Failing { reason, .. } => self.turn(Phase::Retrying, &reason),
            Trouble::Held { reason } => self.turn(Phase::Held, &reason),
        }
        wait
    }

    pub(crate) fn turn(&self, phase: Phase, reason: &str) {
        // Repeated failures are counted, not repeated.
        if self.stats.set_phase(phase, Some(reason)) {
            let word = if phase == Phase::Held { "held" } else { "retrying" };
            tracing::warn!(output = &*self.options.output, reason, "output {word}");
        }
    }

    fn chance(&self) -> f64 {
        lock(&self.random).f64()
    }

    /// The moment at which to give up.
    fn deadline(&self) -> Option<Instant> {
        self.options.give_up_after.map(|after| *lock(&self.progress) + after)
    }

    /// The moment at which records begin to go elsewhere.
    fn elsewhere(&self) -> Option<Instant> {
        let after = self.options.fallback.as_ref()?.after;
        lock(&self.troubled).map(|since| since + after)
    }

    /// Waits, but not beyond the moment at which to give up or to go elsewhere.
    pub(crate) async fn pause(&self, wait: Duration) -> Result<(), TooLate> {
        let now = (self.clock)();
        let deadline = self.deadline();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(TooLate);
        }
        let until = now + wait;
        let ends = [Some(until), deadline, self.elsewhere().map(|at| at.max(now))];
        sleep_until(ends.into_iter().flatten().min().unwrap_or(until)).await;
        Ok(())
    }

    /// Waits until the breaker lets a request through, or until it has been shut for too long.
    pub(crate) async fn permit(&self) -> Result<Go, TooLate> {
        loop {
            // Registered before asking, so that no change goes unseen.
            let changed = self.breaker_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = (self.clock)();
            let until = match lock(&self.breaker).ask(now.into_std()) {
                Permit::Go => return Ok(Go::Try),
                Permit::Wait(until) => Some(Instant::from_std(until)),
                Permit::WaitForProbe => None,
            };
            let elsewhere = self.elsewhere();
            if elsewhere.is_some_and(|elsewhere| elsewhere <= now) {
                return Ok(Go::Elsewhere);
            }
            let deadline = self.deadline();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(TooLate);
            }
            let next = until.into_iter().chain(deadline).chain(elsewhere).min();
            tokio::select! {
                () = changed => {}
                () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
            }
        }
    }
}
