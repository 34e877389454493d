//! `s3` against a store that behaves as badly as stores do, through the real client.

use crate::{batches, context};
use auditship_ship::backoff::Backoff;
use auditship_ship::shipper::Doors;
use auditship_ship::sinks::{Built, Config};
use auditship_ship::store::{self, DeadLetters};
use auditship_ship::{Batch, Options, Phase, Settled, Shipper, Stats};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// What the store does with the next PUT.
#[derive(Clone, Copy, Debug)]
enum Bad {
    /// This status and code, nothing stored.
    Says(u16, &'static str),
    /// The same, with a region.
    Redirects(&'static str),
    /// Stores it, and says that it did not.
    StoresAndSays(u16, &'static str),
    /// Stores something else under that key before.
    IsForeign,
}

/// Which headers the store knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knows {
    Everything,
    /// Neither conditions nor metadata.
    Nothing,
}

struct Store {
    knows: Knows,
    script: Mutex<VecDeque<Bad>>,
    objects: Mutex<BTreeMap<String, (HeaderMap, Bytes)>>,
    /// What was asked: `PUT 200`, `HEAD 404`.
    log: Mutex<Vec<String>>,
}

impl Store {
    async fn start(knows: Knows, script: &[Bad]) -> (Arc<Store>, String) {
        let store = Arc::new(Store {
            knows,
            script: Mutex::new(script.iter().copied().collect()),
            objects: Mutex::default(),
            log: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = store.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let store = served.clone();
                let service = service_fn(move |request| answer(store.clone(), request));
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        (store, url)
    }

    fn put(&self, path: &str, headers: HeaderMap, body: Bytes) -> Response<Full<Bytes>> {
        let bad = self.script.lock().unwrap().pop_front();
        let mut objects = self.objects.lock().unwrap();
        match bad {
            Some(Bad::Says(status, code)) => return says(status, code),
            Some(Bad::Redirects(region)) => {
                let mut response = says(301, "PermanentRedirect");
                response.headers_mut().insert("x-amz-bucket-region", region.parse().unwrap());
                return response;
            }
            Some(Bad::StoresAndSays(status, code)) => {
                objects.insert(path.to_owned(), (headers, body));
                return says(status, code);
            }
            Some(Bad::IsForeign) => {
                let mut foreign = HeaderMap::new();
                foreign.insert("x-amz-meta-batch-id", "00".parse().unwrap());
                objects.insert(path.to_owned(), (foreign, Bytes::from_static(b"foreign")));
            }
            None => {}
        }
        let conditional = headers.contains_key("if-none-match") && self.knows == Knows::Everything;
        if conditional && objects.contains_key(path) {
            return says(412, "PreconditionFailed");
        }
        objects.insert(path.to_owned(), (headers, body));
        let mut response = says(200, "");
        response.headers_mut().insert("etag", "\"x\"".parse().unwrap());
        response
    }

    fn head(&self, path: &str) -> Response<Full<Bytes>> {
        let objects = self.objects.lock().unwrap();
        let Some((headers, body)) = objects.get(path) else { return says(404, "") };
        let mut response = says(200, "");
        response.headers_mut().insert("content-length", body.len().into());
        if self.knows == Knows::Everything {
            for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-meta-")) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }

    /// Every uid that the objects hold, once; none may be there twice.
    fn uids(&self) -> BTreeSet<String> {
        let mut uids = BTreeSet::new();
        for (_, body) in self.objects.lock().unwrap().values() {
            let text = String::from_utf8(zstd::decode_all(&body[..]).unwrap()).unwrap();
            for line in text.lines() {
                let record: Value = serde_json::from_str(line).unwrap();
                let new = uids.insert(record["auditship"]["uid"].as_str().unwrap().to_owned());
                assert!(new, "twice: {line}");
            }
        }
        uids
    }
}

async fn answer(store: Arc<Store>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (path, headers) = (parts.uri.path().to_owned(), parts.headers);
    let signed = headers["authorization"].to_str().unwrap();
    assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=AKIA/"), "{signed}");
    let response =
        if parts.method == Method::PUT { store.put(&path, headers, body) } else { store.head(&path) };
    let line = format!("{} {}", parts.method, response.status().as_u16());
    store.log.lock().unwrap().push(line);
    Ok(response)
}

fn says(status: u16, code: &str) -> Response<Full<Bytes>> {
    let body = if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code></Error>") };
    Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap()
}

fn build(url: &str, more: &Value) -> Built {
    let mut options = json!({
        "bucket": "audit", "endpoint": url, "batch": {"events": 5},
        "credentials": {"access_key_id": "AKIA", "secret_access_key": "hunter2"},
    });
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Config::deserialize("s3", options).unwrap().unwrap().build(&context()).unwrap()
}

struct Shipped {
    delivered: usize,
    stats: Arc<Stats>,
}

async fn ship(built: Built, batches: Vec<Batch>, give_up_after: Option<Duration>) -> Shipped {
    let dir = tempfile::tempdir().unwrap();
    let doors = Doors {
        backend: store::open(&built.transport).unwrap(),
        dead_letters: Arc::new(DeadLetters::new(&dir.path().join("dead"), 1 << 20)),
    };
    let wait = Duration::from_millis(1);
    let options = Options {
        backoff: Backoff { first: wait, cap: wait },
        hold: wait,
        concurrency: 1,
        give_up_after,
        ..built.options
    };
    let (tx, rx) = tokio::sync::mpsc::channel(2);
    let (acks, acked) = crossbeam_channel::unbounded();
    let stats = Arc::new(Stats::new());
    let shipper = Shipper::spawn(&Handle::current(), built.sink, doors, options, rx, acks, stats.clone());
    for batch in batches {
        tx.send(batch).await.unwrap();
    }
    drop(tx);
    assert!(shipper.drain(Duration::from_secs(60)).await, "the output has not ended");
    let delivered = acked.try_iter().filter(|ack| ack.result == Settled::Delivered).count();
    Shipped { delivered, stats }
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{{\"kind\":\"Event\",\"n\":{n}}}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_stored_once_through_every_trouble() {
    use Bad::*;
    use Knows::*;
    let cases: &[(&str, Knows, &[Bad], &str)] = &[
        ("well", Everything, &[], "PUT 200, PUT 412, PUT 200"),
        (
            "slow down",
            Everything,
            &[Says(503, "SlowDown"), Says(429, "")],
            "PUT 503, PUT 429, PUT 200, PUT 412, PUT 200",
        ),
        (
            "409, nothing stored",
            Everything,
            &[Says(409, "ConditionalRequestConflict")],
            "PUT 409, PUT 200, PUT 412, PUT 200",
        ),
        ("checksum", Everything, &[Says(400, "BadDigest")], "PUT 400, PUT 200, PUT 412, PUT 200"),
        (
            "stored, said 500",
            Everything,
            &[StoresAndSays(500, "InternalError")],
            "PUT 500, PUT 412, HEAD 200, PUT 200, PUT 412",
        ),
        (
            "stored, said 200 without an ETag",
            Everything,
            &[StoresAndSays(200, "")],
            "PUT 200, PUT 412, HEAD 200, PUT 200, PUT 412",
        ),
        ("ignores conditions", Nothing, &[], "PUT 200, PUT 200, PUT 200"),
        (
            "ignores conditions, stored, said 500",
            Nothing,
            &[StoresAndSays(500, "")],
            "PUT 500, PUT 200, PUT 200, PUT 200",
        ),
        (
            "has the bytes, keeps no metadata",
            Nothing,
            &[StoresAndSays(412, "")],
            "PUT 412, HEAD 200, HEAD 200, PUT 200, PUT 200",
        ),
        ("redirect", Everything, &[Redirects("eu-west-3")], "PUT 301, PUT 200, PUT 412, PUT 200"),
        ("expired", Everything, &[Says(400, "ExpiredToken")], "PUT 400, PUT 200, PUT 412, PUT 200"),
        ("not allowed", Everything, &[Says(403, "AccessDenied")], "PUT 403, PUT 200, PUT 412, PUT 200"),
    ];
    for (case, knows, script, want) in cases {
        let (store, url) = Store::start(*knows, script).await;
        let built = build(&url, &json!({}));
        let made = batches(&built.sink, &lines(8));
        assert_eq!(made.len(), 2);
        let shipped = ship(built, made, None).await;
        assert_eq!(shipped.delivered, 8, "{case}");
        assert_eq!(store.uids().len(), 8, "{case}");
        assert_eq!(store.log.lock().unwrap().join(", "), *want, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_object_is_not_replaced_and_nothing_moves() {
    let (store, url) = Store::start(Knows::Everything, &[Bad::IsForeign]).await;
    let built = build(&url, &json!({"batch": {"events": 100}}));
    let made = batches(&built.sink, &lines(3));
    let shipped = ship(built, made, Some(Duration::from_millis(50))).await;
    assert_eq!(shipped.delivered, 0);
    let state = shipped.stats.state();
    assert_eq!(state.phase, Phase::Held);
    let error = state.last_error.unwrap();
    assert!(error.starts_with("another object has the key cluster=prod/date=2026-11-24/hour=02/"), "{error}");
    let objects = store.objects.lock().unwrap();
    assert!(objects.values().all(|(_, body)| body == "foreign") && objects.len() == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_the_last_run_is_settled_by_its_object() {
    let (store, url) = Store::start(Knows::Everything, &[]).await;
    let first = batches(&build(&url, &json!({})).sink, &lines(5)).remove(0);
    let object = build(&url, &json!({})).sink.object(&first).unwrap();
    // The bytes are others now: the configuration was changed.
    for (there, want) in [(true, "HEAD 200"), (false, "HEAD 404, PUT 200")] {
        store.objects.lock().unwrap().clear();
        if there {
            ship(build(&url, &json!({})), vec![first.clone()], None).await;
        }
        store.log.lock().unwrap().clear();
        let built = build(&url, &json!({}));
        let mut again = batches(&built.sink, &lines(4)).remove(0);
        (again.id, again.object) = (first.id, Some(object.clone().into()));
        let shipped = ship(built, vec![again], None).await;
        assert_eq!(shipped.delivered, 4);
        assert_eq!(store.uids().len(), if there { 5 } else { 4 });
        // The probe asks once in the life of a process.
        let log = store.log.lock().unwrap().join(", ");
        assert_eq!(log.trim_end_matches(", PUT 412"), want);
    }
}
