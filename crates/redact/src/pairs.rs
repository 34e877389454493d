//! Values beside a telling name: members of objects, `name`/`value` pairs, arguments, query strings, other text.
//!
//! Works on the bytes of a line as they stand. A document inside a string needs no decoding: at every level its
//! quotes carry a known number of backslashes (none, one, three, seven, …), which is enough to find where a value
//! ends. From each hit a bounded number of bytes is looked at, except for a value that goes.

use crate::names::{self, Class};
use crate::values::{is_mixed, is_opaque, judge};
use std::ops::Range;

/// How a name and its value are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `"password":"…"`, and lists of strings.
    Member,
    /// `"name":"DB_PASSWORD","value":"…"`, also JSON Patch operations by the last segment of their path.
    Named,
    /// `--password=…`, `--password …`, `"--password","…"`.
    Argument,
    /// `?token=…`, also percent-encoded.
    Query,
    /// `password=…`, `password: …`, `<password>…<`: properties, INI, YAML, environment files, XML.
    Text,
}

/// All forms, numbered by position.
pub(crate) const FORMS: [Form; 5] = [Form::Member, Form::Named, Form::Argument, Form::Query, Form::Text];

/// Longest name looked at.
const MAX_NAME: usize = 80;
/// How far to the left the beginning of a string is looked for.
const MAX_LEFT: usize = 256;
/// Members between a name and its value, and strings in a list.
const MAX_MEMBERS: usize = 4;
const MAX_LIST: usize = 64;
/// So much of a value is looked at before it is known to go.
const PEEK: usize = 64;
/// Longest value of text that has no end by itself.
const MAX_VALUE: usize = 16 << 10;

/// What the value's neighbourhood says.
struct Name {
    start: usize,
    end: usize,
    /// It begins the text.
    whole: bool,
    /// The quote right before it.
    quote: Option<u8>,
    /// It begins a line or a string.
    first: bool,
    /// It follows `?` or `&`.
    query: bool,
    /// The `&` is encoded.
    encoded: bool,
    class: Class,
}

/// Looks at the name that ends at `end` in a text that begins at `from` and ends with `text`, and tells every value
/// beside it that must go.
pub(crate) fn look(text: &[u8], from: usize, end: usize, found: &mut impl FnMut(Form, Range<usize>)) {
    let Some(&next) = text.get(end) else { return };
    if !matches!(next, b'"' | b'\\' | b'=' | b':' | b' ' | b'%' | b'>' | b'\'' | b'&') {
        return;
    }
    let Some(start) = left(text, end) else { return };
    let (start, escape) = without_escape(text, start, end);
    // The field names of `managedFields` have no values (sigs.k8s.io/structured-merge-diff, `fieldpath`).
    if next != b'=' && text[..start].ends_with(b"\"f:") {
        return;
    }
    let query = matches!(text[..start].last(), Some(b'?' | b'&')) || escape == Escape::And;
    let Some(class) = names::class(&text[start..end], query) else {
        // A JSON Patch operation on a variable: `/spec/containers/0/env/1/value`.
        if &text[start..end] == b"value" {
            patched(text, start, end, found);
        }
        return;
    };
    let name = Name {
        start,
        end,
        whole: start == from,
        quote: text[from.min(start)..start].last().copied().filter(|b| matches!(b, b'"' | b'\'')),
        first: escape == Escape::Line || start == from || begins_line(text, start),
        query,
        encoded: escape == Escape::And,
        class,
    };
    match next {
        b'"' => quoted(text, &name, 0, found),
        b'\\' => {
            let run = backslashes(text, end);
            match text.get(end + run) {
                Some(b'"') => quoted(text, &name, run, found),
                _ => exec(text, &name, found),
            }
        }
        _ => plain(text, &name, found),
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn left(text: &[u8], at: usize) -> Option<usize> {
    let from = at.saturating_sub(MAX_NAME);
    match text[from..at].iter().rposition(|b| !is_name(*b)) {
        Some(step) => Some(from + step + 1),
        None => (from == 0).then_some(0),
    }
}

/// What stood before a name in escaped form.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Line,
    And,
    Other,
}

/// Without the letters of an escape (`\n`, `\u0026`, `%26`) that only seem to belong to the name.
fn without_escape(text: &[u8], start: usize, end: usize) -> (usize, Escape) {
    let name = &text[start..end];
    match (text[..start].last(), name) {
        (Some(b'\\'), [b'n' | b'r', ..]) => (start + 1, Escape::Line),
        (Some(b'\\'), [b't' | b'b' | b'f', ..]) => (start + 1, Escape::Other),
        (Some(b'\\'), [b'u', b'0', b'0', b'2', b'6', ..]) => (start + 5, Escape::And),
        (Some(b'\\'), [b'u', _, _, _, _, ..]) => (start + 5, Escape::Other),
        (Some(b'%'), [b'2', b'6', ..] | [b'3', b'F' | b'f', ..]) => (start + 2, Escape::And),
        (Some(b'%'), [b'0', b'A' | b'a', ..]) => (start + 2, Escape::Line),
        (Some(b'%'), [_, _, ..]) => (start + 2, Escape::Other),
        _ => (start, Escape::None),
    }
}

/// Whether only indentation, a list's dash or `export` stands before `start` in its line or string.
fn begins_line(text: &[u8], start: usize) -> bool {
    let window = &text[start.saturating_sub(MAX_LEFT)..start];
    let window = window.strip_suffix(b"export ").unwrap_or(window);
    let kept = window.iter().rposition(|b| !matches!(b, b' ' | b'\t' | b'-')).map_or(0, |at| at + 1);
    matches!(&window[..kept], [] | [.., b'"' | b'\n' | b'\r'] | [.., b'\\', b'n' | b'r' | b't'])
}

fn backslashes(text: &[u8], at: usize) -> usize {
    text[at..].iter().take(MAX_LEFT).take_while(|b| **b == b'\\').count()
}

fn spaces(text: &[u8], mut at: usize) -> usize {
    let limit = at + MAX_NAME;
    while at < limit {
        match text.get(at) {
            Some(b' ' | b'\t' | b'\n' | b'\r') => at += 1,
            // Line breaks of a document that stands in a string.
            Some(b'\\') => {
                let run = backslashes(text, at);
                match text.get(at + run) {
                    Some(b'n' | b'r' | b't') => at += run + 1,
                    _ => break,
                }
            }
            _ => break,
        }
    }
    at
}

/// Whether a quote with `level` backslashes stands at `at`; where its string's inside begins.
fn opens(text: &[u8], at: usize, level: usize) -> Option<usize> {
    (backslashes(text, at) == level && text.get(at + level) == Some(&b'"')).then_some(at + level + 1)
}

/// Where the inside of a string ends whose quotes have `level` backslashes. A backslash of its own text is written
/// as twice `level + 1` of them.
pub(crate) fn closes(text: &[u8], start: usize, level: usize) -> Option<usize> {
    let mut at = start;
    loop {
        at += memchr::memchr(b'"', &text[at..])?;
        let run = text[start..at].iter().rev().take_while(|b| **b == b'\\').count();
        if run % (2 * (level + 1)) == level {
            return Some(at - level);
        }
        if run < level {
            // The quote of an enclosing string: this one was cut.
            return None;
        }
        at += 1;
    }
}

/// After a name in quotes: a member's value, a `name`'s `value`, or the next argument.
fn quoted(text: &[u8], name: &Name, level: usize, found: &mut impl FnMut(Form, Range<usize>)) {
    let after = spaces(text, name.end + level + 1);
    match text.get(after) {
        Some(b':') => member(text, name.class, level, spaces(text, after + 1), found),
        Some(b',' | b'}') => {
            let window = &text[name.start.saturating_sub(MAX_LEFT)..name.start];
            let Some(step) = memchr::memrchr(b'"', window) else { return };
            let quote = name.start - window.len() + step;
            if quote + 1 == name.start && text[name.start] == b'-' {
                if let Some(start) = opens(text, spaces(text, after + 1), level) {
                    one(text, name.class, Form::Argument, level, start, found);
                }
                return;
            }
            if is_label(text, quote, level) {
                beside(text, quote, after, name.class, level, found);
            }
        }
        _ => {}
    }
}

/// Whether the string whose opening quote stands at `quote` is the value of `name`, `key` or `path`.
fn is_label(text: &[u8], quote: usize, level: usize) -> bool {
    let Some(before) = text[..quote].get(quote.saturating_sub(MAX_NAME)..) else { return false };
    let Some(before) = before.len().checked_sub(level).map(|end| &before[..end]) else { return false };
    let Some(before) = trimmed(before).strip_suffix(b":") else { return false };
    let before = trimmed(before);
    let Some(before) = before.strip_suffix(b"\"") else { return false };
    let Some(before) = before.len().checked_sub(level).map(|end| &before[..end]) else { return false };
    [&b"\"name"[..], b"\"key", b"\"path", b"\"Name", b"\"Key"].iter().any(|word| before.ends_with(word))
}

fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| *b != b' ').map_or(0, |at| at + 1);
    &text[..end]
}

/// The member `value` of the object in which a name was found whose opening quote stands at `quote`, and after
/// which the object goes on at `after`.
fn beside(
    text: &[u8],
    quote: usize,
    mut after: usize,
    class: Class,
    level: usize,
    found: &mut impl FnMut(Form, Range<usize>),
) {
    for _ in 0..MAX_MEMBERS {
        if text.get(after) != Some(&b',') {
            break;
        }
        let Some(start) = opens(text, spaces(text, after + 1), level) else { break };
        let Some(end) = closes(text, start, level) else { break };
        let colon = spaces(text, end + level + 1);
        if text.get(colon) != Some(&b':') {
            break;
        }
        let value = spaces(text, colon + 1);
        if matches!(&text[start..end], b"value" | b"Value") {
            member_as(Form::Named, text, class, level, value, found);
            return;
        }
        after = match opens(text, value, level) {
            Some(start) => match closes(text, start, level) {
                Some(end) => spaces(text, end + level + 1),
                None => break,
            },
            // Numbers, booleans and null.
            None => {
                let step = text[value..].iter().take(PEEK).position(|b| !b.is_ascii_alphanumeric());
                step.map_or(value, |step| spaces(text, value + step))
            }
        };
    }
    before(text, quote, class, level, found);
}

/// The member `value` right before the member whose text begins after the quote at `quote`.
fn before(text: &[u8], quote: usize, class: Class, level: usize, found: &mut impl FnMut(Form, Range<usize>)) {
    // Over `"name":` to the comma, then to the quote that ends the value.
    let window = &text[quote.saturating_sub(PEEK)..quote];
    let Some(comma) = memchr::memrchr(b',', window) else { return };
    let ended = trimmed(&text[..quote - window.len() + comma]);
    if ended.last() != Some(&b'"') {
        return;
    }
    let Some(end) = (ended.len() - 1).checked_sub(level) else { return };
    let mut at = end;
    let floor = end.saturating_sub(MAX_VALUE);
    while let Some(step) = memchr::memrchr(b'"', &text[floor..at]) {
        at = floor + step;
        let run = text[..at].iter().rev().take_while(|b| **b == b'\\').count();
        if run % (2 * (level + 1)) == level {
            let head = trimmed(&text[..at - level]);
            let key = head.strip_suffix(b":").map(trimmed).and_then(|head| head.strip_suffix(b"\""));
            let key = key.and_then(|key| key.len().checked_sub(level).map(|end| &key[..end]));
            if key.is_some_and(|key| key.ends_with(b"\"value") || key.ends_with(b"\"Value"))
                && judge(&text[at + 1..end], class)
            {
                found(Form::Named, at + 1..end);
            }
            return;
        }
    }
}

/// Whether a path of a JSON Patch whose last segment is `value` names a container's variable.
pub(crate) fn is_variable_path(path: &[u8]) -> bool {
    let Some(path) = path.strip_suffix(b"/value") else { return false };
    let index = path.iter().rev().take(8).take_while(|b| b.is_ascii_digit() || **b == b'-').count();
    index > 0 && path[..path.len() - index].ends_with(b"/env/")
}

fn patched(text: &[u8], start: usize, end: usize, found: &mut impl FnMut(Form, Range<usize>)) {
    let level = backslashes(text, end);
    let window = &text[start.saturating_sub(MAX_LEFT)..end];
    if text.get(end + level) != Some(&b'"') || !is_variable_path(window) {
        return;
    }
    let Some(step) = memchr::memrchr(b'"', window) else { return };
    let quote = end - window.len() + step;
    if is_label(text, quote, level) {
        beside(text, quote, spaces(text, end + level + 1), Class::Strong, level, found);
    }
}

fn member(text: &[u8], class: Class, level: usize, at: usize, found: &mut impl FnMut(Form, Range<usize>)) {
    member_as(Form::Member, text, class, level, at, found);
}

/// A string at `at`, or a list of them.
fn member_as(
    form: Form,
    text: &[u8],
    class: Class,
    level: usize,
    at: usize,
    found: &mut impl FnMut(Form, Range<usize>),
) {
    if let Some(start) = opens(text, at, level) {
        one(text, class, form, level, start, found);
    } else if text.get(at) == Some(&b'[') {
        let mut at = spaces(text, at + 1);
        for _ in 0..MAX_LIST {
            let Some(start) = opens(text, at, level) else { return };
            let Some(end) = one(text, class, form, level, start, found) else { return };
            at = spaces(text, end + level + 1);
            if text.get(at) != Some(&b',') {
                return;
            }
            at = spaces(text, at + 1);
        }
    }
}

/// The string whose inside begins at `start`; where it ends.
fn one(
    text: &[u8],
    class: Class,
    form: Form,
    level: usize,
    start: usize,
    found: &mut impl FnMut(Form, Range<usize>),
) -> Option<usize> {
    let end = closes(text, start, level)?;
    if judge(&text[start..end], class) {
        found(form, start..end);
    }
    Some(end)
}

/// `exec` writes one argument a parameter: `command=--password\u0026command=x`.
fn exec(text: &[u8], name: &Name, found: &mut impl FnMut(Form, Range<usize>)) {
    let rest = &text[name.end..];
    if text[name.start] != b'-' {
        return;
    }
    for joint in [&b"\\u0026command="[..], b"&command="] {
        if rest.starts_with(joint) {
            text_value(text, name, Form::Argument, name.end + joint.len(), Stop::Query, found);
        }
    }
}

/// Where a value of text ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// At the end of the line.
    Line,
    /// At white space.
    Space,
    /// Also at punctuation that joins pairs.
    Inline,
    /// At the end of a query's parameter; all that stands percent-encoded in it belongs to it.
    Parameter,
    /// At the end of the parameter of a query that is encoded itself.
    Query,
    /// At `<`.
    Tag,
}

/// After a name in text.
fn plain(text: &[u8], name: &Name, found: &mut impl FnMut(Form, Range<usize>)) {
    let rest = &text[name.end..];
    let word = &text[name.start..name.end];
    let dashed = word[0] == b'-' && !name.first || word.starts_with(b"--");
    let form = match (name.query, dashed) {
        (true, _) => Form::Query,
        (_, true) => Form::Argument,
        _ => Form::Text,
    };
    let caps = !word.iter().any(u8::is_ascii_lowercase);
    let stop = match (name.query, name.first) {
        (true, _) if name.encoded => Stop::Query,
        (true, _) => Stop::Parameter,
        // One argument of a list: all of it.
        (_, true) if dashed && name.whole && rest[0] == b'=' => Stop::Line,
        (_, true) if caps || dashed => Stop::Space,
        (_, true) => Stop::Line,
        _ if dashed => Stop::Space,
        _ => Stop::Inline,
    };
    match rest {
        [b'=', ..] => text_value(text, name, form, name.end + 1, stop, found),
        [b'%', b'3', b'D' | b'd', ..] => text_value(text, name, form, name.end + 3, Stop::Query, found),
        [b':', b'/', b'/', ..] => {}
        [b':', ..] if !name.query => {
            text_value(text, name, form, spaces_only(text, name.end + 1), stop, found)
        }
        [b' ', ..] if dashed => {
            text_value(text, name, form, spaces_only(text, name.end), Stop::Space, found);
        }
        [b' ', ..] if !name.query => {
            let at = spaces_only(text, name.end);
            match &text[at..] {
                [b'=' | b':', b' ', ..] if name.first => {
                    text_value(text, name, form, spaces_only(text, at + 1), stop, found);
                }
                // SQL: `PASSWORD 'x'`.
                [b'\'', ..] if caps => text_value(text, name, form, at, stop, found),
                // Prose: `token Ab3…`.
                [b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9', ..] => {
                    let near = unquoted(text, at, PEEK, Stop::Inline, None);
                    if near - at >= 20 && is_mixed(&text[at..near]) && is_opaque(&text[at..near]) {
                        found(Form::Text, at..unquoted(text, at, MAX_VALUE, Stop::Inline, None));
                    }
                }
                _ => {}
            }
        }
        [b'&', ..] => exec(text, name, found),
        [b'>', ..] if text[..name.start].last() == Some(&b'<') => {
            text_value(text, name, form, name.end + 1, Stop::Tag, found);
        }
        [b'\'', b':', b' ', ..] => text_value(text, name, form, name.end + 3, stop, found),
        _ => {}
    }
}

fn spaces_only(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take(PEEK).take_while(|b| **b == b' ').count()
}

/// A value of text at `at`, with or without quotes of its own.
fn text_value(
    text: &[u8],
    name: &Name,
    form: Form,
    at: usize,
    stop: Stop,
    found: &mut impl FnMut(Form, Range<usize>),
) {
    let level = backslashes(text, at);
    let (start, end) = match text.get(at + level) {
        Some(b'"') => {
            let start = at + level + 1;
            // The quote that ends the string in which the name stands is followed by one of these.
            if matches!(text.get(start), None | Some(b',' | b'}' | b']' | b':' | b' ' | b'\\')) {
                return;
            }
            match closes(text, start, level) {
                Some(end) => (start, end),
                None => return,
            }
        }
        Some(b'\'') if level == 0 => {
            let start = at + 1;
            let window = &text[start..text.len().min(start + MAX_VALUE)];
            match window.iter().position(|b| matches!(b, b'\'' | b'"')) {
                Some(step) if window[step] == b'\'' => (start, start + step),
                _ => return,
            }
        }
        _ => {
            let near = unquoted(text, at, PEEK, stop, name.quote);
            if !prose_free(text, &text[at..near], name, form, stop) || !judge(&text[at..near], name.class) {
                return;
            }
            (at, unquoted(text, at, MAX_VALUE, stop, name.quote))
        }
    };
    if judge(&text[start..end], name.class) {
        found(form, start..end);
    }
}

/// Sentences speak of passwords too: inside of one, only what cannot be a word is a value.
fn prose_free(text: &[u8], value: &[u8], name: &Name, form: Form, stop: Stop) -> bool {
    if form != Form::Text || name.first || matches!(stop, Stop::Query | Stop::Tag) {
        return true;
    }
    if text[name.end] == b'=' || text[name.end] == b'>' {
        return name.class == Class::Strong || value.len() >= 8;
    }
    value.len() >= 6 && value.iter().any(u8::is_ascii_digit)
}

/// The end of a value without quotes, at most `limit` bytes on; `quote` stands before its name.
fn unquoted(text: &[u8], start: usize, limit: usize, stop: Stop, quote: Option<u8>) -> usize {
    let window = &text[start..text.len().min(start + limit)];
    let ends = |at: usize| match window[at] {
        b'\n' | b'\r' => true,
        // A line of its own may hold quotes.
        b'"' => stop != Stop::Line || quote == Some(b'"'),
        b'\'' => stop == Stop::Inline && !goes_on(&window[at + 1..]) || quote == Some(b'\''),
        b'\\' => {
            let run = backslashes(window, at);
            match window.get(at + run) {
                Some(b'n' | b'r' | b'"') | None => true,
                Some(b't') => stop != Stop::Line,
                Some(b'u') if stop == Stop::Line => false,
                Some(b'u') => stop != Stop::Space || !window[at + run..].starts_with(b"u0026"),
                _ => false,
            }
        }
        b' ' | b'\t' => !matches!(stop, Stop::Line | Stop::Tag),
        b'<' => stop == Stop::Tag || (stop == Stop::Inline && !goes_on(&window[at + 1..])),
        b'&' | b'#' => match stop {
            Stop::Parameter | Stop::Query => true,
            Stop::Inline => !goes_on(&window[at + 1..]),
            _ => false,
        },
        b'`' | b',' | b';' | b')' | b']' | b'}' | b'>' => stop == Stop::Inline && !goes_on(&window[at + 1..]),
        b'%' if stop == Stop::Query => {
            matches!(window.get(at + 1..at + 3), Some(b"26" | b"20" | b"0A" | b"0a" | b"22"))
        }
        _ => false,
    };
    start + (0..window.len()).find(|at| ends(*at)).unwrap_or(window.len())
}

/// Whether what follows a mark in a value without quotes still belongs to it: more of a word, and no other pair.
fn goes_on(rest: &[u8]) -> bool {
    let word = rest.iter().take(MAX_NAME).take_while(|b| is_name(**b)).count();
    match rest.first() {
        None
        | Some(
            b' ' | b'\t' | b'\n' | b'\r' | b'"' | b'\'' | b'\\' | b'<' | b'>' | b')' | b']' | b'}' | b','
            | b';',
        ) => false,
        _ => !(word > 0 && matches!(rest.get(word), Some(b'=' | b':' | b'"'))),
    }
}
