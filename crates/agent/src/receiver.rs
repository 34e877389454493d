//! A receiver on the loopback interface: the other end for `demo`, for the tests and for `cargo xtask bench`.
//!
//! It speaks Elasticsearch's `_bulk` truthfully (`create` by `_id`, 409 for a repeat, a status for every item) and
//! takes plain NDJSON at `/ingest`. Tests script what goes wrong with [`Fault`]s. It refuses to be more than that:
//! no search, no mapping, no TLS, nothing on disk except what [`serve_blocking`] is asked to save.
//!
//! Invariant: a request is counted and stored as a whole before its answer leaves, so whoever has an answer can
//! rely on [`Receiver::counts`].
//!
//! A door: it owns a listening socket.
#![expect(
    clippy::disallowed_methods,
    reason = "the receiver listens on a socket and saves what it is asked to"
)]

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// What Elasticsearch takes by default (`http.max_content_length`), on the wire and unpacked.
const BODY_MAX_BYTES: usize = 100 << 20;

/// What the receiver remembers of what it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Only counts: the fastest, for measuring. A repeat of an `_id` is not noticed.
    Counts,
    /// Counts and ids: repeats are answered with 409.
    Ids,
    /// Counts, ids and the documents themselves.
    Documents,
}

/// How a receiver behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What it remembers.
    pub keep: Keep,
    /// Larger bodies, packed or unpacked, are answered with 413.
    pub body_max_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { keep: Keep::Documents, body_max_bytes: BODY_MAX_BYTES }
    }
}

/// What happens to one request that brings documents, instead of what should happen. Scripted faults are used up
/// in their order, one a request; when none is left, all is well.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing: this request is served.
    Pass,
    /// Nothing is stored; this is the answer.
    Answer {
        /// The status.
        status: u16,
        /// Headers to add.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// All is stored, but the answer has this status and no body.
    StoreThenAnswer(u16),
    /// All is stored, then the connection breaks in the middle of the answer.
    StoreThenCut,
    /// The connection breaks without an answer; nothing is stored.
    Close,
    /// Nothing is stored and no answer ever comes.
    Hang,
    /// `(position, status)` of the items in a bulk request which are refused; the others are stored.
    Items(Vec<(usize, u16)>),
}

/// What has arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that brought documents, those answered by a fault included.
    pub requests: u64,
    /// Bytes of their bodies as they came.
    pub wire_bytes: u64,
    /// Bytes of their bodies unpacked.
    pub raw_bytes: u64,
    /// Documents stored.
    pub stored: u64,
    /// Documents whose `_id` was there already, answered with 409.
    pub repeated: u64,
    /// Documents refused, by a script or for their form.
    pub refused: u64,
    /// Documents stored, by index.
    pub indexes: BTreeMap<String, u64>,
}

/// One stored document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its `_id`, where it came with one.
    pub id: Option<String>,
    /// Its source, byte for byte.
    pub body: Bytes,
}

/// A receiver that runs on a thread of its own until it is dropped.
pub struct Receiver {
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start(options: Options) -> io::Result<Receiver> {
        Receiver::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options)
    }

    /// Starts one at `addr`: a backend that comes back at the same place, for instance.
    pub fn start_at(addr: SocketAddr, options: Options) -> io::Result<Receiver> {
        let shared = Arc::new(Shared { options, state: Mutex::default() });
        let (runtime, listener, addr) = bind(addr)?;
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("receiver".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, served) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Receiver { addr, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Its base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Appends to the script.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.lock().faults.extend(faults);
    }

    /// What has arrived so far.
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts()
    }

    /// The documents of one index in the order of their arrival; none unless [`Keep::Documents`] was asked for.
    pub fn documents(&self, index: &str) -> Vec<Document> {
        self.shared.lock().indexes.get(index).map(|index| index.documents.clone()).unwrap_or_default()
    }

    /// Every body that came, unpacked, stored or not, for looking for what must not have left. None unless
    /// [`Keep::Documents`] was asked for.
    pub fn bodies(&self) -> Vec<Bytes> {
        self.shared.lock().bodies.clone()
    }

    /// The heads of the requests that came: request line and headers, a line each. None unless
    /// [`Keep::Documents`] was asked for.
    pub fn heads(&self) -> Vec<String> {
        self.shared.lock().heads.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the receiver has been printed by the panic hook; dropping must not add one.
            let _ = thread.join();
        }
    }
}

/// Serves at `addr` until the process ends, counting only. Prints one line, `listening on ADDRESS`. With `save`,
/// appends every unpacked body to that file, each after its length as eight bytes, little endian.
pub fn serve_blocking(addr: SocketAddr, save: Option<&Path>) -> io::Result<()> {
    let (runtime, listener, addr) = bind(addr)?;
    let save = save.map(std::fs::File::create).transpose()?.map(io::BufWriter::new);
    let options = Options { keep: Keep::Counts, ..Options::default() };
    let shared = Arc::new(Shared { options, state: Mutex::new(State { save, ..State::default() }) });
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {addr}")?;
    out.flush()?;
    drop(out);
    runtime.block_on(serve(listener, shared));
    Ok(())
}

fn bind(addr: SocketAddr) -> io::Result<(tokio::runtime::Runtime, tokio::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    drop(entered);
    Ok((runtime, listener, addr))
}

async fn serve(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    loop {
        // Out of descriptors, or the peer gone before it was greeted: the next one may do better.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        // Without this, the second half of an answer waits for the first to be acknowledged.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
            // An error here is the peer's end of the connection or a scripted cut.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

struct Shared {
    options: Options,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct State {
    totals: Counts,
    indexes: BTreeMap<String, Stored>,
    faults: VecDeque<Fault>,
    bodies: Vec<Bytes>,
    heads: Vec<String>,
    save: Option<io::BufWriter<std::fs::File>>,
}

#[derive(Default)]
struct Stored {
    count: u64,
    ids: HashSet<Box<str>>,
    documents: Vec<Document>,
}

impl State {
    fn counts(&self) -> Counts {
        let indexes = self.indexes.iter().map(|(name, index)| (name.clone(), index.count)).collect();
        Counts { indexes, ..self.totals.clone() }
    }

    /// Stores one document: its status by Elasticsearch's rules.
    fn store(&mut self, keep: Keep, index: &str, id: Option<&str>, create: bool, body: Bytes) -> u16 {
        if !self.indexes.contains_key(index) {
            self.indexes.insert(index.to_owned(), Stored::default());
        }
        let Some(stored) = self.indexes.get_mut(index) else { return 500 };
        if keep != Keep::Counts
            && let Some(id) = id
            && !stored.ids.insert(id.into())
        {
            if create {
                self.totals.repeated += 1;
                return 409;
            }
            stored.documents.retain(|document| document.id.as_deref() != Some(id));
            stored.count -= 1;
            self.totals.stored -= 1;
        }
        stored.count += 1;
        self.totals.stored += 1;
        if keep == Keep::Documents {
            stored.documents.push(Document { id: id.map(str::to_owned), body });
        }
        201
    }

    fn save(&mut self, raw: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.save else { return Ok(()) };
        file.write_all(&(raw.len() as u64).to_le_bytes())?;
        file.write_all(raw)?;
        // The process is ended by a signal: nothing may stay in the buffer.
        file.flush()
    }
}

/// What a request is about, from its method and path.
enum Asked {
    /// Documents in bulk, with the index that the path names.
    Bulk(Option<String>),
    /// Documents as lines.
    Ingest,
    /// One of the few questions that a client asks before it sends.
    Other(Reply),
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Reply>, Cut> {
    let filter = Shown::from_query(request.uri().query().unwrap_or_default());
    let asked = asked(&request, &shared);
    let (head, body) = request.into_parts();
    let limit = shared.options.body_max_bytes;
    let Ok(wire) = Limited::new(body, limit).collect().await else {
        return Ok(Reply::empty(413));
    };
    let wire = wire.to_bytes();
    let index = match asked {
        Asked::Other(reply) => return Ok(reply.into_response()),
        Asked::Bulk(index) => Some(index),
        Asked::Ingest => None,
    };
    let encoding = head.headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    let Ok(raw) = unpack(encoding, &wire, limit) else {
        return Ok(Reply::error(400, "illegal_argument_exception", "cannot unpack the body").into_response());
    };
    let Some(raw) = raw else { return Ok(Reply::empty(413)) };
    let fault = {
        let mut state = shared.lock();
        state.totals.requests += 1;
        state.totals.wire_bytes += wire.len() as u64;
        state.totals.raw_bytes += raw.len() as u64;
        if shared.options.keep == Keep::Documents {
            state.bodies.push(raw.clone());
            state.heads.push(head_text(&head));
        }
        if state.save(&raw).is_err() {
            return Ok(Reply::empty(507));
        }
        state.faults.pop_front().unwrap_or(Fault::Pass)
    };
    let refused: &[(usize, u16)] = if let Fault::Items(items) = &fault { items } else { &[] };
    let take = || match index {
        Some(index) => bulk(&shared, index.as_deref(), &raw, &filter, refused),
        None => ingest(&shared, &raw),
    };
    match &fault {
        Fault::Pass | Fault::Items(_) => Ok(take().into_response()),
        Fault::Answer { status, headers, body } => Ok(Reply::scripted(*status, headers, body)),
        Fault::StoreThenAnswer(status) => {
            take();
            Ok(Reply::empty(*status))
        }
        Fault::StoreThenCut => Ok(take().cut().into_response()),
        Fault::Close => Err(Cut),
        Fault::Hang => std::future::pending().await,
    }
}

fn asked(request: &Request<Incoming>, shared: &Shared) -> Asked {
    let path = request.uri().path().trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let post = matches!(request.method().as_str(), "POST" | "PUT");
    match parts.as_slice() {
        ["_bulk"] if post => Asked::Bulk(None),
        [index, "_bulk"] if post => Asked::Bulk(Some((*index).to_owned())),
        ["ingest"] if post => Asked::Ingest,
        [""] => {
            Asked::Other(Reply::json(200, r#"{"name":"receiver","version":{"number":"8.17.0"}}"#.to_owned()))
        }
        ["_counts"] => Asked::Other(counts_json(&shared.lock().counts())),
        [index, "_count"] => {
            let count = shared.lock().indexes.get(*index).map(|index| index.count);
            Asked::Other(match count {
                Some(count) => Reply::json(200, format!(r#"{{"count":{count}}}"#)),
                None => Reply::error(404, "index_not_found_exception", "no such index"),
            })
        }
        [.., "_refresh"] => Asked::Other(Reply::json(200, "{}".to_owned())),
        _ => Asked::Other(Reply::error(404, "resource_not_found_exception", "the receiver has no such path")),
    }
}

fn counts_json(counts: &Counts) -> Reply {
    let indexes = serde_json::to_string(&counts.indexes).unwrap_or_default();
    Reply::json(
        200,
        format!(
            r#"{{"requests":{},"wire_bytes":{},"raw_bytes":{},"stored":{},"repeated":{},"refused":{},"indexes":{indexes}}}"#,
            counts.requests,
            counts.wire_bytes,
            counts.raw_bytes,
            counts.stored,
            counts.repeated,
            counts.refused,
        ),
    )
}

fn head_text(head: &hyper::http::request::Parts) -> String {
    let mut text = format!("{} {}", head.method, head.uri);
    for (name, value) in &head.headers {
        let _ = write!(text, "\n{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    text
}

/// The body without its encoding; `None` where it is larger than `limit`.
fn unpack(encoding: Option<&str>, wire: &Bytes, limit: usize) -> io::Result<Option<Bytes>> {
    // One byte more than allowed tells "too large" from "exactly full".
    let bound = limit as u64 + 1;
    let mut raw = Vec::new();
    match encoding.unwrap_or("identity") {
        "identity" => return Ok(Some(wire.clone())),
        "gzip" => flate2::read::MultiGzDecoder::new(&wire[..]).take(bound).read_to_end(&mut raw)?,
        "zstd" => zstd::stream::read::Decoder::new(&wire[..])?.take(bound).read_to_end(&mut raw)?,
        _ => return Err(io::Error::from(io::ErrorKind::Unsupported)),
    };
    Ok((raw.len() <= limit).then(|| Bytes::from(raw)))
}

/// The action line of a bulk request.
#[derive(Deserialize)]
struct Action<'a> {
    #[serde(borrow)]
    create: Option<Target<'a>>,
    #[serde(borrow)]
    index: Option<Target<'a>>,
}

#[derive(Deserialize)]
struct Target<'a> {
    #[serde(rename = "_index", borrow)]
    index: Option<Cow<'a, str>>,
    #[serde(rename = "_id", borrow)]
    id: Option<Cow<'a, str>>,
}

/// One document of a bulk request, with what is to be done with it.
struct Item<'a> {
    create: bool,
    index: Cow<'a, str>,
    id: Option<Cow<'a, str>>,
    body: Bytes,
}

/// Stores a bulk request. It is read as a whole before anything is stored, as Elasticsearch does.
fn bulk(
    shared: &Shared,
    index: Option<&str>,
    raw: &Bytes,
    filter: &Shown,
    refused: &[(usize, u16)],
) -> Reply {
    let items = match bulk_items(index, raw) {
        Ok(items) => items,
        Err(reason) => return Reply::error(400, "illegal_argument_exception", reason),
    };
    let keep = shared.options.keep;
    let mut state = shared.lock();
    let mut text = String::with_capacity(items.len() * 32);
    let mut errors = false;
    for (position, item) in items.iter().enumerate() {
        let scripted = refused.iter().find(|(at, _)| *at == position).map(|(_, status)| *status);
        let status = match scripted {
            Some(status) => status,
            None if keep != Keep::Counts && !is_object(&item.body) => 400,
            None => state.store(keep, &item.index, item.id.as_deref(), item.create, item.body.clone()),
        };
        errors |= status >= 300;
        state.totals.refused += u64::from(status >= 300 && status != 409);
        filter.item(&mut text, item, status);
    }
    drop(state);
    filter.reply(errors, text)
}

fn bulk_items<'a>(index: Option<&'a str>, raw: &'a Bytes) -> Result<Vec<Item<'a>>, &'static str> {
    if raw.last() != Some(&b'\n') {
        return Err("The bulk request must be terminated by a newline [\\\\n]");
    }
    let mut items = Vec::new();
    let mut lines = raw[..raw.len() - 1].split(|byte| *byte == b'\n');
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let action: Action<'a> =
            serde_json::from_slice(line).map_err(|_| "Malformed action/metadata line")?;
        let (create, target) = match (action.create, action.index) {
            (Some(target), None) => (true, target),
            (None, Some(target)) => (false, target),
            _ => return Err("Malformed action/metadata line, expected create or index"),
        };
        let Some(index) = target.index.or(index.map(Cow::Borrowed)) else { return Err("index is missing") };
        let Some(body) = lines.next() else { return Err("a document is missing") };
        items.push(Item { create, index, id: target.id, body: raw.slice_ref(body) });
    }
    Ok(items)
}

fn is_object(body: &[u8]) -> bool {
    body.first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

/// Stores the lines of a plain request under the index `ingest`.
fn ingest(shared: &Shared, raw: &Bytes) -> Reply {
    let mut state = shared.lock();
    for line in raw.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        state.store(shared.options.keep, "ingest", None, true, raw.slice_ref(line));
    }
    Reply::json(200, "{}".to_owned())
}

/// Which parts of a bulk reply the client wants to see (`filter_path`).
struct Shown {
    paths: Option<Vec<String>>,
}

impl Shown {
    fn from_query(query: &str) -> Shown {
        let asked = query.split('&').find_map(|pair| pair.strip_prefix("filter_path="));
        let paths = asked.map(|list| {
            list.replace("%2C", ",")
                .replace("%2c", ",")
                .replace("%2A", "*")
                .split(',')
                .map(str::to_owned)
                .collect()
        });
        Shown { paths }
    }

    fn shows(&self, path: &str) -> bool {
        let Some(paths) = &self.paths else { return true };
        // Asking for a part of the error brings the whole of it: the client has to look into it anyway.
        paths.iter().any(|asked| asked == path || asked == "items" || asked.starts_with(&format!("{path}.")))
    }

    fn item(&self, text: &mut String, item: &Item<'_>, status: u16) {
        let mut fields: Vec<String> = Vec::with_capacity(4);
        if self.shows("items.*._index") {
            fields.push(format!(r#""_index":{}"#, quoted(&item.index)));
        }
        if self.shows("items.*._id") {
            fields.push(format!(r#""_id":{}"#, quoted(item.id.as_deref().unwrap_or("made-by-server"))));
        }
        if self.shows("items.*.status") {
            fields.push(format!(r#""status":{status}"#));
        }
        if status >= 300 && self.shows("items.*.error") {
            let kind = match status {
                409 => "version_conflict_engine_exception",
                400 => "document_parsing_exception",
                429 => "es_rejected_execution_exception",
                _ => "internal_server_error",
            };
            fields.push(format!(r#""error":{{"type":"{kind}","reason":"the receiver says {status}"}}"#));
        }
        if fields.is_empty() {
            return;
        }
        let separator = if text.is_empty() { "" } else { "," };
        let action = if item.create { "create" } else { "index" };
        let _ = write!(text, r#"{separator}{{"{action}":{{{}}}}}"#, fields.join(","));
    }

    fn reply(&self, errors: bool, items: String) -> Reply {
        let mut fields = Vec::with_capacity(3);
        if self.shows("took") {
            fields.push(r#""took":1"#.to_owned());
        }
        if self.shows("errors") {
            fields.push(format!(r#""errors":{errors}"#));
        }
        if self.paths.is_none() || !items.is_empty() {
            fields.push(format!(r#""items":[{items}]"#));
        }
        Reply::json(200, format!("{{{}}}", fields.join(",")))
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The receiver's answer, also as a body: all of it at once, or half of it and then a broken connection.
struct Reply {
    status: u16,
    body: Bytes,
    length: u64,
    cut: bool,
}

/// Why a connection breaks: the script says so.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut by the script")
    }
}

impl std::error::Error for Cut {}

impl Reply {
    fn json(status: u16, body: String) -> Reply {
        Reply { status, length: body.len() as u64, body: Bytes::from(body), cut: false }
    }

    fn error(status: u16, kind: &str, reason: &str) -> Reply {
        Reply::json(
            status,
            format!(r#"{{"error":{{"type":"{kind}","reason":"{reason}"}},"status":{status}}}"#),
        )
    }

    fn empty(status: u16) -> Response<Reply> {
        Reply::json(status, String::new()).into_response()
    }

    fn scripted(status: u16, headers: &[(String, String)], body: &str) -> Response<Reply> {
        let mut response = Reply::json(status, body.to_owned()).into_response();
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) =
                (name.parse::<hyper::header::HeaderName>(), value.parse::<hyper::header::HeaderValue>())
            {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    fn cut(mut self) -> Reply {
        self.body.truncate(self.body.len() / 2);
        self.cut = true;
        self
    }

    fn into_response(self) -> Response<Reply> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = self.length > 0;
        let mut response = Response::new(self);
        *response.status_mut() = status;
        if json {
            let value = hyper::header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, value);
        }
        response
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if !self.body.is_empty() {
            let body = std::mem::take(&mut self.body);
            return Poll::Ready(Some(Ok(Frame::data(body))));
        }
        Poll::Ready(self.cut.then_some(Err(Cut)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_empty() && !self.cut
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

// Named, so that a test of its own may include this file by path.
#[cfg(test)]
#[path = "receiver/tests.rs"]
mod tests;
