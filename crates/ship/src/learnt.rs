//! The learnt limit: how large a batch an output takes, learnt from what it has refused as too large. A pure state
//! machine; `now` is an argument.
//!
//! Backends, and what stands in front of them, have limits that nobody tells (a proxy's `client_max_body_size`, a
//! collector's `max_request_body_size`). A batch above one is refused and sent in two halves. Were that forgotten,
//! each later batch would be sent, refused and halved as well.
//!
//! Sizes are those that batches are cut by: raw bytes, or packed ones for large objects. The limit that is not known
//! may be one of the others. So a size that was refused and had been taken before says that the measures differ, and
//! what was taken before is no guide any more.
//!
//! Invariant: the limit is never above what is configured, and below [`LEAST`] only where that is configured.

use std::time::{Duration, Instant};

/// Batches are not cut smaller than this for what was learnt: whoever refuses less refuses single events.
pub const LEAST: usize = 16 << 10;

/// After so long without a refusal the limit doubles: from 64th of the configured one it is back after an hour, and a
/// limit that stays costs one request in this time.
pub const CALM: Duration = Duration::from_secs(600);

/// What was learnt about one output.
#[derive(Clone, Copy, Debug)]
pub struct Learnt {
    /// The configured limit.
    most: usize,
    /// The limit at the time of the last refusal.
    limit: usize,
    /// The largest size that was taken, as far as no refusal speaks against it.
    taken: usize,
    /// The smallest size that was refused, as far as nothing that was taken speaks against it.
    too_large: usize,
    /// The last refusal.
    refused: Option<Instant>,
}

impl Learnt {
    /// Nothing is known yet; `most` is the configured limit.
    pub fn new(most: usize) -> Learnt {
        Learnt { most, limit: most, taken: 0, too_large: usize::MAX, refused: None }
    }

    /// How large a batch may be.
    pub fn limit(&self, now: Instant) -> usize {
        let doublings = (self.calm(now).as_secs() / CALM.as_secs()).min(32) as u32;
        self.limit.saturating_mul(1usize.checked_shl(doublings).unwrap_or(usize::MAX)).min(self.most)
    }

    /// Whether a batch of this size would be refused, as far as is known; between the limit and what was refused
    /// nobody knows.
    pub fn is_too_large(&self, size: usize, now: Instant) -> bool {
        size >= self.too_large && self.calm(now) < CALM
    }

    /// Time since the last refusal.
    fn calm(&self, now: Instant) -> Duration {
        self.refused.map_or(Duration::ZERO, |refused| now.saturating_duration_since(refused))
    }

    /// A batch of this size was refused as too large. Says whether that lowers the limit.
    pub fn refused(&mut self, size: usize, now: Instant) -> bool {
        let before = self.limit(now);
        if size <= self.taken {
            self.taken = 0;
        }
        let next = (size / 2).max(self.taken).max(LEAST);
        self.limit = before.min(next);
        self.too_large = if self.calm(now) < CALM { self.too_large.min(size) } else { size };
        self.refused = Some(now);
        self.limit < before
    }

    /// A batch of this size was taken: at least that is possible.
    pub fn taken(&mut self, size: usize) {
        self.taken = self.taken.max(size);
        if size >= self.too_large {
            self.too_large = usize::MAX;
        }
        self.limit = self.limit.max(size.min(self.most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: usize = 2 << 20;

    fn start() -> Instant {
        // The origin does not matter.
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn what_was_refused_and_taken_makes_the_limit() {
        use Said::{Refused, Taken};
        enum Said {
            Refused(usize),
            Taken(usize),
        }
        let (kib, mib) = (1 << 10, 1 << 20);
        for (what, said, want) in [
            ("nothing", &[][..], 2 * mib),
            ("half of what was refused", &[Refused(2 * mib)], mib),
            ("many at once are one sign", &[Refused(2 * mib), Refused(2 * mib), Refused(2 * mib)], mib),
            ("halves that are refused too", &[Refused(2 * mib), Refused(mib), Refused(512 * kib)], 256 * kib),
            ("a late refusal of much", &[Refused(512 * kib), Refused(2 * mib)], 256 * kib),
            ("what was taken is a floor", &[Taken(1500 * kib), Refused(2 * mib)], 1500 * kib),
            ("also afterwards", &[Refused(2 * mib), Taken(1200 * kib)], 1200 * kib),
            ("less than the limit says nothing", &[Refused(2 * mib), Taken(100 * kib)], mib),
            ("what was taken is refused now", &[Taken(2 * mib), Refused(2 * mib)], mib),
            ("and is no floor any more", &[Taken(mib), Refused(mib), Refused(512 * kib)], 256 * kib),
            ("single events are not learnt from without end", &[Refused(20 * kib), Refused(100)], LEAST),
            ("a record beyond the limit that is taken", &[Taken(9 * mib)], 2 * mib),
            ("and refused", &[Refused(9 * mib)], 2 * mib),
        ] {
            let (mut learnt, now) = (Learnt::new(MOST), start());
            for said in said {
                let before = learnt.limit(now);
                match said {
                    Refused(size) => {
                        assert_eq!(learnt.refused(*size, now), learnt.limit(now) < before, "{what}");
                    }
                    Taken(size) => learnt.taken(*size),
                }
            }
            assert_eq!(learnt.limit(now), want, "{what}");
        }
        let mut small = Learnt::new(4096);
        small.refused(4000, start());
        assert_eq!(small.limit(start()), 4096, "configured below the least");
    }

    #[test]
    fn it_is_forgotten_by_and_by() {
        let (mut learnt, now) = (Learnt::new(MOST), start());
        for size in [2 << 20, 1 << 20, 512 << 10] {
            learnt.refused(size, now);
        }
        learnt.taken(256 << 10);
        let after = |calms: u32| learnt.limit(now + CALM * calms);
        assert_eq!([0, 1, 2, 3, 4, 100_000].map(after), [256 << 10, 512 << 10, 1 << 20, MOST, MOST, MOST]);
        assert_eq!(learnt.limit(now + CALM - Duration::from_secs(1)), 256 << 10);
        // Refused once more, it goes back to what is known to be taken, not to half of it.
        let later = now + CALM;
        assert!(learnt.refused(512 << 10, later));
        assert_eq!((learnt.limit(later), learnt.limit(later + CALM)), (256 << 10, 512 << 10));
    }

    #[test]
    fn what_would_be_refused_need_not_be_tried() {
        let (mut learnt, now) = (Learnt::new(MOST), start());
        assert!(!learnt.is_too_large(MOST, now));
        learnt.refused(1000 << 10, now);
        learnt.refused(900 << 10, now);
        learnt.refused(2000 << 10, now);
        let least = |learnt: &Learnt, now| (0..2048).find(|kib| learnt.is_too_large(kib << 10, now));
        assert_eq!(
            (learnt.limit(now) >> 10, least(&learnt, now)),
            (450, Some(900)),
            "between the two nobody knows"
        );
        assert_eq!(least(&learnt, now + CALM), None, "it may take more by now");
        let mut other = learnt;
        other.taken(950 << 10);
        assert_eq!(least(&other, now), None, "the measures differ");
        learnt.refused(1500 << 10, now + CALM);
        assert_eq!(least(&learnt, now + CALM), Some(1500));
    }

    proptest! {
        #[test]
        fn whatever_is_said_the_limit_stays_within_its_bounds(
            most in 4096usize..8 << 20,
            said in prop::collection::vec((any::<bool>(), 1usize..16 << 20, 0u64..2000), 0..60),
        ) {
            let (mut learnt, mut now) = (Learnt::new(most), start());
            for (taken, size, seconds) in said {
                let before = learnt.limit(now);
                now += Duration::from_secs(seconds);
                let grown = learnt.limit(now);
                prop_assert!(grown >= before, "time alone lowers nothing");
                if taken {
                    learnt.taken(size);
                    prop_assert!(learnt.limit(now) >= grown);
                } else {
                    learnt.refused(size, now);
                    prop_assert!(learnt.limit(now) <= grown);
                }
                prop_assert!((LEAST.min(most)..=most).contains(&learnt.limit(now)));
            }
        }

        /// Against a backend with a limit of its own: few requests are wasted, and batches are not much smaller than
        /// they need be; when the backend takes more, so do we.
        #[test]
        fn a_backend_is_met_half_way(real in LEAST..8usize << 20, hours in 1u32..4) {
            let (mut learnt, mut now) = (Learnt::new(MOST), start());
            let mut refusals = 0;
            let until = now + 6 * hours * CALM;
            while now < until {
                let size = learnt.limit(now);
                if size > real {
                    learnt.refused(size, now);
                    refusals += 1;
                } else {
                    learnt.taken(size);
                    prop_assert!(2 * size >= real.min(MOST), "{size} for {real}");
                }
                now += Duration::from_secs(60);
            }
            // Seven halvings from the configured limit to the least, then one try in each time of calm.
            prop_assert!(refusals <= 7 + 6 * hours, "{refusals}");
            prop_assert_eq!(learnt.limit(now + 7 * CALM), MOST);
        }
    }
}
