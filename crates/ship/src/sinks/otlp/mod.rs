//! OpenTelemetry's protocol over HTTP: log records in protobuf, for a collector or a backend that takes it.
//!
//! Source: open-telemetry/opentelemetry-proto `docs/specification.md` (requests, answers, what is tried again) and
//! `opentelemetry/proto/{logs,common,resource}/v1/*.proto` (the fields). The event is the body, as text: attributes
//! beside it are to filter by. A record has no identity there, so `log.record.uid` is the only way to tell a
//! repetition.

mod answer;
mod attributes;

use super::{
    Auth, BatchOptions, Built, Connection, HttpCommon, Invalid, RateLimit, Tls, authorize, body_headers,
    own_headers, post, write_utf8,
};
use crate::batch::Batch;
use crate::compress::Encoding;
use crate::proto;
use crate::sink::{Context, Embedding, Envelope, GroupKey, Limits, Op, Outcome, Reply, Sink, Verdict};
use crate::units::{Duration, Endpoint, Secret};
use auditship_event::audit::Event;
use auditship_event::{Index, Record};
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time;

const ANSWER_BYTES: usize = 1 << 20;

/// Clients should stay below 20 MiB before compression; collectors are seen to take 4 MiB
/// (open-telemetry/opentelemetry-collector#15177).
const LIMITS: Limits = Limits {
    bytes: 4 << 20,
    packed_bytes: None,
    whole_lines: false,
    events: 4096,
    age: time::Duration::from_secs(1),
    event_bytes: Some(3 << 20),
    event_age: None,
};

/// The version of the semantic conventions that the attributes follow.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

/// Ships log records by OTLP over HTTP.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// Base URL, such as `http://collector.example:4318`; `/v1/logs` is put behind it unless it ends with that. No
    /// credentials.
    pub endpoint: Endpoint,
    /// `service.name` of the resource (kube-apiserver).
    pub service_name: Option<String>,
    /// Further attributes of the resource, besides `k8s.cluster.name` and `k8s.node.name`.
    #[serde(default)]
    pub resource: BTreeMap<String, String>,
    /// Further headers, where many backends want their key. Their values are never shown.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// How to authenticate.
    pub auth: Option<Auth>,
    /// Compression of requests (gzip). A collector takes zstd too.
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

struct Export {
    url: String,
    headers: HeaderMap,
    limits: Limits,
    encoding: Encoding,
    /// All of a request that stands before its records.
    prefix: Vec<u8>,
}

impl Otlp {
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
        let base = base.strip_suffix("/v1/logs").unwrap_or(base);
        let encoding = self.compression.unwrap_or_default();
        let mut headers = own_headers(&self.headers)?;
        body_headers(&mut headers, "application/x-protobuf", encoding);
        authorize(self.auth.as_ref(), &mut headers)?;
        let sink = Arc::new(Export {
            url: format!("{base}/v1/logs"),
            headers,
            limits: self.batch.limits(LIMITS)?,
            encoding,
            prefix: self.prefix(context)?,
        });
        Ok(Built { sink, transport, options })
    }

    /// `ExportLogsServiceRequest{resource_logs=1: ResourceLogs{resource=1, scope_logs=2: ScopeLogs{scope=1,
    /// schema_url=3, log_records=2}}}` up to the first record.
    fn prefix(&self, context: &Context) -> Result<Vec<u8>, Invalid> {
        let mut attributes: BTreeMap<&str, &str> =
            self.resource.iter().map(|(key, value)| (&**key, &**value)).collect();
        for (key, value) in [
            ("service.name", self.service_name.as_deref().unwrap_or("kube-apiserver")),
            ("k8s.cluster.name", context.cluster()),
            ("k8s.node.name", context.node()),
        ] {
            if attributes.insert(key, value).is_some() {
                return Err(Invalid::new("resource", format!("{key} is set by auditship")));
            }
        }
        let mut prefix = Vec::new();
        proto::long(1, &mut prefix, |out| {
            proto::message(1, out, |out| {
                attributes.iter().for_each(|(key, value)| attributes::text(1, key, value, out));
            });
            proto::long(2, out, |out| {
                proto::message(1, out, |out| {
                    proto::bytes(1, b"auditship", out);
                    proto::bytes(2, env!("CARGO_PKG_VERSION").as_bytes(), out);
                });
                proto::bytes(3, SCHEMA_URL.as_bytes(), out);
            });
        });
        Ok(prefix)
    }
}

/// Fills in the two lengths that span all records: of the resource's logs, and of the scope's, which follow the
/// resource.
fn seal(body: &mut [u8]) {
    let head = 1 + proto::PADDED;
    let Some((outer, inner)) = body.split_at_mut_checked(head) else { return };
    outer[1..].copy_from_slice(&proto::padded(inner.len()));
    let Some(resource) = proto::first_len(inner) else { return };
    if let Some((scope, records)) = inner[resource..].split_at_mut_checked(head) {
        scope[1..].copy_from_slice(&proto::padded(records.len()));
    }
}

impl Sink for Export {
    fn kind(&self) -> &'static str {
        "otlp"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn envelope(&self, _: &GroupKey) -> Envelope {
        Envelope { prefix: self.prefix.clone().into(), seal: Some(seal), ..Envelope::default() }
    }

    /// `LogRecord{time_unix_nano=1, severity_number=2, severity_text=3, body=5, attributes=6,
    /// observed_time_unix_nano=11, event_name=12}`
    fn frame(&self, record: &Record<'_>, context: &Context, out: &mut Vec<u8>) -> Range<usize> {
        let from = out.len();
        let mut document = 0..0;
        // Before 1970 there was no Kubernetes.
        let nanos = u64::try_from(record.time).unwrap_or(0).saturating_mul(1000);
        proto::long(2, out, |out| {
            proto::fixed64(1, nanos, out);
            proto::long(5, out, |out| {
                document = proto::long(1, out, |out| write_utf8(record, out));
            });
            let mut rest = Vec::with_capacity(1024);
            let event = Event::parse(&out[document.clone()]).ok();
            let (number, word) = attributes::severity(event.as_ref());
            proto::integer(2, number, &mut rest);
            proto::bytes(3, word.as_bytes(), &mut rest);
            attributes::write(6, record, context, event.as_ref(), &mut rest);
            // When it was observed is the event's time again: the time of reading would differ from try to try.
            proto::fixed64(11, nanos, &mut rest);
            proto::bytes(12, attributes::event_name(event.as_ref()).as_bytes(), &mut rest);
            out.extend_from_slice(&rest);
        });
        document.start - from..document.end - from
    }

    fn embedding(&self) -> Embedding {
        Embedding::Counted
    }

    fn request(&self, batch: &Batch) -> Op {
        post(&self.url, &self.headers, batch, ANSWER_BYTES)
    }

    fn judge(&self, batch: &Batch, _: &Op, reply: &Reply) -> Outcome {
        answer::judge(reply, batch.records.len())
    }

    /// An empty `ExportLogsServiceRequest`, which is no bytes at all: "the server SHOULD respond with success"
    /// (`docs/specification.md`, "Full Success").
    fn probe(&self, _: &[Index]) -> Vec<Op> {
        let mut headers = self.headers.clone();
        headers.remove(header::CONTENT_ENCODING);
        let (url, body) = (self.url.clone(), Bytes::new());
        vec![Op::Http { method: Method::POST, url, headers, body, answer_bytes: ANSWER_BYTES }]
    }

    fn judge_probe(&self, _: &Op, reply: &Reply) -> Verdict {
        answer::judge_probe(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{batch, build};
    use super::*;
    use prost::Message;
    use serde_json::{Value as Json, json};

    #[derive(Clone, PartialEq, Message)]
    struct Request {
        #[prost(message, repeated, tag = "1")]
        resources: Vec<ResourceLogs>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ResourceLogs {
        #[prost(message, optional, tag = "1")]
        resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        scopes: Vec<ScopeLogs>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Resource {
        #[prost(message, repeated, tag = "1")]
        attributes: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ScopeLogs {
        #[prost(message, optional, tag = "1")]
        scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")]
        records: Vec<LogRecord>,
        #[prost(string, tag = "3")]
        schema_url: String,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Scope {
        #[prost(string, tag = "1")]
        name: String,
    }

    #[derive(Clone, PartialEq, Message)]
    struct LogRecord {
        #[prost(fixed64, tag = "1")]
        time: u64,
        #[prost(int32, tag = "2")]
        severity: i32,
        #[prost(string, tag = "3")]
        severity_text: String,
        #[prost(message, optional, tag = "5")]
        body: Option<Any>,
        #[prost(message, repeated, tag = "6")]
        attributes: Vec<KeyValue>,
        #[prost(fixed64, tag = "11")]
        observed: u64,
        #[prost(string, tag = "12")]
        event_name: String,
    }

    #[derive(Clone, PartialEq, Message)]
    struct KeyValue {
        #[prost(string, tag = "1")]
        key: String,
        #[prost(message, optional, tag = "2")]
        value: Option<Any>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Any {
        #[prost(oneof = "Kind", tags = "1, 3, 4, 5, 6")]
        kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    enum Kind {
        #[prost(string, tag = "1")]
        Text(String),
        #[prost(int64, tag = "3")]
        Integer(i64),
        #[prost(double, tag = "4")]
        Double(f64),
        #[prost(message, tag = "5")]
        List(List),
        #[prost(message, tag = "6")]
        Map(Map),
    }

    #[derive(Clone, PartialEq, Message)]
    struct Map {
        #[prost(message, repeated, tag = "1")]
        values: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct List {
        #[prost(message, repeated, tag = "1")]
        values: Vec<Any>,
    }

    fn json_of(any: &Any) -> Json {
        match any.kind.as_ref().unwrap() {
            Kind::Text(text) => json!(text),
            Kind::Integer(number) => json!(number),
            Kind::Double(number) => json!(number),
            Kind::List(list) => list.values.iter().map(json_of).collect(),
            Kind::Map(map) => attributes_of(&map.values),
        }
    }

    fn attributes_of(pairs: &[KeyValue]) -> Json {
        let pairs = pairs.iter().map(|pair| (pair.key.clone(), json_of(pair.value.as_ref().unwrap())));
        Json::Object(pairs.collect())
    }

    fn sink(more: Json) -> Arc<dyn Sink> {
        let mut options = json!({"endpoint": "http://x:4318/"});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        build("otlp", options).unwrap().sink
    }

    fn read(batch: &Batch) -> ResourceLogs {
        let mut request = Request::decode(&*batch.raw().unwrap()).unwrap();
        assert_eq!((request.resources.len(), request.resources[0].scopes.len()), (1, 1));
        request.resources.remove(0)
    }

    const LINE: &str = r#"{"kind":"Event","level":"Metadata","auditID":"a-1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/pods/web/exec?command=ls","verb":"create","user":{"username":"jane","uid":"u-7","groups":["dev","system:authenticated"]},"sourceIPs":["10.0.0.1","192.0.2.7"],"userAgent":"kubectl/1.37","objectRef":{"namespace":"shop","resource":"pods","subresource":"exec","name":"web","apiVersion":"v1"},"responseStatus":{"code":403},"requestReceivedTimestamp":"2026-11-24T02:30:59.000000Z","stageTimestamp":"2026-11-24T02:30:59.250000Z","annotations":{"authorization.k8s.io/decision":"forbid","authorization.k8s.io/reason":"no"}}"#;

    #[test]
    fn a_log_record_for_each_event() {
        let long = "v".repeat(300);
        let sink =
            sink(json!({"resource": {"deployment.environment.name": long}, "auth": {"bearer": "hunter2"}}));
        let batch = batch(&sink, &[LINE, "{}"]);
        let logs = read(&batch);
        assert_eq!(
            attributes_of(&logs.resource.as_ref().unwrap().attributes),
            json!({"deployment.environment.name": long, "service.name": "kube-apiserver",
                "k8s.cluster.name": "prod", "k8s.node.name": "node-1"})
        );
        let scope = &logs.scopes[0];
        assert_eq!((&*scope.scope.as_ref().unwrap().name, &*scope.schema_url), ("auditship", SCHEMA_URL));
        let record = &scope.records[0];
        assert_eq!((record.time, record.observed), (1_795_487_459_123_456_000, 1_795_487_459_123_456_000));
        assert_eq!(
            (record.severity, &*record.severity_text, &*record.event_name),
            (13, "WARN", "k8s.audit.create")
        );
        assert_eq!(json_of(record.body.as_ref().unwrap()), LINE);
        assert_eq!(
            attributes_of(&record.attributes),
            json!({
                "log.record.uid": batch.records[0].uid.to_string(), "auditship.index": "audit",
                "auditship.key": auditship_event::Keys::derive(b"k", "prod").id().to_string(),
                "k8s.audit.id": "a-1", "k8s.audit.level": "Metadata", "k8s.audit.stage": "ResponseComplete",
                "k8s.audit.verb": "create", "user.name": "jane", "user.id": "u-7", "user.roles": ["dev", "system:authenticated"],
                "user_agent.original": "kubectl/1.37", "url.path": "/api/v1/namespaces/shop/pods/web/exec",
                "url.query": "command=ls", "http.request.method": "POST", "http.response.status_code": 403,
                "k8s.namespace.name": "shop", "k8s.audit.object.api_version": "v1",
                "k8s.audit.object.resource": "pods", "k8s.audit.object.subresource": "exec",
                "k8s.audit.object.name": "web", "k8s.audit.decision": "forbid", "k8s.audit.reason": "no",
                "client.address": "192.0.2.7", "k8s.audit.claimed_addresses": ["10.0.0.1"],
                "k8s.audit.duration": 0.25, "k8s.audit.annotations": {"authorization.k8s.io/decision": "forbid",
                    "authorization.k8s.io/reason": "no"},
            })
        );
        let (left, right) = batch.split().unwrap().unwrap();
        let (left, right) = (read(&left), read(&right));
        assert_eq!([&*left.scopes[0].records, &*right.scopes[0].records].concat(), scope.records);
        assert_eq!(left.resource, logs.resource);
        for (entry, line) in batch.records.iter().zip([LINE, "{}"]) {
            assert_eq!(batch.document(entry, &batch.raw().unwrap()), line.as_bytes());
        }
        let Op::Http { url, headers, .. } = sink.request(&batch) else { panic!("not http") };
        assert_eq!(url, "http://x:4318/v1/logs");
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert_eq!(headers["content-encoding"], "gzip");
        assert!(!format!("{headers:?}").contains("hunter2"));
    }

    #[test]
    fn the_endpoint_may_be_the_whole_path() {
        for (endpoint, want) in [
            ("http://x", "http://x/v1/logs"),
            ("http://x/v1/logs", "http://x/v1/logs"),
            ("http://x/otlp/", "http://x/otlp/v1/logs"),
        ] {
            let sink = build("otlp", json!({"endpoint": endpoint, "compression": "zstd"})).unwrap().sink;
            let Op::Http { url, headers, .. } = sink.request(&batch(&sink, &["{}"])) else {
                panic!("not http")
            };
            assert_eq!((&*url, headers["content-encoding"].to_str().unwrap()), (want, "zstd"));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let sink = sink(json!({}));
        let none = auditship_event::Edits::new();
        let index = auditship_event::Index("audit".into());
        let record = Record {
            index: &index,
            time: 0,
            uid: auditship_event::Uid([1; 16]),
            span: auditship_event::Span { stream: auditship_event::StreamId(1), start: 0, end: 1 },
            body: auditship_event::Body::redacted(b"{\"verb\":\"get\xff\xfe\"}", &none),
        };
        let mut out = b"before".to_vec();
        let document = sink.frame(&record, &super::super::tests::context(), &mut out);
        assert_eq!(&out[6..][document], "{\"verb\":\"get\u{fffd}\u{fffd}\"}".as_bytes());
    }

    #[test]
    fn what_is_too_long_says_so() {
        let sink = sink(json!({"batch": {"event_bytes": "4KiB"}}));
        let line = format!(r#"{{"verb":"get","requestObject":{{"a":"{}"}}}}"#, "x".repeat(9000));
        let batch = batch(&sink, &[&line]);
        let logs = read(&batch);
        let attributes = attributes_of(&logs.scopes[0].records[0].attributes);
        assert_eq!(
            attributes["auditship.trimmed"],
            json!(["managedFields", "responseObject", "requestObject"])
        );
        assert_eq!(attributes["auditship.bytes"], line.len());
        assert!(batch.records[0].len <= 4096);
    }

    #[test]
    fn mistakes() {
        for (options, want) in [
            (json!({"endpoint": "http://x?y=1"}), "endpoint: must not hold a query"),
            (
                json!({"endpoint": "http://x", "resource": {"k8s.node.name": "n"}}),
                "resource: k8s.node.name is set by auditship",
            ),
            (
                json!({"endpoint": "http://x", "headers": {"content-encoding": "n"}}),
                "headers: content-encoding is set by auditship",
            ),
        ] {
            assert_eq!(build("otlp", options).err().as_deref(), Some(want));
        }
    }
}
