//! `datadog` against an intake that is played, after Datadog's documentation: it takes what Datadog takes, and
//! complains about everything that Datadog would cut off or not index without a word.
#![expect(clippy::disallowed_methods, reason = "reads the log of a real API server")]

use crate::BEGAN;
use crate::stopped;
use auditship_event::scan;
use auditship_ship::sinks::{Built, Config};
use auditship_ship::{Door, Op, Reply};
use http::HeaderMap;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io::Read;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

/// The intake as Datadog documents it. Not Datadog.
#[derive(Default)]
struct DatadogMock {
    /// Statuses of the first answers; then everything is taken.
    script: Mutex<VecDeque<u16>>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    /// The entries by uid.
    entries: BTreeMap<String, Vec<Value>>,
    complaints: Vec<String>,
    requests: usize,
}

impl DatadogMock {
    fn new(script: &[u16]) -> Arc<DatadogMock> {
        Arc::new(DatadogMock {
            script: Mutex::new(script.iter().copied().collect()),
            ..DatadogMock::default()
        })
    }

    fn answer(&self, url: &str, headers: &HeaderMap, body: &[u8]) -> u16 {
        let mut taken = self.taken.lock().unwrap();
        taken.requests += 1;
        if let Some(status) = self.script.lock().unwrap().pop_front() {
            return status;
        }
        if headers.get("dd-api-key").is_none_or(|key| key != "secret") {
            return 403;
        }
        let mut text = String::new();
        match headers.get("content-encoding").map(|value| value.to_str().unwrap()) {
            Some("zstd") => {
                zstd::stream::read::Decoder::new(body).unwrap().read_to_string(&mut text).unwrap()
            }
            Some("gzip") => flate2::read::MultiGzDecoder::new(body).read_to_string(&mut text).unwrap(),
            other => panic!("compression {other:?}"),
        };
        if text.len() > 5_000_000 {
            return 413;
        }
        if url != "https://http-intake.logs.us5.datadoghq.com/api/v2/logs" || !text.starts_with('[') {
            return 400;
        }
        let entries: Vec<Value> = serde_json::from_str(&text).unwrap();
        if entries.len() > 1_000 {
            return 413;
        }
        let mut at = 1;
        for entry in entries {
            let end = scan::value(text.as_bytes(), at, &mut scan::Ignore).unwrap();
            if end - at > 1_000_000 {
                taken.complaints.push("an entry is above 1 MB: it would be cut".to_owned());
            }
            // The comma.
            at = end + 1;
            taken.complaints.extend(complaints(&entry));
            let text = entry["message"].as_str().unwrap_or_default();
            let inside: Value = serde_json::from_str(text).unwrap_or_default();
            let uid = entry["auditship"]["uid"].as_str().or(inside["auditship"]["uid"].as_str());
            let uid = uid.unwrap().to_owned();
            taken.entries.entry(uid).or_default().push(entry);
        }
        202
    }
}

/// What Datadog documents of an entry, and this one has not.
fn complaints(entry: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let (mut attributes, mut levels, mut longest) = (0, 0, 0);
    measure(entry, 1, &mut attributes, &mut levels, &mut longest);
    if attributes >= 256 || levels >= 10 || longest >= 50 {
        found.push(format!("{attributes} attributes, {levels} levels, a key of {longest}"));
    }
    for word in ["ddsource", "ddtags", "hostname", "service", "message"] {
        if !entry[word].is_string() {
            found.push(format!("no {word}"));
        }
    }
    let tags = entry["ddtags"].as_str().unwrap_or_default();
    let fits = |c: char| c.is_alphanumeric() || "_-:./".contains(c);
    for tag in tags.split(',') {
        let well =
            tag.starts_with(char::is_alphabetic) && tag.chars().all(fits) && tag.chars().count() <= 200;
        if !well || !tag.contains(':') || tag.to_lowercase() != tag {
            found.push(format!("tag {tag}"));
        }
    }
    if tags.split(',').count() > 100 {
        found.push("more than 100 tags".to_owned());
    }
    let age = BEGAN / 1_000 - entry["timestamp"].as_i64().unwrap_or_default();
    if age > 18 * 3_600_000 {
        found.push(format!("{age} ms old"));
    }
    found
}

fn measure(value: &Value, level: usize, attributes: &mut usize, levels: &mut usize, longest: &mut usize) {
    *levels = (*levels).max(level);
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                *longest = (*longest).max(key.len());
                measure(value, level + 1, attributes, levels, longest);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().for_each(|item| measure(item, level, attributes, levels, longest));
        }
        _ => *attributes += 1,
    }
}

impl Door for DatadogMock {
    fn perform(&self, op: Op) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let Op::Http { url, headers, body, .. } = op else { panic!("{op:?}") };
        let status = self.answer(&url, &headers, &body);
        Box::pin(async move { Reply::Http { status, headers: HeaderMap::new(), body: "{}".into() } })
    }
}

fn build(more: Value) -> Built {
    let mut options = json!({"site": "us5.datadoghq.com", "auth": {"api_key": "secret"}});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Config::deserialize("datadog", options).unwrap().unwrap().build(&crate::context()).unwrap()
}

/// Some thousand lines of a real API server, with their bodies.
fn real_lines() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/requestresponse.jsonl.gz");
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut text).unwrap();
    // What is no UTF-8 does not leave redaction.
    let lines: Vec<String> = String::from_utf8_lossy(&text).lines().step_by(4).map(str::to_owned).collect();
    lines.into_iter().filter(|line| serde_json::from_str::<Value>(line).is_ok()).collect()
}

#[test]
fn real_events_are_within_every_limit() {
    let lines = real_lines();
    for more in [json!({}), json!({"shape": "raw", "compression": "gzip"})] {
        let mock = DatadogMock::new(&[]);
        let shipped = stopped::ship(build(more), mock.clone(), &lines);
        shipped.check_acks(lines.len(), "real");
        assert_eq!(shipped.dead().len(), 0);
        let taken = mock.taken.lock().unwrap();
        assert_eq!(taken.complaints, Vec::<String>::new());
        assert_eq!(taken.entries.values().map(Vec::len).sum::<usize>(), lines.len());
        // Each is the event that was sent under its uid.
        for line in &lines {
            let entry = &taken.entries[&crate::keys().uid(line.as_bytes()).to_string()][0];
            let event: Value = serde_json::from_str(line).unwrap();
            let sent =
                match entry["message"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok()) {
                    Some(whole) => whole,
                    None => entry.clone(),
                };
            assert_eq!(sent["auditID"], event["auditID"]);
            assert_eq!(sent["objectRef"], event["objectRef"]);
        }
    }
}

#[test]
fn large_events_are_trimmed_and_batches_cut() {
    let mut lines: Vec<String> = (0..2_500).map(|n| format!("{{\"verb\":\"get\",\"n\":{n}}}")).collect();
    let big = "x".repeat(1_200_000);
    lines[7] =
        format!("{{\"kind\":\"Event\",\"n\":7,\"verb\":\"create\",\"requestObject\":{{\"a\":\"{big}\"}}}}");
    lines[8] = format!("{{\"verb\":\"get\",\"n\":8,\"annotations\":{{\"a\":\"{big}\"}}}}");
    // Escaping makes this one too long.
    lines[9] =
        format!("{{\"kind\":\"Event\",\"n\":9,\"responseObject\":{{\"a\":\"{}\"}}}}", "\\\"".repeat(300_000));
    let mock = DatadogMock::new(&[]);
    let shipped = stopped::ship(build(json!({})), mock.clone(), &lines);
    shipped.check_acks(lines.len(), "large");
    assert_eq!((shipped.dead().len(), shipped.stats.trimmed.load(Relaxed)), (0, 3));
    let taken = mock.taken.lock().unwrap();
    assert_eq!(taken.complaints, Vec::<String>::new());
    assert_eq!(taken.requests, 3);
    let entry = &taken.entries[&crate::keys().uid(lines[7].as_bytes()).to_string()][0];
    assert_eq!((&entry["verb"], &entry["requestObject"]), (&json!("create"), &Value::Null));
    assert_eq!(entry["auditship"]["trimmed"], json!(["managedFields", "responseObject", "requestObject"]));
}

#[test]
fn what_datadog_takes_no_more_for_its_age_is_kept() {
    // The records are a second apart; five of them are older than what is tried.
    let late = || jiff::Timestamp::from_microsecond(BEGAN + (18 * 3600 - 300 + 5) * 1_000_000).unwrap();
    let lines: Vec<String> = (0..9).map(|n| format!("{{\"kind\":\"Event\",\"n\":{n}}}")).collect();
    let mock = DatadogMock::new(&[]);
    let shipped = stopped::ship_at(late, build(json!({})), mock.clone(), &lines);
    shipped.check_acks(9, "old");
    assert_eq!((shipped.dead(), shipped.stats.too_old.load(Relaxed)), ((0..5).collect(), 5));
    assert_eq!(mock.taken.lock().unwrap().entries.len(), 4);
}

#[test]
fn answers() {
    let lines: Vec<String> = (0..9).map(|n| format!("{{\"kind\":\"Event\",\"n\":{n}}}")).collect();
    for (script, splits, dead) in [
        (&[429, 503, 500, 408][..], 0, 0),
        (&[401, 403], 0, 0),
        // All of it, then the first half; the other half is as large, and is not tried.
        (&[413, 413], 3, 0),
        // All of it, then both halves, down to one that is refused alone.
        (&[400, 400, 400, 400], 3, 1),
    ] {
        let mock = DatadogMock::new(script);
        let shipped = stopped::ship(build(json!({})), mock.clone(), &lines);
        shipped.check_acks(9, "answers");
        assert_eq!(shipped.stats.splits.load(Relaxed), splits, "{script:?}");
        assert_eq!(shipped.dead().len(), dead, "{script:?}");
        assert_eq!(mock.taken.lock().unwrap().entries.len(), 9 - dead, "{script:?}");
    }
}
