//! What the agent is doing, shared between the consumers' threads and whoever asks: plain figures, no I/O.

use crate::report::{Account, Report};
use auditship_tail::catalogue::Figures;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Written by consumers a few times a second, read by the admin listener and at the end.
#[derive(Debug, Default)]
pub struct Status {
    accounts: Mutex<BTreeMap<String, Account>>,
    /// Why the agent works but should be looked at, by what is concerned; empty when all is well.
    degraded: Mutex<BTreeMap<String, String>>,
    files: Mutex<Option<Figures>>,
    reloads: Mutex<BTreeMap<Reload, u64>>,
    state_syncs: AtomicU64,
}

/// An attempt to take the configuration anew: why, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reload {
    /// `signal`, or `file` where a file that the configuration takes a value from has changed.
    pub why: &'static str,
    /// `done` or `refused`.
    pub result: &'static str,
}

/// The lock of plain figures, which no panic can leave half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Status {
    /// Replaces one consumer's account.
    pub fn set(&self, consumer: &str, account: Account) {
        lock(&self.accounts).insert(consumer.to_owned(), account);
    }

    /// Says what is wrong with `what`, or that nothing is any more. True if that is news.
    pub fn set_degraded(&self, what: &str, why: Option<String>) -> bool {
        let mut degraded = lock(&self.degraded);
        match why {
            Some(why) => degraded.insert(what.to_owned(), why.clone()) != Some(why),
            None => degraded.remove(what).is_some(),
        }
    }

    /// What is wrong.
    pub fn degraded(&self) -> BTreeMap<String, String> {
        lock(&self.degraded).clone()
    }

    /// Counts an attempt to take the configuration anew.
    pub fn count_reload(&self, reload: Reload) {
        *lock(&self.reloads).entry(reload).or_default() += 1;
    }

    /// How often the configuration was taken anew, or was not.
    pub fn reloads(&self) -> BTreeMap<Reload, u64> {
        lock(&self.reloads).clone()
    }

    /// Says how often the state log was made durable.
    pub fn set_state_syncs(&self, count: u64) {
        self.state_syncs.store(count, Ordering::Relaxed);
    }

    /// How often the state log was made durable.
    pub fn state_syncs(&self) -> u64 {
        self.state_syncs.load(Ordering::Relaxed)
    }

    /// Replaces what the file catalogue knows.
    pub fn set_files(&self, figures: Figures) {
        *lock(&self.files) = Some(figures);
    }

    /// What the file catalogue knows, where files are followed.
    pub fn files(&self) -> Option<Figures> {
        lock(&self.files).clone()
    }

    /// All accounts.
    pub fn accounts(&self) -> BTreeMap<String, Account> {
        lock(&self.accounts).clone()
    }

    /// The ledger as it is printed.
    pub fn report(&self, elapsed: std::time::Duration) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            elapsed_s: (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            consumers: self.accounts(),
        }
    }
}
