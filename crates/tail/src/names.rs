//! What a file's name says: of which live file it is a backup, and when it was made.
//!
//! It owns the naming of lumberjack (natefinch/lumberjack `lumberjack.go`, `backupName`: `audit-2006-01-02T15-04-05
//! .000.log`), of the kubelet (kubernetes `pkg/kubelet/logs/container_log_manager.go`, `timestampFormat`:
//! `0.log.20060102-150405`) and of logrotate (`audit.log.1`, `audit.log-20060102`), each also compressed. A name is
//! only ever a hint for order and belonging; what a file is, its content says.

use std::cmp::Ordering;

/// What a backup's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backup {
    /// The live file's name.
    pub(crate) base: String,
    pub(crate) stamp: Stamp,
    /// `.gz` or `.zst`; the name without it is the plain file's.
    pub(crate) compressed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// Digits, most significant first.
    Time(String),
    /// The higher, the older.
    Number(u32),
}

/// Reads a backup's name; `None` for a live file and for names that no rotation gives.
pub(crate) fn backup(name: &str) -> Option<Backup> {
    let (plain, compressed) = uncompressed(name);
    let (base, stamp) = lumberjack(plain).or_else(|| dotted(plain)).or_else(|| dated(plain))?;
    // Two rotations at work give `audit-<time>.log.1.gz`: the inner stamp is the older and finer one.
    match backup(&base) {
        Some(inner) if !inner.compressed => Some(Backup { compressed, ..inner }),
        _ => Some(Backup { base, stamp, compressed }),
    }
}

/// Whether `name` is that of a backup of the live file `base`, compressed or not.
pub fn is_backup(base: &str, name: &str) -> bool {
    backup(name).is_some_and(|backup| backup.base == base)
}

/// The name without the ending of a compressed file, and whether there was one.
pub(crate) fn uncompressed(name: &str) -> (&str, bool) {
    match name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")) {
        Some(plain) => (plain, true),
        None => (name, false),
    }
}

fn lumberjack(name: &str) -> Option<(String, Stamp)> {
    const SHAPE: &str = "-0000-00-00T00-00-00.000";
    let bytes = name.as_bytes();
    let at = (0..bytes.len().checked_sub(SHAPE.len())? + 1).rfind(|at| shaped(&bytes[*at..], SHAPE))?;
    let (stamp, extension) = name[at..].split_at(SHAPE.len());
    // An extension has one dot (Go `path/filepath.Ext`); with more, another rotation has been at work.
    let right = at > 0 && (extension.is_empty() || extension.rfind('.') == Some(0));
    right.then(|| (format!("{}{extension}", &name[..at]), Stamp::Time(digits(stamp))))
}

fn dotted(name: &str) -> Option<(String, Stamp)> {
    let (base, stamp) = name.rsplit_once('.')?;
    if base.is_empty() {
        return None;
    }
    if stamp.len() == 15 && shaped(stamp.as_bytes(), "00000000-000000") {
        return Some((base.to_owned(), Stamp::Time(digits(stamp))));
    }
    let number = (stamp.len() <= 4 && stamp.bytes().all(|byte| byte.is_ascii_digit())).then_some(stamp)?;
    Some((base.to_owned(), Stamp::Number(number.parse().ok()?)))
}

fn dated(name: &str) -> Option<(String, Stamp)> {
    let (base, stamp) = name.rsplit_once('-')?;
    let right = !base.is_empty() && stamp.len() == 8 && shaped(stamp.as_bytes(), "00000000");
    right.then(|| (base.to_owned(), Stamp::Time(digits(stamp))))
}

fn shaped(text: &[u8], shape: &str) -> bool {
    text.len() >= shape.len()
        && shape.bytes().zip(text).all(|(shape, byte)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => other == *byte,
        })
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// Oldest first, as far as the stamps can tell.
pub(crate) fn older(one: &Stamp, other: &Stamp) -> Option<Ordering> {
    match (one, other) {
        (Stamp::Time(one), Stamp::Time(other)) => Some(one.cmp(other)),
        (Stamp::Number(one), Stamp::Number(other)) => Some(other.cmp(one)),
        _ => None,
    }
}

/// Whether `name` is what `pattern` (`*`, `?`) means; a dot at the beginning must be spelled out.
pub fn glob(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star stood, and how much of the name it takes.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups() {
        let time = |digits: &str| Stamp::Time(digits.to_owned());
        for (name, expected) in [
            ("audit-2026-11-24T02-29-59.024.log", Some(("audit.log", time("20261124022959024"), false))),
            ("audit-2026-11-24T02-29-59.024.log.gz", Some(("audit.log", time("20261124022959024"), true))),
            ("audit-2026-11-24T02-29-59.024", Some(("audit", time("20261124022959024"), false))),
            (
                "kube-audit-2026-11-24T02-29-59.024.log",
                Some(("kube-audit.log", time("20261124022959024"), false)),
            ),
            ("0.log.20261124-023059.gz", Some(("0.log", time("20261124023059"), true))),
            ("audit.log.1", Some(("audit.log", Stamp::Number(1), false))),
            ("audit.log.12.gz", Some(("audit.log", Stamp::Number(12), true))),
            ("audit.log-20261124.gz", Some(("audit.log", time("20261124"), true))),
            ("audit-2026-11-24T02-29-59.024.log.1.gz", Some(("audit.log", time("20261124022959024"), true))),
            ("audit.log", None),
            ("0.log", None),
            ("audit.log.gz", None),
            ("audit.log.20261124-023059.tmp", None),
            ("-2026-11-24T02-29-59.024.log", None),
            (".1", None),
            ("", None),
        ] {
            let expected =
                expected.map(|(base, stamp, compressed)| Backup { base: base.to_owned(), stamp, compressed });
            assert_eq!(backup(name), expected, "{name}");
        }
    }

    #[test]
    fn whose_backup() {
        for (name, expected) in [
            ("audit-2026-11-24T02-29-59.024.log", true),
            ("audit-2026-11-24T02-29-59.024.log.gz", true),
            ("audit.log.1", true),
            ("audit.log", false),
            ("other-2026-11-24T02-29-59.024.log", false),
        ] {
            assert_eq!(is_backup("audit.log", name), expected, "{name}");
        }
    }

    #[test]
    fn order() {
        let stamp = |name: &str| backup(name).unwrap().stamp;
        let older = |one, other| older(&stamp(one), &stamp(other));
        assert_eq!(older("a.log.2.gz", "a.log.1"), Some(Ordering::Less));
        assert_eq!(older("a.log.10.gz", "a.log.9"), Some(Ordering::Less));
        assert_eq!(older("0.log.20261124-023059.gz", "0.log.20261124-023100"), Some(Ordering::Less));
        assert_eq!(older("a.log.1", "a.log-20261124"), None);
    }

    #[test]
    fn globs() {
        for (pattern, name, expected) in [
            ("audit.log", "audit.log", true),
            ("*.log", "0.log", true),
            ("*.log", "0.log.1", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?.log", "0.log", true),
            ("?.log", "10.log", false),
            ("*", ".hidden", false),
            ("kube-apiserver-*", "kube-apiserver-node1_x", true),
            ("**", "x", true),
        ] {
            assert_eq!(glob(pattern, name), expected, "{pattern} {name}");
        }
    }
}
