//! When to try again, and how much at once: pure state machines. `now` and chance are arguments.

use std::time::{Duration, Instant};

/// Exponential waits with full jitter: the n-th is uniform in `0..first·2ⁿ`, capped (Brooker, "Exponential
/// Backoff And Jitter", AWS Architecture Blog, 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest that the first wait can be.
    pub first: Duration,
    /// The longest that any wait can be.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { first: Duration::from_millis(500), cap: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The wait before try `failures + 1`; `chance` is uniform in `0.0..1.0`.
    pub fn wait(&self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let longest = self.first.saturating_mul(1 << doublings).min(self.cap);
        longest.mul_f64(chance.clamp(0.0, 1.0))
    }
}

/// A circuit breaker for one output, shared by all its requests.
///
/// Invariant: after [`TRIP`] failures in a row nothing is sent until a deadline, then exactly one probe; its
/// result closes the breaker or sets the next deadline. Requests that were under way when it opened and fail
/// later change nothing, so that many failing at once do not make the waits grow faster than one.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    rounds: u32,
    state: State,
}

/// How many requests in a row must fail to open the breaker.
pub const TRIP: u32 = 3;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open(Instant),
    Probing,
}

/// Whether a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// It may.
    Go,
    /// Ask again then.
    Wait(Instant),
    /// Ask again when the probe's result is known.
    WaitForProbe,
}

impl Breaker {
    /// Asks for a permit. Whoever is told to go must report the result.
    pub fn ask(&mut self, now: Instant) -> Permit {
        match self.state {
            State::Closed => Permit::Go,
            State::Open(until) if now < until => Permit::Wait(until),
            State::Open(_) => {
                self.state = State::Probing;
                Permit::Go
            }
            State::Probing => Permit::WaitForProbe,
        }
    }

    /// The backend answered as it should.
    pub fn succeeded(&mut self) {
        *self = Breaker::default();
    }

    /// The backend failed; if that opens the breaker, it stays open for `wait`.
    pub fn failed(&mut self, now: Instant, wait: Duration) {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            State::Closed if self.failures < TRIP => {}
            State::Closed | State::Probing => self.open(now + wait),
            State::Open(_) => {}
        }
    }

    /// The backend asked for a pause, or cannot work before somebody puts it right: open at once.
    pub fn told_to_wait(&mut self, now: Instant, wait: Duration) {
        match self.state {
            State::Open(until) => self.state = State::Open(until.max(now + wait)),
            State::Closed | State::Probing => self.open(now + wait),
        }
    }

    /// How often in a row it has opened.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    fn open(&mut self, until: Instant) {
        self.rounds = self.rounds.saturating_add(1);
        self.state = State::Open(until);
    }
}

/// How many requests may be under way: additive increase, multiplicative decrease on explicit signals only
/// (429, 503, timeout), because round-trip times of bulk requests say little.
#[derive(Clone, Copy, Debug)]
pub struct Concurrency {
    limit: f64,
    max: f64,
    /// When it was last halved.
    halved: Option<Instant>,
}

impl Concurrency {
    /// Begins at 2, never above `max`.
    pub fn new(max: usize) -> Concurrency {
        let max = max.clamp(1, 64) as f64;
        Concurrency { limit: max.min(2.0), max, halved: None }
    }

    /// How many are allowed now: at least one.
    pub fn allowed(&self) -> usize {
        // Between 1 and 64 by construction.
        self.limit as usize
    }

    /// A request succeeded while `under_way` were: one more for each round in which the limit was used up.
    pub fn succeeded(&mut self, under_way: usize) {
        if under_way >= self.allowed() {
            self.limit = (self.limit + 1.0 / self.limit).min(self.max);
        }
    }

    /// The backend asked for less, in answer to a request that began at `began`. Those that were under way when the
    /// limit was halved last only say the same once more, and do not count.
    pub fn pushed_back(&mut self, began: Instant, now: Instant) {
        if self.halved.is_some_and(|halved| began < halved) {
            return;
        }
        self.limit = (self.limit / 2.0).max(1.0);
        self.halved = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waits_double_up_to_the_cap() {
        let backoff = Backoff::default();
        let longest = |failures| backoff.wait(failures, 1.0).as_millis();
        assert_eq!([1, 2, 3, 7, 8, 1000].map(longest), [500, 1000, 2000, 32_000, 60_000, 60_000]);
        assert_eq!(backoff.wait(4, 0.0), Duration::ZERO);
        assert_eq!(backoff.wait(4, 0.5), Duration::from_secs(2));
    }

    #[test]
    fn one_probe_at_a_time() {
        // The origin does not matter.
        let start = tokio::time::Instant::now().into_std();
        let mut breaker = Breaker::default();
        for _ in 0..TRIP {
            assert_eq!(breaker.ask(start), Permit::Go);
            breaker.failed(start, 10 * MS);
        }
        assert_eq!(breaker.ask(start + 9 * MS), Permit::Wait(start + 10 * MS));
        assert_eq!(breaker.ask(start + 10 * MS), Permit::Go);
        assert_eq!(breaker.ask(start + 10 * MS), Permit::WaitForProbe);
        breaker.failed(start + 11 * MS, 20 * MS);
        assert_eq!(breaker.ask(start + 12 * MS), Permit::Wait(start + 31 * MS));
        assert_eq!(breaker.ask(start + 31 * MS), Permit::Go);
        assert_eq!(breaker.rounds(), 2);
        breaker.succeeded();
        assert_eq!((breaker.ask(start), breaker.ask(start)), (Permit::Go, Permit::Go));
    }

    #[test]
    fn late_failures_and_longer_pauses() {
        let start = tokio::time::Instant::now().into_std();
        let mut breaker = Breaker::default();
        breaker.told_to_wait(start, 50 * MS);
        breaker.failed(start, 90 * MS);
        breaker.told_to_wait(start, 20 * MS);
        assert_eq!((breaker.rounds(), breaker.ask(start)), (1, Permit::Wait(start + 50 * MS)));
        breaker.told_to_wait(start, 70 * MS);
        assert_eq!(breaker.ask(start), Permit::Wait(start + 70 * MS));
    }

    #[test]
    fn concurrency_grows_slowly_and_halves() {
        let mut lanes = Concurrency::new(8);
        assert_eq!(lanes.allowed(), 2);
        lanes.succeeded(1);
        assert_eq!(lanes.allowed(), 2, "unused room asks for no more");
        for _ in 0..200 {
            lanes.succeeded(lanes.allowed());
        }
        assert_eq!(lanes.allowed(), 8);
        // The origin does not matter.
        let start = tokio::time::Instant::now().into_std();
        for under_way in 0..8 {
            lanes.pushed_back(start, start + (10 + under_way) * MS);
        }
        assert_eq!(lanes.allowed(), 4, "eight that were sent at once are one sign");
        lanes.pushed_back(start + 10 * MS, start + 20 * MS);
        assert_eq!(lanes.allowed(), 2);
        for round in 3..10 {
            lanes.pushed_back(start + round * 10 * MS, start + round * 10 * MS);
        }
        assert_eq!(lanes.allowed(), 1);
        assert_eq!(Concurrency::new(1).allowed(), 1);
    }
}
