//! The splitter against a simple model.

use auditship_event::{Span, StreamId};
use auditship_tail::{Format, Splitter};
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    span: (u64, u64, u64),
    carried: Option<(u64, u64, u64)>,
    bytes: Vec<u8>,
    tail: Option<Vec<u8>>,
    reason: &'static str,
    physical: Option<Vec<u8>>,
}

fn span(span: Span) -> (u64, u64, u64) {
    (span.stream.0, span.start, span.end)
}

macro_rules! got {
    ($pair:expr) => {{
        let (line, pieces) = $pair;
        let mut physical = Vec::new();
        for piece in &pieces.list {
            physical.extend_from_slice(pieces.prefix(piece));
            physical.extend_from_slice(&line.bytes[piece.content.clone()]);
            physical.extend_from_slice(piece.terminator.bytes());
        }
        Got {
            span: span(line.span),
            carried: line.carried.map(span),
            bytes: line.bytes.to_vec(),
            tail: line.cut.map(|cut| cut.tail.to_vec()),
            reason: line.cut.map_or("", |cut| cut.reason),
            physical: (!pieces.cut).then_some(physical),
        }
    }};
}

/// Feeds `bytes` in steps of these sizes, over and over.
fn feed(splitter: &mut Splitter, mut bytes: &[u8], steps: &[usize]) -> Vec<Got> {
    let mut all = Vec::new();
    for step in steps.iter().copied().cycle() {
        while let Some(line) = splitter.next() {
            all.push(got!(line));
        }
        if bytes.is_empty() {
            return all;
        }
        let space = splitter.space();
        assert!(!space.is_empty());
        let count = step.max(1).min(space.len()).min(bytes.len());
        space[..count].copy_from_slice(&bytes[..count]);
        splitter.filled(count);
        bytes = &bytes[count..];
    }
    all
}

fn finish(splitter: &mut Splitter) -> Vec<Got> {
    let mut all = Vec::new();
    while let Some(line) = splitter.finish() {
        all.push(got!(line));
    }
    all
}

fn abandon(splitter: &mut Splitter) -> Vec<Got> {
    let mut all = Vec::new();
    while let Some(line) = splitter.abandon() {
        all.push(got!(line));
    }
    all
}

fn all(bytes: &[u8], format: Format, limit: usize, steps: &[usize]) -> Vec<Got> {
    let mut splitter = Splitter::new(StreamId(1), format, limit);
    let mut all = feed(&mut splitter, bytes, steps);
    all.extend(finish(&mut splitter));
    all.extend(abandon(&mut splitter));
    all
}

fn contents(lines: &[Got]) -> Vec<String> {
    lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
}

fn record(tag: &str, flag: &str, content: &str) -> String {
    format!("2026-11-24T02:30:59.511Z {tag} {flag} {content}\n")
}

#[test]
fn terminators() {
    for (bytes, lines) in [
        (&b""[..], &[][..]),
        (b"a\nb", &["a", "b"][..]),
        (b"a\r\n\r\n\nb\r", &["a", "", "", "b\r"]),
        (b"\n", &[""]),
    ] {
        for step in 1..4 {
            let got = all(bytes, Format::Audit, 100, &[step]);
            assert_eq!(contents(&got), lines);
            assert_eq!(got.last().map_or(0, |line| line.span.2), bytes.len() as u64);
        }
    }
}

#[test]
fn a_line_of_the_limit_is_whole_and_one_byte_more_is_cut() {
    for (length, end) in [(64, "\n"), (64, "\r\n"), (65, "\n"), (65, "\r\n"), (66, "\r\n"), (500, "\n")] {
        let line: Vec<u8> = (0..length).map(|number| b'a' + (number % 26) as u8).collect();
        let bytes = [&line[..], end.as_bytes(), b"next\n"].concat();
        for step in [1, 7, 64, 65, 66, 1000] {
            let got = all(&bytes, Format::Auto, 64, &[step]);
            assert_eq!(got.len(), 2, "{length} {step}");
            assert_eq!(got[1].bytes, b"next");
            assert_eq!(got[0].span, (1, 0, (length + end.len()) as u64));
            if length > 64 {
                assert_eq!(got[0].reason, "too_long");
                assert_eq!(got[0].bytes, line[..32], "{length} {step}");
                assert_eq!(got[0].tail.as_deref(), Some(&line[length - 32..]), "{length} {end:?} {step}");
            } else {
                assert_eq!((got[0].reason, &got[0].bytes), ("", &line));
            }
        }
    }
}

#[test]
fn ten_megabytes_without_an_end_take_no_more_memory_than_the_limit() {
    let mut splitter = Splitter::new(StreamId(1), Format::Auto, 1 << 20);
    let line = vec![b'x'; 10 << 20];
    let got = feed(&mut splitter, &line, &[1 << 20]);
    assert!(got.is_empty());
    assert!(splitter.memory() < 4 << 20, "{}", splitter.memory());
    let got = feed(&mut splitter, b"\nnext\n", &[100]);
    assert_eq!((got[0].bytes.len(), got[0].tail.as_ref().unwrap().len()), (64 << 10, 64 << 10));
    assert_eq!(got[0].span, (1, 0, (10 << 20) + 1));
    assert_eq!(got[1].bytes, b"next");
    feed(&mut splitter, b"small\n", &[100]);
    assert!(splitter.memory() < 2 << 20, "{}", splitter.memory());
}

#[test]
fn a_truncation_hole_is_not_part_of_the_line() {
    let bytes = [&vec![0; 5 << 20][..], b"{\"kind\":1}\n", &[0; 3], b"{}\n"].concat();
    let got = all(&bytes, Format::Auto, 1 << 20, &[1 << 16]);
    assert_eq!(contents(&got), ["{\"kind\":1}", "{}"]);
    assert_eq!((got[0].span, got[0].reason), ((1, 0, (5 << 20) + 11), ""));
}

#[test]
fn records_are_joined_by_tag() {
    let bytes = [
        record("stdout", "F", "{\"a\":1}"),
        record("stdout", "P", "{\"b\":"),
        record("stderr", "P", "I11"),
        record("stdout", "P", "2"),
        record("stderr", "F", "24 klog"),
        "not a record\r\n".to_owned(),
        record("stdout", "F", "}"),
        record("stdout", "P", "begun"),
    ]
    .concat();
    for format in [Format::Cri, Format::Auto] {
        for step in [1, 5, 1000] {
            let got = all(bytes.as_bytes(), format, 100, &[step]);
            assert_eq!(contents(&got), ["{\"a\":1}", "I1124 klog", "not a record", "{\"b\":2}", "begun"]);
            assert_eq!(got[4].reason, "unfinished");
            let mut from = 0;
            for line in &got {
                assert_eq!((line.span.0, line.span.1), (1, from));
                from = line.span.2;
            }
            assert_eq!(from, bytes.len() as u64);
        }
    }
}

#[test]
fn a_joined_line_obeys_the_limit() {
    let long: String = (0..10).map(|number| record("stdout", "P", &number.to_string().repeat(50))).collect();
    let bytes = long + &record("stdout", "F", "end") + &record("stdout", "F", "next");
    let got = all(bytes.as_bytes(), Format::Cri, 200, &[33]);
    assert_eq!((got[0].reason, got[0].bytes.len(), got.len()), ("too_long", 100, 2));
    let tail = got[0].tail.clone().unwrap();
    assert!(tail.len() == 100 && tail.ends_with(b"99999end"));
    assert_eq!(got[1].bytes, b"next");
}

/// (is stderr, is partial, content)
fn records() -> impl Strategy<Value = Vec<(bool, bool, String)>> {
    proptest::collection::vec((any::<bool>(), any::<bool>(), "[a-z\\r]{0,12}"), 0..30)
}

fn write(records: &[(bool, bool, String)]) -> Vec<u8> {
    let line = |(stderr, partial, content): &(bool, bool, String)| {
        record(if *stderr { "stderr" } else { "stdout" }, if *partial { "P" } else { "F" }, content)
    };
    records.iter().map(line).collect::<String>().into_bytes()
}

proptest! {
    #[test]
    fn no_byte_is_lost_or_added(
        bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), b'a'..b'd'], 0..300),
        steps in proptest::collection::vec(1usize..20, 1..5),
    ) {
        let got = all(&bytes, Format::Auto, 400, &steps);
        let whole: Vec<u8> = got.iter().flat_map(|line| line.physical.clone().unwrap()).collect();
        prop_assert_eq!(whole, bytes);
    }

    /// Streams of records, cut anywhere between two: the lines are those of the tags taken for themselves, and the
    /// spans, the carried ones too, cover every byte of every stream once.
    #[test]
    fn joined_lines_are_those_of_each_tag(
        records in records(),
        cuts in proptest::collection::vec(0usize..30, 0..2),
        steps in proptest::collection::vec(1usize..60, 1..4),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(records.len())).collect();
        cuts.extend([0, records.len()]);
        cuts.sort();
        let mut splitter = Splitter::new(StreamId(0), Format::Cri, 1000);
        let (mut got, mut lengths) = (Vec::new(), Vec::new());
        for (stream, cut) in cuts.windows(2).enumerate() {
            let bytes = write(&records[cut[0]..cut[1]]);
            splitter.begin(StreamId(stream as u64), 0, 0);
            got.extend(feed(&mut splitter, &bytes, &steps));
            got.extend(finish(&mut splitter));
            if splitter.carries() {
                got.extend(abandon(&mut splitter));
            }
            lengths.push(bytes.len() as u64);
        }
        got.extend(abandon(&mut splitter));
        // Every byte once.
        let spans = got.iter().flat_map(|line| [Some(line.span), line.carried]).flatten();
        let mut spans: Vec<_> = spans.filter(|span| span.1 < span.2).collect();
        spans.sort();
        for (stream, length) in lengths.iter().enumerate() {
            let mut at = 0;
            for span in spans.iter().filter(|span| span.0 == stream as u64) {
                prop_assert_eq!(span.1, at);
                at = span.2;
            }
            prop_assert_eq!(at, *length);
        }
        // The content: a run that was given up counts as ended there.
        let joined = |stderr: bool| -> String {
            records.iter().filter(|record| record.0 == stderr).map(|record| record.2.as_str()).collect()
        };
        let given: String = contents(&got).concat().chars().filter(|byte| *byte != '\r').collect();
        let mut given: Vec<char> = given.chars().collect();
        let mut wanted: Vec<char> = (joined(false) + &joined(true)).chars().filter(|byte| *byte != '\r').collect();
        given.sort();
        wanted.sort();
        prop_assert_eq!(given, wanted);
    }

    #[test]
    fn without_cuts_the_model_is_simple(records in records(), steps in proptest::collection::vec(1usize..60, 1..4)) {
        let mut runs = [String::new(), String::new()];
        let mut open = [false, false];
        let mut wanted = Vec::new();
        for (stderr, partial, content) in &records {
            let run = &mut runs[usize::from(*stderr)];
            open[usize::from(*stderr)] = *partial;
            let stripped = content.strip_suffix('\r').filter(|_| !*partial).unwrap_or(content);
            run.push_str(stripped);
            if !*partial {
                wanted.push(std::mem::take(run));
            }
        }
        let bytes = write(&records);
        let got = all(&bytes, Format::Cri, 1000, &steps);
        let whole = got.iter().filter(|line| line.reason.is_empty()).cloned().collect::<Vec<_>>();
        prop_assert_eq!(contents(&whole), wanted);
        prop_assert_eq!(got.len() - whole.len(), open.iter().filter(|open| **open).count());
        let physical: usize = got.iter().map(|line| line.physical.as_ref().unwrap().len()).sum();
        prop_assert_eq!(physical, bytes.len());
    }

    /// From the anchor of every position that a line ended at, reading gives the lines after it, and no line before
    /// that the anchor does not need.
    #[test]
    fn resuming_gives_the_rest(records in records(), steps in proptest::collection::vec(1usize..60, 1..4)) {
        let bytes = write(&records);
        let mut splitter = Splitter::new(StreamId(1), Format::Cri, 1000);
        let mut got = feed(&mut splitter, &bytes, &steps);
        let stretches: Vec<_> = splitter.stretches().collect();
        let last = splitter.anchor();
        got.extend(finish(&mut splitter));
        got.extend(abandon(&mut splitter));
        // A stretch is as short as can be: it begins with the first record of a run, where a line ended.
        let ends: Vec<u64> = got.iter().map(|line| line.span.2).collect();
        for stretch in &stretches {
            prop_assert!(stretch.start == 0 || ends.contains(&stretch.start), "{stretch:?}");
            prop_assert!(ends.contains(&stretch.end) && stretch.start < stretch.end);
            let first = bytes[stretch.start as usize..].iter().skip(32).take(1);
            prop_assert_eq!(first.copied().collect::<Vec<_>>(), b"P");
        }
        for index in 0..got.len() {
            let position = got[index].span.2;
            let inside = stretches.iter().find(|stretch| stretch.start < position && position < stretch.end);
            let anchor = inside.map_or(position.min(last), |stretch| stretch.start);
            let mut splitter = Splitter::new(StreamId(1), Format::Cri, 1000);
            splitter.begin(StreamId(1), anchor, position);
            let mut rest = feed(&mut splitter, &bytes[anchor as usize..], &[77]);
            rest.extend(finish(&mut splitter));
            rest.extend(abandon(&mut splitter));
            let wanted: Vec<_> = got[index + 1..].to_vec();
            if got[index].reason.is_empty() {
                prop_assert_eq!(rest, wanted);
            }
        }
    }
}
