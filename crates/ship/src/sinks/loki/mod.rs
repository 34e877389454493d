//! Grafana Loki, and what takes its push API: one stream for each index, the event as the line.
//!
//! Source: grafana/loki, "Loki HTTP API", `POST /loki/api/v1/push`, and `pkg/push/push.proto` for the binary form:
//! `PushRequest{streams=1: Stream{labels=1, entries=2: Entry{timestamp=1, line=2, structuredMetadata=3: {name=1,
//! value=2}}}}`, protobuf in one raw block of snappy.
//!
//! Loki has no identity for a line. What has the same time, line and metadata is mostly stored or shown once
//! (`pkg/chunkenc/unordered.go`, `pkg/iter/entry_iterator.go`), so nothing in a request differs from attempt to
//! attempt, and the metadata has the uid.

mod answer;

use super::{
    Auth, BatchOptions, Built, Connection, HttpCommon, Invalid, RateLimit, Tls, authorize, beginning,
    body_headers, own_headers, post, sensitive, write_utf8,
};
use crate::batch::Batch;
use crate::compress::Encoding;
use crate::proto;
use crate::sink::{Context, Embedding, Envelope, GroupKey, Limits, Op, Outcome, Reply, Sink, Verdict};
use crate::units::{Duration, Endpoint, Secret};
use auditship_event::audit::Event;
use auditship_event::{Index, Record, text};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, header};
use schemars::JsonSchema;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::time;

const ANSWER_BYTES: usize = 1 << 20;

/// Loki's defaults (`pkg/validation/limits.go`): a line of 256 KiB, an age of a week. A body may have 100 MiB, but a
/// stream takes 3 MB/s and a tenant 4.
const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    packed_bytes: None,
    whole_lines: false,
    events: 5_000,
    age: time::Duration::from_secs(1),
    event_bytes: Some(250 << 10),
    // A minute less than a week: a record must not become too old on its way.
    event_age: Some(time::Duration::from_secs(7 * 86_400 - 60)),
};

/// `max_label_names_per_series`
const LABELS_MAX: usize = 15;
/// `max_label_name_length`, `max_label_value_length`
const LABEL_NAME_BYTES: usize = 1024;
const LABEL_VALUE_BYTES: usize = 2048;

/// A value of metadata. All of one line have far less than the 64 KB that Loki allows.
const METADATA_BYTES: usize = 1024;

/// Ships to Loki.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Loki {
    /// Base URL, such as `https://loki.example:3100`; may hold a path, but no credentials. `/loki/api/v1/push` is put
    /// behind it.
    pub endpoint: Endpoint,
    /// Tenant, sent as `X-Scope-OrgID`.
    pub tenant: Option<String>,
    /// Form of the body (protobuf).
    #[serde(default)]
    pub format: Format,
    /// Further labels of every stream, besides `cluster`, `index` and `node`; at most 15 altogether. `source` is
    /// `kubernetes-audit` unless it is set here.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How old an event the server takes, its `reject_old_samples_max_age` (7d, less a minute). An older one is not
    /// sent.
    pub event_age: Option<Duration>,
    /// Further headers. Their values are never shown.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// How to authenticate.
    pub auth: Option<Auth>,
    /// Compression of requests, with `format: json` alone: gzip or none (gzip). Protobuf is always in snappy.
    pub compression: Option<Encoding>,
    /// Size and age of one request.
    #[serde(default)]
    pub batch: BatchOptions,
    /// Limits on what is sent.
    #[serde(default)]
    pub rate_limit: RateLimit,
    /// Longest time for one request (30s).
    pub timeout: Option<Duration>,
    /// Most requests at the same time (8); it adapts below that.
    pub concurrency: Option<u32>,
    /// How the server's certificate is checked.
    #[serde(default)]
    pub tls: Tls,
    /// How connections are made and kept.
    #[serde(default)]
    pub connection: Connection,
}

/// Form of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Protobuf in snappy: what Loki's own clients send.
    #[default]
    Protobuf,
    /// JSON.
    Json,
}

struct Push {
    url: String,
    headers: HeaderMap,
    format: Format,
    encoding: Encoding,
    limits: Limits,
    /// But `index`.
    labels: BTreeMap<String, String>,
}

impl Loki {
    pub(super) fn build(&self, context: &Context) -> Result<Built, Invalid> {
        let common = HttpCommon {
            endpoint: &self.endpoint.0,
            path: "endpoint",
            rate_limit: &self.rate_limit,
            timeout: self.timeout,
            concurrency: self.concurrency,
            tls: &self.tls,
            connection: &self.connection,
        };
        let (transport, options) = common.check()?;
        if self.endpoint.0.contains(['?', '#']) {
            return Err(Invalid::new("endpoint", "must not hold a query"));
        }
        let base = self.endpoint.0.trim_end_matches('/');
        let base = base.strip_suffix("/loki/api/v1/push").unwrap_or(base);
        let (content_type, encoding) = match (self.format, self.compression) {
            (Format::Protobuf, None) => ("application/x-protobuf", Encoding::Snappy),
            (Format::Protobuf, Some(_)) => {
                return Err(Invalid::new(
                    "compression",
                    "goes with `format: json`; protobuf is always in snappy",
                ));
            }
            (Format::Json, Some(Encoding::Zstd | Encoding::Snappy)) => {
                return Err(Invalid::new(
                    "compression",
                    "must be gzip or none: Loki takes no other around JSON",
                ));
            }
            (Format::Json, encoding) => ("application/json", encoding.unwrap_or_default()),
        };
        let mut headers = own_headers(&self.headers)?;
        body_headers(&mut headers, content_type, encoding);
        if let Some(tenant) = &self.tenant {
            headers.insert(HeaderName::from_static("x-scope-orgid"), sensitive("tenant", tenant)?);
        }
        authorize(self.auth.as_ref(), &mut headers)?;
        let mut limits = self.batch.limits(LIMITS)?;
        limits.event_age = self.event_age.map_or(limits.event_age, |age| Some(age.0));
        let sink = Arc::new(Push {
            url: format!("{base}/loki/api/v1/push"),
            headers,
            format: self.format,
            encoding,
            limits,
            labels: self.labels(context)?,
        });
        Ok(Built { sink, transport, options })
    }

    /// The labels that all streams have.
    fn labels(&self, context: &Context) -> Result<BTreeMap<String, String>, Invalid> {
        let mut labels = BTreeMap::from([
            ("cluster".to_owned(), context.cluster().to_owned()),
            ("node".to_owned(), context.node().to_owned()),
            ("source".to_owned(), "kubernetes-audit".to_owned()),
        ]);
        for (name, value) in &self.labels {
            let first = |c: char| c.is_ascii_alphabetic() || c == '_';
            let word = name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit());
            if !word || name.starts_with("__") || name.len() > LABEL_NAME_BYTES {
                return Err(Invalid::new("labels", format!("{name:?} is no name of a label")));
            }
            if ["cluster", "index", "node"].contains(&name.as_str()) {
                return Err(Invalid::new("labels", format!("{name} is set by auditship")));
            }
            if value.is_empty() || value.len() > LABEL_VALUE_BYTES {
                return Err(Invalid::new("labels", format!("{name} must have a value of 1 to 2048 bytes")));
            }
            labels.insert(name.clone(), value.clone());
        }
        // And `index`.
        if labels.len() >= LABELS_MAX {
            return Err(Invalid::new(
                "labels",
                format!("with auditship's own there may be at most {LABELS_MAX}"),
            ));
        }
        Ok(labels)
    }
}

impl Push {
    /// The labels of a group's stream, in the order of their names.
    fn labels<'a>(&'a self, group: &'a GroupKey) -> BTreeMap<&'a str, &'a str> {
        let mut labels: BTreeMap<&'a str, &'a str> =
            self.labels.iter().map(|(name, value)| (&**name, beginning(value, LABEL_VALUE_BYTES))).collect();
        if let GroupKey::Index(index) = group {
            labels.insert("index", beginning(index.as_str(), LABEL_VALUE_BYTES));
        }
        labels
    }

    fn frame_protobuf(&self, record: &Record<'_>, context: &Context, out: &mut Vec<u8>) -> Range<usize> {
        let mut document = 0..0;
        proto::long(2, out, |out| {
            proto::message(1, out, |out| {
                proto::integer(1, record.time.div_euclid(1_000_000) as u64, out);
                proto::integer(2, record.time.rem_euclid(1_000_000) as u64 * 1000, out);
            });
            document = proto::long(2, out, |out| write_utf8(record, out));
            let mut pairs = Vec::with_capacity(512);
            for (name, value) in metadata(record, context, &out[document.clone()]) {
                proto::message(3, &mut pairs, |out| {
                    proto::bytes(1, name.as_bytes(), out);
                    proto::bytes(2, value.as_bytes(), out);
                });
            }
            out.extend_from_slice(&pairs);
        });
        document
    }

    fn frame_json(&self, record: &Record<'_>, context: &Context, out: &mut Vec<u8>) -> Range<usize> {
        let mut body = Vec::with_capacity(record.body.len());
        write_utf8(record, &mut body);
        let nanos = i128::from(record.time) * 1000;
        write!(out, "[\"{nanos}\",\"").expect("memory takes any bytes");
        let from = out.len();
        text::escape_into(&String::from_utf8_lossy(&body), out);
        let document = from..out.len();
        out.extend_from_slice(b"\",{");
        for (at, (name, value)) in metadata(record, context, &body).iter().enumerate() {
            out.extend_from_slice(if at > 0 { b",\"" } else { b"\"" });
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":\"");
            text::escape_into(value, out);
            out.push(b'"');
        }
        out.extend_from_slice(b"}]");
        document
    }
}

/// What stands beside the line, to be filtered by without parsing it. `body` is the redacted event.
fn metadata<'a>(record: &Record<'_>, context: &Context, body: &'a [u8]) -> Vec<(&'static str, Cow<'a, str>)> {
    let mut pairs: Vec<(&'static str, Cow<'a, str>)> =
        vec![("uid", record.uid.to_string().into()), ("key", context.key_id().to_string().into())];
    if let Some(trim) = record.body.trim() {
        pairs.push(("trimmed", trim.taken.join(",").into()));
        pairs.push(("bytes", trim.bytes.to_string().into()));
    }
    let Ok(event) = Event::parse(body) else { return pairs };
    let code = event.code().map(|code| code.to_string()).unwrap_or_default();
    let object = event.object_ref().unwrap_or_default();
    let mut add = |name, value: Cow<'a, str>| {
        if !value.is_empty() {
            pairs.push((
                name,
                match value {
                    Cow::Borrowed(text) => beginning(text, METADATA_BYTES).into(),
                    Cow::Owned(text) => beginning(&text, METADATA_BYTES).to_owned().into(),
                },
            ));
        }
    };
    add("verb", event.verb());
    add("user", event.username().unwrap_or_default());
    add("namespace", object.namespace);
    add("resource", object.resource);
    add("subresource", object.subresource);
    add("api_group", object.group);
    add("name", object.name);
    add("code", code.into());
    // The API server has seen the last one itself; those before are the client's own word.
    add("client_address", event.source_ips().pop().unwrap_or_default());
    add("decision", event.annotation("authorization.k8s.io/decision").unwrap_or_default());
    add("audit_id", event.audit_id());
    pairs
}

/// Fills in the length of the stream, which is all of the body behind it.
fn seal(body: &mut [u8]) {
    if let Some((head, stream)) = body.split_at_mut_checked(1 + proto::PADDED) {
        head[1..].copy_from_slice(&proto::padded(stream.len()));
    }
}

impl Sink for Push {
    fn kind(&self) -> &'static str {
        "loki"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn group(&self, record: &Record<'_>) -> GroupKey {
        GroupKey::Index(record.index.clone())
    }

    fn envelope(&self, group: &GroupKey) -> Envelope {
        let mut prefix = Vec::new();
        match self.format {
            Format::Protobuf => {
                let mut labels = b"{".to_vec();
                for (at, (name, value)) in self.labels(group).into_iter().enumerate() {
                    labels.extend_from_slice(if at > 0 { b", " } else { b"" });
                    labels.extend_from_slice(name.as_bytes());
                    // A label's value is quoted as in Go, which reads JSON's escapes.
                    labels.extend_from_slice(b"=\"");
                    text::escape_into(value, &mut labels);
                    labels.push(b'"');
                }
                labels.push(b'}');
                proto::long(1, &mut prefix, |out| proto::bytes(1, &labels, out));
                Envelope { prefix: prefix.into(), seal: Some(seal), ..Envelope::default() }
            }
            Format::Json => {
                prefix.extend_from_slice(b"{\"streams\":[{\"stream\":{");
                for (at, (name, value)) in self.labels(group).into_iter().enumerate() {
                    prefix.extend_from_slice(if at > 0 { b",\"" } else { b"\"" });
                    prefix.extend_from_slice(name.as_bytes());
                    prefix.extend_from_slice(b"\":\"");
                    text::escape_into(value, &mut prefix);
                    prefix.push(b'"');
                }
                prefix.extend_from_slice(b"},\"values\":[");
                Envelope { prefix: Bytes::from(prefix), separator: b",", suffix: b"]}]}", seal: None }
            }
        }
    }

    fn frame(&self, record: &Record<'_>, context: &Context, out: &mut Vec<u8>) -> Range<usize> {
        let from = out.len();
        let document = match self.format {
            Format::Protobuf => self.frame_protobuf(record, context, out),
            Format::Json => self.frame_json(record, context, out),
        };
        document.start - from..document.end - from
    }

    fn embedding(&self) -> Embedding {
        match self.format {
            Format::Protobuf => Embedding::Counted,
            Format::Json => Embedding::Escaped,
        }
    }

    fn request(&self, batch: &Batch) -> Op {
        post(&self.url, &self.headers, batch, ANSWER_BYTES)
    }

    fn judge(&self, batch: &Batch, _: &Op, reply: &Reply) -> Outcome {
        answer::judge(reply, batch.records.len())
    }

    /// A push without streams: it goes through authentication, tenant and decoding, and stores nothing. `GET /ready`
    /// would say less, and Grafana Cloud does not have it.
    fn probe(&self, _: &[Index]) -> Vec<Op> {
        let mut headers = self.headers.clone();
        headers.remove(header::CONTENT_ENCODING);
        let body = match self.format {
            // One block of snappy that holds nothing: its length alone (google/snappy `format_description.txt`).
            Format::Protobuf => Bytes::from_static(b"\0"),
            Format::Json => Bytes::from_static(b"{\"streams\":[]}"),
        };
        let url = self.url.clone();
        vec![Op::Http { method: Method::POST, url, headers, body, answer_bytes: ANSWER_BYTES }]
    }

    fn judge_probe(&self, _: &Op, reply: &Reply) -> Verdict {
        answer::judge_probe(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{batch, build, raw};
    use super::*;
    use prost::Message;
    use serde_json::{Value, json};

    #[derive(Clone, PartialEq, Message)]
    struct PushRequest {
        #[prost(message, repeated, tag = "1")]
        streams: Vec<Stream>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Stream {
        #[prost(string, tag = "1")]
        labels: String,
        #[prost(message, repeated, tag = "2")]
        entries: Vec<Entry>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Entry {
        #[prost(message, optional, tag = "1")]
        timestamp: Option<Timestamp>,
        #[prost(string, tag = "2")]
        line: String,
        #[prost(message, repeated, tag = "3")]
        metadata: Vec<Pair>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Timestamp {
        #[prost(int64, tag = "1")]
        seconds: i64,
        #[prost(int32, tag = "2")]
        nanos: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Pair {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        value: String,
    }

    const LINE: &str = r#"{"kind":"Event","auditID":"a-1","verb":"create","user":{"username":"jane"},"sourceIPs":["10.0.0.1","192.0.2.7"],"objectRef":{"namespace":"shop","resource":"pods","subresource":"exec","name":"web\"1"},"responseStatus":{"code":101},"annotations":{"authorization.k8s.io/decision":"allow"}}"#;

    fn sink(more: Value) -> Arc<dyn Sink> {
        let mut options = json!({"endpoint": "http://x:3100/"});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        build("loki", options).unwrap().sink
    }

    fn pairs(entry: &Entry) -> Vec<(&str, &str)> {
        entry.metadata.iter().map(|pair| (&*pair.name, &*pair.value)).collect()
    }

    #[test]
    fn one_stream_of_protobuf() {
        let sink = sink(json!({"labels": {"team": "sec\"ops"}, "tenant": "t1"}));
        let batch = batch(&sink, &[LINE, "{}"]);
        let read = |batch: &Batch| {
            let mut request = PushRequest::decode(&*batch.raw().unwrap()).unwrap();
            assert_eq!(request.streams.len(), 1);
            request.streams.remove(0)
        };
        let stream = read(&batch);
        assert_eq!(
            stream.labels,
            r#"{cluster="prod", index="audit", node="node-1", source="kubernetes-audit", team="sec\"ops"}"#
        );
        let entry = &stream.entries[0];
        assert_eq!(entry.timestamp, Some(Timestamp { seconds: 1_795_487_459, nanos: 123_456_000 }));
        assert_eq!((&*entry.line, &*stream.entries[1].line), (LINE, "{}"));
        let uid = batch.records[0].uid.to_string();
        let key = auditship_event::Keys::derive(b"k", "prod").id().to_string();
        let want = [
            ("uid", &*uid),
            ("key", &*key),
            ("verb", "create"),
            ("user", "jane"),
            ("namespace", "shop"),
            ("resource", "pods"),
            ("subresource", "exec"),
            ("name", "web\"1"),
            ("code", "101"),
            ("client_address", "192.0.2.7"),
            ("decision", "allow"),
            ("audit_id", "a-1"),
        ];
        assert_eq!(pairs(entry), want);
        let (left, right) = batch.split().unwrap().unwrap();
        let halves = [read(&left), read(&right)];
        assert!(halves.iter().all(|half| half.labels == stream.labels));
        assert_eq!(halves.map(|half| half.entries).concat(), stream.entries);
        for (entry, line) in batch.records.iter().zip([LINE, "{}"]) {
            assert_eq!(batch.document(entry, &batch.raw().unwrap()), line.as_bytes());
        }
        assert!(batch.flattened(&[0]).unwrap().batch.is_none());

        let Op::Http { url, headers, body, .. } = sink.request(&batch) else { panic!("not http") };
        assert_eq!(url, "http://x:3100/loki/api/v1/push");
        assert_eq!(
            (&headers["x-scope-orgid"], &headers["content-type"]),
            (&"t1".parse().unwrap(), &"application/x-protobuf".parse().unwrap())
        );
        assert!(!headers.contains_key("content-encoding"));
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&body).unwrap(), batch.raw().unwrap());
    }

    #[test]
    fn json_says_the_same() {
        let sink = sink(json!({"format": "json", "endpoint": "http://x/a/loki/api/v1/push"}));
        let batch = batch(&sink, &[LINE, "{}"]);
        let value: Value = serde_json::from_str(&raw(&batch)).unwrap();
        let stream = &value["streams"][0];
        let labels =
            json!({"cluster": "prod", "index": "audit", "node": "node-1", "source": "kubernetes-audit"});
        assert_eq!(stream["stream"], labels);
        assert_eq!(stream["values"][0][0], "1795487459123456000");
        assert_eq!(stream["values"][0][1], LINE);
        assert_eq!(stream["values"][0][2]["uid"], batch.records[0].uid.to_string());
        assert_eq!(stream["values"][0][2]["name"], "web\"1");
        assert_eq!(stream["values"][1][1], "{}");
        assert_eq!(batch.document(&batch.records[0], &batch.raw().unwrap()), LINE.as_bytes());
        let Op::Http { url, headers, .. } = sink.request(&batch) else { panic!("not http") };
        assert_eq!(url, "http://x/a/loki/api/v1/push");
        assert_eq!(headers["content-encoding"], "gzip");
    }

    #[test]
    fn what_is_too_long_says_so() {
        let sink = sink(json!({"batch": {"event_bytes": "4KiB"}}));
        let line = format!(
            r#"{{"verb":"get","user":{{"username":"{}"}},"requestObject":"{}"}}"#,
            "é".repeat(900),
            "x".repeat(9000)
        );
        let batch = batch(&sink, &[&line]);
        assert!(batch.records[0].len <= 4096 && batch.records[0].trimmed);
        let request = PushRequest::decode(&*batch.raw().unwrap()).unwrap();
        let entry = &request.streams[0].entries[0];
        let of = |name| pairs(entry).into_iter().find(|(have, _)| *have == name).unwrap().1.to_owned();
        assert_eq!(of("trimmed"), "managedFields,responseObject,requestObject,longStrings");
        assert_eq!(of("bytes"), line.len().to_string());
        assert!(of("user").len() <= METADATA_BYTES && entry.line.starts_with("{\"verb\":\"get\""));
    }

    #[test]
    fn mistakes() {
        let told = |more: Value| {
            let mut options = json!({"endpoint": "http://x"});
            options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            build("loki", options).err().unwrap()
        };
        let many: BTreeMap<String, &str> = (0..12).map(|n| (format!("l{n}"), "v")).collect();
        for (options, want) in [
            (
                json!({"compression": "gzip"}),
                "compression: goes with `format: json`; protobuf is always in snappy",
            ),
            (
                json!({"compression": "zstd", "format": "json"}),
                "compression: must be gzip or none: Loki takes no other around JSON",
            ),
            (json!({"labels": {"a-b": "c"}}), "labels: \"a-b\" is no name of a label"),
            (json!({"labels": {"__a": "c"}}), "labels: \"__a\" is no name of a label"),
            (json!({"labels": {"index": "c"}}), "labels: index is set by auditship"),
            (json!({"labels": {"a": ""}}), "labels: a must have a value of 1 to 2048 bytes"),
            (json!({"labels": many}), "labels: with auditship's own there may be at most 15"),
            (json!({"endpoint": "http://x?y"}), "endpoint: must not hold a query"),
            (json!({"tenant": "a\nb"}), "tenant: holds characters that no header can carry"),
        ] {
            assert_eq!(told(options), want);
        }
        assert!(told(json!({"compression": "snappy"})).contains("unknown variant `snappy`"));
    }
}
