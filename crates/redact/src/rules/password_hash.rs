//! Hashes of passwords, which can be tried offline.

use super::{Needle, Rule, Selector};
use crate::config::Action;
use crate::detect::run;
use std::ops::Range;

/// Hashes as `crypt(5)`, `htpasswd` and LDAP servers write them (crypt(5), "Available hashing methods"; httpd's
/// "Password Formats"; RFC 2307 §5.3).
pub(super) static RULE: Rule = Rule {
    name: "password-hash",
    doc: "hashes of passwords: bcrypt, `htpasswd`, `crypt(5)`, Argon2, LDAP's `{SSHA}`",
    selector: Selector::Text {
        needles: &[
            Needle::Mark("$2a$"),
            Needle::Mark("$2b$"),
            Needle::Mark("$2y$"),
            Needle::Mark("$apr1$"),
            Needle::Mark("$1$"),
            Needle::Mark("$5$"),
            Needle::Mark("$6$"),
            Needle::Mark("$y$"),
            Needle::Mark("$argon2"),
            Needle::Mark("$pbkdf2"),
            Needle::Mark("{SHA}"),
            Needle::Mark("{SSHA}"),
        ],
        find,
    },
    action: Action::Mask,
};

/// Shorter ones are something else: the shortest is MD5's, of 22 letters after the salt.
const MIN: usize = 20;
const MAX: usize = 512;

fn find(text: &[u8], at: usize, needle: &str) -> Option<Range<usize>> {
    let start = at + needle.len();
    let window = &text[..text.len().min(start + MAX)];
    let end = run(window, start, |b| b.is_ascii_alphanumeric() || b"./$+=,-".contains(&b));
    (end - start >= MIN).then_some(at..end)
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn of_every_kind() {
        check(
            r#"{"a":"admin:$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy\nme:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/","b":"{SSHA}0c0blFTXXNuAMHECS4uxrj3ZieMoWImr","c":"root:$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/;1"}"#,
            r#"{"a":"admin:‹password-hash›\nme:‹password-hash›","b":"‹password-hash›","c":"root:‹password-hash›;1"}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(r#"{"a":"costs $1$ or $5$ or $6$","b":"${VAR} $2a$ {SHA}","c":"$(A)$(B)"}"#);
    }
}
