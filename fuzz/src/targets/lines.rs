//! Lines and a container runtime's records: however the bytes come, the same lines with the same spans, in order,
//! without a gap.

use auditship_event::{Span, StreamId};
use auditship_tail::{Format, Splitter};

/// Small, so that long lines are met.
const LIMIT: usize = 96;

/// A line that was handed out: its span, its bytes, and why it is not whole.
type Seen = (Span, Vec<u8>, Option<&'static str>);

/// The first byte says how many bytes come at once.
pub(super) fn run(input: &[u8]) {
    let (step, text) =
        input.split_first().map_or((1, input), |(first, rest)| (usize::from(*first) % 40 + 1, rest));
    for format in [Format::Auto, Format::Audit, Format::Cri] {
        let whole = split(text, format, usize::MAX);
        let pieces = split(text, format, step);
        assert!(whole == pieces, "lines depend on how the bytes come, {step} at a time");
        let mut at = 0;
        for (span, bytes, _) in &whole {
            assert!(span.start == at && span.start < span.end, "a gap or an overlap at {at}: {span}");
            assert!(bytes.len() <= LIMIT, "{} bytes in a line", bytes.len());
            at = span.end;
        }
        assert!(at <= text.len() as u64, "a span ends at {at}, beyond the stream");
    }
}

fn split(text: &[u8], format: Format, step: usize) -> Vec<Seen> {
    let mut splitter = Splitter::new(StreamId(1), format, LIMIT);
    let (mut seen, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let space = splitter.space();
        let count = space.len().min(step).min(text.len() - at);
        space[..count].copy_from_slice(&text[at..at + count]);
        splitter.filled(count);
        at += count;
        while let Some((line, _)) = splitter.next() {
            seen.push((line.span, line.bytes.to_vec(), line.cut.map(|cut| cut.reason)));
        }
    }
    while let Some((line, _)) = splitter.finish() {
        seen.push((line.span, line.bytes.to_vec(), line.cut.map(|cut| cut.reason)));
    }
    while let Some((line, _)) = splitter.abandon() {
        seen.push((line.span, line.bytes.to_vec(), line.cut.map(|cut| cut.reason)));
    }
    seen
}
