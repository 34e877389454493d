//! NDJSON on standard output, for pipes and for looking at what would be shipped.

use super::{BatchOptions, Built, Invalid, RateLimit, Transport, frame_line, shipping};
use crate::batch::Batch;
use crate::compress::Encoding;
use crate::sink::{Context, Limits, Op, Outcome, Reply, Sink};
use auditship_event::Record;
use schemars::JsonSchema;
use serde::Deserialize;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Small, so that a pipe's reader sees events soon.
const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    packed_bytes: None,
    whole_lines: false,
    events: 5_000,
    age: Duration::from_millis(100),
    event_bytes: None,
    event_age: None,
};

/// Writes to standard output.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stdout {
    /// Size and age of what is written at once.
    #[serde(default)]
    pub batch: BatchOptions,
    /// Limits on what is written.
    #[serde(default)]
    pub rate_limit: RateLimit,
}

struct Lines {
    limits: Limits,
}

impl Stdout {
    pub(super) fn build(&self, _: &Context) -> Result<Built, Invalid> {
        let sink = Arc::new(Lines { limits: self.batch.limits(LIMITS)? });
        // One at a time: lines stay in order.
        Ok(Built { sink, transport: Transport::Stdout, options: shipping(&self.rate_limit, Some(1))? })
    }
}

impl Sink for Lines {
    fn kind(&self) -> &'static str {
        "stdout"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn encoding(&self) -> Encoding {
        Encoding::None
    }

    fn frame(&self, record: &Record<'_>, context: &Context, out: &mut Vec<u8>) -> Range<usize> {
        frame_line(record, context, out)
    }

    fn request(&self, batch: &Batch) -> Op {
        Op::Append { bytes: batch.body.clone() }
    }

    fn judge(&self, _: &Batch, _: &Op, reply: &Reply) -> Outcome {
        reply.outcome().unwrap_or(Outcome::Delivered)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{batch, build};
    use super::*;
    use serde_json::json;

    #[test]
    fn appends_plain_lines() {
        let sink = build("stdout", json!({})).unwrap().sink;
        let frozen = batch(&sink, &["{\"a\":1}"]);
        let Op::Append { bytes } = sink.request(&frozen) else { panic!("not append") };
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.starts_with("{\"auditship\":{\"uid\":") && text.ends_with(", \"a\":1}\n"), "{text}");
    }
}
