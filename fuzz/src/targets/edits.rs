//! Edits over a line: nothing survives that one of them covers, everything else does, and parts make up the whole.

use auditship_event::Edits;
use std::ops::Range;

/// Four bytes an edit: where it begins, how long it is, how long its text is, and where the line is parted. The line
/// is the input itself.
pub(super) fn run(line: &[u8]) {
    let (mut edits, mut wanted, mut parts) = (Edits::new(), Vec::<Range<usize>>::new(), vec![0, line.len()]);
    for chunk in line.chunks_exact(4).take(16) {
        let start = usize::from(chunk[0]) % (line.len() + 1);
        let end = (start + usize::from(chunk[1]) % 24).min(line.len());
        let text = &b"redacted:x-redacted:y"[..usize::from(chunk[2]) % 22];
        edits.push(start..end, text, u16::from(chunk[3]));
        wanted.push(start..end);
        parts.push(usize::from(chunk[3]) % (line.len() + 1));
    }
    edits.settle();
    let settled: Vec<Range<usize>> = edits.iter().map(|edit| edit.range.clone()).collect();
    assert!(settled.windows(2).all(|pair| pair[0].end <= pair[1].start), "edits overlap: {settled:?}");
    for want in wanted.iter().filter(|want| !want.is_empty()) {
        let covers = |edit: &Range<usize>| edit.start <= want.start && want.end <= edit.end;
        assert!(settled.iter().any(covers), "{want:?} is lost among {settled:?}");
    }
    let mut out = Vec::new();
    edits.apply(line, &mut out);
    assert_eq!(out.len(), edits.len_of(line.len()));
    assert!(reversed(line, &out, &edits) == line, "taking the edits back gives something else");
    parts.sort_unstable();
    let mut joined = Vec::new();
    parts.dedup();
    for pair in parts.windows(2) {
        edits.apply_to(line, pair[0]..pair[1], &mut joined);
    }
    assert!(line.is_empty() || out == joined, "parts make up something else");
}

fn reversed(line: &[u8], out: &[u8], edits: &Edits) -> Vec<u8> {
    let (mut back, mut at) = (Vec::new(), 0);
    for edit in edits.iter() {
        let plain = edit.range.start - back.len();
        back.extend_from_slice(&out[at..at + plain]);
        back.extend_from_slice(&line[edit.range.clone()]);
        at += plain + edits.text(edit).len();
    }
    back.extend_from_slice(&out[at..]);
    back
}
