//! The door through which an output is tried without shipping: name, address, proxy, TLS, request, clock, one after
//! the other, so that what is wrong has a name.
//!
//! Nothing is written at the backend: what is asked there is [`Sink::probe`]'s. It goes the way that the client
//! goes (the same TLS, the same proxy), but step by step; only the last step is done by the client itself.

use crate::client::{Client, ClientOptions, Proxy, Tls};
use crate::sink::{Door, Failure, Reply, Sink, Verdict};
use crate::sinks::Transport;
use crate::{store, tls, x509};
use auditship_event::Index;
use http::Uri;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A proxy's answer to CONNECT is no longer.
const PROXY_ANSWER_BYTES: usize = 8 << 10;
/// How long to wait for a server that does not like our certificate to say so.
const SECOND_THOUGHT: Duration = Duration::from_secs(1);
/// A clock that differs by more is worth a look; one that differs by [`SKEW_MAX`] has signed requests refused
/// (AWS General Reference, "Signature Version 4": requests are valid for five minutes).
const SKEW: i64 = 60;
const SKEW_MAX: i64 = 300;
/// A certificate that is valid for less will soon be a problem.
const EXPIRY: i64 = 14 * 86_400;
/// Less room will soon be used up.
const ROOM: u64 = 1 << 30;

/// What is tried, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Files of certificates and keys.
    Files,
    /// The host's name.
    Resolve,
    /// TCP.
    Connect,
    /// The proxy's leave to pass.
    Proxy,
    /// TLS.
    Tls,
    /// What the backend says.
    Request,
    /// The time of day, here and there.
    Clock,
    /// A local directory.
    Storage,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Well.
    Ok,
    /// Somebody should look at it.
    Warning,
    /// The output cannot work.
    Failed,
}

impl Step {
    /// Its name in messages and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Step::Files => "files",
            Step::Resolve => "resolve",
            Step::Connect => "connect",
            Step::Proxy => "proxy",
            Step::Tls => "tls",
            Step::Request => "request",
            Step::Clock => "clock",
            Step::Storage => "storage",
        }
    }
}

impl Grade {
    /// Its name in messages and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Grade::Ok => "ok",
            Grade::Warning => "warning",
            Grade::Failed => "failed",
        }
    }
}

/// What one step has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which step.
    pub step: Step,
    /// How it went.
    pub grade: Grade,
    /// What was found: no content, no credentials.
    pub text: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step.word(), self.text)?;
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

fn good(step: Step, text: impl Into<String>) -> Finding {
    Finding { step, grade: Grade::Ok, text: text.into(), advice: None }
}

fn doubtful(step: Step, text: impl Into<String>, advice: Option<&str>) -> Finding {
    Finding { step, grade: Grade::Warning, text: text.into(), advice: advice.map(str::to_owned) }
}

fn bad(step: Step, text: impl Into<String>, advice: Option<&str>) -> Finding {
    Finding { step, grade: Grade::Failed, text: text.into(), advice: advice.map(str::to_owned) }
}

/// Tries an output, whose records are sure to have the names `indexes`. Ends with the first step that fails.
///
/// It takes no longer than the output's timeouts, one for each step.
pub async fn probe(sink: &dyn Sink, transport: &Transport, indexes: &[Index]) -> Vec<Finding> {
    let mut found = Vec::new();
    // The failure is the last finding.
    let failed = match transport {
        Transport::Stdout => {
            found.push(good(Step::Storage, "standard output: nothing to try"));
            None
        }
        Transport::Dir { path } => {
            let path = path.clone();
            let tried = tokio::task::spawn_blocking(move || storage(&path)).await;
            found.push(tried.unwrap_or_else(|_| bad(Step::Storage, "it could not be tried", None)));
            None
        }
        Transport::Http(options) => Probe { options, found: &mut found }.run(sink, indexes).await.err(),
    };
    found.extend(failed);
    found
}

fn storage(path: &Path) -> Finding {
    let shown = path.display();
    match store::try_dir(path) {
        Err(error) => {
            let text = format!("cannot write to {shown}: {error}");
            bad(
                Step::Storage,
                text,
                Some("look at the directory's owner and mode, and what is mounted there"),
            )
        }
        Ok(room) => {
            let (size, exists) = (size(room.free_bytes), if room.exists { "" } else { " (it will be made)" });
            match room.free_bytes {
                0 => bad(Step::Storage, format!("there is no room left at {shown}"), Some("make room")),
                1..ROOM => doubtful(
                    Step::Storage,
                    format!("{shown}{exists} has only {size} free"),
                    Some("make room"),
                ),
                _ => good(Step::Storage, format!("{shown}{exists} can be written to, {size} free")),
            }
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..0x100_000 => format!("{} KiB", bytes >> 10),
        0x100_000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

/// A connection, whatever it goes through.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The steps of one HTTP output; the failure that ends them is returned.
struct Probe<'a> {
    options: &'a ClientOptions,
    found: &'a mut Vec<Finding>,
}

impl Probe<'_> {
    async fn run(mut self, sink: &dyn Sink, indexes: &[Index]) -> Result<(), Finding> {
        let asked = Arc::new(AtomicBool::new(false));
        let tls = self.files(&asked)?;
        let Ok(uri) = self.options.endpoint.parse::<Uri>() else {
            return Err(bad(Step::Resolve, "the endpoint is not a URL", None));
        };
        let proxy = self.options.proxy();
        let mut stream: Box<dyn Stream> = match &proxy {
            Some(proxy) => self.through(proxy, &uri, tls.as_ref()).await?,
            None => Box::new(self.connect(&uri).await?),
        };
        if let (Some("https"), Some(tls)) = (uri.scheme_str(), &tls) {
            let (text, spoken) = self.handshake(stream, &self.options.host(), tls).await?;
            stream = spoken;
            if asked.load(Ordering::Relaxed) {
                self.second_thought(&mut stream).await?;
            }
            self.found.push(text);
            if self.options.tls.dangerously_accept_invalid_certs {
                let text =
                    "any certificate is accepted: whoever is on the path can read and alter everything";
                let advice = "take `tls.dangerously_accept_invalid_certs` out";
                self.found.push(doubtful(Step::Tls, text, Some(advice)));
            }
        }
        drop(stream);
        self.requests(sink, indexes).await
    }

    fn files(&self, asked: &Arc<AtomicBool>) -> Result<Option<Tls>, Finding> {
        if !self.options.speaks_tls() {
            return Ok(None);
        }
        self.options.read_tls(asked).map(Some).map_err(|error| bad(Step::Files, error.to_string(), None))
    }

    /// A connection to the host of `uri`.
    async fn connect(&mut self, uri: &Uri) -> Result<TcpStream, Finding> {
        let limit = self.options.connection.connect_timeout;
        let (host, port) = (host(uri), port(uri));
        let looked_up = timeout(limit, tokio::net::lookup_host((host, port))).await;
        let mut addresses: Vec<SocketAddr> = match looked_up {
            Err(_) => {
                let text = format!("no answer within {limit:?} to what `{host}` is");
                return Err(bad(
                    Step::Resolve,
                    text,
                    Some("do the name servers in /etc/resolv.conf answer?"),
                ));
            }
            Ok(Err(error)) => {
                let text = format!("the name `{host}` cannot be resolved: {error}");
                return Err(bad(
                    Step::Resolve,
                    text,
                    Some("look at its spelling and at this host's name servers"),
                ));
            }
            Ok(Ok(addresses)) => addresses.collect(),
        };
        addresses.dedup();
        let mut failures = Vec::new();
        for address in &addresses {
            match timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    if !failures.is_empty() {
                        let advice = "the client tries the next one, which costs time";
                        self.found.push(doubtful(Step::Connect, failures.join(", "), Some(advice)));
                    }
                    self.found.push(good(Step::Connect, address.to_string()));
                    return Ok(stream);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    failures.push(format!("{address} refuses the connection"));
                }
                Ok(Err(error)) => failures.push(format!("{address}: {error}")),
                Err(_) => failures.push(format!("{address} does not answer within {limit:?}")),
            }
        }
        let advice = "is the server running, the port right, and no firewall or network policy in between?";
        Err(bad(Step::Connect, failures.join(", "), Some(advice)))
    }

    /// A connection through the proxy: for https a tunnel, else to the proxy alone, which must do the rest.
    async fn through(
        &mut self,
        proxy: &Proxy,
        uri: &Uri,
        tls: Option<&Tls>,
    ) -> Result<Box<dyn Stream>, Finding> {
        let mut stream: Box<dyn Stream> = Box::new(self.connect(&proxy.uri).await?);
        if let (Some("https"), Some(tls)) = (proxy.uri.scheme_str(), tls) {
            let (text, spoken) = self.handshake(stream, host(&proxy.uri), tls).await?;
            self.found.push(text);
            stream = spoken;
        }
        let named = proxy.uri.authority().map(ToString::to_string).unwrap_or_default();
        if uri.scheme_str() != Some("https") {
            self.found.push(good(Step::Proxy, format!("by way of {named}")));
            return Ok(stream);
        }
        let target = format!("{}:{}", host_in_brackets(uri), port(uri));
        let limit = self.options.connection.connect_timeout;
        let status = match timeout(limit, tunnel(&mut stream, &target, proxy)).await {
            Err(_) => {
                return Err(bad(Step::Proxy, format!("{named} does not answer within {limit:?}"), None));
            }
            Ok(Err(error)) => {
                return Err(bad(Step::Proxy, format!("{named}: {error}"), Some("is it a proxy?")));
            }
            Ok(Ok(status)) => status,
        };
        let advice = match status {
            200..=299 => {
                self.found.push(good(Step::Proxy, format!("by way of {named}")));
                return Ok(stream);
            }
            407 => "look at `connection.proxy_auth`, or at the credentials in HTTPS_PROXY",
            403 => "have the proxy let it pass",
            _ => "the proxy cannot reach it, or does not know the name",
        };
        Err(bad(Step::Proxy, format!("{named} answers CONNECT {target} with {status}"), Some(advice)))
    }

    async fn handshake(
        &self,
        stream: Box<dyn Stream>,
        host: &str,
        tls: &Tls,
    ) -> Result<(Finding, Box<dyn Stream>), Finding> {
        let limit = self.options.connection.connect_timeout;
        let Ok(name) = ServerName::try_from(host.to_owned()) else {
            return Err(bad(Step::Tls, format!("`{host}` is neither a host name nor an address"), None));
        };
        let connecting = TlsConnector::from(Arc::new(tls.config.clone())).connect(name, stream);
        match timeout(limit, connecting).await {
            Err(_) => {
                let text = format!("no answer within {limit:?}");
                Err(bad(Step::Tls, text, Some("does the server speak TLS there?")))
            }
            Ok(Err(error)) => Err(self.tls_failure(&error)),
            Ok(Ok(stream)) => Ok((certificate(stream.get_ref().1), Box::new(stream))),
        }
    }

    /// In TLS 1.3 the handshake is over before the server has looked at our certificate. What it thinks of it comes
    /// instead of an answer.
    async fn second_thought(&self, stream: &mut Box<dyn Stream>) -> Result<(), Finding> {
        match timeout(SECOND_THOUGHT, stream.read(&mut [0])).await {
            Ok(Err(error)) => Err(self.tls_failure(&error)),
            Ok(Ok(0)) => {
                let text = "the server closes the connection after it has asked for our certificate";
                Err(bad(Step::Tls, text, Some(tls::identity_help(&self.options.tls))))
            }
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    fn tls_failure(&self, error: &io::Error) -> Finding {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => {
                let (text, advice) = tls::explain(tls, &self.options.tls);
                bad(Step::Tls, text, advice)
            }
            None => bad(
                Step::Tls,
                format!("the handshake ends: {error}"),
                Some("does the server speak TLS there?"),
            ),
        }
    }

    /// Asks the sink's questions, and looks at the server's clock.
    async fn requests(&mut self, sink: &dyn Sink, indexes: &[Index]) -> Result<(), Finding> {
        let client = Client::new(self.options).map_err(|error| bad(Step::Files, error.to_string(), None))?;
        let questions = sink.probe(indexes);
        if questions.is_empty() {
            self.found.push(good(Step::Request, "only the connection was tried"));
        }
        let mut looked = false;
        for question in questions {
            let reply = client.perform(question.clone()).await;
            if let (false, Some(there)) = (looked, reply.date()) {
                looked = true;
                self.clock(there, sink.is_signed_with_time())?;
            }
            let verdict = sink.judge_probe(&question, &reply);
            // What only doubts for want of an answer was asked elsewhere than where events go.
            if let (Reply::Failed { kind, text }, Verdict::Bad { .. } | Verdict::Good(_)) = (&reply, &verdict)
            {
                let plain = self.options.endpoint.starts_with("http://");
                let advice = match kind {
                    Failure::Reset if plain => Some("if the server speaks TLS, the URL begins with https://"),
                    Failure::Timeout => Some("look at what the server does, or give it a longer `timeout`"),
                    _ => None,
                };
                return Err(bad(Step::Request, text, advice));
            }
            match verdict {
                Verdict::Good(text) => self.found.push(good(Step::Request, text)),
                Verdict::Doubtful(text) => self.found.push(doubtful(Step::Request, text, None)),
                Verdict::Bad { text, advice } => return Err(bad(Step::Request, text, Some(&advice))),
            }
        }
        Ok(())
    }

    fn clock(&mut self, there: jiff::Timestamp, signed: bool) -> Result<(), Finding> {
        let ahead = store::wall_clock().as_second() - there.as_second();
        let finding = skew(ahead, signed);
        match finding.grade {
            Grade::Failed => Err(finding),
            Grade::Warning => {
                self.found.push(finding);
                Ok(())
            }
            Grade::Ok => Ok(()),
        }
    }
}

/// What a clock is that is `ahead` of the server's by so many seconds.
fn skew(ahead: i64, signed: bool) -> Finding {
    let word = if ahead < 0 { "behind" } else { "ahead of" };
    let text = format!("this machine's clock is {} s {word} the server's", ahead.abs());
    match ahead.abs() {
        ..=SKEW => good(Step::Clock, text),
        SKEW_MAX.. if signed => {
            bad(Step::Clock, text, Some("synchronise it (NTP): requests signed with such a time are refused"))
        }
        _ => doubtful(Step::Clock, text, Some("synchronise it (NTP)")),
    }
}

/// Asks for a tunnel to `target`; gives the status of the answer.
async fn tunnel(stream: &mut Box<dyn Stream>, target: &str, proxy: &Proxy) -> io::Result<u16> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n").into_bytes();
    if let Some(auth) = &proxy.auth {
        request.extend_from_slice(b"proxy-authorization: ");
        request.extend_from_slice(auth.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == PROXY_ANSWER_BYTES {
            return Err(io::Error::other("its answer has no end"));
        }
        // One at a time: what follows belongs to the server behind.
        answer.push(stream.read_u8().await?);
    }
    let status = answer.strip_prefix(b"HTTP/1.").and_then(|rest| std::str::from_utf8(rest.get(2..5)?).ok());
    let status = status.and_then(|digits| digits.parse().ok());
    status.ok_or_else(|| io::Error::other("its answer is not HTTP"))
}

/// What TLS was agreed on, and with whom.
fn certificate(connection: &ClientConnection) -> Finding {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS",
    };
    let peer = connection.peer_certificates().and_then(|chain| chain.first());
    let peer = peer.and_then(|certificate| x509::Certificate::parse(certificate)).unwrap_or_default();
    let text = format!("{version} with {peer}");
    match peer.not_after {
        Some(until) if until.as_second() - store::wall_clock().as_second() < EXPIRY => {
            doubtful(Step::Tls, text, Some("the certificate ends soon: renew it"))
        }
        _ => good(Step::Tls, text),
    }
}

fn host_in_brackets(uri: &Uri) -> &str {
    uri.host().unwrap_or_default()
}

fn host(uri: &Uri) -> &str {
    host_in_brackets(uri).trim_matches(['[', ']'])
}

fn port(uri: &Uri) -> u16 {
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    uri.port_u16().unwrap_or(default)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "looks whether a directory was left alone")]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_judged_by_what_they_are_for() {
        for (ahead, signed, want) in [
            (0, true, Grade::Ok),
            (-60, true, Grade::Ok),
            (61, false, Grade::Warning),
            (-299, true, Grade::Warning),
            (4_000, false, Grade::Warning),
            (-300, true, Grade::Failed),
            (4_000, true, Grade::Failed),
        ] {
            assert_eq!(skew(ahead, signed).grade, want, "{ahead} {signed}");
        }
        assert_eq!(
            skew(-400, true).to_string(),
            "clock: this machine's clock is 400 s behind the server's; synchronise it (NTP): requests signed with \
             such a time are refused"
        );
    }

    #[test]
    fn directories_are_tried_without_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        let told = |path: &Path| storage(path).to_string().replace(&*dir.path().to_string_lossy(), "DIR");
        assert!(told(dir.path()).starts_with("storage: DIR can be written to, "));
        assert!(
            told(&dir.path().join("a/b"))
                .starts_with("storage: DIR/a/b (it will be made) can be written to, ")
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(told(&dir.path().join("file/x")).starts_with("storage: cannot write to DIR/file/x: "));
        assert_eq!(storage(Path::new("/proc/x")).grade, Grade::Failed);
    }

    #[test]
    fn sizes_are_told_in_round_figures() {
        for (bytes, want) in [(0, "0 KiB"), (3 << 20, "3 MiB"), (1 << 30, "1 GiB"), (900 << 30, "900 GiB")] {
            assert_eq!(size(bytes), want);
        }
    }
}
