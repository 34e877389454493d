//! The table of sinks.
//!
//! A sink is one file here and one line in the table at the end of this file: its config struct (as written),
//! `build` (checked, as compiled), `impl Sink`, and tests.
//!
//! What `check --connect` asks its backend is [`Sink::probe`] (requests that are sure to write nothing: a health or
//! validation endpoint, HEAD of a bucket, a request with no records) and what the answers say is
//! [`Sink::judge_probe`], where [`crate::Reply::verdict`] knows what holds for all. Without them only the connection
//! is tried. The hostile server in `tests/it/hostile.rs` tries every sink of the table.

pub mod datadog;
pub mod dir;
pub mod elasticsearch;
pub mod http;
mod layout;
pub mod loki;
mod options;
pub mod otlp;
pub mod s3;
pub mod splunk_hec;
pub mod stdout;

pub(crate) use options::HTTP_LIMITS;
pub use options::{Auth, Basic, BatchOptions, Connection, EventShape, Invalid, RateLimit, Tls};
use options::{
    HttpCommon, IDEMPOTENCY_KEY, authorize, basic, body_headers, own_headers, sensitive, shipping,
};

use crate::aws::Signing;
use crate::batch::Batch;
use crate::client::ClientOptions;
use crate::shipper::Options;
use crate::sink::{Context, Op, Outcome, Refusal, Sink, WithIndex};
use ::http::{HeaderMap, Method};
use auditship_event::Record;
use schemars::{Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Through which door an output's operations go.
#[derive(Clone, Debug)]
pub enum Transport {
    /// The network client.
    Http(Box<ClientOptions>),
    /// A directory of files.
    Dir {
        /// Its root.
        path: PathBuf,
    },
    /// Standard output.
    Stdout,
}

impl Transport {
    /// The same, each request signed.
    fn signed(self, signing: Signing) -> Transport {
        match self {
            Transport::Http(mut options) => {
                options.aws = Some(signing);
                Transport::Http(options)
            }
            other => other,
        }
    }
}

/// An output's configuration, checked and compiled.
pub struct Built {
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// Where its operations go; see [`crate::store::open`].
    pub transport: Transport,
    /// Rate limits and concurrency, all else at its default.
    pub options: Options,
}

/// Sends a batch's body; of the answer no more than `answer_bytes` is read.
fn post(url: &str, headers: &HeaderMap, batch: &Batch, answer_bytes: usize) -> Op {
    Op::Http {
        method: Method::POST,
        url: url.to_owned(),
        headers: headers.clone(),
        body: batch.body.clone(),
        answer_bytes,
    }
}

/// What it means that of `count` records so many were refused for good, and nobody says which.
fn refused_without_names(rejected: u64, count: usize, refusal: Refusal) -> Outcome {
    if rejected < count as u64 {
        return Outcome::PartialCount { rejected, refusal };
    }
    let reject = (0..count).map(|at| (at, refusal.clone())).collect();
    Outcome::Partial { retry: Vec::new(), reject, reason: refusal.reason }
}

/// Appends the event with the `auditship` member, on a line of its own.
pub(crate) fn frame_line(record: &Record<'_>, context: &Context, out: &mut Vec<u8>) -> Range<usize> {
    let document = frame_object(record, context, out);
    out.push(b'\n');
    document
}

/// Appends the event with the `auditship` member.
pub(crate) fn frame_object(record: &Record<'_>, context: &Context, out: &mut Vec<u8>) -> Range<usize> {
    let from = out.len();
    let mut members = Vec::with_capacity(256);
    context.write_member(record, WithIndex::Yes, &mut members);
    record.body.write_with(&members, out);
    0..out.len() - from
}

/// Appends the event alone, in UTF-8 whatever the line was in: protobuf and JSON strings hold nothing else.
pub(crate) fn write_utf8(record: &Record<'_>, out: &mut Vec<u8>) {
    let from = out.len();
    record.body.write(out);
    if let Err(error) = std::str::from_utf8(&out[from..]) {
        let wrong = out.split_off(from + error.valid_up_to());
        out.extend_from_slice(String::from_utf8_lossy(&wrong).as_bytes());
    }
}

/// The beginning of `text`, of at most `most` bytes.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name: `type:` in the configuration.
    pub name: &'static str,
    /// One line about it.
    pub doc: &'static str,
    /// Whether it is an archive: then by default it gets also what the filter drops.
    pub archive: bool,
}

macro_rules! sinks {
    ($($name:literal, $variant:ident, $config:ty, archive: $archive:literal, $doc:literal;)*) => {
        /// All sinks, in the order of the documentation.
        pub const SINKS: &[Kind] = &[$(Kind { name: $name, doc: $doc, archive: $archive }),*];

        /// One output's configuration as written, `type` taken off.
        #[derive(Clone, Debug)]
        pub enum Config {
            $(#[doc = $doc] $variant($config),)*
        }

        impl Config {
            /// Reads the options of an output of kind `name`. `None`: there is no such kind.
            pub fn deserialize<'de, D: Deserializer<'de>>(name: &str, from: D) -> Option<Result<Config, D::Error>> {
                match name {
                    $($name => Some(<$config>::deserialize(from).map(Config::$variant)),)*
                    _ => None,
                }
            }

            /// Its line in the table.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Config::$variant(_) => Kind { name: $name, doc: $doc, archive: $archive },)*
                }
            }

            /// Checks and compiles it.
            ///
            /// # Errors
            /// [`Invalid`], naming the option.
            pub fn build(&self, context: &Context) -> Result<Built, Invalid> {
                match self {
                    $(Config::$variant(config) => config.build(context),)*
                }
            }
        }

        /// The schema of the options of each kind, without `type`.
        pub fn schemas(generator: &mut SchemaGenerator) -> Vec<(Kind, Schema)> {
            let schemas = [$(generator.subschema_for::<$config>()),*];
            SINKS.iter().copied().zip(schemas).collect()
        }
    };
}

sinks! {
    "elasticsearch", Elasticsearch, elasticsearch::Elasticsearch, archive: false,
        "Elasticsearch or OpenSearch, through `_bulk`, without duplicates.";
    "http", Http, http::Http, archive: false, "Any HTTP endpoint that takes NDJSON or a JSON array.";
    "loki", Loki, loki::Loki, archive: false, "Grafana Loki, or what takes its push API: a stream for each index.";
    "otlp", Otlp, otlp::Otlp, archive: false, "OpenTelemetry's protocol over HTTP, for a collector or a backend.";
    "s3", S3, s3::S3, archive: true, "Compressed objects in S3 or a store that speaks like it, without duplicates.";
    "dir", Dir, dir::Dir, archive: true, "Compressed files in a local directory, by hour of event time.";
    "stdout", Stdout, stdout::Stdout, archive: false, "NDJSON on standard output.";
    "datadog", Datadog, datadog::Datadog, archive: false, "Datadog, through its logs intake.";
    "splunk_hec", SplunkHec, splunk_hec::SplunkHec, archive: false,
        "Splunk, through the HTTP Event Collector, with indexer acknowledgement if asked for.";
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::batcher::Batcher;
    use auditship_event::{Body, Edits, Index, Keys, Span, StreamId};
    use serde_json::{Value, json};

    pub(crate) fn context() -> Context {
        Context::new("prod", "node-1", Keys::derive(b"k", "prod").id())
    }

    pub(crate) fn build(kind: &str, options: Value) -> Result<Built, String> {
        let config = Config::deserialize(kind, options).unwrap().map_err(|e| e.to_string())?;
        config.build(&context()).map_err(|e| e.to_string())
    }

    /// A batch of `lines`, all of one index and time.
    pub(crate) fn batch(sink: &Arc<dyn Sink>, lines: &[&str]) -> Batch {
        let keys = Keys::derive(b"k", "prod");
        let none = Edits::new();
        let mut batcher = Batcher::new(sink.clone(), context(), sink.limits());
        for (ticket, line) in lines.iter().enumerate() {
            let record = Record {
                index: &Index("audit".into()),
                time: 1_795_487_459_123_456,
                uid: keys.uid(line.as_bytes()),
                span: Span { stream: StreamId(1), start: ticket as u64, end: ticket as u64 + 1 },
                body: Body::redacted(line.as_bytes(), &none),
            };
            batcher.push(&record, ticket as u64, tokio::time::Instant::now().into_std());
        }
        batcher.flush_all();
        let batch = batcher.take_ready().unwrap();
        assert!(batcher.take_ready().is_none());
        batch
    }

    pub(crate) fn raw(batch: &Batch) -> String {
        String::from_utf8(batch.raw().unwrap()).unwrap()
    }

    #[test]
    fn mistakes_name_the_option_and_no_secret() {
        let url = "http://x:1";
        for (kind, options, want) in [
            ("http", json!({"url": "ftp://x"}), "url: must begin with http:// or https://"),
            (
                "http",
                json!({"url": "https://u:hunter2@x"}),
                "url: must not hold credentials: they belong in `auth`",
            ),
            ("http", json!({"url": "x y"}), "url: is not a URL"),
            ("http", json!({"url": url, "concurrency": 0}), "concurrency: must be between 1 and 64"),
            ("http", json!({"url": url, "batch": {"events": 0}}), "batch.events: must be at least 1"),
            (
                "http",
                json!({"url": url, "batch": {"bytes": "1B"}}),
                "batch.bytes: must be between 4KiB and 256MiB",
            ),
            (
                "http",
                json!({"url": url, "auth": {"bearer": "hunter2\n2"}}),
                "auth: holds characters that no header can carry",
            ),
            (
                "http",
                json!({"url": url, "headers": {"Content-Length": "2"}}),
                "headers: content-length is set by auditship",
            ),
            ("http", json!({"url": url, "headers": {"no name": "2"}}), "headers: a name is not a header's"),
            ("elasticsearch", json!({"endpoint": "https://x?y=1"}), "endpoint: must not hold a query"),
            (
                "elasticsearch",
                json!({"endpoint": url, "auth": {"basic": {"user": "a:b", "password": "p"}}}),
                "auth: the user name must not hold a colon (RFC 7617 §2)",
            ),
        ] {
            assert_eq!(build(kind, options).err().as_deref(), Some(want));
        }
        for (kind, options) in [
            ("http", json!({"url": url, "nonsense": 1})),
            ("stdout", json!({"nonsense": 1})),
            ("http", json!({"url": url, "rate_limit": {"bytes": "20MiB"}})),
            ("elasticsearch", json!({})),
        ] {
            assert!(build(kind, options).is_err());
        }
        assert!(Config::deserialize("kafka", json!({})).is_none());
    }

    #[test]
    fn options_reach_the_shipper() {
        let built = build(
            "elasticsearch",
            json!({"endpoint": "https://es:9200", "rate_limit": {"bytes": "20MiB/s", "requests": "50/s"},
                   "batch": {"bytes": "1MiB", "events": 10, "age": "250ms"}, "timeout": "5s", "concurrency": 3}),
        )
        .unwrap();
        assert_eq!(built.options.concurrency, 3);
        assert_eq!(built.options.bytes_rate, Some("20MiB/s".parse().unwrap()));
        let limits = built.sink.limits();
        assert_eq!((limits.bytes, limits.events, limits.age.as_millis()), (1 << 20, 10, 250));
    }

    #[test]
    fn the_schema_describes_every_option() {
        let mut generator = SchemaGenerator::default();
        for (kind, _) in schemas(&mut generator) {
            assert!(SINKS.contains(&kind));
        }
        let text = serde_json::to_string(generator.definitions()).unwrap();
        for words in ["rate_limit", "dangerously_accept_invalid_certs", "json_array", "api_key", "20MiB/s"] {
            assert!(text.contains(words), "{words}");
        }
    }
}
