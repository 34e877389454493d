//! AWS: who a request comes from, and the signature that proves it. S3 and everything that speaks like it, OpenSearch
//! Service and OpenSearch Serverless use it.
//!
//! [`sigv4`] signs and is pure; [`chain`] finds credentials and is a door; [`signer`] keeps them, renews them before
//! they expire, and signs each attempt anew.

mod chain;
mod profile;
mod signer;
mod sigv4;

pub(crate) use signer::Signer;
pub(crate) use sigv4::{encode, sha256};

use crate::sinks::Invalid;
use crate::units::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// Where credentials come from. With nothing here, they are looked for in this order: the environment
/// (`AWS_ACCESS_KEY_ID`, …), web identity (IRSA: `AWS_ROLE_ARN`, `AWS_WEB_IDENTITY_TOKEN_FILE`), the shared profile
/// files, the container's endpoint (EKS Pod Identity, ECS), the instance's metadata (IMDSv2).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The ID of a key that does not expire.
    pub access_key_id: Option<Secret>,
    /// The key itself.
    pub secret_access_key: Option<Secret>,
    /// The token of a key that does expire.
    pub session_token: Option<Secret>,
    /// A profile in the shared files (`~/.aws/credentials`, `~/.aws/config`), instead of all other places.
    pub profile: Option<String>,
    /// A role to take on with these credentials.
    pub assume_role: Option<AssumeRole>,
}

/// A role to take on (STS `AssumeRole`).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssumeRole {
    /// The role's ARN.
    pub role_arn: String,
    /// What the role's trust policy may ask for.
    pub external_id: Option<Secret>,
    /// Name of the session in the account's logs (`auditship`).
    pub session_name: Option<String>,
}

/// How to sign for OpenSearch at AWS.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenSearch {
    /// The domain's or the collection's region, such as `eu-central-1`.
    pub region: String,
    /// The service (`es`).
    #[serde(default)]
    pub service: OpenSearchService,
    /// Where credentials come from; by default from the usual places.
    #[serde(default)]
    pub credentials: Credentials,
}

/// Which of AWS' OpenSearch services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpenSearchService {
    /// OpenSearch Service, with domains.
    #[default]
    Es,
    /// OpenSearch Serverless, with collections.
    Aoss,
}

impl OpenSearch {
    /// Checked and compiled.
    pub(crate) fn signing(&self, path: &'static str) -> Result<Signing, Invalid> {
        let service = match self.service {
            OpenSearchService::Es => "es",
            OpenSearchService::Aoss => "aoss",
        };
        Signing::new(&self.region, service, &self.credentials, path)
    }
}

/// How a client signs its requests.
#[derive(Clone, Debug)]
pub struct Signing {
    pub(crate) region: String,
    pub(crate) service: &'static str,
    pub(crate) credentials: Credentials,
    /// Whether the store is to check the bytes of what is put: `x-amz-checksum-sha256`.
    pub(crate) checksum: bool,
}

impl Signing {
    pub(crate) fn new(
        region: &str,
        service: &'static str,
        credentials: &Credentials,
        path: &'static str,
    ) -> Result<Signing, Invalid> {
        let safe = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if region.is_empty() || !region.chars().all(safe) {
            return Err(Invalid::new(path, "the region is a name such as eu-central-1"));
        }
        let Credentials { access_key_id, secret_access_key, session_token, profile, .. } = credentials;
        if access_key_id.is_some() != secret_access_key.is_some() {
            return Err(Invalid::new(path, "access_key_id and secret_access_key belong together"));
        }
        if access_key_id.is_some() && profile.is_some() {
            return Err(Invalid::new(path, "a key and a profile exclude each other"));
        }
        if session_token.is_some() && access_key_id.is_none() {
            return Err(Invalid::new(path, "a session_token belongs to a key"));
        }
        let blank = |secret: &Option<Secret>| {
            secret.as_ref().is_some_and(|text| !text.reveal().trim().bytes().all(|b| b.is_ascii_graphic()))
        };
        if blank(access_key_id) || blank(secret_access_key) || blank(session_token) {
            return Err(Invalid::new(path, "a key or token holds characters that none has"));
        }
        let (region, credentials) = (region.to_owned(), credentials.clone());
        Ok(Signing { region, service, credentials, checksum: false })
    }
}

/// The text of the first element `name` in an XML answer: one of the service's own words (letters, digits, `.-_`), else
/// nothing. Only the beginning is looked at; the answer may quote what it was sent.
pub(crate) fn word<'a>(body: &'a [u8], name: &str) -> Option<&'a str> {
    let text = element(body, name)?;
    let safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (!text.is_empty() && text.len() <= 64 && text.chars().all(safe)).then_some(text)
}

/// The text of the first element `name` in the first 16 KiB of an XML answer; entities are not resolved.
fn element<'a>(body: &'a [u8], name: &str) -> Option<&'a str> {
    let head = &body[..body.len().min(16 << 10)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).ok()?,
    };
    let after = text.split_once(&format!("<{name}>"))?.1;
    Some(after.split_once(&format!("</{name}>"))?.0.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_are_taken_from_an_answer() {
        let xml = b"<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>x</Message></Error>";
        assert_eq!(word(xml, "Code"), Some("SlowDown"));
        for (xml, why) in [
            (&b"<Code>Slow Down</Code>"[..], "no word"),
            (b"<Code>\xff</Code>", "no text"),
            (b"<Code></Code>", "empty"),
            (b"<Code>SlowDown", "no end"),
            (b"", "nothing"),
        ] {
            assert_eq!(word(xml, "Code"), None, "{why}");
        }
        let late = [&vec![b' '; 20_000][..], b"<Code>SlowDown</Code>"].concat();
        assert_eq!(word(&late, "Code"), None);
        let long = format!("<Code>{}</Code>", "x".repeat(65));
        assert_eq!(word(long.as_bytes(), "Code"), None);
    }

    #[test]
    fn mistakes_are_told_without_secrets() {
        let secret = || Some(Secret::new("hunter2"));
        let none = Credentials::default;
        for (credentials, want) in [
            (
                Credentials { access_key_id: secret(), ..none() },
                "auth: access_key_id and secret_access_key belong together",
            ),
            (Credentials { session_token: secret(), ..none() }, "auth: a session_token belongs to a key"),
            (
                Credentials {
                    access_key_id: secret(),
                    secret_access_key: secret(),
                    profile: Some("x".into()),
                    ..none()
                },
                "auth: a key and a profile exclude each other",
            ),
            (
                Credentials {
                    access_key_id: secret(),
                    secret_access_key: Some(Secret::new("hunter2\n3")),
                    ..none()
                },
                "auth: a key or token holds characters that none has",
            ),
        ] {
            let error = Signing::new("eu-central-1", "es", &credentials, "auth").unwrap_err();
            assert_eq!(error.to_string(), want);
        }
        assert!(Signing::new("eu central", "es", &none(), "auth").is_err());
        let all = Credentials { access_key_id: secret(), secret_access_key: secret(), ..none() };
        let signing = Signing::new("eu-central-1", "es", &all, "auth").unwrap();
        assert!(!format!("{signing:?}").contains("hunter2"));
    }
}
