//! Dead letters as they stand in their file: one JSON line each, written by `auditship-ship`.

use crate::report::{bytes, grouped};
use crate::show::printable;
use auditship_event::Uid;
use auditship_ship::Form;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The version of the lines that can be read.
const VERSION: u32 = auditship_ship::deadletter::VERSION;

/// One dead letter.
#[derive(Clone, Debug)]
pub struct Letter {
    /// When it was written.
    pub time: String,
    /// The output that refused it.
    pub output: String,
    /// The status code of the refusal; 0 where it was never sent.
    pub status: u16,
    /// Why.
    pub reason: String,
    /// The record's identity.
    pub uid: Uid,
    /// The record's index.
    pub index: String,
    /// In which form it was sent.
    pub form: Form,
    /// The document as it was sent, where it is JSON.
    pub body: Option<String>,
    /// The line, without its terminator.
    pub line: String,
}

#[derive(Deserialize)]
struct Written<'a> {
    v: u32,
    time: String,
    output: String,
    status: u16,
    reason: String,
    uid: String,
    index: String,
    form: Option<String>,
    #[serde(borrow)]
    body: Option<&'a serde_json::value::RawValue>,
}

impl Letter {
    /// Reads a line. `None`: it is no dead letter, or of a version that this program does not know.
    pub fn read(line: &str) -> Option<Letter> {
        let written: Written<'_> = serde_json::from_str(line).ok()?;
        if written.v != VERSION {
            return None;
        }
        Some(Letter {
            time: written.time,
            output: written.output,
            status: written.status,
            reason: written.reason,
            uid: uid(&written.uid)?,
            index: written.index,
            form: match written.form.as_deref() {
                None => Form::Whole,
                Some("flat") => Form::Flat,
                Some(_) => return None,
            },
            body: written.body.map(|body| body.get().to_owned()),
            line: line.to_owned(),
        })
    }
}

fn uid(hex: &str) -> Option<Uid> {
    let mut uid = [0; 16];
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in uid.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(Uid(uid))
}

/// What a file of dead letters holds.
#[derive(Debug, Default)]
pub struct Letters {
    /// The dead letters, in order.
    pub letters: Vec<Letter>,
    /// Lines that are none: torn by a full disk, or of another version.
    pub others: Vec<String>,
}

impl Letters {
    /// Reads a file's text.
    pub fn read(text: &[u8]) -> Letters {
        let mut out = Letters::default();
        for line in String::from_utf8_lossy(text).lines().filter(|line| !line.trim().is_empty()) {
            match Letter::read(line) {
                Some(letter) => out.letters.push(letter),
                None => out.others.push(line.to_owned()),
            }
        }
        out
    }

    /// The letter with this number (from 1) or with a uid that begins so. `None`: none, or several.
    pub fn find(&self, which: &str) -> Option<&Letter> {
        if let Some(letter) = which.parse::<usize>().ok().and_then(|at| self.letters.get(at.checked_sub(1)?))
        {
            return Some(letter);
        }
        let mut found = self.letters.iter().filter(|letter| letter.uid.to_string().starts_with(which));
        match (found.next(), found.next()) {
            (Some(letter), None) => Some(letter),
            _ => None,
        }
    }

    /// A table for people, and how many of each reason there are.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if !self.letters.is_empty() {
            let _ = writeln!(
                out,
                "{:>4}  {:<24}  {:<34}{:<14}{:<16}REASON",
                "", "TIME", "UID", "OUTPUT", "INDEX"
            );
        }
        let mut reasons: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (at, letter) in self.letters.iter().enumerate() {
            *reasons.entry((&letter.output, &letter.reason)).or_default() += 1;
            let _ = writeln!(
                out,
                "{:>4}  {:<24}  {:<34}{:<14}{:<16}{}",
                at + 1,
                printable(&letter.time),
                letter.uid,
                printable(&letter.output),
                printable(&letter.index),
                printable(&letter.reason)
            );
        }
        let size: usize = self.letters.iter().map(|letter| letter.line.len() + 1).sum();
        let count = grouped(self.letters.len() as u64);
        let _ = writeln!(out, "{count} dead letters, {}", bytes(size as u64));
        for ((output, reason), count) in reasons {
            let _ = writeln!(out, "  {}: {} {}", printable(output), grouped(count), printable(reason));
        }
        if !self.others.is_empty() {
            let _ = writeln!(out, "  {} lines that are no dead letters", grouped(self.others.len() as u64));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"v":1,"time":"2026-11-24T00:00:00.000Z","output":"search","status":400,"reason":"400 x\u001b[2J","uid":"00112233445566778899aabbccddeeff","index":"audit","span":{"stream":3,"start":1,"end":2},"body":{"kind": "Event","n":1e400}}"#;

    #[test]
    fn what_ship_writes_is_read() {
        let letters =
            Letters::read(format!("{LINE}\ntorn {{\n\n{}\n", LINE.replace("\"v\":1", "\"v\":9")).as_bytes());
        assert_eq!((letters.letters.len(), letters.others.len()), (1, 2));
        let letter = &letters.letters[0];
        assert_eq!(letter.body.as_deref(), Some(r#"{"kind": "Event","n":1e400}"#), "byte for byte");
        assert_eq!(letter.uid.to_string(), "00112233445566778899aabbccddeeff");
        assert_eq!(letter.form, Form::Whole);
        let flat = LINE.replace("\"body\"", "\"form\":\"flat\",\"body\"");
        assert_eq!(Letter::read(&flat).unwrap().form, Form::Flat);
        assert!(Letter::read(&flat.replace("flat", "round")).is_none(), "nobody knows what that would be");
        let text = letters.text();
        assert!(!text.contains('\u{1b}'), "nothing moves the cursor");
        assert!(
            text.contains("1 dead letters") && text.contains("2 lines that are no dead letters"),
            "{text}"
        );
    }

    #[test]
    fn one_is_found_by_number_or_by_the_beginning_of_its_uid() {
        let letters = Letters::read(format!("{LINE}\n{}\n", LINE.replace("0011", "00ff")).as_bytes());
        assert_eq!(letters.find("2").unwrap().uid.to_string()[..4], *"00ff");
        assert_eq!(letters.find("00ff").unwrap().uid.to_string()[..4], *"00ff");
        for which in ["0", "3", "00", "zz", ""] {
            assert!(letters.find(which).is_none(), "{which}");
        }
    }
}
