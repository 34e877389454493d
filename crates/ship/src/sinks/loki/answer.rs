//! What Loki's answers mean.
//!
//! | answer | means |
//! |---|---|
//! | 204 | stored |
//! | 400 that names lines (too old, too long, out of order, …) | these were refused, the rest was stored |
//! | 400 about labels, the tenant or a feature | every line would meet it: held |
//! | other 400 | could not be read at all: narrowed down |
//! | 413 | split |
//! | 429, 5xx | again; some of it may have been stored |
//!
//! Source: grafana/loki `pkg/distributor/distributor.go` (what is valid goes on, the errors of the rest come back
//! with 400), `pkg/validation/validate.go` (the messages), `pkg/ingester/stream.go` ("total ignored: N out of M"),
//! `pkg/util/errors.go` ("N errors like: …"). A message quotes labels and times, and is not shown all the same.

use crate::sink::{Outcome, Refusal, Reply, Verdict};
use crate::sinks::refused_without_names;

/// Words of messages about single lines, and what is said of them.
const LINES: &[(&str, &str)] = &[
    ("timestamp too old", "too old"),
    ("timestamp too new", "too far ahead"),
    ("max entry size", "too long"),
    ("structured metadata too large", "too much metadata"),
    ("too many structured metadata", "too much metadata"),
    ("out of order", "out of order"),
    ("too far behind", "too far behind the newest line of its stream"),
];

/// Words of messages about the stream or the tenant: the same for every line.
const ALWAYS: &[(&str, &str)] = &[
    ("no org id", "a tenant is needed"),
    ("label names; limit", "too many labels"),
    ("label name too long", "a label's name is too long"),
    ("label value too long", "a label's value is too long"),
    ("duplicate label name", "a label stands twice"),
    ("error parsing labels", "the labels cannot be read"),
    ("missing required labels", "a label is missing that the server wants"),
    ("this feature is disallowed", "the server takes no structured metadata"),
    ("ingestion blocked", "the tenant is blocked"),
];

/// What `reply` means for a batch of `count` records.
pub(super) fn judge(reply: &Reply, count: usize) -> Outcome {
    if let Reply::Http { status: status @ 400, body, .. } = reply
        && let Some(outcome) = refused(*status, &String::from_utf8_lossy(body).to_ascii_lowercase(), count)
    {
        return outcome;
    }
    match (reply.outcome(), reply) {
        (Some(outcome), _) => outcome,
        (None, Reply::Http { status: 204, .. }) => Outcome::Delivered,
        (None, Reply::Http { body, .. }) if body.trim_ascii().is_empty() => Outcome::Delivered,
        // Something between us and Loki answers, or it is not Loki.
        _ => Outcome::Retry { after: None, reason: "the answer is not Loki's".to_owned() },
    }
}

/// What `reply` means for a push without streams. Loki 3 refuses it with 422 once it knows whose it is
/// (`pkg/validation/validate.go`, `MissingStreamsErrorMsg`), those before and other receivers take it.
pub(super) fn judge_probe(reply: &Reply) -> Verdict {
    let bad = |text: String, advice: &str| Verdict::Bad { text, advice: advice.to_owned() };
    let Reply::Http { status, body, .. } = reply else {
        return reply.verdict("auth").unwrap_or_else(|| Verdict::Doubtful("not an http answer".to_owned()));
    };
    let message = String::from_utf8_lossy(body).to_ascii_lowercase();
    let always = ALWAYS.iter().find(|(needle, _)| message.contains(needle));
    match (*status, always) {
        (400 | 422, _) if message.contains("at least one valid stream") => {
            Verdict::Good("takes pushes from these credentials and this tenant".to_owned())
        }
        (400 | 401, Some((_, says))) => {
            bad(format!("http {status}: {says}"), "look at `tenant`, and at what the server allows")
        }
        (204, _) => Verdict::Good("takes pushes".to_owned()),
        (200..=299, _) if body.trim_ascii().is_empty() => Verdict::Good("takes pushes".to_owned()),
        (200..=299, _) => bad("what answers is not Loki".to_owned(), "look at `endpoint`"),
        (401, _) => bad(
            "http 401: the credentials are missing or wrong".to_owned(),
            "look at `auth`; in Grafana Cloud the user is the number of the logs instance, not of the stack",
        ),
        (404 | 405, _) => bad(
            format!("http {status}: there is no push API"),
            "look at `endpoint`: it is what stands before `/loki/api/v1/push`",
        ),
        (400 | 422, _) => Verdict::Doubtful(format!(
            "http {status}: it does not take a push without events, so the tenant could not be tried"
        )),
        _ => reply.verdict("auth").unwrap_or_else(|| Verdict::Good("answers".to_owned())),
    }
}

/// `None`: the message is none of these.
fn refused(status: u16, message: &str, count: usize) -> Option<Outcome> {
    let known = |words: &[(&str, &'static str)]| {
        words.iter().find(|(needle, _)| message.contains(needle)).map(|(_, says)| *says)
    };
    if let Some(says) = known(ALWAYS) {
        return Some(Outcome::Hold { reason: format!("http {status}: {says}") });
    }
    let says = known(LINES);
    let ignored = sum(message, |text| {
        let (number, rest) = number(text.strip_prefix("total ignored: ")?)?;
        rest.starts_with(" out of ").then_some(number)
    });
    let alike = sum(message, |text| {
        let (number, rest) = number(text)?;
        rest.starts_with(" errors like: ").then_some(number)
    });
    if says.is_none() && ignored == 0 {
        return None;
    }
    // A message without a number is about one line.
    let rejected = (ignored + alike).max(1);
    let reason = format!("http {status}: {}", says.unwrap_or("refused"));
    Some(refused_without_names(rejected, count, Refusal { status, reason }))
}

/// The sum of what `read` makes of the text from each word on.
fn sum(message: &str, read: impl Fn(&str) -> Option<u64>) -> u64 {
    let starts = message.char_indices().filter(|(at, _)| {
        let before = message[..*at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric())
    });
    starts.filter_map(|(at, _)| read(&message[at..])).fold(0, u64::saturating_add)
}

fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn told(status: u16, body: &str, count: usize) -> String {
        let reply = Reply::Http { status, headers: HeaderMap::new(), body: body.to_owned().into() };
        match judge(&reply, count) {
            Outcome::Partial { retry, reject, .. } if retry.is_empty() => {
                format!("all {}: {}", reject.len(), reject[0].1.reason)
            }
            Outcome::PartialCount { rejected, refusal } => format!("{rejected}: {}", refusal.reason),
            Outcome::Hold { reason } => format!("hold: {reason}"),
            Outcome::Retry { .. } => "retry".to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn what_a_push_without_streams_says() {
        for (status, body, want) in [
            (204, "", "Good(\"takes pushes\")"),
            (
                422,
                "error at least one valid stream is required for ingestion\n",
                "Good(\"takes pushes from these credentials and this tenant\")",
            ),
            (401, "no org id\n", "Bad { text: \"http 401: a tenant is needed\", advice: \"look at `tenant`"),
            (
                401,
                "{\"error\":\"authentication error: invalid token\"}",
                "Bad { text: \"http 401: the credentials are missing or wrong\", advice: \"look at `auth`; in Grafana",
            ),
            (403, "", "Bad { text: \"http 403: the credentials are known, but may not do this\""),
            (404, "", "Bad { text: \"http 404: there is no push API\""),
            (400, "EOF", "Doubtful(\"http 400: it does not take a push without events"),
            (200, "<html>", "Bad { text: \"what answers is not Loki\""),
            (429, "", "Doubtful("),
            (500, "", "Bad { text: \"http 500"),
        ] {
            let reply = Reply::Http { status, headers: HeaderMap::new(), body: body.to_owned().into() };
            let told = format!("{:?}", judge_probe(&reply));
            assert!(told.starts_with(want), "{told} for {status} {body}");
        }
    }

    #[test]
    fn the_table() {
        let old = "entry for stream '{index=\"a\"}' has timestamp too old: 2020-01-01T00:00:00Z, oldest acceptable timestamp is: 2026-11-17T00:00:00Z";
        for (status, body, count, want) in [
            (204, "", 9, "Delivered"),
            (200, "\n", 9, "Delivered"),
            (200, "<html>", 9, "retry"),
            (429, "Ingestion rate limit exceeded for user t (limit: 4 bytes/sec)", 9, "retry"),
            (500, "", 9, "retry"),
            (413, "", 9, "Split"),
            (400, "request body too large: 9 bytes, limit: 8 bytes", 9, "Split"),
            (400, "snappy: corrupt input", 9, "Reject(Refusal { status: 400, reason: \"http 400\" })"),
            (401, "no org id", 9, "hold: http 401 (credentials refused)"),
            (400, "no org id", 9, "hold: http 400: a tenant is needed"),
            (400, "entry for stream 'x' has 16 label names; limit 15", 9, "hold: http 400: too many labels"),
            (400, old, 9, "1: http 400: too old"),
            (400, old, 1, "all 1: http 400: too old"),
            (
                400,
                &format!("3 errors like: {old}; 2 errors like: Max entry size '1' bytes exceeded"),
                9,
                "5: http 400: too old",
            ),
            (400, &format!("3 errors like: {old}"), 3, "all 3: http 400: too old"),
            (
                400,
                "entry with timestamp 2026-11-24 02:30:59 +0000 UTC ignored, reason: 'entry too far behind, entry timestamp is: 1',\nuser 't', total ignored: 4 out of 10 for stream: {a=\"b\"}",
                10,
                "4: http 400: too far behind the newest line of its stream",
            ),
            (
                400,
                "user 't', total ignored: 10 out of 10 for stream: {a=\"b\"}",
                10,
                "all 10: http 400: refused",
            ),
            (
                400,
                "total ignored: 99999999999999999999 out of 3, entry out of order",
                9,
                "1: http 400: out of order",
            ),
            (
                400,
                "stream 'x' has structured metadata too large: '9' bytes, limit: '8' bytes",
                9,
                "1: http 400: too much metadata",
            ),
        ] {
            assert_eq!(told(status, body, count), want, "{status} {body}");
        }
    }
}
