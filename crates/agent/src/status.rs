//! What the agent is doing, shared between the consumers' threads and whoever asks: plain figures, no I/O.

use crate::report::{Account, Report};
use auditship_tail::catalogue::Figures;
use jiff::Timestamp;
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
    troubles: Mutex<BTreeMap<Trouble, Timestamp>>,
}

/// Something that somebody should hear of soon after it has happened, however long the agent was away before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// `lost`, `dead_lettered`, `failed_closed` or `gap`.
    pub what: &'static str,
    /// Whose; a gap is nobody's alone.
    pub output: Option<String>,
}

type Figure = fn(&Account) -> u64;

/// The troubles of an output, each with the figure that grows when it happens.
const TROUBLES: &[(&str, Figure)] = &[
    ("lost", |account| account.lost_bytes.values().sum()),
    ("dead_lettered", |account| account.dead_lettered),
    ("failed_closed", |account| account.failed_closed.values().sum()),
];

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
    /// Replaces one consumer's account, and takes note of what has happened since the one before. The first is what was
    /// restored: nothing has happened yet.
    pub fn set(&self, consumer: &str, account: Account, now: Timestamp) {
        let mut accounts = lock(&self.accounts);
        if let Some(before) = accounts.get(consumer) {
            for (what, _) in TROUBLES.iter().filter(|(_, figure)| figure(&account) > figure(before)) {
                let trouble = Trouble { what, output: Some(consumer.to_owned()) };
                lock(&self.troubles).insert(trouble, now);
            }
        }
        accounts.insert(consumer.to_owned(), account);
    }

    /// What has happened since the start that somebody should hear of, and when it last did.
    pub fn troubles(&self) -> BTreeMap<Trouble, Timestamp> {
        lock(&self.troubles).clone()
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

    /// Replaces what the file catalogue knows. It begins at 0, so that the first figures may tell of gaps too.
    pub fn set_files(&self, figures: Figures, now: Timestamp) {
        let mut files = lock(&self.files);
        if figures.gaps > files.as_ref().map_or(0, |before| before.gaps) {
            lock(&self.troubles).insert(Trouble { what: "gap", output: None }, now);
        }
        *files = Some(figures);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(bytes: u64) -> Account {
        Account { lost_bytes: BTreeMap::from([("deleted".to_owned(), bytes)]), ..Account::default() }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn what_was_restored_is_no_news_and_what_grows_is() {
        let status = Status::default();
        status.set("search", lost(5000), at(1));
        status.set("search", lost(5000), at(2));
        assert_eq!(status.troubles(), BTreeMap::new());
        // Found while starting: the first account was there before.
        status.set("search", lost(5001), at(3));
        let trouble = |what| Trouble { what, output: Some("search".to_owned()) };
        assert_eq!(status.troubles(), BTreeMap::from([(trouble("lost"), at(3))]));
        // After a reload totals may step back; what is counted again has happened again.
        status.set("search", lost(4000), at(4));
        assert_eq!(status.troubles()[&trouble("lost")], at(3));
        status.set("search", Account { dead_lettered: 1, ..lost(5001) }, at(5));
        assert_eq!(
            status.troubles(),
            BTreeMap::from([(trouble("lost"), at(5)), (trouble("dead_lettered"), at(5))])
        );
    }

    #[test]
    fn a_gap_before_the_first_look_is_told() {
        let status = Status::default();
        status.set_files(Figures { gaps: 1, ..Figures::default() }, at(1));
        status.set_files(Figures { gaps: 1, ..Figures::default() }, at(2));
        assert_eq!(status.troubles(), BTreeMap::from([(Trouble { what: "gap", output: None }, at(1))]));
    }
}
