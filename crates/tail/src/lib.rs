//! Bytes to lines, through every rotation; acknowledgements to checkpoints.
//!
//! This crate owns the place of every byte: which stream a file is ([`Catalogue`]), what the next line is
//! ([`Follower`] for live files, [`Once`] for given ones, one interface: [`Source`]), which lines are open
//! ([`Ledger`]) and what is saved of that ([`Store`]). It knows nothing of what a line means.
//!
//! Modules in reading order: `lines` (with `cri`), `ledger`, `checkpoint`, `names`, `roster` (with `head`), `horizon`,
//! `source`, `catalogue` (with `desk` and `looks`), `follow` (with `anchors`), `once`; the doors to the world are `files`,
//! `watch`, `store`.
//!
//! ```
//! use auditship_event::{Span, StreamId};
//! use auditship_tail::{AckResult, Class, Ledger};
//!
//! let span = |start, end| Span { stream: StreamId(1), start, end };
//! let mut ledger = Ledger::default();
//! let ticket = ledger.open(span(0, 10), None, 1);
//! ledger.settle(span(10, 25), None, Class::Unrouted);
//! assert_eq!(ledger.position(StreamId(1)), 0);
//! ledger.ack(ticket, AckResult::Delivered);
//! assert_eq!(ledger.position(StreamId(1)), 25);
//! assert!(ledger.totals().adds_up());
//! ```

mod anchors;
mod cri;
mod desk;
mod files;
mod head;
mod horizon;
mod looks;
mod names;
mod roster;

pub mod catalogue;
pub mod checkpoint;
pub mod follow;
pub mod ledger;
pub mod lines;
pub mod once;
pub mod source;
pub mod store;
pub mod watch;

pub use catalogue::{Catalogue, Input, Limits, StartAt};
pub use checkpoint::{Entry, Frozen, Hash, Position, State, StreamRecord};
pub use cri::{Piece, Pieces, Terminator};
pub use follow::Follower;
pub use ledger::{AckResult, Class, ClassKind, Ledger, Totals};
pub use lines::{DEFAULT_LIMIT, Format, Splitter};
pub use names::{glob, is_backup};
pub use once::Once;
pub use source::{Edge, Error, Gap, Lost, Progress, Source};
pub use store::{Opened, Store, master_key};
pub use watch::Watcher;
