//! `check --connect`: each step against a real server on the loopback device that fails there.
#![expect(clippy::disallowed_methods, reason = "makes a certificate that ends soon")]

use crate::laws::build;
use crate::proxy::Proxy;
use crate::server::{Answer, Backend};
use crate::tls::{Authority, Files, Secure, server_config};
use auditship_event::Index;
use auditship_ship::probe::{Grade, probe};
use auditship_ship::{Batch, Context, Encoding, Limits, Op, Outcome, Reply, Sink, Verdict};
use rcgen::date_time_ymd;
use serde_json::{Value, json};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// Tries an output of `kind` with `options`; gives what was found, a line each, and the worst of it.
async fn tried(kind: &str, options: Value) -> (Grade, Vec<String>) {
    let built = build(kind, options);
    let found = probe(&*built.sink, &built.transport, &[Index("audit".into())]).await;
    let worst = found.iter().map(|finding| finding.grade).max().unwrap();
    (worst, found.iter().map(|finding| format!("{} {finding}", finding.grade.word())).collect())
}

/// The failure that ended it.
async fn failed(kind: &str, options: Value) -> String {
    let (worst, mut lines) = tried(kind, options).await;
    assert_eq!(worst, Grade::Failed, "{lines:?}");
    lines.pop().unwrap()
}

fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_addresses() {
    let told = failed("http", json!({"url": "https://logs.invalid:8443/in"})).await;
    assert!(told.starts_with("failed resolve: the name `logs.invalid` cannot be resolved: "), "{told}");

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let told = failed("http", json!({"url": format!("http://{closed}")})).await;
    assert!(
        told.starts_with(&format!("failed connect: {closed} refuses the connection; is the server")),
        "{told}"
    );

    // The kernel drops who comes while nobody takes those that came before.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(came) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(came.unwrap());
        assert!(waiting.len() < 10, "the queue has no end");
    }
    let options = json!({"url": format!("http://{address}"), "connection": {"connect_timeout": "200ms"}});
    let told = failed("http", options).await;
    assert!(told.starts_with(&format!("failed connect: {address} does not answer within 200ms; ")), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_that_is_refused() {
    let (authority, files) = (Authority::new("Our Authority"), Files::new());
    let ca = files.write("ca.pem", &authority.pem);
    let server = Secure::start(server_config(&authority.sign(&[], |_| {}), None)).await;
    let options = |tls: Value| json!({"endpoint": server.url(), "tls": tls});

    let told = failed("elasticsearch", options(json!({}))).await;
    assert!(
        told.starts_with(
            "failed tls: the certificate of 127.0.0.1 is refused: no trusted authority has signed it (subject `CN=the \
             server`, issuer `CN=Our Authority`, valid from 2020-01-02T00:00:00Z until 2999-03-04T00:00:00Z, for \
             127.0.0.1); set `tls.ca_file`"
        ),
        "{told}"
    );
    let told = failed("elasticsearch", options(json!({"ca_file": "/nowhere/ca.pem"}))).await;
    assert!(told.starts_with("failed files: read /nowhere/ca.pem: "), "{told}");
    let told = failed("elasticsearch", options(json!({"ca_file": ca, "server_name": "logs.example"}))).await;
    assert!(told.contains("the certificate of logs.example is refused: it is for another name"), "{told}");
    assert_eq!(server.backend.requests.lock().unwrap().len(), 0, "nobody was asked anything");

    server.change(server_config(&authority.sign(&[], |it| it.not_after = date_time_ymd(2021, 5, 6)), None));
    let told = failed("elasticsearch", options(json!({"ca_file": ca}))).await;
    assert!(told.contains("it has expired") && told.contains("renew it on the server"), "{told}");

    server.change(server_config(&authority.sign(&[], |_| {}), Some(&authority)));
    let told = failed("elasticsearch", options(json!({"ca_file": ca}))).await;
    assert_eq!(
        told,
        "failed tls: the server ends the handshake: certificate required; it may ask for a certificate of ours: set \
         `tls.cert_file` and `tls.key_file`"
    );

    let plain = Backend::new(&[]).serve(0).await;
    let told = failed("http", json!({"url": plain.replace("http:", "https:")})).await;
    assert!(told.starts_with("failed tls: the peer does not speak TLS; "), "{told}");
    let told = failed("http", json!({"url": server.url().replace("https:", "http:")})).await;
    assert!(told.starts_with("failed request: http: "), "{told}");
    assert!(told.ends_with("; if the server speaks TLS, the URL begins with https://"), "{told}");

    // Whoever listens and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let told = failed("http", json!({"url": url, "connection": {"connect_timeout": "200ms"}})).await;
    assert_eq!(told, "failed tls: no answer within 200ms; does the server speak TLS there?");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_that_is_accepted_is_described() {
    let (authority, files) = (Authority::new("Our Authority"), Files::new());
    let ca = files.write("ca.pem", &authority.pem);
    let ours = authority.sign(&[], |_| {});
    let (certificate, key) = (files.write("our.pem", &ours.certificate), files.write("our.key", &ours.key));
    let server = Secure::start(server_config(&authority.sign(&[], |_| {}), Some(&authority))).await;
    let tls = json!({"ca_file": ca, "cert_file": certificate, "key_file": key});
    let (worst, lines) = tried("http", json!({"url": server.url(), "tls": tls})).await;
    assert_eq!(worst, Grade::Ok, "{lines:?}");
    assert_eq!(lines[0], format!("ok connect: 127.0.0.1:{}", server.port));
    assert!(lines[1].starts_with("ok tls: TLS 1.3 with subject `CN=the server`, issuer `CN=Our Authority`"));
    assert_eq!(lines[2], "ok request: answers OPTIONS");

    let soon = std::time::SystemTime::now() + Duration::from_secs(3 * 86_400);
    server.change(server_config(&authority.sign(&[], |it| it.not_after = soon.into()), None));
    let (worst, lines) = tried("http", json!({"url": server.url(), "tls": {"ca_file": ca}})).await;
    assert_eq!(worst, Grade::Warning);
    assert!(lines[1].ends_with("; the certificate ends soon: renew it"), "{lines:?}");
    let insecure = json!({"dangerously_accept_invalid_certs": true});
    let (worst, lines) = tried("http", json!({"url": server.url(), "tls": insecure})).await;
    assert_eq!(worst, Grade::Warning);
    assert!(lines[2].starts_with("warning tls: any certificate is accepted"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_backend_says() {
    use Answer::Status;
    let info = r#"{"version": {"number": "8.19.0"}}"#;
    let fine = || Status(200, "", info);
    for (script, want) in [
        (
            vec![Status(401, "", "")],
            "failed request: http 401: the credentials are missing or wrong; look at `auth`",
        ),
        (
            vec![Status(302, "location: https://u.example/x?token=hunter2", "")],
            "failed request: http 302: redirects to https://u.example/x, which",
        ),
        (vec![Status(503, "", "")], "failed request: http 503: the server is in trouble; "),
        (
            vec![Status(200, "", "<html>")],
            "failed request: what answers is neither Elasticsearch nor OpenSearch; ",
        ),
        (vec![fine(), Status(404, "", "{}")], "failed request: the pipeline `p` does not exist; "),
        (
            vec![fine(), Status(200, "", "{}"), Status(404, "", "")],
            "warning request: the index `audit` does not exist: ",
        ),
        (vec![fine(), Status(200, "", "{}"), Status(200, "", "")], "ok request: the index `audit` exists"),
        (
            vec![Status(403, "", ""), Status(403, "", ""), Status(403, "", "")],
            "ok request: the index `audit` is not for these",
        ),
        (vec![Answer::Hang], "failed request: timeout: no answer within 300ms; "),
    ] {
        let backend = Backend::new(&script);
        let url = backend.clone().serve(0).await;
        let options =
            json!({"endpoint": url, "pipeline": "p", "timeout": "300ms", "auth": {"api_key": "hunter2"}});
        let (_, lines) = tried("elasticsearch", options).await;
        let last = lines.last().unwrap();
        assert!(last.starts_with(want), "{last} for {script:?}");
        assert!(!lines.concat().contains("hunter2"));
        // Nothing was sent that could be stored.
        assert!(backend.requests.lock().unwrap().iter().all(|(_, body)| body.is_empty()));
        assert!(backend.stored.lock().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_backend_is_asked_in_its_own_words() {
    use Answer::Status;
    let status = |code, body| Status(code, "", body);
    let (healthy, no_data) = (status(200, r#"{"code":17}"#), status(400, r#"{"code":5}"#));
    let (disabled, acks) = (status(400, r#"{"code":14}"#), status(200, r#"{"acks":{"0":false}}"#));
    let (key, token) = (json!({"api_key": "hunter2"}), json!({"token": "hunter2"}));
    let acknowledged = json!({"auth": token, "acknowledgement": true});
    for (kind, more, script, want) in [
        (
            "datadog",
            json!({"auth": key}),
            vec![status(200, r#"{"valid":true}"#)],
            "ok request: the API key is valid",
        ),
        (
            "datadog",
            json!({"auth": key}),
            vec![status(403, "{}")],
            "failed request: http 403: the API key is not valid; ",
        ),
        (
            "splunk_hec",
            json!({"auth": token}),
            vec![healthy.clone(), no_data.clone()],
            "ok request: the token is known; ",
        ),
        (
            "splunk_hec",
            json!({"auth": token}),
            vec![healthy.clone(), status(403, r#"{"code":4}"#)],
            "failed request: http 403, code 4: the token is not known; look at `auth.token`",
        ),
        (
            "splunk_hec",
            acknowledged.clone(),
            vec![healthy.clone(), no_data.clone(), disabled],
            "failed request: http 400, code 14: the token has indexer acknowledgement turned off; turn",
        ),
        (
            "splunk_hec",
            acknowledged,
            vec![healthy, no_data, acks],
            "ok request: the token has indexer acknowledgement",
        ),
        ("loki", json!({}), vec![], "ok request: takes pushes"),
        (
            "loki",
            json!({"format": "json"}),
            vec![status(422, "error at least one valid stream is required")],
            "ok request: takes pushes from",
        ),
        (
            "loki",
            json!({}),
            vec![status(401, "no org id")],
            "failed request: http 401: a tenant is needed; look at `tenant`",
        ),
        ("otlp", json!({}), vec![], "ok request: takes exports of logs"),
        (
            "otlp",
            json!({}),
            vec![status(404, "")],
            "failed request: http 404: there is no receiver of logs; ",
        ),
    ] {
        let backend = Backend::new(&script);
        let mut options = json!({"endpoint": backend.clone().serve(0).await});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (_, lines) = tried(kind, options).await;
        let last = lines.last().unwrap();
        assert!(last.starts_with(want), "{kind}: {last} for {script:?}");
        assert!(!lines.concat().contains("hunter2"));
        assert!(backend.stored.lock().unwrap().is_empty(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_asked_elsewhere_may_be_silent() {
    /// Has its key tried at an address where nobody listens.
    struct Elsewhere(Arc<dyn Sink>);
    impl Sink for Elsewhere {
        fn kind(&self) -> &'static str {
            "elsewhere"
        }
        fn limits(&self) -> Limits {
            self.0.limits()
        }
        fn encoding(&self) -> Encoding {
            self.0.encoding()
        }
        fn frame(
            &self,
            record: &auditship_event::Record<'_>,
            context: &Context,
            out: &mut Vec<u8>,
        ) -> Range<usize> {
            self.0.frame(record, context, out)
        }
        fn request(&self, batch: &Batch) -> Op {
            self.0.request(batch)
        }
        fn judge(&self, batch: &Batch, asked: &Op, reply: &Reply) -> Outcome {
            self.0.judge(batch, asked, reply)
        }
        fn probe(&self, indexes: &[Index]) -> Vec<Op> {
            let mut asked = self.0.probe(indexes);
            let Op::Http { url, .. } = &mut asked[0] else { panic!("not http") };
            *url = "http://127.0.0.1:1/api/v1/validate".to_owned();
            asked
        }
        fn judge_probe(&self, asked: &Op, reply: &Reply) -> Verdict {
            self.0.judge_probe(asked, reply)
        }
    }
    let key = json!({"site": "datadoghq.eu", "auth": {"api_key": "k"}});
    let datadog = Elsewhere(build("datadog", key).sink);
    let here = build("http", json!({"url": Backend::new(&[]).serve(0).await}));
    let found = probe(&datadog, &here.transport, &[]).await;
    let last = found.last().unwrap();
    assert_eq!(last.grade, Grade::Warning, "{found:?}");
    assert!(
        last.text.starts_with("the API key could not be tried at api.datadoghq.eu: connect: "),
        "{found:?}"
    );
}

/// Signs its requests with the time.
struct Signed(Arc<dyn Sink>);

impl Sink for Signed {
    fn kind(&self) -> &'static str {
        "signed"
    }
    fn limits(&self) -> Limits {
        self.0.limits()
    }
    fn encoding(&self) -> Encoding {
        self.0.encoding()
    }
    fn frame(
        &self,
        record: &auditship_event::Record<'_>,
        context: &Context,
        out: &mut Vec<u8>,
    ) -> Range<usize> {
        self.0.frame(record, context, out)
    }
    fn request(&self, batch: &Batch) -> Op {
        self.0.request(batch)
    }
    fn judge(&self, batch: &Batch, asked: &Op, reply: &Reply) -> Outcome {
        self.0.judge(batch, asked, reply)
    }
    fn probe(&self, indexes: &[Index]) -> Vec<Op> {
        self.0.probe(indexes)
    }
    fn is_signed_with_time(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_is_seen_in_the_answer() {
    let old = Answer::Status(200, "date: Wed, 21 Oct 2015 07:28:00 GMT", "");
    let url = Backend::new(&[old.clone(), old]).serve(0).await;
    let (worst, lines) = tried("http", json!({"url": url})).await;
    assert_eq!(worst, Grade::Warning, "{lines:?}");
    assert!(lines[1].starts_with("warning clock: this machine's clock is "), "{lines:?}");
    assert!(lines[1].ends_with(" s ahead of the server's; synchronise it (NTP)"), "{lines:?}");
    // Where requests are signed, nothing would be taken.
    let built = build("http", json!({"url": url}));
    let found = probe(&Signed(built.sink), &built.transport, &[]).await;
    assert_eq!(found.last().unwrap().grade, Grade::Failed, "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_is_what_is_resolved_and_connected_to() {
    let (authority, files) = (Authority::new("Our Authority"), Files::new());
    let identity = authority.sign(&["logs.invalid"], |_| {});
    let server = Secure::start(server_config(&identity, None)).await;
    let (proxy, url) = Proxy::start(server.port, Some("Basic dXNlcjpodW50ZXIy")).await;
    let options = |url: &str, password: &str| {
        json!({
            "url": "https://logs.invalid/in",
            "tls": {"ca_file": files.write("ca.pem", &authority.pem)},
            "connection": {"proxy": url, "proxy_auth": {"user": "user", "password": password}},
        })
    };
    let (worst, lines) = tried("http", options(&url, "hunter2")).await;
    assert_eq!(worst, Grade::Ok, "{lines:?}");
    let address = url.strip_prefix("http://").unwrap();
    assert_eq!(lines[..2], [format!("ok connect: {address}"), format!("ok proxy: by way of {address}")]);
    let told = failed("http", options(&url, "wrong")).await;
    assert!(
        told.starts_with(&format!(
            "failed proxy: {address} answers CONNECT logs.invalid:443 with 407; look at"
        )),
        "{told}"
    );
    assert!(!told.contains("wrong"));
    assert!(proxy.asked.lock().unwrap().iter().all(|asked| asked == "CONNECT logs.invalid:443 HTTP/1.1"));

    let told = failed("http", options("http://127.0.0.1:1", "x")).await;
    assert!(told.starts_with("failed connect: 127.0.0.1:1 refuses the connection"), "{told}");
    // Something that is no proxy.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read_u8().await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 mail\r\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let told = failed("http", options(&url, "x")).await;
    assert!(told.ends_with(": its answer is not HTTP; is it a proxy?"), "{told}");

    // Plain http: the proxy is asked by the request itself.
    let backend = Backend::new(&[]);
    let (_, url) = Proxy::start(port_of(&backend.clone().serve(0).await), None).await;
    let (worst, lines) =
        tried("http", json!({"url": "http://logs.invalid/in", "connection": {"proxy": url}})).await;
    assert_eq!(worst, Grade::Ok, "{lines:?}");
}

#[tokio::test]
async fn local_outputs() {
    let dir = tempfile::tempdir().unwrap();
    let (worst, lines) = tried("dir", json!({"path": dir.path().join("archive")})).await;
    assert!(worst < Grade::Failed && lines[0].contains("storage: "), "{lines:?}");
    assert!(!dir.path().join("archive").exists());
    assert_eq!(tried("stdout", json!({})).await.1, ["ok storage: standard output: nothing to try"]);
}
