//! Real proxies on the loopback device: tunnels for https, forwarding for http, credentials, and what goes past them.
//!
//! The endpoints have names that nobody can resolve, so whatever arrives has come through the proxy.

use crate::laws::{build, lines};
use crate::server::Backend;
use crate::tls::{Authority, Files, Secure, server_config};
use crate::{batches, keys};
use auditship_ship::{Failure, Reply, store};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A proxy that sends everything to one port of this host.
pub(crate) struct Proxy {
    to: u16,
    /// The value of `Proxy-Authorization` that it wants, if any.
    wants: Option<&'static str>,
    /// The first line of every request.
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Proxy {
    /// Starts it; gives its URL too.
    pub(crate) async fn start(to: u16, wants: Option<&'static str>) -> (Arc<Proxy>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let proxy = Arc::new(Proxy { to, wants, asked: Mutex::default() });
        let server = proxy.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().pass(stream));
            }
        });
        (proxy, url)
    }

    async fn pass(self: Arc<Self>, stream: TcpStream) -> std::io::Result<()> {
        let mut client = BufReader::new(stream);
        let mut head = String::new();
        while client.read_line(&mut head).await? > 2 {}
        let first = head.lines().next().unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(first.clone());
        let authorized = |wants: &str| {
            head.lines().any(|line| {
                line.split_once(": ").is_some_and(|(name, value)| {
                    name.eq_ignore_ascii_case("proxy-authorization") && value == wants
                })
            })
        };
        if self.wants.is_some_and(|wants| !authorized(wants)) {
            let answer = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
            client.write_all(answer.as_bytes()).await?;
            // What it still sends must not become a reset.
            client.read_to_end(&mut Vec::new()).await?;
            return Ok(());
        }
        let mut server = TcpStream::connect(("127.0.0.1", self.to)).await?;
        if first.starts_with("CONNECT ") {
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        } else {
            server.write_all(head.as_bytes()).await?;
        }
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        Ok(())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Sends one batch to `url`.
async fn send(url: &str, more: Value) -> Reply {
    let mut options = json!({"url": url, "timeout": "20s"});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let built = build("http", options);
    let batch = batches(&built.sink, &lines(1)).remove(0);
    store::open(&built.transport).unwrap().perform(built.sink.request(&batch)).await
}

fn is_ok(reply: &Reply) -> bool {
    matches!(reply, Reply::Http { status: 200, .. })
}

/// `user:hunter2`.
const CREDENTIALS: &str = "Basic dXNlcjpodW50ZXIy";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_goes_through_a_tunnel() {
    let (authority, files) = (Authority::new("Our Authority"), Files::new());
    let identity = authority.sign(&["logs.example"], |_| {});
    let server = Secure::start(server_config(&identity, None)).await;
    let (proxy, url) = Proxy::start(server.port, Some(CREDENTIALS)).await;
    let through = |auth: Value| {
        json!({
            "tls": {"ca_file": files.write("ca.pem", &authority.pem)},
            "connection": {"proxy": url, "proxy_auth": auth},
        })
    };
    let known = json!({"user": "user", "password": "hunter2"});
    let reply = send("https://logs.example/in", through(known.clone())).await;
    assert!(is_ok(&reply), "{reply:?}");
    assert_eq!(proxy.asked(), ["CONNECT logs.example:443 HTTP/1.1"]);
    let uid = keys().uid(lines(1)[0].as_bytes()).to_string();
    assert_eq!(server.backend.stored.lock().unwrap()[&uid], 1);

    // The certificate is judged by the endpoint's name, not by the proxy's.
    let reply = send("https://other.example/in", through(known)).await;
    let Reply::Failed { kind: Failure::Tls, text } = &reply else { panic!("{reply:?}") };
    assert!(text.contains("the certificate of other.example is refused: it is for another name"), "{text}");

    let reply = send("https://logs.example/in", through(json!({"user": "user", "password": "wrong"}))).await;
    let Reply::Failed { kind: Failure::Invalid, text } = &reply else { panic!("{reply:?}") };
    assert_eq!(text, "http: the proxy refuses the credentials (407)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_is_forwarded() {
    let backend = Backend::new(&[]);
    let direct = backend.clone().serve(0).await;
    let port = direct.rsplit(':').next().unwrap().parse().unwrap();
    let (proxy, url) = Proxy::start(port, Some(CREDENTIALS)).await;
    let auth = json!({"user": "user", "password": "hunter2"});
    let reply =
        send("http://logs.example/in", json!({"connection": {"proxy": url, "proxy_auth": auth}})).await;
    assert!(is_ok(&reply), "{reply:?}");
    assert_eq!(proxy.asked(), ["POST http://logs.example/in HTTP/1.1"]);
    let reply = send("http://logs.example/in", json!({"connection": {"proxy": url}})).await;
    assert!(matches!(reply, Reply::Http { status: 407, .. }), "{reply:?}");
    // A 407 holds the output, as its class says.
    assert!(matches!(reply.outcome(), Some(auditship_ship::Outcome::Hold { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_hosts_are_reached_past_the_proxy() {
    let backend = Backend::new(&[]);
    let direct = backend.clone().serve(0).await;
    let port: u16 = direct.rsplit(':').next().unwrap().parse().unwrap();
    let (proxy, url) = Proxy::start(1, None).await;
    // Never for the own host, by whatever name.
    for host in ["127.0.0.1", "localhost"] {
        let reply = send(&format!("http://{host}:{port}/in"), json!({"connection": {"proxy": url}})).await;
        assert!(is_ok(&reply), "{reply:?}");
    }
    // Not there where it is exempt: that the name is unknown is then our own finding.
    let exempt = json!({"connection": {"proxy": url, "no_proxy": ["invalid"]}});
    let reply = send("http://logs.invalid/in", exempt).await;
    assert!(matches!(reply, Reply::Failed { kind: Failure::Connect, .. }), "{reply:?}");
    assert_eq!(proxy.asked(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_not_there_is_no_connection() {
    let reply = send("https://logs.example/", json!({"connection": {"proxy": "http://127.0.0.1:1"}})).await;
    let Reply::Failed { kind: Failure::Connect, text } = &reply else { panic!("{reply:?}") };
    assert!(text.contains("refused"), "{text}");
}
