//! How fast the log is written, how long rotation keeps it, and what would keep it long enough.
//!
//! Pure. It owns the defaults of kube-apiserver's rotation (k8s.io/apiserver `pkg/server/options/audit.go`) and the
//! arithmetic of lumberjack: a file is at most `maxsize` MiB before it is compressed, `maxbackup` of them stay.

use super::facts::{Backup, Log, Seen};
use super::server::Server;
use std::time::Duration;

/// Only so much of the past is measured.
const WINDOW: Duration = Duration::from_secs(24 * 3600);
/// Less than this says nothing of a rate.
const SPAN_MIN: Duration = Duration::from_secs(30);
/// Audit events become about a tenth of their size; the disk is planned for less luck.
const PACKED: u64 = 8;
const MIB: u64 = 1 << 20;

/// How fast a log is written, in bytes a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Over all that was measured.
    pub mean: f64,
    /// Of the file that was filled fastest.
    pub busiest: f64,
    /// How long that was.
    pub over: Duration,
}

impl Rate {
    /// One that somebody has measured elsewhere.
    pub fn told(bytes_per_second: f64) -> Rate {
        Rate { mean: bytes_per_second, busiest: bytes_per_second, over: Duration::ZERO }
    }

    /// Measures it by the events' own times; `None` where there are too few of them.
    pub fn of(log: &Log) -> Option<Rate> {
        let (first, last) = log.span()?;
        let Seen::Is(live) = &log.file else { return None };
        let earliest = last.checked_sub(WINDOW).unwrap_or(jiff::Timestamp::MIN);
        let known = |backup: &Backup| Some((backup.first?, backup.bytes));
        let mut files: Vec<_> =
            log.backups.iter().filter_map(known).filter(|(at, _)| *at >= earliest).collect();
        files.push((first, live.bytes));
        files.sort_unstable();
        let ends = files.iter().skip(1).map(|(at, _)| *at).chain([last]);
        let spans = files.iter().zip(ends).map(|((from, bytes), to)| (*bytes, between(*from, to)));
        let spans: Vec<(u64, Duration)> = spans.collect();
        let over: Duration = spans.iter().map(|(_, span)| *span).sum();
        if over < SPAN_MIN {
            return None;
        }
        let bytes: u64 = spans.iter().map(|(bytes, _)| bytes).sum();
        let mean = bytes as f64 / over.as_secs_f64();
        let long = spans.iter().filter(|(_, span)| *span >= SPAN_MIN);
        let busiest = long.map(|(bytes, span)| *bytes as f64 / span.as_secs_f64()).fold(mean, f64::max);
        Some(Rate { mean, busiest, over })
    }
}

/// The time between two stamps; none where they stand the other way round.
pub fn between(from: jiff::Timestamp, to: jiff::Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

fn mib(number: u64) -> u64 {
    number.saturating_mul(MIB)
}

/// What rotation does, defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// A file grows to so many MiB; `None`: for ever.
    pub size: Option<u64>,
    /// So many backups stay; `None`: all.
    pub backups: Option<u64>,
    /// For so many days; `None`: for ever.
    pub days: Option<u64>,
}

/// From this minor version on the flags have defaults, and a size of 0 means none.
const DEFAULTS_SINCE: u32 = 36;

impl Rotation {
    /// What the flags say.
    ///
    /// # Errors
    /// The flag that is no number, and what it is.
    pub fn of(server: &Server) -> Result<Rotation, (&'static str, String)> {
        let number = |name: &'static str| match server.flags.number(name) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(text)) => Err((name, text.to_owned())),
        };
        let (size, backups, days) =
            (number("audit-log-maxsize")?, number("audit-log-maxbackup")?, number("audit-log-maxage")?);
        let set = |number: Option<u64>, default: u64| match number {
            None if server.minor >= Some(DEFAULTS_SINCE) => Some(default),
            number => number.filter(|number| *number > 0),
        };
        let size = match size {
            Some(0) if server.minor >= Some(DEFAULTS_SINCE) => None,
            size => Some(size.filter(|size| *size > 0).unwrap_or(100)),
        };
        Ok(Rotation { size, backups: set(backups, 100), days: set(days, 366) })
    }

    /// How long an event stays at this rate, in seconds; `None`: for ever.
    pub fn holds(self, bytes_per_second: f64) -> Option<f64> {
        let by_number = self.size.zip(self.backups);
        let by_number =
            by_number.map(|(size, backups)| mib(size).saturating_mul(backups) as f64 / bytes_per_second);
        let by_age = self.days.map(|days| days as f64 * 86_400.0);
        match (by_number, by_age) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// The most that it takes on disk; `None`: no bound.
    pub fn takes(self, compress: bool) -> Option<u64> {
        let (size, backups) = self.size.zip(self.backups)?;
        let each = if compress { mib(size).div_ceil(PACKED) } else { mib(size) };
        // One file is written, and one may be under compression.
        Some(mib(size).saturating_mul(2).saturating_add(each.saturating_mul(backups)))
    }
}

/// Rotation that would hold long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// `audit-log-maxsize`, MiB.
    pub size: u64,
    /// `audit-log-maxbackup`
    pub backups: u64,
    /// The disk has no room for it otherwise.
    pub compress: bool,
    /// What it takes on disk at most.
    pub takes: u64,
    /// In seconds; less than was asked for where the disk has no room.
    pub holds: u64,
}

impl Fit {
    /// Finds one for a rate. `room` is how many bytes of disk it may take; `compressing` where that is on already.
    pub fn to(rate: f64, hold: Duration, room: Option<u64>, compressing: bool) -> Fit {
        let rate = rate.max(1.0);
        let wanted = rate * hold.as_secs_f64();
        // A file for at least five minutes, in round numbers; for a quiet log, the usual 100.
        let size = ((rate * 300.0 / MIB as f64 / 100.0).ceil() as u64 * 100).clamp(100, 1000);
        let needed = ((wanted / (size * MIB) as f64).ceil() as u64).max(10);
        let of = |backups, compress| {
            Rotation { size: Some(size), backups: Some(backups), days: None }.takes(compress)
        };
        let takes = |backups, compress| of(backups, compress).unwrap_or(u64::MAX);
        let room = room.unwrap_or(u64::MAX);
        let compress = compressing || takes(needed, false) > room;
        let mut backups = needed;
        if takes(backups, compress) > room {
            let each = takes(1, compress) - takes(0, compress);
            backups = (room.saturating_sub(takes(0, compress)) / each.max(1)).clamp(1, needed);
        }
        let holds = (size as f64 * MIB as f64 * backups as f64 / rate) as u64;
        Fit { size, backups, compress, takes: takes(backups, compress), holds }
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Content, Live, Stat};
    use super::super::flags::Flags;
    use super::*;
    use crate::distribution::Distribution;
    use jiff::Timestamp;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn log(backups: &[(i64, u64)], live: (i64, i64, u64)) -> Log {
        let backup = |&(first, bytes): &(i64, u64)| Backup { bytes, on_disk: bytes, first: Some(at(first)) };
        let content = Content::Events { first: at(live.0), last: at(live.1) };
        let stat = Stat { mode: 0o600, user: 0, group: 0, is_dir: false };
        Log {
            path: "/l/audit.log".to_owned(),
            dir: Seen::Missing,
            file: Seen::Is(Live { stat, bytes: live.2, content: Some(content), refused: None }),
            system: None,
            backups: backups.iter().map(backup).collect(),
            logrotate: vec![],
        }
    }

    #[test]
    fn a_rate_by_the_events_own_times() {
        let day = 24 * 3600;
        for (backups, live, want) in [
            (&[][..], (0, 100, 5_000), Some((50, 50))),
            (&[], (0, 29, 5_000), None),
            (&[(0, 1_000), (100, 3_000)], (200, 300, 500), Some((15, 30))),
            // Older than a day: another time, another rate.
            (&[(-day, 9_000_000), (0, 1_000)], (100, 200, 1_000), Some((10, 10))),
            // A short one is no peak.
            (&[(0, 1_000), (100, 9_000)], (101, 200, 0), Some((50, 50))),
            // Out of order, and a clock that went back.
            (&[(100, 1_000), (0, 1_000)], (200, 100, 1_000), Some((15, 15))),
        ] {
            let rate = Rate::of(&log(backups, live));
            assert_eq!(
                rate.map(|rate| (rate.mean as u64, rate.busiest as u64)),
                want,
                "{backups:?} {live:?}"
            );
        }
    }

    fn rotation(minor: Option<u32>, args: &[&str]) -> Result<Rotation, (&'static str, String)> {
        let server = Server::of_flags(Distribution::Other, Flags::read(args.iter().copied()));
        Rotation::of(&Server { minor, ..server })
    }

    #[test]
    fn defaults_by_version() {
        let of = |size, backups, days| Ok(Rotation { size, backups, days });
        assert_eq!(rotation(Some(35), &[]), of(Some(100), None, None));
        assert_eq!(rotation(None, &[]), of(Some(100), None, None));
        assert_eq!(rotation(Some(36), &[]), of(Some(100), Some(100), Some(366)));
        assert_eq!(rotation(Some(36), &["--audit-log-maxsize=0"]), of(None, Some(100), Some(366)));
        assert_eq!(rotation(Some(35), &["--audit-log-maxsize=0"]), of(Some(100), None, None));
        let set = ["--audit-log-maxsize=5", "--audit-log-maxbackup=0", "--audit-log-maxage=2"];
        assert_eq!(rotation(Some(36), &set), of(Some(5), None, Some(2)));
        assert_eq!(rotation(None, &["--audit-log-maxage=x"]), Err(("audit-log-maxage", "x".to_owned())));
    }

    #[test]
    fn how_long_and_how_much() {
        let of = |size, backups, days| Rotation { size, backups, days };
        let mib = MIB as f64;
        assert_eq!(of(Some(100), Some(10), None).holds(mib), Some(1000.0));
        assert_eq!(of(Some(100), Some(10_000_000), Some(1)).holds(mib), Some(86_400.0));
        assert_eq!(of(Some(100), None, None).holds(mib), None);
        assert_eq!(of(None, Some(1), None).holds(mib), None);
        assert_eq!(of(Some(100), Some(10), None).takes(false), Some(1200 * MIB));
        assert_eq!(of(Some(80), Some(10), None).takes(true), Some(260 * MIB));
        assert_eq!(of(Some(u64::MAX / MIB), Some(u64::MAX), None).takes(false), Some(u64::MAX));
    }

    #[test]
    fn what_fits() {
        let hold = Duration::from_secs(24 * 3600);
        let fit = |rate, room, compressing| {
            let fit = Fit::to(rate, hold, room, compressing);
            (fit.size, fit.backups, fit.compress, fit.holds / 3600)
        };
        let mib = MIB as f64;
        assert_eq!(fit(0.0, None, false), (100, 10, false, 291_271));
        assert_eq!(fit(0.1 * mib, None, false), (100, 87, false, 24));
        assert_eq!(fit(1.0 * mib, None, false), (300, 288, false, 24));
        assert_eq!(fit(100.0 * mib, None, false), (1000, 8640, false, 24));
        // Plain there is no room, compressed there is.
        assert_eq!(fit(0.1 * mib, Some(4_000 * MIB), false), (100, 87, true, 24));
        // There is no room at all: as much as there is.
        assert_eq!(fit(0.1 * mib, Some(700 * MIB), false), (100, 40, true, 11));
        assert_eq!(fit(0.1 * mib, Some(0), true), (100, 1, true, 0));
        assert_eq!(fit(u64::MAX as f64, None, false).3, 24);
    }

    #[test]
    fn what_fits_holds_what_it_says() {
        for rate in [1_000.0, 111_000.0, 2_000_000.0] {
            let fit = Fit::to(rate, Duration::from_secs(24 * 3600), None, false);
            let rotation = Rotation { size: Some(fit.size), backups: Some(fit.backups), days: None };
            assert_eq!(rotation.holds(rate).map(|seconds| seconds as u64), Some(fit.holds));
            assert!(fit.holds >= 24 * 3600, "{fit:?}");
        }
    }
}
