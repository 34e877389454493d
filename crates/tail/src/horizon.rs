//! How fast a log is written, and how long its backups live.
//!
//! Pure: sizes and times go in. It owns the guess of what the writer will delete next: lumberjack removes the oldest
//! backup when, after a rotation, there are more than it keeps (natefinch/lumberjack `lumberjack.go`, `millRunOnce`).
//!
//! The guess errs on the safe side: as many backups as were ever seen at once are taken to be all that it keeps, and
//! where the configuration names the number that is used. What it does not know of: `maxage`, and foreign hands.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use auditship_event::StreamId;

/// The rate is measured over this long.
const WINDOW: Duration = Duration::from_secs(300);

/// Samples are this far apart, so that their number is bounded.
const STEP: Duration = Duration::from_secs(5);

/// What was measured of one live file and its backups.
#[derive(Default)]
pub(crate) struct Pace {
    /// Bytes written since the start, by time.
    samples: VecDeque<(SystemTime, u64)>,
    written: u64,
    lengths: HashMap<StreamId, u64>,
    looks: u64,
    backups: usize,
    most: usize,
}

impl Pace {
    /// Takes what one scan saw: how many backups, and how long the plain files are.
    pub(crate) fn look(
        &mut self,
        now: SystemTime,
        backups: usize,
        lengths: impl Iterator<Item = (StreamId, u64)>,
    ) {
        let first = self.looks == 0;
        self.looks += 1;
        // The writer removes a backup a moment after it made a new one: what counts stood over two looks.
        let stood = if first { backups } else { backups.min(self.backups) };
        (self.backups, self.most) = (backups, self.most.max(stood));
        let mut now_there = HashMap::new();
        for (stream, length) in lengths {
            let before = self.lengths.get(&stream).copied().unwrap_or(if first { length } else { 0 });
            self.written += length.saturating_sub(before);
            now_there.insert(stream, length);
        }
        self.lengths = now_there;
        self.sample(now);
    }

    /// A plain file has grown, and nothing else has changed.
    pub(crate) fn grew(&mut self, now: SystemTime, stream: StreamId, length: u64) {
        let before = self.lengths.insert(stream, length).unwrap_or(length);
        self.written += length.saturating_sub(before);
        self.sample(now);
    }

    fn sample(&mut self, now: SystemTime) {
        let last = self.samples.back().map(|(time, _)| *time);
        // A clock that was set makes what was measured before worthless.
        let stepped = last.is_some_and(|last| now < last || now > last + WINDOW);
        if stepped {
            self.samples.clear();
        }
        if stepped || last.is_none_or(|last| now >= last + STEP) {
            self.samples.push_back((now, self.written));
        }
        while self.samples.get(1).is_some_and(|(time, _)| *time + WINDOW <= now) {
            self.samples.pop_front();
        }
    }

    /// The most backups that were there over two looks.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Bytes a second, once two steps are measured.
    pub(crate) fn rate(&self, now: SystemTime) -> Option<f64> {
        let (from, before) = self.samples.front()?;
        let span = now.duration_since(*from).ok().filter(|span| *span >= 2 * STEP)?;
        Some((self.written - before) as f64 / span.as_secs_f64())
    }
}

/// The backups that are on disk, and how fast they come.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stock {
    pub(crate) backups: usize,
    /// On disk.
    pub(crate) bytes: u64,
    /// How many the writer keeps.
    pub(crate) keeps: usize,
    /// The length of the live file.
    pub(crate) live: u64,
    /// The longest backup; 0: not known.
    pub(crate) rotates_at: u64,
    pub(crate) rate: Option<f64>,
    /// When the oldest and the newest backup were last written.
    pub(crate) oldest: Option<SystemTime>,
    pub(crate) newest: Option<SystemTime>,
}

impl Stock {
    /// The time until the backup with `rank` older ones before it is deleted; `None`: what the live file gets next.
    /// Nothing where no rotation is known or nothing is written.
    pub(crate) fn horizon(&self, rank: Option<usize>, now: SystemTime) -> Option<Duration> {
        let keeps = self.keeps.max(self.backups);
        if keeps == 0 {
            return None;
        }
        let rotations = keeps - self.backups + rank.unwrap_or(self.backups) + 1;
        let (next, every) = self.rotation(now)?;
        let later = every.checked_mul(u32::try_from(rotations - 1).unwrap_or(u32::MAX))?;
        next.checked_add(later)
    }

    /// The time to the next rotation, and from then on between two.
    fn rotation(&self, now: SystemTime) -> Option<(Duration, Duration)> {
        if let Some(rate) = self.rate
            && self.rotates_at > 0
        {
            let time = |bytes: u64| Duration::try_from_secs_f64(bytes as f64 / rate).ok();
            return Some((time(self.rotates_at.saturating_sub(self.live))?, time(self.rotates_at)?));
        }
        // Nothing measured yet, or compressed backups whose length nobody knows: their times tell.
        let (oldest, newest) = (self.oldest?, self.newest?);
        let between = u32::try_from(self.backups.checked_sub(1)?).ok().filter(|between| *between > 0)?;
        let every = newest.duration_since(oldest).ok()? / between;
        let since = now.duration_since(newest).unwrap_or_default();
        Some((every.saturating_sub(since), every))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn seconds(horizon: Option<Duration>) -> Option<u64> {
        horizon.map(|horizon| horizon.as_secs())
    }

    #[test]
    fn the_rate_is_that_of_the_last_minutes() {
        let mut pace = Pace::default();
        let mut length = 5_000;
        for second in 0..420 {
            pace.look(at(second), 0, [(StreamId(1), length)].into_iter());
            assert_eq!(pace.rate(at(second)).is_some(), second >= 10);
            length += if second < 100 { 10_000 } else { 100 };
        }
        assert_eq!(pace.rate(at(420)).unwrap().round(), 100.0);
        assert!(pace.samples.len() <= 62);
        // A new file counts in full, one that is gone does not count against it.
        pace.look(at(421), 1, [(StreamId(2), 30_000)].into_iter());
        assert!(pace.rate(at(421)).unwrap() > 190.0);
    }

    #[test]
    fn a_clock_that_was_set_begins_anew() {
        for jump in [0, 100_000 + 86_400] {
            let mut pace = Pace::default();
            for second in 0..60 {
                pace.look(at(100_000 + second), 0, [(StreamId(1), second * 1000)].into_iter());
            }
            for second in 0..20 {
                let now = at(jump + second);
                pace.look(now, 0, [(StreamId(1), 60_000 + second * 10)].into_iter());
                assert!(pace.rate(now).is_none_or(|rate| rate < 20.0), "{:?}", pace.rate(now));
            }
            assert!(pace.rate(at(jump + 20)).is_some());
        }
    }

    #[test]
    fn as_many_backups_are_kept_as_stood_over_two_looks() {
        let mut pace = Pace::default();
        for (backups, most) in [(3, 3), (4, 3), (3, 3), (5, 3), (5, 5), (2, 5)] {
            pace.look(at(0), backups, [].into_iter());
            assert_eq!(pace.most(), most);
        }
    }

    #[test]
    fn the_horizon_is_in_rotations() {
        let stock =
            Stock { backups: 3, keeps: 3, live: 400, rotates_at: 1000, rate: Some(10.0), ..Stock::default() };
        for (rank, expected) in [(Some(0), 60), (Some(1), 160), (Some(2), 260), (None, 360)] {
            assert_eq!(seconds(stock.horizon(rank, at(0))), Some(expected), "{rank:?}");
        }
        // There is room for two more before the oldest goes.
        assert_eq!(seconds(Stock { keeps: 5, ..stock.clone() }.horizon(Some(0), at(0))), Some(260));
        // More than it should keep: the next rotation clears them all away.
        assert_eq!(seconds(Stock { keeps: 1, ..stock.clone() }.horizon(Some(0), at(0))), Some(60));
        assert_eq!(Stock { rate: Some(0.0), ..stock.clone() }.horizon(Some(0), at(0)), None);
        assert_eq!(Stock { backups: 0, keeps: 0, ..stock }.horizon(None, at(0)), None);
    }

    #[test]
    fn times_stand_in_for_a_rate() {
        let stock =
            Stock { backups: 3, keeps: 3, oldest: Some(at(0)), newest: Some(at(200)), ..Stock::default() };
        assert_eq!(seconds(stock.horizon(Some(0), at(230))), Some(70));
        assert_eq!(seconds(stock.horizon(Some(1), at(230))), Some(170));
        assert_eq!(seconds(stock.horizon(Some(0), at(900))), Some(0));
    }
}
