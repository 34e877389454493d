//! Any HTTP endpoint that takes NDJSON or a JSON array.
//!
//! A success (2xx) is taken at its word: a generic endpoint has no body to read. Each batch carries an
//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), the same in every attempt, and each record
//! its uid, so that a receiver can tell repetitions.

use super::{
    Auth, BatchOptions, Built, Connection, HTTP_LIMITS, HttpCommon, IDEMPOTENCY_KEY, Invalid, RateLimit, Tls,
    authorize, body_headers, frame_line, frame_object, own_headers,
};
use crate::batch::Batch;
use crate::compress::Encoding;
use crate::sink::{Context, Envelope, GroupKey, Limits, Op, Outcome, Reply, Sink};
use crate::units::{Duration, Endpoint, Secret};
use auditship_event::Record;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
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
    /// Method of the request (post).
    #[serde(default)]
    pub method: Verb,
    /// Form of the body (ndjson).
    #[serde(default)]
    pub format: Format,
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
    url: String,
    method: Method,
    format: Format,
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
        let encoding = self.compression.unwrap_or_default();
        let mut headers = own_headers(&self.headers)?;
        let content_type = match self.format {
            Format::Ndjson => "application/x-ndjson",
            Format::JsonArray => "application/json",
        };
        body_headers(&mut headers, content_type, encoding);
        authorize(self.auth.as_ref(), &mut headers)?;
        let sink = Arc::new(Generic {
            url: self.url.0.clone(),
            method: match self.method {
                Verb::Post => Method::POST,
                Verb::Put => Method::PUT,
            },
            format: self.format,
            headers,
            limits: self.batch.limits(HTTP_LIMITS)?,
            encoding,
        });
        Ok(Built { sink, transport, options })
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
        match self.format {
            Format::Ndjson => frame_line(record, context, out),
            Format::JsonArray => frame_object(record, context, out),
        }
    }

    fn request(&self, batch: &Batch) -> Op {
        let mut headers = self.headers.clone();
        if let Ok(id) = HeaderValue::from_str(&batch.id.to_string()) {
            headers.insert(IDEMPOTENCY_KEY, id);
        }
        Op::Http {
            method: self.method.clone(),
            url: self.url.clone(),
            headers,
            body: batch.body.clone(),
            answer_bytes: ANSWER_BYTES,
        }
    }

    fn judge(&self, _: &Batch, _: &Op, reply: &Reply) -> Outcome {
        reply.outcome().unwrap_or(Outcome::Delivered)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{batch, build, raw};
    use super::*;
    use serde_json::{Value, json};

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
