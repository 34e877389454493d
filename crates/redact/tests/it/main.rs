//! The catalogue from outside: what of an event leaves, over all of Kubernetes' own types, and over random events.

mod adversary;
mod allow;
mod fields;
mod memory;
mod search;
mod support;
mod table;
