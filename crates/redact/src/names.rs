//! Which names tell that their value is a credential. Compared without case and separators, by their ending:
//! `DB_PASSWORD`, `db-password` and `dbPassword` are one name; `passwordSecretRef` and `secretName` are others.

use std::sync::LazyLock;

/// How much a name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Its value is a credential, whatever it looks like.
    Strong,
    /// Its value may as well be a name or a reference: only an opaque one is a credential.
    Weak,
    /// Its value is a credential if it is base64 of `user:password` (`auth` in `.dockerconfigjson`).
    Basic,
}

/// Endings, in lower case and without separators.
const STRONG: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "passwort",
    "apikey",
    "accesskey",
    "secretaccesskey",
    "privatekey",
    "encryptionkey",
    "encryptkey",
    "signingkey",
    "masterkey",
    "authkey",
    "accountkey",
    "sharedkey",
    "storagekey",
    "hmackey",
    "rootpw",
    "adminpw",
    "bindpw",
    "clientkeydata",
    "clientsecret",
    "appsecret",
    "apisecret",
    "sharedsecret",
    "webhooksecret",
    "signingsecret",
    "jwtsecret",
    "cookiesecret",
    "consumersecret",
    "tokensecret",
    "connectionstring",
    "apitoken",
    "authtoken",
    "accesstoken",
    "refreshtoken",
    "idtoken",
    "bearertoken",
    "sessiontoken",
    "bottoken",
    "privatetoken",
    "securitytoken",
];
const WEAK: &[&str] = &["token", "secret", "secretkey", "credential", "credentials", "dockerconfigjson"];
/// Endings that count only as a word of their own: `bypass` and `compass` are no passwords.
const WORDS: &[&str] = &["pass", "pwd"];
/// Words that may follow without changing what it is.
const NEUTRAL: &[&str] = &["value", "base64", "b64", "plain", "raw", "old", "new", "hash", "text"];
/// What makes a token or key another thing.
const OTHER: &[&str] = &[
    "pagetoken",
    "continuetoken",
    "nexttoken",
    "continuationtoken",
    "csrftoken",
    "automountserviceaccounttoken",
    "publickey",
    "cachekey",
    "partitionkey",
    "sortkey",
    "primarykey",
    "foreignkey",
    "topologykey",
    "metrickey",
    "labelkey",
    "metadatakey",
    "oldpwd",
    "nonsensitive",
    "rowkey",
    "groupkey",
    "routingkey",
    "hotkey",
];
/// Parameters of a URL that grant what the URL names (RFC 6749 §4.1.2; Azure SAS; AWS Signature Version 4).
const QUERY: &[&str] = &["code", "sig", "signature", "xamzsignature", "xgoogsignature", "key"];

/// Words that make a `key` a credential, besides those of [`STRONG`].
const KEYS: &[&str] =
    &["servicekey", "deploykey", "sshkey", "sessionkey", "licensekey", "cryptkey", "tlskey"];
/// What separates the words of a name.
const SEPARATORS: &[u8] = b"_-.";

/// How the end of a name must match, and what it tells then.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tells {
    /// Another thing.
    Nothing,
    Ending(Class),
    /// As a word of its own.
    Word,
    /// As the whole name.
    Whole(Class),
    /// As the whole name of a parameter in a query string.
    Query,
    /// As the last word in capitals (`STRIPE_KEY`) or of a file's name (`tls.key`).
    Key,
}

/// The table of endings, by their last four bytes.
struct Endings {
    /// Open addressing over `groups`; zero is empty.
    slots: Box<[u16; 1 << SLOT_BITS]>,
    groups: Vec<Group>,
}

/// Endings with the same last four bytes; the first that matches decides.
struct Group {
    last: u32,
    words: Vec<Word>,
}

/// One ending.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word {
    word: &'static str,
    tells: Tells,
    /// Its last eight bytes as [`last_eight`] gives them, and which of those it has.
    eight: u64,
    mask: u64,
}

const SLOT_BITS: u32 = 13;

static ENDINGS: LazyLock<Endings> = LazyLock::new(Endings::new);

impl Endings {
    fn new() -> Endings {
        let mut endings = Endings { slots: Box::new([0; 1 << SLOT_BITS]), groups: Vec::new() };
        let ending = |class| Tells::Ending(class);
        // Other things come first, for they decide.
        endings.add(OTHER, Tells::Nothing);
        endings.add(STRONG, ending(Class::Strong));
        endings.add(QUERY, Tells::Query);
        endings.add(WORDS, Tells::Word);
        endings.add(&["auth", "npmauth"], Tells::Whole(Class::Basic));
        endings.add(WEAK, ending(Class::Weak));
        endings.add(KEYS, ending(Class::Weak));
        endings.add(&["session"], Tells::Whole(Class::Weak));
        endings.add(&["key"], Tells::Key);
        endings
    }

    fn add(&mut self, words: &'static [&'static str], tells: Tells) {
        for word in words {
            self.add_tails(word, tells);
        }
    }

    /// Adds `word` under its last four bytes, with at most one separator among them.
    fn add_tails(&mut self, word: &'static str, tells: Tells) {
        spelled(word.as_bytes(), |tail| self.add_tail(tail, word, tells));
    }

    fn add_tail(&mut self, tail: &[u8], word: &'static str, tells: Tells) {
        let before: &[u8] = match tells {
            _ if tail.len() > 3 => b"",
            // Behind `?`, `&`, `\u0026` and `%26`.
            Tells::Query => b"?&6",
            Tells::Key => return,
            _ => b"\"' _-./{(<,;\t\n$&?6abcdefghijklmnopqrstuvwxyz0123456789",
        };
        if let Some(last) = tail.last_chunk() {
            self.insert(*last, word, tells);
        }
        for byte in before {
            if let [a, b, c] = *tail {
                self.insert([*byte, a, b, c], word, tells);
            }
        }
    }

    fn insert(&mut self, last: [u8; 4], word: &'static str, tells: Tells) {
        let last = folded(last);
        let slot = self.slot(last);
        if self.slots[slot] == 0 {
            self.groups.push(Group { last, words: Vec::new() });
            self.slots[slot] = self.groups.len() as u16;
        }
        let group = &mut self.groups[usize::from(self.slots[slot]) - 1];
        let missing = 8 - word.len().min(8) as u32;
        let word = Word { word, tells, eight: last_eight(word.as_bytes()), mask: u64::MAX << (8 * missing) };
        if !group.words.contains(&word) {
            group.words.push(word);
        }
    }

    /// The slot of `last`, or the empty one where it belongs. There always is one: a test counts the groups.
    fn slot(&self, last: u32) -> usize {
        let mut slot = (last.wrapping_mul(0x9e37_79b1) >> (32 - SLOT_BITS)) as usize;
        loop {
            match self.slots[slot] {
                0 => return slot,
                group if self.groups[usize::from(group) - 1].last == last => return slot,
                _ => slot = (slot + 1) % (1 << SLOT_BITS),
            }
        }
    }

    fn words(&self, last: u32) -> &[Word] {
        match self.slots[self.slot(last)] {
            0 => &[],
            group => &self.groups[usize::from(group) - 1].words,
        }
    }
}

/// Tells `word`, and `word` with one separator among its last bytes.
fn spelled(word: &[u8], mut tell: impl FnMut(&[u8])) {
    tell(word);
    for separator in SEPARATORS {
        for at in word.len().saturating_sub(3)..word.len() {
            let (front, back) = word.split_at(at);
            tell(&[front, &[*separator], back].concat());
        }
    }
}

/// Letters in lower case.
fn folded(four: [u8; 4]) -> u32 {
    u32::from_le_bytes(four) | 0x2020_2020
}

/// Tells the last four bytes of every name for which [`class`] may tell something, but for numbers after it. Of a
/// name that is shorter the byte before it is told too.
pub(crate) fn endings(mut tell: impl FnMut([u8; 4])) {
    for group in &ENDINGS.groups {
        tell(group.last.to_le_bytes());
        // A neutral word of three letters stands behind the last letter of another.
        for neutral in NEUTRAL.iter().filter(|neutral| neutral.len() == 3) {
            if let [a, b, c] = *neutral.as_bytes() {
                tell([group.last.to_le_bytes()[3], a, b, c]);
            }
        }
    }
    for neutral in NEUTRAL {
        spelled(neutral.as_bytes(), |tail| tail.last_chunk().into_iter().for_each(|last| tell(*last)));
    }
    // The value of a container's variable in a path.
    tell(*b"alue");
}

/// What `name` tells; `query` says that it stands in a query string.
pub(crate) fn class(name: &[u8], query: bool) -> Option<Class> {
    // The commonest keys of all (`apiVersion`, `metadata`, `value`) end as telling ones do.
    if name.ends_with(b"ersion") || name == b"value" || name == b"metadata" {
        return None;
    }
    let mut key = name;
    while let [rest @ .., b'0'..=b'9' | b'_' | b'-' | b'.'] = key {
        key = rest;
    }
    // `b64` and `base64` end in a number that is none.
    if key.len() < name.len()
        && name.ends_with(b"64")
        && key.last().is_some_and(|b| matches!(b, b'b' | b'B' | b'e' | b'E'))
    {
        key = name;
    }
    told(key, query).or_else(|| {
        let last = key.last()?.to_ascii_lowercase();
        let mut neutral = NEUTRAL.iter().filter(|neutral| neutral.as_bytes().last() == Some(&last));
        let rest = neutral.find_map(|neutral| before(key, neutral.as_bytes()))?;
        told(rest, query)
    })
}

/// What a name tells that has no number and no neutral word at its end.
fn told(key: &[u8], query: bool) -> Option<Class> {
    let last = match *key {
        [.., a, b, c, d] => [a, b, c, d],
        [a, b, c] => [if query { b'?' } else { b'"' }, a, b, c],
        _ => return None,
    };
    let words = ENDINGS.words(folded(last));
    if words.is_empty() {
        return None;
    }
    let eight = last_eight(key);
    for Word { word, tells, .. } in words.iter().filter(|word| eight & word.mask == word.eight) {
        let Some(before) = before(key, word.as_bytes()) else { continue };
        let whole = before.is_empty();
        return match *tells {
            Tells::Nothing => None,
            Tells::Ending(class) => Some(class),
            Tells::Word if *word == "pwd" && whole => None,
            Tells::Word if is_word(key, before.len()) => Some(Class::Strong),
            Tells::Whole(class) if whole => Some(class),
            Tells::Query if query && whole => Some(Class::Strong),
            Tells::Key if key.ends_with(b"_KEY") || key.ends_with(b".key") => Some(Class::Weak),
            _ => continue,
        };
    }
    None
}

/// The last eight letters and digits of `name`, in lower case, the last one in the highest byte.
fn last_eight(name: &[u8]) -> u64 {
    // Nearly always there is nothing else among them.
    if let Some(last) = name.last_chunk::<8>()
        && last.iter().fold(true, |all, b| all & b.is_ascii_alphanumeric())
    {
        return u64::from_le_bytes(*last) | 0x2020_2020_2020_2020;
    }
    let letters = name.iter().rev().filter(|b| b.is_ascii_alphanumeric()).take(8);
    letters.enumerate().fold(0, |eight, (at, b)| eight | u64::from(b | 0x20) << (56 - 8 * at))
}

/// What stands before `word` at the end of `name`, compared without case and separators.
fn before<'n>(name: &'n [u8], word: &[u8]) -> Option<&'n [u8]> {
    let mut rest = name;
    for expected in word.iter().rev() {
        loop {
            let (last, front) = rest.split_last()?;
            rest = front;
            if !last.is_ascii_alphanumeric() {
                continue;
            }
            if last.to_ascii_lowercase() != *expected {
                return None;
            }
            break;
        }
    }
    while let [front @ .., b'_' | b'-' | b'.' | b'"' | b'?' | b'&'] = rest {
        rest = front;
    }
    Some(rest)
}

/// Whether what stands in `name` behind `before` bytes is a word of its own: it begins the name, follows a separator,
/// or begins with a capital.
fn is_word(name: &[u8], before: usize) -> bool {
    match (name[..before].last(), name.get(before)) {
        (None, _) => true,
        (_, Some(joint)) if !joint.is_ascii_alphanumeric() => true,
        (Some(last), Some(first)) => first.is_ascii_uppercase() && last.is_ascii_lowercase(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telling_names() {
        for name in [
            "password",
            "dbPassword",
            "DB_PASSWORD",
            "db-password",
            "passwd",
            "DB_PASS",
            "dbPass",
            "MYSQL_PWD",
            "api_key",
            "apiKey",
            "x-api-key",
            "AWS_SECRET_ACCESS_KEY",
            "connectionString",
            "authToken",
            "clientSecret",
            "client_secret",
            "previous-password",
            "password2",
            "--password",
            "passwordHash",
            "PRIVATE_KEY",
        ] {
            assert_eq!(class(name.as_bytes(), false), Some(Class::Strong), "{name}");
        }
        for name in ["token", "secret", "STRIPE_KEY", "tls.key", "credentials", "secretKey", "GITHUB_TOKEN"] {
            assert_eq!(class(name.as_bytes(), false), Some(Class::Weak), "{name}");
        }
    }

    #[test]
    fn the_table_has_room() {
        let groups = ENDINGS.groups.len();
        assert!(groups < (1 << SLOT_BITS) / 4, "{groups} groups");
    }

    #[test]
    fn every_telling_name_is_told_by_its_end() {
        let mut told = std::collections::HashSet::new();
        endings(|four| {
            told.insert(folded(four));
        });
        for list in [STRONG, WEAK, KEYS, WORDS] {
            for word in list {
                for name in
                    [word.to_string(), format!("my_{word}"), word.to_uppercase(), format!("x.{word}Hash")]
                {
                    let quoted = format!("\"{name}");
                    let last = *quoted.as_bytes().last_chunk().unwrap();
                    assert!(told.contains(&folded(last)), "{name}");
                }
            }
        }
    }

    #[test]
    fn other_names() {
        for name in [
            "secretName",
            "secretKeyRef",
            "passwordSecretRef",
            "tokenExpirationSeconds",
            "max_tokens",
            "bypass",
            "automountServiceAccountToken",
            "tokenReviews",
            "resourceVersion",
            "compass",
            "PWD",
            "publicKey",
            "topologyKey",
            "credential-id",
            "passthrough",
            "nextPageToken",
            "code",
            "PASSWORD_FILE",
            "monkey",
        ] {
            assert_eq!(class(name.as_bytes(), false), None, "{name}");
        }
        assert_eq!(class(b"code", true), Some(Class::Strong));
    }
}
