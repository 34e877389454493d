//! The table of sinks, and the options they have in common, as written in the configuration.
//!
//! A sink is one file here and one line in the table at the end of this file: its config struct (as written),
//! `build` (checked, as compiled), `impl Sink`, and tests.

pub mod dir;
pub mod elasticsearch;
pub mod http;
mod layout;
pub mod stdout;

use crate::client::ClientOptions;
use crate::shipper::Options;
use crate::sink::{Context, Limits, Sink, WithIndex, without_query};
use crate::units::{ByteRate, ByteSize, Duration, RequestRate, Secret};
use ::http::{HeaderMap, HeaderValue, Uri};
use auditship_event::Record;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time;

/// Default timeout of a whole request.
const TIMEOUT: time::Duration = time::Duration::from_secs(30);

/// Default limits of a batch that goes into one HTTP request.
pub(crate) const HTTP_LIMITS: Limits = Limits {
    bytes: 2 << 20,
    packed_bytes: None,
    events: 5_000,
    age: time::Duration::from_secs(1),
    event_bytes: None,
    event_age: None,
};

/// How large and how old a batch may get.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchOptions {
    /// Most bytes in one batch. Before compression (2MiB) for requests; after it (8MiB) for `dir`.
    pub bytes: Option<ByteSize>,
    /// Most events in one batch.
    pub events: Option<u32>,
    /// Longest time an event waits for its batch to fill (1s for requests, 60s for `dir`).
    pub age: Option<Duration>,
    /// Most bytes of one event, as the backend takes it. A longer one is trimmed: managed fields first, then the
    /// response's body, the request's, and long strings.
    pub event_bytes: Option<ByteSize>,
}

impl BatchOptions {
    fn limits(&self, default: Limits) -> Result<Limits, Invalid> {
        let bytes = match self.bytes {
            Some(ByteSize(bytes)) if !(4096..=256 << 20).contains(&bytes) => {
                return Err(Invalid::new("batch.bytes", "must be between 4KiB and 256MiB"));
            }
            // Below 256 MiB.
            Some(ByteSize(bytes)) => Some(bytes as usize),
            None => None,
        };
        if self.events == Some(0) {
            return Err(Invalid::new("batch.events", "must be at least 1"));
        }
        let event_bytes = match self.event_bytes {
            Some(ByteSize(bytes)) if !(4096..=256 << 20).contains(&bytes) => {
                return Err(Invalid::new("batch.event_bytes", "must be between 4KiB and 256MiB"));
            }
            // Below 256 MiB.
            Some(ByteSize(bytes)) => Some(bytes as usize),
            None => default.event_bytes,
        };
        let mut limits = Limits {
            event_bytes,
            events: self.events.map_or(default.events, |events| events as usize),
            age: self.age.map_or(default.age, |age| age.0),
            ..default
        };
        match (bytes, &mut limits.packed_bytes) {
            (Some(bytes), Some(packed)) => *packed = bytes,
            (Some(bytes), None) => limits.bytes = bytes,
            (None, _) => {}
        }
        Ok(limits)
    }
}

/// How fast an output may send.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Compressed bytes in a time, such as `20MiB/s`.
    pub bytes: Option<ByteRate>,
    /// Requests in a time, such as `50/s`.
    pub requests: Option<RequestRate>,
}

/// How the server's certificate is checked.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of certificate authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate: whoever is on the path can read and alter everything.
    #[serde(default)]
    pub dangerously_accept_invalid_certs: bool,
}

/// User name and password (RFC 7617).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// User name.
    pub user: String,
    /// Password.
    pub password: Secret,
}

/// What an output's configuration says that is wrong by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Invalid {
    /// The option, relative to the output.
    pub path: &'static str,
    /// What is wrong with it; never a secret's value.
    pub message: String,
}

impl Invalid {
    fn new(path: &'static str, message: impl Into<String>) -> Invalid {
        Invalid { path, message: message.into() }
    }
}

/// Through which door an output's operations go.
#[derive(Clone, Debug)]
pub enum Transport {
    /// The network client.
    Http(ClientOptions),
    /// A directory of files.
    Dir {
        /// Its root.
        path: PathBuf,
    },
    /// Standard output.
    Stdout,
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

/// What the HTTP sinks share.
struct HttpCommon<'a> {
    endpoint: &'a str,
    path: &'static str,
    rate_limit: &'a RateLimit,
    timeout: Option<Duration>,
    concurrency: Option<u32>,
    tls: &'a Tls,
}

impl HttpCommon<'_> {
    fn check(&self) -> Result<(Transport, Options), Invalid> {
        let uri: Uri = self.endpoint.parse().map_err(|_| Invalid::new(self.path, "is not a URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(Invalid::new(self.path, "must begin with http:// or https://"));
        }
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if authority.contains('@') {
            return Err(Invalid::new(self.path, "must not hold credentials: they belong in `auth`"));
        }
        let timeout = self.timeout.map_or(TIMEOUT, |timeout| timeout.0);
        if timeout.is_zero() {
            return Err(Invalid::new("timeout", "must be more than zero"));
        }
        let transport = Transport::Http(ClientOptions {
            endpoint: without_query(self.endpoint).to_owned(),
            timeout,
            ca_file: self.tls.ca_file.clone(),
            dangerously_accept_invalid_certs: self.tls.dangerously_accept_invalid_certs,
        });
        Ok((transport, shipping(self.rate_limit, self.concurrency)?))
    }
}

fn shipping(rate_limit: &RateLimit, concurrency: Option<u32>) -> Result<Options, Invalid> {
    let default = Options::default();
    let concurrency = match concurrency {
        Some(lanes) if !(1..=64).contains(&lanes) => {
            return Err(Invalid::new("concurrency", "must be between 1 and 64"));
        }
        Some(lanes) => lanes as usize,
        None => default.concurrency,
    };
    Ok(Options { bytes_rate: rate_limit.bytes, requests_rate: rate_limit.requests, concurrency, ..default })
}

/// A value of a header that is not shown.
fn sensitive(path: &'static str, value: &str) -> Result<HeaderValue, Invalid> {
    // The error would quote nothing, but says nothing either.
    let value = HeaderValue::from_str(value.trim());
    let mut value = value.map_err(|_| Invalid::new(path, "holds characters that no header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn basic(path: &'static str, basic: &Basic) -> Result<HeaderValue, Invalid> {
    if basic.user.contains(':') {
        return Err(Invalid::new(path, "the user name must not hold a colon (RFC 7617 §2)"));
    }
    sensitive(
        path,
        &format!("Basic {}", BASE64.encode(format!("{}:{}", basic.user, basic.password.reveal()))),
    )
}

/// Adds the headers that describe the body.
fn body_headers(headers: &mut HeaderMap, content_type: &'static str, encoding: crate::Encoding) {
    let content_type = HeaderValue::from_static(content_type);
    headers.entry(::http::header::CONTENT_TYPE).or_insert(content_type);
    if let Some(encoding) = encoding.content_encoding() {
        headers.insert(::http::header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
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
    "dir", Dir, dir::Dir, archive: true, "Compressed files in a local directory, by hour of event time.";
    "stdout", Stdout, stdout::Stdout, archive: false, "NDJSON on standard output.";
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
