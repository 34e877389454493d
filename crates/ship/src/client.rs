//! The door to the network: one HTTP client for each output.
//!
//! It follows no redirect (a redirect is a wrong endpoint, and credentials must not travel), reads no more of an
//! answer than asked for, and reports failures without content and without credentials. TLS is in [`crate::tls`].
//!
//! The client, and with it every connection, is made anew when it is old enough, so that the members which a load
//! balancer has got meanwhile get their share, and when the content of a certificate or key file has changed.
//! What is under way finishes on the old one. Files that cannot be used change nothing.

use crate::aws::{Signer, Signing};
use crate::sink::{Door, Failure, Op, Reply};
use crate::stats::lock;
use crate::tls::{self, TlsOptions};
use crate::units::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::redirect;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

const USER_AGENT: &str = concat!("auditship/", env!("CARGO_PKG_VERSION"));
/// Longest text of a failure.
const TEXT_BYTES: usize = 200;
/// How often certificate and key files are looked at while requests are made.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How to reach an endpoint.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The URL, for what depends on its scheme and host.
    pub endpoint: String,
    /// Longest time for a whole request, the answer included.
    pub timeout: Duration,
    /// How connections are made and kept.
    pub connection: ConnectionOptions,
    /// Whom to trust, and as whom to appear.
    pub tls: TlsOptions,
    /// How requests are signed, for services that want each attempt signed anew.
    pub aws: Option<Signing>,
}

/// How connections are made and kept.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Longest time to connect: looking up the name, TCP, the proxy and TLS.
    pub connect_timeout: Duration,
    /// Longest time from the beginning of a request to that of its answer, and longest silence within the answer.
    pub read_timeout: Option<Duration>,
    /// Age at which connections are made anew; the real one differs by up to a fifth.
    pub max_age: Duration,
    /// The proxy to go through; without one the environment decides.
    pub proxy: Option<ProxyOptions>,
    /// Hosts that are reached without a proxy, as in `NO_PROXY`.
    pub no_proxy: String,
}

impl Default for ConnectionOptions {
    fn default() -> ConnectionOptions {
        ConnectionOptions {
            connect_timeout: Duration::from_secs(5),
            read_timeout: None,
            max_age: Duration::from_secs(300),
            proxy: None,
            no_proxy: String::new(),
        }
    }
}

/// An HTTP proxy.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Its URL, without credentials.
    pub url: String,
    /// User name and password.
    pub basic: Option<(String, Secret)>,
}

/// The proxy that a request goes through.
pub(crate) struct Proxy {
    /// Scheme, host and port.
    pub(crate) uri: Uri,
    /// The value of `Proxy-Authorization`.
    pub(crate) auth: Option<HeaderValue>,
}

impl ClientOptions {
    /// To `endpoint`, with all else as it usually is.
    pub(crate) fn to(endpoint: &str, timeout: Duration) -> ClientOptions {
        ClientOptions {
            endpoint: endpoint.to_owned(),
            timeout,
            connection: ConnectionOptions::default(),
            tls: TlsOptions::default(),
            aws: None,
        }
    }

    /// The endpoint's host, a literal IPv6 address without its brackets.
    pub(crate) fn host(&self) -> String {
        let uri: Option<Uri> = self.endpoint.parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        host.trim_matches(['[', ']']).to_owned()
    }

    /// Whether the endpoint is reached directly, whatever proxies there are.
    fn is_direct(&self) -> bool {
        let Ok(uri) = self.endpoint.parse::<Uri>() else { return true };
        // As in Go's `httpproxy`: a proxy is never asked for the own host; nor for what stands beside it and hands out
        // credentials.
        if is_near(&self.host()) {
            return true;
        }
        let any = Matcher::builder().all("http://proxy").no(self.connection.no_proxy.as_str()).build();
        any.intercept(&uri).is_none()
    }

    /// The proxy that requests to the endpoint go through, if there is one.
    pub(crate) fn proxy(&self) -> Option<Proxy> {
        let uri: Uri = self.endpoint.parse().ok()?;
        if self.is_direct() {
            return None;
        }
        let Some(proxy) = &self.connection.proxy else {
            let found = Matcher::from_system().intercept(&uri)?;
            return Some(Proxy { uri: found.uri().clone(), auth: found.basic_auth().cloned() });
        };
        let auth = proxy.basic.as_ref().and_then(|(user, password)| {
            let pair = BASE64.encode(format!("{user}:{}", password.reveal()));
            let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Some(Proxy { uri: proxy.url.parse().ok()?, auth })
    }

    /// Whether TLS is spoken at all: if not, no authorities are needed.
    pub(crate) fn speaks_tls(&self) -> bool {
        let secure = |uri: &Uri| uri.scheme_str() == Some("https");
        self.endpoint.parse().is_ok_and(|uri| secure(&uri))
            || self.proxy().is_some_and(|proxy| secure(&proxy.uri))
    }

    /// What to speak TLS with, as the files are now. Sets `asked` when a server asks who we are.
    pub(crate) fn read_tls(&self, asked: &Arc<AtomicBool>) -> Result<Tls, OpenError> {
        let material = self.tls.read()?;
        let config = self.tls.config(&material, &self.host(), asked)?;
        Ok(Tls { config, digest: material.digest() })
    }

    fn client(&self, tls: Option<&Tls>) -> Result<reqwest::Client, OpenError> {
        let failed = |error: reqwest::Error| OpenError::Client(innermost(&error));
        let connection = &self.connection;
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .connect_timeout(connection.connect_timeout)
            .timeout(self.timeout)
            .pool_idle_timeout(Duration::from_secs(60))
            .tcp_keepalive(Duration::from_secs(30))
            // Several connections spread over a load balancer's backends; one HTTP/2 connection does not.
            .http1_only();
        if let Some(timeout) = connection.read_timeout {
            builder = builder.read_timeout(timeout);
        }
        if self.is_direct() {
            builder = builder.no_proxy();
        } else if let Some(proxy) = &connection.proxy {
            let mut all = reqwest::Proxy::all(&proxy.url).map_err(failed)?;
            if let Some((user, password)) = &proxy.basic {
                all = all.basic_auth(user, password.reveal());
            }
            builder = builder.proxy(all);
        }
        let config = match tls {
            Some(tls) => tls.config.clone(),
            // Nobody is asked for a certificate: the system need not have authorities.
            None => tls::trusting_nobody()?,
        };
        builder.tls_backend_preconfigured(config).build().map_err(failed)
    }
}

/// TLS, made of files.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) config: rustls::ClientConfig,
    digest: blake3::Hash,
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
    /// A file does not hold the certificates that it should.
    #[error("read certificates from {path}: {problem}")]
    Certificates {
        /// Which.
        path: PathBuf,
        /// What is wrong with it; no content.
        problem: String,
    },
    /// A file holds no private key that can be used.
    #[error("read the private key from {path}: {problem}")]
    Key {
        /// Which.
        path: PathBuf,
        /// What is wrong with it; no content.
        problem: String,
    },
    /// A certificate and a key cannot be used together.
    #[error("use {certificate} with {key}: {problem}")]
    Identity {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why not.
        problem: String,
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

/// What a client has to do before it is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Look whether the files have changed.
    Look,
    /// Be made anew.
    Renew,
}

/// When a client is looked after. `now` and chance (uniform in `0.0..1.0`) are arguments.
#[derive(Debug)]
struct Schedule {
    max_age: Duration,
    renew: Instant,
    look: Instant,
}

impl Schedule {
    fn new(max_age: Duration, now: Instant, chance: f64) -> Schedule {
        let age = max_age.mul_f64(0.8 + 0.4 * chance);
        Schedule { max_age, renew: now + age, look: now + LOOK_EVERY }
    }

    /// What is due; whoever asks does it, and others go on with the old client meanwhile.
    fn due(&mut self, now: Instant, chance: f64) -> Option<Due> {
        if now >= self.renew {
            *self = Schedule::new(self.max_age, now, chance);
            return Some(Due::Renew);
        }
        if now >= self.look {
            self.look = now + LOOK_EVERY;
            return Some(Due::Look);
        }
        None
    }
}

/// An HTTP client with its pool of connections.
pub struct Client {
    options: Arc<ClientOptions>,
    current: Mutex<Current>,
    /// What is wrong with the files, if the client goes on with what was in them before.
    warning: Mutex<Option<String>>,
    /// Whether the server has ever asked who we are.
    asked: Arc<AtomicBool>,
    signer: Option<Signer>,
}

struct Current {
    client: reqwest::Client,
    /// Nothing, where no TLS is spoken.
    tls: Option<Tls>,
    schedule: Schedule,
}

impl Client {
    /// A client for one endpoint.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn new(options: &ClientOptions) -> Result<Client, OpenError> {
        let asked = Arc::default();
        let tls = if options.speaks_tls() { Some(options.read_tls(&asked)?) } else { None };
        let client = options.client(tls.as_ref())?;
        let schedule = Schedule::new(options.connection.max_age, Instant::now(), fastrand::f64());
        let current = Mutex::new(Current { client, tls, schedule });
        let signer = options.aws.clone().map(Signer::open);
        Ok(Client { options: Arc::new(options.clone()), current, warning: Mutex::new(None), asked, signer })
    }

    /// The client to use now.
    async fn current(&self) -> reqwest::Client {
        let (due, old, digest) = {
            let mut current = lock(&self.current);
            let due = current.schedule.due(Instant::now(), fastrand::f64());
            (due, current.client.clone(), current.tls.as_ref().map(|tls| tls.digest))
        };
        let Some(due) = due else { return old };
        let Some(digest) = digest else {
            if due == Due::Renew {
                self.replace(None);
            }
            return lock(&self.current).client.clone();
        };
        if due == Due::Look && !self.options.tls.has_files() {
            return old;
        }
        let (options, asked) = (self.options.clone(), self.asked.clone());
        // Reading the system's authorities takes some milliseconds.
        let looked = tokio::task::spawn_blocking(move || look(&options, due, digest, &asked)).await;
        // The runtime is going away.
        let Ok(looked) = looked else { return old };
        self.warn(looked.as_ref().err().map(ToString::to_string));
        match looked {
            Ok(None) => return old,
            Ok(Some(tls)) => {
                if tls.digest != digest {
                    let endpoint = &self.options.endpoint;
                    tracing::info!(endpoint, "certificate files have changed, connections are made anew");
                }
                self.replace(Some(tls));
            }
            Err(_) if due == Due::Renew => self.replace(None),
            Err(_) => return old,
        }
        lock(&self.current).client.clone()
    }

    /// Makes the client anew, with what it had where `tls` is nothing.
    fn replace(&self, tls: Option<Tls>) {
        let mut current = lock(&self.current);
        let tls = tls.or_else(|| current.tls.clone());
        // It could be made before, so it can be now.
        if let Ok(client) = self.options.client(tls.as_ref()) {
            current.client = client;
            current.tls = tls;
        }
    }

    fn warn(&self, problem: Option<String>) {
        let mut warning = lock(&self.warning);
        if *warning == problem {
            return;
        }
        let endpoint = &self.options.endpoint;
        match &problem {
            Some(error) => {
                tracing::warn!(endpoint, error, "certificate files cannot be used, the old ones stay")
            }
            None => tracing::info!(endpoint, "certificate files can be used again"),
        }
        *warning = problem;
    }

    async fn send(&self, client: reqwest::Client, op: Op) -> Result<Reply, reqwest::Error> {
        let Op::Http { method, url, headers, body, answer_bytes } = op else {
            return Ok(failed(Failure::Invalid, "not an http operation"));
        };
        let mut response = client.request(method, url).headers(headers).body(body).send().await?;
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

    fn failure(&self, error: &reqwest::Error, took: Duration) -> Reply {
        if error.is_builder() {
            return failed(Failure::Invalid, &innermost(error));
        }
        if let Some(tls) = chain(error).find_map(|error| error.downcast_ref::<rustls::Error>()) {
            let (text, help) = tls::explain(tls, &self.options.tls);
            let help = help.map(|help| format!("; {help}")).unwrap_or_default();
            return failed(Failure::Tls, &format!("{text}{help}"));
        }
        let connection = &self.options.connection;
        if error.is_connect() && error.is_timeout() {
            return failed(
                Failure::Connect,
                &format!("no connection within {:?}", connection.connect_timeout),
            );
        }
        if error.is_connect() && innermost(error).contains("proxy authorization required") {
            return failed(Failure::Invalid, "the proxy refuses the credentials (407)");
        }
        if error.is_connect() {
            return failed(Failure::Connect, &innermost(error));
        }
        if error.is_timeout() {
            let silence = connection.read_timeout.filter(|_| took < self.options.timeout);
            return failed(
                Failure::Timeout,
                &format!("no answer within {:?}", silence.unwrap_or(self.options.timeout)),
            );
        }
        let mut text = innermost(error);
        if self.asked.load(Ordering::Relaxed) {
            text =
                format!("{text}; the server has asked who we are, {}", tls::identity_help(&self.options.tls));
        }
        failed(Failure::Reset, &text)
    }
}

/// Reads the files, if it is time to or if they have changed.
fn look(
    options: &ClientOptions,
    due: Due,
    digest: blake3::Hash,
    asked: &Arc<AtomicBool>,
) -> Result<Option<Tls>, OpenError> {
    if due == Due::Look && options.tls.read()?.digest() == digest {
        return Ok(None);
    }
    options.read_tls(asked).map(Some)
}

impl Door for Client {
    fn perform(&self, op: Op) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let send = async |op| {
            let client = self.current().await;
            let began = Instant::now();
            let sent = self.send(client, op).await;
            sent.unwrap_or_else(|error| self.failure(&error, began.elapsed()))
        };
        Box::pin(async move {
            match &self.signer {
                Some(signer) => signer.perform(op, send).await,
                None => send(op).await,
            }
        })
    }

    fn warning(&self) -> Option<String> {
        lock(&self.warning).clone()
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

fn is_near(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        // AWS has its node-local endpoints in fd00:ec2::/32.
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.segments()[..2] == [0xfd00, 0xec2],
        Err(_) => host == "localhost",
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn options(endpoint: &str) -> ClientOptions {
        ClientOptions::to(endpoint, Duration::from_secs(5))
    }

    #[test]
    fn loopback_and_exempt_hosts_need_no_proxy() {
        let proxy = ProxyOptions { url: "http://proxy:3128".to_owned(), basic: None };
        for (url, no_proxy, want) in [
            ("http://localhost:1/x", "", true),
            ("http://127.0.0.2/", "", true),
            ("http://[::1]:9/", "", true),
            ("http://169.254.169.254/latest", "", true),
            ("http://[fd00:ec2::23]/v1/credentials", "", true),
            ("http://[fd00::1]/", "", false),
            ("http://10.0.0.1/", "", false),
            ("http://localhost.example/", "", false),
            ("https://logs.example/", "example.org, 10.0.0.0/8", false),
            ("https://logs.example/", "example", true),
            ("https://logs.example/", ".example", true),
            ("https://10.1.2.3/", "10.0.0.0/8", true),
            ("https://logs.example/", "*", true),
        ] {
            let connection = ConnectionOptions {
                proxy: Some(proxy.clone()),
                no_proxy: no_proxy.to_owned(),
                ..ConnectionOptions::default()
            };
            let options = ClientOptions { connection, ..options(url) };
            assert_eq!(options.proxy().is_none(), want, "{url} {no_proxy}");
        }
    }

    #[test]
    fn a_bad_ca_file_is_named() {
        let with = |path: &str| {
            let tls = TlsOptions { ca_file: Some(path.into()), ..TlsOptions::default() };
            Client::new(&ClientOptions { tls, ..options("https://x") }).err().unwrap().to_string()
        };
        let error = with("/nowhere/ca.pem");
        assert!(error.starts_with("read /nowhere/ca.pem: "), "{error}");
        assert_eq!(with("/dev/null"), "read certificates from /dev/null: none found in PEM form");
    }

    #[tokio::test(start_paused = true)]
    async fn clients_are_renewed_with_jitter_and_looked_at_in_between() {
        let (start, age) = (Instant::now(), Duration::from_secs(300));
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        for (chance, renewed) in [(0.0, 240), (0.5, 300), (1.0, 360)] {
            let mut schedule = Schedule::new(age, start, chance);
            assert_eq!(schedule.due(at(9), chance), None);
            assert_eq!(schedule.due(at(10), chance), Some(Due::Look));
            assert_eq!(schedule.due(at(10), chance), None, "one looks, the others go on");
            assert_eq!(schedule.due(at(renewed - 1), chance), Some(Due::Look));
            assert_eq!(schedule.due(at(renewed), chance), Some(Due::Renew));
            assert_eq!(schedule.due(at(renewed), chance), None);
        }
    }
}
