//! Every HTTP sink of the table against a server that misbehaves on the wire: nothing is lost, nothing is called
//! delivered that is not there, and it ends.

use crate::batches;
use crate::laws::{build, lines, options, quick, ship};
use crate::server::Backend;
use auditship_event::Index;
use auditship_ship::probe::{Grade, Step, probe};
use auditship_ship::shipper::Doors;
use auditship_ship::sinks::{SINKS, Transport};
use auditship_ship::store::{self, DeadLetters};
use auditship_ship::{Outcome, Reply};
use http::HeaderMap;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Sinks that take a success (2xx) at its word, since their endpoints have no answer to read.
const AT_THEIR_WORD: &[&str] = &["http"];

/// What is done to one connection.
#[derive(Clone, Copy, Debug)]
enum Trick {
    /// Reset as soon as it is there.
    ResetAtOnce,
    /// Reset when the head has been read.
    ResetBeforeBody,
    /// Carried out, then reset instead of an answer.
    ResetAfterBody,
    /// Carried out, then the server's side is closed without an answer; it goes on reading.
    HalfClosed,
    /// Carried out, and never answered.
    Silent,
    /// The answer comes byte by byte, but in time.
    Slow,
    /// The answer has headers without end.
    EndlessHead,
    /// The answer is said to be of a terabyte.
    HugeLength,
    /// The answer has no end.
    HugeBody,
    /// The answer ends before its length.
    CutAnswer,
    /// The answer is right and said to be a picture.
    WrongType,
    /// What comes is no HTTP.
    Garbage,
    /// It says that all went well, and nothing did.
    Lie,
    /// It sends away, with the method kept.
    Redirect,
    /// The right answer, after which the connection is closed without a word.
    CloseAfterwards,
}

use Trick::*;

/// What is expected of a trick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Nothing is sent again.
    Once,
    /// A batch is sent again.
    Again,
    /// Either: it depends on what is noticed first, the closed connection or the next request.
    Either,
}

use Expected::*;

const TRICKS: &[(Trick, Expected)] = &[
    (ResetAtOnce, Again),
    (ResetBeforeBody, Again),
    (ResetAfterBody, Again),
    (HalfClosed, Again),
    (Silent, Again),
    (Slow, Once),
    (EndlessHead, Again),
    (HugeLength, Again),
    (HugeBody, Again),
    (CutAnswer, Again),
    (WrongType, Once),
    (Garbage, Again),
    (Lie, Again),
    (Redirect, Again),
    (CloseAfterwards, Either),
];

/// Stands in front of a backend; one connection is tricked, all others go through.
struct Hostile {
    to: u16,
    /// How many connections come before that one.
    before: AtomicUsize,
}

impl Hostile {
    async fn start(to: u16, trick: Trick, before: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let hostile = Arc::new(Hostile { to, before: AtomicUsize::new(before) });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let hostile = hostile.clone();
                let is_tricked = hostile.before.fetch_sub(1, Relaxed) == 0;
                tokio::spawn(async move {
                    match is_tricked {
                        true => hostile.play(trick, stream).await,
                        false => hostile.pass(stream).await,
                    }
                });
            }
        });
        url
    }

    async fn play(&self, trick: Trick, mut client: TcpStream) -> io::Result<()> {
        if matches!(trick, ResetAtOnce) {
            return reset(client);
        }
        let mut request = head(&mut client).await?;
        if matches!(trick, ResetBeforeBody) {
            return reset(client);
        }
        body(&mut client, &mut request).await?;
        match trick {
            ResetAtOnce | ResetBeforeBody => {}
            ResetAfterBody => {
                self.relay(&request).await?;
                return reset(client);
            }
            HalfClosed => {
                self.relay(&request).await?;
                client.shutdown().await?;
            }
            Silent => drop(self.relay(&request).await?),
            Slow => {
                for byte in self.relay(&request).await? {
                    client.write_all(&[byte]).await?;
                    tokio::task::yield_now().await;
                }
                return self.pass(client).await;
            }
            EndlessHead => {
                client.write_all(b"HTTP/1.1 200 OK\r\n").await?;
                while client.write_all(&b"x-more: and more\r\n".repeat(1000)).await.is_ok() {}
            }
            HugeLength => {
                client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n{}").await?;
            }
            HugeBody => {
                client.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                let chunk = [&b"10000\r\n"[..], &[b' '; 0x10000], b"\r\n"].concat();
                while client.write_all(&chunk).await.is_ok() {}
            }
            CutAnswer => {
                client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"errors\":false").await?;
                client.shutdown().await?;
            }
            WrongType => {
                let answer = self.relay(&request).await?;
                let line = answer.iter().position(|byte| *byte == b'\n').unwrap() + 1;
                let typed = [&answer[..line], b"content-type: image/png\r\n", &answer[line..]].concat();
                client.write_all(&typed).await?;
                return self.pass(client).await;
            }
            Garbage => client.write_all(b"220 mail.example ESMTP\r\n\r\n").await?,
            Lie => client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<p>ok</p>").await?,
            Redirect => {
                let answer =
                    b"HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
                client.write_all(answer).await?;
            }
            CloseAfterwards => {
                client.write_all(&self.relay(&request).await?).await?;
                return Ok(());
            }
        }
        // Stays until the client goes.
        client.read_to_end(&mut Vec::new()).await.map(drop)
    }

    /// Lets everything through.
    async fn pass(&self, mut client: TcpStream) -> io::Result<()> {
        let mut server = TcpStream::connect(("127.0.0.1", self.to)).await?;
        copy_bidirectional(&mut client, &mut server).await.map(drop)
    }

    /// Has the request carried out; gives the answer.
    async fn relay(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(("127.0.0.1", self.to)).await?;
        server.write_all(request).await?;
        let mut answer = head(&mut server).await?;
        body(&mut server, &mut answer).await?;
        Ok(answer)
    }
}

/// Closes so that the peer gets a reset.
fn reset(stream: TcpStream) -> io::Result<()> {
    stream.set_zero_linger()
}

/// A message's head, its last empty line included.
async fn head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

/// Appends the body to a message's head.
async fn body(stream: &mut TcpStream, message: &mut Vec<u8>) -> io::Result<()> {
    let text = String::from_utf8_lossy(message).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let from = message.len();
    message.resize(from + length.unwrap_or(0), 0);
    stream.read_exact(&mut message[from..]).await.map(drop)
}

/// The sinks whose operations go over the network.
fn http_sinks() -> Vec<&'static str> {
    let is_http = |kind: &&str| {
        matches!(
            build(kind, options(kind, "http://127.0.0.1:1", Path::new("/x"))).transport,
            Transport::Http(_)
        )
    };
    SINKS.iter().map(|kind| kind.name).filter(is_http).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_trick_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    for kind in http_sinks() {
        for (trick, expected) in TRICKS {
            if matches!(trick, Lie) && AT_THEIR_WORD.contains(&kind) {
                continue;
            }
            let case = format!("{kind}: {trick:?}");
            let backend = Backend::new(&[]);
            let direct = backend.clone().serve(0).await;
            let to = direct.rsplit(':').next().unwrap().parse().unwrap();
            let mut options = options(kind, &Hostile::start(to, *trick, 0).await, dir.path());
            // One at a time: the first connection is then used by the first request.
            options["concurrency"] = 1.into();
            if *expected == Once {
                // However slow this machine is.
                options["timeout"] = "60s".into();
            }
            let built = build(kind, options);
            let dead_letters = Arc::new(DeadLetters::new(&dir.path().join("none"), 1 << 20));
            let doors = Doors { backend: store::open(&built.transport).unwrap(), dead_letters };
            let lines = lines(12);
            let shipped = ship(built.sink, doors, quick(built.options), &lines).await;
            shipped.check_acks(12, &case);
            assert_eq!(shipped.delivered().len(), 12, "{case}");
            let stored = backend.stored.lock().unwrap();
            let sent: BTreeSet<String> =
                lines.iter().map(|line| crate::keys().uid(line.as_bytes()).to_string()).collect();
            assert_eq!(stored.keys().cloned().collect::<BTreeSet<_>>(), sent, "{case}");
            // An answer that is too long is asked for in halves where items make its length.
            let again = shipped.stats.retries.load(Relaxed) + shipped.stats.splits.load(Relaxed);
            let repeated = if again > 0 { Again } else { Once };
            assert!(*expected == Either || *expected == repeated, "{case}: {:?}", shipped.stats.state());
        }
    }
}

#[test]
fn whoever_reads_answers_believes_no_lie() {
    for kind in http_sinks() {
        let sink = build(kind, options(kind, "http://127.0.0.1:1", Path::new("/x"))).sink;
        let batch = batches(&sink, &lines(3)).remove(0);
        let reply = Reply::Http { status: 200, headers: HeaderMap::new(), body: "<p>ok</p>".into() };
        let outcome = sink.judge(&batch, &sink.request(&batch), &reply);
        let believed = matches!(outcome, Outcome::Delivered | Outcome::Partial { .. });
        assert_eq!(believed, AT_THEIR_WORD.contains(&kind), "{kind}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trying_an_output_stores_nothing_and_survives_every_trick() {
    for kind in http_sinks() {
        let backend = Backend::new(&[]);
        let direct = backend.clone().serve(0).await;
        let tried = async |url: &str| {
            let built = build(kind, options(kind, url, Path::new("/x")));
            let indexes = [Index("audit".into())];
            let found = probe(&*built.sink, &built.transport, &indexes);
            // Longer than any timeout in the options.
            let found = tokio::time::timeout(Duration::from_secs(30), found).await.unwrap();
            (found, !built.sink.probe(&indexes).is_empty())
        };
        let (found, _) = tried(&direct).await;
        assert!(backend.stored.lock().unwrap().is_empty(), "{kind}: {found:?}");
        let to = direct.rsplit(':').next().unwrap().parse().unwrap();
        for (trick, expected) in TRICKS {
            // The first connection is that of the step `connect`.
            let (found, asks) = tried(&Hostile::start(to, *trick, 1).await).await;
            let last = found.last().unwrap();
            let believes = matches!(trick, Lie) && AT_THEIR_WORD.contains(&kind);
            let fails = last.grade == Grade::Failed && last.step == Step::Request;
            assert!(fails || *expected != Again || !asks || believes, "{kind} {trick:?}: {found:?}");
        }
        assert!(backend.stored.lock().unwrap().is_empty(), "{kind}");
    }
}
