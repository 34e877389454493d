//! The scanner and the lazy event against serde_json: the same documents, the same fields.

use auditship_event::scan::{self, Ignore, Reason};
use auditship_event::{Event, Stage};
use serde::de::IgnoredAny;
use serde_json::Value;

pub(super) fn run(input: &[u8]) {
    let ours = scan::document(input, &mut Ignore);
    let too_deep = ours.is_err_and(|malformed| malformed.reason == Reason::TooDeep);
    // What is no text is for others to judge: only here bytes that are not UTF-8 may stand in strings.
    if let (Ok(text), false) = (std::str::from_utf8(input), too_deep) {
        let theirs = serde_json::from_str::<IgnoredAny>(text);
        assert_eq!(ours.is_ok(), theirs.is_ok(), "one takes it, the other does not: {ours:?}, {theirs:?}");
    }
    let event = Event::parse(input);
    assert_eq!(event.is_ok(), ours.is_ok(), "the event and the scanner differ");
    // Lone surrogates and numbers beyond 1e308 are JSON, but no `Value`.
    if let (Ok(event), Ok(value @ Value::Object(_))) = (event, serde_json::from_slice::<Value>(input)) {
        fields(&event, &value);
    }
}

/// Where a member is repeated, the last one counts for both.
fn fields(event: &Event<'_>, value: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    assert_eq!(event.verb(), text(&value["verb"]));
    assert_eq!(event.audit_id(), text(&value["auditID"]));
    assert_eq!(event.request_uri(), text(&value["requestURI"]));
    assert_eq!(event.user_agent(), text(&value["userAgent"]));
    assert_eq!(event.stage() == Stage::Panic, value["stage"] == "Panic");
    let bodies = [("requestObject", event.request_object()), ("responseObject", event.response_object())];
    for (name, range) in bodies {
        match (range, value.get(name)) {
            (Some(range), Some(body)) => {
                // Of a string the range is its inside.
                let quotes = usize::from(body.is_string());
                let ours = &event.raw()[range.start - quotes..range.end + quotes];
                let ours: Value = serde_json::from_slice(ours).expect("a body is JSON");
                assert_eq!(ours, *body, "another {name}");
            }
            (range, body) => assert_eq!(range.is_some(), body.is_some(), "{name}"),
        }
    }
}
