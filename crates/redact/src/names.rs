//! Which names tell that their value is a credential. Compared without case and separators, by their ending:
//! `DB_PASSWORD`, `db-password` and `dbPassword` are one name; `passwordSecretRef` and `secretName` are others.

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
    "clientkeydata",
    "hmackey",
    "rootpw",
    "adminpw",
    "bindpw",
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

/// What `name` tells; `query` says that it stands in a query string.
pub(crate) fn class(name: &[u8], query: bool) -> Option<Class> {
    // Nearly every name that comes here is another one, and its last letter tells (a digit or a neutral word may
    // stand after it).
    if !name.last().is_some_and(|b| b"adeghlnstwxyADEGHLNSTWXY0123456789_-.".contains(b)) {
        return None;
    }
    let mut squashed = [0u8; 80];
    let mut length = 0;
    for byte in name.iter().filter(|b| b.is_ascii_alphanumeric()) {
        *squashed.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    let mut key = &squashed[..length];
    key = digits(key);
    for word in NEUTRAL {
        if key.last() == word.as_bytes().last()
            && let Some(rest) = key.strip_suffix(word.as_bytes())
        {
            key = digits(rest);
            break;
        }
    }
    let last = *key.last()?;
    // Nearly every name that comes here is another one: its last letter tells.
    if !b"adeghlnstwy".contains(&last) {
        return None;
    }
    let ends = |list: &[&str]| {
        list.iter().any(|word| word.as_bytes().last() == Some(&last) && key.ends_with(word.as_bytes()))
    };
    if ends(OTHER) {
        return None;
    }
    if ends(STRONG) || (query && QUERY.iter().any(|word| key == word.as_bytes())) {
        return Some(Class::Strong);
    }
    if ends(WORDS) && last_word(name) && key != b"pwd" {
        return Some(Class::Strong);
    }
    if key == b"auth" || key == b"npmauth" {
        return Some(Class::Basic);
    }
    let key_word =
        key.ends_with(b"key") && (name.ends_with(b"_KEY") || name.ends_with(b".key") || is_key(key));
    (ends(WEAK) || key_word || key == b"session").then_some(Class::Weak)
}

/// Words that make a `key` a credential, besides those of [`STRONG`].
fn is_key(key: &[u8]) -> bool {
    [&b"servicekey"[..], b"deploykey", b"sshkey", b"sessionkey", b"licensekey", b"cryptkey", b"tlskey"]
        .iter()
        .any(|word| key.ends_with(word))
}

fn digits(key: &[u8]) -> &[u8] {
    let end = key.iter().rposition(|b| !b.is_ascii_digit()).map_or(0, |at| at + 1);
    &key[..end]
}

/// Whether the last of [`WORDS`] in `name` begins it, follows a separator or begins with a capital.
fn last_word(name: &[u8]) -> bool {
    let end = name.iter().rposition(u8::is_ascii_alphabetic).map_or(0, |at| at + 1);
    let lower = name[..end].to_ascii_lowercase();
    let Some(word) = WORDS.iter().find(|word| lower.ends_with(word.as_bytes())) else { return true };
    let at = end - word.len();
    at == 0
        || !name[at - 1].is_ascii_alphanumeric()
        || (name[at].is_ascii_uppercase() && name[at - 1].is_ascii_lowercase())
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
            "client-key-data",
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
