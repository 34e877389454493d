//! The shape `ecs` of `elasticsearch` against a real OpenSearch, under the template that docs/outputs/elasticsearch.md
//! gives: every event is there, unchanged, and its dates and addresses are indexed.

use super::json;
use super::sent::Sent;
use super::server::Server;
use crate::config::INDEX;
use crate::{http, opensearch, repo};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::cell::Cell;
use std::net::IpAddr;
use std::path::Path;

const BODIES: [&str; 2] = ["requestObject", "responseObject"];

/// Documents that are asked for at once.
const PAGE: usize = 500;

pub(crate) fn run(binary: &Path, work: &Path) -> Result<()> {
    if let Some(reason) = opensearch::missing() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let server = opensearch::start(work, http::free_addr()?)?;
    http::json(server.addr, "PUT", "/_index_template/k8s-audit-ecs", Some(&template()?))?;
    let sent = Sent::prepare(binary, work)?;
    let output = format!(
        "type: elasticsearch\nendpoint: http://{}\nshape: ecs\ncompression: zstd\nfilter: none\n",
        server.addr
    );
    sent.ship(binary, work, "ecs", &output)?;
    let stored = opensearch::count(server.addr, INDEX)?;
    ensure!(stored == sent.events.len() as u64, "{stored} documents of {} events", sent.events.len());
    // What was refused, a key that is there twice for one, was sent again with its bodies as strings.
    let flattened = Cell::new(0);
    let same = |sent: &[u8], arrived: &[u8]| {
        if json::canonical(sent) == json::canonical(arrived) {
            return true;
        }
        flattened.set(flattened.get() + 1);
        let pieces =
            |text| json::flat(text, &BODIES).map(|pieces| pieces.into_iter().map(whole).collect::<Vec<_>>());
        pieces(sent).is_some_and(|sent| pieces(arrived) == Some(sent))
    };
    let told = sent.compare(&events(&server)?, same)?;
    println!("ecs: {told}, {} with their bodies as strings", flattened.get());
    let (mut addresses, mut received) = (0, 0);
    for event in sent.events.values() {
        let ips = json::member(&event.body, "sourceIPs").and_then(json::items).unwrap_or_default();
        let last = ips.last().and_then(|ip| json::content(ip));
        addresses += u64::from(last.is_some_and(|ip| ip.parse::<IpAddr>().is_ok()));
        received += u64::from(json::member(&event.body, "requestReceivedTimestamp").is_some());
    }
    for (what, query, want) in [
        ("source.ip", json!({"term": {"source.ip": "::/0"}}), addresses),
        ("event.start", json!({"range": {"event.start": {"gte": "2020-01-01T00:00:00Z"}}}), received),
        ("@timestamp", json!({"range": {"@timestamp": {"gte": "2020-01-01T00:00:00Z"}}}), stored),
        ("event.duration", json!({"range": {"event.duration": {"gte": 0}}}), received),
    ] {
        let path = format!("/{INDEX}/_count");
        let answer = http::json(server.addr, "POST", &path, Some(&json!({ "query": query })))?;
        let found = answer["count"].as_u64().context("the server's count is no number")?;
        ensure!(found == want, "{what} finds {found} events instead of {want}");
    }
    println!("ecs: ok, dates, numbers and addresses are indexed");
    Ok(())
}

/// A member of an event; of a body the document, also where it is in a string.
fn whole((path, value): (String, Vec<u8>)) -> (String, Vec<u8>) {
    let value = if BODIES.contains(&path.as_str()) { json::canonical(&value) } else { value };
    (path, value)
}

/// The template of the documentation.
fn template() -> Result<Value> {
    let path = repo::root().join("docs/outputs/elasticsearch.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let (_, rest) =
        text.split_once("PUT _index_template/k8s-audit-ecs\n").context("the page has no template")?;
    let (block, _) = rest.split_once("```").context("the template has no end")?;
    serde_json::from_str(block).context("read the template")
}

/// Uid and event of every document. Not every event can be read into a `Value`: there are numbers out of its range.
fn events(server: &Server) -> Result<Vec<(String, Vec<u8>)>> {
    let mut out = Vec::new();
    let mut path = format!("/{INDEX}/_search?scroll=1m");
    let mut question = json!({"size": PAGE, "sort": ["_doc"]});
    loop {
        let (status, answer) = http::request(server.addr, "POST", &path, Some(&question))?;
        ensure!(status == 200, "the search was answered with {status}");
        let hits = json::member(&answer, "hits").and_then(|hits| json::items(json::member(hits, "hits")?));
        let hits = hits.context("the answer has no documents")?;
        if hits.is_empty() {
            return Ok(out);
        }
        for hit in hits {
            let pair = || {
                let source = json::member(hit, "_source")?;
                let audit = json::member(json::member(source, "kubernetes")?, "audit")?;
                let uid = json::content(json::member(hit, "_id")?)?;
                let id = json::content(json::member(json::member(source, "event")?, "id")?)?;
                (id == uid).then(|| (uid, audit.to_vec()))
            };
            out.push(pair().context("a document is not as it was sent")?);
        }
        let id = json::member(&answer, "_scroll_id").and_then(json::content);
        (path, question) = ("/_search/scroll".to_owned(), json!({"scroll": "1m", "scroll_id": id}));
    }
}
