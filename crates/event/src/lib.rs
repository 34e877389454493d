//! What a Kubernetes audit event is, and the words that every other crate shares.
//!
//! This crate is the hub: it knows nobody. It owns the place of bytes ([`Span`]), a line and what may be
//! wrong with it ([`Line`]), a scanner that validates JSON once and reports what it passes ([`scan`]), the
//! lazily parsed audit event ([`Event`]), the keyed hashes ([`Keys`]) and what shipping sees ([`Record`]).
//! It does no I/O and builds no document tree.
//!
//! ```
//! use auditship_event::{Event, Stage};
//! let line = br#"{"kind":"Event","stage":"ResponseComplete","verb":"get","user":{"username":"alice"}}"#;
//! let event = Event::parse(line).unwrap();
//! assert_eq!(event.stage(), Stage::ResponseComplete);
//! assert_eq!(event.username().unwrap(), "alice");
//! ```

pub mod audit;
pub mod keys;
pub mod line;
pub mod parts;
pub mod record;
pub mod scan;
pub mod span;
pub mod text;

pub use audit::{Event, Level, ObjectRef, Stage};
pub use keys::{KeyId, Keys, Uid};
pub use line::{Cut, Form, Line};
pub use parts::{Broken, Part, parts};
pub use record::{Body, Edit, Edits, Index, Record, Trim};
pub use span::{Span, StreamId};
