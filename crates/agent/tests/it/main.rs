//! The program as its users have it: the real binary in temporary directories, against a receiver on the loopback
//! interface. Every test that moves lines asserts the law (each line accounted for exactly once per output) and
//! that nothing is lost.

#![expect(clippy::disallowed_methods, reason = "tests write real files, start processes and wait for them")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod backends;
mod cases;
mod chart;
mod config;
mod connect;
mod demo;
mod disk;
mod doctor;
mod follow;
mod guard;
mod inputs;
mod letters;
mod manifests;
mod properties;
mod prove;
mod redact;
mod s3;
mod support;
mod tokens;
mod torn;
mod watching;
