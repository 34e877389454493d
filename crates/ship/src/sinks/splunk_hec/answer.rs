//! What a collector's answers mean: the reply codes of Splunk's "Troubleshoot HTTP Event Collector", and what comes with
//! them.

use crate::batch::Batch;
use crate::sink::{Outcome, Refusal, Reply};
use http::{HeaderValue, header};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest cookies that are given back.
const COOKIE_BYTES: usize = 4096;

/// What a collector answers, as far as it is read.
#[derive(Default, Deserialize)]
pub(super) struct Answer {
    pub(super) code: Option<u16>,
    #[serde(rename = "invalid-event-number")]
    pub(super) invalid_event_number: Option<usize>,
    #[serde(rename = "ackId", alias = "ackID")]
    pub(super) ack_id: Option<Value>,
    #[serde(default)]
    pub(super) acks: BTreeMap<String, bool>,
}

pub(super) fn nonsense(reason: &str) -> Outcome {
    Outcome::Retry { after: None, reason: reason.to_owned() }
}

pub(super) fn hold(reply: &Reply, code: u16, words: &str) -> Outcome {
    Outcome::Hold { reason: reason(reply, code, words) }
}

/// In our words: the server's own may quote an event.
fn reason(reply: &Reply, code: u16, words: &str) -> String {
    format!("http {}, code {code}: {words}", status(reply))
}

fn status(reply: &Reply) -> u16 {
    match reply {
        Reply::Http { status, .. } => *status,
        _ => 0,
    }
}

pub(super) fn channel_words(code: u16) -> &'static str {
    match code {
        10 => "the token wants indexer acknowledgement: set `acknowledgement: true`",
        11 => "the channel was refused",
        _ => "the token has indexer acknowledgement turned off",
    }
}

/// What a code other than success means. `None`: it is not known.
pub(super) fn judge_code(code: u16, batch: &Batch, answer: &Answer, reply: &Reply) -> Option<Outcome> {
    let held = |words| Some(hold(reply, code, words));
    let again = |words: &str| {
        let after = match reply.outcome() {
            Some(Outcome::Retry { after, .. }) => after,
            _ => None,
        };
        Some(Outcome::Retry { after, reason: reason(reply, code, words) })
    };
    match code {
        1 | 22 => held("the token is disabled"),
        2 => held("no token arrived"),
        3 => held("the authorization was not understood"),
        4 | 21 => held("the token is not known"),
        5 => held("no data arrived"),
        7 => held("the token does not allow an index, or there is none of that name"),
        10 | 11 | 14 => held(channel_words(code)),
        16 => held("query string authorization is not enabled"),
        8 => again("internal error"),
        9 => again("busy"),
        18..=20 => again("unhealthy"),
        23 => again("shutting down"),
        26 | 27 => again("at capacity"),
        6 => Some(bad_event(code, "not the right format", batch, answer, reply)),
        12 | 13 => Some(bad_event(code, "no event", batch, answer, reply)),
        15 => Some(bad_event(code, "indexed fields", batch, answer, reply)),
        _ => None,
    }
}

fn bad_event(code: u16, words: &str, batch: &Batch, answer: &Answer, reply: &Reply) -> Outcome {
    let (count, reason) = (batch.records.len(), reason(reply, code, words));
    let refusal = Refusal { status: status(reply), reason: reason.clone() };
    match answer.invalid_event_number {
        Some(at) if at < count && count > 1 => Outcome::Partial {
            retry: (0..count).filter(|other| *other != at).collect(),
            reject: vec![(at, refusal)],
            reason,
        },
        // It is the only one, or not named.
        _ => Outcome::Reject(refusal),
    }
}

/// A number, also in quotes.
pub(super) fn ack_id(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The cookies that came with a reply, as they are given back (RFC 6265 §5.4, without attributes).
pub(super) fn cookies(reply: &Reply) -> Option<HeaderValue> {
    let Reply::Http { headers, .. } = reply else { return None };
    let mut all = Vec::new();
    for cookie in headers.get_all(header::SET_COOKIE) {
        let pair = cookie.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if pair.contains(&b'=') && all.len() + pair.len() < COOKIE_BYTES {
            all.extend_from_slice(if all.is_empty() { b"" } else { b"; " });
            all.extend_from_slice(pair);
        }
    }
    let mut value = HeaderValue::from_bytes(&all).ok().filter(|value| !value.is_empty())?;
    value.set_sensitive(true);
    Some(value)
}
