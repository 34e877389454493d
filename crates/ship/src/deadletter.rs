//! What is kept of a record that a backend refused for good: one JSON line, of redacted bytes only.
//!
//! The line is made here; [`crate::store::DeadLetters`] puts it on disk. The format carries a version.

use crate::batch::{Entry, Form};
use crate::sink::Refusal;
use auditship_event::{scan, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// The version of the lines written; raised when a field changes its meaning.
pub const VERSION: u32 = 1;

/// Appends the dead letter of `entry`, refused by `output` at `time`, whose document was sent as `document`.
///
/// Fields: `v`, `time`, `output`, `status`, `reason`, `uid`, `index`, `span` (`stream`, `start`, `end`), `form` where
/// that is not how it was framed (`flat`: see [`Form::Flat`]), and `body` (the document as it was sent) or, should it
/// not be JSON, `body_base64`.
pub(crate) fn write(
    output: &str,
    time: jiff::Timestamp,
    refusal: &Refusal,
    entry: &Entry,
    document: &[u8],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(format!("{{\"v\":{VERSION},\"time\":\"{time:.3}\",\"output\":\"").as_bytes());
    text::escape_into(output, out);
    out.extend_from_slice(format!("\",\"status\":{},\"reason\":\"", refusal.status).as_bytes());
    text::escape_into(&refusal.reason, out);
    out.extend_from_slice(format!("\",\"uid\":\"{}\",\"index\":\"", entry.uid).as_bytes());
    text::escape_into(entry.index.as_str(), out);
    let span = entry.span;
    let place = format!(
        "\",\"span\":{{\"stream\":{},\"start\":{},\"end\":{}}},",
        span.stream.0, span.start, span.end
    );
    out.extend_from_slice(place.as_bytes());
    match entry.form {
        Form::Whole => {}
        Form::Flat => out.extend_from_slice(b"\"form\":\"flat\","),
    }
    let document = document.trim_ascii();
    let one_line = !document.contains(&b'\n');
    if one_line && scan::document(document, &mut scan::Ignore).is_ok() {
        out.extend_from_slice(b"\"body\":");
        out.extend_from_slice(document);
        out.extend_from_slice(b"}\n");
    } else {
        out.extend_from_slice(format!("\"body_base64\":\"{}\"}}\n", BASE64.encode(document)).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditship_event::{Index, Span, StreamId, Uid};
    use serde_json::Value;

    fn letter(document: &[u8], form: Form) -> Value {
        let entry = Entry {
            ticket: 7,
            uid: Uid([0xab; 16]),
            index: Index("audit".into()),
            span: Span { stream: StreamId(3), start: 10, end: 20 },
            offset: 0,
            len: document.len(),
            document: 0..document.len(),
            time: 0,
            form,
            trimmed: false,
        };
        let refusal = Refusal { status: 400, reason: "400 a \"quoted\" word".to_owned() };
        let mut out = Vec::new();
        write("search", jiff::Timestamp::UNIX_EPOCH, &refusal, &entry, document, &mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn one_line_that_can_be_read_back() {
        let value = letter(b"{\"kind\":\"Event\"}\n", Form::Whole);
        assert_eq!(
            value,
            serde_json::json!({
                "v": 1, "time": "1970-01-01T00:00:00.000Z", "output": "search", "status": 400,
                "reason": "400 a \"quoted\" word", "uid": "ab".repeat(16), "index": "audit",
                "span": {"stream": 3, "start": 10, "end": 20}, "body": {"kind": "Event"},
            })
        );
        assert_eq!(letter(b"not json\n", Form::Whole)["body_base64"], BASE64.encode("not json"));
        assert_eq!(letter(b"{\n}", Form::Whole)["body_base64"], BASE64.encode("{\n}"));
        assert_eq!(letter(b"{}", Form::Flat)["form"], "flat");
    }
}
