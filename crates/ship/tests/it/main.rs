//! Batches against a real server on the loopback device, and against scripted replies in stopped time.

#![expect(clippy::unwrap_used, reason = "tests may")]

mod datadog;
mod driver;
mod hostile;
mod laws;
mod probe;
mod proxy;
mod s3;
mod server;
mod splunk;
mod stopped;
mod tls;
mod wire;

use auditship_event::{Body, Edits, Index, Keys, Record, Span, StreamId};
use auditship_ship::{Batch, Batcher, Context, Sink};
use std::sync::Arc;

/// The keys of all tests.
fn keys() -> Keys {
    Keys::derive(b"key", "prod")
}

/// Who ships in all tests.
fn context() -> Context {
    Context::new("prod", "node-1", keys().id())
}

/// The time of the first record of all tests, microseconds since 1970.
const BEGAN: i64 = 1_795_487_459_000_000;

/// `lines` as batches of `sink`, a second apart; the tickets count from zero.
fn batches(sink: &Arc<dyn Sink>, lines: &[String]) -> Vec<Batch> {
    let none = Edits::new();
    let mut batcher = Batcher::new(sink.clone(), context(), sink.limits());
    for (ticket, line) in (0u64..).zip(lines) {
        let record = Record {
            index: &Index("audit".into()),
            time: BEGAN + 1_000_000 * ticket as i64,
            uid: keys().uid(line.as_bytes()),
            span: Span { stream: StreamId(1), start: ticket, end: ticket + 1 },
            body: Body::redacted(line.as_bytes(), &none),
        };
        batcher.push(&record, ticket, tokio::time::Instant::now().into_std());
    }
    batcher.flush_all();
    std::iter::from_fn(|| batcher.take_ready()).collect()
}
