//! Elasticsearch and OpenSearch through the bulk API: free of duplicates, judged item by item.
//!
//! Source: Elasticsearch reference, "Bulk API" (`POST /_bulk`): an action line and a source line for each
//! document, a newline at the end, and an answer with one item for each action, in order. `create` with an
//! `_id` answers 409 where that id is stored already, which is what a repeated delivery wants to hear. Data
//! streams take only `create`. The error's `reason` may quote the document, so only its `type` is kept.
//!
//! `failure_store` (elastic/elasticsearch#112816): `used` beside a success says that the data stream has put the
//! document into its failure store, because it could not index it. It is kept, so it is delivered, but counted apart.
//!
//! Elasticsearch takes a zstd body for JSON and answers 400 (elastic/elasticsearch#146526): that speaks of the
//! configuration, not of the records.

use super::{
    Basic, BatchOptions, Built, Connection, EventShape, HTTP_LIMITS, HttpCommon, Invalid, RateLimit, Tls,
    basic, body_headers, post, sensitive,
};
use crate::aws::OpenSearch;
use crate::batch::Batch;
use crate::compress::Encoding;
use crate::shape;
use crate::sink::{Context, Failure, Limits, Op, Outcome, Refusal, Reply, Sink, Verdict, WithIndex};
use crate::units::{Duration, Endpoint, Secret};
use auditship_event::{Index, Record, text};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use schemars::JsonSchema;
use serde::Deserialize;
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

/// An answer has some 30 bytes an item when all is well, some hundred for each failure; `filter_path` keeps causes
/// and stack traces (`error_trace`) out of it. What is longer comes of reasons that quote their documents.
const ANSWER_BYTES: usize = 16 << 20;

/// What is read of the answer to a probe; a pipeline can be long.
const PROBE_ANSWER_BYTES: usize = 1 << 20;

const PIPELINES: &str = "/_ingest/pipeline/";

/// Ships to Elasticsearch or OpenSearch.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Elasticsearch {
    /// Base URL, such as `https://logs.example:9200`; may hold a path, but no credentials.
    pub endpoint: Endpoint,
    /// How to authenticate.
    pub auth: Option<Auth>,
    /// Ingest pipeline that every document goes through.
    pub pipeline: Option<String>,
    /// In whose words an event leaves (raw).
    #[serde(default)]
    pub shape: EventShape,
    /// Compression of requests (gzip). Elasticsearch takes gzip alone, OpenSearch from 2.19 also zstd.
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
    /// Whom to trust, and as whom to appear.
    #[serde(default)]
    pub tls: Tls,
    /// How connections are made and kept.
    #[serde(default)]
    pub connection: Connection,
}

/// How to authenticate.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// An API key in its encoded form, as Elasticsearch hands it out.
    ApiKey(Secret),
    /// User name and password.
    Basic(Basic),
    /// A bearer token.
    Bearer(Secret),
    /// A signature of AWS, for OpenSearch Service and OpenSearch Serverless.
    Aws(OpenSearch),
}

struct Bulk {
    url: String,
    base: String,
    pipeline: Option<String>,
    headers: HeaderMap,
    limits: Limits,
    encoding: Encoding,
    shape: EventShape,
    /// Whether requests are signed.
    signed: bool,
}

impl Elasticsearch {
    pub(super) fn build(&self, _: &Context) -> Result<Built, Invalid> {
        let common = HttpCommon {
            endpoint: &self.endpoint.0,
            path: "endpoint",
            rate_limit: &self.rate_limit,
            timeout: self.timeout,
            concurrency: self.concurrency,
            tls: &self.tls,
            connection: &self.connection,
        };
        let (mut transport, options) = common.check()?;
        if self.endpoint.0.contains(['?', '#']) {
            return Err(Invalid::new("endpoint", "must not hold a query"));
        }
        let base = self.endpoint.0.trim_end_matches('/');
        let filter = "errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.failure_store";
        let mut url = format!("{base}/_bulk?filter_path={filter}");
        if let Some(pipeline) = &self.pipeline {
            let safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if pipeline.is_empty() || !pipeline.chars().all(safe) {
                return Err(Invalid::new("pipeline", "may hold only letters, digits, `-`, `_` and `.`"));
            }
            url = format!("{url}&pipeline={pipeline}");
        }
        let encoding = self.compression.unwrap_or_default();
        let mut headers = HeaderMap::new();
        body_headers(&mut headers, "application/x-ndjson", encoding);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(auth) = &self.auth {
            let value = match auth {
                Auth::ApiKey(key) => Some(sensitive("auth", &format!("ApiKey {}", key.reveal().trim()))?),
                Auth::Bearer(token) => Some(sensitive("auth", &format!("Bearer {}", token.reveal().trim()))?),
                Auth::Basic(pair) => Some(basic("auth", pair)?),
                Auth::Aws(aws) => {
                    transport = transport.signed(aws.signing("auth")?);
                    None
                }
            };
            headers.extend(value.map(|value| (header::AUTHORIZATION, value)));
        }
        let sink = Arc::new(Bulk {
            url,
            base: base.to_owned(),
            pipeline: self.pipeline.clone(),
            headers,
            limits: self.batch.limits(HTTP_LIMITS)?,
            encoding,
            shape: self.shape,
            signed: matches!(self.auth, Some(Auth::Aws(_))),
        });
        Ok(Built { sink, transport, options })
    }
}

impl Sink for Bulk {
    fn kind(&self) -> &'static str {
        "elasticsearch"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn frame(&self, record: &Record<'_>, context: &Context, out: &mut Vec<u8>) -> Range<usize> {
        let from = out.len();
        out.extend_from_slice(b"{\"create\":{\"_index\":\"");
        text::escape_into(record.index.as_str(), out);
        out.extend_from_slice(b"\",\"_id\":\"");
        out.extend_from_slice(&record.uid.hex());
        out.extend_from_slice(b"\"}}\n");
        let start = out.len() - from;
        let document = match self.shape {
            EventShape::Raw => {
                let time = jiff::Timestamp::from_microsecond(record.time).unwrap_or_default();
                let mut members = Vec::with_capacity(256);
                write!(members, "\"@timestamp\":\"{time:.6}\",").expect("memory takes any bytes");
                context.write_member(record, WithIndex::No, &mut members);
                record.body.write_with(&members, out);
                start..out.len() - from
            }
            EventShape::Ecs => {
                let event = shape::ecs::frame(record, context, WithIndex::No, out);
                start + event.start..start + event.end
            }
        };
        out.push(b'\n');
        document
    }

    fn request(&self, batch: &Batch) -> Op {
        post(&self.url, &self.headers, batch, ANSWER_BYTES)
    }

    fn judge(&self, batch: &Batch, _: &Op, reply: &Reply) -> Outcome {
        match (reply.outcome(), reply) {
            // It was carried out; in two pieces it is again, without harm, and the answers are half as long.
            (_, Reply::Failed { kind: Failure::Answer, .. }) if batch.records.len() > 1 => Outcome::Split,
            (Some(Outcome::Reject(Refusal { status: 400, .. })), _) if self.encoding == Encoding::Zstd => {
                Outcome::Hold { reason: "http 400 (is zstd taken here? Elasticsearch takes gzip)".to_owned() }
            }
            (Some(outcome), _) => outcome,
            (None, Reply::Http { body, .. }) => match serde_json::from_slice::<Answer>(body) {
                Ok(answer) if answer.items.len() == batch.records.len() => items(&answer.items),
                // Something between us and the backend answers, or it is not the backend we think.
                Ok(_) => nonsense("the answer has not one item for each record"),
                Err(_) => nonsense("the answer is not a bulk answer"),
            },
            (None, _) => nonsense("not an http answer"),
        }
    }

    fn diverted(&self, reply: &Reply) -> u64 {
        let Reply::Http { body, .. } = reply else { return 0 };
        if memchr::memmem::find(body, b"failure_store").is_none() {
            return 0;
        }
        let answer = serde_json::from_slice::<Answer>(body).unwrap_or_default();
        answer.items.iter().filter(|item| item.create.is_diverted()).count() as u64
    }

    fn probe(&self, indexes: &[Index]) -> Vec<Op> {
        let mut headers = self.headers.clone();
        headers.remove(header::CONTENT_TYPE);
        headers.remove(header::CONTENT_ENCODING);
        let ask = |method, path: String| Op::Http {
            method,
            url: format!("{}{path}", self.base),
            headers: headers.clone(),
            body: Bytes::new(),
            answer_bytes: PROBE_ANSWER_BYTES,
        };
        let mut ops = vec![ask(Method::GET, "/".to_owned())];
        ops.extend(self.pipeline.iter().map(|pipeline| ask(Method::GET, format!("{PIPELINES}{pipeline}"))));
        let plain =
            |name: &&Index| name.as_str().chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        ops.extend(indexes.iter().filter(plain).map(|name| ask(Method::HEAD, format!("/{}", name.as_str()))));
        ops
    }

    fn is_signed_with_time(&self) -> bool {
        self.signed
    }

    fn judge_probe(&self, asked: &Op, reply: &Reply) -> Verdict {
        let Op::Http { url, .. } = asked else { return Verdict::Doubtful("not an http question".to_owned()) };
        let status = match reply {
            Reply::Http { status, .. } => *status,
            _ => 0,
        };
        match (url.strip_prefix(&self.base).unwrap_or_default(), status) {
            // A key that may do no more than write is what one should give to a shipper.
            ("/", 403) => {
                Verdict::Good("the credentials are known; its version is not for them to see".to_owned())
            }
            ("/", 200..=299) => version(reply),
            (path, 404) if path.starts_with(PIPELINES) => Verdict::Bad {
                text: format!("the pipeline `{}` does not exist", &path[PIPELINES.len()..]),
                advice: "make it, or look at `pipeline`".to_owned(),
            },
            (path, 403) if path.starts_with(PIPELINES) => {
                Verdict::Good("pipelines are not for these credentials to see".to_owned())
            }
            (path, 200..=299) if path.starts_with(PIPELINES) => {
                Verdict::Good("the pipeline exists".to_owned())
            }
            ("/" | "", _) => answered(reply),
            (path, 404) => Verdict::Doubtful(format!(
                "the index `{}` does not exist: the first event makes it, where the cluster lets it be made",
                &path[1..]
            )),
            (path, 403) => {
                Verdict::Good(format!("the index `{}` is not for these credentials to see", &path[1..]))
            }
            (path, 200..=299) => Verdict::Good(format!("the index `{}` exists", &path[1..])),
            _ => answered(reply),
        }
    }
}

fn answered(reply: &Reply) -> Verdict {
    reply.verdict("auth").unwrap_or_else(|| Verdict::Good("answers".to_owned()))
}

/// What answers `GET /`: both name themselves there (Elasticsearch reference, "Cluster info"; OpenSearch
/// documentation, "Cluster Information API": `version.distribution`).
fn version(reply: &Reply) -> Verdict {
    #[derive(Deserialize)]
    struct Info {
        version: Version,
    }
    #[derive(Deserialize)]
    struct Version {
        number: String,
        #[serde(default)]
        distribution: Option<String>,
    }
    let Reply::Http { body, .. } = reply else { return answered(reply) };
    let safe = |text: &str| -> String {
        text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(32).collect()
    };
    match serde_json::from_slice::<Info>(body) {
        Ok(Info { version }) => {
            let kind = version.distribution.as_deref().unwrap_or("elasticsearch");
            Verdict::Good(format!("{} {}", safe(kind), safe(&version.number)))
        }
        Err(_) => Verdict::Bad {
            text: "what answers is neither Elasticsearch nor OpenSearch".to_owned(),
            advice: "look at `endpoint`".to_owned(),
        },
    }
}

fn nonsense(reason: &str) -> Outcome {
    Outcome::Retry { after: None, reason: reason.to_owned() }
}

#[derive(Default, Deserialize)]
struct Answer {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(alias = "index")]
    create: Created,
}

#[derive(Deserialize)]
struct Created {
    status: u16,
    error: Option<ItemError>,
    failure_store: Option<String>,
}

#[derive(Deserialize)]
struct ItemError {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    reason: Option<String>,
}

enum Fate {
    Stored,
    Again,
    Hold,
    Refused,
}

impl Created {
    fn fate(&self) -> Fate {
        match self.status {
            200..=299 | 409 => Fate::Stored,
            408 | 425 | 429 | 500.. => Fate::Again,
            // No permission, no index and no leave to make one, an index under a block: not the record's fault.
            401 | 403 | 404 | 405 => Fate::Hold,
            _ if self.is_configuration() => Fate::Hold,
            _ => Fate::Refused,
        }
    }

    /// Taken, but into the failure store.
    fn is_diverted(&self) -> bool {
        (200..300).contains(&self.status) && self.failure_store.as_deref() == Some("used")
    }

    /// Refusals that every document would meet.
    fn is_configuration(&self) -> bool {
        let Some(error) = &self.error else { return false };
        let reason = error.reason.as_deref().unwrap_or_default();
        let missing_pipeline = reason.starts_with("pipeline with id [") && reason.ends_with("does not exist");
        let no_write_index = reason.starts_with("no write index is defined for alias");
        matches!(error.kind.as_str(), "index_closed_exception" | "cluster_block_exception")
            || (error.kind == "illegal_argument_exception" && (missing_pipeline || no_write_index))
    }

    /// Status and type: the type is one of Elasticsearch's own words, bounded here all the same.
    fn reason(&self) -> String {
        let kind = self.error.as_ref().map(|error| error.kind.as_str()).unwrap_or_default();
        let safe = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let kind: String = kind.chars().filter(safe).take(64).collect();
        format!("{} {kind}", self.status).trim_end().to_owned()
    }
}

fn items(items: &[Item]) -> Outcome {
    let (mut retry, mut reject, mut stored, mut held) = (Vec::new(), Vec::new(), 0, 0);
    let mut reason = String::new();
    for (at, Item { create }) in items.iter().enumerate() {
        match create.fate() {
            Fate::Stored => stored += 1,
            Fate::Refused => reject.push((at, Refusal { status: create.status, reason: create.reason() })),
            fate => {
                held += usize::from(matches!(fate, Fate::Hold));
                retry.push(at);
                reason = format!("item {}", create.reason());
            }
        }
    }
    if stored == items.len() {
        Outcome::Delivered
    } else if held == items.len() {
        Outcome::Hold { reason }
    } else {
        Outcome::Partial { retry, reject, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{batch, build, raw};
    use super::*;
    use serde_json::json;

    fn bulk() -> Arc<dyn Sink> {
        let options =
            json!({"endpoint": "https://es:9200/x/", "pipeline": "audit", "auth": {"api_key": "hunter2\n"}});
        build("elasticsearch", options).unwrap().sink
    }

    #[test]
    fn frames_action_and_source() {
        let batch = batch(&bulk(), &[r#"{"kind":"Event"}"#]);
        let uid = batch.records[0].uid;
        let key = auditship_event::Keys::derive(b"k", "prod").id();
        assert_eq!(
            raw(&batch),
            format!(
                "{{\"create\":{{\"_index\":\"audit\",\"_id\":\"{uid}\"}}}}\n\
                 {{\"@timestamp\":\"2026-11-24T02:30:59.123456Z\",\"auditship\":{{\"uid\":\"{uid}\",\
                 \"cluster\":\"prod\",\"node\":\"node-1\",\"key\":\"{key}\"}}, \"kind\":\"Event\"}}\n"
            )
        );
    }

    #[test]
    fn the_request_shows_no_secret() {
        let sink = bulk();
        let Op::Http { url, headers, .. } = sink.request(&batch(&sink, &["{}"])) else { panic!("not http") };
        assert!(url.starts_with("https://es:9200/x/_bulk?filter_path="), "{url}");
        assert!(url.ends_with("&pipeline=audit"));
        assert_eq!(headers["authorization"], "ApiKey hunter2");
        assert_eq!(headers["content-encoding"], "gzip");
        assert!(!format!("{headers:?}").contains("hunter2"));
    }

    #[test]
    fn at_aws_each_request_is_signed_by_the_client() {
        for (aws, service) in [
            (json!({"region": "eu-central-1"}), "es"),
            (json!({"region": "eu-central-1", "service": "aoss"}), "aoss"),
        ] {
            let options =
                json!({"endpoint": "https://x.eu-central-1.es.amazonaws.com", "auth": {"aws": aws}});
            let built = build("elasticsearch", options).unwrap();
            let Op::Http { headers, .. } = built.sink.request(&batch(&built.sink, &["{}"])) else { panic!() };
            assert!(!headers.contains_key("authorization") && built.sink.is_signed_with_time());
            let crate::sinks::Transport::Http(client) = built.transport else { panic!("not http") };
            let signing = client.aws.unwrap();
            assert_eq!(
                (signing.service, &*signing.region, signing.checksum),
                (service, "eu-central-1", false)
            );
        }
        let wrong = build("elasticsearch", json!({"endpoint": "https://x", "auth": {"aws": {"region": ""}}}));
        assert_eq!(wrong.err().unwrap(), "auth: the region is a name such as eu-central-1");
    }

    fn judged(body: serde_json::Value) -> String {
        let sink = bulk();
        let batch = batch(&sink, &["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]);
        let reply = Reply::Http { status: 200, headers: HeaderMap::new(), body: body.to_string().into() };
        format!("{:?}", sink.judge(&batch, &sink.request(&batch), &reply))
    }

    #[test]
    fn judges_item_by_item() {
        let item = |status: u16| json!({"create": {"status": status}});
        let failed = |status: u16, kind: &str, reason: &str| json!({"create": {"status": status, "error": {"type": kind, "reason": reason}}});
        let answer = |items: &[serde_json::Value]| json!({"errors": true, "items": items});
        assert_eq!(judged(answer(&[item(201), item(409), item(200)])), "Delivered");
        let mixed = [
            item(201),
            failed(429, "es_rejected_execution_exception", ""),
            failed(400, "document_parsing_exception", "SECRET"),
        ];
        let told = judged(answer(&mixed));
        assert_eq!(
            told,
            "Partial { retry: [1], reject: [(2, Refusal { status: 400, reason: \"400 document_parsing_exception\" })], \
             reason: \"item 429 es_rejected_execution_exception\" }"
        );
        let missing = failed(400, "illegal_argument_exception", "pipeline with id [x] does not exist");
        assert!(judged(answer(&[missing.clone(), missing.clone(), missing])).starts_with("Hold"));
        assert!(judged(answer(&[item(404), item(404), item(404)])).starts_with("Hold"));
        assert!(
            judged(answer(&[item(404), item(201), item(404)]))
                .starts_with("Partial { retry: [0, 2], reject: []")
        );
        for nonsense in [
            answer(&[item(201)]),
            json!({}),
            json!("ok"),
            json!({"errors": false}),
            json!({"items": [1, 2, 3]}),
        ] {
            assert!(judged(nonsense).starts_with("Retry"));
        }
    }

    #[test]
    fn what_went_into_the_failure_store_is_delivered_and_counted() {
        let sink = bulk();
        let batch = batch(&sink, &["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]);
        let body = json!({"errors": false, "items": [
            {"create": {"status": 201, "failure_store": "used"}},
            {"create": {"status": 201}},
            {"create": {"status": 400, "error": {"type": "document_parsing_exception"}, "failure_store": "not_enabled"}},
        ]});
        let reply = Reply::Http { status: 200, headers: HeaderMap::new(), body: body.to_string().into() };
        assert_eq!(sink.diverted(&reply), 1);
        let told = format!("{:?}", sink.judge(&batch, &sink.request(&batch), &reply));
        assert!(told.starts_with("Partial { retry: [], reject: [(2, "), "{told}");
        assert_eq!(sink.diverted(&Reply::Done), 0);
    }

    #[test]
    fn a_refusal_of_all_is_not_the_records_fault_under_zstd() {
        let of = |compression: &str, status, body: &str| {
            let options = json!({"endpoint": "https://es:9200", "compression": compression});
            let sink = build("elasticsearch", options).unwrap().sink;
            let batch = batch(&sink, &["{\"a\":1}", "{\"a\":2}"]);
            let reply = Reply::Http { status, headers: HeaderMap::new(), body: body.to_owned().into() };
            format!("{:?}", sink.judge(&batch, &sink.request(&batch), &reply))
        };
        assert!(of("zstd", 400, "{}").starts_with("Hold"));
        assert!(of("zstd", 400, "request body too large").starts_with("Split"));
        assert!(of("gzip", 400, "{}").starts_with("Reject"));
    }

    #[test]
    fn an_answer_that_is_too_long_is_asked_for_in_halves() {
        let sink = bulk();
        let reply = Reply::Failed { kind: Failure::Answer, text: "too long".to_owned() };
        let many = batch(&sink, &["{\"a\":1}", "{\"a\":2}"]);
        assert!(matches!(sink.judge(&many, &sink.request(&many), &reply), Outcome::Split));
        let one = batch(&sink, &["{\"a\":1}"]);
        assert!(matches!(sink.judge(&one, &sink.request(&one), &reply), Outcome::Retry { .. }));
    }

    #[test]
    fn the_shape_ecs_keeps_the_event_and_its_id() {
        let options = json!({"endpoint": "https://es:9200", "shape": "ecs"});
        let sink = build("elasticsearch", options).unwrap().sink;
        let line = r#"{"kind":"Event","verb":"get","requestObject":{"a":1}}"#;
        let batch = batch(&sink, &[line]);
        let text = raw(&batch);
        let (action, source) = text.trim_end().split_once('\n').unwrap();
        let uid = batch.records[0].uid;
        assert_eq!(action, format!("{{\"create\":{{\"_index\":\"audit\",\"_id\":\"{uid}\"}}}}"));
        let source: serde_json::Value = serde_json::from_str(source).unwrap();
        assert_eq!(source["event"]["action"], "get");
        assert_eq!(source["auditship"]["uid"], uid.to_string());
        assert_eq!(&*batch.document(&batch.records[0], text.as_bytes()), line.as_bytes());
        // Tried again, it is the event's bodies that are strings.
        let flat = raw(&batch.flattened(&[0]).unwrap().batch.unwrap());
        let flat: serde_json::Value = serde_json::from_str(flat.lines().nth(1).unwrap()).unwrap();
        assert_eq!(flat["kubernetes"]["audit"]["requestObject"], r#"{"a":1}"#);
        assert_eq!(flat["event"], source["event"]);
    }

    #[test]
    fn probes_ask_and_write_nothing() {
        let sink = bulk();
        let probes = sink.probe(&[Index("audit".into()), Index("a/b".into())]);
        let told: Vec<String> = probes.iter().map(|op| format!("{op:?}")).collect();
        let base = "https://es:9200/x";
        assert_eq!(
            told,
            [
                format!("Http(GET {base}/, 0 bytes)"),
                format!("Http(GET {base}/_ingest/pipeline/audit, 0 bytes)"),
                format!("Http(HEAD {base}/audit, 0 bytes)"),
            ]
        );
        let info = |version| json!({"version": version, "tagline": "x"}).to_string();
        let [root, pipeline, index] = &probes[..] else { panic!("{told:?}") };
        for (asked, status, body, want) in [
            (root, 200, info(json!({"number": "8.1.0"})), "Good(\"elasticsearch 8.1.0\")"),
            (
                root,
                200,
                info(json!({"number": "3.2.0", "distribution": "opensearch"})),
                "Good(\"opensearch 3.2.0\")",
            ),
            (root, 200, "<html>".to_owned(), "Bad { text: \"what answers is neither"),
            (
                root,
                401,
                String::new(),
                "Bad { text: \"http 401: the credentials are missing or wrong\", advice: \"look at `auth`",
            ),
            (root, 403, String::new(), "Good(\"the credentials are known"),
            (root, 404, String::new(), "Bad { text: \"http 404"),
            (pipeline, 404, "{}".to_owned(), "Bad { text: \"the pipeline `audit` does not exist"),
            (pipeline, 403, String::new(), "Good("),
            (pipeline, 200, "{}".to_owned(), "Good(\"the pipeline exists"),
            (index, 404, String::new(), "Doubtful(\"the index `audit` does not exist"),
            (index, 200, String::new(), "Good(\"the index `audit` exists"),
            (index, 503, String::new(), "Bad { text: \"http 503: the server is in trouble"),
        ] {
            let reply = Reply::Http { status, headers: HeaderMap::new(), body: body.into() };
            let told = format!("{:?}", sink.judge_probe(asked, &reply));
            assert!(told.starts_with(want), "{told} for {asked:?} {status}");
        }
    }

    #[test]
    fn a_refused_record_is_rewritten_with_its_bodies_as_strings() {
        let sink = bulk();
        let batch = batch(
            &sink,
            &[
                r#"{"requestObject":{"a":"\"x"},"x":{"requestObject":{}},"responseObject":[1]}"#,
                r#"{"requestObject":"text"}"#,
            ],
        );
        let flat = batch.flattened(&[0, 1]).unwrap();
        assert_eq!(flat.unchanged, [1]);
        let flat = flat.batch.unwrap();
        assert_ne!(flat.id, batch.subset(&[0]).unwrap().id);
        let text = raw(&flat);
        let (action, source) = text.trim_end().split_once('\n').unwrap();
        assert!(action.starts_with("{\"create\""));
        let source: serde_json::Value = serde_json::from_str(source).unwrap();
        assert_eq!(source["requestObject"], r#"{"a":"\"x"}"#);
        assert_eq!(source["responseObject"], "[1]");
        assert_eq!(source["x"], json!({"requestObject": {}}));
        assert!(flat.flattened(&[0]).unwrap().batch.is_none());
    }
}
