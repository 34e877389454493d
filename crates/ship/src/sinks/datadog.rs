//! Datadog through its logs intake.
//!
//! Source: Datadog API reference, "Send logs" (`POST /api/v2/logs`): a JSON array, at most 5 MB uncompressed and
//! 1,000 entries; an entry above 1 MB is cut, with a 2xx all the same; timestamps up to 18 hours back; 202 and no
//! word about single entries. Compression: the reference names gzip; Datadog's own agent sends zstd to the same
//! intake since 7.59 (DataDog/datadog-agent#27148), and so does Vector by default.
//!
//! Whether a key is valid `GET /api/v1/validate` says, at the site's API host instead of the intake ("Validate API key":
//! 200 with `{"valid": true}`, or 403). It knows the API keys of its own site alone.
//!
//! Nothing recognises repetitions there: what is sent twice is stored twice, with the same `auditship.uid`.

use super::{
    BatchOptions, Built, Connection, HttpCommon, Invalid, RateLimit, Tls, body_headers, frame_object, post,
    sensitive,
};
use crate::batch::Batch;
use crate::compress::Encoding;
use crate::shape;
use crate::sink::{Context, Embedding, Envelope, GroupKey, Limits, Op, Outcome, Reply, Sink, Verdict};
use crate::units::{Duration, Endpoint, Secret};
use auditship_event::{Index, Record, text};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time;

const ANSWER_BYTES: usize = 64 << 10;
const API_KEY: HeaderName = HeaderName::from_static("dd-api-key");

/// What the intake takes of one request and of one entry.
const MOST_BYTES: usize = 5_000_000;
const MOST_EVENTS: usize = 1_000;
const MOST_EVENT_BYTES: usize = 1_000_000;
/// Most tags of an entry.
const MOST_TAGS: usize = 100;
/// Longest tag, in characters (`docs.datadoghq.com/getting_started/tagging`).
const TAG_CHARS: usize = 200;
/// Tags that every entry has: cluster, node and index.
const OWN_TAGS: usize = 3;

/// Some way below what the intake takes. An event a little younger than 18 hours may be older when it arrives.
const LIMITS: Limits = Limits {
    bytes: 4_500_000,
    packed_bytes: None,
    whole_lines: false,
    events: MOST_EVENTS,
    age: time::Duration::from_secs(1),
    event_bytes: Some(950_000),
    event_age: Some(time::Duration::from_secs(18 * 3600 - 300)),
};

const ARRAY: Envelope =
    Envelope { prefix: Bytes::from_static(b"["), separator: b",", suffix: b"]", seal: None };

/// Ships to Datadog.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Datadog {
    /// The site of your organisation (datadoghq.com).
    pub site: Option<Site>,
    /// Instead of `site`: the base URL of a proxy or of another receiver, to which `/api/v2/logs` is added.
    pub endpoint: Option<Endpoint>,
    /// How to authenticate.
    pub auth: Auth,
    /// In whose words an event leaves (datadog).
    #[serde(default)]
    pub shape: EntryShape,
    /// `ddsource` (kubernetes.audit, which Datadog has a pipeline for).
    pub source: Option<String>,
    /// `service` (kube-apiserver).
    pub service: Option<String>,
    /// Further tags, such as `env: prod`, at most 97. `cluster`, `node` and `index` are there by themselves.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Compression of requests (zstd).
    pub compression: Option<Encoding>,
    /// Size and age of one request (4.5MB and 1,000 events at most; events of up to 950KB).
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

/// A site of Datadog (`docs.datadoghq.com/getting_started/site`).
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub enum Site {
    /// US1
    #[default]
    #[serde(rename = "datadoghq.com")]
    Us1,
    /// US3
    #[serde(rename = "us3.datadoghq.com")]
    Us3,
    /// US5
    #[serde(rename = "us5.datadoghq.com")]
    Us5,
    /// EU1
    #[serde(rename = "datadoghq.eu")]
    Eu1,
    /// AP1
    #[serde(rename = "ap1.datadoghq.com")]
    Ap1,
    /// AP2
    #[serde(rename = "ap2.datadoghq.com")]
    Ap2,
    /// UK1
    #[serde(rename = "uk1.datadoghq.com")]
    Uk1,
    /// US1-FED
    #[serde(rename = "ddog-gov.com")]
    Us1Fed,
    /// US2-FED
    #[serde(rename = "us2.ddog-gov.com")]
    Us2Fed,
}

impl Site {
    fn name(self) -> &'static str {
        match self {
            Site::Us1 => "datadoghq.com",
            Site::Us3 => "us3.datadoghq.com",
            Site::Us5 => "us5.datadoghq.com",
            Site::Eu1 => "datadoghq.eu",
            Site::Ap1 => "ap1.datadoghq.com",
            Site::Ap2 => "ap2.datadoghq.com",
            Site::Uk1 => "uk1.datadoghq.com",
            Site::Us1Fed => "ddog-gov.com",
            Site::Us2Fed => "us2.ddog-gov.com",
        }
    }
}

/// How to authenticate.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// An API key.
    ApiKey(Secret),
}

/// In whose words an event leaves; see docs/shapes.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryShape {
    /// Datadog's standard attributes beside the event's own.
    #[default]
    Datadog,
    /// The event as it was logged, with the member `auditship`, as the text of `message`: Datadog makes attributes of it.
    /// For receivers that take no other members than Datadog's own agent sends.
    Raw,
}

struct Intake {
    url: String,
    /// Where the key can be tried.
    validate_url: String,
    /// The site, unless something else stands in between.
    site: Option<Site>,
    headers: HeaderMap,
    limits: Limits,
    encoding: Encoding,
    shape: EntryShape,
    /// The members that all entries share, escaped, without the last quote of the tags, which the index goes before.
    members: Vec<u8>,
}

impl Datadog {
    pub(super) fn build(&self, context: &Context) -> Result<Built, Invalid> {
        let (base, api, site) = match (&self.endpoint, self.site) {
            (Some(_), Some(_)) => {
                return Err(Invalid::new("endpoint", "is instead of `site`, not beside it"));
            }
            (Some(endpoint), None) => (endpoint.0.clone(), endpoint.0.clone(), None),
            (None, site) => {
                let site = site.unwrap_or_default();
                let host = |first: &str| format!("https://{first}.{}", site.name());
                (host("http-intake.logs"), host("api"), Some(site))
            }
        };
        if base.contains(['?', '#']) {
            return Err(Invalid::new("endpoint", "must not hold a query"));
        }
        let common = HttpCommon {
            endpoint: &base,
            path: "endpoint",
            rate_limit: &self.rate_limit,
            timeout: self.timeout,
            concurrency: self.concurrency,
            tls: &self.tls,
            connection: &self.connection,
        };
        let (transport, options) = common.check()?;
        let encoding = self.compression.unwrap_or(Encoding::Zstd);
        let mut headers = HeaderMap::new();
        body_headers(&mut headers, "application/json", encoding);
        let Auth::ApiKey(key) = &self.auth;
        headers.insert(API_KEY, sensitive("auth", key.reveal())?);
        let sink = Arc::new(Intake {
            url: format!("{}/api/v2/logs", base.trim_end_matches('/')),
            validate_url: format!("{}/api/v1/validate", api.trim_end_matches('/')),
            site,
            headers,
            limits: self.limits()?,
            encoding,
            shape: self.shape,
            members: self.members(context)?,
        });
        Ok(Built { sink, transport, options })
    }

    fn limits(&self) -> Result<Limits, Invalid> {
        let limits = self.batch.limits(LIMITS)?;
        if limits.bytes > MOST_BYTES {
            return Err(Invalid::new("batch.bytes", "must not be above 5MB: Datadog takes no more"));
        }
        if limits.events > MOST_EVENTS {
            return Err(Invalid::new("batch.events", "must not be above 1000: Datadog takes no more"));
        }
        if limits.event_bytes.is_some_and(|bytes| bytes > MOST_EVENT_BYTES) {
            return Err(Invalid::new(
                "batch.event_bytes",
                "must not be above 1MB: Datadog cuts off the rest",
            ));
        }
        Ok(limits)
    }

    fn members(&self, context: &Context) -> Result<Vec<u8>, Invalid> {
        if self.tags.len() > MOST_TAGS - OWN_TAGS {
            return Err(Invalid::new("tags", "must not be more than 97"));
        }
        let mut out = Vec::new();
        for (name, value) in [
            ("\"ddsource\":\"", self.source.as_deref().unwrap_or("kubernetes.audit")),
            ("\",\"service\":\"", self.service.as_deref().unwrap_or("kube-apiserver")),
            ("\",\"hostname\":\"", context.node()),
        ] {
            out.extend_from_slice(name.as_bytes());
            text::escape_into(value, &mut out);
        }
        out.extend_from_slice(b"\",\"ddtags\":\"");
        tag("cluster", context.cluster(), &mut out);
        out.push(b',');
        tag("node", context.node(), &mut out);
        for (key, value) in &self.tags {
            if !is_tag_key(key) || ["cluster", "node", "index"].contains(&key.as_str()) {
                let message = "a key begins with a letter, holds only lower-case letters, digits, `_`, `-`, `.` and `/`, \
                               and is none of `cluster`, `node`, `index`";
                return Err(Invalid::new("tags", message));
            }
            out.push(b',');
            tag(key, value, &mut out);
        }
        Ok(out)
    }
}

fn is_tag_key(key: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-./".contains(c);
    key.starts_with(|c: char| c.is_ascii_lowercase()) && key.len() < TAG_CHARS && key.chars().all(fits)
}

/// Appends `key:value` as Datadog would write it: lower case, everything but letters, digits and `_-:./` as `_`. So
/// nothing in it needs an escape, and no comma of a value begins another tag.
fn tag(key: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(key.as_bytes());
    out.push(b':');
    let fits = |c: &char| c.is_alphanumeric() || "_-:./".contains(*c);
    let chars = value.chars().flat_map(char::to_lowercase).map(|c| if fits(&c) { c } else { '_' });
    for c in chars.take(TAG_CHARS.saturating_sub(key.len() + 1)) {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

impl Sink for Intake {
    fn kind(&self) -> &'static str {
        "datadog"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn envelope(&self, _: &GroupKey) -> Envelope {
        ARRAY
    }

    fn frame(&self, record: &Record<'_>, context: &Context, out: &mut Vec<u8>) -> Range<usize> {
        let from = out.len();
        out.push(b'{');
        out.extend_from_slice(&self.members);
        out.push(b',');
        tag("index", record.index.as_str(), out);
        out.extend_from_slice(format!("\",\"timestamp\":{}", record.time.div_euclid(1_000)).as_bytes());
        let document = match self.shape {
            EntryShape::Datadog => {
                shape::datadog::members(record, context, out);
                0..out.len() + 1 - from
            }
            EntryShape::Raw => {
                let mut line = Vec::with_capacity(record.body.len() + 256);
                frame_object(record, context, &mut line);
                out.extend_from_slice(b",\"message\":\"");
                let start = out.len() - from;
                text::escape_into(&String::from_utf8_lossy(&line), out);
                let document = start..out.len() - from;
                out.push(b'"');
                document
            }
        };
        out.push(b'}');
        document
    }

    fn embedding(&self) -> Embedding {
        match self.shape {
            EntryShape::Datadog => Embedding::Inline,
            EntryShape::Raw => Embedding::Escaped,
        }
    }

    fn request(&self, batch: &Batch) -> Op {
        post(&self.url, &self.headers, batch, ANSWER_BYTES)
    }

    fn judge(&self, _: &Batch, _: &Op, reply: &Reply) -> Outcome {
        match (reply.outcome(), reply) {
            (Some(outcome), _) => outcome,
            (None, Reply::Http { status: 202, .. }) => Outcome::Delivered,
            // Receivers that speak Datadog's language answer 200 and an object.
            (None, Reply::Http { body, .. }) if body.trim_ascii().starts_with(b"{") => Outcome::Delivered,
            (None, _) => Outcome::Retry { after: None, reason: "the answer is not an intake's".to_owned() },
        }
    }

    fn probe(&self, _: &[Index]) -> Vec<Op> {
        let mut headers = HeaderMap::new();
        headers.extend(self.headers.get(API_KEY).cloned().map(|key| (API_KEY, key)));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let (url, body) = (self.validate_url.clone(), Bytes::new());
        vec![Op::Http { method: Method::GET, url, headers, body, answer_bytes: ANSWER_BYTES }]
    }

    fn judge_probe(&self, _: &Op, reply: &Reply) -> Verdict {
        let bad = |text: String, advice: &str| Verdict::Bad { text, advice: advice.to_owned() };
        match (reply, self.site) {
            (Reply::Failed { text, .. }, Some(site)) => Verdict::Doubtful(format!(
                "the API key could not be tried at api.{}: {text}; events go to another host",
                site.name()
            )),
            (Reply::Http { status: status @ (401 | 403), .. }, Some(site)) => bad(
                format!("http {status}: the API key is not valid at {}", site.name()),
                "look at `auth.api_key`, and at `site`: a key is valid at one site alone",
            ),
            (Reply::Http { status: status @ (401 | 403), .. }, None) => {
                bad(format!("http {status}: the API key is not valid"), "look at `auth.api_key`")
            }
            // A proxy or another receiver need not have it.
            (Reply::Http { status: status @ (404 | 405 | 501), .. }, None) => Verdict::Doubtful(format!(
                "http {status}: it does not know /api/v1/validate, so the API key could not be tried"
            )),
            (Reply::Http { status: 200..=299, body, .. }, _) => match is_valid(body) {
                Some(true) => Verdict::Good("the API key is valid".to_owned()),
                Some(false) => bad("the API key is not valid".to_owned(), "look at `auth.api_key`"),
                None => bad("what answers is not Datadog".to_owned(), "look at `endpoint` and the proxy"),
            },
            _ => reply.verdict("auth").unwrap_or_else(|| Verdict::Doubtful("not an http answer".to_owned())),
        }
    }
}

/// What an answer to the question for the key says. `None`: it is none.
fn is_valid(body: &[u8]) -> Option<bool> {
    #[derive(Deserialize)]
    struct Answer {
        valid: bool,
    }
    serde_json::from_slice::<Answer>(body).ok().map(|answer| answer.valid)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{batch, build, raw};
    use super::*;
    use serde_json::{Value, json};

    fn sink(more: Value) -> Arc<dyn Sink> {
        let mut options = json!({"auth": {"api_key": "hunter2"}, "tags": {"env": "Pr,od", "team": "a\"b"}});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        build("datadog", options).unwrap().sink
    }

    #[test]
    fn an_entry_has_what_datadog_asks_for() {
        let lines = [r#"{"kind":"Event","verb":"get","requestURI":"/x"}"#, r#"{"kind":"Event"}"#];
        let batch = batch(&sink(json!({})), &lines);
        let entries: Vec<Value> = serde_json::from_str(&raw(&batch)).unwrap();
        let entry = &entries[0];
        assert_eq!(entry["ddsource"], "kubernetes.audit");
        assert_eq!(entry["ddtags"], "cluster:prod,node:node-1,env:pr_od,team:a_b,index:audit");
        assert_eq!((&entry["hostname"], &entry["service"]), (&json!("node-1"), &json!("kube-apiserver")));
        assert_eq!(entry["timestamp"], 1_795_487_459_123_i64);
        assert_eq!((&entry["verb"], &entry["message"]), (&json!("get"), &json!("get /x")));
        assert_eq!(entry["auditship"]["uid"], batch.records[0].uid.to_string());
        // A dead letter is the whole entry.
        let bytes = batch.raw().unwrap();
        let letter: Value = serde_json::from_slice(&batch.document(&batch.records[0], &bytes)).unwrap();
        assert_eq!(&letter, entry);
        assert_eq!(batch.flattened(&[0, 1]).unwrap().unchanged, [0, 1]);
    }

    #[test]
    fn raw_is_the_event_as_text() {
        let line = r#"{"kind":"Event","a":"\"\u00e9"}"#;
        let batch = batch(&sink(json!({"shape": "raw"})), &[line]);
        let entries: Vec<Value> = serde_json::from_str(&raw(&batch)).unwrap();
        let text = entries[0]["message"].as_str().unwrap();
        assert!(text.starts_with("{\"auditship\":{\"uid\":\"") && text.ends_with(&line[1..]), "{text}");
        assert_eq!(&*batch.document(&batch.records[0], &batch.raw().unwrap()), text.as_bytes());
        // Nothing but text and the time, as Datadog's agent sends it.
        let members = entries[0].as_object().unwrap();
        assert!(members.iter().all(|(key, value)| value.is_string() || key == "timestamp"), "{members:?}");
    }

    #[test]
    fn tags_are_bounded_and_hold_no_comma() {
        let mut out = Vec::new();
        tag("k", &format!("ÄB,c d\"\\{}", "x".repeat(300)), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("k:äb_c_d__xx"), "{text}");
        assert_eq!(text.chars().count(), TAG_CHARS);
    }

    #[test]
    fn requests_and_answers() {
        let sink = sink(json!({"site": "datadoghq.eu"}));
        let batch = batch(&sink, &["{}", "{\"a\":1}"]);
        let asked = sink.request(&batch);
        let Op::Http { url, headers, .. } = &asked else { panic!("not http") };
        assert_eq!(url, "https://http-intake.logs.datadoghq.eu/api/v2/logs");
        assert_eq!(
            (&headers["dd-api-key"], &headers["content-encoding"]),
            (&"hunter2".parse().unwrap(), &"zstd".parse().unwrap())
        );
        assert!(!format!("{headers:?}").contains("hunter2"));
        for (status, body, want) in [
            (202, "", "Delivered"),
            (202, "{}", "Delivered"),
            (200, " {}", "Delivered"),
            (200, "<html>", "Retry"),
            (400, "{}", "Reject"),
            (401, "", "Hold"),
            (403, "", "Hold"),
            (408, "", "Retry"),
            (413, "", "Split"),
            (429, "", "Retry"),
            (500, "", "Retry"),
            (503, "", "Retry"),
        ] {
            let reply = Reply::Http { status, headers: HeaderMap::new(), body: body.into() };
            let told = format!("{:?}", sink.judge(&batch, &asked, &reply));
            assert!(told.starts_with(want), "{status} {body}: {told}");
        }
    }

    #[test]
    fn every_site_has_its_hosts() {
        // docs.datadoghq.com/api/latest/logs/send-logs and …/authentication/validate-api-key
        for site in [
            "datadoghq.com",
            "us3.datadoghq.com",
            "us5.datadoghq.com",
            "datadoghq.eu",
            "ap1.datadoghq.com",
            "ap2.datadoghq.com",
            "uk1.datadoghq.com",
            "ddog-gov.com",
            "us2.ddog-gov.com",
        ] {
            let sink = sink(json!({"site": site}));
            let urls = [sink.request(&batch(&sink, &["{}"])), sink.probe(&[]).remove(0)].map(|op| match op {
                Op::Http { url, .. } => url,
                other => panic!("{other:?}"),
            });
            let intake = format!("https://http-intake.logs.{site}/api/v2/logs");
            assert_eq!(urls, [intake, format!("https://api.{site}/api/v1/validate")]);
        }
    }

    #[test]
    fn the_key_is_tried_without_an_event() {
        let key = json!({"api_key": "hunter2"});
        let (site, other) =
            (sink(json!({"site": "us3.datadoghq.com"})), json!({"endpoint": "http://x/", "auth": key}));
        let other = build("datadog", other).unwrap().sink;
        let [asked] = &other.probe(&[])[..] else { panic!("one question") };
        let Op::Http { method, url, headers, body, .. } = asked else { panic!("not http") };
        assert_eq!((method.as_str(), &**url, body.len()), ("GET", "http://x/api/v1/validate", 0));
        assert_eq!((&headers["dd-api-key"], headers.len()), (&"hunter2".parse().unwrap(), 2));
        let invalid = "Bad { text: \"http 403: the API key is not valid at us3.datadoghq.com\", advice: \"look at `auth.api_key`, and at `site`";
        let unknown =
            "Doubtful(\"http 404: it does not know /api/v1/validate, so the API key could not be tried\")";
        for (sink, status, body, want) in [
            (&site, 200, "{\"valid\": true}", "Good(\"the API key is valid\")"),
            (&site, 200, "{\"valid\": false}", "Bad { text: \"the API key is not valid\""),
            (&site, 200, "<html>", "Bad { text: \"what answers is not Datadog\""),
            (&site, 403, "{\"errors\": [\"Forbidden\"]}", invalid),
            (
                &other,
                401,
                "",
                "Bad { text: \"http 401: the API key is not valid\", advice: \"look at `auth.api_key`\"",
            ),
            (&site, 404, "", "Bad { text: \"http 404: there is nothing of that name\""),
            (&other, 404, "", unknown),
            (&site, 429, "", "Doubtful("),
            (&site, 503, "", "Bad { text: \"http 503"),
        ] {
            let reply = Reply::Http { status, headers: HeaderMap::new(), body: body.into() };
            let told = format!("{:?}", sink.judge_probe(asked, &reply));
            assert!(told.starts_with(want), "{told} for {status} {body}");
        }
        let silent = Reply::Failed { kind: crate::Failure::Connect, text: "connect: refused".to_owned() };
        let told = format!("{:?}", site.judge_probe(asked, &silent));
        assert!(
            told.starts_with("Doubtful(\"the API key could not be tried at api.us3.datadoghq.com: connect"),
            "{told}"
        );
        assert!(
            matches!(other.judge_probe(asked, &silent), Verdict::Bad { .. }),
            "events would go there too"
        );
    }

    #[test]
    fn mistakes() {
        let key = json!({"api_key": "hunter2"});
        for (options, want) in [
            (
                json!({"auth": key, "site": "datadoghq.com", "endpoint": "http://x"}),
                "endpoint: is instead of `site`",
            ),
            (json!({"auth": key, "endpoint": "http://x?y"}), "endpoint: must not hold a query"),
            (json!({"auth": key, "site": "datadog.example"}), "unknown variant"),
            (json!({"site": "datadoghq.com"}), "missing field `auth`"),
            (json!({"auth": key, "batch": {"bytes": "6MB"}}), "batch.bytes: must not be above 5MB"),
            (json!({"auth": key, "batch": {"events": 1001}}), "batch.events: must not be above 1000"),
            (
                json!({"auth": key, "batch": {"event_bytes": "2MB"}}),
                "batch.event_bytes: must not be above 1MB",
            ),
            (json!({"auth": key, "tags": {"index": "x"}}), "tags: a key begins"),
            (json!({"auth": key, "tags": {"1a": "x"}}), "tags: a key begins"),
            (json!({"auth": {"api_key": "hunter2\n3"}}), "auth: holds characters"),
        ] {
            let told = build("datadog", options.clone()).err().unwrap_or_default();
            assert!(told.starts_with(want), "{options}: {told}");
            assert!(!told.contains("hunter2"));
        }
    }
}
