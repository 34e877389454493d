//! Failing closed: what leaves of a line that cannot be read.
//!
//! A stub is a valid audit event without bodies. It holds every top-level scalar that could be read from the head
//! of the line (level, auditID, stage, requestURI, verb, userAgent), who it was (`user` without `extra`,
//! `sourceIPs`), what it was about (`objectRef`, the status code), the two times, which stand at the end of the
//! line, and annotations of ours that say why and where. Values are copied raw, so they stay as they were spelled.

use auditship_event::parts::EVENT_BEGINS;
use auditship_event::scan::{self, Scalar, Str, Visitor};
use auditship_event::{Broken, Span, text};

/// Longest value copied into a stub; a longer one is left out.
const MAX_VALUE: usize = 8 << 10;

/// What failing closed adds: the reason and the place.
pub const ANNOTATION_REASON: &str = "auditship.io/failed-closed";
/// The span of the line in its stream.
pub const ANNOTATION_SPAN: &str = "auditship.io/span";

/// The members of the top level that are copied, in the API server's order.
const SCALARS: &[&str] = &["level", "auditID", "stage", "requestURI", "verb"];
const TIMES: &[&str] = &["requestReceivedTimestamp", "stageTimestamp"];
const USER: &[&str] = &["username", "uid"];
const OBJECT: &[&str] =
    &["resource", "namespace", "name", "uid", "apiGroup", "apiVersion", "resourceVersion", "subresource"];

/// Writes the stub of `broken` to `out`.
pub fn write(broken: &Broken<'_>, span: Span, out: &mut Vec<u8>) {
    let mut head = Members { doc: broken.head, top: None, sub: None, list: false, found: Vec::new() };
    // A fragment of a body begins like an object too, so only the API server's own beginning is trusted.
    if broken.head.starts_with(EVENT_BEGINS) {
        // It will fail somewhere: that is why we are here. What came before counts.
        let _ = scan::value(broken.head, 0, &mut head);
    }
    let get = |top: &str, sub: &str| {
        head.found.iter().rev().find(|m| m.top == top && m.sub == sub).map(|m| &broken.head[m.start..m.end])
    };
    out.extend_from_slice(br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1""#);
    for name in SCALARS {
        member(out, name, get(name, ""));
    }
    object(out, "user", USER, &get, list(&head, broken.head, "user", "groups").map(|l| ("groups", l)));
    if let Some(ips) = list(&head, broken.head, "sourceIPs", "") {
        member(out, "sourceIPs", Some(&ips));
    }
    member(out, "userAgent", get("userAgent", ""));
    object(out, "objectRef", OBJECT, &get, None);
    object(out, "responseStatus", &["code"], &get, None);
    let end = if broken.tail.is_empty() { broken.head } else { broken.tail };
    for name in TIMES {
        member(out, name, last_string(end, name));
    }
    out.extend_from_slice(
        format!(
            r#","annotations":{{"{ANNOTATION_REASON}":"{}","{ANNOTATION_SPAN}":"{span}"}}}}"#,
            broken.reason
        )
        .as_bytes(),
    );
}

fn member(out: &mut Vec<u8>, name: &str, raw: Option<&[u8]>) {
    if let Some(raw) = raw.filter(|raw| raw.len() <= MAX_VALUE && std::str::from_utf8(raw).is_ok()) {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        out.extend_from_slice(raw);
    }
}

fn object<'a>(
    out: &mut Vec<u8>,
    top: &str,
    names: &[&str],
    get: &impl Fn(&str, &str) -> Option<&'a [u8]>,
    list: Option<(&str, Vec<u8>)>,
) {
    let mut inner = Vec::new();
    for name in names {
        member(&mut inner, name, get(top, name));
    }
    if let Some((name, list)) = list {
        member(&mut inner, name, Some(&list));
    }
    if let Some(first) = inner.first_mut() {
        *first = b'{';
        inner.push(b'}');
        member(out, top, Some(&inner));
    }
}

/// The strings of a list that were read, as a list.
fn list(head: &Members<'_>, doc: &[u8], top: &str, sub: &str) -> Option<Vec<u8>> {
    let items: Vec<&[u8]> = head
        .found
        .iter()
        .filter(|m| m.list && m.top == top && m.sub == sub)
        .map(|m| &doc[m.start..m.end])
        .collect();
    (!items.is_empty()).then(|| [b"[", &*items.join(&b','), b"]"].concat())
}

/// The string that follows the last `"name":` of `text`, quotes included. The API server writes its own members
/// after the bodies, so the last one is its own.
fn last_string<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let needle = format!("\"{name}\":\"");
    let start = memchr::memmem::rfind(text, needle.as_bytes())? + needle.len() - 1;
    let mut one = One(None);
    let end = scan::value(text, start, &mut one).ok()?;
    // A time stamp and nothing else: 35 bytes at most.
    (end - start <= 40).then(|| &text[start..end])
}

struct One(Option<Str>);

impl Visitor for One {
    fn string(&mut self, value: Str, _: usize) {
        self.0 = Some(value);
    }
}

struct Member {
    top: String,
    sub: String,
    list: bool,
    start: usize,
    end: usize,
}

/// Collects the scalars that a stub may use.
struct Members<'a> {
    doc: &'a [u8],
    top: Option<&'static str>,
    sub: Option<&'static str>,
    list: bool,
    found: Vec<Member>,
}

impl Members<'_> {
    fn note(&mut self, start: usize, end: usize, depth: usize) {
        let wanted = match depth {
            1 => self.sub.is_none() && !self.list,
            2 => self.sub.is_some() || (self.list && self.top == Some("sourceIPs")),
            3 => self.list && self.sub == Some("groups"),
            _ => false,
        };
        if let (true, Some(top)) = (wanted, self.top) {
            let list = self.list;
            self.found.push(Member { top: top.into(), sub: self.sub.unwrap_or("").into(), list, start, end });
        }
    }
}

impl Visitor for Members<'_> {
    fn open_array(&mut self, _: usize, depth: usize) {
        self.list |= depth == 1 || depth == 2;
    }

    fn close(&mut self, _: usize, depth: usize) {
        if depth <= 2 {
            self.list = false;
        }
    }

    fn key(&mut self, key: Str, depth: usize) {
        let word = text::decoded(self.doc, key);
        let pick = |names: &[&'static str]| names.iter().copied().find(|name| *name == word);
        if depth == 1 {
            (self.list, self.sub) = (false, None);
            self.top = pick(SCALARS)
                .or_else(|| pick(&["user", "sourceIPs", "userAgent", "objectRef", "responseStatus"]));
        } else if depth == 2 {
            self.sub = match self.top {
                Some("user") => pick(USER).or_else(|| pick(&["groups"])),
                Some("objectRef") => pick(OBJECT),
                Some("responseStatus") => pick(&["code"]),
                _ => None,
            };
        }
    }

    fn string(&mut self, value: Str, depth: usize) {
        self.note(value.start - 1, value.end + 1, depth);
    }

    fn scalar(&mut self, start: usize, end: usize, _: Scalar, depth: usize) {
        self.note(start, end, depth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditship_event::StreamId;

    const LINE: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a\u0031","stage":"ResponseComplete","requestURI":"/api","verb":"create","user":{"username":"alice","uid":"7","groups":["g1","g2"],"extra":{"token":["SECRET"]}},"sourceIPs":["192.0.2.1","192.0.2.2"],"userAgent":"k","objectRef":{"resource":"secrets","namespace":"n"},"responseStatus":{"metadata":{"x":"SECRET"},"message":"SECRET","code":201},"requestObject":{"verb":"SECRET","data":{"k":"SECRET"}},"requestReceivedTimestamp":"2026-01-02T03:04:05.000000Z","stageTimestamp":"2026-01-02T03:04:06.000000Z","annotations":{"a":"SECRET"}}"#;

    fn stub(head: &[u8], tail: &[u8]) -> String {
        let mut out = Vec::new();
        let span = Span { stream: StreamId(3), start: 10, end: 20 };
        write(&Broken { head, tail, reason: "too_long" }, span, &mut out);
        let text = String::from_utf8(out).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).expect("a stub is JSON");
        text
    }

    const END: &str =
        r#","annotations":{"auditship.io/failed-closed":"too_long","auditship.io/span":"s3:10-20"}}"#;

    #[test]
    fn keeps_who_what_when_and_no_body() {
        let at = LINE.find("\"k\":\"SECRET").unwrap() + 8;
        let whole = stub(&LINE.as_bytes()[..at], &LINE.as_bytes()[at..]);
        assert_eq!(
            whole,
            [
                r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a\u0031","stage":"ResponseComplete","requestURI":"/api","verb":"create","user":{"username":"alice","uid":"7","groups":["g1","g2"]},"sourceIPs":["192.0.2.1","192.0.2.2"],"userAgent":"k","objectRef":{"resource":"secrets","namespace":"n"},"responseStatus":{"code":201},"requestReceivedTimestamp":"2026-01-02T03:04:05.000000Z","stageTimestamp":"2026-01-02T03:04:06.000000Z""#,
                END
            ]
            .concat()
        );
    }

    #[test]
    fn no_cut_lets_a_secret_through_or_makes_bad_json() {
        for at in 0..LINE.len() {
            assert!(!stub(&LINE.as_bytes()[..at], b"").contains("SECRET"), "cut at {at}");
            assert!(!stub(&LINE.as_bytes()[at..], b"").contains("SECRET"), "from {at}");
        }
    }

    #[test]
    fn of_garbage_nothing_is_left_but_the_reason() {
        let bare = format!(r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1"{END}"#);
        assert_eq!(stub(b"\xff\xfe\x00", b""), bare);
        assert_eq!(stub(b"", b""), bare);
        assert_eq!(stub(&vec![b'['; 100_000], b""), bare);
    }
}
