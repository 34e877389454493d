//! Batches that were written down before the process died are cut again as they were.
//!
//! Where the batch is the unit of idempotency, an object may exist, or come to exist (a request may still be under way
//! somewhere), which nobody has acknowledged. So its lines, when they are read again, go into a batch of the same name:
//! whichever of the two the store takes first, it takes one. The bytes may differ, because the configuration or the
//! program changed; the lines are the same.
//!
//! A record belongs to such a batch if its line is among the batch's spans and its hour is the batch's. The batch is
//! whole when all of its spans have been passed, and is handed out then.

use crate::batch::BatchId;
use crate::batcher::Open;
use crate::compress::Encoding;
use crate::sink::GroupKey;
use auditship_event::Span;
use std::sync::Arc;

/// A batch that was written down: its name, and what is in it.
#[derive(Clone, Debug)]
pub struct Thawed {
    pub(crate) id: BatchId,
    pub(crate) object: Arc<str>,
    key: GroupKey,
    /// Sorted.
    spans: Vec<Span>,
}

impl Thawed {
    /// `None`: the names are none that this program gives.
    pub fn new(id: &str, object: &str, mut spans: Vec<Span>) -> Option<Thawed> {
        spans.sort_unstable();
        Some(Thawed {
            id: id.parse().ok()?,
            object: object.into(),
            key: GroupKey::Hour(hour(object)?),
            spans,
        })
    }

    fn covers(&self, span: Span) -> bool {
        let after =
            self.spans.partition_point(|known| (known.stream, known.start) <= (span.stream, span.start));
        after > 0 && {
            let known = self.spans[after - 1];
            known.stream == span.stream && span.end <= known.end
        }
    }

    /// How many bytes of `span` are in it.
    fn overlap(&self, span: Span) -> u64 {
        let from = self.spans.partition_point(|known| (known.stream, known.end) <= (span.stream, span.start));
        let touched = self.spans[from..]
            .iter()
            .take_while(|known| known.stream == span.stream && known.start < span.end);
        touched.map(|known| known.end.min(span.end) - known.start.max(span.start)).sum()
    }
}

/// The hour in an object's name, counted since 1970.
fn hour(object: &str) -> Option<i64> {
    let part = |key: &str| object.split('/').find_map(|part| part.strip_prefix(key));
    let time = format!("{}T{}:00:00Z", part("date=")?, part("hour=")?);
    let time: jiff::Timestamp = time.parse().ok()?;
    Some(time.as_second().div_euclid(3600))
}

/// A thawed batch in the making.
pub(crate) struct Thawing {
    pub(crate) thawed: Thawed,
    /// Bytes of its spans that have not been passed yet.
    left: u64,
    pub(crate) open: Option<Open>,
}

impl Thawing {
    pub(crate) fn new(thawed: Thawed) -> Thawing {
        let left = thawed.spans.iter().map(|span| span.len()).sum();
        Thawing { thawed, left, open: None }
    }

    /// How its object's name says that it is compressed.
    pub(crate) fn encoding(&self) -> Encoding {
        Encoding::of_name(&self.thawed.object)
    }

    pub(crate) fn pass(&mut self, span: Span) {
        self.left = self.left.saturating_sub(self.thawed.overlap(span));
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.left == 0
    }
}

/// The one that a record of `key` from the line `span` belongs to. Where several could have it, none: a repetition is
/// better than a loss.
pub(crate) fn home(thawing: &[Thawing], span: Span, key: &GroupKey) -> Option<usize> {
    let mut found = (0..thawing.len()).filter(|at| {
        let thawed = &thawing[*at].thawed;
        thawed.key == *key && thawed.covers(span)
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditship_event::StreamId;

    fn span(stream: u64, start: u64, end: u64) -> Span {
        Span { stream: StreamId(stream), start, end }
    }

    const OBJECT: &str = "cluster=c/date=2026-11-24/hour=02/20261124T023059.123456Z-n-00.ndjson.zst";
    const ID: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn names_are_read_back() {
        let thawed = Thawed::new(ID, OBJECT, Vec::new()).unwrap();
        assert_eq!(thawed.id.to_string(), ID);
        assert_eq!(thawed.key, GroupKey::Hour(1_795_487_459 / 3600));
        for (id, object) in [
            ("00", OBJECT),
            ("zz112233445566778899aabbccddeeff", OBJECT),
            (ID, "x/hour=02/y"),
            (ID, "date=x/hour=02"),
        ] {
            assert!(Thawed::new(id, object, Vec::new()).is_none(), "{id} {object}");
        }
    }

    #[test]
    fn spans_are_covered_and_passed() {
        let thawed = Thawed::new(ID, OBJECT, vec![span(2, 0, 5), span(1, 10, 30), span(1, 40, 50)]).unwrap();
        let key = thawed.key.clone();
        let mut thawing = vec![Thawing::new(thawed.clone())];
        for (line, want) in [
            (span(1, 10, 20), true),
            (span(1, 20, 30), true),
            (span(1, 25, 31), false),
            (span(1, 9, 12), false),
            (span(1, 30, 40), false),
            (span(2, 0, 5), true),
            (span(3, 0, 5), false),
        ] {
            assert_eq!(home(&thawing, line, &key).is_some(), want, "{line}");
        }
        assert!(home(&thawing, span(1, 10, 20), &GroupKey::Hour(0)).is_none());
        // A line that was lost in one piece counts as far as it is in the batch.
        for (line, left) in
            [(span(1, 0, 15), 30), (span(1, 15, 45), 10), (span(1, 45, 99), 5), (span(2, 0, 9), 0)]
        {
            thawing[0].pass(line);
            assert_eq!(thawing[0].left, left, "{line}");
        }
        assert!(thawing[0].is_whole());
        thawing.push(Thawing::new(thawed));
        assert!(home(&thawing, span(1, 10, 20), &key).is_none(), "two could have it");
    }
}
