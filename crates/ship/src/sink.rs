//! What a sink is: pure code that frames records, turns a batch into an operation and judges the reply.
//!
//! No I/O, no clock and no randomness here. The table of replies that all HTTP sinks share is [`Reply::outcome`].

use crate::batch::Batch;
use crate::compress::Encoding;
use auditship_event::{Index, KeyId, Record, text};
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Who ships: what every record says about its origin.
#[derive(Clone, Debug)]
pub struct Context {
    cluster: Arc<str>,
    node: Arc<str>,
    key_id: KeyId,
    /// `"cluster":…,"node":…,"key":…`, escaped once.
    members: Arc<[u8]>,
}

impl Context {
    /// Of a cluster, a node and the key that made the uids.
    pub fn new(cluster: &str, node: &str, key_id: KeyId) -> Context {
        let mut members = b"\"cluster\":\"".to_vec();
        text::escape_into(cluster, &mut members);
        members.extend_from_slice(b"\",\"node\":\"");
        text::escape_into(node, &mut members);
        members.extend_from_slice(format!("\",\"key\":\"{key_id}\"").as_bytes());
        Context { cluster: cluster.into(), node: node.into(), key_id, members: members.into() }
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The id of the key that made the uids.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Appends `"auditship":{"uid":…,"index":…,"cluster":…,"node":…,"key":…}`, the index on request; of a trimmed
    /// body also `trimmed`, the list of what is gone, and `bytes`, how long the body was.
    pub(crate) fn write_member(&self, record: &Record<'_>, index: WithIndex, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"auditship\":{");
        self.write_origin(record, index, out);
        out.push(b'}');
    }

    /// Appends what [`Context::write_member`] puts inside of its braces.
    pub(crate) fn write_origin(&self, record: &Record<'_>, index: WithIndex, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"uid\":\"");
        out.extend_from_slice(&record.uid.hex());
        out.extend_from_slice(b"\",");
        if index == WithIndex::Yes {
            out.extend_from_slice(b"\"index\":\"");
            text::escape_into(record.index.as_str(), out);
            out.extend_from_slice(b"\",");
        }
        out.extend_from_slice(&self.members);
        if let Some(trim) = record.body.trim() {
            out.extend_from_slice(b",\"trimmed\":[");
            for (at, word) in trim.taken.iter().enumerate() {
                out.extend_from_slice(if at > 0 { b",\"" } else { b"\"" });
                out.extend_from_slice(word.as_bytes());
                out.push(b'"');
            }
            out.extend_from_slice(format!("],\"bytes\":{}", trim.bytes).as_bytes());
        }
    }
}

/// Whether the record's own member names its index (it need not where the request does).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithIndex {
    Yes,
    No,
}

/// How large and how old a batch may get, and what a backend takes of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Raw bytes, framing included. A single record that is larger travels alone.
    pub bytes: usize,
    /// Compressed bytes, for sinks that make large objects: they are compressed as they grow.
    pub packed_bytes: Option<usize>,
    /// Whether it ends where a line ends, so that it can be cut again (see [`crate::thaw`]). It may be larger by one
    /// line then.
    pub whole_lines: bool,
    /// Records.
    pub events: usize,
    /// Time since the first record.
    pub age: Duration,
    /// Framed bytes of one event; a longer one is trimmed until it fits (see [`crate::trim`]).
    pub event_bytes: Option<usize>,
    /// How old an event may be when it is sent; an older one would be refused, so it is not tried.
    pub event_age: Option<Duration>,
}

impl Limits {
    /// The limit that batches are cut by: packed bytes where there is such a limit, else raw ones.
    pub fn size(&self) -> usize {
        self.packed_bytes.unwrap_or(self.bytes)
    }

    /// What of a batch is measured by it.
    pub(crate) fn size_of(&self, batch: &Batch) -> usize {
        if self.packed_bytes.is_some() { batch.body.len() } else { batch.raw_len }
    }
}

/// What stands around the records of a body.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    /// Before the first.
    pub prefix: Bytes,
    /// Between two.
    pub separator: &'static [u8],
    /// After the last.
    pub suffix: &'static [u8],
    /// Completes the raw body in place, where the prefix holds its length. Not for sinks of large objects.
    pub seal: Option<fn(&mut [u8])>,
}

/// Records that may share a batch have the same key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GroupKey {
    /// All of them: the request names the index record by record, or not at all.
    All,
    /// Those of one hour of event time, counted since 1970.
    Hour(i64),
    /// Those of one index, which the request names once.
    Index(Index),
}

/// What the name of an object says of the batch that became it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// What its records have in common.
    pub group: GroupKey,
    /// How it is compressed.
    pub encoding: Encoding,
}

/// How an event's document stands in a framed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embedding {
    /// JSON inside of JSON or on a line of its own: it may become longer or shorter.
    Inline,
    /// As it is, behind a count of its bytes.
    Counted,
    /// As a JSON string, quotes not included.
    Escaped,
}

/// What to do with a batch.
#[derive(Clone)]
pub enum Op {
    /// Send a request.
    Http {
        /// The method.
        method: Method,
        /// An absolute URL without user information.
        url: String,
        /// Secret values are marked sensitive.
        headers: HeaderMap,
        /// The body.
        body: Bytes,
        /// How much of an answer to read.
        answer_bytes: usize,
    },
    /// Store a whole object, which must not replace another.
    Put {
        /// Relative to the store's root.
        path: PathBuf,
        /// The object.
        bytes: Bytes,
    },
    /// Append to the store's one file.
    Append {
        /// What to append.
        bytes: Bytes,
    },
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the content, nor headers.
        match self {
            Op::Http { method, url, body, .. } => {
                write!(f, "Http({method} {}, {} bytes)", without_query(url), body.len())
            }
            Op::Put { path, bytes } => write!(f, "Put({}, {} bytes)", path.display(), bytes.len()),
            Op::Append { bytes } => write!(f, "Append({} bytes)", bytes.len()),
        }
    }
}

/// A URL as far as it can be shown: some endpoints want their token in the query.
pub(crate) fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

impl Op {
    /// How many bytes it sends or stores.
    pub fn len(&self) -> usize {
        match self {
            Op::Http { body: bytes, .. } | Op::Put { bytes, .. } | Op::Append { bytes } => bytes.len(),
        }
    }

    /// Whether it sends nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What came of an operation.
#[derive(Clone)]
pub enum Reply {
    /// A whole answer.
    Http {
        /// The status code.
        status: u16,
        /// The headers.
        headers: HeaderMap,
        /// The body.
        body: Bytes,
    },
    /// Stored, durably.
    Done,
    /// An object of that name was there already.
    Exists,
    /// The world failed.
    Failed {
        /// How.
        kind: Failure,
        /// For people: no content, no credentials.
        text: String,
    },
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A server's answer may quote what it was sent.
            Reply::Http { status, body, .. } => write!(f, "Http({status}, {} bytes)", body.len()),
            Reply::Done => f.write_str("Done"),
            Reply::Exists => f.write_str("Exists"),
            Reply::Failed { kind, text } => write!(f, "Failed({kind:?}, {text})"),
        }
    }
}

/// The ways in which an operation fails without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, unreachable, name not found.
    Connect,
    /// Not done in time; it may have been carried out.
    Timeout,
    /// The connection broke; it may have been carried out.
    Reset,
    /// The peer's certificate was refused, or no TLS was spoken.
    Tls,
    /// The answer was longer than the limit.
    Answer,
    /// No space, or the file's own limit is reached.
    NoSpace,
    /// Any other failure of the local file system.
    Storage,
    /// The operation itself cannot be carried out by this door: a mistake of ours or of the configuration.
    Invalid,
}

/// A refusal for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status code of the answer or of the item.
    pub status: u16,
    /// Why, without content.
    pub reason: String,
}

/// What a reply means for the batch. The numbers are positions in [`Batch::records`]; reasons hold no content.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All of it has arrived.
    Delivered,
    /// All has arrived but these.
    Partial {
        /// To be sent again.
        retry: Vec<usize>,
        /// Refused for good, with the reason.
        reject: Vec<(usize, Refusal)>,
        /// Why some are to be sent again.
        reason: String,
    },
    /// The backend has stopped at this record, which it refuses for good. It has not looked at those after it, and
    /// nobody says what has become of those before it.
    Stopped {
        /// The record.
        at: usize,
        /// Why it is refused.
        refusal: Refusal,
    },
    /// So many were refused for good and the rest has arrived, but nobody says which: all are dead-lettered, so
    /// that nothing is lost.
    PartialCount {
        /// How many were refused.
        rejected: u64,
        /// Why.
        refusal: Refusal,
    },
    /// Too large: send it in two.
    Split,
    /// Send it again later.
    Retry {
        /// Not before this has passed, if the server said so.
        after: Option<Duration>,
        /// Why.
        reason: String,
    },
    /// Nothing is wrong with the batch; somebody must put the backend or the configuration right.
    Hold {
        /// What is wrong.
        reason: String,
    },
    /// Refused for good; if it holds several records, at least one of them is at fault.
    Reject(Refusal),
    /// Do this first, then judge its reply. The batch counts as under way meanwhile.
    Ask {
        /// What to do.
        op: Op,
        /// How long to wait before. Waits get longer from one question to the next, up to eight times this.
        after: Duration,
    },
}

/// What the reply to a probe says about the output. The text is a sentence for people, without content and
/// credentials; the advice says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As far as can be told, events would be taken.
    Good(String),
    /// They may be taken, but somebody should look at it.
    Doubtful(String),
    /// They would not be taken.
    Bad {
        /// What is wrong.
        text: String,
        /// What to do about it.
        advice: String,
    },
}

/// The code for one kind of output.
pub trait Sink: Send + Sync {
    /// Its name in the configuration.
    fn kind(&self) -> &'static str;

    /// The limits of a batch.
    fn limits(&self) -> Limits;

    /// How bodies are compressed.
    fn encoding(&self) -> Encoding;

    /// What stands around the records of a group.
    fn envelope(&self, _group: &GroupKey) -> Envelope {
        Envelope::default()
    }

    /// Which records may share a batch with this one.
    fn group(&self, _record: &Record<'_>) -> GroupKey {
        GroupKey::All
    }

    /// Appends the record as it stands in the body. Gives the place of the event's document in what it appended.
    fn frame(&self, record: &Record<'_>, context: &Context, out: &mut Vec<u8>) -> Range<usize>;

    /// How the document stands there.
    fn embedding(&self) -> Embedding {
        Embedding::Inline
    }

    /// The name of what the batch becomes, where the batch is the unit of idempotency: an object of an archive, or a
    /// request that the backend knows again. It is then written down before that can exist (see [`crate::thaw`]), and
    /// batches must hold whole lines ([`Limits::whole_lines`]).
    fn object(&self, _batch: &Batch) -> Option<String> {
        None
    }

    /// What such a name says. `None`: the sink as it is now gives no such name.
    fn named(&self, _object: &str) -> Option<Named> {
        None
    }

    /// What to do with the batch: the same for every attempt, but for what may have to be asked before.
    fn request(&self, batch: &Batch) -> Op;

    /// What the reply to `asked` means, which is the request or what an [`Outcome::Ask`] has asked.
    fn judge(&self, batch: &Batch, asked: &Op, reply: &Reply) -> Outcome;

    /// How many of the records that a reply calls stored are where nobody looks first, such as a failure store.
    fn diverted(&self, _reply: &Reply) -> u64 {
        0
    }

    /// How long questions about one attempt may go on before the batch is sent again.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// Questions, asked in turn by `check --connect`, that tell whether events would be taken: credentials, indexes,
    /// pipelines. None of them may write anything. `indexes` are the names that records are sure to have. Empty:
    /// only the connection can be tried.
    fn probe(&self, _indexes: &[Index]) -> Vec<Op> {
        Vec::new()
    }

    /// What the reply to one of those questions says. No answer at all is a failure, unless it is [`Verdict::Doubtful`]:
    /// where another server was asked than the one that gets the events.
    fn judge_probe(&self, _asked: &Op, reply: &Reply) -> Verdict {
        reply.verdict("auth").unwrap_or_else(|| Verdict::Good("answers".to_owned()))
    }

    /// Whether requests are signed with the time of day, so that a wrong clock has them refused.
    fn is_signed_with_time(&self) -> bool {
        false
    }
}

/// Whatever carries out operations: the network client, the file store, or a test's stand-in.
pub trait Door: Send + Sync {
    /// Carries out one operation. Dropping the future abandons it; it may then have been carried out or not.
    fn perform(&self, op: Op) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>>;

    /// What somebody should look at although operations go on: files that were changed and cannot be used.
    fn warning(&self) -> Option<String> {
        None
    }
}

/// Longest wait that a `Retry-After` can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

impl Reply {
    /// What the reply means where the sink knows nothing better. `None`: a success (2xx), whose body the sink
    /// must read.
    ///
    /// Nothing is given up here that may be put right elsewhere: only 400 and 422 speak of the records. Status
    /// codes: RFC 9110 §15, RFC 6585.
    pub fn outcome(&self) -> Option<Outcome> {
        let (status, headers, body) = match self {
            Reply::Http { status, headers, body } => (*status, headers, body),
            Reply::Done | Reply::Exists => return None,
            Reply::Failed { kind: Failure::Tls | Failure::Invalid, text } => {
                return Some(Outcome::Hold { reason: text.clone() });
            }
            Reply::Failed { text, .. } => return Some(Outcome::Retry { after: None, reason: text.clone() }),
        };
        let hint = match status {
            300..=399 => " (redirects are not followed)",
            401 | 403 | 407 => " (credentials refused)",
            404 | 405 | 410 => " (wrong endpoint)",
            415 => " (compression or content type not taken)",
            _ => "",
        };
        let reason = format!("http {status}{hint}");
        Some(match status {
            200..=299 => return None,
            413 => Outcome::Split,
            // OpenTelemetry collectors and others say 400 where they mean 413.
            400 | 422 if says_too_large(body) => Outcome::Split,
            400 | 422 => Outcome::Reject(Refusal { status, reason }),
            501 | 505 => Outcome::Hold { reason },
            408 | 409 | 425 | 429 | 500.. => Outcome::Retry { after: retry_after(headers), reason },
            _ => Outcome::Hold { reason },
        })
    }
}

impl Reply {
    /// What the reply to a probe says where the sink knows nothing better; `option` is that of the credentials.
    /// `None`: a success (2xx), whose body the sink must read.
    pub fn verdict(&self, option: &str) -> Option<Verdict> {
        let bad = |text: String, advice: &str| Some(Verdict::Bad { text, advice: advice.to_owned() });
        let (status, headers) = match self {
            Reply::Http { status, headers, .. } => (*status, headers),
            Reply::Done | Reply::Exists => return None,
            Reply::Failed { text, .. } => return bad(text.clone(), "look at the server's own log"),
        };
        match status {
            200..=299 => None,
            401 => bad(
                "http 401: the credentials are missing or wrong".to_owned(),
                &format!("look at `{option}`"),
            ),
            403 => bad(
                "http 403: the credentials are known, but may not do this".to_owned(),
                &format!("give those in `{option}` the right to, or take others"),
            ),
            407 => bad("http 407: the proxy wants credentials".to_owned(), "look at `connection.proxy_auth`"),
            300..=399 => {
                let to = headers.get(header::LOCATION).and_then(|to| to.to_str().ok()).map(without_query);
                let to: String = to.unwrap_or("elsewhere").chars().take(200).collect();
                bad(format!("http {status}: redirects to {to}, which is not followed"), "give the final URL")
            }
            404 | 405 | 410 => {
                bad(format!("http {status}: there is nothing of that name"), "look at the URL")
            }
            429 => Some(Verdict::Doubtful("http 429: it is asked too much at the moment".to_owned())),
            500.. => bad(format!("http {status}: the server is in trouble"), "look at the server's own log"),
            _ => bad(format!("http {status}: an answer that was not expected"), "is it the right endpoint?"),
        }
    }

    /// The time of day at the server, to a second (RFC 9110 §6.6.1).
    pub(crate) fn date(&self) -> Option<jiff::Timestamp> {
        let Reply::Http { headers, .. } = self else { return None };
        parse_date(headers.get(header::DATE)?.to_str().ok()?)
    }
}

fn parse_date(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

fn says_too_large(body: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&body[..body.len().min(512)]).to_ascii_lowercase();
    ["too large", "too_large"].iter().any(|words| head.contains(words))
}

/// The wait asked for by `Retry-After` (RFC 9110 §10.2.3): seconds, or a date, which is compared with the
/// server's own `Date` so that no clock of ours is needed.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let (then, now) = (parse_date(text)?, parse_date(headers.get(header::DATE)?.to_str().ok()?)?);
    let seconds = then.as_second().saturating_sub(now.as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let reply = Reply::Http { status, headers: map, body: body.into() };
        match reply.outcome() {
            None => "read".into(),
            Some(Outcome::Retry { after, .. }) => format!("retry {after:?}"),
            Some(Outcome::Split) => "split".into(),
            Some(Outcome::Hold { .. }) => "hold".into(),
            Some(Outcome::Reject(_)) => "reject".into(),
            Some(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn the_table_of_replies() {
        for (statuses, want) in [
            (&[200, 202, 204][..], "read"),
            (&[400, 422], "reject"),
            (&[301, 302, 307, 401, 403, 404, 405, 410, 415, 501, 505], "hold"),
            (&[408, 409, 425, 429, 500, 502, 503, 504, 529], "retry None"),
            (&[413], "split"),
        ] {
            for status in statuses {
                assert_eq!(told(*status, &[], ""), want, "{status}");
            }
        }
        assert_eq!(told(400, &[], "{\"message\":\"http: request body too large\"}"), "split");
    }

    #[test]
    fn retry_after_is_honoured_within_reason() {
        for (value, want) in [("7", "retry Some(7s)"), ("999999", "retry Some(300s)"), ("soon", "retry None")]
        {
            assert_eq!(told(429, &[("retry-after", value)], ""), want);
        }
        let date = ("date", "Wed, 21 Oct 2015 07:28:00 GMT");
        let after = |value| ("retry-after", value);
        assert_eq!(told(503, &[date, after("Wed, 21 Oct 2015 07:28:09 GMT")], ""), "retry Some(9s)");
        assert_eq!(told(503, &[date, after("Wed, 21 Oct 2015 07:27:00 GMT")], ""), "retry Some(0ns)");
        assert_eq!(told(503, &[after("Wed, 21 Oct 2015 07:28:09 GMT")], ""), "retry None");
    }

    #[test]
    fn names_are_escaped() {
        let keys = auditship_event::Keys::derive(b"k", "c");
        let context = Context::new("a\"b", "n\\", keys.id());
        let want = format!(r#""cluster":"a\"b","node":"n\\","key":"{}""#, keys.id());
        assert_eq!(String::from_utf8_lossy(&context.members), want);
    }
}
