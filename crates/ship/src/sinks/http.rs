//! Any HTTP endpoint that takes NDJSON or a JSON array.
//!
//! A success (2xx) is taken at its word, unless `refused` says where its body counts what was not taken. Each batch
//! carries an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), the same in every attempt, and each
//! record its uid, so that a receiver can tell repetitions; `query` can put the same name into the URL. A batch that is
//! named there is written down before it is sent, and cut again under its name after a crash (see [`crate::thaw`]).

use super::{
    Auth, BatchOptions, Built, Connection, EventShape, HTTP_LIMITS, HttpCommon, IDEMPOTENCY_KEY, Invalid,
    RateLimit, Tls, authorize, body_headers, frame_object, own_headers, refused_without_names,
};
use crate::batch::Batch;
use crate::compress::Encoding;
use crate::shape;
use crate::sink::{
    Context, Envelope, GroupKey, Limits, Named, Op, Outcome, Refusal, Reply, Sink, Verdict, WithIndex,
};
use crate::units::{Duration, Endpoint, Secret};
use auditship_event::{Index, Record};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

const ANSWER_BYTES: usize = 1 << 20;

/// What stands around the records of a JSON array.
pub(super) const JSON_ARRAY: Envelope =
    Envelope { prefix: Bytes::from_static(b"["), separator: b",\n", suffix: b"]\n", seal: None };

/// Ships to any HTTP endpoint.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Where to send, such as `https://collector.example/ingest`; no credentials.
    pub url: Endpoint,
    /// Parameters for the URL, percent-encoded. In their values `{batch_id}` is the batch's name, the same in every
    /// attempt and after a crash, and `{index}` the index of its events, which are then batched by it.
    #[serde(default)]
    pub query: BTreeMap<String, Secret>,
    /// Method of the request (post).
    #[serde(default)]
    pub method: Verb,
    /// Form of the body (ndjson).
    #[serde(default)]
    pub format: Format,
    /// Where a success's JSON answer counts the events that were refused all the same, as a JSON pointer (RFC 6901)
    /// such as `/failed`. Without it any 2xx is taken at its word.
    pub refused: Option<String>,
    /// In whose words an event leaves (raw).
    #[serde(default)]
    pub shape: EventShape,
    /// Further headers. Their values are never shown.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// How to authenticate.
    pub auth: Option<Auth>,
    /// Compression of requests (gzip).
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

/// Method of the request.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// `POST`
    #[default]
    Post,
    /// `PUT`
    Put,
}

/// Form of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One event a line.
    #[default]
    Ndjson,
    /// One JSON array of events.
    JsonArray,
}

struct Generic {
    url: Vec<Part>,
    refused: Option<String>,
    method: Method,
    format: Format,
    shape: EventShape,
    headers: HeaderMap,
    limits: Limits,
    encoding: Encoding,
}

impl Http {
    pub(super) fn build(&self, _: &Context) -> Result<Built, Invalid> {
        let common = HttpCommon {
            endpoint: &self.url.0,
            path: "url",
            rate_limit: &self.rate_limit,
            timeout: self.timeout,
            concurrency: self.concurrency,
            tls: &self.tls,
            connection: &self.connection,
        };
        let (transport, options) = common.check()?;
        if self.refused.as_ref().is_some_and(|pointer| !pointer.starts_with('/')) {
            return Err(Invalid::new("refused", "must be a JSON pointer such as /failed"));
        }
        let encoding = self.compression.unwrap_or_default();
        let mut headers = own_headers(&self.headers)?;
        let content_type = match self.format {
            Format::Ndjson => "application/x-ndjson",
            Format::JsonArray => "application/json",
        };
        body_headers(&mut headers, content_type, encoding);
        authorize(self.auth.as_ref(), &mut headers)?;
        let url = self.parts()?;
        let whole_lines = url.contains(&Part::BatchId);
        let sink = Arc::new(Generic {
            url,
            refused: self.refused.clone(),
            method: match self.method {
                Verb::Post => Method::POST,
                Verb::Put => Method::PUT,
            },
            format: self.format,
            shape: self.shape,
            headers,
            limits: Limits { whole_lines, ..self.batch.limits(HTTP_LIMITS)? },
            encoding,
        });
        Ok(Built { sink, transport, options })
    }

    /// The URL with its parameters.
    fn parts(&self) -> Result<Vec<Part>, Invalid> {
        let mut parts = vec![Part::Text(self.url.0.clone())];
        if !self.query.is_empty() && self.url.0.contains('#') {
            return Err(Invalid::new("query", "does not go with a fragment in `url`"));
        }
        let mut text = if self.url.0.contains('?') { "&" } else { "?" }.to_owned();
        for (name, value) in &self.query {
            percent_encode(name, &mut text);
            text.push('=');
            let mut rest = value.reveal();
            while let Some((before, behind)) = rest.split_once('{') {
                percent_encode(before, &mut text);
                let (part, after) = match behind.split_once('}') {
                    Some(("batch_id", after)) => (Part::BatchId, after),
                    Some(("index", after)) => (Part::Index, after),
                    _ => {
                        return Err(Invalid::new(
                            "query",
                            "the only placeholders are {batch_id} and {index}",
                        ));
                    }
                };
                parts.extend([Part::Text(std::mem::take(&mut text)), part]);
                rest = after;
            }
            percent_encode(rest, &mut text);
            text.push('&');
        }
        text.pop();
        parts.push(Part::Text(text));
        Ok(parts)
    }
}

/// A piece of the URL.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    BatchId,
    Index,
}

/// Appends `text` with all but the unreserved characters encoded (RFC 3986 §2).
fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => {
                out.push('%');
                for digit in [byte >> 4, byte & 15] {
                    out.push(char::from_digit(digit.into(), 16).unwrap_or_default().to_ascii_uppercase());
                }
            }
        }
    }
}

impl Generic {
    fn url(&self, batch: &Batch) -> String {
        let mut url = String::new();
        for part in &self.url {
            match (part, &batch.group) {
                (Part::Text(text), _) => url.push_str(text),
                (Part::BatchId, _) => url.push_str(&batch.id.to_string()),
                (Part::Index, GroupKey::Index(index)) => percent_encode(index.as_str(), &mut url),
                (Part::Index, _) => {}
            }
        }
        url
    }

    /// What a success says in its body.
    fn taken(&self, status: u16, body: &[u8], count: usize) -> Outcome {
        let Some(pointer) = &self.refused else { return Outcome::Delivered };
        let answer = serde_json::from_slice::<serde_json::Value>(body).ok();
        match answer.and_then(|answer| answer.pointer(pointer)?.as_u64()) {
            Some(0) => Outcome::Delivered,
            Some(refused) => {
                let reason = format!("http {status}, but {refused} events refused");
                refused_without_names(refused, count, Refusal { status, reason })
            }
            // Something between us and the backend answers, or it is not the backend we think.
            None => Outcome::Retry {
                after: None,
                reason: format!("the answer has no number of refused events at {pointer}"),
            },
        }
    }
}

impl Sink for Generic {
    fn kind(&self) -> &'static str {
        "http"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn envelope(&self, _: &GroupKey) -> Envelope {
        match self.format {
            Format::Ndjson => Envelope::default(),
            Format::JsonArray => JSON_ARRAY,
        }
    }

    fn frame(&self, record: &Record<'_>, context: &Context, out: &mut Vec<u8>) -> Range<usize> {
        let document = match self.shape {
            EventShape::Raw => frame_object(record, context, out),
            EventShape::Ecs => shape::ecs::frame(record, context, WithIndex::Yes, out),
        };
        if self.format == Format::Ndjson {
            out.push(b'\n');
        }
        document
    }

    fn group(&self, record: &Record<'_>) -> GroupKey {
        if self.url.contains(&Part::Index) { GroupKey::Index(record.index.clone()) } else { GroupKey::All }
    }

    /// `INDEX/ID`, or `ID` where a batch holds all of them.
    fn object(&self, batch: &Batch) -> Option<String> {
        let group = match &batch.group {
            GroupKey::Index(index) => format!("{}/", index.as_str()),
            _ => String::new(),
        };
        self.url.contains(&Part::BatchId).then(|| format!("{group}{}", batch.id))
    }

    fn named(&self, object: &str) -> Option<Named> {
        let group = match object.rsplit_once('/') {
            Some((index, _)) if self.url.contains(&Part::Index) => GroupKey::Index(Index(index.into())),
            None if !self.url.contains(&Part::Index) => GroupKey::All,
            _ => return None,
        };
        let encoding = self.encoding;
        self.url.contains(&Part::BatchId).then_some(Named { group, encoding })
    }

    fn request(&self, batch: &Batch) -> Op {
        let mut headers = self.headers.clone();
        if let Ok(id) = HeaderValue::from_str(&batch.id.to_string()) {
            headers.insert(IDEMPOTENCY_KEY, id);
        }
        Op::Http {
            method: self.method.clone(),
            url: self.url(batch),
            headers,
            body: batch.body.clone(),
            answer_bytes: ANSWER_BYTES,
        }
    }

    fn judge(&self, batch: &Batch, _: &Op, reply: &Reply) -> Outcome {
        match (reply.outcome(), reply) {
            (Some(outcome), _) => outcome,
            (None, Reply::Http { status, body, .. }) => self.taken(*status, body, batch.records.len()),
            (None, _) => Outcome::Delivered,
        }
    }

    /// `OPTIONS` alone is sure to change nothing (RFC 9110 §9.2.1); an empty `POST` could be stored as something.
    fn probe(&self, _: &[Index]) -> Vec<Op> {
        let mut headers = self.headers.clone();
        headers.remove(header::CONTENT_TYPE);
        headers.remove(header::CONTENT_ENCODING);
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::BatchId | Part::Index => "probe".to_owned(),
        };
        let (url, body) = (self.url.iter().map(text).collect(), Bytes::new());
        vec![Op::Http { method: Method::OPTIONS, url, headers, body, answer_bytes: ANSWER_BYTES }]
    }

    fn judge_probe(&self, _: &Op, reply: &Reply) -> Verdict {
        let Reply::Http { status, headers, .. } = reply else {
            return reply
                .verdict("auth")
                .unwrap_or_else(|| Verdict::Doubtful("not an http answer".to_owned()));
        };
        let allowed: Vec<&str> =
            headers.get_all(header::ALLOW).iter().filter_map(|list| list.to_str().ok()).collect();
        let names = |method: &&str| method.trim().eq_ignore_ascii_case(self.method.as_str());
        let method = &self.method;
        match status {
            200..=299 if allowed.is_empty() => Verdict::Good("answers OPTIONS".to_owned()),
            200..=299 if allowed.iter().flat_map(|list| list.split(',')).any(|one| names(&one)) => {
                Verdict::Good(format!("takes {method}"))
            }
            200..=299 => Verdict::Bad {
                text: format!("the URL does not take {method}"),
                advice: "look at `url` and `method`".to_owned(),
            },
            // Many that take a POST know no OPTIONS, and say so in one of these ways.
            400 | 404 | 405 | 501 => Verdict::Doubtful(format!(
                "http {status}: it does not answer OPTIONS, so the path and the credentials could not be tried"
            )),
            _ => reply.verdict("auth` or `headers").unwrap_or_else(|| Verdict::Good("answers".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{batch, build, raw};
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_probe_writes_nothing_and_says_what_it_learnt() {
        let sink = build("http", json!({"url": "https://x/in", "auth": {"bearer": "hunter2"}})).unwrap().sink;
        let [asked] = &sink.probe(&[])[..] else { panic!("one question") };
        let Op::Http { method, headers, body, .. } = asked else { panic!("not http") };
        assert_eq!((method.as_str(), body.len(), headers.len()), ("OPTIONS", 0, 1));
        assert_eq!(headers["authorization"], "Bearer hunter2");
        for (status, allow, want) in [
            (204, "", "Good(\"answers OPTIONS\")"),
            (200, "GET, post", "Good(\"takes POST\")"),
            (200, "GET, HEAD", "Bad { text: \"the URL does not take POST\""),
            (405, "POST", "Doubtful("),
            (404, "", "Doubtful("),
            (
                401,
                "",
                "Bad { text: \"http 401: the credentials are missing or wrong\", advice: \"look at `auth` or `headers`",
            ),
            (302, "", "Bad { text: \"http 302: redirects to elsewhere"),
            (503, "", "Bad { text: \"http 503"),
            (429, "", "Doubtful("),
        ] {
            let mut headers = HeaderMap::new();
            if !allow.is_empty() {
                headers.insert("allow", allow.parse().unwrap());
            }
            let reply = Reply::Http { status, headers, body: Bytes::new() };
            let told = format!("{:?}", sink.judge_probe(asked, &reply));
            assert!(told.starts_with(want), "{told} for {status}");
        }
    }

    #[test]
    fn both_formats_parse() {
        let lines = [r#"{"kind":"Event","n":1}"#, r#"{"kind":"Event","n":2}"#];
        let sink = |format| build("http", json!({"url": "http://x/", "format": format})).unwrap().sink;

        let array = batch(&sink("json_array"), &lines);
        let records: Vec<Value> = serde_json::from_str(&raw(&array)).unwrap();
        let (left, right) = array.split().unwrap().unwrap();
        for (half, record) in [(left, &records[0]), (right, &records[1])] {
            assert_eq!(
                serde_json::from_str::<Vec<Value>>(&raw(&half)).unwrap(),
                std::slice::from_ref(record)
            );
        }

        let ndjson = batch(&sink("ndjson"), &lines);
        let text = raw(&ndjson);
        let parsed: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(parsed, records);
        assert_eq!(parsed[0]["auditship"]["index"], "audit");
        assert_eq!(parsed[0]["auditship"]["uid"], ndjson.records[0].uid.to_string());
        assert_eq!(raw(&ndjson.subset(&[1]).unwrap()), format!("{}\n", text.lines().nth(1).unwrap()));
    }

    #[test]
    fn the_url_can_name_batch_and_index() {
        let options = json!({"url": "http://x/?a=1", "query": {
            "query": "INSERT INTO a.b FORMAT JSONEachRow", "token": "{batch_id}.{index}", "é": "{index}"}});
        let sink = build("http", options).unwrap().sink;
        let batch = batch(&sink, &["{}"]);
        assert_eq!(batch.group, GroupKey::Index(Index("audit".into())));
        assert_eq!(sink.object(&batch), Some(format!("audit/{}", batch.id)));
        let Op::Http { url, .. } = sink.request(&batch) else { panic!("not http") };
        let id = batch.id;
        assert_eq!(
            url,
            format!(
                "http://x/?a=1&query=INSERT%20INTO%20a.b%20FORMAT%20JSONEachRow&token={id}.audit&%C3%A9=audit"
            )
        );
        let plain = build("http", json!({"url": "http://x/", "query": {"a": "b"}})).unwrap().sink;
        assert_eq!(plain.object(&batch), None);
        for (query, want) in [
            (json!({"a": "{uid}"}), "query: the only placeholders are {batch_id} and {index}"),
            (json!({"a": "{"}), "query: the only placeholders are {batch_id} and {index}"),
        ] {
            let mistake = build("http", json!({"url": "http://x/", "query": query}));
            assert_eq!(mistake.err().as_deref(), Some(want));
        }
    }

    #[test]
    fn an_answer_can_count_what_was_refused() {
        let sink = build("http", json!({"url": "http://x/", "refused": "/status/0/failed"})).unwrap().sink;
        let batch = batch(&sink, &["{}", "{\"a\":1}", "{\"a\":2}"]);
        for (body, want) in [
            (r#"{"status":[{"failed":0}]}"#, "Delivered"),
            (
                r#"{"status":[{"failed":2}]}"#,
                "PartialCount { rejected: 2, refusal: Refusal { status: 200, reason: \"http 200, but 2 events refused\" } }",
            ),
            (r#"{"status":[{"failed":3}]}"#, "Partial { retry: [], reject: [(0"),
            (r#"{"status":[]}"#, "Retry"),
            (r#"{"status":[{"failed":-1}]}"#, "Retry"),
            ("", "Retry"),
            ("<html>", "Retry"),
        ] {
            let reply = Reply::Http { status: 200, headers: HeaderMap::new(), body: body.into() };
            let told = format!("{:?}", sink.judge(&batch, &sink.request(&batch), &reply));
            assert!(told.starts_with(want), "{body}: {told}");
        }
    }

    #[test]
    fn the_shape_ecs_names_its_index() {
        let sink = build("http", json!({"url": "http://x/", "shape": "ecs"})).unwrap().sink;
        let batch = batch(&sink, &[r#"{"verb":"get"}"#]);
        let record: Value = serde_json::from_str(&raw(&batch)).unwrap();
        assert_eq!(
            (&record["auditship"]["index"], &record["event"]["action"]),
            (&json!("audit"), &json!("get"))
        );
        assert_eq!(record["kubernetes"]["audit"], json!({"verb": "get"}));
        assert_eq!(&*batch.document(&batch.records[0], &batch.raw().unwrap()), br#"{"verb":"get"}"#);
    }

    #[test]
    fn every_attempt_is_the_same_request() {
        let options = json!({"url": "http://x/", "method": "put", "headers": {"X-Token": "hunter2", "content-type": "text/x"},
                             "auth": {"basic": {"user": "a", "password": "b"}}, "compression": "zstd"});
        let sink = build("http", options).unwrap().sink;
        let batch = batch(&sink, &["{}"]);
        let told = |op: Op| match op {
            Op::Http { method, url, headers, body, .. } => (method, url, headers, body),
            other => panic!("{other:?}"),
        };
        let request = told(sink.request(&batch));
        assert_eq!(request, told(sink.request(&batch)));
        let (method, _, headers, _) = request;
        assert_eq!(method, Method::PUT);
        assert_eq!(headers["idempotency-key"], batch.id.to_string());
        assert_eq!(headers["authorization"], "Basic YTpi");
        assert_eq!(headers["content-type"], "text/x");
        assert_eq!(headers["content-encoding"], "zstd");
        let op = Op::Http {
            method,
            url: "http://x/?token=hunter2".to_owned(),
            headers,
            body: "".into(),
            answer_bytes: 0,
        };
        assert!(!format!("{op:?}").contains("hunter2"));
        let written: Http =
            serde_json::from_value(json!({"url": "http://x/?t=hunter2", "headers": {"x": "hunter2"}}))
                .unwrap();
        assert!(!format!("{written:?}").contains("hunter2"), "{written:?}");
    }
}
