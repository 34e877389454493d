//! The receiver itself, by plain sockets.

use super::*;
use std::net::TcpStream;

/// One request on a connection of its own: status and body of the answer, `None` where it broke off.
fn send(receiver: &Receiver, path: &str, encoding: &str, body: &[u8]) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(receiver.addr).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-encoding: {encoding}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse::<usize>().unwrap();
    (body.len() == length).then(|| (head[9..12].parse().unwrap(), body.to_owned()))
}

fn bulk_of(ids: &[&str]) -> String {
    ids.iter()
        .map(|id| format!("{{\"create\":{{\"_index\":\"a\",\"_id\":\"{id}\"}}}}\n{{\"n\":1}}\n"))
        .collect()
}

fn statuses(answer: &str) -> Vec<u64> {
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
    answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["create"]["status"].as_u64().unwrap())
        .collect()
}

#[test]
fn create_is_once_per_index_and_id() {
    let receiver = Receiver::start(Options::default()).unwrap();
    let (status, answer) = send(&receiver, "/_bulk", "identity", bulk_of(&["x", "y"]).as_bytes()).unwrap();
    assert_eq!((status, statuses(&answer)), (200, vec![201, 201]));
    let (_, answer) = send(&receiver, "/_bulk", "identity", bulk_of(&["y", "z"]).as_bytes()).unwrap();
    assert_eq!(statuses(&answer), [409, 201]);
    assert!(answer.contains(r#""errors":true"#));
    let counts = receiver.counts();
    assert_eq!((counts.stored, counts.repeated, counts.refused, counts.requests), (3, 1, 0, 2));
    assert_eq!(counts.indexes["a"], 3);
    let documents = receiver.documents("a");
    assert_eq!(documents[2].id.as_deref(), Some("z"));
    assert_eq!(&documents[2].body[..], br#"{"n":1}"#);
}

#[test]
fn bodies_of_many_megabytes_in_every_encoding() {
    let receiver = Receiver::start(Options { keep: Keep::Counts, ..Options::default() }).unwrap();
    let line = format!("{{\"create\":{{\"_index\":\"a\"}}}}\n{{\"n\":\"{}\"}}\n", "v".repeat(1000));
    let raw = line.repeat(2500).into_bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&raw).unwrap();
    let wires = [
        ("identity", raw.clone()),
        ("gzip", gzip.finish().unwrap()),
        ("zstd", zstd::stream::encode_all(&raw[..], 1).unwrap()),
    ];
    for (encoding, wire) in &wires {
        assert_eq!(
            send(&receiver, "/_bulk?filter_path=errors", encoding, wire).unwrap(),
            (200, r#"{"errors":false}"#.into())
        );
    }
    let counts = receiver.counts();
    assert_eq!((counts.stored, counts.raw_bytes), (7_500, 3 * raw.len() as u64));
    assert_eq!(counts.wire_bytes, wires.iter().map(|(_, wire)| wire.len() as u64).sum::<u64>());
}

#[test]
fn filter_path_and_bad_documents() {
    let receiver = Receiver::start(Options::default()).unwrap();
    let body = "{\"create\":{\"_id\":\"x\"}}\n{\"n\":1}\n{\"create\":{\"_id\":\"y\"}}\n{\"n\":1e400}\n{\"create\":{}}\n[1]\n";
    let path = "/a/_bulk?filter_path=errors,items.*.status,items.*.error.type";
    let (_, answer) = send(&receiver, path, "identity", body.as_bytes()).unwrap();
    assert_eq!(
        answer,
        r#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":201}},"#.to_owned()
            + r#"{"create":{"status":400,"error":{"type":"document_parsing_exception","reason":"the receiver says 400"}}}]}"#
    );
    assert_eq!(send(&receiver, "/_bulk", "identity", b"{\"create\":{}}\n{}").unwrap().0, 400);
    assert_eq!(send(&receiver, "/_bulk", "identity", b"{\"create\":{}}\n{}\n").unwrap().0, 400);
    assert_eq!(send(&receiver, "/nowhere", "identity", b"x").unwrap().0, 404);
    assert_eq!(receiver.counts().refused, 1);
}

#[test]
fn too_large_packed_or_unpacked() {
    let receiver = Receiver::start(Options { keep: Keep::Ids, body_max_bytes: 10_000 }).unwrap();
    let raw = vec![b'{'; 10_001];
    assert_eq!(send(&receiver, "/_bulk", "identity", &raw).map(|answer| answer.0), Some(413));
    let wire = zstd::stream::encode_all(&raw[..], 1).unwrap();
    assert_eq!(send(&receiver, "/_bulk", "zstd", &wire).unwrap().0, 413);
    assert_eq!(send(&receiver, "/_bulk", "gzip", b"not gzip").unwrap().0, 400);
    assert_eq!(receiver.counts().requests, 0);
}

#[test]
fn faults_come_in_order_and_say_what_is_stored() {
    let receiver = Receiver::start(Options::default()).unwrap();
    receiver.script([
        Fault::Answer { status: 429, headers: vec![("retry-after".into(), "3".into())], body: "{}".into() },
        Fault::Close,
        Fault::StoreThenCut,
        Fault::StoreThenAnswer(503),
        Fault::Items(vec![(1, 429)]),
        Fault::Pass,
    ]);
    let body = |id| bulk_of(&[id, "last"]);
    assert_eq!(send(&receiver, "/_bulk", "identity", body("1").as_bytes()).unwrap().0, 429);
    assert_eq!(send(&receiver, "/_bulk", "identity", body("2").as_bytes()), None);
    assert_eq!(send(&receiver, "/_bulk", "identity", bulk_of(&["3"]).as_bytes()), None);
    assert_eq!(receiver.counts().stored, 1);
    assert_eq!(send(&receiver, "/_bulk", "identity", bulk_of(&["4"]).as_bytes()).unwrap().0, 503);
    assert_eq!(receiver.counts().stored, 2);
    let (_, answer) = send(&receiver, "/_bulk", "identity", body("5").as_bytes()).unwrap();
    assert_eq!(statuses(&answer), [201, 429]);
    let (_, answer) = send(&receiver, "/_bulk", "identity", body("5").as_bytes()).unwrap();
    assert_eq!(statuses(&answer), [409, 201]);
    assert_eq!((receiver.counts().requests, receiver.counts().stored), (6, 4));
    assert_eq!(receiver.bodies().len(), 6);
    assert!(receiver.heads()[0].starts_with("POST /_bulk\nhost: test\n"));
}

#[test]
fn plain_lines() {
    let receiver = Receiver::start(Options::default()).unwrap();
    assert_eq!(send(&receiver, "/ingest", "identity", b"{\"a\":1}\n{\"b\":2}\n").unwrap().0, 200);
    assert_eq!(receiver.counts().indexes["ingest"], 2);
    assert_eq!(&receiver.documents("ingest")[1].body[..], b"{\"b\":2}");
}

#[test]
fn a_hanging_request_does_not_keep_the_receiver_alive() {
    let receiver = Receiver::start(Options::default()).unwrap();
    receiver.script([Fault::Hang]);
    let mut stream = TcpStream::connect(receiver.addr).unwrap();
    stream.write_all(b"POST /ingest HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\n{}").unwrap();
    while receiver.counts().requests == 0 {
        std::thread::yield_now();
    }
    drop(receiver);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty());
}
