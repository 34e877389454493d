//! Private keys in PEM.

use super::{Needle, Rule, Selector};
use crate::config::Action;
use crate::packed::{self, STANDARD};
use base64::Engine;
use std::ops::Range;

/// The body of every PEM block whose label ends in `PRIVATE KEY` (RFC 7468 §10 and §11, OpenSSH's and PGP's too),
/// also where its line feeds are escaped, at any depth. Public keys and certificates stay.
pub(super) static RULE: Rule = Rule {
    name: "private-key",
    doc: "PEM blocks of private keys of every kind, in any text",
    selector: Selector::Text { needles: &[Needle::End("-----BEGIN"), Needle::Begin("LS0tLS1CRUdJTi")], find },
    action: Action::Token,
};

/// Longest label, and longest body: an RSA key of 16,384 bits has 13 KiB.
const MAX_LABEL: usize = 48;
const MAX_BODY: usize = 32 << 10;

fn find(text: &[u8], at: usize, needle: &str) -> Option<Range<usize>> {
    if needle != "-----BEGIN" {
        return encoded(text, at);
    }
    let from = at + needle.len() + 1;
    let label = text.get(from..text.len().min(from + MAX_LABEL))?;
    let label = &label[..memchr::memmem::find(label, b"-----")?];
    if !label.ends_with(b"PRIVATE KEY") && !label.ends_with(b"PRIVATE KEY BLOCK") {
        return None;
    }
    let start = from + label.len() + "-----".len();
    let window = &text[start..text.len().min(start + MAX_BODY)];
    // A cut one ends where what can be in it ends: base64, white space, its escapes, headers.
    let body = window.iter().position(|b| {
        !(b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'+' | b'/' | b'=' | b'\\' | b' ' | b'\n' | b'\r' | b'\t' | b':' | b',' | b'-' | b'%' | b'.'
            ))
    });
    let body = &window[..body.unwrap_or(window.len())];
    let end = memchr::memmem::find(body, b"-----END").unwrap_or(body.len());
    // The line feeds around it stay, and backslashes before a quote belong to the quote.
    let from = breaks(&body[..end]);
    let tail = &body[from..end];
    let mut kept = tail.len();
    loop {
        kept = match &tail[..kept] {
            [.., b'\\', b'n' | b'r'] => kept - 2,
            [.., b'\\' | b'\n' | b'\r' | b' '] => kept - 1,
            _ => break,
        };
    }
    (kept > 0).then_some(start + from..start + from + kept)
}

/// A PEM block in base64, as in a kubeconfig's `client-key-data`: all of it.
fn encoded(text: &[u8], at: usize) -> Option<Range<usize>> {
    let end = packed::run(text, at, &(at..text.len().min(at + 2 * MAX_BODY))).end;
    // The label stands in the first bytes: whole groups of four characters decode by themselves.
    let label = (end - at).min(32) & !3;
    let head = STANDARD.decode(&text[at..at + label]).ok()?;
    memchr::memmem::find(&head, b"PRIVATE").map(|_| at..end)
}

/// Where the line breaks and spaces end with which `body` begins. Any other escape is a letter of the key.
fn breaks(body: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let run = body[at..].iter().take_while(|b| **b == b'\\').count();
        at += match body.get(at + run) {
            Some(b'n' | b'r') if run > 0 => run + 1,
            Some(b' ' | b'\n' | b'\r' | b'\t') if run == 0 => 1,
            _ => return at,
        };
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn every_kind() {
        for label in [
            "PRIVATE KEY",
            "EC PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
            "ENCRYPTED PRIVATE KEY",
            "PGP PRIVATE KEY BLOCK",
        ] {
            check(
                &format!(
                    r#"{{"a":"x -----BEGIN {label}-----\nMIGHAgEAMBM\nGByqGSM49==\n-----END {label}-----\n y","b":"{{\"k\":\"-----BEGIN {label}-----\\nMIGH\"}}"}}"#
                ),
                &format!(
                    r#"{{"a":"x -----BEGIN {label}-----\n‹private-key›\n-----END {label}-----\n y","b":"{{\"k\":\"-----BEGIN {label}-----\\n‹private-key›\"}}"}}"#
                ),
            );
        }
    }

    #[test]
    fn in_base64() {
        check(
            r#"{"a":"users:\n- user:\n    client-key-data: LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS0tLS0tCk1IY0NBUUVFSU4=\n"}"#,
            r#"{"a":"users:\n- user:\n    client-key-data: ‹private-key›\n"}"#,
        );
    }

    #[test]
    fn a_key_that_begins_with_an_escape() {
        check(
            r#"{"a":"-----BEGIN PRIVATE KEY-----\n\u004dIGHAgEA\n-----END PRIVATE KEY-----","b":"-----BEGIN PRIVATE KEY-----\nnIGH\n-----END"}"#,
            r#"{"a":"-----BEGIN PRIVATE KEY-----\n‹private-key›\n-----END PRIVATE KEY-----","b":"-----BEGIN PRIVATE KEY-----\n‹private-key›\n-----END"}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(
            r#"{"a":"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n","b":"-----BEGIN PUBLIC KEY-----\nMIIB\n"}"#,
        );
    }
}
