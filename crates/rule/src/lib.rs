//! The matching language of filters, routes and redaction rules.
//!
//! [`Words`] is the language as written: the words of a Kubernetes audit policy with exactly their meaning,
//! and a few more. [`Matcher`] is the same compiled; it looks at [`Facts`], which decode each field of an event
//! at most once however many rules ask. [`Matcher::warnings`] finds words that can never match. This crate does
//! no I/O and decides nothing: what follows from a match is the business of filter and router.
//!
//! ```
//! use auditship_event::Event;
//! use auditship_rule::{Facts, Matcher, Words};
//! let words = Words { verbs: vec!["get".into()], codes: vec!["4xx".into()], ..Words::default() };
//! let refused_reads = Matcher::compile(&words).unwrap();
//! let event = Event::parse(br#"{"verb":"get","responseStatus":{"code":403}}"#).unwrap();
//! assert!(refused_reads.matches(&Facts::new(&event)));
//! ```

pub mod facts;
pub mod invalid;
pub mod lint;
pub mod matcher;
pub mod pattern;
pub mod words;

pub use facts::Facts;
pub use invalid::{Invalid, check_name};
pub use matcher::Matcher;
pub use words::{CodeWord, DecisionWord, LevelWord, ResourceWord, StageWord, Words};
