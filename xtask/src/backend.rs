//! A backend that knows which lines it has: Elasticsearch's `_bulk` as far as the agent asks for it, in this process,
//! on the loopback interface. It can go away and come back at the same address.
//!
//! It is written apart from the product's own receiver on purpose: it judges the product.
//!
//! Invariant: what was answered is stored, and what is stored was read as a whole.

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How soon the thread that accepts connections sees that it should stop.
const TURN: Duration = Duration::from_millis(5);

/// What there is of malformed documents is shown up to here.
const SHOWN: usize = 5;

/// Where the number of a line stands in its audit ID, and how many digits it has.
const NUMBER: (&[u8], usize) = (b"\"auditID\":\"00000000-0000-4000-8000-", 12);

/// Where a line says how long it is.
const LENGTH: (&[u8], usize) = (b"\"e2e/bytes\":\"", 8);

/// Where a line begins in its document, one byte on: the agent's own members stand before.
const BEGINNING: &[u8] = b"\"kind\":\"Event\",\"apiVersion\"";

/// A running backend, stopped when dropped.
pub(crate) struct Backend {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    away: AtomicBool,
    stored: Mutex<Stored>,
    connections: Mutex<Vec<TcpStream>>,
}

/// What the backend has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    ids: HashSet<u128>,
    /// How many documents of different `_id` there are of each line, by number.
    pub(crate) times: Vec<u8>,
    /// Documents that came again with the `_id` of a stored one, and were refused with 409.
    pub(crate) repeated: u64,
    /// Documents that are not one whole line of ours.
    pub(crate) malformed: u64,
    /// What was wrong with the first of them.
    pub(crate) complaints: Vec<String>,
    /// The documents themselves, by `_id`, where they are kept instead of numbered.
    pub(crate) documents: Option<Vec<(u128, Vec<u8>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backend {
    /// Starts one on a free port, for lines that know their number.
    pub(crate) fn start() -> Result<Backend> {
        Backend::start_with(Stored::default())
    }

    /// Starts one on a free port, for any documents: it keeps them.
    pub(crate) fn start_keeping() -> Result<Backend> {
        Backend::start_with(Stored { documents: Some(Vec::new()), ..Stored::default() })
    }

    fn start_with(stored: Stored) -> Result<Backend> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared { stored: Mutex::new(stored), ..Shared::default() });
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serve(listener, addr, &serving));
        Ok(Backend { addr, shared, thread: Some(thread) })
    }

    /// Goes away: connections break in the middle, new ones are refused.
    pub(crate) fn leave(&self) {
        self.shared.away.store(true, Ordering::SeqCst);
    }

    /// Comes back with all that it had.
    pub(crate) fn come_back(&self) {
        self.shared.away.store(false, Ordering::SeqCst);
    }

    /// How many documents it has.
    pub(crate) fn count(&self) -> u64 {
        lock(&self.shared.stored).ids.len() as u64
    }

    /// How many lines there are up to the newest that it has.
    pub(crate) fn newest(&self) -> u64 {
        lock(&self.shared.stored).times.len() as u64
    }

    /// All that it knows.
    pub(crate) fn stored(&self) -> Stored {
        lock(&self.shared.stored).clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

fn serve(listener: TcpListener, addr: SocketAddr, shared: &Arc<Shared>) {
    let mut listening = Some(listener);
    while !shared.stopped.load(Ordering::SeqCst) {
        if shared.away.load(Ordering::SeqCst) {
            listening = None;
            hang_up(shared);
        } else if listening.is_none() {
            // While it does not work, the backend is away; the trial ends when nothing arrives any more.
            listening = TcpListener::bind(addr).ok();
        }
        let accepted = listening.as_ref().and_then(|listener| {
            listener.set_nonblocking(true).ok()?;
            listener.accept().ok()
        });
        match accepted {
            Some((stream, _)) => greet(stream, shared),
            None => std::thread::sleep(TURN),
        }
    }
    hang_up(shared);
}

fn greet(stream: TcpStream, shared: &Arc<Shared>) {
    let Ok(copy) = stream.try_clone() else { return };
    lock(&shared.connections).push(copy);
    let shared = Arc::clone(shared);
    // An error is the end of a connection: the agent was killed, or the backend went away.
    std::thread::spawn(move || {
        let _ = converse(&stream, &shared);
        let _ = stream.shutdown(Shutdown::Both);
    });
}

fn hang_up(shared: &Shared) {
    for connection in lock(&shared.connections).drain(..) {
        // An error means that it has ended already.
        let _ = connection.shutdown(Shutdown::Both);
    }
}

/// Answers the requests of one connection.
fn converse(stream: &TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            ensure!(reader.read_until(b'\n', &mut head)? > 0, "the connection has ended");
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let header = |name: &str| {
            let value = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.map(str::trim)
        };
        ensure!(header("transfer-encoding").is_none(), "chunked requests are not read");
        let mut body = vec![0; header("content-length").map_or(Ok(0), str::parse)?];
        reader.read_exact(&mut body)?;
        // What comes while the backend is away has not arrived.
        ensure!(!shared.away.load(Ordering::SeqCst), "away");
        let last = header("connection").filter(|value| *value == "close");
        let bulk = head.split(' ').nth(1).is_some_and(|path| path.starts_with("/_bulk"));
        let answer = match bulk {
            true => lock(&shared.stored).bulk(&unpack(header("content-encoding"), body)?)?,
            false => r#"{"version":{"number":"8.17.0"}}"#.to_owned(),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        (&mut &*stream).write_all((head + &answer).as_bytes())?;
        ensure!(last.is_none(), "the client wants no more");
    }
}

fn unpack(encoding: Option<&str>, body: Vec<u8>) -> Result<Vec<u8>> {
    let mut raw = Vec::new();
    match encoding {
        None | Some("identity") => return Ok(body),
        Some("gzip") => drop(flate2::read::MultiGzDecoder::new(&body[..]).read_to_end(&mut raw)?),
        Some("zstd") => raw = zstd::stream::decode_all(&body[..])?,
        Some(other) => bail!("no such encoding: {other}"),
    }
    Ok(raw)
}

impl Stored {
    /// Stores the documents of one request, and answers it.
    fn bulk(&mut self, raw: &[u8]) -> Result<String> {
        let mut items = Vec::new();
        let mut errors = false;
        let mut lines = raw.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        while let Some(action) = lines.next() {
            let id = member(action, b"\"_id\":\"", 32).context("an action without an id")?;
            let id = u128::from_str_radix(id, 16).context("an id that is not hexadecimal")?;
            let document = lines.next().context("an action without a document")?;
            let status = if self.ids.insert(id) { 201 } else { 409 };
            match status {
                201 => match &mut self.documents {
                    Some(documents) => documents.push((id, document.to_vec())),
                    None => self.take(document),
                },
                _ => self.repeated += 1,
            }
            errors |= status != 201;
            let error = r#","error":{"type":"version_conflict_engine_exception","reason":"exists"}"#;
            let error = if status == 409 { error } else { "" };
            items.push(format!(r#"{{"create":{{"status":{status}{error}}}}}"#));
        }
        Ok(format!(r#"{{"took":1,"errors":{errors},"items":[{}]}}"#, items.join(",")))
    }

    fn take(&mut self, document: &[u8]) {
        match number(document) {
            Ok(number) => {
                if self.times.len() <= number {
                    self.times.resize(number + 1, 0);
                }
                self.times[number] = self.times[number].saturating_add(1);
            }
            Err(error) => {
                self.malformed += 1;
                if self.complaints.len() < SHOWN {
                    let shown = &document[..document.len().min(300)];
                    self.complaints.push(format!("{error}: {}", String::from_utf8_lossy(shown)));
                }
            }
        }
    }
}

/// The number in a line or in its beginning.
pub(crate) fn number_in(text: &[u8]) -> Option<u64> {
    member(text, NUMBER.0, NUMBER.1)?.parse().ok()
}

/// The number of the line which a document is, if it is one from its first to its last byte.
fn number(document: &[u8]) -> Result<usize> {
    let number: usize = member(document, NUMBER.0, NUMBER.1).context("it has no number")?.parse()?;
    let length: usize = member(document, LENGTH.0, LENGTH.1).context("it has no length")?.parse()?;
    let begins = memmem::find(document, BEGINNING).context("it has no beginning")?;
    let found = document.len() - begins + 1;
    ensure!(found == length, "line {number} has {found} bytes instead of {length}");
    ensure!(document.last() == Some(&b'}'), "line {number} has no end");
    Ok(number)
}

/// The text of so many bytes behind the last `key`.
fn member<'a>(text: &'a [u8], key: &[u8], bytes: usize) -> Option<&'a str> {
    let at = memmem::rfind(text, key)? + key.len();
    std::str::from_utf8(text.get(at..at + bytes)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[test]
    fn repeats_torn_lines_and_absence() {
        let backend = Backend::start().unwrap();
        let line = crate::writer::line(7, 20);
        let document = line.trim_end().replacen('{', r#"{"@timestamp":"x","#, 1);
        let action = |id: u32| format!(r#"{{"create":{{"_index":"a","_id":"{id:032x}"}}}}"#);
        let mut stored = lock(&backend.shared.stored);
        let answer = stored.bulk(format!("{}\n{document}\n", action(1)).as_bytes()).unwrap();
        assert_eq!(answer, r#"{"took":1,"errors":false,"items":[{"create":{"status":201}}]}"#);
        let again = stored.bulk(format!("{}\n{document}\n", action(1)).as_bytes()).unwrap();
        assert!(again.contains("409") && again.contains("version_conflict"), "{again}");
        let torn = document.replace("the quick", "the");
        stored.bulk(format!("{}\n{torn}\n", action(2)).as_bytes()).unwrap();
        stored.bulk(format!("{}\n{document}\n", action(3)).as_bytes()).unwrap();
        assert_eq!((stored.repeated, stored.malformed, stored.times[7]), (1, 1, 2), "{stored:?}");
        drop(stored);
        assert_eq!(backend.count(), 3);

        let ask = || http::request(backend.addr, "GET", "/", None).map(|(status, _)| status);
        assert_eq!(ask().unwrap(), 200);
        backend.leave();
        while ask().is_ok() {}
        backend.come_back();
        while ask().is_err() {}
    }
}
