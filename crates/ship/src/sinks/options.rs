//! The options that outputs have in common, as written in the configuration, and how they are checked.

use super::Transport;
use crate::client::ClientOptions;
use crate::shipper::Options;
use crate::sink::{Limits, without_query};
use crate::units::{ByteRate, ByteSize, Duration, RequestRate, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderValue, Uri};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;
use std::time;

/// Default timeout of a whole request.
const TIMEOUT: time::Duration = time::Duration::from_secs(30);

/// Default limits of a batch that goes into one HTTP request.
pub(crate) const HTTP_LIMITS: Limits = Limits {
    bytes: 2 << 20,
    packed_bytes: None,
    events: 5_000,
    age: time::Duration::from_secs(1),
    event_bytes: None,
    event_age: None,
};

/// How large and how old a batch may get.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchOptions {
    /// Most bytes in one batch. Before compression (2MiB) for requests; after it (8MiB) for `dir`.
    pub bytes: Option<ByteSize>,
    /// Most events in one batch.
    pub events: Option<u32>,
    /// Longest time an event waits for its batch to fill (1s for requests, 60s for `dir`).
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

/// How the server's certificate is checked.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of certificate authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate: whoever is on the path can read and alter everything.
    #[serde(default)]
    pub dangerously_accept_invalid_certs: bool,
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
    pub(super) fn new(path: &'static str, message: impl Into<String>) -> Invalid {
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
}

impl HttpCommon<'_> {
    pub(super) fn check(&self) -> Result<(Transport, Options), Invalid> {
        let uri: Uri = self.endpoint.parse().map_err(|_| Invalid::new(self.path, "is not a URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(Invalid::new(self.path, "must begin with http:// or https://"));
        }
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if authority.contains('@') {
            return Err(Invalid::new(self.path, "must not hold credentials: they belong in `auth`"));
        }
        let timeout = self.timeout.map_or(TIMEOUT, |timeout| timeout.0);
        if timeout.is_zero() {
            return Err(Invalid::new("timeout", "must be more than zero"));
        }
        let transport = Transport::Http(ClientOptions {
            endpoint: without_query(self.endpoint).to_owned(),
            timeout,
            ca_file: self.tls.ca_file.clone(),
            dangerously_accept_invalid_certs: self.tls.dangerously_accept_invalid_certs,
        });
        Ok((transport, shipping(self.rate_limit, self.concurrency)?))
    }
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

/// Adds the headers that describe the body.
pub(super) fn body_headers(headers: &mut HeaderMap, content_type: &'static str, encoding: crate::Encoding) {
    let content_type = HeaderValue::from_static(content_type);
    headers.entry(http::header::CONTENT_TYPE).or_insert(content_type);
    if let Some(encoding) = encoding.content_encoding() {
        headers.insert(http::header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
}
