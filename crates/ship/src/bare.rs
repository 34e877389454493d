//! The event in a record's document: what a sink has put before its members is taken away, and what it has made text
//! of is what it was. For records that are framed once more: by a fallback, or as dead letters sent again.
//!
//! What cannot be undone: what was trimmed, and the field managers that Datadog's shape leaves out.

use crate::batch::Form;
use crate::shape::datadog;
use crate::trim::RUNGS;
use auditship_event::scan;
use auditship_event::{Body, Edits, Trim, text};
use std::ops::Range;

/// What all sinks put first.
const FIRST: &[&str] = &["@timestamp", "auditship"];

/// The first member of an entry of Datadog's shape.
const DATADOG: &str = "ddsource";

/// What [`crate::Batch::flattened`] makes strings of.
pub(crate) const BODIES: &[&str] = &["requestObject", "responseObject"];

/// The members of an event that are objects or lists, of which Datadog's shape makes text where they are large. Others
/// are the client's words, and may well look like JSON.
const CONTAINERS: &[&str] = &[
    "requestObject",
    "responseObject",
    "user",
    "impersonatedUser",
    "objectRef",
    "responseStatus",
    "sourceIPs",
    "annotations",
    "authenticationMetadata",
];

/// The event that a document holds.
pub struct Bare {
    edits: Edits,
    trim: Option<Trim>,
}

impl Bare {
    /// As a body; `document` is what this was made of.
    pub fn body<'a>(&'a self, document: &'a [u8]) -> Body<'a> {
        Body::trimmed(document, &self.edits, self.trim)
    }
}

/// Finds the event in the document of a record that was sent in `form`.
pub fn bare(document: &[u8], form: Form) -> Bare {
    let (mut edits, mut trim) = (Edits::new(), None);
    let start = scan::skip_space(document, 0) + 1;
    let mut members = Members { document, at: start };
    let framed = members.clone().next().is_some_and(|(key, _)| document.get(key) == Some(DATADOG.as_bytes()));
    let first = if framed { datadog::OURS } else { FIRST };
    let texts = match form {
        _ if framed => CONTAINERS,
        Form::Flat => BODIES,
        Form::Whole => &[],
    };
    let named = |list: &[&str], key: &Range<usize>| {
        let key = &document[key.clone()];
        list.iter().any(|word| word.as_bytes() == key)
    };
    let mut own = start;
    while let Some((key, value)) = members.clone().next().filter(|(key, _)| named(first, key)) {
        if &document[key] == b"auditship" {
            trim = trim_of(&document[value]);
        }
        members.next();
        own = members.at;
    }
    if own > start {
        edits.push(start..own, b"", 0);
    }
    if !texts.is_empty() {
        for (_, value) in members.filter(|(key, _)| named(texts, key)) {
            if let Some(container) = container(&document[value.clone()]) {
                edits.push(value, &container, 0);
            }
        }
    }
    edits.settle();
    Bare { edits, trim }
}

/// The members of the outermost object: key, without its quotes, and value.
#[derive(Clone)]
struct Members<'a> {
    document: &'a [u8],
    /// Where the next one begins.
    at: usize,
}

impl Iterator for Members<'_> {
    type Item = (Range<usize>, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let document = self.document;
        if document.get(self.at) != Some(&b'"') {
            return None;
        }
        let key = scan::value(document, self.at, &mut scan::Ignore).ok()?;
        let colon = scan::skip_space(document, key);
        let value = scan::skip_space(document, colon + 1);
        let end = scan::value(document, value, &mut scan::Ignore).ok()?;
        let found = (document.get(colon) == Some(&b':')).then_some((self.at + 1..key - 1, value..end))?;
        self.at = scan::skip_space(document, end);
        if document.get(self.at) == Some(&b',') {
            self.at = scan::skip_space(document, self.at + 1);
        }
        Some(found)
    }
}

/// What the record's own member says that was taken out.
fn trim_of(member: &[u8]) -> Option<Trim> {
    #[derive(serde::Deserialize)]
    struct Member {
        trimmed: Vec<String>,
        bytes: usize,
    }
    let member: Member = serde_json::from_slice(member).ok()?;
    Some(Trim { taken: RUNGS.get(..member.trimmed.len())?, bytes: member.bytes })
}

/// The object or list that a string holds, if it holds nothing else.
fn container(value: &[u8]) -> Option<Vec<u8>> {
    let raw = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut out = Vec::with_capacity(raw.len());
    text::unescape(raw, &mut out, |_, _| {});
    // A newline between two members would end the line that the event is to be.
    let one_line = !out.contains(&b'\n') && !out.contains(&b'\r');
    let whole = matches!(out.first(), Some(b'{' | b'[')) && scan::document(&out, &mut scan::Ignore).is_ok();
    (whole && one_line).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::tests::full;
    use crate::sinks::tests::{batch, build};
    use serde_json::{Value, json};

    #[test]
    fn what_a_sink_has_put_first_is_taken_away() {
        for (document, want, taken) in [
            (r#"{"@timestamp":"t","auditship":{"uid":"{}"}, "kind":"Event"}"#, r#"{"kind":"Event"}"#, 0),
            (
                r#"{"auditship":{"uid":"u","trimmed":["managedFields"],"bytes":9}, "kind":"Event"}"#,
                r#"{"kind":"Event"}"#,
                1,
            ),
            (r#"{"auditship":{}}"#, "{}", 0),
            (r#"{"kind":"Event","auditship":{}}"#, r#"{"kind":"Event","auditship":{}}"#, 0),
            (
                r#"{"ddsource":"s","message":"m","auditship":{"trimmed":["managedFields"],"bytes":9}}"#,
                "{}",
                1,
            ),
            (r#"{"message":"an event's own"}"#, r#"{"message":"an event's own"}"#, 0),
            ("{}", "{}", 0),
            ("", "", 0),
        ] {
            let bare = bare(document.as_bytes(), Form::Whole);
            let body = bare.body(document.as_bytes());
            assert_eq!(String::from_utf8(body.to_vec()).unwrap(), want);
            assert_eq!(body.trim().map_or(0, |trim| trim.taken.len()), taken);
        }
    }

    #[test]
    fn strings_are_what_they_were() {
        let flat = r#"{"kind":"Event","requestObject":"{\"a\":\"\\\"\\u00e9\"}","responseObject":"[1, {}]","userAgent":"{}"}"#;
        let whole =
            r#"{"kind":"Event","requestObject":{"a":"\"\u00e9"},"responseObject":[1, {}],"userAgent":"{}"}"#;
        for (form, document, want) in [
            (Form::Flat, flat, whole),
            (Form::Whole, flat, flat),
            (Form::Flat, whole, whole),
            (Form::Flat, r#"{"requestObject":"{\"a\":"}"#, r#"{"requestObject":"{\"a\":"}"#),
            (Form::Flat, r#"{"requestObject":"{} {}"}"#, r#"{"requestObject":"{} {}"}"#),
            (Form::Flat, r#"{"requestObject":"7"}"#, r#"{"requestObject":"7"}"#),
            (Form::Flat, r#"{"requestObject":"{\n}"}"#, r#"{"requestObject":"{\n}"}"#),
        ] {
            let bare = bare(document.as_bytes(), form);
            let body = bare.body(document.as_bytes()).to_vec();
            assert_eq!(String::from_utf8(body).unwrap(), want, "{form:?} {document}");
        }
    }

    #[test]
    fn every_sinks_document_holds_the_event() {
        let mut event = full();
        // More attributes than stay an object in Datadog's shape, and words of a client that look like one.
        event["annotations"] =
            (0..70).map(|n| (format!("a{n}"), json!("x"))).collect::<serde_json::Map<_, _>>().into();
        event["userAgent"] = json!("{\"a\":1}");
        let line = event.to_string();
        for kind in crate::sinks::SINKS {
            let options = match kind.name {
                "elasticsearch" | "loki" | "otlp" => json!({"endpoint": "http://x"}),
                "http" => json!({"url": "http://x"}),
                "datadog" => json!({"auth": {"api_key": "k"}}),
                "splunk_hec" => json!({"endpoint": "http://x", "auth": {"token": "t"}}),
                "s3" => json!({"bucket": "audit", "endpoint": "http://x"}),
                "dir" => json!({"path": "/x"}),
                _ => json!({}),
            };
            let sink = build(kind.name, options).unwrap().sink;
            let whole = batch(&sink, &[&line]);
            let flat = whole.flattened(&[0]).unwrap().batch;
            for batch in [Some(whole), flat].into_iter().flatten() {
                let (raw, entry) = (batch.raw().unwrap(), &batch.records[0]);
                let document = batch.document(entry, &raw);
                let bare = bare(&document, entry.form);
                let got: Value = serde_json::from_slice(&bare.body(&document).to_vec()).unwrap();
                let mut want = event.clone();
                if kind.name == "datadog" {
                    want["requestObject"]["metadata"]["managedFields"] = json!([]);
                }
                assert_eq!(got, want, "{} {:?}", kind.name, entry.form);
            }
        }
    }
}
