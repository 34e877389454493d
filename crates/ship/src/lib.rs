//! Records to batches, batches to requests, replies to outcomes, outcomes to acknowledgements.
//!
//! A consumer's thread pushes [`Record`](auditship_event::Record)s into a [`Batcher`], which frames, sizes and
//! compresses them into frozen [`Batch`]es. A [`Shipper`] takes batches from a channel and answers with one
//! [`Ack`] for every record: delivered, or dead-lettered. What it cannot deliver it retries; it drops nothing.
//!
//! A [`Sink`] is the code for one kind of backend. It is pure: [`Sink::request`] says what to do with a batch
//! and [`Sink::judge`] what the reply means. Only the doors [`client`], [`store`] and `aws::chain` touch the world.
//!
//! ```
//! use auditship_event::{Body, Edits, Index, Keys, Record, Span, StreamId};
//! use auditship_ship::{Batcher, Context, sinks::Config};
//! let keys = Keys::derive(b"master key", "prod-eu1");
//! let context = Context::new("prod-eu1", "node-1", keys.id());
//! let config = Config::deserialize("stdout", serde_json::json!({})).unwrap().unwrap();
//! let sink = config.build(&context).unwrap().sink;
//! let mut batcher = Batcher::new(sink.clone(), context, sink.limits());
//!
//! let (line, none) = (br#"{"kind":"Event"}"#, Edits::new());
//! let record = Record {
//!     index: &Index("audit".into()),
//!     time: 0,
//!     uid: keys.uid(line),
//!     span: Span { stream: StreamId(1), start: 0, end: 17 },
//!     body: Body::redacted(line, &none),
//! };
//! batcher.push(&record, 1, std::time::Instant::now());
//! batcher.flush_all();
//! assert_eq!(batcher.take_ready().unwrap().records.len(), 1);
//! ```

pub mod aws;
pub mod backoff;
pub mod bare;
pub mod batch;
pub mod batcher;
pub mod client;
mod compress;
pub mod deadletter;
pub mod fallback;
pub mod learnt;
mod pace;
pub mod probe;
mod proto;
pub mod shape;
pub mod shipper;
pub mod sink;
pub mod sinks;
pub mod stats;
pub mod store;
pub mod thaw;
mod throttle;
pub mod tls;
pub mod trim;
pub mod units;
mod x509;

pub use batch::{Batch, BatchId, Entry, Form};
pub use batcher::Batcher;
pub use compress::Encoding;
pub use fallback::Fallback;
pub use shipper::{Ack, Options, Settled, Shipper};
pub use sink::{
    Context, Door, Embedding, Envelope, Failure, GroupKey, Limits, Op, Outcome, Refusal, Reply, Sink, Verdict,
};
pub use stats::{Phase, Stats};
pub use thaw::Thawed;
pub use units::{ByteRate, ByteSize, Duration, Endpoint, RequestRate, Secret};
