//! The driver in stopped time, against scripted outcomes: every record is acknowledged exactly once.

use crate::{BEGAN, batches};
use auditship_event::Record;
use auditship_ship::shipper::Doors;
use auditship_ship::{
    Ack, Batch, Context, Door, Encoding, Failure, Fallback, Limits, Op, Options, Outcome, Phase, Refusal,
    Reply, Settled, Shipper, Sink, Stats,
};
use http::HeaderMap;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// One scripted outcome; the numbers pick records.
#[derive(Clone, Debug)]
enum Step {
    Delivered,
    Partial { retry: u64, reject: u64 },
    Split,
    Retry,
    Hold,
    Reject,
    PartialCount(u64),
    Stopped(usize),
    Ask { after: u64 },
}

/// Judges as scripted, then all is delivered.
#[derive(Default)]
struct Scripted {
    steps: Mutex<VecDeque<Step>>,
    /// More raw bytes than this are too much.
    takes: Option<usize>,
    /// Its batches become objects.
    objects: bool,
}

impl Sink for Scripted {
    fn kind(&self) -> &'static str {
        "scripted"
    }
    fn limits(&self) -> Limits {
        Limits {
            bytes: 1 << 20,
            packed_bytes: None,
            whole_lines: false,
            events: 7,
            age: Duration::from_secs(1),
            event_bytes: None,
            event_age: Some(Duration::from_secs(3600)),
        }
    }
    fn encoding(&self) -> Encoding {
        Encoding::Zstd
    }
    fn frame(&self, record: &Record<'_>, _: &Context, out: &mut Vec<u8>) -> Range<usize> {
        record.body.write(out);
        out.push(b'\n');
        0..record.body.len()
    }
    fn object(&self, batch: &Batch) -> Option<String> {
        self.objects.then(|| batch.id.to_string())
    }
    fn request(&self, batch: &Batch) -> Op {
        Op::Append { bytes: batch.body.clone() }
    }
    fn judge(&self, batch: &Batch, _: &Op, reply: &Reply) -> Outcome {
        if let Some(outcome) = reply.outcome() {
            return outcome;
        }
        if self.takes.is_some_and(|takes| batch.raw_len > takes) {
            return Outcome::Split;
        }
        let refusal = Refusal { status: 400, reason: "400 scripted".to_owned() };
        let picked = |mask: u64| (0..batch.records.len()).filter(move |at| mask >> at & 1 == 1);
        let reason = "scripted".to_owned();
        match self.steps.lock().unwrap().pop_front() {
            None | Some(Step::Delivered) => Outcome::Delivered,
            Some(Step::Partial { retry, reject }) => Outcome::Partial {
                retry: picked(retry).collect(),
                reject: picked(reject).map(|at| (at, refusal.clone())).collect(),
                reason,
            },
            Some(Step::Split) => Outcome::Split,
            Some(Step::Retry) => Outcome::Retry { after: None, reason },
            Some(Step::Hold) => Outcome::Hold { reason },
            Some(Step::Reject) => Outcome::Reject(refusal),
            Some(Step::Ask { after }) => {
                Outcome::Ask { op: self.request(batch), after: Duration::from_secs(after) }
            }
            Some(Step::Stopped(at)) => Outcome::Stopped { at: at % batch.records.len(), refusal },
            Some(Step::PartialCount(rejected)) => Outcome::PartialCount { rejected, refusal },
        }
    }
}

/// Gives replies in turn, then `Done`; keeps what it was given and when.
#[derive(Default)]
struct Replies {
    script: Mutex<VecDeque<Reply>>,
    taken: Mutex<Vec<(Instant, Vec<u8>)>>,
    hang: bool,
}

impl Door for Replies {
    fn perform(&self, op: Op) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        Box::pin(async move {
            if self.hang {
                std::future::pending::<()>().await;
            }
            let Op::Append { bytes } = op else { panic!("{op:?}") };
            self.taken.lock().unwrap().push((Instant::now(), bytes.to_vec()));
            self.script.lock().unwrap().pop_front().unwrap_or(Reply::Done)
        })
    }
}

struct Run {
    acks: Vec<Ack>,
    stats: Arc<Stats>,
    ended: bool,
    took: Duration,
}

/// Ships `count` records in stopped time.
fn run(steps: Vec<Step>, backend: Arc<Replies>, dead: Arc<dyn Door>, options: Options, count: usize) -> Run {
    let lines: Vec<String> = (0..count).map(|n| format!("{{\"n\":{n},\"requestObject\":[{n}]}}")).collect();
    let sink = Scripted { steps: Mutex::new(steps.into()), ..Scripted::default() };
    run_with(sink, backend, dead, options, &lines)
}

/// Ships `lines` in stopped time.
fn run_with(
    sink: Scripted,
    backend: Arc<Replies>,
    dead: Arc<dyn Door>,
    options: Options,
    lines: &[String],
) -> Run {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let sink: Arc<dyn Sink> = Arc::new(sink);
        let (tx, rx) = tokio::sync::mpsc::channel(100);
        let (acks, acked) = crossbeam_channel::unbounded();
        let stats = Arc::new(Stats::new());
        let doors = Doors { backend, dead_letters: dead };
        let start = Instant::now();
        let shipper =
            Shipper::spawn(&Handle::current(), sink.clone(), doors, options, rx, acks, stats.clone());
        for batch in batches(&sink, lines) {
            tx.send(batch).await.unwrap();
        }
        drop(tx);
        let ended = shipper.drain(Duration::from_secs(3600)).await;
        Run { acks: acked.try_iter().collect(), stats, ended, took: start.elapsed() }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Delivered),
        (any::<u64>(), any::<u64>()).prop_map(|(retry, reject)| Step::Partial { retry, reject }),
        Just(Step::Split),
        Just(Step::Retry),
        Just(Step::Hold),
        Just(Step::Reject),
        any::<u64>().prop_map(|rejected| Step::PartialCount(rejected % 9)),
        (0usize..9).prop_map(Step::Stopped),
        (0u64..40).prop_map(|after| Step::Ask { after }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_ticket_is_acknowledged_exactly_once(
        steps in prop::collection::vec(step(), 0..40),
        count in 1usize..40,
        concurrency in 1usize..9,
        seed in any::<u64>(),
    ) {
        let dead = Arc::new(Replies::default());
        let run = run(steps, Arc::default(), dead.clone(), Options { concurrency, seed, ..options() }, count);
        prop_assert!(run.ended);
        let mut tickets: Vec<u64> = run.acks.iter().map(|ack| ack.ticket).collect();
        tickets.sort_unstable();
        prop_assert_eq!(tickets, (0..count as u64).collect::<Vec<_>>());
        let buried: usize = dead.taken.lock().unwrap().iter()
            .map(|(_, letters)| letters.iter().filter(|byte| **byte == b'\n').count()).sum();
        let dead_acks = run.acks.iter().filter(|ack| ack.result != Settled::Delivered).count();
        prop_assert_eq!(buried, dead_acks);
        prop_assert_eq!(run.stats.dead_lettered.load(Relaxed) as usize, buried);
        prop_assert_eq!(run.stats.delivered_total().records as usize, count - buried);
        prop_assert_eq!(run.stats.in_flight_bytes.load(Relaxed), 0);
        prop_assert_eq!(run.stats.state().phase, Phase::Ok);
    }
}

/// Options at a time at which no record is too old.
fn options() -> Options {
    Options { wall_clock: || jiff::Timestamp::from_microsecond(BEGAN).unwrap(), ..Options::default() }
}

fn failed(kind: Failure) -> Reply {
    Reply::Failed { kind, text: "no luck".to_owned() }
}

#[test]
fn retry_after_is_honoured() {
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", "7".parse().unwrap());
    let reply = Reply::Http { status: 429, headers, body: "".into() };
    let backend = Arc::new(Replies { script: Mutex::new([reply].into()), ..Replies::default() });
    let run = run(vec![], backend.clone(), Arc::<Replies>::default(), options(), 1);
    let taken = backend.taken.lock().unwrap();
    let waited = taken[1].0 - taken[0].0;
    assert!((7..8).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(run.acks.len(), 1);
}

#[test]
fn an_hour_of_failure_costs_little_and_loses_nothing() {
    // Enough failures for about half an hour at up to a minute each.
    let script = (0..50).map(|_| failed(Failure::Connect)).collect();
    let backend = Arc::new(Replies { script: Mutex::new(script), ..Replies::default() });
    let run = run(vec![], backend.clone(), Arc::<Replies>::default(), options(), 20);
    assert!(run.ended && run.took > Duration::from_secs(600), "{:?}", run.took);
    assert_eq!(run.acks.len(), 20);
    // While the breaker is open the batches share one probe, so nothing is sent in between.
    assert_eq!(backend.taken.lock().unwrap().len(), 50 + 3);
    assert_eq!(run.stats.state().last_error.as_deref(), Some("no luck"));
}

#[test]
fn rate_limits_hold() {
    let options = Options { requests_rate: Some("1/s".parse().unwrap()), ..options() };
    let run = run(vec![], Arc::default(), Arc::<Replies>::default(), options, 7 * 11);
    assert_eq!(run.acks.len(), 77);
    assert!((9..12).contains(&run.took.as_secs()), "{:?}", run.took);
}

#[test]
fn what_the_backend_would_refuse_for_its_age_is_not_sent() {
    // An hour and five seconds after the first record: those of the first five seconds are too old.
    let late = || jiff::Timestamp::from_microsecond(BEGAN + 3_605_000_000).unwrap();
    let (backend, dead) = (Arc::new(Replies::default()), Arc::new(Replies::default()));
    let options = Options { wall_clock: late, ..options() };
    let run = run(vec![Step::Retry], backend.clone(), dead.clone(), options, 7);
    let reason = || Settled::DeadLettered { reason: "too_old".to_owned() };
    let old: Vec<u64> = run.acks.iter().filter(|ack| ack.result == reason()).map(|ack| ack.ticket).collect();
    assert_eq!((run.acks.len(), old), (7, vec![0, 1, 2, 3, 4]));
    assert_eq!(run.stats.too_old.load(Relaxed), 5);
    assert_eq!(backend.taken.lock().unwrap().len(), 2);
    assert_eq!(dead.taken.lock().unwrap().len(), 1);
}

/// `options` with a fallback to `other` after a minute.
fn falling_back(other: &Arc<Replies>, options: Options) -> Options {
    let sink: Arc<dyn Sink> = Arc::new(Scripted::default());
    let doors = Doors { backend: other.clone(), dead_letters: Arc::<Replies>::default() };
    let requests_rate = Some("6/m".parse().unwrap());
    let own = Options { output: "other".into(), requests_rate, ..options.clone() };
    let after = Duration::from_secs(60);
    let fallback = Fallback { after, sink, doors, options: own, context: crate::context() };
    Options { fallback: Some(Arc::new(fallback)), ..options }
}

#[test]
fn what_is_held_for_long_goes_to_the_fallback_until_the_output_is_back() {
    for (kind, times) in [(Failure::Tls, 6), (Failure::Connect, 12)] {
        let (backend, other) = (Arc::new(Replies::default()), Arc::new(Replies::default()));
        backend.script.lock().unwrap().extend((0..times).map(|_| failed(kind)));
        let run =
            run(vec![], backend.clone(), Arc::<Replies>::default(), falling_back(&other, options()), 700);
        let delivered = run.acks.iter().filter(|ack| ack.result == Settled::Delivered).count();
        assert_eq!((run.ended, run.acks.len(), delivered), (true, 700, 700));
        let (fell, came) = (run.stats.fallen_back.load(Relaxed), run.stats.delivered_total().records);
        assert_eq!(fell + came, 700);
        assert!(fell >= 7 && came >= 7, "{fell} {came}");
        assert!(run.took >= Duration::from_secs(60), "{:?}", run.took);
        assert_eq!(other.taken.lock().unwrap().len() as u64, fell / 7);
        assert_eq!(run.stats.state().phase, Phase::Ok);
    }
}

#[test]
fn a_fallback_takes_what_is_too_old() {
    let late = || jiff::Timestamp::from_microsecond(BEGAN + 3_605_000_000).unwrap();
    let (backend, other) = (Arc::new(Replies::default()), Arc::new(Replies::default()));
    let options = Options { wall_clock: late, ..falling_back(&other, options()) };
    let run = run(vec![], backend, Arc::<Replies>::default(), options, 7);
    assert!(run.acks.iter().all(|ack| ack.result == Settled::Delivered));
    assert_eq!((run.acks.len(), run.stats.fallen_back.load(Relaxed)), (7, 5));
}

#[test]
fn what_is_refused_without_a_name_is_kept_whole() {
    let dead = Arc::new(Replies::default());
    let run = run(vec![Step::PartialCount(2)], Arc::default(), dead.clone(), options(), 7);
    let reason = "2 of 7 refused, not told which: 400 scripted";
    assert!(run.acks.iter().all(|ack| ack.result == Settled::DeadLettered { reason: reason.to_owned() }));
    assert_eq!(run.stats.refused_unnamed.load(Relaxed), 2);
    let letters = dead.taken.lock().unwrap();
    assert_eq!(letters.iter().map(|(_, text)| text.split(|b| *b == b'\n').count() - 1).sum::<usize>(), 7);
}

#[test]
fn what_is_too_large_is_learnt() {
    // Seven records of four kilobytes in a batch; five batches.
    let lines: Vec<String> = (0..35).map(|n| format!("\"{n}{}\"", "x".repeat(4_000))).collect();
    let one_lane = Options { concurrency: 1, ..options() };
    let ship = |takes: usize, objects| {
        let sink = Scripted { takes: Some(takes << 10), objects, ..Scripted::default() };
        let backend = Arc::new(Replies::default());
        let run = run_with(sink, backend.clone(), Arc::<Replies>::default(), one_lane.clone(), &lines);
        let mut tickets: Vec<u64> = run.acks.iter().map(|ack| ack.ticket).collect();
        tickets.sort_unstable();
        assert_eq!(tickets, (0..35).collect::<Vec<_>>());
        assert!(run.acks.iter().all(|ack| ack.result == Settled::Delivered));
        let requests = backend.taken.lock().unwrap().len();
        assert_eq!(run.stats.requests.load(Relaxed) as usize, requests);
        (requests, run.stats.splits.load(Relaxed), run.stats.batch_bytes.load(Relaxed) >> 10)
    };
    assert_eq!(ship(100, false), (5, 0, 1024), "all fits");
    // One is refused; the next ones are halved before they are sent.
    assert_eq!(ship(20, false), (1 + 5 * 2, 5, 16));
    // The first half is refused too, and the other is no smaller: quarters are what is sent from then on, though no
    // limit is that small.
    assert_eq!(ship(10, false), (1 + 1 + 5 * 4, 5 * 3, 16));
    // What was written down is sent as it was: its object may exist.
    assert_eq!(ship(20, true), (5 * 3, 5, 16));
}

#[test]
fn questions_wait_but_not_for_ever() {
    let asks = |count| (0..count).map(|_| Step::Ask { after: 5 }).collect::<Vec<_>>();
    let backend = Arc::new(Replies::default());
    // After 5, 10 and 20 seconds.
    let answered = run(asks(3), backend.clone(), Arc::<Replies>::default(), options(), 1);
    assert_eq!((answered.acks.len(), answered.took.as_secs()), (1, 35));
    assert_eq!(answered.stats.retries.load(Relaxed), 0);
    // 40 seconds more would be beyond the minute of patience; the batch is sent again, and may be there already.
    let unanswered = run(asks(4), backend.clone(), Arc::<Replies>::default(), options(), 1);
    assert_eq!(unanswered.acks.len(), 1);
    assert_eq!(unanswered.stats.retries.load(Relaxed), 1);
    assert_eq!(unanswered.stats.ambiguous_retries.load(Relaxed), 1);
}

#[test]
fn a_command_gives_up_and_acknowledges_nothing() {
    for kind in [Failure::Connect, Failure::Tls] {
        let script = (0..10_000).map(|_| failed(kind)).collect();
        let backend = Arc::new(Replies { script: Mutex::new(script), ..Replies::default() });
        let give_up_after = Some(Duration::from_secs(100));
        let options = Options { give_up_after, ..options() };
        let run = run(vec![], backend, Arc::<Replies>::default(), options, 30);
        assert!(run.ended && run.acks.is_empty());
        assert_eq!(run.stats.abandoned.load(Relaxed), 30);
        assert!((100..160).contains(&run.took.as_secs()), "{:?}", run.took);
    }
}

#[test]
fn a_full_dead_letter_file_stops_the_output_and_drops_nothing() {
    let steps = || vec![Step::Partial { retry: 0, reject: 1 }, Step::Partial { retry: 0, reject: 1 }];
    let full = |times| (0..times).map(|_| failed(Failure::NoSpace)).collect();
    let dead = Arc::new(Replies { script: Mutex::new(full(10)), ..Replies::default() });
    let one_lane = Options { concurrency: 1, ..options() };
    let ended = run(steps(), Arc::default(), dead.clone(), one_lane.clone(), 7);
    assert!(ended.ended && ended.took > Duration::from_secs(100));
    assert_eq!(ended.acks.len(), 7);
    assert_eq!(ended.stats.dead_lettered.load(Relaxed), 1);
    assert_eq!(ended.stats.state().last_error.as_deref(), Some("dead letters: no luck"));

    let dead = Arc::new(Replies { script: Mutex::new(full(1_000_000)), ..Replies::default() });
    let stuck = run(steps(), Arc::default(), dead, one_lane, 14);
    assert!(!stuck.ended);
    assert_eq!(stuck.stats.state().phase, Phase::Held);
    assert_eq!(stuck.acks.len(), 6, "the neighbours are delivered, the next batch waits");

    // Of seven four are delivered, two are tried as strings (one of them is refused again), one waits its turn.
    let dead = Arc::new(Replies { script: Mutex::new(full(1_000_000)), ..Replies::default() });
    let give_up_after = Some(Duration::from_secs(100));
    let steps = vec![Step::Partial { retry: 0b10, reject: 0b101 }, Step::Partial { retry: 0, reject: 1 }];
    let options = Options { give_up_after, concurrency: 1, ..options() };
    let ended = run(steps, Arc::default(), dead, options, 7);
    assert!(ended.ended);
    assert_eq!((ended.acks.len(), ended.stats.abandoned.load(Relaxed)), (5, 2));
}

#[test]
fn a_drain_deadline_leaves_the_rest_unacknowledged() {
    let backend = Arc::new(Replies { hang: true, ..Replies::default() });
    let run = run(vec![], backend, Arc::<Replies>::default(), options(), 10);
    assert!(!run.ended && run.acks.is_empty());
}

#[test]
fn a_panic_ends_the_output_and_says_so() {
    /// Breaks an invariant.
    struct Broken;
    impl Door for Broken {
        fn perform(&self, _: Op) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
            panic!("on purpose")
        }
    }
    let steps = vec![Step::Reject, Step::Reject];
    let ended = run(steps, Arc::default(), Arc::new(Broken), options(), 1);
    assert!(!ended.ended && ended.acks.is_empty());
    assert!(ended.took < Duration::from_secs(60), "it is not waited for");
}
