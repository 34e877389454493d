//! What may leave the node: which events at all ([`filter`]), and which of their bytes ([`Redactor`]).
//!
//! Redaction yields edits over the raw line; nothing rewrites the document. The catalogue ([`rules`]) says what
//! goes: fields of Kubernetes' own types wherever such an object stands (in bodies, lists, table rows, patches,
//! documents inside strings), and text that is a credential by its form. Where a line cannot be read it leaves
//! as a stub ([`stub`]) without bodies. This crate alone makes a [`auditship_event::Body`].
//!
//! ```
//! use auditship_event::{Event, Keys};
//! use auditship_redact::{Redactor, Scratch};
//! let redactor = Redactor::new(&Default::default(), Keys::derive(b"key", "prod")).unwrap();
//! let line = br#"{"objectRef":{"resource":"secrets"},"requestObject":{"data":{"password":"aHVudGVyMg=="}}}"#;
//! let mut scratch = Scratch::default();
//! let mut out = Vec::new();
//! redactor.body(&Event::parse(line).unwrap(), &mut scratch).unwrap().write(&mut out);
//! assert!(!String::from_utf8(out).unwrap().contains("aHVudGVyMg=="));
//! ```

pub mod config;
pub mod filter;
pub mod path;
pub mod rules;

mod allow;
mod clean;
mod detect;
mod digest;
mod names;
mod nested;
mod packed;
mod pairs;
mod patch;
mod redactor;
pub mod stub;
mod sweep;
mod twins;
mod values;
mod yaml;

pub use config::{Action, Allow, Catalogue, RedactConfig, RedactRule};
pub use filter::{Filter, FilterConfig};
pub use pairs::Form;
pub use redactor::{Invalid, Looked, Panicked, Redactor, Scratch};
