//! Real TLS on the loopback device: whom the client trusts, as whom it appears, and what it says when it does not.
#![expect(clippy::disallowed_methods, reason = "writes certificates for the client to read")]

use crate::laws::{build, lines};
use crate::server::{Answer, Backend};
use crate::{batches, context};
use auditship_ship::client::Client;
use auditship_ship::sinks::{Config, Transport};
use auditship_ship::{Door, Failure, Outcome, Reply, Sink, store};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An authority made for one test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, in PEM form.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Signs a certificate for 127.0.0.1 and `names`, or what `change` makes of it.
    pub(crate) fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params =
            CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
        params.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
        params.distinguished_name.push(DnType::CommonName, "the server");
        params.not_before = date_time_ymd(2020, 1, 2);
        params.not_after = date_time_ymd(2999, 3, 4);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

/// A server's side: its identity, and the authority of the clients that it lets in.
pub(crate) fn server_config(identity: &Identity, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let certificates =
        |pem: &str| CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(certificates(&authority.pem).remove(0)).unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap(),
            )
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    Arc::new(builder.with_single_cert(certificates(&identity.certificate), key).unwrap())
}

/// A backend behind TLS whose configuration can be changed.
pub(crate) struct Secure {
    pub(crate) backend: Arc<Backend>,
    config: Mutex<Arc<ServerConfig>>,
    pub(crate) port: u16,
}

impl Secure {
    pub(crate) async fn start(config: Arc<ServerConfig>) -> Arc<Secure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let secure = Arc::new(Secure { backend: Backend::new(&[]), config: Mutex::new(config), port });
        let server = secure.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                server.backend.connections.fetch_add(1, Relaxed);
                let (backend, config) = (server.backend.clone(), server.config.lock().unwrap().clone());
                tokio::spawn(async move {
                    match TlsAcceptor::from(config).accept(&mut stream).await {
                        Ok(tls) => backend.answer_all(tls).await,
                        // Until the client has read why: closing at once could take the alert away from it.
                        Err(_) => drop(stream.read_to_end(&mut Vec::new()).await),
                    }
                });
            }
        });
        secure
    }

    pub(crate) fn change(&self, config: Arc<ServerConfig>) {
        *self.config.lock().unwrap() = config;
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

/// A directory of files for a client.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

/// An `http` output and its door.
struct Output {
    sink: Arc<dyn Sink>,
    door: Arc<dyn Door>,
}

impl Output {
    fn new(url: &str, more: Value) -> Output {
        let mut options = json!({"url": url, "timeout": "20s"});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let built = build("http", options);
        Output { sink: built.sink, door: store::open(&built.transport).unwrap() }
    }

    /// Sends one batch: what its reply is, and what it means.
    async fn send(&self) -> (Reply, Outcome) {
        let batch = batches(&self.sink, &lines(1)).remove(0);
        let asked = self.sink.request(&batch);
        let reply = self.door.perform(asked.clone()).await;
        let outcome = self.sink.judge(&batch, &asked, &reply);
        (reply, outcome)
    }

    async fn delivers(&self) {
        let (reply, outcome) = self.send().await;
        assert!(matches!(outcome, Outcome::Delivered), "{reply:?}");
    }

    /// The reason for which it is held.
    async fn held(&self) -> String {
        let (reply, outcome) = self.send().await;
        assert!(matches!(reply, Reply::Failed { kind: Failure::Tls, .. }), "{reply:?}");
        let Outcome::Hold { reason } = outcome else { panic!("{outcome:?}") };
        reason
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_judged_and_described() {
    let (authority, files) = (Authority::new("Our Authority"), Files::new());
    let ca = files.write("ca.pem", &authority.pem);
    let trusting = || json!({"tls": {"ca_file": ca}});
    let told = |names: &str| {
        format!(
            "subject `CN=the server`, issuer `CN=Our Authority`, valid from 2020-01-02T00:00:00Z until \
             2999-03-04T00:00:00Z, for {names}"
        )
    };

    let server = Secure::start(server_config(&authority.sign(&[], |_| {}), None)).await;
    Output::new(&server.url(), trusting()).delivers().await;
    assert_eq!(
        Output::new(&server.url(), json!({})).held().await,
        format!(
            "tls: the certificate of 127.0.0.1 is refused: no trusted authority has signed it ({}); set \
             `tls.ca_file` to the certificate of its authority",
            told("127.0.0.1")
        )
    );
    Output::new(&server.url(), json!({"tls": {"dangerously_accept_invalid_certs": true}})).delivers().await;

    server.change(server_config(
        &authority.sign(&[], |params| {
            params.not_after = date_time_ymd(2021, 5, 6);
        }),
        None,
    ));
    let reason = Output::new(&server.url(), trusting()).held().await;
    assert!(reason.contains("is refused: it has expired ("), "{reason}");
    assert!(reason.contains("until 2021-05-06T00:00:00Z"), "{reason}");
    server.change(server_config(
        &authority.sign(&[], |params| params.not_before = date_time_ymd(2998, 5, 6)),
        None,
    ));
    let reason = Output::new(&server.url(), trusting()).held().await;
    assert!(reason.contains("is refused: it is not valid yet ("), "{reason}");

    let elsewhere = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName("logs.example".try_into().unwrap())];
    };
    server.change(server_config(&authority.sign(&[], elsewhere), None));
    assert_eq!(
        Output::new(&server.url(), trusting()).held().await,
        format!(
            "tls: the certificate of 127.0.0.1 is refused: it is for another name ({}); use one of its names in \
             the endpoint, or set `tls.server_name` to one",
            told("logs.example")
        )
    );
    let named = |name: &str| json!({"tls": {"ca_file": ca, "server_name": name}});
    Output::new(&server.url(), named("logs.example")).delivers().await;
    let reason = Output::new(&server.url(), named("other.example")).held().await;
    assert!(reason.starts_with("tls: the certificate of other.example is refused: it is for another name"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let (authority, files) = (Authority::new("Our Authority"), Files::new());
    let ca = files.write("ca.pem", &authority.pem);
    let identity = |name: &str, by: &Authority| {
        let identity = by.sign(&[], |_| {});
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        json!({"tls": {
            "ca_file": ca,
            "cert_file": files.write(&certificate, &identity.certificate),
            "key_file": files.write(&key, &identity.key),
        }})
    };
    let server = Secure::start(server_config(&authority.sign(&[], |_| {}), Some(&authority))).await;
    Output::new(&server.url(), identity("ours", &authority)).delivers().await;
    // Where the connection is closed before the alert is read, the answer is that alone; the hint is the same.
    let refused = async |options| {
        let (reply, outcome) = Output::new(&server.url(), options).send().await;
        let Reply::Failed { kind: Failure::Tls | Failure::Reset, text } = reply else { panic!("{reply:?}") };
        assert!(matches!(outcome, Outcome::Hold { .. } | Outcome::Retry { .. }), "{outcome:?}");
        text
    };
    let text = refused(json!({"tls": {"ca_file": ca}})).await;
    let hint = "it may ask for a certificate of ours: set `tls.cert_file` and `tls.key_file`";
    assert!(text.ends_with(hint), "{text}");
    let strangers = Authority::new("Strangers");
    let text = refused(identity("theirs", &strangers)).await;
    assert!(text.ends_with("it may not accept the certificate in `tls.cert_file`"), "{text}");
    assert_eq!(server.backend.stored.lock().unwrap().len(), 1);
}

/// Lets time pass for clients, but not while a request is under way.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn changed_files_are_read_again_while_running() {
    let (authority, files) = (Authority::new("Our Authority"), Files::new());
    let server = Secure::start(server_config(&authority.sign(&[], |_| {}), Some(&authority))).await;
    // As the kubelet lays out a mounted Secret: files are links into `..data`, which is a link that is swapped.
    let root = files.path();
    let lay = |version: &str, certificate: &str, key: &str| {
        std::fs::create_dir(root.join(version)).unwrap();
        for (name, text) in [("ca.crt", &*authority.pem), ("tls.crt", certificate), ("tls.key", key)] {
            std::fs::write(root.join(version).join(name), text).unwrap();
        }
        std::os::unix::fs::symlink(version, root.join("..data_tmp")).unwrap();
        std::fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    for name in ["ca.crt", "tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(Path::new("..data").join(name), root.join(name)).unwrap();
    }
    let first = authority.sign(&[], |_| {});
    lay("..1", &first.certificate, &first.key);
    let output = Output::new(
        &server.url(),
        json!({"tls": {
            "ca_file": root.join("ca.crt"),
            "cert_file": root.join("tls.crt"),
            "key_file": root.join("tls.key"),
        }}),
    );
    output.delivers().await;
    pass(Duration::from_secs(11)).await;
    output.delivers().await;
    assert_eq!(server.backend.connections.load(Relaxed), 1, "nothing has changed");

    // A broken file changes nothing, and is told.
    lay("..2", &first.certificate, "hunter2");
    pass(Duration::from_secs(11)).await;
    output.delivers().await;
    assert_eq!(server.backend.connections.load(Relaxed), 1);
    let warning = output.door.warning().unwrap();
    assert!(warning.contains("tls.key: no private key found in PEM form"), "{warning}");
    assert!(!warning.contains("hunter2"));
    // Not even when connections are made anew.
    pass(Duration::from_secs(400)).await;
    output.delivers().await;
    assert_eq!(server.backend.connections.load(Relaxed), 2);
    assert!(output.door.warning().is_some());

    let second = authority.sign(&[], |_| {});
    lay("..3", &second.certificate, &second.key);
    output.delivers().await;
    assert_eq!(server.backend.connections.load(Relaxed), 2, "it is not time to look yet");
    pass(Duration::from_secs(11)).await;
    output.delivers().await;
    assert_eq!(server.backend.connections.load(Relaxed), 3);
    assert_eq!(output.door.warning(), None);
}

#[tokio::test]
async fn a_rotated_authority_is_trusted_within_seconds() {
    let (old, new, files) = (Authority::new("Old"), Authority::new("New"), Files::new());
    let ca = files.write("ca.pem", &old.pem);
    let server = Secure::start(server_config(&old.sign(&[], |_| {}), None)).await;
    let output = Output::new(&server.url(), json!({"tls": {"ca_file": ca}, "connection": {"max_age": "1s"}}));
    output.delivers().await;
    server.change(server_config(&new.sign(&[], |_| {}), None));
    pass(Duration::from_secs(2)).await;
    let reason = output.held().await;
    assert!(reason.contains("issuer `CN=New`") && reason.contains("in `tls.ca_file`?"), "{reason}");
    files.write("ca.pem", &format!("{}{}", old.pem, new.pem));
    pass(Duration::from_secs(11)).await;
    output.delivers().await;
}

#[tokio::test]
async fn connections_are_made_anew_when_they_are_old() {
    let backend = Backend::new(&[]);
    let url = backend.clone().serve(0).await;
    let connections = || backend.connections.load(Relaxed);
    let output = Output::new(&url, json!({}));
    output.delivers().await;
    pass(Duration::from_secs(30)).await;
    output.delivers().await;
    assert_eq!(connections(), 1);
    pass(Duration::from_secs(331)).await;
    // What is under way finishes on the old connection, also while others are made anew.
    let (one, two) = tokio::join!(output.send(), output.send());
    assert!(matches!((&one.1, &two.1), (Outcome::Delivered, Outcome::Delivered)), "{one:?} {two:?}");
    assert!(connections() > 1);
    let so_far = connections();
    output.delivers().await;
    assert_eq!(connections(), so_far);
}

#[tokio::test]
async fn each_phase_has_its_own_time() {
    let url = Backend::new(&[Answer::Hang, Answer::Hang]).serve(0).await;
    for (options, want) in [
        (
            json!({"timeout": "60s", "connection": {"read_timeout": "100ms"}}),
            "timeout: no answer within 100ms",
        ),
        (
            json!({"timeout": "100ms", "connection": {"read_timeout": "60s"}}),
            "timeout: no answer within 100ms",
        ),
    ] {
        let (reply, outcome) = Output::new(&url, options).send().await;
        let Reply::Failed { kind: Failure::Timeout, text } = reply else { panic!("{reply:?}") };
        assert_eq!(text, want);
        assert!(matches!(outcome, Outcome::Retry { .. }));
    }
    // It is accepted by the kernel, but never speaks TLS.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let (reply, _) = Output::new(&url, json!({"connection": {"connect_timeout": "100ms"}})).send().await;
    let Reply::Failed { kind: Failure::Connect, text } = reply else { panic!("{reply:?}") };
    assert_eq!(text, "connect: no connection within 100ms");
}

#[test]
fn mistakes_in_the_options_are_named() {
    let url = "https://logs.example";
    for (options, want) in [
        (json!({"tls": {"cert_file": "/c"}}), "tls.cert_file: needs `tls.key_file`"),
        (json!({"tls": {"key_file": "/k"}}), "tls.key_file: needs `tls.cert_file`"),
        (json!({"tls": {"server_name": "a b"}}), "tls.server_name: is neither a host name nor an address"),
        (json!({"connection": {"max_age": "0s"}}), "connection.max_age: must be more than zero"),
        (
            json!({"connection": {"proxy": "socks5://p:1"}}),
            "connection.proxy: must begin with http:// or https://",
        ),
        (
            json!({"connection": {"proxy": "http://u:hunter2@p:1"}}),
            "connection.proxy: must not hold credentials: they belong in `connection.proxy_auth`",
        ),
        (
            json!({"connection": {"proxy_auth": {"user": "u", "password": "p"}}}),
            "connection.proxy_auth: needs `connection.proxy`",
        ),
        (
            json!({"connection": {"proxy": "http://p:1", "proxy_auth": {"user": "u:", "password": "p"}}}),
            "connection.proxy_auth: the user name must not hold a colon (RFC 7617 §2)",
        ),
    ] {
        let mut all = json!({"url": url});
        all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let config = Config::deserialize("http", all).unwrap().unwrap();
        assert_eq!(config.build(&context()).err().map(|error| error.to_string()).as_deref(), Some(want));
    }
    let insecure = json!({"url": url, "tls": {"insecure": true}});
    assert!(Config::deserialize("http", insecure).unwrap().is_err());
}

#[test]
fn what_cannot_be_read_at_the_start_is_an_error() {
    let built =
        build("http", json!({"url": "https://x", "tls": {"cert_file": "/no/c", "key_file": "/no/k"}}));
    let Transport::Http(options) = built.transport else { panic!("not http") };
    let error = Client::new(&options).err().unwrap().to_string();
    assert!(error.starts_with("read /no/c: "), "{error}");
}
