//! What must hold of any bytes. Each target is a function that panics where it does not.
//!
//! Two drivers run them: `cargo xtask fuzz`, which mutates the corpus without a guide and needs nothing but a stable
//! compiler, and cargo-fuzz, in `libfuzzer/`, which follows coverage and needs a nightly one. Both begin with what is
//! in `corpus/`. The tests of this crate try the corpus and some thousand mutations of it, always the same.

pub mod corpus;
pub mod mutate;
pub mod targets;

pub use targets::{TARGETS, Target};
