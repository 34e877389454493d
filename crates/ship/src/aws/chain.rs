//! The door through which AWS credentials come: environment, files, and the endpoints that hand them out.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Standardized credential providers"; Amazon EC2 User Guide, "Use the
//! Instance Metadata Service" (version 2 only: version 1 answers whoever can make this host send a request); Amazon ECS
//! and EKS developer guides for the container's endpoint; AWS STS API Reference for `AssumeRole` and
//! `AssumeRoleWithWebIdentity`. Files are read and endpoints are asked anew each time.
#![expect(clippy::disallowed_methods, reason = "a door: reads the environment and files of credentials")]

use super::profile::{self, Profile};
use super::sigv4::{self, Scope, encode, hex, sha256};
use super::{AssumeRole, Credentials, element, word};
use crate::client::{Client, ClientOptions};
use crate::sink::{Door, Failure, Op, Reply};
use crate::units::Secret;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Endpoints of the node or the pod answer at once or not at all.
const NEAR: Duration = Duration::from_secs(2);
const FAR: Duration = Duration::from_secs(10);
const ANSWER_BYTES: usize = 64 << 10;
/// Most profiles that refer to one another.
const PROFILES: usize = 5;
const INSTANCE: &str = "http://169.254.169.254";
const CONTAINER: &str = "http://169.254.170.2";

/// What requests are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(super) id: Secret,
    pub(super) secret: Secret,
    pub(super) token: Option<Secret>,
    pub(super) expires: Option<Timestamp>,
}

impl Keys {
    /// A key that does not expire.
    pub(super) fn lasting(id: Secret, secret: Secret) -> Keys {
        Keys { id, secret, token: None, expires: None }
    }
}

/// Why there are no credentials; no secret in the text.
#[derive(Debug)]
pub(crate) enum Unavailable {
    /// Somebody must put it right.
    Wrong(String),
    /// It may pass by itself.
    Passing(String),
}

use Unavailable::{Passing, Wrong};

impl Unavailable {
    /// What the operation comes to that needed them.
    pub(super) fn reply(self) -> Reply {
        let (kind, text) = match self {
            Wrong(text) => (Failure::Invalid, text),
            Passing(text) => (Failure::Connect, text),
        };
        Reply::Failed { kind, text: format!("aws credentials: {text}") }
    }
}

/// Where to look, in order.
pub(crate) struct Chain {
    options: Credentials,
    region: String,
    /// What of the environment concerns AWS.
    vars: BTreeMap<String, String>,
}

impl Chain {
    /// With the environment of this process.
    pub(super) fn open(options: &Credentials, region: &str) -> Chain {
        let vars = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("AWS_") || name == "HOME");
        Chain::with(options, region, vars.collect())
    }

    pub(super) fn with(options: &Credentials, region: &str, vars: BTreeMap<String, String>) -> Chain {
        Chain { options: options.clone(), region: region.to_owned(), vars }
    }

    fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Credentials that are good at `now`.
    pub(super) async fn keys(&self, now: Timestamp) -> Result<Keys, Unavailable> {
        let base = self.base(now).await?;
        match &self.options.assume_role {
            Some(role) => self.assume(role, &base, now).await,
            None => Ok(base),
        }
    }

    async fn base(&self, now: Timestamp) -> Result<Keys, Unavailable> {
        if let Credentials {
            access_key_id: Some(id), secret_access_key: Some(secret), session_token, ..
        } = &self.options
        {
            return Ok(Keys { token: session_token.clone(), ..Keys::lasting(id.clone(), secret.clone()) });
        }
        if let Some(name) = &self.options.profile {
            return self.profile(name, now).await;
        }
        if let Some(keys) = self.environment() {
            return Ok(keys);
        }
        if let (Some(role), Some(file)) = (self.var("AWS_ROLE_ARN"), self.var("AWS_WEB_IDENTITY_TOKEN_FILE"))
        {
            return self.web_identity(role, file, self.var("AWS_ROLE_SESSION_NAME")).await;
        }
        let name = self.var("AWS_PROFILE").or_else(|| self.find_profile("default").map(|_| "default"));
        if let Some(name) = name {
            return self.profile(name, now).await;
        }
        if let Some(keys) = self.container().await? {
            return Ok(keys);
        }
        if self.var("AWS_EC2_METADATA_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true")) {
            return Err(Wrong("none in the options, the environment, a profile or a container".to_owned()));
        }
        self.instance().await
    }

    fn environment(&self) -> Option<Keys> {
        let secret = |name| self.var(name).map(Secret::new);
        let keys = Keys::lasting(secret("AWS_ACCESS_KEY_ID")?, secret("AWS_SECRET_ACCESS_KEY")?);
        Some(Keys { token: secret("AWS_SESSION_TOKEN"), ..keys })
    }

    fn find_profile(&self, name: &str) -> Option<Profile> {
        let text = |var, file: &str| {
            let home = || self.var("HOME").map(|home| PathBuf::from(home).join(".aws").join(file));
            let path = self.var(var).map(PathBuf::from).or_else(home);
            path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
        };
        let config = text("AWS_CONFIG_FILE", "config");
        profile::find(&config, &text("AWS_SHARED_CREDENTIALS_FILE", "credentials"), name)
    }

    async fn profile(&self, name: &str, now: Timestamp) -> Result<Keys, Unavailable> {
        let (base, mut roles) = self.profile_base(name).await?;
        let mut keys = base;
        while let Some(role) = roles.pop() {
            keys = self.assume(&role, &keys, now).await?;
        }
        Ok(keys)
    }

    /// What a profile begins with, and the roles to take on from there, the last one first.
    async fn profile_base(&self, name: &str) -> Result<(Keys, Vec<AssumeRole>), Unavailable> {
        let (mut name, mut roles) = (name.to_owned(), Vec::new());
        for _ in 0..PROFILES {
            let missing = || Wrong(format!("no profile {name:?} in the shared files"));
            let profile = self.find_profile(&name).ok_or_else(missing)?;
            let of = |key: &str| profile.get(key).filter(|value| !value.is_empty()).cloned();
            if let Some(role_arn) = of("role_arn") {
                let session_name = of("role_session_name");
                if let Some(file) = of("web_identity_token_file") {
                    let keys = self.web_identity(&role_arn, &file, session_name.as_deref()).await?;
                    return Ok((keys, roles));
                }
                let external_id = of("external_id").map(Secret::new);
                roles.push(AssumeRole { role_arn, external_id, session_name });
                match (of("source_profile"), of("credential_source").as_deref()) {
                    (Some(source), _) if source != name => {
                        name = source;
                        continue;
                    }
                    (None, Some("Environment")) => {
                        let none = || Wrong("none in the environment".to_owned());
                        return Ok((self.environment().ok_or_else(none)?, roles));
                    }
                    (None, Some("EcsContainer")) => {
                        let none = || Wrong("none from a container".to_owned());
                        return Ok((self.container().await?.ok_or_else(none)?, roles));
                    }
                    (None, Some("Ec2InstanceMetadata")) => return Ok((self.instance().await?, roles)),
                    _ => {}
                }
            }
            let (Some(id), Some(secret)) = (of("aws_access_key_id"), of("aws_secret_access_key")) else {
                let what = ["credential_process", "sso_session", "sso_start_url"]
                    .into_iter()
                    .find(|key| of(key).is_some());
                let what = what
                    .map_or("has no keys".to_owned(), |key| format!("uses {key}, which is not supported"));
                return Err(Wrong(format!("profile {name:?} {what}")));
            };
            let keys = Keys::lasting(Secret::new(id), Secret::new(secret));
            return Ok((Keys { token: of("aws_session_token").map(Secret::new), ..keys }, roles));
        }
        Err(Wrong(format!("more than {PROFILES} profiles refer to one another")))
    }

    async fn web_identity(&self, role: &str, file: &str, session: Option<&str>) -> Result<Keys, Unavailable> {
        // The kubelet renews the file.
        let token = std::fs::read_to_string(file)
            .map_err(|error| Wrong(format!("read the web identity token {file}: {error}")))?;
        let form = form(&[
            ("Action", "AssumeRoleWithWebIdentity"),
            ("RoleArn", role),
            ("RoleSessionName", session.unwrap_or("auditship")),
            ("WebIdentityToken", token.trim()),
        ]);
        self.sts(&form, None).await
    }

    async fn assume(&self, role: &AssumeRole, base: &Keys, now: Timestamp) -> Result<Keys, Unavailable> {
        let session = role.session_name.as_deref().unwrap_or("auditship");
        let mut pairs =
            vec![("Action", "AssumeRole"), ("RoleArn", &role.role_arn), ("RoleSessionName", session)];
        if let Some(external_id) = &role.external_id {
            pairs.push(("ExternalId", external_id.reveal()));
        }
        self.sts(&form(&pairs), Some((base, now))).await
    }

    /// Asks the region's own endpoint; the request is signed where it must be.
    async fn sts(&self, form: &str, sign: Option<(&Keys, Timestamp)>) -> Result<Keys, Unavailable> {
        let region =
            self.var("AWS_REGION").or_else(|| self.var("AWS_DEFAULT_REGION")).unwrap_or(&self.region);
        let url = match self.var("AWS_ENDPOINT_URL_STS") {
            Some(url) => url.to_owned(),
            None if region.starts_with("cn-") => format!("https://sts.{region}.amazonaws.com.cn/"),
            None => format!("https://sts.{region}.amazonaws.com/"),
        };
        let mut headers = HeaderMap::new();
        let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(http::header::CONTENT_TYPE, content_type);
        if let Some((keys, now)) = sign {
            let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
            let parsed = url.parse().map_err(|_| Wrong("the endpoint of sts is not a URL".to_owned()))?;
            let token = keys.token.as_ref();
            insert(&mut headers, "x-amz-date", &time)?;
            token.map_or(Ok(()), |token| insert(&mut headers, "x-amz-security-token", token.reveal()))?;
            let scope = Scope { region, service: "sts", time: &time };
            let payload = hex(&sha256(form.as_bytes()));
            let value = sigv4::authorization(&scope, keys, &Method::POST, &parsed, &headers, &payload);
            insert(&mut headers, "authorization", &value)?;
        }
        let body = Bytes::from(form.to_owned());
        let answer = ask("sts", Method::POST, &url, headers, body, FAR).await?;
        let text = |name| element(&answer, name).map(str::to_owned);
        let keys = || {
            let keys =
                Keys::lasting(Secret::new(text("AccessKeyId")?), Secret::new(text("SecretAccessKey")?));
            let expires = text("Expiration")?.parse().ok()?;
            Some(Keys { token: Some(Secret::new(text("SessionToken")?)), expires: Some(expires), ..keys })
        };
        keys().ok_or_else(|| Wrong("sts: the answer holds no credentials".to_owned()))
    }

    /// EKS Pod Identity and ECS. `None`: this is no such container.
    async fn container(&self) -> Result<Option<Keys>, Unavailable> {
        let relative =
            self.var("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|uri| format!("{CONTAINER}{uri}"));
        let full = || self.var("AWS_CONTAINER_CREDENTIALS_FULL_URI").map(str::to_owned);
        let Some(url) = relative.or_else(full) else { return Ok(None) };
        if !may_hand_out(&url) {
            return Err(Wrong("the container's endpoint is neither https nor on this host".to_owned()));
        }
        let token = match self.var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(file) => Some(
                std::fs::read_to_string(file)
                    .map_err(|error| Wrong(format!("read the container's token {file}: {error}")))?,
            ),
            None => self.var("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(str::to_owned),
        };
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            insert(&mut headers, "authorization", token.trim())?;
        }
        let answer = ask("the container's endpoint", Method::GET, &url, headers, Bytes::new(), NEAR).await?;
        from_json("the container's endpoint", &answer).map(Some)
    }

    /// The instance's role, by IMDSv2: a token first, then the role's name, then its credentials.
    async fn instance(&self) -> Result<Keys, Unavailable> {
        const WHAT: &str = "instance metadata";
        let base = self.var("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(INSTANCE).trim_end_matches('/');
        let mut headers = HeaderMap::new();
        insert(&mut headers, "x-aws-ec2-metadata-token-ttl-seconds", "300")?;
        let url = format!("{base}/latest/api/token");
        let token = ask(WHAT, Method::PUT, &url, headers, Bytes::new(), NEAR).await.map_err(|error| match error {
            Passing(text) => Passing(format!(
                "none in the options, the environment, a profile or a container, and {text} (from a pod it is \
                 reachable only with a hop limit of 2)"
            )),
            wrong => wrong,
        })?;
        let mut headers = HeaderMap::new();
        insert(&mut headers, "x-aws-ec2-metadata-token", String::from_utf8_lossy(&token).trim())?;
        let url = format!("{base}/latest/meta-data/iam/security-credentials/");
        let roles = ask(WHAT, Method::GET, &url, headers.clone(), Bytes::new(), NEAR).await?;
        let roles = String::from_utf8_lossy(&roles).into_owned();
        let Some(role) = roles.lines().next().map(str::trim).filter(|role| !role.is_empty()) else {
            return Err(Wrong("the instance has no role".to_owned()));
        };
        let url = format!("{url}{}", encode(role, ""));
        from_json(WHAT, &ask(WHAT, Method::GET, &url, headers, Bytes::new(), NEAR).await?)
    }
}

/// Whether an endpoint may be asked: over TLS, or on this host (AWS' list of addresses).
fn may_hand_out(url: &str) -> bool {
    let Ok(url) = url.parse::<reqwest::Url>() else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let near = ["localhost", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"].contains(&host)
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() == "https" || (url.scheme() == "http" && near)
}

fn form(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(name, value)| format!("&{name}={}", encode(value, "")));
    format!("Version=2011-06-15{}", pairs.collect::<String>())
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) -> Result<(), Unavailable> {
    let value = HeaderValue::from_str(value);
    let mut value =
        value.map_err(|_| Wrong("a token holds characters that no header can carry".to_owned()))?;
    value.set_sensitive(true);
    headers.insert(HeaderName::from_static(name), value);
    Ok(())
}

async fn ask(
    what: &str,
    method: Method,
    url: &str,
    headers: HeaderMap,
    body: Bytes,
    within: Duration,
) -> Result<Bytes, Unavailable> {
    let client =
        Client::new(&ClientOptions::to(url, within)).map_err(|error| Wrong(format!("{what}: {error}")))?;
    let op = Op::Http { method, url: url.to_owned(), headers, body, answer_bytes: ANSWER_BYTES };
    match client.perform(op).await {
        Reply::Http { status: 200, body, .. } => Ok(body),
        Reply::Http { status, body, .. } => {
            let code = word(&body, "Code").unwrap_or_default();
            let text = format!("{what}: http {status} {code}").trim_end().to_owned();
            let passing = matches!(status, 408 | 429 | 500..) || code == "IDPCommunicationError";
            Err(if passing { Passing(text) } else { Wrong(text) })
        }
        Reply::Failed { kind: Failure::Tls | Failure::Invalid, text } => {
            Err(Wrong(format!("{what}: {text}")))
        }
        Reply::Failed { text, .. } => Err(Passing(format!("{what}: {text}"))),
        Reply::Done | Reply::Exists => Err(Wrong(format!("{what}: not an http answer"))),
    }
}

/// What the container's and the instance's endpoints answer.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: Secret,
    secret_access_key: Secret,
    token: Option<Secret>,
    expiration: Option<String>,
}

fn from_json(what: &str, answer: &[u8]) -> Result<Keys, Unavailable> {
    // The error could quote the answer.
    let none = || Wrong(format!("{what}: the answer holds no credentials"));
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| none())?;
    let expires = answer.expiration.map(|time| time.parse()).transpose().map_err(|_| none())?;
    let keys = Keys::lasting(answer.access_key_id, answer.secret_access_key);
    Ok(Keys { token: answer.token, expires, ..keys })
}

#[cfg(test)]
mod tests;
