//! Requests in protobuf, as far as a server must read them to know what it was sent: uid and event of each record.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Push {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, Message)]
struct Stream {
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "2")]
    line: String,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<Resource>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<Scope>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(message, repeated, tag = "2")]
    records: Vec<LogRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct LogRecord {
    #[prost(message, optional, tag = "5")]
    body: Option<Text>,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Text>,
}

/// A value, as far as it is a string.
#[derive(Clone, PartialEq, Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

/// The records of a request to Loki.
pub(crate) fn loki(body: &[u8]) -> Vec<(String, String)> {
    let raw = snap::raw::Decoder::new().decompress_vec(body).unwrap();
    let entries = Push::decode(&*raw).unwrap().streams.into_iter().flat_map(|stream| stream.entries);
    let uid = |entry: &Entry| entry.metadata.iter().find(|pair| pair.name == "uid").unwrap().value.clone();
    entries.map(|entry| (uid(&entry), entry.line)).collect()
}

/// The records of an export of logs.
pub(crate) fn otlp(body: &[u8]) -> Vec<(String, String)> {
    let scopes = Export::decode(body).unwrap().resources.into_iter().flat_map(|resource| resource.scopes);
    let of = |record: LogRecord| {
        let uid = record.attributes.into_iter().find(|pair| pair.key == "log.record.uid");
        (uid.unwrap().value.unwrap().text, record.body.unwrap().text)
    };
    scopes.flat_map(|scope| scope.records).map(of).collect()
}
