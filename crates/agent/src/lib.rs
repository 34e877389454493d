//! The program `auditship`: commands, configuration, plan, pipeline, admin.
//!
//! Read [`pipeline`] first: the straight path from a line to a batch. [`consumer`] is the thread around it,
//! [`agent`] the agent that follows live files; each command is one file under [`commands`]. Nothing depends on
//! this crate; it is a library so that its tests reach its parts.

pub mod admin;
pub mod agent;
pub mod cli;
pub mod commands;
pub mod config;
pub mod consumer;
pub mod coverage;
pub mod distribution;
pub mod doctor;
pub mod edit_path;
pub mod exit;
pub mod guard;
pub mod inflight;
pub mod letters;
pub mod lines;
pub mod manifests;
pub mod metrics;
pub mod outputs;
pub mod pipeline;
pub mod plan;
pub mod prove;
pub mod receiver;
pub mod report;
pub mod show;
pub mod status;
