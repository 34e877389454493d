//! For any bytes: no panic, the same count of lines, valid JSON wherever something is made, and the law.

use crate::support::{event, secret_event};
use auditship_agent::config;
use auditship_agent::lines::LineEditor;
use auditship_agent::pipeline::{Now, Pipeline};
use auditship_agent::plan::Plan;
use auditship_event::{Keys, Line, StreamId};
use auditship_redact::Redactor;
use auditship_ship::{Ack, Settled, Stats};
use auditship_tail::{Format, Ledger, Pieces, Splitter};
use proptest::collection::vec;
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

/// Something that may stand in a log: whole lines, pieces of them, noise.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just(event(1)),
        Just(secret_event(2, "c2VjcmV0LXZhbHVl")),
        Just(secret_event(3, "x").replace("data", "d\\u0061ta")),
        Just(format!(r#"{{"kind":"EventList","items":[{},7,{}]}}"#, event(4), event(5))),
        Just("2026-11-24T02:30:59.510963511Z stdout P ".to_owned() + &event(6)),
        Just("2026-11-24T02:30:59.510963511Z stdout F ".to_owned() + &event(7)),
        Just("I1124 02:30:59.123456       1 server.go:1] hello".to_owned()),
        Just(r#"{"level":"info"}"#.to_owned()),
    ];
    let cut = (line.clone(), 0.0..1.0f64, 0.0..1.0f64).prop_map(|(line, a, b)| {
        let place = |share: f64| (line.len() as f64 * share) as usize;
        let (from, to) = (place(a).min(place(b)), place(a).max(place(b)));
        line.as_bytes()[from..to].to_vec()
    });
    prop_oneof![
        3 => line.prop_map(String::into_bytes),
        4 => cut,
        3 => Just(b"\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => vec(any::<u8>(), 0..40),
        1 => vec(prop::sample::select(&b"{}[]\",:\\0\0e-+.t"[..]), 0..40),
        1 => (1..600usize).prop_map(|depth| vec![b'['; depth]),
    ]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    vec(piece(), 0..24).prop_map(|pieces| pieces.concat())
}

/// Feeds `text` to a splitter in portions of `portion` bytes.
fn split(text: &[u8], format: Format, limit: usize, portion: usize, each: &mut dyn FnMut(Line<'_>, &Pieces)) {
    let mut splitter = Splitter::new(StreamId(0), format, limit);
    let mut rest = text;
    while !rest.is_empty() {
        let space = splitter.space();
        let count = rest.len().min(space.len()).min(portion);
        space[..count].copy_from_slice(&rest[..count]);
        rest = &rest[count..];
        splitter.filled(count);
        while let Some((line, pieces)) = splitter.next() {
            each(line, pieces);
        }
    }
    while let Some((line, pieces)) = splitter.finish() {
        each(line, pieces);
    }
    while let Some((line, pieces)) = splitter.abandon() {
        each(line, pieces);
    }
}

/// Whether `text` is one JSON document after the other.
fn is_json(text: &[u8]) -> bool {
    let mut documents = serde_json::Deserializer::from_slice(text).into_iter::<serde::de::IgnoredAny>();
    documents.all(|document| document.is_ok())
}

static PLAN: LazyLock<Arc<Plan>> = LazyLock::new(|| {
    let text = "outputs:\n  search: {type: elasticsearch, endpoint: \"http://127.0.0.1:1\", filter: none}\n\
                routes: [{name: all, index: audit, outputs: [search]}]\n";
    let read = |_: &Path| Ok(text.to_owned());
    let (config, located) = config::load(&[PathBuf::from("c.yaml")], std::iter::empty(), &[], &read).unwrap();
    match Plan::compile(&config, &located, &[7; 32], "node") {
        Ok(plan) => Arc::new(plan),
        Err(failure) => panic!("{failure:?}"),
    }
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn redact_keeps_count_and_makes_json(text in text(), limit in 16usize..4000, portion in 1usize..5000) {
        let redactor = Redactor::new(&Default::default(), Keys::derive(b"k", "c")).unwrap();
        for format in [Format::Audit, Format::Auto] {
            let mut editor = LineEditor::new(&redactor);
            let mut out = Vec::new();
            split(&text, format, limit, portion, &mut |line, pieces| {
                let from = out.len();
                editor.edit(&line, pieces, &mut out);
                let edited = String::from_utf8_lossy(&out[from..]).replace('\0', " ");
                // What stands before or after a stub is an event or a hole, so all of it can be read.
                if format == Format::Audit && edited.contains("auditship.io/failed-closed") {
                    assert!(is_json(edited.as_bytes()), "{edited:?}");
                }
            });
            prop_assert!(!editor.failed_closed.contains_key("panic"));
            if format == Format::Audit || limit > 3999 {
                let count = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
                prop_assert_eq!(count(&out), count(&text), "{:?}", String::from_utf8_lossy(&out));
            }
        }
    }

    #[test]
    fn every_line_is_settled_once_and_every_record_is_json(text in text(), limit in 16usize..4000, portion in 1usize..5000) {
        let mut pipeline = Pipeline::new(PLAN.clone(), PLAN.outputs[0].clone(), Ledger::default());
        let now = Now { instant: Instant::now(), micros: 1_795_487_459_000_000 };
        let mut lines = 0;
        split(&text, Format::Auto, limit, portion, &mut |line, _| {
            lines += 1;
            pipeline.line(&line, now);
        });
        pipeline.batcher.flush_all();
        while let Some(batch) = pipeline.take_ready() {
            for line in batch.raw().unwrap().split(|byte| *byte == b'\n') {
                prop_assert!(is_json(line), "{:?}", String::from_utf8_lossy(line));
            }
            for record in &batch.records {
                pipeline.ack(&Ack { ticket: record.ticket, result: Settled::Delivered });
            }
        }
        let account = pipeline.account(&Stats::new());
        prop_assert!(account.adds_up() && account.is_clean(), "{account:?}");
        prop_assert!(!account.failed_closed.contains_key("panic"), "{account:?}");
        prop_assert_eq!(account.read.lines, lines);
        prop_assert_eq!(account.read.bytes, text.len() as u64);
    }
}
