//! From a planned output to a running one: its door, its shipper, and the channels to its consumer.
//!
//! A door: it opens sockets and directories through `auditship-ship`.

use crate::plan::{OutputPlan, Plan};
use anyhow::Context as _;
use auditship_ship::probe::{Finding, Grade};
use auditship_ship::shipper::Doors;
use auditship_ship::store::DeadLetters;
use auditship_ship::{Ack, Batch, Door, Fallback, Options, Shipper, Stats};
use crossbeam_channel::Receiver;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc;

/// The file of dead letters in the state directory.
pub const DEAD_LETTERS: &str = "dead-letters.ndjson";

/// Batches that wait between a consumer and its shipper.
const CHANNEL: usize = 2;

/// The dead-letter file never grows beyond this; a full one stops the output.
const DEAD_LETTER_BYTES: u64 = 256 << 20;

/// A running output, as its consumer sees it.
pub struct Running {
    /// The driver.
    pub shipper: Shipper,
    /// To it.
    pub batches: mpsc::Sender<Batch>,
    /// From it.
    pub acks: Receiver<Ack>,
    /// Its figures.
    pub stats: Arc<Stats>,
    /// Where its operations go.
    pub backend: Arc<dyn Door>,
}

/// The network's runtime: small, for no work but waiting and copying is done on it.
///
/// # Errors
/// The system has no threads or descriptors left.
pub fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(4)
        .thread_name("network")
        .enable_all()
        .build()
        .context("start the network threads")
}

/// An output that was tried without shipping.
pub struct Tried {
    /// Its name.
    pub name: String,
    /// What each step has shown; at least one.
    pub findings: Vec<Finding>,
}

impl Tried {
    /// The worst of it.
    pub fn grade(&self) -> Grade {
        self.findings.iter().map(|finding| finding.grade).max().unwrap_or(Grade::Ok)
    }
}

/// Tries all outputs at the same time; writes nothing anywhere.
///
/// # Errors
/// The system has no threads or descriptors left.
pub fn probe(plan: &Plan) -> anyhow::Result<Vec<Tried>> {
    let runtime = runtime()?;
    let running: Vec<_> = plan
        .outputs
        .iter()
        .map(|output| {
            let indexes = plan.router.fixed_indexes(output.id);
            let (name, sink, transport) =
                (output.name.clone(), output.sink.clone(), output.transport.clone());
            runtime.spawn(async move {
                let findings = auditship_ship::probe::probe(&*sink, &transport, &indexes).await;
                Tried { name, findings }
            })
        })
        .collect();
    running.into_iter().map(|trying| runtime.block_on(trying).context("try an output")).collect()
}

/// Starts an output of `plan`.
///
/// # Errors
/// The door cannot be opened: a directory that cannot be made, a certificate file that cannot be read.
pub fn start(
    handle: &Handle,
    plan: &Plan,
    output: &OutputPlan,
    dead_letters: &Path,
    give_up_after: Option<Duration>,
) -> anyhow::Result<Running> {
    let dead_letters: Arc<dyn Door> = Arc::new(DeadLetters::new(dead_letters, DEAD_LETTER_BYTES));
    let options = |output: &OutputPlan| Options {
        output: output.name.as_str().into(),
        give_up_after,
        seed: fastrand::u64(..),
        ..output.options.clone()
    };
    let doors = |output: &OutputPlan| {
        let backend = auditship_ship::store::open(&output.transport)
            .with_context(|| format!("open output {:?}", output.name))?;
        anyhow::Ok(Doors { backend, dead_letters: dead_letters.clone() })
    };
    let fallback = match output.fallback {
        Some((other, after)) => {
            let other = &plan.outputs[other];
            let (sink, context) = (other.sink.clone(), plan.context.clone());
            Some(Arc::new(Fallback { after, sink, doors: doors(other)?, options: options(other), context }))
        }
        None => None,
    };
    let (doors, options) = (doors(output)?, Options { fallback, ..options(output) });
    let (batches, receiver) = mpsc::channel(CHANNEL);
    // Unbounded: what is under way bounds it.
    let (sender, acks) = crossbeam_channel::unbounded();
    let stats = Arc::new(Stats::new());
    let sink = output.sink.clone();
    let backend = doors.backend.clone();
    let shipper = Shipper::spawn(handle, sink, doors, options, receiver, sender, stats.clone());
    Ok(Running { shipper, batches, acks, stats, backend })
}
