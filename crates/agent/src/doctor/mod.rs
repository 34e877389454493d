//! `doctor`: what is wrong with an API server's audit log before it is missed.
//!
//! Two halves. [`look`] is the door: it finds the API server on a node and gathers [`facts`]. [`examine`] is pure: facts
//! to verdicts, each with what to do about it. [`show`] prints them.

mod disk;
pub mod facts;
mod flags;
mod judge;
pub mod look;
mod mend;
mod pace;
mod peek;
mod policy;
mod rancher;
mod server;
pub mod show;
#[cfg(test)]
mod tests;
mod tree;
mod yaml;

pub use judge::{Wanted, examine};
pub use mend::Mend;
pub use pace::Rate;
pub use server::Server;

use std::fmt;

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Ok,
    /// It could not be looked at.
    Skip,
    /// It works, and will surprise somebody.
    Warn,
    /// Events are lost, or soon will be.
    Fail,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Grade::Ok => "ok",
            Grade::Skip => "skip",
            Grade::Warn => "warn",
            Grade::Fail => "fail",
        })
    }
}

/// What is thought of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What was looked at, one word: `mount`.
    pub check: &'static str,
    /// How good it is.
    pub grade: Grade,
    /// A short sentence.
    pub text: String,
    /// What it was seen by; empty where the sentence says it.
    pub evidence: String,
    /// What to do.
    pub mends: Vec<Mend>,
}

/// A rate that was measured elsewhere.
pub fn rate(told: auditship_ship::units::ByteRate) -> Rate {
    Rate::told(told.bytes.get() as f64 / told.per.as_secs_f64())
}
