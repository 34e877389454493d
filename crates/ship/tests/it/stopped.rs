//! One output in stopped time, against a backend that is played: what it was sent, what came of it, how long it took.

use crate::{BEGAN, batches};
use auditship_ship::shipper::Doors;
use auditship_ship::sinks::Built;
use auditship_ship::{Ack, Door, Op, Options, Reply, Settled, Shipper, Stats};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// What came of shipping some lines.
pub(crate) struct Shipped {
    pub(crate) acks: Vec<Ack>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) dead_letters: usize,
    pub(crate) took: Duration,
}

impl Shipped {
    /// One acknowledgement for each of `count` records.
    pub(crate) fn check_acks(&self, count: usize, case: &str) {
        let mut tickets: Vec<u64> = self.acks.iter().map(|ack| ack.ticket).collect();
        tickets.sort_unstable();
        assert_eq!(tickets, (0..count as u64).collect::<Vec<_>>(), "{case}");
        assert_eq!(self.dead().len(), self.dead_letters, "{case}");
    }

    /// The tickets of what was dead-lettered.
    pub(crate) fn dead(&self) -> BTreeSet<u64> {
        self.acks.iter().filter(|ack| ack.result != Settled::Delivered).map(|ack| ack.ticket).collect()
    }
}

/// Ships `lines` to `backend` at the time of the first of them.
pub(crate) fn ship(built: Built, backend: Arc<dyn Door>, lines: &[String]) -> Shipped {
    ship_at(|| jiff::Timestamp::from_microsecond(BEGAN).unwrap(), built, backend, lines)
}

/// Ships `lines` to `backend` while the clock shows the time `wall_clock`.
pub(crate) fn ship_at(
    wall_clock: fn() -> jiff::Timestamp,
    built: Built,
    backend: Arc<dyn Door>,
    lines: &[String],
) -> Shipped {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (tx, rx) = tokio::sync::mpsc::channel(1000);
        let (acks, acked) = crossbeam_channel::unbounded();
        let (stats, dead) = (Arc::new(Stats::new()), Arc::new(Letters::default()));
        let doors = Doors { backend, dead_letters: dead.clone() };
        let options = Options { wall_clock, ..built.options };
        let start = Instant::now();
        let sink = built.sink;
        let shipper =
            Shipper::spawn(&Handle::current(), sink.clone(), doors, options, rx, acks, stats.clone());
        for batch in batches(&sink, lines) {
            tx.send(batch).await.unwrap();
        }
        drop(tx);
        assert!(shipper.drain(Duration::from_secs(24 * 3600)).await, "the output has not ended");
        let dead_letters = *dead.0.lock().unwrap();
        Shipped { acks: acked.try_iter().collect(), stats, dead_letters, took: start.elapsed() }
    })
}

/// Counts the letters that it gets.
#[derive(Default)]
struct Letters(Mutex<usize>);

impl Door for Letters {
    fn perform(&self, op: Op) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let Op::Append { bytes } = op else { panic!("{op:?}") };
        *self.0.lock().unwrap() += bytes.iter().filter(|byte| **byte == b'\n').count();
        Box::pin(async { Reply::Done })
    }
}
