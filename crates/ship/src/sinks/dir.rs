//! An archive in a local directory: one compressed NDJSON file a batch, by hour of event time.
//!
//! The path is a function of the batch alone, so a repeated batch meets its own file and counts as delivered.

use super::layout::{self, Layout};
use super::{BatchOptions, Built, Invalid, RateLimit, Transport, frame_line, shipping};
use crate::batch::Batch;
use crate::compress::Encoding;
use crate::sink::{Context, GroupKey, Limits, Named, Op, Outcome, Reply, Sink};
use auditship_event::Record;
use schemars::JsonSchema;
use serde::Deserialize;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A file is whole in memory until it is written, its records' places included.
const LIMITS: Limits = Limits {
    bytes: 128 << 20,
    packed_bytes: Some(8 << 20),
    whole_lines: true,
    events: 100_000,
    age: Duration::from_secs(60),
    event_bytes: None,
    event_age: None,
};

/// Archives to a local directory.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dir {
    /// The directory. What is made below it is readable by its owner alone.
    pub path: PathBuf,
    /// Compression of the files (zstd).
    pub compression: Option<Encoding>,
    /// Size and age of one file.
    #[serde(default)]
    pub batch: BatchOptions,
    /// Limits on what is written.
    #[serde(default)]
    pub rate_limit: RateLimit,
}

struct Archive {
    layout: Layout,
    limits: Limits,
    encoding: Encoding,
}

impl Dir {
    pub(super) fn build(&self, context: &Context) -> Result<Built, Invalid> {
        if self.path.as_os_str().is_empty() {
            return Err(Invalid::new("path", "must not be empty"));
        }
        let sink = Arc::new(Archive {
            layout: Layout::new(context),
            limits: self.batch.limits(LIMITS)?,
            encoding: self.compression.unwrap_or(Encoding::Zstd),
        });
        // One at a time: a disk has one head to give, and it is etcd's too.
        let options = shipping(&self.rate_limit, Some(1))?;
        Ok(Built { sink, transport: Transport::Dir { path: self.path.clone() }, options })
    }
}

impl Sink for Archive {
    fn kind(&self) -> &'static str {
        "dir"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn group(&self, record: &Record<'_>) -> GroupKey {
        Layout::group(record)
    }

    fn frame(&self, record: &Record<'_>, context: &Context, out: &mut Vec<u8>) -> Range<usize> {
        frame_line(record, context, out)
    }

    fn object(&self, batch: &Batch) -> Option<String> {
        Some(self.layout.name(batch))
    }

    fn named(&self, object: &str) -> Option<Named> {
        layout::named(object)
    }

    fn request(&self, batch: &Batch) -> Op {
        Op::Put { path: PathBuf::from(self.layout.name(batch)), bytes: batch.body.clone() }
    }

    fn judge(&self, _: &Batch, _: &Op, reply: &Reply) -> Outcome {
        match reply {
            Reply::Done | Reply::Exists => Outcome::Delivered,
            // No space included: it comes back when somebody makes room, and until then nothing is lost.
            other => other.outcome().unwrap_or(Outcome::Hold { reason: "not a store's reply".to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{batch, build};
    use super::*;
    use crate::sink::Failure;
    use serde_json::json;

    #[test]
    fn the_path_comes_from_event_time_and_content() {
        let sink = build("dir", json!({"path": "/x"})).unwrap().sink;
        let frozen = batch(&sink, &["{\"a\":1}", "{\"a\":2}"]);
        let Op::Put { path, .. } = sink.request(&frozen) else { panic!("not put") };
        let id = frozen.id;
        let want =
            format!("cluster=prod/date=2026-11-24/hour=02/20261124T023059.123456Z-node-1-{id}.ndjson.zst");
        assert_eq!(path.to_str(), Some(&*want));
        assert_eq!(batch(&sink, &["{\"a\":1}", "{\"a\":2}"]).id, id);
        assert_ne!(batch(&sink, &["{\"a\":2}", "{\"a\":1}"]).id, id);
    }

    #[test]
    fn a_full_disk_loses_nothing() {
        let sink = build("dir", json!({"path": "/x"})).unwrap().sink;
        let frozen = batch(&sink, &["{}"]);
        let reply = |kind| Reply::Failed { kind, text: "no space left".to_owned() };
        let judged = |reply| sink.judge(&frozen, &sink.request(&frozen), &reply);
        assert!(matches!(judged(reply(Failure::NoSpace)), Outcome::Retry { .. }));
        assert!(matches!(judged(reply(Failure::Storage)), Outcome::Retry { .. }));
        assert!(matches!(judged(Reply::Exists), Outcome::Delivered));
    }
}
