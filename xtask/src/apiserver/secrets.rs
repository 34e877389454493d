//! Made-up secrets from a seed, and the ledger of all that were handed out: none may be found in any backend.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

const ALNUM: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// What was handed out, by value, with its kind; shared by all who hand out.
#[derive(Clone, Default)]
pub(crate) struct Planted(Arc<Mutex<BTreeMap<String, &'static str>>>);

impl Planted {
    /// Notes a value, one of ours or one that the API server has issued.
    pub(crate) fn note(&self, kind: &'static str, value: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(value.to_owned(), kind);
    }

    /// All values with their kinds.
    pub(crate) fn all(&self) -> BTreeMap<String, &'static str> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Makes secrets.
pub(crate) struct Secrets {
    pub(crate) chance: fastrand::Rng,
    planted: Planted,
}

impl Secrets {
    pub(crate) fn new(seed: u64, planted: Planted) -> Secrets {
        Secrets { chance: fastrand::Rng::with_seed(seed), planted }
    }

    /// A value that somebody else has made.
    pub(crate) fn note(&self, kind: &'static str, value: &str) {
        self.planted.note(kind, value);
    }

    /// So many letters and digits, as a generator makes them: a few of each kind. Not a secret by itself.
    pub(crate) fn letters(&mut self, count: usize) -> String {
        loop {
            let text = self.of(ALNUM, count);
            let few = |kind: fn(&u8) -> bool| text.bytes().filter(kind).count() >= 2.min(count / 3);
            if few(u8::is_ascii_digit) && few(u8::is_ascii_lowercase) && few(u8::is_ascii_uppercase) {
                return text;
            }
        }
    }

    fn of(&mut self, alphabet: &[u8], count: usize) -> String {
        (0..count).map(|_| char::from(alphabet[self.chance.usize(..alphabet.len())])).collect()
    }

    fn planted(&mut self, kind: &'static str, value: String) -> String {
        self.planted.note(kind, &value);
        value
    }

    /// As people choose them.
    pub(crate) fn password(&mut self) -> String {
        let value = format!("P{}{}{}", self.letters(13), self.of(b"!#*-_", 1), self.of(b"0123456789", 3));
        self.planted("password", value)
    }

    /// With characters that JSON, HTML and URLs escape.
    pub(crate) fn escaped_password(&mut self) -> String {
        let value = format!("{}<&>{}\"\\{}ü", self.letters(6), self.letters(5), self.letters(4));
        self.planted("escaped password", value)
    }

    /// Without any form.
    pub(crate) fn opaque(&mut self) -> String {
        let value = self.letters(32);
        self.planted("opaque token", value)
    }

    /// A token of a vendor, which a detector knows by its form.
    pub(crate) fn vendor(&mut self) -> String {
        let value = match self.chance.u8(0..5) {
            0 => format!("ghp_{}", self.letters(36)),
            1 => format!("glpat-{}", self.letters(20)),
            2 => format!("xoxb-{0}-{0}-{1}", self.of(b"0123456789", 12), self.letters(24)),
            3 => format!("AIza{}", self.letters(35)),
            _ => format!("npm_{}", self.letters(36)),
        };
        self.planted("vendor token", value)
    }

    /// A JSON Web Token that nobody has signed.
    pub(crate) fn jwt(&mut self) -> String {
        let claims = format!(
            r#"{{"iss":"https://issuer.example.com","sub":"{}","exp":4102444800}}"#,
            self.letters(10)
        );
        let signature: Vec<u8> = (0..32).map(|_| self.chance.u8(..)).collect();
        let value = format!(
            "{}.{}.{}",
            base64_url(br#"{"alg":"HS256","typ":"JWT"}"#),
            base64_url(claims.as_bytes()),
            base64_url(&signature)
        );
        self.planted("jwt", value)
    }

    /// An address with a password in it; the password is planted.
    pub(crate) fn url(&mut self) -> String {
        let password = self.letters(20);
        let url = format!("postgres://app:{password}@db.example.com:5432/app");
        self.planted("password in a URL", password);
        url
    }

    /// A private key in PEM form, of random bytes; one line of it is planted.
    pub(crate) fn private_key(&mut self) -> String {
        let lines: Vec<String> = (0..3).map(|_| self.letters(64)).collect();
        self.planted("line of a private key", lines[1].clone());
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
    }
}

/// With padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// In the alphabet of URLs, without padding.
pub(crate) fn base64_url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_a_few_of_each_kind() {
        let mut secrets = Secrets::new(1, Planted::default());
        for count in [4, 13, 32] {
            for _ in 0..200 {
                let text = secrets.letters(count);
                assert!(text.len() == count && text.bytes().any(|b| b.is_ascii_digit()), "{text}");
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_secrets() {
        let planted = Planted::default();
        let make = || Secrets::new(7, planted.clone()).password();
        assert_eq!(make(), make());
        assert_eq!(planted.all().len(), 1);
    }
}
