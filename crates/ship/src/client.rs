//! The door to the network: one HTTP client for each output.
//!
//! It follows no redirect (a redirect is a wrong endpoint, and credentials must not travel), reads no more of an
//! answer than asked for, and reports failures without content and without credentials. TLS is rustls with
//! ring; certificates are checked by the platform's verifier.
#![expect(clippy::disallowed_methods, reason = "a door: reads the CA file")]

use crate::sink::{Door, Failure, Op, Reply};
use bytes::{Bytes, BytesMut};
use reqwest::{Certificate, redirect};
use std::error::Error;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const USER_AGENT: &str = concat!("auditship/", env!("CARGO_PKG_VERSION"));
/// Longest text of a failure.
const TEXT_BYTES: usize = 200;

/// How to reach an endpoint.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The URL, for what depends on its scheme and host.
    pub endpoint: String,
    /// Longest time for a whole request, the answer included.
    pub timeout: Duration,
    /// PEM file of certificate authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether to accept any certificate.
    pub dangerously_accept_invalid_certs: bool,
}

/// Why a door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file cannot be read.
    #[error("read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no certificate.
    #[error("read certificates from {path}: none found in PEM form")]
    Certificates {
        /// Which.
        path: PathBuf,
    },
    /// TLS cannot be set up, for example because the system has no certificate authorities.
    #[error("set up the http client: {0}")]
    Client(String),
    /// A directory cannot be made or is not to be written to.
    #[error("open {path} for writing: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// An HTTP client with its pool of connections.
pub struct Client {
    client: reqwest::Client,
    timeout: Duration,
}

impl Client {
    /// A client for one endpoint.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn new(options: &ClientOptions) -> Result<Client, OpenError> {
        // Whoever is second finds the same provider there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(options.timeout)
            .pool_idle_timeout(Duration::from_secs(60))
            .tcp_keepalive(Duration::from_secs(30))
            // Several connections spread over a load balancer's backends; one HTTP/2 connection does not.
            .http1_only();
        let url =
            reqwest::Url::parse(&options.endpoint).map_err(|error| OpenError::Client(error.to_string()))?;
        if is_loopback(&url) {
            // As in Go's `httpproxy`: a proxy is never asked for the own host.
            builder = builder.no_proxy();
        }
        if url.scheme() == "http" {
            // The platform's verifier refuses to start where there are no roots; here it has nothing to verify.
            builder = builder.tls_certs_only([]);
        } else if let Some(path) = &options.ca_file {
            let pem = std::fs::read(path).map_err(|source| OpenError::Read { path: path.clone(), source })?;
            let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
            if certificates.is_empty() {
                return Err(OpenError::Certificates { path: path.clone() });
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder
            .tls_danger_accept_invalid_certs(options.dangerously_accept_invalid_certs)
            .build()
            .map_err(|error| OpenError::Client(innermost(&error)))?;
        Ok(Client { client, timeout: options.timeout })
    }

    async fn send(&self, op: Op) -> Result<Reply, reqwest::Error> {
        let Op::Http { method, url, headers, body, answer_bytes } = op else {
            return Ok(failed(Failure::Invalid, "not an http operation"));
        };
        let mut response = self.client.request(method, url).headers(headers).body(body).send().await?;
        let too_long = || failed(Failure::Answer, &format!("the answer is longer than {answer_bytes} bytes"));
        if response.content_length().is_some_and(|length| length > answer_bytes as u64) {
            return Ok(too_long());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > answer_bytes {
                return Ok(too_long());
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status().as_u16();
        Ok(Reply::Http { status, headers: std::mem::take(response.headers_mut()), body: Bytes::from(body) })
    }

    fn failure(&self, error: &reqwest::Error) -> Reply {
        let mut text = innermost(error);
        let kind = if error.is_builder() {
            Failure::Invalid
        } else if speaks_of_tls(error) {
            Failure::Tls
        } else if error.is_connect() {
            Failure::Connect
        } else if error.is_timeout() {
            text = format!("no answer within {:?}", self.timeout);
            Failure::Timeout
        } else {
            Failure::Reset
        };
        failed(kind, &text)
    }
}

impl Door for Client {
    fn perform(&self, op: Op) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        Box::pin(async move { self.send(op).await.unwrap_or_else(|error| self.failure(&error)) })
    }
}

fn failed(kind: Failure, text: &str) -> Reply {
    let word = match kind {
        Failure::Connect => "connect",
        Failure::Timeout => "timeout",
        Failure::Tls => "tls",
        _ => "http",
    };
    Reply::Failed { kind, text: format!("{word}: {text}") }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// All errors from `error` inwards.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| inside(*error))
}

fn inside<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    // An `io::Error` passes over the error inside it.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// What the innermost error says: the outer ones repeat the URL or add nothing.
fn innermost(error: &reqwest::Error) -> String {
    let mut text = match chain(error).skip(1).last() {
        Some(inner) => inner.to_string(),
        None if error.is_timeout() => "timed out".to_owned(),
        None => "failed".to_owned(),
    };
    let end = text.floor_char_boundary(TEXT_BYTES);
    text.truncate(end);
    text
}

fn speaks_of_tls(error: &reqwest::Error) -> bool {
    chain(error).any(|error| error.is::<rustls::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(endpoint: &str) -> ClientOptions {
        ClientOptions {
            endpoint: endpoint.to_owned(),
            timeout: Duration::from_secs(5),
            ca_file: None,
            dangerously_accept_invalid_certs: false,
        }
    }

    #[test]
    fn loopback_needs_no_proxy() {
        for (url, want) in [
            ("http://localhost:1/x", true),
            ("http://127.0.0.2/", true),
            ("http://[::1]:9/", true),
            ("http://10.0.0.1/", false),
            ("http://localhost.example/", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), want, "{url}");
        }
    }

    #[test]
    fn a_bad_ca_file_is_named() {
        let missing = ClientOptions { ca_file: Some("/nowhere/ca.pem".into()), ..options("https://x") };
        let error = Client::new(&missing).err().unwrap().to_string();
        assert!(error.starts_with("read /nowhere/ca.pem: "), "{error}");
        let empty = ClientOptions { ca_file: Some("/dev/null".into()), ..options("https://x") };
        assert!(matches!(Client::new(&empty), Err(OpenError::Certificates { .. })));
    }
}
