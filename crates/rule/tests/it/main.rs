//! The matching language against events.

#![expect(clippy::unwrap_used, reason = "tests")]

mod kubernetes;
mod own;

use auditship_event::Event;
use auditship_rule::{Facts, Matcher, Words};

/// Whether `words` match `event`, both in JSON.
fn matches(words: &str, event: &str) -> bool {
    let words: Words = serde_json::from_str(words).unwrap();
    let event = Event::parse(event.as_bytes()).unwrap();
    Matcher::compile(&words).unwrap().matches(&Facts::new(&event))
}
