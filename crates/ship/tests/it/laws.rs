//! Every sink of the table against the same answers: nothing is lost, nothing is acknowledged twice, and what
//! is called delivered is there.
#![expect(clippy::disallowed_methods, reason = "reads what was written, makes room for itself")]

use crate::server::{Answer, Backend};
use crate::{batches, context};
use auditship_ship::backoff::Backoff;
use auditship_ship::shipper::Doors;
use auditship_ship::sinks::{Config, SINKS, Transport};
use auditship_ship::store::{self, DeadLetters};
use auditship_ship::{
    Ack, Batch, Door, Failure, Op, Options, Outcome, Phase, Reply, Settled, Shipper, Sink, Stats,
};
use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;

/// The kinds that send requests.
const HTTP_KINDS: &[&str] = &["elasticsearch", "http", "loki", "otlp", "datadog", "splunk_hec", "s3"];

const MS: Duration = Duration::from_millis(1);

/// A kind of sink, with options that point it at `url` or `path`.
pub(crate) fn options(kind: &str, url: &str, path: &Path) -> Value {
    match kind {
        "elasticsearch" => json!({"endpoint": url, "timeout": "300ms", "batch": {"events": 5}}),
        "http" => {
            json!({"url": format!("{url}/in"), "timeout": "300ms", "batch": {"events": 5}, "compression": "zstd"})
        }
        "loki" | "otlp" => json!({"endpoint": url, "timeout": "300ms", "batch": {"events": 5}}),
        "datadog" => {
            json!({"endpoint": url, "auth": {"api_key": "k"}, "timeout": "300ms", "batch": {"events": 5}})
        }
        "splunk_hec" => {
            json!({"endpoint": url, "auth": {"token": "t"}, "timeout": "300ms", "batch": {"events": 5}})
        }
        "s3" => json!({
            "bucket": "audit", "endpoint": url, "timeout": "300ms", "batch": {"events": 5},
            "credentials": {"access_key_id": "AKIA", "secret_access_key": "hunter2"},
        }),
        "dir" => json!({"path": path, "batch": {"events": 5}}),
        "stdout" => json!({"batch": {"events": 5}}),
        other => panic!("the laws do not know the sink {other}"),
    }
}

pub(crate) fn build(kind: &str, options: Value) -> auditship_ship::sinks::Built {
    Config::deserialize(kind, options).unwrap().unwrap().build(&context()).unwrap()
}

/// Waits of no more than a few milliseconds, at a time at which no record is too old.
pub(crate) fn quick(options: Options) -> Options {
    let wall_clock = || jiff::Timestamp::from_microsecond(crate::BEGAN).unwrap();
    Options { backoff: Backoff { first: MS, cap: 4 * MS }, hold: 4 * MS, wall_clock, ..options }
}

pub(crate) struct Shipped {
    acks: Vec<Ack>,
    pub(crate) stats: Arc<Stats>,
}

impl Shipped {
    pub(crate) fn delivered(&self) -> BTreeSet<u64> {
        self.acks.iter().filter(|ack| ack.result == Settled::Delivered).map(|ack| ack.ticket).collect()
    }

    /// One acknowledgement for each of `count` records.
    pub(crate) fn check_acks(&self, count: usize, case: &str) {
        let mut tickets: Vec<u64> = self.acks.iter().map(|ack| ack.ticket).collect();
        tickets.sort_unstable();
        assert_eq!(tickets, (0..count as u64).collect::<Vec<_>>(), "{case}");
        assert_eq!(self.stats.in_flight_bytes.load(Relaxed), 0);
        assert_eq!(self.stats.delivered_total().records as usize, self.delivered().len(), "{case}");
    }
}

pub(crate) async fn ship(sink: Arc<dyn Sink>, doors: Doors, options: Options, lines: &[String]) -> Shipped {
    let (tx, rx) = tokio::sync::mpsc::channel(2);
    let (acks, acked) = crossbeam_channel::unbounded();
    let stats = Arc::new(Stats::new());
    let shipper = Shipper::spawn(&Handle::current(), sink.clone(), doors, options, rx, acks, stats.clone());
    for batch in batches(&sink, lines) {
        tx.send(batch).await.unwrap();
    }
    drop(tx);
    assert!(shipper.drain(Duration::from_secs(60)).await, "the output has not ended");
    Shipped { acks: acked.try_iter().collect(), stats }
}

pub(crate) fn lines(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{{\"kind\":\"Event\",\"n\":{n},\"requestObject\":{{\"a\":{n}}}}}")).collect()
}

/// A door that gives `first` as its first replies.
struct Flaky {
    first: Mutex<VecDeque<Reply>>,
    then: Arc<dyn Door>,
}

impl Door for Flaky {
    fn perform(&self, op: Op) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        match self.first.lock().unwrap().pop_front() {
            Some(reply) => Box::pin(async { reply }),
            None => self.then.perform(op),
        }
    }
}

/// A stand-in for standard output.
#[derive(Default)]
struct Kept(Mutex<Vec<u8>>);

impl Door for Kept {
    fn perform(&self, op: Op) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let Op::Append { bytes } = op else { panic!("{op:?}") };
        self.0.lock().unwrap().extend_from_slice(&bytes);
        Box::pin(async { Reply::Done })
    }
}

fn letters(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn every_reply() -> Vec<Reply> {
    let http =
        |status, body: &'static str| Reply::Http { status, headers: HeaderMap::new(), body: body.into() };
    let mut replies = vec![Reply::Done, Reply::Exists];
    for status in (200..=599).chain([0, 100, 999]) {
        for body in [
            "",
            "{}",
            "[]",
            "{\"errors\":false}",
            "{\"items\":[{\"create\":{\"status\":201}}]}",
            "<html>",
            "{\"code\":0}",
        ] {
            replies.push(http(status, body));
        }
    }
    use Failure::*;
    for kind in [Connect, Timeout, Reset, Tls, Answer, NoSpace, Storage, Invalid] {
        replies.push(Reply::Failed { kind, text: "text".to_owned() });
    }
    replies
}

#[test]
fn failure_is_never_called_delivery() {
    for kind in SINKS {
        let sink = build(kind.name, options(kind.name, "http://127.0.0.1:1", Path::new("/x"))).sink;
        let batch = batches(&sink, &lines(3)).remove(0);
        for reply in every_reply() {
            let good = match &reply {
                Reply::Done | Reply::Exists => true,
                Reply::Http { status, .. } => (200..300).contains(status),
                Reply::Failed { .. } => false,
            };
            let outcome = sink.judge(&batch, &sink.request(&batch), &reply);
            let settles = matches!(outcome, Outcome::Delivered | Outcome::Partial { .. });
            assert!(good || !settles, "{} {reply:?} {outcome:?}", kind.name);
        }
    }
}

#[test]
fn the_request_is_the_same_for_every_attempt() {
    for kind in SINKS {
        let sink = build(kind.name, options(kind.name, "http://127.0.0.1:1", Path::new("/x"))).sink;
        let (one, two) = (batches(&sink, &lines(3)).remove(0), batches(&sink, &lines(3)).remove(0));
        let told = |op: Op| match op {
            Op::Http { method, url, headers, body, .. } => (format!("{method} {url} {headers:?}"), body),
            Op::Put { path, bytes } => (format!("{path:?}"), bytes),
            Op::Append { bytes } => (String::new(), bytes),
        };
        assert_eq!(told(sink.request(&one)), told(sink.request(&one)), "{}", kind.name);
        assert_eq!(told(sink.request(&one)), told(sink.request(&two)), "{}", kind.name);
    }
}

/// The framed bytes of each record.
fn framed(batch: &Batch) -> Vec<Vec<u8>> {
    let raw = batch.raw().unwrap();
    batch.records.iter().map(|entry| raw[entry.offset..entry.offset + entry.len].to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn sizes_are_exact_and_a_split_covers_its_parent(words in prop::collection::vec("\\PC{0,200}", 2..12)) {
        let lines: Vec<String> = words
            .iter()
            .map(|word| json!({"kind": "Event", "verb": word, "user": {"username": word}, "requestObject": word}).to_string())
            .collect();
        for kind in SINKS {
            let sink = build(kind.name, options(kind.name, "http://127.0.0.1:1", Path::new("/x"))).sink;
            for batch in batches(&sink, &lines) {
                let envelope = sink.envelope(&batch.group);
                let parts = framed(&batch);
                let around = envelope.prefix.len()
                    + envelope.suffix.len()
                    + envelope.separator.len() * (parts.len() - 1);
                let raw = batch.raw().unwrap();
                prop_assert_eq!(batch.raw_len, around + parts.iter().map(Vec::len).sum::<usize>());
                prop_assert_eq!((raw.len(), parts.len()), (batch.raw_len, batch.records.len()));
                let Some((left, right)) = batch.split().unwrap() else { continue };
                prop_assert_eq!([framed(&left), framed(&right)].concat(), parts);
                let all: Vec<usize> = (0..batch.records.len()).collect();
                prop_assert_eq!(batch.subset(&all).unwrap().raw().unwrap(), raw);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_sinks_deliver_through_every_trouble() {
    use Answer::*;
    let scripts: &[(&str, &[Answer], Phase)] = &[
        ("all accepted", &[], Phase::Ok),
        ("429 with delay", &[Status(429, "retry-after: 0", ""), Status(429, "", "")], Phase::Retrying),
        ("413", &[Status(413, "", ""), Status(413, "", "")], Phase::Ok),
        ("400 that means 413", &[Status(400, "", "request body too large")], Phase::Ok),
        (
            "500",
            &[Status(500, "", ""), Status(503, "", ""), Status(502, "", ""), Status(500, "", "")],
            Phase::Retrying,
        ),
        ("401", &[Status(401, "", "who?"), Status(403, "", "")], Phase::Held),
        ("redirect", &[Status(302, "location: http://127.0.0.1:1/", "")], Phase::Held),
        ("hang", &[Hang], Phase::Retrying),
        ("close in mid-body", &[StoreAndBreak], Phase::Retrying),
        ("nonsense", &[Status(200, "", "<html>welcome</html>")], Phase::Retrying),
    ];
    let dir = tempfile::tempdir().unwrap();
    for kind in HTTP_KINDS {
        for (case, script, phase) in scripts {
            if (*kind, *case) == ("http", "nonsense") {
                continue; // A generic endpoint's 2xx is taken at its word.
            }
            let case = format!("{kind}: {case}");
            let backend = Backend::new(script);
            let url = backend.clone().serve(0).await;
            let built = build(kind, options(kind, &url, dir.path()));
            let letters = Arc::new(DeadLetters::new(&dir.path().join("none.jsonl"), 1 << 20));
            let doors = Doors { backend: store::open(&built.transport).unwrap(), dead_letters: letters };
            let lines = lines(12);
            let shipped = ship(built.sink, doors, quick(built.options), &lines).await;
            shipped.check_acks(12, &case);
            assert_eq!(shipped.delivered().len(), 12, "{case}");
            let stored = backend.stored.lock().unwrap();
            let expected: BTreeSet<String> =
                lines.iter().map(|l| crate::keys().uid(l.as_bytes()).to_string()).collect();
            assert_eq!(stored.keys().cloned().collect::<BTreeSet<_>>(), expected, "{case}");
            if ["elasticsearch", "s3"].contains(kind) {
                assert!(stored.values().all(|times| *times == 1), "{case}: duplicates");
            }
            let error = shipped.stats.state().last_error;
            assert_eq!(error.is_some(), *phase != Phase::Ok, "{case}: {error:?}");
            let retries = shipped.stats.retries.load(Relaxed);
            assert_eq!(retries > 0, *phase != Phase::Ok, "{case}");
            // A repeated key comes with repeated bytes.
            let mut seen = std::collections::BTreeMap::<String, Bytes>::new();
            for (key, body) in backend.requests.lock().unwrap().iter().filter(|(key, _)| !key.is_empty()) {
                assert_eq!(seen.entry(key.clone()).or_insert(body.clone()), body, "{case}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_record_never_costs_its_neighbours() {
    // Whether there is a second form to try, and whether bodies are strings from the beginning.
    for (kind, inline, strings) in [
        ("elasticsearch", true, false),
        ("http", true, false),
        ("splunk_hec", true, false),
        ("datadog", false, true),
        ("loki", false, false),
        ("otlp", false, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::new(&[]);
        let url = backend.clone().serve(0).await;
        let built = build(kind, options(kind, &url, dir.path()));
        let path = dir.path().join("state/dead.jsonl");
        let letters_door = Arc::new(DeadLetters::new(&path, 1 << 20));
        let doors = Doors { backend: store::open(&built.transport).unwrap(), dead_letters: letters_door };
        let mut lines = lines(20);
        lines[3] = r#"{"kind":"Event","n":3,"requestObject":{"poison":true}}"#.to_owned();
        lines[9] = r#"{"kind":"Event","n":9,"fatal":"CONTENT","requestObject":{"x":1}}"#.to_owned();
        lines[14] = r#"{"kind":"Event","n":14,"fatal":"CONTENT"}"#.to_owned();
        let shipped =
            ship(built.sink, doors, quick(Options { output: kind.into(), ..built.options }), &lines).await;
        shipped.check_acks(20, kind);
        let dead: BTreeSet<u64> = (0..20).filter(|ticket| !shipped.delivered().contains(ticket)).collect();
        let want = if inline || strings { BTreeSet::from([9, 14]) } else { BTreeSet::from([3, 9, 14]) };
        assert_eq!(dead, want, "{kind}");
        let found = letters(&path);
        assert_eq!(found.len(), want.len(), "{kind}");
        for letter in found.iter().filter(|letter| letter["body"]["n"] != 3) {
            assert_eq!((letter["output"].as_str(), &letter["status"]), (Some(kind), &json!(400)));
            assert_eq!(letter["body"]["fatal"], "CONTENT");
            assert!(!letter["reason"].as_str().unwrap().contains("CONTENT"));
        }
        // The one with a body was tried in its second form before.
        let flat = found.iter().find(|letter| letter["body"]["n"] == 9).unwrap();
        let body = if inline || strings { json!(r#"{"x":1}"#) } else { json!({"x": 1}) };
        assert_eq!(flat["body"]["requestObject"], body);
        assert_eq!(shipped.stats.flattened.load(Relaxed), if inline { 2 } else { 0 }, "{kind}");
        assert_eq!(shipped.stats.dead_lettered.load(Relaxed), want.len() as u64, "{kind}");
        assert!(!format!("{:?} {:?}", shipped.acks, shipped.stats).contains("CONTENT"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_is_tried_until_somebody_listens() {
    /// Lets the server listen once it has been missed three times.
    struct Late(Arc<dyn Door>, Arc<Backend>, u16, Mutex<u32>);
    impl Door for Late {
        fn perform(&self, op: Op) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
            Box::pin(async move {
                let tries = {
                    let mut tries = self.3.lock().unwrap();
                    *tries += 1;
                    *tries
                };
                if tries == 4 {
                    self.1.clone().serve(self.2).await;
                }
                self.0.perform(op).await
            })
        }
    }
    for kind in HTTP_KINDS {
        let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let built = build(kind, options(kind, &format!("http://127.0.0.1:{port}"), dir.path()));
        let backend = Backend::new(&[]);
        let door = Late(store::open(&built.transport).unwrap(), backend.clone(), port, Mutex::new(0));
        let dead_letters = Arc::new(DeadLetters::new(&dir.path().join("dead"), 1 << 20));
        let doors = Doors { backend: Arc::new(door), dead_letters };
        let shipped = ship(built.sink, doors, quick(built.options), &lines(4)).await;
        shipped.check_acks(4, kind);
        assert_eq!(backend.stored.lock().unwrap().len(), 4);
        let error = shipped.stats.state().last_error.unwrap();
        assert!(error.starts_with("connect: ") && error.contains("refused"), "{error}");
    }
}

#[tokio::test]
async fn speaking_tls_to_a_plain_port_holds() {
    let url = Backend::new(&[]).serve(0).await.replace("http://", "https://");
    let tls = json!({"dangerously_accept_invalid_certs": true});
    let built = build("http", json!({"url": format!("{url}/?token=hunter2"), "tls": tls}));
    let door = store::open(&built.transport).unwrap();
    let batch = batches(&built.sink, &lines(1)).remove(0);
    let reply = door.perform(built.sink.request(&batch)).await;
    assert!(matches!(reply, Reply::Failed { kind: Failure::Tls, .. }), "{reply:?}");
    let asked = built.sink.request(&batch);
    assert!(matches!(built.sink.judge(&batch, &asked, &reply), Outcome::Hold { .. }));
    assert!(!format!("{reply:?} {:?}", built.transport).contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_sinks_deliver_through_every_trouble() {
    let failed = |kind| Reply::Failed { kind, text: "write x: no space left".to_owned() };
    for kind in ["dir", "stdout"] {
        for first in
            [vec![], vec![failed(Failure::NoSpace), failed(Failure::Storage), failed(Failure::NoSpace)]]
        {
            let dir = tempfile::tempdir().unwrap();
            let built = build(kind, options(kind, "", &dir.path().join("archive")));
            let kept = Arc::new(Kept::default());
            let then = match &built.transport {
                Transport::Stdout => kept.clone(),
                transport => store::open(transport).unwrap(),
            };
            let troubled = !first.is_empty();
            let backend = Arc::new(Flaky { first: Mutex::new(first.into()), then });
            let dead_letters = Arc::new(DeadLetters::new(&dir.path().join("dead"), 1 << 20));
            let doors = Doors { backend, dead_letters };
            let shipped = ship(built.sink, doors.clone(), quick(built.options.clone()), &lines(12)).await;
            shipped.check_acks(12, kind);
            assert_eq!(shipped.delivered().len(), 12);
            assert_eq!(shipped.stats.state().last_error.is_some(), troubled);
            let text = if kind == "dir" {
                archived(&dir.path().join("archive"))
            } else {
                kept.0.lock().unwrap().clone()
            };
            let uids: BTreeSet<String> = String::from_utf8(text)
                .unwrap()
                .lines()
                .map(|line| {
                    let record: Value = serde_json::from_str(line).unwrap();
                    record["auditship"]["uid"].as_str().unwrap().to_owned()
                })
                .collect();
            assert_eq!(uids.len(), 12, "{kind}");
            if kind == "dir" {
                // Shipped again from the beginning, it meets its own files.
                let files = archived(&dir.path().join("archive")).len();
                let sink = build(kind, options(kind, "", &dir.path().join("archive"))).sink;
                ship(sink, doors, quick(built.options), &lines(12)).await.check_acks(12, kind);
                assert_eq!(archived(&dir.path().join("archive")).len(), files);
            }
        }
    }
}

/// All archived text, files in the order of their names.
fn archived(dir: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            text.extend(archived(&path));
        } else {
            text.extend(zstd::decode_all(&*std::fs::read(path).unwrap()).unwrap());
        }
    }
    text
}
