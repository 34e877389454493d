//! The options that outputs have in common, as written in the configuration, and how they are checked.

use super::Transport;
use crate::client::{ClientOptions, ConnectionOptions, ProxyOptions};
use crate::shipper::Options;
use crate::sink::{Limits, without_query};
use crate::tls::TlsOptions;
use crate::units::{ByteRate, ByteSize, Duration, Endpoint, RequestRate, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time;

/// Default timeout of a whole request.
const TIMEOUT: time::Duration = time::Duration::from_secs(30);

/// Default limits of a batch that goes into one HTTP request.
pub(crate) const HTTP_LIMITS: Limits = Limits {
    bytes: 2 << 20,
    packed_bytes: None,
    whole_lines: false,
    events: 5_000,
    age: time::Duration::from_secs(1),
    event_bytes: None,
    event_age: None,
};

/// Names a batch, the same in every attempt (draft-ietf-httpapi-idempotency-key-header).
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How large and how old a batch may get.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchOptions {
    /// Most bytes in one batch. Before compression (2MiB) for requests; after it (8MiB) for `s3` and `dir`.
    pub bytes: Option<ByteSize>,
    /// Most events in one batch.
    pub events: Option<u32>,
    /// Longest time an event waits for its batch to fill (1s for requests, 60s for `dir`, 5m for `s3`).
    pub age: Option<Duration>,
    /// Most bytes of one event, as the backend takes it. A longer one is trimmed: managed fields first, then the
    /// response's body, the request's, and long strings.
    pub event_bytes: Option<ByteSize>,
}

impl BatchOptions {
    pub(super) fn limits(&self, default: Limits) -> Result<Limits, Invalid> {
        let bytes = match self.bytes {
            Some(ByteSize(bytes)) if !(4096..=256 << 20).contains(&bytes) => {
                return Err(Invalid::new("batch.bytes", "must be between 4KiB and 256MiB"));
            }
            // Below 256 MiB.
            Some(ByteSize(bytes)) => Some(bytes as usize),
            None => None,
        };
        if self.events == Some(0) {
            return Err(Invalid::new("batch.events", "must be at least 1"));
        }
        let event_bytes = match self.event_bytes {
            Some(ByteSize(bytes)) if !(4096..=256 << 20).contains(&bytes) => {
                return Err(Invalid::new("batch.event_bytes", "must be between 4KiB and 256MiB"));
            }
            // Below 256 MiB.
            Some(ByteSize(bytes)) => Some(bytes as usize),
            None => default.event_bytes,
        };
        let mut limits = Limits {
            event_bytes,
            events: self.events.map_or(default.events, |events| events as usize),
            age: self.age.map_or(default.age, |age| age.0),
            ..default
        };
        match (bytes, &mut limits.packed_bytes) {
            (Some(bytes), Some(packed)) => *packed = bytes,
            (Some(bytes), None) => limits.bytes = bytes,
            (None, _) => {}
        }
        Ok(limits)
    }
}

/// How fast an output may send.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Compressed bytes in a time, such as `20MiB/s`.
    pub bytes: Option<ByteRate>,
    /// Requests in a time, such as `50/s`.
    pub requests: Option<RequestRate>,
}

/// Whom to trust, and as whom to appear. Files are read again when their content changes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of certificate authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the certificate to appear with, where the server asks for one (mTLS); its chain may follow.
    pub cert_file: Option<PathBuf>,
    /// PEM file of the private key of `cert_file`, not encrypted; may be the same file.
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must be for, where it is not the endpoint's host. The endpoint's
    /// host is still the one that the server is told (SNI).
    pub server_name: Option<String>,
    /// Accept any certificate: whoever is on the path can read and alter everything.
    #[serde(default)]
    pub dangerously_accept_invalid_certs: bool,
}

impl Tls {
    fn check(&self) -> Result<TlsOptions, Invalid> {
        let identity = match (&self.cert_file, &self.key_file) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (Some(_), None) => return Err(Invalid::new("tls.cert_file", "needs `tls.key_file`")),
            (None, Some(_)) => return Err(Invalid::new("tls.key_file", "needs `tls.cert_file`")),
            (None, None) => None,
        };
        let server_name = match &self.server_name {
            Some(name) => Some(
                ServerName::try_from(name.clone())
                    .map_err(|_| Invalid::new("tls.server_name", "is neither a host name nor an address"))?,
            ),
            None => None,
        };
        Ok(TlsOptions {
            ca_file: self.ca_file.clone(),
            identity,
            server_name,
            dangerously_accept_invalid_certs: self.dangerously_accept_invalid_certs,
        })
    }
}

/// How connections are made and kept.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// Longest time to connect, TLS included (5s).
    pub connect_timeout: Option<Duration>,
    /// Longest time from the beginning of a request to that of its answer, and longest silence within the answer
    /// (as `timeout`). Sending the request must fit into it.
    pub read_timeout: Option<Duration>,
    /// Age at which connections are made anew, give or take a fifth (5m), so that the members which a load balancer
    /// has got meanwhile get their share.
    pub max_age: Option<Duration>,
    /// URL of an HTTP proxy, such as `http://proxy.example:3128`; no credentials. Without it HTTPS_PROXY, HTTP_PROXY,
    /// ALL_PROXY and NO_PROXY of the environment hold. Loopback addresses are never reached through a proxy.
    pub proxy: Option<Endpoint>,
    /// User name and password for `proxy`.
    pub proxy_auth: Option<Basic>,
    /// What is reached without a proxy, as in NO_PROXY: host names with all below them, addresses, networks such as
    /// `10.0.0.0/8`.
    #[serde(default)]
    pub no_proxy: Vec<String>,
}

impl Connection {
    fn check(&self) -> Result<ConnectionOptions, Invalid> {
        let default = ConnectionOptions::default();
        let positive = |path, given: &Option<Duration>| match given {
            Some(Duration(given)) if given.is_zero() => Err(Invalid::new(path, "must be more than zero")),
            Some(Duration(given)) => Ok(Some(*given)),
            None => Ok(None),
        };
        let proxy = match &self.proxy {
            Some(url) => {
                endpoint("connection.proxy", &url.0, "connection.proxy_auth")?;
                let basic = match &self.proxy_auth {
                    Some(pair) => {
                        // Judged as the header that it becomes.
                        basic("connection.proxy_auth", pair)?;
                        Some((pair.user.clone(), pair.password.clone()))
                    }
                    None => None,
                };
                Some(ProxyOptions { url: url.0.clone(), basic })
            }
            None if self.proxy_auth.is_some() => {
                return Err(Invalid::new("connection.proxy_auth", "needs `connection.proxy`"));
            }
            None => None,
        };
        let age = positive("connection.max_age", &self.max_age)?;
        Ok(ConnectionOptions {
            connect_timeout: positive("connection.connect_timeout", &self.connect_timeout)?
                .unwrap_or(default.connect_timeout),
            read_timeout: positive("connection.read_timeout", &self.read_timeout)?,
            max_age: age.unwrap_or(default.max_age),
            proxy,
            no_proxy: self.no_proxy.join(","),
        })
    }
}

/// In whose words an event leaves; see docs/shapes.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventShape {
    /// The event as it was logged.
    #[default]
    Raw,
    /// Fields of the Elastic Common Schema, with the event in `kubernetes.audit`.
    Ecs,
}

/// User name and password (RFC 7617).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// User name.
    pub user: String,
    /// Password.
    pub password: Secret,
}

/// How to authenticate.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// User name and password.
    Basic(Basic),
    /// A bearer token.
    Bearer(Secret),
}

/// What an output's configuration says that is wrong by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Invalid {
    /// The option, relative to the output.
    pub path: &'static str,
    /// What is wrong with it; never a secret's value.
    pub message: String,
}

impl Invalid {
    pub(crate) fn new(path: &'static str, message: impl Into<String>) -> Invalid {
        Invalid { path, message: message.into() }
    }
}

/// What the HTTP sinks share.
pub(super) struct HttpCommon<'a> {
    pub(super) endpoint: &'a str,
    pub(super) path: &'static str,
    pub(super) rate_limit: &'a RateLimit,
    pub(super) timeout: Option<Duration>,
    pub(super) concurrency: Option<u32>,
    pub(super) tls: &'a Tls,
    pub(super) connection: &'a Connection,
}

impl HttpCommon<'_> {
    pub(super) fn check(&self) -> Result<(Transport, Options), Invalid> {
        endpoint(self.path, self.endpoint, "auth")?;
        let timeout = self.timeout.map_or(TIMEOUT, |timeout| timeout.0);
        if timeout.is_zero() {
            return Err(Invalid::new("timeout", "must be more than zero"));
        }
        let transport = Transport::Http(Box::new(ClientOptions {
            endpoint: without_query(self.endpoint).to_owned(),
            timeout,
            connection: self.connection.check()?,
            tls: self.tls.check()?,
            aws: None,
        }));
        Ok((transport, shipping(self.rate_limit, self.concurrency)?))
    }
}

/// Checks the URL in the option `path`, whose credentials belong into the option `auth`.
fn endpoint(path: &'static str, url: &str, auth: &str) -> Result<(), Invalid> {
    let uri: Uri = url.parse().map_err(|_| Invalid::new(path, "is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(Invalid::new(path, "must begin with http:// or https://"));
    }
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    if authority.contains('@') {
        return Err(Invalid::new(path, format!("must not hold credentials: they belong in `{auth}`")));
    }
    Ok(())
}

pub(super) fn shipping(rate_limit: &RateLimit, concurrency: Option<u32>) -> Result<Options, Invalid> {
    let default = Options::default();
    let concurrency = match concurrency {
        Some(lanes) if !(1..=64).contains(&lanes) => {
            return Err(Invalid::new("concurrency", "must be between 1 and 64"));
        }
        Some(lanes) => lanes as usize,
        None => default.concurrency,
    };
    Ok(Options { bytes_rate: rate_limit.bytes, requests_rate: rate_limit.requests, concurrency, ..default })
}

/// A value of a header that is not shown.
pub(super) fn sensitive(path: &'static str, value: &str) -> Result<HeaderValue, Invalid> {
    // The error would quote nothing, but says nothing either.
    let value = HeaderValue::from_str(value.trim());
    let mut value = value.map_err(|_| Invalid::new(path, "holds characters that no header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

pub(super) fn basic(path: &'static str, basic: &Basic) -> Result<HeaderValue, Invalid> {
    if basic.user.contains(':') {
        return Err(Invalid::new(path, "the user name must not hold a colon (RFC 7617 §2)"));
    }
    sensitive(
        path,
        &format!("Basic {}", BASE64.encode(format!("{}:{}", basic.user, basic.password.reveal()))),
    )
}

pub(super) fn authorize(auth: Option<&Auth>, headers: &mut HeaderMap) -> Result<(), Invalid> {
    let value = match auth {
        None => return Ok(()),
        Some(Auth::Bearer(token)) => sensitive("auth", &format!("Bearer {}", token.reveal().trim()))?,
        Some(Auth::Basic(pair)) => basic("auth", pair)?,
    };
    headers.insert(header::AUTHORIZATION, value);
    Ok(())
}

/// Headers as the configuration has them; those that describe the body or the batch are not its business.
pub(super) fn own_headers(written: &BTreeMap<String, Secret>) -> Result<HeaderMap, Invalid> {
    use header::{CONTENT_ENCODING, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let name: HeaderName =
            name.parse().map_err(|_| Invalid::new("headers", "a name is not a header's"))?;
        let ours = [CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING, HOST, IDEMPOTENCY_KEY];
        if ours.contains(&name) {
            return Err(Invalid::new("headers", format!("{name} is set by auditship")));
        }
        headers.insert(name, sensitive("headers", value.reveal())?);
    }
    Ok(headers)
}

/// Adds the headers that describe the body.
pub(super) fn body_headers(headers: &mut HeaderMap, content_type: &'static str, encoding: crate::Encoding) {
    let content_type = HeaderValue::from_static(content_type);
    headers.entry(http::header::CONTENT_TYPE).or_insert(content_type);
    if let Some(encoding) = encoding.content_encoding() {
        headers.insert(http::header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
}
