//! Passwords in short options of known programs: `mysql -pSECRET`.

use super::{Needle, Rule, Selector};
use crate::config::Action;
use std::ops::Range;

/// Short options mean a password only after certain programs. Command lines stand in one string, in a list of
/// arguments, or in the `command` parameters of an `exec` request.
pub(super) static RULE: Rule = Rule {
    name: "program-option",
    doc: "passwords in short options of known programs: `mysql -p`, `sshpass -p`, `redis-cli -a`, `curl -u`",
    selector: Selector::Text {
        needles: &[
            Needle::Begin("mysql"),
            Needle::Begin("mariadb"),
            Needle::Begin("sshpass"),
            Needle::Begin("redis-cli"),
            Needle::Begin("curl"),
            Needle::Begin("ldap"),
            Needle::Begin("mongo"),
            Needle::Begin("docker login"),
        ],
        find,
    },
    action: Action::Mask,
};

/// How an option holds its password.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// `-pSECRET`.
    Attached,
    /// `-p SECRET`, or attached.
    Next,
    /// `-u user:SECRET`.
    User,
}

/// From the manual of each program.
const PROGRAMS: &[(&str, &[u8], Held)] = &[
    ("mysql", b"-p", Held::Attached),
    ("mariadb", b"-p", Held::Attached),
    ("sshpass", b"-p", Held::Next),
    ("redis-cli", b"-a", Held::Next),
    ("curl", b"-u", Held::User),
    ("ldap", b"-w", Held::Next),
    ("mongo", b"-p", Held::Next),
    ("docker login", b"-p", Held::Next),
];

/// How far a command line is followed.
const MAX_LINE: usize = 512;
/// What joins two arguments.
const JOINTS: &[&[u8]] = &[b"\",\"", b"\\\",\\\"", b"\\u0026command=", b"&command=", b" ", b"+", b"%20"];

fn find(text: &[u8], at: usize, program: &str) -> Option<Range<usize>> {
    let (_, option, held) = PROGRAMS.iter().find(|(name, ..)| *name == program)?;
    let line = &text[..text.len().min(at + MAX_LINE)];
    let mut next = at;
    while let Some(start) = argument_after(line, next) {
        next = start;
        let end = argument_end(line, start);
        if !line[start..end].starts_with(option) {
            continue;
        }
        let attached = start + option.len()..end;
        let value = if !attached.is_empty() {
            attached
        } else if *held == Held::Attached {
            continue;
        } else {
            let start = argument_after(line, end)?;
            start..argument_end(line, start)
        };
        let value = if *held == Held::User {
            let colon = memchr::memchr(b':', &line[value.clone()])?;
            value.start + colon + 1..value.end
        } else {
            value
        };
        let plain = !value.is_empty() && !line[value.clone()].starts_with(b"$");
        return plain.then_some(value);
    }
    None
}

/// Where the argument after the one at `at` begins, in the same command line.
fn argument_after(line: &[u8], at: usize) -> Option<usize> {
    let end = argument_end(line, at);
    let mut start = end;
    while let Some(joint) = JOINTS.iter().find(|joint| line[start..].starts_with(joint)) {
        start += joint.len();
    }
    (start > end && start < line.len()).then_some(start)
}

fn argument_end(line: &[u8], at: usize) -> usize {
    let ends = |b: &u8| matches!(b, b'"' | b'\\' | b'&' | b' ' | b'+' | b'\'' | b';' | b'|' | b'\n');
    let end = line[at..].iter().position(ends).map_or(line.len(), |step| at + step);
    memchr::memmem::find(&line[at..end], b"%20").map_or(end, |step| at + step)
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn command_lines() {
        check(
            r#"{"requestURI":"/exec?command=sh\u0026command=mysql+-uroot+-ps3%21cret+-e+x\u0026stdin=1","requestObject":{"a":["mysql","-u","root","-ps3cret"],"b":"redis-cli -h x -a s3cret ping","c":"curl -s -u me:s3cret https://h"}}"#,
            r#"{"requestURI":"/exec?command=sh\u0026command=mysql+-uroot+-p‹program-option›+-e+x\u0026stdin=1","requestObject":{"a":["mysql","-u","root","-p‹program-option›"],"b":"redis-cli -h x -a ‹program-option› ping","c":"curl -s -u me:‹program-option› https://h"}}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(
            r#"{"a":["mysql","-p","-h","x"],"b":"mkdir -p /x; curl -u $U:$P","c":"image: mysql:8 -q","d":"mysql -p$PW"}"#,
        );
    }
}
