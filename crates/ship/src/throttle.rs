//! The rate limits of one output: governor's generic cell rate algorithm, with the time passed in.

use crate::units::{ByteRate, RequestRate};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A clock that shows what it was last told.
#[derive(Clone, Debug, Default)]
struct Told(Arc<AtomicU64>);

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

type Cells = RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Nanos>>;

/// One limit. A burst of one period's worth is allowed.
struct Limit {
    cells: Cells,
    burst: NonZeroU32,
    /// Bytes or requests in one cell.
    unit: u64,
}

impl Limit {
    fn new(count: u64, per: Duration, clock: &Told) -> Option<Limit> {
        // A cell is never shorter than a microsecond, so that whole nanoseconds are exact enough.
        let unit = (count / (per.as_micros() as u64).max(1)).max(1).next_power_of_two();
        let burst = NonZeroU32::new(u32::try_from((count / unit).max(1)).unwrap_or(u32::MAX))?;
        let quota = Quota::with_period(per / burst.get())?.allow_burst(burst);
        Some(Limit { cells: RateLimiter::direct_with_clock(quota, clock.clone()), burst, unit })
    }
}

/// The limits of one output.
#[derive(Default)]
pub(crate) struct Throttle {
    clock: Told,
    bytes: Option<Limit>,
    requests: Option<Limit>,
}

/// What one request still has to be let through for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    bytes: u64,
    requests: u64,
}

impl Due {
    /// One request with a body of so many bytes.
    pub(crate) fn request(bytes: usize) -> Due {
        Due { bytes: bytes as u64, requests: 1 }
    }
}

impl Throttle {
    pub(crate) fn new(bytes: Option<ByteRate>, requests: Option<RequestRate>) -> Throttle {
        let clock = Told::default();
        Throttle {
            bytes: bytes.and_then(|rate| Limit::new(rate.bytes.get(), rate.per, &clock)),
            requests: requests.and_then(|rate| Limit::new(rate.requests.get(), rate.per, &clock)),
            clock,
        }
    }

    /// Lets `due` through as far as the limits allow at `now` (time since any fixed moment). `Err`: wait so long,
    /// then go on with what is left of it.
    pub(crate) fn pass(&self, due: &mut Due, now: Duration) -> Result<(), Duration> {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.clock.0.fetch_max(nanos, Ordering::Relaxed);
        self.drain(&self.requests, &mut due.requests)?;
        self.drain(&self.bytes, &mut due.bytes)
    }

    /// A request larger than the burst passes in pieces, each of which waits for its share.
    fn drain(&self, limit: &Option<Limit>, left: &mut u64) -> Result<(), Duration> {
        let Some(limit) = limit else {
            *left = 0;
            return Ok(());
        };
        while *left > 0 {
            let piece = (*left).min(u64::from(limit.burst.get()) * limit.unit);
            let cells = u32::try_from(piece.div_ceil(limit.unit)).unwrap_or(u32::MAX);
            let cells = NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN).min(limit.burst);
            match limit.cells.check_n(cells) {
                Ok(Ok(())) => *left -= piece,
                Ok(Err(not_until)) => return Err(not_until.wait_time_from(self.clock.now())),
                // Cannot be: a piece is never larger than the burst.
                Err(_) => *left = 0,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    /// The simulated time after which `requests` of `bytes` each have passed.
    fn time_for(throttle: &Throttle, requests: usize, bytes: usize) -> Duration {
        let mut now = Duration::ZERO;
        for _ in 0..requests {
            let mut due = Due::request(bytes);
            while let Err(wait) = throttle.pass(&mut due, now) {
                now += wait.max(Duration::from_nanos(1));
            }
        }
        now
    }

    #[test]
    fn holds_both_rates() {
        let bytes = |text| Some(ByteRate::from_str(text).unwrap());
        let requests = |text| Some(RequestRate::from_str(text).unwrap());
        assert_eq!(time_for(&Throttle::new(None, None), 1000, 1 << 20), Duration::ZERO);
        // The first second's worth is a burst.
        let cases = [
            (Throttle::new(None, requests("50/s")), 550, 1 << 20, 10.0),
            (Throttle::new(bytes("20MiB/s"), None), 220, 1 << 20, 10.0),
            (Throttle::new(bytes("1MiB/s"), None), 2, 6 << 20, 11.0),
            (Throttle::new(bytes("100B/s"), None), 1, 1100, 10.0),
            (Throttle::new(bytes("4GiB/s"), requests("300/m")), 310, 1, 2.0),
        ];
        for (throttle, count, size, want) in cases {
            let took = time_for(&throttle, count, size).as_secs_f64();
            assert!((took - want).abs() < 0.05 * want, "{took} for {want}");
        }
    }
}
