//! An archive in a store that is killed around: every event is in one object, whenever the agent dies.

use crate::support::{Agent, Log, Place, assert_exactly, lines, poll};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// A store that honours conditions, and can keep requests back: their bytes are read, their client may die, and they
/// are carried out later. What is posted it takes once for each URL.
#[derive(Default)]
pub struct Store {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub struct State {
    objects: BTreeMap<String, Object>,
    /// What a PUT or POST waits for.
    pub holding: bool,
    /// Those that wait.
    pub held: usize,
    /// A HEAD that finds nothing lets the held ones go, and waits until they are done.
    release_after_head: bool,
    /// `PUT 200`
    pub log: Vec<String>,
}

#[derive(Clone)]
struct Object {
    batch_id: String,
    body: Vec<u8>,
}

impl Store {
    pub fn start() -> (Arc<Store>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let store = Arc::new(Store::default());
        let served = store.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (store, stream) = (served.clone(), stream.unwrap());
                std::thread::spawn(move || while store.serve(&stream).is_some() {});
            }
        });
        (store, address)
    }

    /// Answers one request. `None`: the connection ends.
    fn serve(&self, mut stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            Some(line.trim_end().to_owned())
        };
        let first = line()?;
        let mut words = first.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = BTreeMap::new();
        while let Some((name, value)) = line()?.split_once(": ") {
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (status, more) = match &*method {
            "PUT" => self.put(&path, &headers, body),
            "POST" => self.post(path, body),
            _ => self.head(&path),
        };
        self.state.lock().unwrap().log.push(format!("{method} {status}"));
        let length = if method == "HEAD" { "" } else { "Content-Length: 0\r\n" };
        write!(stream, "HTTP/1.1 {status} X\r\n{length}{more}\r\n").ok()
    }

    /// Waits as long as requests are kept back.
    fn wait(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap();
        if state.holding {
            state.held += 1;
            state = self.changed.wait_while(state, |state| state.holding).unwrap();
            state.held -= 1;
            self.changed.notify_all();
        }
        state
    }

    fn post(&self, url: String, body: Vec<u8>) -> (u16, String) {
        self.wait().objects.entry(url).or_insert(Object { batch_id: String::new(), body });
        (200, String::new())
    }

    fn put(&self, path: &str, headers: &BTreeMap<String, String>, body: Vec<u8>) -> (u16, String) {
        let mut state = self.wait();
        assert_eq!(headers["if-none-match"], "*");
        if state.objects.contains_key(path) {
            return (412, String::new());
        }
        let batch_id = headers["x-amz-meta-batch-id"].clone();
        state.objects.insert(path.to_owned(), Object { batch_id, body });
        (200, "ETag: \"x\"\r\n".to_owned())
    }

    fn head(&self, path: &str) -> (u16, String) {
        let mut state = self.state.lock().unwrap();
        match state.objects.get(path).cloned() {
            Some(object) => {
                let Object { batch_id: id, body } = object;
                let length = body.len();
                (200, format!("x-amz-meta-batch-id: {id}\r\nContent-Length: {length}\r\n"))
            }
            None if std::mem::take(&mut state.release_after_head) => {
                state.holding = false;
                self.changed.notify_all();
                drop(self.changed.wait_while(state, |state| state.held > 0).unwrap());
                (404, String::new())
            }
            None => (404, String::new()),
        }
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
        result
    }

    pub fn records(&self) -> Vec<Value> {
        let bodies =
            self.with(|state| state.objects.values().map(|object| object.body.clone()).collect::<Vec<_>>());
        let mut records = Vec::new();
        for body in bodies {
            let text = zstd::stream::decode_all(&body[..]).unwrap_or_else(|_| crate::support::gunzip(&body));
            records
                .extend(lines(&text).into_iter().map(|line| serde_json::from_slice::<Value>(line).unwrap()));
        }
        records
    }
}

const ADMIN: &str = "admin: {listen: \"127.0.0.1:0\"}";

const BATCH: &str = "age: 200ms, events: 20";

fn configure(place: &Place, address: SocketAddr, batch: &str, more: &str, top: &str) {
    let keys = "{access_key_id: AKIA, secret_access_key: hunter2}";
    let archive = format!(
        "archive: {{type: s3, bucket: audit, endpoint: \"http://{address}\", credentials: {keys}, \
         batch: {{{batch}}}{more}}}"
    );
    place.configure(&archive, &format!("{ADMIN}\n{top}"));
}

fn delivered(agent: &Agent) -> u64 {
    agent.status().get("archive", "delivered")
}

/// The agent dies while its requests are on their way. They arrive: before it asks, between its question and its own
/// request, and after that.
#[test]
fn a_request_that_outlives_the_agent_makes_no_second_object() {
    for (arrives, more, top) in [
        ("before", "", ""),
        ("between", "", ""),
        ("after", "", ""),
        // The bytes of the batches are others after the start, and so are the names that new ones get.
        ("between", ", compression: gzip", ""),
        ("after", ", storage_class: STANDARD_IA", "node: other"),
    ] {
        let place = Place::new();
        let (store, address) = Store::start();
        configure(&place, address, BATCH, "", "");
        let mut log = Log::create(&place);
        let agent = Agent::start(&place);
        log.append(30);
        agent.until("the first are there", || delivered(&agent) == 30);
        store.with(|state| state.holding = true);
        log.append(110);
        // Four at the same time is the most; what comes after them waits, written down or not.
        agent.until("requests are under way", || store.with(|state| state.held > 1));
        agent.kill();
        let held = store.with(|state| state.held);
        match arrives {
            "before" => {
                store.with(|state| state.holding = false);
                poll("the requests are carried out", || store.with(|state| state.held == 0), String::new);
            }
            "between" => store.with(|state| state.release_after_head = true),
            _ => {}
        }
        configure(&place, address, BATCH, more, top);
        log.append(20);
        if arrives == "after" {
            store.with(|state| state.log.clear());
        }
        let agent = Agent::start(&place);
        if arrives == "after" {
            // The new agent's requests are kept back too; then all of them race.
            agent.until("the new requests are under way", || store.with(|state| state.held > held));
            store.with(|state| state.holding = false);
        }
        agent.until("all is there", || delivered(&agent) == 160);
        let status = agent.status();
        status.assert_law();
        assert_eq!(status.get("archive", "lost_bytes"), 0, "{status:?}");
        assert_eq!(agent.stop(), 0);
        assert_exactly(&format!("{arrives} {more}"), &store.records(), 160);
        poll("the old requests are done", || store.with(|state| state.held == 0), String::new);
        assert_exactly(&format!("{arrives} {more}, later"), &store.records(), 160);
    }
}

#[test]
fn killed_again_and_again_every_event_is_in_one_object() {
    let place = Place::new();
    let (store, address) = Store::start();
    // Cut by age alone: where, is never the same twice.
    configure(&place, address, "age: 30ms", "", "");
    let mut log = Log::create(&place);
    for round in 0..8 {
        let agent = Agent::start(&place);
        let before = store.with(|state| state.log.len());
        log.append(100);
        if round % 3 == 1 {
            log.rotate();
        }
        agent.until("some requests", || {
            log.append(3);
            store.with(|state| state.log.len()) > before + round % 4
        });
        if round % 2 == 1 {
            store.with(|state| state.holding = true);
            log.append(30);
            agent.until("requests are under way", || store.with(|state| state.held > 0));
        }
        agent.kill();
        store.with(|state| state.holding = false);
        log.append(20);
    }
    let agent = Agent::start(&place);
    agent.until("all is there", || delivered(&agent) == log.written as u64);
    let status = agent.status();
    status.assert_law();
    assert_eq!(agent.stop(), 0);
    assert_exactly("archive", &store.records(), log.written);
}

/// Files that are gone when the agent comes back leave their batch incomplete: what is there is shipped, the rest is
/// told as lost.
#[test]
fn a_batch_whose_file_is_gone_is_not_waited_for() {
    let place = Place::new();
    let (store, address) = Store::start();
    configure(&place, address, BATCH, "", "");
    let mut log = Log::create(&place);
    let agent = Agent::start(&place);
    store.with(|state| state.holding = true);
    log.append(50);
    agent.until("requests are under way", || store.with(|state| state.held > 0));
    agent.kill();
    let backup = log.rotate();
    std::fs::remove_file(backup).unwrap();
    log.append(30);
    store.with(|state| state.holding = false);
    poll("the requests are carried out", || store.with(|state| state.held == 0), String::new);
    let agent = Agent::start(&place);
    agent.until("what is there is shipped", || delivered(&agent) == 30);
    let status = agent.status();
    status.assert_law();
    assert!(status.get("archive", "lost_bytes") > 0, "{status:?}");
    assert_eq!(agent.stop(), 0);
}
