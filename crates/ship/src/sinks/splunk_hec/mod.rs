//! Splunk through the event endpoint of its HTTP Event Collector (HEC), with indexer acknowledgement if asked for.
//!
//! Sources: Splunk, "Format events for HTTP Event Collector" (one object after the other; `time` in seconds, `fields`
//! flat), "Troubleshoot HTTP Event Collector" (the reply codes, 0 to 27, and their statuses), "About HTTP Event
//! Collector Indexer Acknowledgment" (`X-Splunk-Request-Channel`, `ackId`, `/services/collector/ack`).
//!
//! Three things that Splunk does not say, and what is made of them:
//! - *Were the events before `invalid-event-number` indexed?* "Troubleshoot HTTP Event Collector" shows the number and
//!   does not say; its makers only say that processing stopped there
//!   (open-telemetry/opentelemetry-collector-contrib#36113). So none of them is taken for delivered. They are sent
//!   again, apart from those after it: each may be there twice, not more often, and none is missing.
//! - *What does `false` mean?* Not yet, never, or an id that this indexer does not know. So it is asked again for a
//!   time, then the batch is sent again.
//! - *Whose is an id?* An indexer counts them for each channel, from 0, and anew after a restart: on a channel that
//!   batches share, a later batch would answer for one that the restart has lost. So each batch has a channel of its
//!   own, the same in every attempt. Channels that nobody uses are removed after ten minutes, and there may be a
//!   million (`inputs.conf`: `ackIdleCleanup`, `maxIdleTime`; `limits.conf`: `max_number_of_ack_channel`). Behind a load
//!   balancer the question must reach the indexer that has the batch: it carries the cookies that came with the
//!   answer to its own batch, and no others (vectordotdev/vector#19417).
//!
//! Where acknowledgement is asked for and the token has it turned off, Splunk takes events all the same, with no `ackId`,
//! and says so (code 14, "ACK is disabled") only to a question. So a question about no batch comes before the first
//! events: until it is answered well, nothing is sent, and nothing has to be repeated when the token is put right. What
//! is taken with no `ackId` because somebody has just turned it off counts as delivered, for that is all that such a token
//! ever says. What waits for an acknowledgement then goes on asking. All others ask first again.

mod answer;

use super::{
    BatchOptions, Built, Connection, HTTP_LIMITS, HttpCommon, Invalid, RateLimit, Tls, body_headers, post,
    sensitive,
};
use crate::batch::Batch;
use crate::compress::Encoding;
use crate::sink::{Context, Limits, Op, Outcome, Reply, Sink, Verdict, WithIndex};
use crate::units::{Duration, Endpoint, Secret};
use answer::{ACKNOWLEDGE, Answer, Question, ack_id, cookies, held, judge_code, nonsense};
use auditship_event::{Index, Record, text};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use schemars::JsonSchema;
use serde::Deserialize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time;

const ANSWER_BYTES: usize = 64 << 10;
const CHANNEL: HeaderName = HeaderName::from_static("x-splunk-request-channel");

/// The channel of questions about no batch; no batch has it, for theirs are hashes.
const NOBODYS_CHANNEL: &str = "00000000-0000-4000-8000-000000000000";

/// Splunk Cloud advises against requests above 1 MB; a server's own limit is `max_content_length`.
const LIMITS: Limits = Limits { bytes: 1_000_000, event_bytes: Some(900_000), ..HTTP_LIMITS };

/// The first wait before an acknowledgement is asked for.
const ASK_AFTER: time::Duration = time::Duration::from_secs(1);
/// How long it is asked for by default. Splunk's own forwarders wait as long for theirs.
const ACK_TIMEOUT: time::Duration = time::Duration::from_secs(300);
/// Requests at the same time where each waits for its acknowledgement, which takes seconds.
const ACK_CONCURRENCY: u32 = 32;

/// Ships to Splunk.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplunkHec {
    /// Base URL, such as `https://splunk.example:8088` or `https://http-inputs-acme.splunkcloud.com`;
    /// `/services/collector/event` is added.
    pub endpoint: Endpoint,
    /// How to authenticate.
    pub auth: Auth,
    /// Which Splunk index an event goes to (from_route).
    #[serde(default)]
    pub index: IndexFrom,
    /// `source` (kube-apiserver).
    pub source: Option<String>,
    /// `sourcetype` (kube:apiserver-audit).
    pub sourcetype: Option<String>,
    /// Wait until the indexer acknowledges each batch. The token must have indexer acknowledgement turned on; Splunk
    /// Cloud does not have it.
    #[serde(default)]
    pub acknowledgement: bool,
    /// How long an acknowledgement is asked for before the batch is sent again (5m).
    pub ack_timeout: Option<Duration>,
    /// Compression of requests (gzip): `gzip` or `none`.
    pub compression: Option<Encoding>,
    /// Size and age of one request (1MB; events of up to 900KB).
    #[serde(default)]
    pub batch: BatchOptions,
    /// Limits on what is sent.
    #[serde(default)]
    pub rate_limit: RateLimit,
    /// Longest time for one request (30s).
    pub timeout: Option<Duration>,
    /// Most requests at the same time (8, with acknowledgement 32); it adapts below that.
    pub concurrency: Option<u32>,
    /// How the server's certificate is checked.
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
    /// A HEC token.
    Token(Secret),
}

/// Which Splunk index an event goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IndexFrom {
    /// The one that its route names, if that can be the name of a Splunk index; else the token's default. The token must
    /// allow it.
    #[default]
    FromRoute,
    /// The token's default. The route's name is in the field `audit_index`.
    Default,
}

/// Nobody knows yet whether the token acknowledges.
const UNKNOWN: u8 = 0;
/// It has promised an acknowledgement.
const PROMISES: u8 = 1;
/// It has taken events without promising any.
const SILENT: u8 = 2;

struct Collector {
    events_url: String,
    ack_url: String,
    health_url: String,
    headers: HeaderMap,
    ack_headers: HeaderMap,
    limits: Limits,
    encoding: Encoding,
    index: IndexFrom,
    acknowledgement: bool,
    /// Whether the token acknowledges: one of the three below.
    acknowledges: AtomicU8,
    patience: time::Duration,
    /// `,"host":…,"source":…,"sourcetype":…`, escaped.
    metadata: Vec<u8>,
}

impl SplunkHec {
    pub(super) fn build(&self, context: &Context) -> Result<Built, Invalid> {
        let concurrency = self.concurrency.or(self.acknowledgement.then_some(ACK_CONCURRENCY));
        let common = HttpCommon {
            endpoint: &self.endpoint.0,
            path: "endpoint",
            rate_limit: &self.rate_limit,
            timeout: self.timeout,
            concurrency,
            tls: &self.tls,
            connection: &self.connection,
        };
        let (transport, options) = common.check()?;
        if self.endpoint.0.contains(['?', '#']) {
            return Err(Invalid::new("endpoint", "must not hold a query"));
        }
        let encoding = self.compression.unwrap_or_default();
        if encoding == Encoding::Zstd {
            return Err(Invalid::new("compression", "must be gzip or none: Splunk takes no zstd"));
        }
        if self.ack_timeout.is_some() && !self.acknowledgement {
            return Err(Invalid::new("ack_timeout", "is for `acknowledgement: true`"));
        }
        let Auth::Token(token) = &self.auth;
        let mut ack_headers = HeaderMap::new();
        let value = sensitive("auth", &format!("Splunk {}", token.reveal().trim()))?;
        ack_headers.insert(header::AUTHORIZATION, value);
        ack_headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let base = self.endpoint.0.trim_end_matches('/');
        let mut headers = ack_headers.clone();
        body_headers(&mut headers, "application/json", encoding);
        body_headers(&mut ack_headers, "application/json", Encoding::None);
        let sink = Arc::new(Collector {
            events_url: url(base, "event"),
            ack_url: url(base, "ack"),
            health_url: url(base, "health"),
            headers,
            ack_headers,
            limits: self.batch.limits(LIMITS)?,
            encoding,
            index: self.index,
            acknowledgement: self.acknowledgement,
            acknowledges: AtomicU8::new(UNKNOWN),
            patience: self.ack_timeout.map_or(ACK_TIMEOUT, |timeout| timeout.0),
            metadata: self.metadata(context),
        });
        Ok(Built { sink, transport, options })
    }

    fn metadata(&self, context: &Context) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in [
            (",\"host\":\"", context.node()),
            ("\",\"source\":\"", self.source.as_deref().unwrap_or("kube-apiserver")),
            ("\",\"sourcetype\":\"", self.sourcetype.as_deref().unwrap_or("kube:apiserver-audit")),
        ] {
            out.extend_from_slice(name.as_bytes());
            text::escape_into(value, &mut out);
        }
        out.push(b'"');
        out
    }
}

/// The address of one of the collector's endpoints: `event`, `ack` or `health`.
fn url(base: &str, endpoint: &str) -> String {
    format!("{base}/services/collector/{endpoint}")
}

/// The channel of a batch: its id as a GUID.
fn channel(batch: &Batch) -> HeaderValue {
    let id = batch.id.to_string();
    let parts = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]];
    HeaderValue::from_str(&parts.join("-")).expect("digits and hyphens fit into a header")
}

/// Whether Splunk would have an index of that name (Splunk, "Create custom indexes").
fn is_index(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    !name.is_empty() && !name.starts_with(['_', '-']) && !name.contains("kvstore") && name.chars().all(fits)
}

impl Sink for Collector {
    fn kind(&self) -> &'static str {
        "splunk_hec"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn frame(&self, record: &Record<'_>, context: &Context, out: &mut Vec<u8>) -> Range<usize> {
        let from = out.len();
        let (sign, time) = (if record.time < 0 { "-" } else { "" }, record.time.unsigned_abs());
        let time = format!("{{\"time\":{sign}{}.{:06}", time / 1_000_000, time % 1_000_000);
        out.extend_from_slice(time.as_bytes());
        out.extend_from_slice(&self.metadata);
        let index = record.index.as_str();
        let routed = self.index == IndexFrom::FromRoute && is_index(index);
        if routed {
            out.extend_from_slice(format!(",\"index\":\"{index}\"").as_bytes());
        }
        out.extend_from_slice(b",\"fields\":{");
        context.write_origin(record, WithIndex::No, out);
        if !routed {
            out.extend_from_slice(b",\"audit_index\":\"");
            text::escape_into(index, out);
            out.push(b'"');
        }
        out.extend_from_slice(b"},\"event\":");
        let start = out.len() - from;
        record.body.write(out);
        let document = start..out.len() - from;
        out.extend_from_slice(b"}\n");
        document
    }

    /// The events; or, as long as it is not known whether the token acknowledges, the question for that.
    fn request(&self, batch: &Batch) -> Op {
        if self.acknowledgement && self.acknowledges.load(Ordering::Relaxed) != PROMISES {
            self.question()
        } else {
            self.events(batch)
        }
    }

    fn judge(&self, batch: &Batch, asked: &Op, reply: &Reply) -> Outcome {
        let answer = match reply {
            Reply::Http { body, .. } => serde_json::from_slice::<Answer>(body).unwrap_or_default(),
            _ => Answer::default(),
        };
        match asked {
            Op::Http { url, headers, .. } if *url == self.ack_url => {
                if headers.get(CHANNEL).is_some_and(|channel| channel == NOBODYS_CHANNEL) {
                    self.judge_question(batch, &answer, reply)
                } else {
                    self.judge_ack(asked, &answer, reply)
                }
            }
            _ => self.judge_events(batch, &answer, reply),
        }
    }

    fn patience(&self) -> time::Duration {
        self.patience
    }

    fn probe(&self, _: &[Index]) -> Vec<Op> {
        let mut headers = self.ack_headers.clone();
        if self.acknowledgement {
            headers.insert(CHANNEL, HeaderValue::from_static(NOBODYS_CHANNEL));
        }
        let ask = |method, url: &str, body: &'static [u8]| Op::Http {
            method,
            url: url.to_owned(),
            headers: headers.clone(),
            body: Bytes::from_static(body),
            answer_bytes: ANSWER_BYTES,
        };
        let mut ops = vec![ask(Method::GET, &self.health_url, b""), ask(Method::POST, &self.events_url, b"")];
        ops.extend(self.acknowledgement.then(|| self.question()));
        ops
    }

    fn judge_probe(&self, asked: &Op, reply: &Reply) -> Verdict {
        let question = match asked {
            Op::Http { url, .. } if *url == self.health_url => Question::Health,
            Op::Http { url, .. } if *url == self.ack_url => Question::Acknowledged,
            _ => Question::NoEvents,
        };
        answer::judge_probe(question, reply)
    }
}

impl Collector {
    fn events(&self, batch: &Batch) -> Op {
        let mut headers = self.headers.clone();
        if self.acknowledgement {
            headers.insert(CHANNEL, channel(batch));
        }
        post(&self.events_url, &headers, batch, ANSWER_BYTES)
    }

    /// Whether a batch is indexed that nobody has sent.
    fn question(&self) -> Op {
        let mut headers = self.ack_headers.clone();
        headers.insert(CHANNEL, HeaderValue::from_static(NOBODYS_CHANNEL));
        let (url, body) = (self.ack_url.clone(), Bytes::from_static(b"{\"acks\":[0]}"));
        Op::Http { method: Method::POST, url, headers, body, answer_bytes: ANSWER_BYTES }
    }

    /// What the answer to [`Collector::question`] means for the batch that waits for it.
    fn judge_question(&self, batch: &Batch, answer: &Answer, reply: &Reply) -> Outcome {
        let go = || Outcome::Ask { op: self.events(batch), after: time::Duration::ZERO };
        let status = match reply {
            Reply::Http { status, .. } => *status,
            _ => 0,
        };
        match (reply.outcome(), answer.code) {
            (_, Some(14)) => held(reply, 14),
            // It looks at channels, so it acknowledges; it has not met this one.
            (_, Some(11)) => go(),
            (None, _) if !answer.acks.is_empty() => go(),
            (Some(Outcome::Hold { .. }), _) if matches!(status, 404 | 405) => Outcome::Hold {
                reason: format!("http {status}: there is no indexer acknowledgement here: {ACKNOWLEDGE}"),
            },
            (Some(outcome @ (Outcome::Hold { .. } | Outcome::Retry { .. })), code) => {
                code.and_then(|code| judge_code(code, batch, answer, reply)).unwrap_or(outcome)
            }
            _ if self.acknowledges.load(Ordering::Relaxed) == SILENT => Outcome::Hold {
                reason: format!("events are taken without a promise to acknowledge them: {ACKNOWLEDGE}"),
            },
            // The answer to events will tell.
            _ => go(),
        }
    }

    fn judge_events(&self, batch: &Batch, answer: &Answer, reply: &Reply) -> Outcome {
        let outcome = reply.outcome();
        match (outcome, answer.code) {
            // Too large is too large, whatever the code is.
            (Some(Outcome::Split), _) => Outcome::Split,
            (Some(outcome), None) => outcome,
            (None, None) => nonsense("the answer is not a collector's"),
            (None, Some(0 | 24 | 25)) => self.accepted(batch, answer, reply),
            (outcome, Some(code)) => judge_code(code, batch, answer, reply)
                .or(outcome)
                .unwrap_or_else(|| nonsense("the answer's code is not known")),
        }
    }

    /// The events are in, and acknowledged as far as they will be.
    fn accepted(&self, batch: &Batch, answer: &Answer, reply: &Reply) -> Outcome {
        if !self.acknowledgement {
            return Outcome::Delivered;
        }
        let Some(id) = answer.ack_id.as_ref().and_then(ack_id) else {
            // Taken, by a token that acknowledges nothing any more. To send it again would double it.
            self.acknowledges.store(SILENT, Ordering::Relaxed);
            tracing::warn!("a batch was taken without a promise to acknowledge it: {ACKNOWLEDGE}");
            return Outcome::Delivered;
        };
        self.acknowledges.store(PROMISES, Ordering::Relaxed);
        let mut headers = self.ack_headers.clone();
        headers.insert(CHANNEL, channel(batch));
        if let Some(cookies) = cookies(reply) {
            headers.insert(header::COOKIE, cookies);
        }
        let op = Op::Http {
            method: Method::POST,
            url: self.ack_url.clone(),
            headers,
            body: Bytes::from(format!("{{\"acks\":[{id}]}}")),
            answer_bytes: ANSWER_BYTES,
        };
        Outcome::Ask { op, after: ASK_AFTER }
    }

    fn judge_ack(&self, asked: &Op, answer: &Answer, reply: &Reply) -> Outcome {
        let again = |after| Outcome::Ask { op: asked.clone(), after };
        match (reply.outcome(), answer.code) {
            // It may be turned on again; meanwhile the next batches are held. When patience ends, so is this one.
            (_, Some(14)) => {
                self.acknowledges.store(SILENT, Ordering::Relaxed);
                again(ASK_AFTER)
            }
            (_, Some(code @ (10 | 11))) => held(reply, code),
            // One id was asked for, so it is the only one.
            (None, _) if answer.acks.values().next() == Some(&true) => Outcome::Delivered,
            (Some(Outcome::Hold { reason }), _) => Outcome::Hold { reason },
            // The batch has arrived: whatever has become of the question, asking costs less than sending.
            (Some(Outcome::Retry { after, .. }), _) => again(after.unwrap_or(ASK_AFTER).max(ASK_AFTER)),
            _ => again(ASK_AFTER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{batch, build, raw};
    use super::*;
    use crate::sink::Failure;
    use serde_json::{Value, json};

    fn sink(more: Value) -> Arc<dyn Sink> {
        let mut options = json!({"endpoint": "https://splunk:8088/", "auth": {"token": "hunter2\n"}});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        build("splunk_hec", options).unwrap().sink
    }

    fn http(status: u16, headers: &[(&'static str, &str)], body: &str) -> Reply {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Reply::Http { status, headers: map, body: body.to_owned().into() }
    }

    /// The request that carries the batch; a question that comes before it is answered well.
    fn events(sink: &Arc<dyn Sink>, batch: &Batch) -> Op {
        let first = sink.request(batch);
        match &first {
            Op::Http { url, .. } if url.ends_with("/ack") => {
                let yes = http(200, &[], "{\"acks\":{\"0\":false}}");
                let Outcome::Ask { op, after } = sink.judge(batch, &first, &yes) else { panic!("not asked") };
                assert!(after.is_zero());
                op
            }
            _ => first,
        }
    }

    fn told(sink: &Arc<dyn Sink>, status: u16, body: &str) -> String {
        let batch = batch(sink, &["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]);
        format!("{:?}", sink.judge(&batch, &events(sink, &batch), &http(status, &[], body)))
    }

    #[test]
    fn an_event_and_its_metadata() {
        let line = r#"{"kind":"Event","requestObject":{"a":1}}"#;
        let batch = batch(&sink(json!({})), &[line, "{}"]);
        let text = raw(&batch);
        let (first, _) = text.split_once('\n').unwrap();
        let uid = batch.records[0].uid;
        let key = auditship_event::Keys::derive(b"k", "prod").id();
        assert_eq!(
            first,
            format!(
                "{{\"time\":1795487459.123456,\"host\":\"node-1\",\"source\":\"kube-apiserver\",\
                 \"sourcetype\":\"kube:apiserver-audit\",\"index\":\"audit\",\"fields\":{{\"uid\":\"{uid}\",\
                 \"cluster\":\"prod\",\"node\":\"node-1\",\"key\":\"{key}\"}},\"event\":{line}}}"
            )
        );
        assert_eq!(&*batch.document(&batch.records[0], text.as_bytes()), line.as_bytes());
        let flat = raw(&batch.flattened(&[0]).unwrap().batch.unwrap());
        let flat: Value = serde_json::from_str(&flat).unwrap();
        assert_eq!(flat["event"]["requestObject"], r#"{"a":1}"#);
    }

    #[test]
    fn the_route_names_the_index_where_it_can() {
        let of = |options| {
            let text = raw(&batch(&sink(options), &["{}"]));
            let event: Value = serde_json::from_str(&text).unwrap();
            (event["index"].clone(), event["fields"]["audit_index"].clone())
        };
        assert_eq!(of(json!({})), (json!("audit"), Value::Null));
        assert_eq!(of(json!({"index": "default"})), (Value::Null, json!("audit")));
        for (name, want) in [
            ("k8s-audit_1", true),
            ("9", true),
            ("", false),
            ("_audit", false),
            ("-a", false),
            ("Audit", false),
            ("k8s.audit", false),
            ("my-kvstore", false),
        ] {
            assert_eq!(is_index(name), want, "{name}");
        }
    }

    #[test]
    fn the_request_shows_no_secret() {
        for (more, wanted) in [(json!({}), false), (json!({"acknowledgement": true}), true)] {
            let sink = sink(more);
            let Op::Http { url, headers, .. } = events(&sink, &batch(&sink, &["{}"])) else {
                panic!("not http")
            };
            assert_eq!(url, "https://splunk:8088/services/collector/event");
            assert_eq!(headers["authorization"], "Splunk hunter2");
            assert_eq!(headers["content-encoding"], "gzip");
            assert_eq!(headers.contains_key(CHANNEL), wanted);
            assert!(!format!("{headers:?}").contains("hunter2"));
        }
    }

    #[test]
    fn each_batch_has_a_channel_of_its_own() {
        let sink = sink(json!({"acknowledgement": true}));
        let of = |lines: &[&str]| {
            let Op::Http { headers, .. } = events(&sink, &batch(&sink, lines)) else { panic!("not http") };
            headers[CHANNEL].to_str().unwrap().to_owned()
        };
        let channel = of(&["{}"]);
        assert_eq!((&channel, of(&["{\"a\":1}"]) != channel), (&of(&["{}"]), true));
        let parts: Vec<usize> = channel.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert!(channel.chars().all(|c| c.is_ascii_hexdigit() || c == '-'));
    }

    #[test]
    fn every_code_of_the_table() {
        let sink = sink(json!({}));
        // Code, its status, what is made of it.
        for (code, status, want) in [
            (0, 200, "Delivered"),
            (1, 403, "Hold"),
            (2, 401, "Hold"),
            (3, 401, "Hold"),
            (4, 403, "Hold"),
            (5, 400, "Hold"),
            (6, 400, "Stopped { at: 1, "),
            (7, 400, "Hold"),
            (8, 500, "Retry"),
            (9, 503, "Retry"),
            (10, 400, "Hold"),
            (11, 400, "Hold"),
            (12, 400, "Stopped { at: 1, "),
            (13, 400, "Stopped { at: 1, "),
            (14, 400, "Hold"),
            (15, 400, "Stopped { at: 1, "),
            (16, 400, "Hold"),
            // It is healthy, but that was not the question.
            (17, 200, "Retry"),
            (18, 503, "Retry"),
            (19, 503, "Retry"),
            (20, 503, "Retry"),
            (21, 400, "Hold"),
            (22, 400, "Hold"),
            (23, 503, "Retry"),
            // Success, with a warning that a queue fills up.
            (24, 200, "Delivered"),
            (25, 200, "Delivered"),
            (26, 429, "Retry"),
            (27, 429, "Retry"),
            (99, 400, "Reject"),
            (99, 503, "Retry"),
            (99, 200, "Retry"),
            (6, 413, "Split"),
        ] {
            let body = json!({"text": "SECRET", "code": code, "invalid-event-number": 1}).to_string();
            let told = told(&sink, status, &body);
            assert!(told.starts_with(want), "{code}: {told}");
            assert!(!told.contains("SECRET"), "{told}");
        }
    }

    #[test]
    fn answers_of_others() {
        let sink = sink(json!({}));
        for (status, body, want) in [
            (200, "<html>", "Retry"),
            (200, "{}", "Retry"),
            (200, "[]", "Retry"),
            (413, "<h1>Content-Length too large</h1>", "Split"),
            (415, "", "Hold"),
            (404, "{\"text\":\"The requested URL was not found on this server.\",\"code\":404}", "Hold"),
            (400, "", "Reject"),
            // Which of them is not said, or cannot be.
            (400, "{\"code\":6}", "Reject"),
            (400, "{\"code\":6,\"invalid-event-number\":3}", "Reject"),
            (400, "{\"code\":6,\"invalid-event-number\":-1}", "Reject"),
        ] {
            let told = told(&sink, status, body);
            assert!(told.starts_with(want), "{status} {body}: {told}");
        }
        let alone = batch(&sink, &["{}"]);
        let reply = http(400, &[], "{\"code\":12,\"invalid-event-number\":0}");
        assert!(matches!(sink.judge(&alone, &sink.request(&alone), &reply), Outcome::Reject(_)));
        let busy = http(503, &[("retry-after", "7")], "{\"code\":9,\"invalid-event-number\":0}");
        match sink.judge(&alone, &sink.request(&alone), &busy) {
            Outcome::Retry { after, reason } => {
                assert_eq!(
                    (after, reason.as_str()),
                    (Some(time::Duration::from_secs(7)), "http 503, code 9: busy")
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn acknowledgements_are_asked_for_with_the_same_channel_and_cookie() {
        let sink = sink(json!({"acknowledgement": true, "ack_timeout": "2m"}));
        assert_eq!(sink.patience(), time::Duration::from_secs(120));
        let batch = batch(&sink, &["{}"]);
        let asked = events(&sink, &batch);
        let set = [
            ("set-cookie", "AWSALB=abc/+=; Expires=Tue, 01 Dec 2026 00:00:00 GMT; Path=/"),
            ("set-cookie", "route=2"),
            ("set-cookie", "nonsense"),
        ];
        let reply = http(200, &set, "{\"text\":\"Success\",\"code\":0,\"ackId\":42}");
        let Outcome::Ask { op, after } = sink.judge(&batch, &asked, &reply) else { panic!("not asked") };
        assert_eq!(after, ASK_AFTER);
        let Op::Http { url, headers, body, .. } = &op else { panic!("not http") };
        assert_eq!(
            (url.as_str(), &body[..]),
            ("https://splunk:8088/services/collector/ack", &b"{\"acks\":[42]}"[..])
        );
        let Op::Http { headers: first, .. } = &asked else { panic!("not http") };
        assert_eq!(
            (&headers[CHANNEL], &headers["authorization"]),
            (&first[CHANNEL], &first["authorization"])
        );
        assert_eq!(headers["cookie"], "AWSALB=abc/+=; route=2");
        assert!(!headers.contains_key("content-encoding"));
        let said = |status, body: &str| {
            format!("{:?}", sink.judge(&batch, &op, &http(status, &[("set-cookie", "route=1")], body)))
        };
        assert_eq!(said(200, "{\"acks\":{\"42\":true}}"), "Delivered");
        // Asked again with the cookie of the first reply, whatever the second one sets.
        let Outcome::Ask { op: again, .. } =
            sink.judge(&batch, &op, &http(200, &[("set-cookie", "route=1")], "{\"acks\":{\"42\":false}}"))
        else {
            panic!("not asked")
        };
        let Op::Http { headers: again, .. } = &again else { panic!("not http") };
        assert_eq!(again["cookie"], "AWSALB=abc/+=; route=2");
        for (status, body, want) in [
            (200, "{\"acks\":{}}", "Ask"),
            (200, "<html>", "Ask"),
            (429, "", "Ask"),
            (502, "", "Ask"),
            (503, "{\"code\":9}", "Ask"),
            (503, "{\"code\":23}", "Ask"),
            (400, "{\"code\":10}", "Hold"),
            (403, "{\"code\":4}", "Hold"),
            (404, "", "Hold"),
        ] {
            assert!(said(status, body).starts_with(want), "{status} {body}: {}", said(status, body));
        }
        for kind in [Failure::Timeout, Failure::Connect, Failure::Reset] {
            let reply = Reply::Failed { kind, text: "text".to_owned() };
            assert!(matches!(sink.judge(&batch, &op, &reply), Outcome::Ask { .. }), "{kind:?}");
        }
        let patient = http(503, &[("retry-after", "7")], "");
        let Outcome::Ask { after, .. } = sink.judge(&batch, &op, &patient) else { panic!("not asked") };
        assert_eq!(after, time::Duration::from_secs(7));
        // An id in quotes will do.
        let quoted = http(200, &[], "{\"code\":0,\"ackID\":\"7\"}");
        assert!(matches!(sink.judge(&batch, &asked, &quoted), Outcome::Ask { .. }));
    }

    #[test]
    fn nothing_is_sent_to_a_token_that_does_not_acknowledge() {
        let sink = sink(json!({"acknowledgement": true}));
        let batch = batch(&sink, &["{}"]);
        let question = sink.request(&batch);
        let Op::Http { url, headers, body, .. } = &question else { panic!("not http") };
        assert_eq!(
            (&**url, &body[..], headers[CHANNEL].to_str().unwrap()),
            ("https://splunk:8088/services/collector/ack", &b"{\"acks\":[0]}"[..], NOBODYS_CHANNEL)
        );
        assert!(!headers.contains_key("content-encoding"));
        let said = |status, body: &str| match sink.judge(&batch, &question, &http(status, &[], body)) {
            Outcome::Ask { op: Op::Http { url, .. }, .. } => {
                url.rsplit('/').next().unwrap_or_default().to_owned()
            }
            Outcome::Hold { reason } => format!("hold: {reason}"),
            other => format!("{other:?}"),
        };
        let off = "hold: http 400, code 14: the token has indexer acknowledgement turned off: turn `Enable indexer \
                   acknowledgement` on at the token";
        let table: &[(u16, &str, &str)] = &[
            (400, "{\"text\":\"ACK is disabled\",\"code\":14}", off),
            (404, "", "hold: http 404: there is no indexer acknowledgement here: turn"),
            (403, "{\"code\":4}", "hold: http 403, code 4: the token is not known"),
            (401, "", "hold: http 401"),
            (503, "{\"code\":9}", "Retry"),
            (502, "", "Retry"),
            (200, "{\"acks\":{\"0\":false}}", "event"),
            (400, "{\"code\":11}", "event"),
        ];
        let check = |more: &[(u16, &str, &str)]| {
            for (status, body, want) in table.iter().chain(more) {
                assert!(said(*status, body).starts_with(want), "{status} {body}: {}", said(*status, body));
            }
        };
        // What says neither yes nor no lets events go, until they were taken without a promise.
        check(&[(200, "{}", "event"), (400, "", "event")]);
        assert_eq!(told(&sink, 200, "{\"text\":\"Success\",\"code\":0}"), "Delivered");
        check(&[
            (200, "{}", "hold: events are taken without a promise"),
            (400, "", "hold: events are taken"),
        ]);
        // With a promise nobody asks any more.
        assert!(told(&sink, 200, "{\"code\":0,\"ackId\":3}").starts_with("Ask"));
        let Op::Http { url, .. } = sink.request(&batch) else { panic!("not http") };
        assert!(url.ends_with("/event"));
        // A promise that nobody can keep for now: it goes on asking, and the next batch asks first.
        let kept = sink.judge(&batch, &events(&sink, &batch), &http(200, &[], "{\"code\":0,\"ackId\":4}"));
        let Outcome::Ask { op, .. } = kept else { panic!("not asked") };
        let off = http(400, &[], "{\"code\":14}");
        assert!(matches!(sink.judge(&batch, &op, &off), Outcome::Ask { .. }));
        let Op::Http { url, .. } = sink.request(&batch) else { panic!("not http") };
        assert!(url.ends_with("/ack"));
    }

    #[test]
    fn mistakes() {
        let good = json!({"endpoint": "https://splunk:8088", "auth": {"token": "hunter2"}});
        for (more, want) in [
            (json!({"compression": "zstd"}), "compression: must be gzip or none"),
            (json!({"ack_timeout": "1m"}), "ack_timeout: is for"),
            (json!({"endpoint": "https://x?channel=1"}), "endpoint: must not hold a query"),
            (json!({"auth": {"token": "hunter2\n2"}}), "auth: holds characters"),
            (json!({"auth": "hunter2"}), "unknown variant"),
        ] {
            let mut options = good.clone();
            options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let told = build("splunk_hec", options).err().unwrap_or_default();
            assert!(told.starts_with(want) || told.contains("invalid type"), "{more}: {told}");
        }
        let built = build("splunk_hec", good).unwrap();
        assert_eq!((built.options.concurrency, built.sink.limits().bytes), (8, 1_000_000));
    }
}
