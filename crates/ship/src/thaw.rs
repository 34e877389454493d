//! Batches that were written down before the process died are cut again as they were.
//!
//! Where the batch is the unit of idempotency, its object (in an archive) or its insert (where the backend knows a
//! request again by the batch's name) may exist, or come to exist (a request may still be under way somewhere), which
//! nobody has acknowledged. So its lines, when they are read again, go into a batch of the same name: whichever of the
//! two the backend takes first, it takes one. The bytes may differ, because the configuration or the program changed;
//! the lines are the same.
//!
//! A record belongs to such a batch if its line is among the batch's spans and its group (the hour, the index) is the
//! batch's. The batch is whole when all of its spans have been passed, and is handed out then.

use crate::batch::BatchId;
use crate::batcher::Open;
use crate::compress::Encoding;
use crate::sink::{GroupKey, Named, Sink};
use auditship_event::Span;
use std::sync::Arc;

/// A batch that was written down: its name, and what is in it.
#[derive(Clone, Debug)]
pub struct Thawed {
    pub(crate) id: BatchId,
    pub(crate) object: Arc<str>,
    named: Named,
    /// Sorted.
    spans: Vec<Span>,
}

impl Thawed {
    /// `None`: the names are none that `sink` gives.
    pub fn new(sink: &dyn Sink, id: &str, object: &str, mut spans: Vec<Span>) -> Option<Thawed> {
        spans.sort_unstable();
        Some(Thawed { id: id.parse().ok()?, object: object.into(), named: sink.named(object)?, spans })
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

    /// How its name says that it is compressed.
    pub(crate) fn encoding(&self) -> Encoding {
        self.thawed.named.encoding
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
        thawed.named.group == *key && thawed.covers(span)
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

    fn thawed(id: &str, object: &str, spans: Vec<Span>) -> Option<Thawed> {
        let sink = crate::sinks::tests::build("dir", serde_json::json!({"path": "/x"})).unwrap().sink;
        Thawed::new(&*sink, id, object, spans)
    }

    #[test]
    fn names_of_others_are_not_taken() {
        assert_eq!(thawed(ID, OBJECT, Vec::new()).unwrap().id.to_string(), ID);
        for (id, object) in
            [("00", OBJECT), ("zz112233445566778899aabbccddeeff", OBJECT), (ID, "x/hour=02/y"), (ID, ID)]
        {
            assert!(thawed(id, object, Vec::new()).is_none(), "{id} {object}");
        }
    }

    #[test]
    fn spans_are_covered_and_passed() {
        let thawed = thawed(ID, OBJECT, vec![span(2, 0, 5), span(1, 10, 30), span(1, 40, 50)]).unwrap();
        let key = thawed.named.group.clone();
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
