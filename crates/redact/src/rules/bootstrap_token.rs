//! Bootstrap tokens that stand where nothing tells what they are.

use super::{Needle, Rule, Selector};
use crate::config::Action;
use std::ops::Range;

/// `[a-z0-9]{6}.[a-z0-9]{16}` (k8s.io/cluster-bootstrap `token/util/helpers.go`). Names of Events look like that where the
/// object's name is six letters long: the time in nanoseconds, in hexadecimal digits (k8s.io/client-go
/// `tools/record/event.go`). So do parts of host names and files. A token's second half is random: of a million, three
/// are hexadecimal and 41,000 look like a word and a number.
pub(super) static RULE: Rule = Rule {
    name: "bootstrap-token",
    doc: "bootstrap tokens by their form; names of Events, which have it too, stay",
    selector: Selector::Text { needles: &[Needle::Joined(ID, SECRET)], find },
    action: Action::Token,
};

/// So many bytes has the public half, and so many the other.
const ID: usize = 6;
const SECRET: usize = 16;

fn find(text: &[u8], at: usize, _: &str) -> Option<Range<usize>> {
    let (dot, end) = (at + ID, at + ID + 1 + SECRET);
    let (id, secret) = (&text[at..dot], &text[dot + 1..end]);
    let known = id.iter().chain(secret).all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    // `abcdef.0123456789abcdef.example.com` is a host; at the end of a sentence a dot may follow.
    let goes_on = matches!(&text[end..], [b'.', next, ..] if next.is_ascii_alphanumeric());
    let joined = matches!(&text[..at], [.., b'.' | b'_' | b'-']);
    (known && !goes_on && !joined && is_random(secret)).then_some(at..end)
}

fn is_random(secret: &[u8]) -> bool {
    let changes =
        secret.windows(2).filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit()).count();
    changes >= 3 && !secret.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn wherever_it_stands() {
        for token in ["07401b.f395accd246ae52x", "abcdef.q2w3e4r5t6y7u8i9", "a1b2c3.zzz4zzzzz5zzzzz6"] {
            check(
                &format!(
                    r#"{{"a":"{token}","b":"join with {token}.","c":"x\n{token}\n","d":"{{\"k\":\"{token}\"}}","e":"/a/{token}/b","f":"%20{token}%20"}}"#
                ),
                r#"{"a":"‹bootstrap-token›","b":"join with ‹bootstrap-token›.","c":"x\n‹bootstrap-token›\n","d":"{\"k\":\"‹bootstrap-token›\"}","e":"/a/‹bootstrap-token›/b","f":"%20‹bootstrap-token›%20"}"#,
            );
            // Where the lanes of the scanner end and begin.
            for before in 0..80 {
                let space = format!("{} ", "é ".repeat(before));
                check(
                    &format!(r#"{{"a":"{space}{token}"}}"#),
                    &format!(r#"{{"a":"{space}‹bootstrap-token›"}}"#),
                );
            }
        }
    }

    #[test]
    fn what_must_not_change() {
        for text in [
            "worker.18ead3e4f1ff4d50",
            "nodeab.0123456789abcdef",
            "server.kubernetes123456",
            "abcdef.q2w3e4r5t6y7u8i9.example.com",
            "www.abcdef.q2w3e4r5t6y7u8i9",
            "my-abcdef.q2w3e4r5t6y7u8i9",
            "Abcdef.q2w3e4r5t6y7u8i9",
            "abcdef.q2w3e4r5t6y7u8iX",
            "abcdefg.q2w3e4r5t6y7u8i9",
            "abcdef.q2w3e4r5t6y7u8i90",
            "abcdef.q2w3e4r5t6y7u8i",
            ".q2w3e4r5t6y7u8i9",
            "abcdef.",
        ] {
            unchanged(&format!(r#"{{"a":"{text}","b":"x {text} y"}}"#));
        }
    }
}
