//! What an output is doing, for metrics and status pages: counters, and one state in words.

use auditship_event::Index;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most indexes that are counted apart; what is delivered to any other is counted as [`OTHER`].
pub const INDEXES: usize = 256;

/// The name under which surplus indexes are counted.
pub const OTHER: &str = "other";

/// What the output is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Delivering, or nothing to do.
    #[default]
    Ok,
    /// The backend fails; trying again.
    Retrying,
    /// Somebody must put something right; trying again, slowly.
    Held,
}

/// Records and their raw bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many.
    pub records: u64,
    /// Their framed, uncompressed bytes.
    pub bytes: u64,
}

/// One output's figures. Counters only ever grow; gauges say so.
#[derive(Debug, Default)]
pub struct Stats {
    /// Operations begun.
    pub requests: AtomicU64,
    /// Of them, those that repeat one.
    pub retries: AtomicU64,
    /// Retries of operations that may have been carried out already: an upper bound of duplicates where the
    /// backend does not recognise them.
    pub ambiguous_retries: AtomicU64,
    /// Bytes of bodies handed to the network or the store.
    pub wire_bytes: AtomicU64,
    /// Batches cut in two because they were too large or held a bad record.
    pub splits: AtomicU64,
    /// Records tried again with their bodies as strings.
    pub flattened: AtomicU64,
    /// Records delivered with something taken out of them because they were too long for the backend.
    pub trimmed: AtomicU64,
    /// Records that the backend has taken, but put where it keeps what it could not index.
    pub diverted: AtomicU64,
    /// Records put into the dead-letter file.
    pub dead_lettered: AtomicU64,
    /// Of them, those that were not sent because the backend takes no event of that age.
    pub too_old: AtomicU64,
    /// Records that another output has taken instead.
    pub fallen_back: AtomicU64,
    /// Records that a backend says it has refused without saying which. All records of the request are
    /// dead-lettered then.
    pub refused_unnamed: AtomicU64,
    /// Records given up without an acknowledgement (`give_up_after` only).
    pub abandoned: AtomicU64,
    /// Gauge: bytes of memory of the batches under way.
    pub in_flight_bytes: AtomicU64,
    /// Gauge: batches under way.
    pub in_flight: AtomicU64,
    /// Gauge: how many may be.
    pub concurrency: AtomicU64,
    /// Gauge: how many bytes a batch may have, by its configuration and by what the backend has refused (see
    /// [`crate::learnt`]): compressed for sinks of large objects, else before compression. 0 until the output is started.
    pub batch_bytes: AtomicU64,
    delivered: Mutex<BTreeMap<Index, Totals>>,
    state: Mutex<State>,
}

/// The state in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// What it is doing.
    pub phase: Phase,
    /// What went wrong last, if anything; kept after recovery. No content, no credentials.
    pub last_error: Option<String>,
}

impl Stats {
    /// Figures at zero.
    pub fn new() -> Stats {
        Stats::default()
    }

    /// What was delivered so far, by index.
    pub fn delivered(&self) -> BTreeMap<Index, Totals> {
        lock(&self.delivered).clone()
    }

    /// What was delivered so far, together.
    pub fn delivered_total(&self) -> Totals {
        lock(&self.delivered).values().fold(Totals::default(), |sum, totals| Totals {
            records: sum.records + totals.records,
            bytes: sum.bytes + totals.bytes,
        })
    }

    /// What the output is doing.
    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    pub(crate) fn count_delivered<'a>(&self, records: impl Iterator<Item = (&'a Index, u64)>) {
        let mut delivered = lock(&self.delivered);
        for (index, bytes) in records {
            if !delivered.contains_key(index) {
                let name = if delivered.len() < INDEXES { index.clone() } else { Index(OTHER.into()) };
                delivered.entry(name).or_default();
            }
            let key = if delivered.contains_key(index) { index } else { &Index(OTHER.into()) };
            if let Some(totals) = delivered.get_mut(key) {
                totals.records += 1;
                totals.bytes += bytes;
            }
        }
    }

    /// Sets the phase and says whether it has changed.
    pub(crate) fn set_phase(&self, phase: Phase, error: Option<&str>) -> bool {
        let mut state = lock(&self.state);
        let changed = state.phase != phase;
        state.phase = phase;
        if let Some(error) = error {
            state.last_error = Some(error.to_owned());
        }
        changed
    }
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// The lock of plain figures, which no panic can leave half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_bounded() {
        let stats = Stats::new();
        for n in 0..INDEXES + 10 {
            stats.count_delivered([(&Index(format!("i{n}").into()), 2)].into_iter());
        }
        let delivered = stats.delivered();
        assert_eq!(delivered.len(), INDEXES + 1);
        assert_eq!(delivered[&Index(OTHER.into())], Totals { records: 10, bytes: 20 });
        assert_eq!(
            stats.delivered_total(),
            Totals { records: INDEXES as u64 + 10, bytes: 2 * (INDEXES as u64 + 10) }
        );
    }
}
