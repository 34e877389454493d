//! What `redact` shows of its edits, for a terminal and for programs. Never a value that was taken out.
//!
//! Text from an event is written with control and bidirectional characters escaped: it must not move a cursor,
//! change a colour or turn a line around (Unicode Technical Report 36, §2.10).

use crate::lines::{Taken, Told};
use auditship_event::Event;
use serde_json::{Value, json};
use std::fmt::Write;

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// For a terminal.
    Yes,
    /// For everything else.
    No,
}

impl Colour {
    /// `text` in the colour of an SGR code, where there are colours.
    pub(crate) fn paint(self, code: &str, text: &str) -> String {
        match self {
            Colour::Yes => format!("\x1b[{code}m{text}\x1b[0m"),
            Colour::No => text.to_owned(),
        }
    }
}

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BOLD: &str = "1";

/// Whether a terminal does something else with it than to print it.
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `text` as it can be printed.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_active(c) {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// `value` as JSON text that can be printed and means the same.
pub fn json_text(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(is_active) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_active(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Who the part is, as far as its redacted bytes say.
struct Head {
    audit_id: String,
    verb: String,
    resource: String,
    namespace: String,
    name: String,
    uri: String,
}

impl Head {
    fn of(after: &[u8]) -> Option<Head> {
        let event = Event::parse(after).ok()?;
        let object = event.object_ref().unwrap_or_default();
        let sub = if object.subresource.is_empty() { "" } else { "/" };
        let group = if object.group.is_empty() { "" } else { "." };
        Some(Head {
            audit_id: event.audit_id().into_owned(),
            verb: event.verb().into_owned(),
            resource: format!("{}{sub}{}{group}{}", object.resource, object.subresource, object.group),
            namespace: object.namespace.into_owned(),
            name: object.name.into_owned(),
            uri: event.request_uri().into_owned(),
        })
    }

    fn text(&self) -> String {
        let mut words =
            vec![if self.audit_id.is_empty() { "no-audit-id" } else { &*self.audit_id }, &self.verb];
        let object = [&*self.namespace, &self.name].into_iter().filter(|word| !word.is_empty());
        let object = object.collect::<Vec<_>>().join("/");
        if self.resource.is_empty() {
            words.push(self.uri.split('?').next().unwrap_or_default());
        } else {
            words.extend([&*self.resource, &object]);
        }
        words.retain(|word| !word.is_empty());
        printable(&words.join(" "))
    }
}

fn head(told: &Told, colour: Colour) -> String {
    let text = match (told.broken, Head::of(&told.after)) {
        (Some(reason), _) => format!("unreadable ({reason})"),
        (None, Some(head)) => head.text(),
        (None, None) => "no event".to_owned(),
    };
    colour.paint(BOLD, &text)
}

fn path(taken: &Taken) -> String {
    if taken.path.is_empty() { "(all of it)".to_owned() } else { printable(&taken.path) }
}

/// What a stub or a replaced document holds is no longer one value.
fn replacement(taken: &Taken) -> String {
    match taken.action {
        "stub" => "a stub without bodies".to_owned(),
        "remove" => "nothing".to_owned(),
        _ => printable(&String::from_utf8_lossy(&taken.replacement)),
    }
}

/// Appends one part of line `number` for `--diff`; nothing if nothing of it has changed.
pub fn diff(number: u64, told: &Told, colour: Colour, out: &mut String) {
    if told.taken.is_empty() {
        return;
    }
    let _ = writeln!(out, "line {number}: {}", head(told, colour));
    for taken in &told.taken {
        let _ = writeln!(
            out,
            "  {}  {}  {} → {}",
            path(taken),
            colour.paint(YELLOW, &taken.rule),
            colour.paint(RED, &format!("[{} bytes]", taken.length)),
            colour.paint(GREEN, &replacement(taken)),
        );
    }
}

/// Appends one part of line `number` for `--explain`, as a block.
pub fn explain(number: u64, told: &Told, colour: Colour, out: &mut String) {
    let _ = writeln!(out, "line {number}: {}", head(told, colour));
    if told.taken.is_empty() {
        out.push_str("  nothing is taken out\n");
    }
    let wide = |of: fn(&Taken) -> usize| told.taken.iter().map(of).max().unwrap_or(0);
    let (rules, actions) = (wide(|taken| taken.rule.len()), wide(|taken| taken.action.len()));
    for taken in &told.taken {
        let rule = colour.paint(YELLOW, &format!("{:rules$}", taken.rule));
        let _ = writeln!(out, "  {rule}  {:actions$}  {} bytes  {}", taken.action, taken.length, path(taken));
    }
}

/// The same as one JSON object.
pub fn explain_json(number: u64, told: &Told) -> String {
    let taken = |taken: &Taken| json!({"rule": taken.rule, "path": taken.path, "action": taken.action, "length": taken.length});
    let mut value = json!({"line": number, "redacted": told.taken.iter().map(taken).collect::<Vec<_>>()});
    if let (Some(head), Some(members)) = (Head::of(&told.after), value.as_object_mut()) {
        members.insert("auditID".to_owned(), head.audit_id.into());
        members.insert("verb".to_owned(), head.verb.into());
        for (name, word) in [("resource", head.resource), ("namespace", head.namespace), ("name", head.name)]
        {
            if !word.is_empty() {
                members.insert(name.to_owned(), word.into());
            }
        }
    }
    if let (Some(reason), Some(members)) = (told.broken, value.as_object_mut()) {
        members.insert("failedClosed".to_owned(), reason.into());
    }
    json_text(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        let after = r#"{"auditID":"a\u001b[31m","verb":"create","objectRef":{"resource":"pods","subresource":"exec","namespace":"n","name":"p\u202e"},"x":"redacted:jwt"}"#;
        let taken = Taken {
            rule: "jwt".into(),
            path: "x[\"\u{202e}\"]".into(),
            action: "mask",
            length: 7,
            replacement: b"redacted:jwt".to_vec(),
        };
        Told { after: after.as_bytes().to_vec(), broken: None, taken: vec![taken] }
    }

    #[test]
    fn nothing_reaches_the_terminal_that_moves_it() {
        let (mut one, mut two) = (String::new(), String::new());
        diff(3, &told(), Colour::No, &mut one);
        explain(3, &told(), Colour::No, &mut two);
        let head = "line 3: a\\u{1b}[31m create pods/exec n/p\\u{202e}\n";
        assert_eq!(one, format!("{head}  x[\"\\u{{202e}}\"]  jwt  [7 bytes] → redacted:jwt\n"));
        assert_eq!(two, format!("{head}  jwt  mask  7 bytes  x[\"\\u{{202e}}\"]\n"));
        let json = explain_json(3, &told());
        assert!(!json.contains(is_active), "{json}");
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["redacted"][0]["path"], "x[\"\u{202e}\"]");
        assert_eq!((&value["auditID"], &value["resource"]), (&json!("a\u{1b}[31m"), &json!("pods/exec")));
    }

    #[test]
    fn colours_only_where_asked_for() {
        let mut out = String::new();
        diff(1, &told(), Colour::Yes, &mut out);
        assert!(out.contains("\x1b[31m[7 bytes]\x1b[0m"), "{out:?}");
    }

    #[test]
    fn what_could_not_be_read() {
        let taken = Taken {
            rule: "failed-closed".into(),
            path: String::new(),
            action: "stub",
            length: 99,
            replacement: b"{}".to_vec(),
        };
        let told = Told { after: b"{}".to_vec(), broken: Some("truncated"), taken: vec![taken] };
        let mut out = String::new();
        explain(1, &told, Colour::No, &mut out);
        assert_eq!(out, "line 1: unreadable (truncated)\n  failed-closed  stub  99 bytes  (all of it)\n");
        assert!(explain_json(1, &told).contains(r#""failedClosed":"truncated""#));
    }
}
