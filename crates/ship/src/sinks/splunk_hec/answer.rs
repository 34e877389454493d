//! What a collector's answers mean: the reply codes of Splunk's "Troubleshoot HTTP Event Collector", and what comes with
//! them.

use crate::batch::Batch;
use crate::sink::{Outcome, Refusal, Reply, Verdict};
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

/// A code of which [`held_words`] knows.
pub(super) fn held(reply: &Reply, code: u16) -> Outcome {
    let reason = told(reply, code);
    Outcome::Hold { reason: if code == 14 { format!("{reason}: {ACKNOWLEDGE}") } else { reason } }
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

/// What somebody must put right. `None`: it is nothing of that kind.
pub(super) fn held_words(code: u16) -> Option<&'static str> {
    Some(match code {
        1 | 22 => "the token is disabled",
        2 => "no token arrived",
        3 => "the authorization was not understood",
        4 | 21 => "the token is not known",
        5 => "no data arrived",
        7 => "the token does not allow an index, or there is none of that name",
        10 => "the token wants indexer acknowledgement: set `acknowledgement: true`",
        11 => "the channel was refused",
        14 => "the token has indexer acknowledgement turned off",
        16 => "query string authorization is not enabled",
        _ => return None,
    })
}

/// What passes by itself. `None`: it is nothing of that kind.
fn busy_words(code: u16) -> Option<&'static str> {
    Some(match code {
        8 => "internal error",
        9 => "busy",
        18..=20 => "unhealthy",
        23 => "shutting down",
        26 | 27 => "at capacity",
        _ => return None,
    })
}

/// What a code other than success means. `None`: it is not known.
pub(super) fn judge_code(code: u16, batch: &Batch, answer: &Answer, reply: &Reply) -> Option<Outcome> {
    if held_words(code).is_some() {
        return Some(held(reply, code));
    }
    if let Some(words) = busy_words(code) {
        let after = match reply.outcome() {
            Some(Outcome::Retry { after, .. }) => after,
            _ => None,
        };
        return Some(Outcome::Retry { after, reason: reason(reply, code, words) });
    }
    match code {
        6 => Some(bad_event(code, "not the right format", batch, answer, reply)),
        12 | 13 => Some(bad_event(code, "no event", batch, answer, reply)),
        15 => Some(bad_event(code, "indexed fields", batch, answer, reply)),
        _ => None,
    }
}

fn bad_event(code: u16, words: &str, batch: &Batch, answer: &Answer, reply: &Reply) -> Outcome {
    let (count, reason) = (batch.records.len(), reason(reply, code, words));
    let refusal = Refusal { status: status(reply), reason };
    match answer.invalid_event_number {
        Some(at) if at < count && count > 1 => Outcome::Stopped { at, refusal },
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

/// What one of the questions of `check --connect` was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// `GET /services/collector/health`. Which versions look at the token there is not documented.
    Health,
    /// A request for no events, which is refused as such (code 5) once the token is known.
    NoEvents,
    /// Whether a batch is indexed that nobody has sent.
    Acknowledged,
}

const TOKEN: &str = "look at `auth.token`, and in Splunk at Settings > Data inputs > HTTP Event Collector";
const ENDPOINT: &str =
    "look at `endpoint`: the collector must be turned on in Splunk, and listens on port 8088 by default";

/// What the answer to a question of `check --connect` says.
pub(super) fn judge_probe(question: Question, reply: &Reply) -> Verdict {
    let bad = |text: String, advice: &str| Verdict::Bad { text, advice: advice.to_owned() };
    let Reply::Http { status, body, .. } = reply else {
        return reply
            .verdict("auth.token")
            .unwrap_or_else(|| Verdict::Doubtful("not an http answer".to_owned()));
    };
    let answer = serde_json::from_slice::<Answer>(body).unwrap_or_default();
    match (question, answer.code, *status) {
        (Question::Health, Some(17), _) => Verdict::Good("the collector is healthy".to_owned()),
        (Question::Health, Some(18), _) => Verdict::Doubtful("the collector's queues are full".to_owned()),
        (Question::Health, Some(19), _) => {
            Verdict::Doubtful("the collector cannot acknowledge at the moment".to_owned())
        }
        (Question::Health, _, 404) => {
            Verdict::Doubtful("http 404: there is no /services/collector/health".to_owned())
        }
        // Some that speak HEC's language look at the format first.
        (Question::NoEvents, Some(5 | 6 | 12 | 13), _) => Verdict::Good(
            "the token is known; which indexes it allows cannot be tried without an event".to_owned(),
        ),
        (Question::NoEvents, Some(0), _) => Verdict::Good("takes requests".to_owned()),
        (Question::Acknowledged, _, 200) if !answer.acks.is_empty() => {
            Verdict::Good("the token has indexer acknowledgement".to_owned())
        }
        (Question::Acknowledged, _, 404 | 405) => bad(
            format!("http {status}: there is no indexer acknowledgement here; Splunk Cloud has none"),
            "take `acknowledgement` out",
        ),
        (_, Some(14), _) => bad(told(reply, 14), ACKNOWLEDGE),
        (_, Some(10), _) => bad(told(reply, 10), "without it Splunk takes nothing with this token"),
        (_, Some(11), _) => Verdict::Doubtful(told(reply, 11)),
        (_, Some(code), _) if held_words(code).is_some() => bad(told(reply, code), TOKEN),
        (_, Some(code), _) if busy_words(code).is_some() => Verdict::Doubtful(told(reply, code)),
        (_, _, 404 | 405) => bad(format!("http {status}: there is no collector"), ENDPOINT),
        (_, _, 200..=299) => bad("what answers is no collector".to_owned(), ENDPOINT),
        (_, _, 400) => Verdict::Doubtful("http 400: an answer that was not expected".to_owned()),
        _ => reply.verdict("auth.token").unwrap_or_else(|| Verdict::Good("answers".to_owned())),
    }
}

/// What to do where acknowledgements were asked for and the token gives none.
pub(super) const ACKNOWLEDGE: &str = "turn `Enable indexer acknowledgement` on at the token, in Splunk under Settings > Data \
                                      inputs > HTTP Event Collector, or take `acknowledgement` out";

fn told(reply: &Reply, code: u16) -> String {
    reason(reply, code, held_words(code).or(busy_words(code)).unwrap_or("not known"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    #[test]
    fn what_the_questions_of_check_are_answered() {
        use Question::{Acknowledged, Health, NoEvents};
        let token = "advice: \"look at `auth.token`, and in Splunk at Settings";
        for (question, status, body, want, more) in [
            (Health, 200, r#"{"text":"HEC is healthy","code":17}"#, "Good(\"the collector is healthy\")", ""),
            (Health, 503, r#"{"code":18}"#, "Doubtful(\"the collector's queues are full\")", ""),
            (Health, 503, r#"{"code":20}"#, "Doubtful(\"http 503, code 20: unhealthy\")", ""),
            (Health, 400, r#"{"code":4}"#, "Bad { text: \"http 400, code 4: the token is not known\"", token),
            (Health, 404, "", "Doubtful(\"http 404: there is no /services/collector/health\")", ""),
            (Health, 200, "<html>", "Bad { text: \"what answers is no collector\"", "port 8088"),
            (NoEvents, 400, r#"{"text":"No data","code":5}"#, "Good(\"the token is known; which indexes", ""),
            (NoEvents, 200, r#"{"text":"Success","code":0}"#, "Good(\"takes requests\")", ""),
            (
                NoEvents,
                403,
                r#"{"text":"Invalid token","code":4}"#,
                "Bad { text: \"http 403, code 4: the token is not known\"",
                token,
            ),
            (
                NoEvents,
                403,
                r#"{"code":1}"#,
                "Bad { text: \"http 403, code 1: the token is disabled\"",
                token,
            ),
            (
                NoEvents,
                401,
                "",
                "Bad { text: \"http 401: the credentials are missing or wrong\"",
                "`auth.token`",
            ),
            (
                NoEvents,
                400,
                r#"{"code":10}"#,
                "Bad { text: \"http 400, code 10: the token wants indexer",
                "`acknowledgement: true`",
            ),
            (
                NoEvents,
                404,
                r#"{"text":"not found","code":404}"#,
                "Bad { text: \"http 404: there is no collector\"",
                "port 8088",
            ),
            (NoEvents, 400, "", "Doubtful(", ""),
            (NoEvents, 503, r#"{"code":9}"#, "Doubtful(\"http 503, code 9: busy\")", ""),
            (
                Acknowledged,
                200,
                r#"{"acks":{"0":false}}"#,
                "Good(\"the token has indexer acknowledgement\")",
                "",
            ),
            (
                Acknowledged,
                400,
                r#"{"text":"ACK is disabled","code":14}"#,
                "Bad { text: \"http 400, code 14: the token has indexer acknowledgement turned off\"",
                "Enable indexer acknowledgement",
            ),
            (
                Acknowledged,
                404,
                "",
                "Bad { text: \"http 404: there is no indexer acknowledgement here",
                "take `acknowledgement` out",
            ),
            (Acknowledged, 400, r#"{"code":11}"#, "Doubtful(\"http 400, code 11", ""),
            (Acknowledged, 200, "{}", "Bad { text: \"what answers is no collector\"", ""),
        ] {
            let reply = Reply::Http { status, headers: HeaderMap::new(), body: body.into() };
            let told = format!("{:?}", judge_probe(question, &reply));
            assert!(told.starts_with(want) && told.contains(more), "{told} for {question:?} {status} {body}");
        }
    }
}
