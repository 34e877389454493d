//! Passwords in SQL and in Oracle's connection strings.

use super::{Needle, Rule, Selector};
use crate::config::Action;
use std::ops::Range;

/// `IDENTIFIED BY 'x'` (MySQL and Oracle, `CREATE USER`), `jdbc:oracle:thin:user/x@…` (Oracle JDBC, "Thin-style Service
/// Name Syntax"). `PASSWORD 'x'` goes by its name.
pub(super) static RULE: Rule = Rule {
    name: "sql-password",
    doc: "passwords after `IDENTIFIED BY`, and in Oracle's connection strings",
    selector: Selector::Text {
        needles: &[
            Needle::Begin("IDENTIFIED BY "),
            Needle::Begin("identified by "),
            Needle::Begin("jdbc:oracle:thin:"),
            Needle::Begin("jdbc:oracle:oci:"),
        ],
        find,
    },
    action: Action::Mask,
};

const MAX: usize = 512;

fn find(text: &[u8], at: usize, needle: &str) -> Option<Range<usize>> {
    let start = at + needle.len();
    let rest = &text[start..text.len().min(start + MAX)];
    if needle.starts_with("jdbc") {
        let at_sign = rest.iter().position(|b| matches!(b, b'@' | b'"' | b' ' | b'\n'))?;
        let slash = rest[..at_sign].iter().position(|b| *b == b'/')?;
        return (rest[at_sign] == b'@' && slash + 1 < at_sign).then_some(start + slash + 1..start + at_sign);
    }
    let rest = rest.strip_prefix(b"PASSWORD ").unwrap_or(rest);
    let from = start + (text[start..].len().min(MAX) - rest.len());
    match rest {
        [quote @ (b'\'' | b'"'), rest @ ..] => {
            let end = rest.iter().position(|b| b == quote)?;
            (end > 0).then_some(from + 1..from + 1 + end)
        }
        _ => {
            let end = rest.iter().position(|b| !(b.is_ascii_alphanumeric() || b"_#$".contains(b)));
            let end = end.unwrap_or(rest.len());
            (end >= 4).then_some(from..from + end)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn statements_and_addresses() {
        check(
            r#"{"a":"CREATE USER me IDENTIFIED BY 'pw; x';","b":"alter user me identified by hunter2;","c":"jdbc:oracle:thin:scott/tiger@//h:1521/s"}"#,
            r#"{"a":"CREATE USER me IDENTIFIED BY '‹sql-password›';","b":"alter user me identified by ‹sql-password›;","c":"jdbc:oracle:thin:scott/‹sql-password›@//h:1521/s"}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(r#"{"a":"identified by its","b":"jdbc:oracle:thin:@//h:1521/s","c":"IDENTIFIED BY ''"}"#);
    }
}
