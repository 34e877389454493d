//! `cargo bench -p auditship-ship`: what framing costs in each sink, beside a plain copy of the same bytes, and what
//! compressing the bodies costs, for each byte that is then sent.
//!
//! Every figure is CPU time of this thread (not wall time), the least of several rounds over the same events. They are
//! those of `testdata/`, unredacted; nothing is sent.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads files and its own CPU clock")]

use auditship_event::audit::Event;
use auditship_event::{Body, Edits, Index, Keys, Record, Span, StreamId};
use auditship_ship::sinks::Config;
use auditship_ship::{Context, Sink};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Rounds; the fastest counts.
const ROUNDS: usize = 5;

/// Usual bytes of a body.
const BODY_BYTES: usize = 2 << 20;

/// Sinks with options that no figure depends on.
fn sinks() -> Vec<(&'static str, Arc<dyn Sink>)> {
    let url = "http://localhost:1";
    let cases: [(&str, &str, Value); 6] = [
        ("elasticsearch", "elasticsearch", json!({"endpoint": url})),
        ("http, stdout, dir", "http", json!({"url": url})),
        ("http, json_array", "http", json!({"url": url, "format": "json_array"})),
        ("loki", "loki", json!({"endpoint": url})),
        ("loki, json", "loki", json!({"endpoint": url, "format": "json"})),
        ("otlp", "otlp", json!({"endpoint": url})),
    ];
    let build = |kind, options: Value| {
        let config =
            Config::deserialize(kind, options).expect("the table has it").expect("the options are right");
        config.build(&context()).expect("the options are valid").sink
    };
    cases.into_iter().map(|(name, kind, options)| (name, build(kind, options))).collect()
}

fn main() {
    let log = read();
    let lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let gigabytes = log.len() as f64 / 1e9;
    println!("{} events, {:.1} MB; CPU seconds for a GB of events\n", lines.len(), gigabytes * 1e3);
    let copy = least(|| {
        let mut body = Vec::with_capacity(2 * BODY_BYTES);
        for line in &lines {
            body.extend_from_slice(line);
            flush(&mut body, |_| {});
        }
    });
    println!("| framing | CPU-s/GB | times a plain copy | bytes framed for each of an event |");
    println!("|---------|---------:|-------------------:|----------------------------------:|");
    println!("| plain copy | {:.2} | 1.0 | 1.00 |", copy / gigabytes);
    for (name, sink) in sinks() {
        let mut framed = 0;
        let seconds = least(|| framed = frame(&*sink, &lines, |_| {}));
        println!(
            "| {name} | {:.2} | {:.1} | {:.2} |",
            seconds / gigabytes,
            seconds / copy,
            framed as f64 / log.len() as f64
        );
    }
    for name in ["elasticsearch", "otlp"] {
        let sink = sinks().into_iter().find(|(have, _)| *have == name).expect("it is one of them").1;
        let mut bodies = Vec::new();
        frame(&*sink, &lines, |body| bodies.push(body.to_vec()));
        compression(name, &bodies);
    }
}

/// Frames all events into bodies; gives how many bytes that made.
fn frame(sink: &dyn Sink, lines: &[&[u8]], mut each: impl FnMut(&[u8])) -> usize {
    let (context, none, index) = (context(), Edits::new(), Index("k8s-audit".into()));
    let (mut body, mut framed) = (Vec::with_capacity(2 * BODY_BYTES), 0);
    for (number, line) in (0..).zip(lines) {
        let record = Record {
            index: &index,
            time: 1_795_487_459_000_000 + number as i64,
            uid: auditship_event::Uid([7; 16]),
            span: Span { stream: StreamId(1), start: number, end: number + 1 },
            body: Body::redacted(line, &none),
        };
        let from = body.len();
        black_box(sink.frame(&record, &context, &mut body));
        framed += body.len() - from;
        flush(&mut body, &mut each);
    }
    each(&body);
    black_box(&body);
    framed
}

fn flush(body: &mut Vec<u8>, mut each: impl FnMut(&[u8])) {
    if body.len() >= BODY_BYTES {
        each(body);
        black_box(&body);
        body.clear();
    }
}

fn compression(name: &str, bodies: &[Vec<u8>]) {
    let raw: usize = bodies.iter().map(Vec::len).sum();
    println!(
        "\n| compressing the bodies of {name} | MB/s | times smaller | CPU-s for a GB of bodies | CPU-s for a GB sent |"
    );
    println!("|---|---:|---:|---:|---:|");
    let row = |what: &str, compress: &mut dyn FnMut(&[u8]) -> usize| {
        let mut sent = 0;
        let seconds = least(|| sent = bodies.iter().map(|body| compress(body)).sum::<usize>());
        println!(
            "| {what} | {:.0} | {:.1} | {:.2} | {:.1} |",
            raw as f64 / seconds / 1e6,
            raw as f64 / sent as f64,
            seconds / raw as f64 * 1e9,
            seconds / sent as f64 * 1e9
        );
    };
    for level in [1, 3, 6] {
        row(&format!("gzip {level} (flate2, zlib-rs)"), &mut |body| {
            let mut encoder = flate2::write::GzEncoder::new(
                Vec::with_capacity(body.len() / 4),
                flate2::Compression::new(level),
            );
            encoder.write_all(body).expect("memory takes any bytes");
            encoder.finish().expect("memory takes any bytes").len()
        });
    }
    for level in [1, 3] {
        let mut zstd = zstd::bulk::Compressor::new(level).expect("the level is valid");
        row(&format!("zstd {level}"), &mut |body| zstd.compress(body).expect("it compresses anything").len());
    }
    let mut snappy = snap::raw::Encoder::new();
    row("snappy, raw block", &mut |body| snappy.compress_vec(body).expect("it is below 4 GiB").len());
}

fn context() -> Context {
    Context::new("prod-eu1", "node-1", Keys::derive(b"k", "prod").id())
}

/// The events of both logs, one a line.
fn read() -> Vec<u8> {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    let mut log = Vec::new();
    for name in ["audit.jsonl.gz", "requestresponse.jsonl.gz"] {
        let file = std::fs::File::open(testdata.join(name)).expect("testdata is there");
        flate2::read::MultiGzDecoder::new(file).read_to_end(&mut log).expect("testdata is whole");
    }
    let first = log.split(|byte| *byte == b'\n').next().unwrap_or_default();
    assert!(Event::parse(first).is_ok_and(|event| event.is_audit()), "testdata holds events");
    log
}

/// The least CPU seconds that `work` takes.
fn least(mut work: impl FnMut()) -> f64 {
    let cpu = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    };
    let once = |_| {
        let start = cpu();
        work();
        (cpu() - start).as_secs_f64()
    };
    (0..ROUNDS).map(once).fold(f64::INFINITY, f64::min)
}
