//! Whether the value beside a telling name is a credential, or a switch, a reference, a path, a placeholder.

use crate::names::Class;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Values that are settings, whatever the name.
const SETTINGS: &[&str] = &[
    "true",
    "false",
    "null",
    "none",
    "nil",
    "yes",
    "no",
    "on",
    "off",
    "enabled",
    "disabled",
    "required",
    "optional",
    "undefined",
    "|",
    "|-",
    ">",
    ">-",
    "string",
];
/// What a reference or a placeholder begins with.
const REFERENCES: &[&str] = &["$(", "${", "{{", "<", "***", "%s", "%v", "redacted:", "{", "[", "\\u003c"];

/// Whether `value`, as it stands in the line, must go.
pub(crate) fn judge(value: &[u8], class: Class) -> bool {
    let value = value.trim_ascii();
    if value.is_empty()
        || SETTINGS.iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
        || REFERENCES.iter().any(|begin| value.starts_with(begin.as_bytes()))
        || is_variable(value)
        || is_path(value)
    {
        return false;
    }
    match class {
        Class::Strong => true,
        Class::Weak => is_opaque(value),
        Class::Basic => is_basic(value),
    }
}

/// `$NAME`.
fn is_variable(value: &[u8]) -> bool {
    let name = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    value.strip_prefix(b"$").is_some_and(|rest| !rest.is_empty() && rest.iter().all(name))
}

/// A file's name. What could as well be base64 is none.
fn is_path(value: &[u8]) -> bool {
    let rooted = [&b"/"[..], b"./", b"../", b"~/", b"file:"].iter().any(|begin| value.starts_with(begin));
    let word = |b: &u8| b.is_ascii_alphanumeric() || b"/._-~:".contains(b);
    rooted && value.iter().all(word) && !(value.len() >= 20 && is_mixed(value))
}

/// Whether it changes between cases as no word does: letters of both, with digits, with more changes than `CamelCase` has,
/// or with some and more capitals than that.
pub(crate) fn is_mixed(value: &[u8]) -> bool {
    let changes =
        value.windows(2).filter(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase()).count();
    let capitals = value.iter().filter(|b| b.is_ascii_uppercase()).count();
    value.iter().any(u8::is_ascii_lowercase)
        && capitals > 0
        && (value.iter().any(u8::is_ascii_digit)
            || changes * 6 >= value.len()
            || (changes >= 4 && capitals * 3 >= value.len()))
}

/// Whether `value` is no name, sentence or word.
pub(crate) fn is_opaque(value: &[u8]) -> bool {
    if value.len() < 8 || value.starts_with(b"-----BEGIN ") {
        return value.len() >= 8;
    }
    let head = &value[..value.len().min(256)];
    if head.contains(&b' ') || memchr::memchr_iter(b'/', head).any(|at| head[..at].ends_with(b".io")) {
        return false;
    }
    if is_uuid(value) {
        return true;
    }
    if head.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.')) {
        let digits = head.iter().filter(|b| b.is_ascii_digit()).count();
        let joints = head.iter().filter(|b| matches!(b, b'-' | b'.')).count();
        // A bootstrap token: `[a-z0-9]{6}.[a-z0-9]{16}` (k8s.io/cluster-bootstrap `token/util/helpers.go`).
        let bootstrap = value.len() == 23 && joints == 1 && value[6] == b'.';
        return (joints == 0 && value.len() >= 16 && digits >= 2) || bootstrap;
    }
    if head.iter().any(u8::is_ascii_digit) {
        return true;
    }
    let capitals = head.windows(2).any(|pair| pair.iter().all(u8::is_ascii_uppercase));
    let joined = head.iter().any(|b| b"-_.".contains(b));
    let symbols = head.iter().any(|b| !b.is_ascii_alphanumeric() && !b"-_.".contains(b));
    (value.len() >= 16 && (symbols || (capitals && !joined))) || (value.len() >= 24 && !joined)
}

fn is_uuid(value: &[u8]) -> bool {
    value.len() == 36
        && value.iter().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// Base64 of `user:password` (RFC 7617 §2).
pub(crate) fn is_basic(value: &[u8]) -> bool {
    let end = value.iter().rposition(|b| *b != b'=').map_or(0, |at| at + 1);
    if !(4..=4096).contains(&end) {
        return false;
    }
    STANDARD_NO_PAD
        .decode(&value[..end])
        .is_ok_and(|plain| plain.contains(&b':') && plain.iter().all(|b| *b >= 0x20 && *b != 0x7f))
}
