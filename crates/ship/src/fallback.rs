//! Another output for what one does not take: the same records, framed anew for the other's sink.

use crate::bare::bare;
use crate::batch::Batch;
use crate::batcher::Batcher;
use crate::shipper::{Doors, Options};
use crate::sink::{Context, Sink};
use auditship_event::Record;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where an output's records go while it does not take them.
///
/// What has gone there does not come back: it is delivered. At least once, whatever the other's kind, for the two
/// outputs know nothing of each other's repetitions.
#[derive(Clone)]
pub struct Fallback {
    /// How long the output must have taken nothing before its records go there.
    pub after: Duration,
    /// The other's sink.
    pub sink: Arc<dyn Sink>,
    /// Its doors, apart from those of the output itself.
    pub doors: Doors,
    /// How it ships; its `output` is its name.
    pub options: Options,
    /// Who ships.
    pub context: Context,
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fallback({} after {:?})", self.options.output, self.after)
    }
}

/// The records of `batch` as batches for `sink`, cut at `bytes` where its own limit is not lower.
///
/// # Errors
/// As [`Batch::raw`].
pub(crate) fn reframe(
    batch: &Batch,
    sink: &Arc<dyn Sink>,
    context: &Context,
    bytes: usize,
    now: Instant,
) -> io::Result<Vec<Batch>> {
    let raw = batch.raw()?;
    let mut batcher = Batcher::new(sink.clone(), context.clone(), sink.limits());
    batcher.cut_at(bytes);
    for entry in &batch.records {
        let document = batch.document(entry, &raw);
        let bare = bare(&document, entry.form);
        let record = Record {
            index: &entry.index,
            time: entry.time,
            uid: entry.uid,
            span: entry.span,
            body: bare.body(&document),
        };
        batcher.push(&record, entry.ticket, now);
    }
    batcher.flush_all();
    Ok(std::iter::from_fn(|| batcher.take_ready()).collect())
}
