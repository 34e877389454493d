//! What an OTLP server's answers mean.
//!
//! | answer | means |
//! |---|---|
//! | 2xx, no records rejected | delivered |
//! | 2xx with `partial_success.rejected_log_records` | so many were refused for good, nobody says which |
//! | 413, 400 that says "too large" | split: collectors answer the latter |
//! | 400, 422 | refused: narrowed down |
//! | 429, 502, 503, 504, no answer | again, after `Retry-After` |
//! | any other | must not be tried again as it is: held |
//!
//! Source: open-telemetry/opentelemetry-proto `docs/specification.md`, "OTLP/HTTP Response", and
//! `collector/logs/v1/logs_service.proto`: `ExportLogsServiceResponse{partial_success=1:
//! ExportLogsPartialSuccess{rejected_log_records=1, error_message=2}}`. The message may quote a record and is not
//! looked at.

use crate::proto::{self, Value};
use crate::sink::{Outcome, Refusal, Reply, Verdict};
use crate::sinks::refused_without_names;
use http::{HeaderMap, header};
use serde::Deserialize;

/// What `reply` means for a batch of `count` records.
pub(super) fn judge(reply: &Reply, count: usize) -> Outcome {
    let outcome = reply.outcome();
    let Reply::Http { status, headers, body } = reply else {
        return outcome.unwrap_or_else(|| nonsense("not an http answer"));
    };
    match (outcome, status) {
        (None, _) => match rejected(headers, body) {
            Some(0) => Outcome::Delivered,
            Some(rejected) => refused(*status, rejected, count),
            // Something between us and the backend answers, or it is not the backend we think.
            None => nonsense("the answer is not one to an export of logs"),
        },
        (Some(Outcome::Retry { reason, .. }), status) if !matches!(status, 429 | 502 | 503 | 504) => {
            Outcome::Hold { reason: format!("{reason} (not to be tried again by OTLP's rules)") }
        }
        (Some(outcome), _) => outcome,
    }
}

/// What `reply` means for an export without records.
pub(super) fn judge_probe(reply: &Reply) -> Verdict {
    let bad = |text: String, advice: &str| Verdict::Bad { text, advice: advice.to_owned() };
    match reply {
        Reply::Http { status: 200..=299, headers, body } => match rejected(headers, body) {
            Some(_) => Verdict::Good("takes exports of logs".to_owned()),
            None => bad("what answers takes no exports of logs".to_owned(), "look at `endpoint`"),
        },
        Reply::Http { status: status @ (404 | 405), .. } => bad(
            format!("http {status}: there is no receiver of logs"),
            "look at `endpoint`: it is what stands before `/v1/logs`, and the receiver must have a pipeline for logs",
        ),
        Reply::Http { status: 415, .. } => {
            bad("http 415: it takes no protobuf".to_owned(), "is it a receiver of OTLP over HTTP?")
        }
        Reply::Http { status: status @ (400 | 422), .. } => Verdict::Doubtful(format!(
            "http {status}: it does not take an export without records; the credentials were not refused"
        )),
        _ => reply
            .verdict("auth` or `headers")
            .unwrap_or_else(|| Verdict::Doubtful("not an http answer".to_owned())),
    }
}

fn refused(status: u16, rejected: u64, count: usize) -> Outcome {
    let reason = format!("http {status}, but {rejected} log records rejected");
    refused_without_names(rejected, count, Refusal { status, reason })
}

fn nonsense(reason: &str) -> Outcome {
    Outcome::Retry { after: None, reason: reason.to_owned() }
}

/// How many the answer says were rejected. `None`: it is no such answer.
fn rejected(headers: &HeaderMap, body: &[u8]) -> Option<u64> {
    let kind = headers.get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json")) {
        rejected_json(body)
    } else {
        rejected_protobuf(body)
    }
}

fn rejected_protobuf(body: &[u8]) -> Option<u64> {
    let mut rejected = 0;
    for (field, value) in proto::fields(body)? {
        if let (1, Value::Bytes(partial)) = (field, value) {
            for (field, value) in proto::fields(partial)? {
                if let (1, Value::Number(number)) = (field, value) {
                    rejected = number;
                }
            }
        }
    }
    Some(rejected)
}

/// The same for servers that answer in JSON whatever they were sent.
fn rejected_json(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        partial_success: Option<Partial>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Partial {
        rejected_log_records: Option<serde_json::Value>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    match answer.partial_success.and_then(|partial| partial.rejected_log_records) {
        None | Some(serde_json::Value::Null) => Some(0),
        // An int64 is a string in protobuf's JSON.
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        Some(other) => other.as_u64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, kind: &str, body: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", kind.parse().unwrap());
        headers.insert("retry-after", "7".parse().unwrap());
        let reply = Reply::Http { status, headers, body: body.to_vec().into() };
        match judge(&reply, 5) {
            Outcome::Partial { retry, reject, .. } if retry.is_empty() => format!("all {}", reject.len()),
            Outcome::PartialCount { rejected, refusal } => format!("{rejected}: {}", refusal.reason),
            Outcome::Hold { .. } => "hold".to_owned(),
            Outcome::Retry { after, .. } => format!("retry {:?}", after.map(|after| after.as_secs())),
            Outcome::Reject(_) => "reject".to_owned(),
            other => format!("{other:?}"),
        }
    }

    fn partial(rejected: u64) -> Vec<u8> {
        let mut body = Vec::new();
        proto::message(1, &mut body, |out| {
            proto::integer(1, rejected, out);
            proto::bytes(2, b"CONTENT", out);
        });
        body
    }

    #[test]
    fn what_an_export_without_records_says() {
        for (status, body, want) in [
            (200, "", "Good(\"takes exports of logs\")"),
            (200, "<html>", "Bad { text: \"what answers takes no exports of logs\""),
            (
                401,
                "",
                "Bad { text: \"http 401: the credentials are missing or wrong\", advice: \"look at `auth` or `headers`",
            ),
            (403, "", "Bad { text: \"http 403: "),
            (404, "", "Bad { text: \"http 404: there is no receiver of logs\""),
            (415, "", "Bad { text: \"http 415: it takes no protobuf\""),
            (400, "", "Doubtful(\"http 400: it does not take an export without records"),
            (429, "", "Doubtful("),
            (503, "", "Bad { text: \"http 503"),
        ] {
            let reply = Reply::Http { status, headers: HeaderMap::new(), body: body.into() };
            let told = format!("{:?}", judge_probe(&reply));
            assert!(told.starts_with(want), "{told} for {status} {body}");
        }
    }

    #[test]
    fn the_table() {
        let (protobuf, json) = ("application/x-protobuf", "application/json; charset=utf-8");
        for (status, kind, body, want) in [
            (200, protobuf, &b""[..], "Delivered"),
            (202, protobuf, &b"\x0a\x00"[..], "Delivered"),
            (200, protobuf, &partial(0), "Delivered"),
            (200, protobuf, &partial(2), "2: http 200, but 2 log records rejected"),
            (200, protobuf, &partial(5), "all 5"),
            (200, protobuf, b"<html>", "retry None"),
            (200, json, b"{\"partialSuccess\":{}}", "Delivered"),
            (200, json, b"{}", "Delivered"),
            (
                200,
                json,
                b"{\"partialSuccess\":{\"rejectedLogRecords\":\"2\",\"errorMessage\":\"x\"}}",
                "2: http 200, but 2 log records rejected",
            ),
            (200, json, b"{\"partialSuccess\":{\"rejectedLogRecords\":9}}", "all 5"),
            (200, json, b"<html>", "retry None"),
            (400, protobuf, b"http: request body too large", "Split"),
            (413, protobuf, b"", "Split"),
            (400, protobuf, b"", "reject"),
            (429, protobuf, b"", "retry Some(7)"),
            (503, protobuf, b"", "retry Some(7)"),
            (500, protobuf, b"", "hold"),
            (408, protobuf, b"", "hold"),
            (401, protobuf, b"", "hold"),
            (404, protobuf, b"", "hold"),
        ] {
            assert_eq!(told(status, kind, body), want, "{status} {kind}");
        }
    }
}
