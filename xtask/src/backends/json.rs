//! JSON as it is written, for comparing: numbers of any size stay text, repeated keys stay, order does not matter
//! nor does the way a string is escaped.

use std::borrow::Cow;

/// The members of the object `text` as paths and values: nested objects become `a.b`, except those that `keep`
/// names; what is kept and arrays become [`canonical`] text, strings their content. `null` and empty strings are left
/// out. Sorted. `None` where it is no JSON object.
pub(crate) fn flat(text: &[u8], keep: &[&str]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut out = Vec::new();
    let end = members(text, 0, "", keep, &mut out)?;
    out.sort();
    (space(text, end) == text.len()).then_some(out)
}

/// The value of a member of the object `text`, as it is written.
pub(crate) fn member<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut at = space(text, space(text, 0) + 1);
    while *text.get(at)? != b'}' {
        let end = string(text, at)?;
        let found = decoded(&text[at..end]) == name;
        at = space(text, space(text, end) + 1);
        let end = value(text, at)?;
        if found {
            return Some(text[at..end].trim_ascii());
        }
        at = after_comma(text, end);
    }
    None
}

/// The items of the array `text`, as they are written.
pub(crate) fn items(text: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut out, mut at) = (Vec::new(), space(text, space(text, 0) + 1));
    while *text.get(at)? != b']' {
        let end = value(text, at)?;
        out.push(text[at..end].trim_ascii());
        at = after_comma(text, end);
    }
    Some(out)
}

/// The content of the string `token`, as JSON writes it.
pub(crate) fn content(token: &[u8]) -> Option<String> {
    (token.first() == Some(&b'"')).then(|| decoded(token).into_owned())
}

fn after_comma(text: &[u8], end: usize) -> usize {
    let at = space(text, end);
    if text.get(at) == Some(&b',') { space(text, at + 1) } else { at }
}

/// Whether what is left of an event that was trimmed is as it was: all but its bodies and long strings.
pub(crate) fn same_left(sent: &[u8], arrived: &[u8]) -> bool {
    const BODIES: [&str; 2] = ["requestObject", "responseObject"];
    let left = |text| {
        let mut members = flat(text, &BODIES)?;
        members.retain(|(path, value)| !BODIES.contains(&path.as_str()) && value.len() <= 256);
        Some(members)
    };
    left(sent).is_some_and(|sent| left(arrived) == Some(sent))
}

/// Without white space between the tokens and with every string escaped in one way. What is no JSON stays as it is.
pub(crate) fn canonical(text: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        match text[at] {
            b'"' => {
                let end = string(text, at).unwrap_or(text.len());
                out.extend_from_slice(
                    serde_json::Value::from(&*decoded(&text[at..end])).to_string().as_bytes(),
                );
                at = end;
            }
            byte => {
                if !byte.is_ascii_whitespace() {
                    out.push(byte);
                }
                at += 1;
            }
        }
    }
    out
}

/// The content of a string, its quotes included in `token`.
fn decoded(token: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(token);
    match serde_json::from_str::<String>(&text) {
        Ok(content) => Cow::Owned(content),
        Err(_) => text,
    }
}

/// Where the string that begins at `at` ends.
fn string(text: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 1;
    while *text.get(end)? != b'"' {
        end += if text[end] == b'\\' { 2 } else { 1 };
    }
    Some(end + 1)
}

/// Where the value that begins at `at` ends.
fn value(text: &[u8], mut at: usize) -> Option<usize> {
    let (start, mut depth) = (at, 0);
    loop {
        match *text.get(at)? {
            b'"' => at = string(text, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' if depth == 0 => break,
            b'}' | b']' => {
                depth -= 1;
                at += 1;
            }
            b',' if depth == 0 => break,
            _ => at += 1,
        }
        if depth == 0 && matches!(text[start], b'"' | b'{' | b'[') {
            break;
        }
    }
    Some(at)
}

fn space(text: &[u8], at: usize) -> usize {
    at + text.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

fn members(
    text: &[u8],
    at: usize,
    prefix: &str,
    keep: &[&str],
    out: &mut Vec<(String, Vec<u8>)>,
) -> Option<usize> {
    let mut at = space(text, at);
    if *text.get(at)? != b'{' {
        return None;
    }
    at = space(text, at + 1);
    while *text.get(at)? != b'}' {
        let end = string(text, at)?;
        let path = format!("{prefix}{}", decoded(&text[at..end]));
        at = space(text, space(text, end) + 1);
        let end = value(text, at)?;
        let token = text[at..end].trim_ascii();
        match token.first()? {
            b'{' if !keep.contains(&path.as_str()) => {
                members(token, 0, &format!("{path}."), keep, out)?;
            }
            b'{' | b'[' => out.push((path, canonical(token))),
            b'"' if token.len() > 2 => out.push((path, decoded(token).into_owned().into_bytes())),
            b'"' => {}
            _ if token == b"null" => {}
            _ => out.push((path, token.to_vec())),
        }
        at = after_comma(text, end);
    }
    Some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_as_they_are_written() {
        let text = br#" {"a": [1, {"x": "]"} , 1e400], "\u0062" : {"c": "\"d"}} "#;
        assert_eq!(member(text, "b"), Some(&br#"{"c": "\"d"}"#[..]));
        assert_eq!(member(text, "c"), None);
        let list = items(member(text, "a").unwrap()).unwrap();
        assert_eq!(list, [&b"1"[..], br#"{"x": "]"}"#, b"1e400"]);
        assert_eq!(content(member(member(text, "b").unwrap(), "c").unwrap()).as_deref(), Some("\"d"));
        assert_eq!((items(b"[]"), content(b"1")), (Some(Vec::new()), None));
    }

    #[test]
    fn what_is_left_after_trimming() {
        let long = "x".repeat(300);
        let sent = format!(r#"{{"a":1,"b":"{long}","requestObject":{{"c":2}},"user":{{"n":"u"}}}}"#);
        assert!(same_left(sent.as_bytes(), br#"{"a":1,"requestObject":null,"user":{"n":"u"}}"#));
        assert!(!same_left(sent.as_bytes(), br#"{"a":1,"user":{"n":"v"}}"#));
        assert!(!same_left(sent.as_bytes(), b"{}"));
    }

    #[test]
    fn members_become_paths() {
        let text =
            br#"{"b": {"x": 1e400, "y": {"z": "q\u0041"}}, "a": [1, "\u0042"], "k": {"n": null, "d": 1},
            "n": null, "e": ""}"#;
        let want = [("a", r#"[1,"B"]"#), ("b.x", "1e400"), ("b.y.z", "qA"), ("k", r#"{"n":null,"d":1}"#)];
        let want: Vec<_> =
            want.iter().map(|(path, value)| ((*path).to_owned(), value.as_bytes().to_vec())).collect();
        assert_eq!(flat(text, &["k"]).unwrap(), want);
        assert_eq!(flat(b"{}", &[]), Some(Vec::new()));
        for broken in ["[]", "{", "{\"a\"", "{\"a\":1}x"] {
            assert_eq!(flat(broken.as_bytes(), &[]), None, "{broken}");
        }
    }
}
