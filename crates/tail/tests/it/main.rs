//! The crate against real files and simple models.
#![expect(clippy::disallowed_methods, reason = "tests write real files")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod cases;
mod corpus;
mod follow;
mod killed;
mod ledger;
mod lines;
mod model;
mod model_cri;
mod once;
mod world;
