//! Where a stream of container records can be begun again.
//!
//! It owns, for one stream, the stretches in which a run of records was open. A position inside one of them is
//! resumed from before it, any other from itself.
//!
//! Invariants: the stretches are in order and do not overlap; there are at most [`MOST`], whatever the backlog is:
//! more are joined to their neighbours, which only makes a restart read a little more.

use std::collections::VecDeque;
use std::ops::Range;

/// The most stretches that are remembered (16 bytes each).
const MOST: usize = 1024;

/// The anchors of one stream.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    stretches: VecDeque<Range<u64>>,
    /// The last place where nothing was open, as far as the stream is read.
    quiet: u64,
}

impl Anchors {
    /// Those of a stream that is begun at `anchor`.
    pub(crate) fn new(anchor: u64) -> Anchors {
        Anchors { stretches: VecDeque::new(), quiet: anchor }
    }

    /// The stream is read from `anchor` on: what was known of the rest will be found again.
    pub(crate) fn begin(&mut self, anchor: u64) {
        self.stretches.retain(|stretch| stretch.start < anchor);
        self.quiet = anchor;
    }

    /// More of the stream was read: these stretches, and then nothing was open at `quiet` for the last time.
    pub(crate) fn extend(&mut self, stretches: impl Iterator<Item = Range<u64>>, quiet: u64) {
        self.stretches.extend(stretches);
        self.quiet = quiet;
        while self.stretches.len() > MOST {
            let mut joined = VecDeque::with_capacity(MOST);
            while let Some(first) = self.stretches.pop_front() {
                let end = self.stretches.pop_front().map_or(first.end, |second| second.end);
                joined.push_back(first.start..end);
            }
            self.stretches = joined;
        }
    }

    /// The stream ends here: what is open goes on in another one.
    pub(crate) fn end(&mut self, at: u64) {
        if self.quiet < at {
            self.stretches.push_back(self.quiet..at);
            self.quiet = at;
        }
    }

    /// Forgets what no position from this one on needs.
    pub(crate) fn forget(&mut self, position: u64) {
        while self.stretches.front().is_some_and(|stretch| stretch.end <= position) {
            self.stretches.pop_front();
        }
    }

    /// The anchor of `position`. Behind what is read it is where that ends: nobody knows what is open there.
    pub(crate) fn of(&self, position: u64) -> u64 {
        let index = self.stretches.partition_point(|stretch| stretch.end <= position);
        let start = self.stretches.get(index).map_or(self.quiet, |stretch| stretch.start);
        start.min(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_inside_a_stretch_has_its_beginning() {
        let mut anchors = Anchors::default();
        anchors.extend([10..20, 20..30, 50..60].into_iter(), 80);
        for (position, anchor) in
            [(0, 0), (10, 10), (11, 10), (19, 10), (20, 20), (25, 20), (30, 30), (70, 70), (80, 80), (95, 80)]
        {
            assert_eq!(anchors.of(position), anchor, "{position}");
        }
        anchors.forget(30);
        assert_eq!([30, 55, 95].map(|position| anchors.of(position)), [30, 50, 80]);
        anchors.end(90);
        assert_eq!([85, 90].map(|position| anchors.of(position)), [80, 90]);
    }

    #[test]
    fn what_is_not_read_yet_has_the_last_anchor_before_it() {
        let mut anchors = Anchors::new(7);
        assert_eq!([7, 9].map(|position| anchors.of(position)), [7, 7]);
        anchors.extend(std::iter::once(7..12), 12);
        assert_eq!([9, 12].map(|position| anchors.of(position)), [7, 12]);
        // Read from there once more.
        anchors.begin(7);
        assert_eq!([9, 12].map(|position| anchors.of(position)), [7, 7]);
        anchors.extend(std::iter::once(7..12), 12);
        assert_eq!([9, 12].map(|position| anchors.of(position)), [7, 12]);
    }

    #[test]
    fn many_stretches_take_no_more_room_and_give_no_later_anchor() {
        let stretch = |number: u64| number * 10 + 2..number * 10 + 8;
        let mut bounded = Anchors::default();
        let count = 3 * MOST as u64;
        for number in 0..count {
            bounded.extend(std::iter::once(stretch(number)), stretch(number).end + 2);
        }
        assert!(bounded.stretches.len() <= MOST);
        for position in 0..count * 10 {
            let exact = Some(stretch(position / 10)).filter(|stretch| stretch.contains(&position));
            let exact = exact.map_or(position, |stretch| stretch.start);
            let anchor = bounded.of(position);
            assert!(anchor <= exact && (anchor == position || anchor % 10 == 2), "{position}");
        }
    }
}
