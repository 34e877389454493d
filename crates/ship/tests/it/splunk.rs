//! `splunk_hec` against a collector that is played, after Splunk's documentation: reply codes, acknowledgements that
//! come later or never, two indexers behind a balancer, restarts.

use crate::stopped::{self, Shipped};
use auditship_ship::sinks::{Built, Config};
use auditship_ship::{Door, Failure, Op, Phase, Reply};
use http::HeaderMap;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io::Read;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the collector does with one request for events instead of taking it.
#[derive(Clone, Debug)]
enum Twist {
    /// This status and code.
    Code(u16, u16),
    /// Takes it and promises an acknowledgement that never comes: what it held is lost.
    Lose,
    /// Takes it, then loses what it has not indexed, and its counters, before it is asked.
    Restart,
    /// Takes it; the answer does not arrive.
    Break,
    /// Somebody turns indexer acknowledgement off at the token, for so many questions: before it is taken, or after.
    Off(u32, When),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Before,
    After,
}

/// What is known about one request that waits for its acknowledgement.
struct Pending {
    uids: Vec<String>,
    /// Questions until it is indexed; never where there is none.
    left: Option<u32>,
}

#[derive(Default)]
struct Indexer {
    /// By channel: the next id and what waits.
    channels: BTreeMap<String, (u64, BTreeMap<u64, Pending>)>,
    /// It does not answer so many questions more: it is starting.
    down: u32,
}

/// A collector as Splunk documents it. Not Splunk.
struct SplunkMock {
    state: Mutex<State>,
    /// The token has indexer acknowledgement; a request is indexed after so many questions.
    ack_after: Option<u32>,
    /// The balancer names the indexer in a cookie.
    cookies: bool,
    /// What stood before a bad event is indexed. Splunk does not say whether it does that.
    keeps_prefix: bool,
}

#[derive(Default)]
struct State {
    indexers: Vec<Indexer>,
    turn: usize,
    /// So many questions more are answered that acknowledgement is turned off; then somebody turns it on.
    off: u32,
    twists: VecDeque<Twist>,
    /// How often each uid was indexed.
    indexed: BTreeMap<String, usize>,
    /// What a collector would complain about.
    complaints: Vec<String>,
}

/// An event with this is refused in any form.
const FATAL: &str = "\"fatal\"";

impl SplunkMock {
    fn new(twists: &[Twist]) -> SplunkMock {
        let state = State {
            indexers: vec![Indexer::default()],
            twists: twists.iter().cloned().collect(),
            ..State::default()
        };
        SplunkMock { state: Mutex::new(state), ack_after: None, cookies: false, keeps_prefix: false }
    }

    fn acknowledging(twists: &[Twist], ack_after: u32, indexers: usize) -> SplunkMock {
        let mock = SplunkMock { ack_after: Some(ack_after), cookies: true, ..SplunkMock::new(twists) };
        mock.state.lock().unwrap().indexers.resize_with(indexers, Indexer::default);
        mock
    }

    fn answer(&self, url: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        let mut state = self.state.lock().unwrap();
        let header = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
        if header("authorization").as_deref() != Some("Splunk secret") {
            return reply(401, &[], json!({"text": "Invalid authorization", "code": 3}));
        }
        let channel = header("x-splunk-request-channel");
        if self.ack_after.is_some() && channel.is_none() {
            return reply(400, &[], json!({"text": "Data channel is missing", "code": 10}));
        }
        let channel = channel.unwrap_or_default();
        let count = state.indexers.len();
        let cookie = header("cookie").and_then(|c| c.strip_prefix("indexer=")?.parse::<usize>().ok());
        let at = cookie.unwrap_or_else(|| {
            state.turn += 1;
            state.turn % count
        });
        let name = format!("indexer={at}; Path=/; HttpOnly");
        let set: &[(&'static str, &str)] = if self.cookies { &[("set-cookie", name.as_str())] } else { &[] };
        if url.ends_with("/services/collector/health") {
            return reply(200, set, json!({"text": "HEC is healthy", "code": 17}));
        }
        if body.is_empty() {
            return reply(400, set, json!({"text": "No data", "code": 5}));
        }
        if url.ends_with("/services/collector/ack") && (self.ack_after.is_none() || state.off > 0) {
            state.off = state.off.saturating_sub(1);
            return reply(400, set, json!({"text": "ACK is disabled", "code": 14}));
        }
        if url.ends_with("/services/collector/ack") {
            return reply_or_down(&mut state, at, &channel, body, set);
        }
        if !url.ends_with("/services/collector/event") {
            return reply(404, set, json!({"text": "The requested URL was not found", "code": 404}));
        }
        if header("content-encoding").as_deref() != Some("gzip") {
            state.complaints.push("not gzip".to_owned());
        }
        self.take_events(&mut state, at, &channel, body, set)
    }

    fn take_events(
        &self,
        state: &mut State,
        at: usize,
        channel: &str,
        body: &[u8],
        set: &[(&'static str, &str)],
    ) -> Reply {
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(body).read_to_string(&mut text).unwrap();
        if text.len() > 1_000_000 {
            state.complaints.push("above 1 MB".to_owned());
        }
        let twist = state.twists.pop_front();
        if let Some(Twist::Code(status, code)) = twist {
            return reply(status, set, json!({"text": "as told", "code": code}));
        }
        let mut uids = Vec::new();
        for (number, event) in serde_json::Deserializer::from_str(&text).into_iter::<Value>().enumerate() {
            let event = event.unwrap();
            state.complaints.extend(complaints(&event));
            if event.to_string().contains(FATAL) {
                if self.keeps_prefix {
                    index(state, uids);
                }
                return reply(
                    400,
                    set,
                    json!({"text": "Invalid data format", "code": 6, "invalid-event-number": number}),
                );
            }
            uids.push(event["fields"]["uid"].as_str().unwrap().to_owned());
        }
        if let Some(Twist::Off(questions, When::Before)) = twist {
            state.off = questions;
        }
        let promises = self.ack_after.filter(|_| state.off == 0);
        let Some(ack_after) = promises else {
            index(state, uids);
            return match twist {
                Some(Twist::Break) => broken(Failure::Reset),
                _ => reply(200, set, json!({"text": "Success", "code": 0})),
            };
        };
        let left = (!matches!(twist, Some(Twist::Lose))).then_some(ack_after);
        let (next, pending) = state.indexers[at].channels.entry(channel.to_owned()).or_default();
        let id = *next;
        *next += 1;
        pending.insert(id, Pending { uids, left });
        match twist {
            Some(Twist::Restart) => {
                state.indexers[at] = Indexer { down: 1, ..Indexer::default() };
            }
            Some(Twist::Off(questions, When::After)) => {
                let uids = std::mem::take(&mut pending.get_mut(&id).unwrap().uids);
                index(state, uids);
                state.off = questions;
            }
            Some(Twist::Break) => {
                // It is indexed although nobody will ever ask.
                let uids = std::mem::take(&mut pending.get_mut(&id).unwrap().uids);
                index(state, uids);
                return broken(Failure::Timeout);
            }
            _ => {}
        }
        reply(200, set, json!({"text": "Success", "code": 0, "ackId": id}))
    }
}

/// The answer to a question: only of what is known here, and `true` once.
fn reply_or_down(
    state: &mut State,
    at: usize,
    channel: &str,
    body: &[u8],
    set: &[(&'static str, &str)],
) -> Reply {
    let indexer = &mut state.indexers[at];
    if indexer.down > 0 {
        indexer.down -= 1;
        return broken(Failure::Connect);
    }
    let asked: Value = serde_json::from_slice(body).unwrap();
    let (mut answers, mut done) = (serde_json::Map::new(), Vec::new());
    for id in asked["acks"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()) {
        let known = indexer.channels.get_mut(channel).and_then(|(_, pending)| pending.get_mut(&id));
        let indexed = match known.map(|pending| &mut pending.left) {
            Some(Some(0)) => true,
            Some(Some(left)) => {
                *left -= 1;
                false
            }
            _ => false,
        };
        if indexed {
            done.push(id);
        }
        answers.insert(id.to_string(), json!(indexed));
    }
    for id in done {
        let uids = state.indexers[at].channels.get_mut(channel).unwrap().1.remove(&id).unwrap().uids;
        index(state, uids);
    }
    reply(200, set, json!({ "acks": answers }))
}

fn index(state: &mut State, uids: Vec<String>) {
    uids.into_iter().for_each(|uid| *state.indexed.entry(uid).or_default() += 1);
}

/// What Splunk documents of an event, and this one has not.
fn complaints(event: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if !event["time"].is_f64() {
        found.push("time is no number of seconds".to_owned());
    }
    for word in ["host", "source", "sourcetype", "index"] {
        if !event[word].is_string() {
            found.push(format!("no {word}"));
        }
    }
    if event["fields"].as_object().is_none_or(|fields| fields.values().any(Value::is_object)) {
        found.push("fields are not flat".to_owned());
    }
    if event["event"].is_null() {
        found.push("no event".to_owned());
    }
    found
}

fn reply(status: u16, headers: &[(&'static str, &str)], body: Value) -> Reply {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().unwrap());
    }
    Reply::Http { status, headers: map, body: body.to_string().into() }
}

fn broken(kind: Failure) -> Reply {
    Reply::Failed { kind, text: "broken".to_owned() }
}

impl Door for SplunkMock {
    fn perform(&self, op: Op) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let Op::Http { url, headers, body, .. } = op else { panic!("{op:?}") };
        let reply = self.answer(&url, &headers, &body);
        Box::pin(async { reply })
    }
}

fn build(more: Value) -> Built {
    let mut options =
        json!({"endpoint": "https://splunk", "auth": {"token": "secret"}, "batch": {"events": 5}});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Config::deserialize("splunk_hec", options).unwrap().unwrap().build(&crate::context()).unwrap()
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{{\"kind\":\"Event\",\"n\":{n}}}")).collect()
}

/// Ships, and gives how often each of the lines was indexed.
fn ship(mock: SplunkMock, more: Value, lines: &[String], case: &str) -> (Shipped, Vec<usize>) {
    let mock = Arc::new(mock);
    let shipped = stopped::ship(build(more), mock.clone(), lines);
    shipped.check_acks(lines.len(), case);
    let state = mock.state.lock().unwrap();
    assert_eq!(state.complaints, Vec::<String>::new(), "{case}");
    let times = |line: &String| {
        state.indexed.get(&crate::keys().uid(line.as_bytes()).to_string()).copied().unwrap_or_default()
    };
    (shipped, lines.iter().map(times).collect())
}

fn with_acks() -> Value {
    json!({"acknowledgement": true})
}

#[test]
fn acknowledgements_may_come_later() {
    for (ack_after, seconds) in [(0, 1), (1, 3), (4, 23)] {
        let mock = SplunkMock::acknowledging(&[], ack_after, 1);
        let (shipped, times) = ship(mock, with_acks(), &lines(12), "later");
        assert_eq!(times, [1; 12]);
        assert_eq!(shipped.stats.retries.load(Relaxed), 0);
        // Questions after 1, 2, 4, 8 and 8 seconds; of three batches two are under way at first.
        let took = shipped.took.as_secs();
        assert!((seconds..=2 * seconds).contains(&took), "{ack_after}: {took}");
    }
}

#[test]
fn cookies_lead_to_the_indexer_that_has_the_batch() {
    // Both count their ids from zero, for the same channel.
    let mock = SplunkMock::acknowledging(&[], 2, 2);
    let (shipped, times) = ship(mock, with_acks(), &lines(40), "two indexers");
    assert_eq!(times, [1; 40]);
    assert_eq!(shipped.stats.retries.load(Relaxed), 0);
}

#[test]
fn without_cookies_nothing_is_lost_and_no_id_is_believed_twice() {
    let mock = SplunkMock { cookies: false, ..SplunkMock::acknowledging(&[], 1, 2) };
    let (shipped, times) =
        ship(mock, json!({"acknowledgement": true, "concurrency": 1}), &lines(40), "no cookies");
    assert!(times.iter().all(|times| *times > 0), "{times:?}");
    let repeated: usize = times.iter().map(|times| times - 1).sum();
    assert!(repeated <= 5 * shipped.stats.ambiguous_retries.load(Relaxed) as usize);
}

#[test]
fn what_is_never_acknowledged_is_sent_again() {
    let mock = SplunkMock::acknowledging(&[Twist::Lose], 0, 1);
    let (shipped, times) = ship(mock, with_acks(), &lines(3), "lost");
    assert_eq!(times, [1; 3]);
    assert_eq!(shipped.stats.ambiguous_retries.load(Relaxed), 1);
    assert!((290..320).contains(&shipped.took.as_secs()), "{:?}", shipped.took);
    let options = json!({"acknowledgement": true, "ack_timeout": "30s"});
    let (shipped, _) = ship(SplunkMock::acknowledging(&[Twist::Lose], 0, 1), options, &lines(3), "lost");
    assert!(shipped.took < Duration::from_secs(40), "{:?}", shipped.took);
}

#[test]
fn a_restart_loses_nothing_and_no_other_batch_answers_for_what_it_lost() {
    // After it the ids begin at 0 again.
    let mock = SplunkMock::acknowledging(&[Twist::Restart, Twist::Restart], 3, 1);
    let (shipped, times) = ship(mock, with_acks(), &lines(20), "restart");
    assert_eq!(times, [1; 20]);
    assert_eq!(shipped.stats.ambiguous_retries.load(Relaxed), 2);
    assert_eq!(shipped.stats.state().phase, Phase::Ok);
}

#[test]
fn a_lost_answer_is_an_ambiguous_retry() {
    for (mock, more) in [
        (SplunkMock::new(&[Twist::Break]), json!({})),
        (SplunkMock::acknowledging(&[Twist::Break], 0, 1), with_acks()),
    ] {
        let (shipped, times) = ship(mock, more, &lines(3), "broken");
        assert_eq!(times, [2; 3]);
        assert_eq!(shipped.stats.ambiguous_retries.load(Relaxed), 1);
    }
}

#[test]
fn one_bad_event_costs_its_neighbours_nothing() {
    let mut lines = lines(20);
    for n in [1, 3, 13] {
        lines[n] = format!("{{\"kind\":\"Event\",\"n\":{n},\"fatal\":1}}");
    }
    // Whichever of the two Splunk does.
    for keeps_prefix in [false, true] {
        for more in [json!({}), with_acks()] {
            let ack_after = more["acknowledgement"].as_bool().map(|_| 0);
            let mock = SplunkMock { keeps_prefix, ack_after, ..SplunkMock::new(&[]) };
            let (shipped, times) = ship(mock, more, &lines, "bad events");
            assert_eq!(shipped.dead(), [1, 3, 13].into());
            // Those before each of the three, at most: no other repetition is possible.
            assert_eq!(shipped.stats.ambiguous_retries.load(Relaxed), 3);
            for (n, times) in times.into_iter().enumerate() {
                match n {
                    1 | 3 | 13 => assert_eq!(times, 0),
                    _ if keeps_prefix => assert!((1..=2).contains(&times), "{n}: {times}"),
                    _ => assert_eq!(times, 1, "{n}"),
                }
            }
        }
    }
}

#[test]
fn every_code_passes_and_the_right_ones_hold() {
    for (status, code, phase) in [
        (403, 1, Phase::Held),
        (401, 2, Phase::Held),
        (403, 4, Phase::Held),
        (400, 5, Phase::Held),
        (400, 7, Phase::Held),
        (500, 8, Phase::Retrying),
        (503, 9, Phase::Retrying),
        (400, 11, Phase::Held),
        (400, 14, Phase::Held),
        (400, 16, Phase::Held),
        (503, 18, Phase::Retrying),
        (503, 19, Phase::Retrying),
        (503, 20, Phase::Retrying),
        (400, 22, Phase::Held),
        (503, 23, Phase::Retrying),
        (429, 26, Phase::Retrying),
        (429, 27, Phase::Retrying),
    ] {
        let case = format!("code {code}");
        let (shipped, times) =
            ship(SplunkMock::new(&[Twist::Code(status, code)]), json!({}), &lines(3), &case);
        assert_eq!(times, [1; 3], "{case}");
        let error = shipped.stats.state().last_error.unwrap();
        assert!(error.starts_with(&format!("http {status}, code {code}: ")), "{error}");
        // A hold waits for somebody: half a minute at most, and some seconds at least.
        assert_eq!(shipped.took > Duration::from_secs(5), phase == Phase::Held, "{case}: {:?}", shipped.took);
    }
}

#[test]
fn a_token_with_acknowledgement_wants_the_option() {
    let mock = SplunkMock { ack_after: Some(0), ..SplunkMock::new(&[]) };
    let built = build(json!({}));
    let batch = crate::batches(&built.sink, &lines(1)).remove(0);
    let asked = built.sink.request(&batch);
    let Op::Http { url, headers, body, .. } = &asked else { panic!("not http") };
    let told = format!("{:?}", built.sink.judge(&batch, &asked, &mock.answer(url, headers, body)));
    assert!(told.contains("set `acknowledgement: true`"), "{told}");
}

#[test]
fn acknowledgement_that_is_turned_off_holds_and_repeats_nothing() {
    for (case, twists, off, held) in [
        ("off from the start", vec![], 4, true),
        ("turned off", vec![Twist::Off(3, When::Before)], 0, true),
        // It only asks for longer.
        ("turned off while the only batch under way waits", vec![Twist::Off(3, When::After)], 0, false),
    ] {
        let mock = SplunkMock::acknowledging(&twists, 1, 1);
        mock.state.lock().unwrap().off = off;
        let options = json!({"acknowledgement": true, "concurrency": 1});
        let (shipped, times) = ship(mock, options, &lines(20), case);
        assert_eq!(times, [1; 20], "{case}");
        let error = shipped.stats.state().last_error.unwrap_or_default();
        let told = error.starts_with("http 400, code 14: ") && error.contains("`Enable indexer");
        assert_eq!((told, error.is_empty()), (held, !held), "{case}: {error}");
        assert!(shipped.took > Duration::from_secs(30), "{case}: {:?}", shipped.took);
        assert_eq!(shipped.stats.state().phase, Phase::Ok, "{case}");
    }
}

#[test]
fn check_says_what_is_wrong_with_the_token() {
    let plain = || SplunkMock::new(&[]);
    for (mock, more, want) in [
        (plain(), json!({}), "Good(\"the token is known; "),
        (plain(), json!({"auth": {"token": "wrong"}}), "Bad { text: \"http 401, code 3: "),
        (
            plain(),
            with_acks(),
            "Bad { text: \"http 400, code 14: the token has indexer acknowledgement turned off\"",
        ),
        (
            SplunkMock::acknowledging(&[], 0, 1),
            json!({}),
            "Bad { text: \"http 400, code 10: the token wants indexer",
        ),
        (
            SplunkMock::acknowledging(&[], 0, 1),
            with_acks(),
            "Good(\"the token has indexer acknowledgement\")",
        ),
    ] {
        let sink = build(more.clone()).sink;
        let verdict = |asked: &Op| {
            let Op::Http { url, headers, body, .. } = asked else { panic!("not http") };
            sink.judge_probe(asked, &mock.answer(url, headers, body))
        };
        let told: Vec<String> = sink.probe(&[]).iter().map(|asked| format!("{:?}", verdict(asked))).collect();
        assert!(told.iter().any(|told| told.starts_with(want)), "{more}: {told:?}");
        assert_eq!(told.iter().all(|told| told.starts_with("Good")), want.starts_with("Good"), "{told:?}");
        assert!(mock.state.lock().unwrap().indexed.is_empty());
    }
}

fn twist() -> impl Strategy<Value = Twist> {
    prop_oneof![
        prop::sample::select(vec![
            (400, 7),
            (503, 9),
            (500, 8),
            (413, 6),
            (400, 6),
            (200, 17),
            (429, 26),
            (404, 404)
        ])
        .prop_map(|(status, code)| Twist::Code(status, code)),
        Just(Twist::Lose),
        Just(Twist::Restart),
        Just(Twist::Break),
        (0u32..4, prop::sample::select(vec![When::Before, When::After]))
            .prop_map(|(questions, when)| Twist::Off(questions, when)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_happens_every_event_is_indexed_or_kept(
        twists in prop::collection::vec(twist(), 0..12),
        ack_after in prop::option::of(0u32..4),
        indexers in 1usize..3,
        count in 1usize..30,
        fatal in prop::collection::btree_set(0usize..30, 0..4),
    ) {
        let mut lines = lines(count);
        for n in fatal.iter().filter(|n| **n < count) {
            lines[*n] = format!("{{\"kind\":\"Event\",\"n\":{n},\"fatal\":1}}");
        }
        let acks = ack_after.is_some();
        let mock = SplunkMock { ack_after, ..SplunkMock::acknowledging(&twists, 0, indexers) };
        let more = if acks { with_acks() } else { json!({}) };
        let (shipped, times) = ship(mock, more, &lines, "any");
        let dead = shipped.dead();
        for (n, times) in times.into_iter().enumerate() {
            prop_assert!(times > 0 || dead.contains(&(n as u64)), "{} is lost", n);
        }
    }
}
