//! A small HTTP server that stores what it is sent, and misbehaves as told.

use crate::wire::{loki, otlp};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// What the server does with one request instead of storing it.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// This status, header and body.
    Status(u16, &'static str, &'static str),
    /// Stores it, then closes in the middle of the answer.
    StoreAndBreak,
    /// Never answers.
    Hang,
}

#[derive(Default)]
pub(crate) struct Backend {
    /// What to do first; then everything is stored.
    script: Mutex<VecDeque<Answer>>,
    /// How often each uid was stored.
    pub(crate) stored: Mutex<BTreeMap<String, usize>>,
    /// The idempotency key and body of every request.
    pub(crate) requests: Mutex<Vec<(String, Bytes)>>,
    /// How many connections were accepted.
    pub(crate) connections: AtomicUsize,
    /// What was put, by path: the batch's ID. None is replaced.
    objects: Mutex<BTreeMap<String, String>>,
}

const BATCH_ID: HeaderName = HeaderName::from_static("x-amz-meta-batch-id");

/// A record with this inside an object is refused; inside a string it is not.
pub(crate) const POISON: &str = "{\"poison\"";
/// A record with this is refused in any form.
pub(crate) const FATAL: &str = "\"fatal\"";

impl Backend {
    pub(crate) fn new(script: &[Answer]) -> Arc<Backend> {
        Arc::new(Backend { script: Mutex::new(script.iter().cloned().collect()), ..Backend::default() })
    }

    /// Serves until the runtime ends; gives the base URL.
    pub(crate) async fn serve(self: Arc<Self>, port: u16) -> String {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                self.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(self.clone().answer_all(stream));
            }
        });
        url
    }

    /// Answers what comes over one connection.
    pub(crate) async fn answer_all(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(move |request| self.clone().answer(request));
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> io::Result<Response<BoxBody<Bytes, io::Error>>> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let protocol = Protocol::of(&path);
        let header = |name: &str| {
            request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let (mut key, mut encoding) = (header("idempotency-key"), header("content-encoding"));
        let batch_id = header("x-amz-meta-batch-id");
        if method == Method::PUT {
            assert_eq!((&*header("if-none-match"), &*encoding), ("*", ""));
            assert!(header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=AKIA/"));
            (key, encoding) = (path.clone(), "zstd".to_owned());
        }
        let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        self.requests.lock().unwrap().push((key, body.clone()));
        let answer = self.script.lock().unwrap().pop_front();
        let whole = |status: u16, text: String| {
            let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
            Response::builder().status(status).body(body).map_err(io::Error::other)
        };
        if method == Method::HEAD && path.contains("cluster%3D") {
            let known = self.objects.lock().unwrap().get(&path).cloned();
            let mut response = whole(if known.is_some() { 200 } else { 404 }, String::new())?;
            response.headers_mut().extend(known.map(|id| (BATCH_ID, id.parse().unwrap())));
            return Ok(response);
        }
        let store = || {
            if method == Method::PUT {
                let mut objects = self.objects.lock().unwrap();
                if objects.contains_key(&path) {
                    return (412, String::new());
                }
                objects.insert(path.clone(), batch_id.clone());
            }
            self.store(protocol, &decoded(&encoding, &body))
        };
        match answer {
            Some(Answer::Hang) => std::future::pending().await,
            Some(Answer::Status(status, header, text)) => {
                let mut response = whole(status, text.to_owned())?;
                if let Some((name, value)) = header.split_once(": ") {
                    response.headers_mut().insert(name, value.parse().unwrap());
                }
                Ok(response)
            }
            Some(Answer::StoreAndBreak) => {
                store();
                Response::builder()
                    .header("content-length", 1000)
                    .body(Broken(true).boxed())
                    .map_err(io::Error::other)
            }
            None => {
                let (status, text) = store();
                let mut response = whole(status, text)?;
                response.headers_mut().insert("etag", HeaderValue::from_static("\"x\""));
                Ok(response)
            }
        }
    }

    fn store(&self, protocol: Protocol, body: &[u8]) -> (u16, String) {
        let refuses = |line: &str| line.contains(POISON) || line.contains(FATAL);
        let mut stored = self.stored.lock().unwrap();
        let entries = match protocol {
            Protocol::Bulk => Vec::new(),
            Protocol::Loki => loki(body),
            Protocol::Otlp => otlp(body),
            Protocol::Json | Protocol::Intake | Protocol::Collector => {
                let member = if let Protocol::Collector = protocol { "fields" } else { "auditship" };
                let uid = |record: &Value| record[member]["uid"].as_str().unwrap().to_owned();
                records(std::str::from_utf8(body).unwrap())
                    .iter()
                    .map(|record| (uid(record), record.to_string()))
                    .collect()
            }
        };
        // A collector names the first event that it does not take, and takes none of them.
        if let (Protocol::Collector, Some(at)) =
            (protocol, entries.iter().position(|(_, line)| refuses(line)))
        {
            let answer = json!({"text": "Invalid data format", "code": 6, "invalid-event-number": at});
            return (400, answer.to_string());
        }
        if entries.iter().any(|(_, line)| refuses(line)) {
            return (400, "bad record".to_owned());
        }
        for (uid, _) in entries {
            *stored.entry(uid).or_default() += 1;
        }
        match protocol {
            Protocol::Bulk => {}
            Protocol::Loki => return (204, String::new()),
            Protocol::Otlp | Protocol::Json => return (200, String::new()),
            Protocol::Intake => return (202, "{}".to_owned()),
            Protocol::Collector => return (200, json!({"text": "Success", "code": 0}).to_string()),
        }
        let text = std::str::from_utf8(body).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let items: Vec<Value> = lines.chunks(2).map(|pair| {
            let action: Value = serde_json::from_str(pair[0]).unwrap();
            let _: Value = serde_json::from_str(pair[1]).unwrap();
            let id = action["create"]["_id"].as_str().unwrap().to_owned();
            if refuses(pair[1]) {
                return json!({"create": {"status": 400, "error": {"type": "document_parsing_exception", "reason": pair[1]}}});
            }
            let new = !stored.contains_key(&id);
            *stored.entry(id).or_default() += usize::from(new);
            json!({"create": {"status": if new { 201 } else { 409 }}})
        }).collect();
        (200, json!({"errors": false, "items": items}).to_string())
    }
}

fn records(text: &str) -> Vec<Value> {
    if text.starts_with('[') {
        return serde_json::from_str(text).unwrap();
    }
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn decoded(encoding: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match encoding {
        "gzip" => flate2::read::MultiGzDecoder::new(body).read_to_end(&mut bytes).unwrap(),
        "zstd" => zstd::stream::read::Decoder::new(body).unwrap().read_to_end(&mut bytes).unwrap(),
        _ => std::io::Cursor::new(body).read_to_end(&mut bytes).unwrap(),
    };
    bytes
}

/// What is spoken at a path.
#[derive(Clone, Copy)]
enum Protocol {
    Bulk,
    Loki,
    Otlp,
    /// Splunk's.
    Collector,
    /// Datadog's.
    Intake,
    Json,
}

impl Protocol {
    fn of(path: &str) -> Protocol {
        match path {
            _ if path.ends_with("/_bulk") => Protocol::Bulk,
            _ if path.ends_with("/loki/api/v1/push") => Protocol::Loki,
            _ if path.ends_with("/v1/logs") => Protocol::Otlp,
            _ if path.ends_with("/services/collector/event") => Protocol::Collector,
            _ if path.ends_with("/api/v2/logs") => Protocol::Intake,
            _ => Protocol::Json,
        }
    }
}

/// A body that breaks after its first bytes.
struct Broken(bool);

impl Body for Broken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let first = std::mem::take(&mut self.0);
        Poll::Ready(Some(if first {
            Ok(Frame::data(Bytes::from_static(b"{\"errors\":false,")))
        } else {
            Err(io::ErrorKind::ConnectionReset.into())
        }))
    }
}
