//! Requests and verdicts, table by table.

use super::super::tests::{batch, build};
use super::*;
use serde_json::{Value, json};

fn options(more: Value) -> Value {
    let mut all = json!({"bucket": "audit-logs", "region": "eu-central-1"});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

fn sink(more: Value) -> Arc<dyn Sink> {
    build("s3", options(more)).unwrap().sink
}

fn parts(op: &Op) -> (String, &HeaderMap) {
    let Op::Http { method, url, headers, .. } = op else { panic!("not http") };
    (format!("{method} {url}"), headers)
}

const LINES: [&str; 2] = ["{\"a\":1}", "{\"a\":2}"];
const DAY: &str = "cluster%3Dprod/date%3D2026-11-24/hour%3D02/20261124T023059.123456Z-node-1";

#[test]
fn the_key_comes_from_event_time_and_content() {
    let cases = [
        (json!({}), "https://audit-logs.s3.eu-central-1.amazonaws.com/"),
        (json!({"prefix": "a b/"}), "https://audit-logs.s3.eu-central-1.amazonaws.com/a%20b/"),
        (json!({"region": "cn-north-1"}), "https://audit-logs.s3.cn-north-1.amazonaws.com.cn/"),
        (json!({"addressing": "path"}), "https://s3.eu-central-1.amazonaws.com/audit-logs/"),
        (json!({"bucket": "a.b.c"}), "https://s3.eu-central-1.amazonaws.com/a.b.c/"),
        (json!({"endpoint": "http://127.0.0.1:9000/"}), "http://127.0.0.1:9000/audit-logs/"),
        (
            json!({"endpoint": "https://x.example:9/s3", "addressing": "virtual_host"}),
            "https://audit-logs.x.example:9/s3/",
        ),
    ];
    for (more, base) in cases {
        let sink = sink(more);
        let frozen = batch(&sink, &LINES);
        let id = frozen.id;
        let (line, _) = parts(&sink.request(&frozen));
        assert_eq!(line, format!("PUT {base}{DAY}-{id}.ndjson.zst"));
        let object = sink.object(&frozen).unwrap();
        assert!(object.starts_with("cluster=prod/date=2026-11-24/hour=02/"), "{object}");
        assert!(
            crate::Thawed::new(&*sink, &id.to_string(), &object, Vec::new()).is_some(),
            "it can be thawed"
        );
    }
}

#[test]
fn the_headers_say_what_it_is_and_what_becomes_of_it() {
    let plain = sink(json!({}));
    let frozen = batch(&plain, &LINES);
    let request = plain.request(&frozen);
    let (_, headers) = parts(&request);
    let id = frozen.id.to_string();
    for (name, want) in [
        ("content-type", "application/zstd"),
        ("if-none-match", "*"),
        ("x-amz-meta-batch-id", &id),
        ("x-amz-meta-events", "2"),
        ("x-amz-meta-first", "2026-11-24T02:30:59.123456Z"),
        ("x-amz-meta-last", "2026-11-24T02:30:59.123456Z"),
        ("x-amz-meta-raw-bytes", &frozen.raw_len.to_string()),
    ] {
        assert_eq!(headers[name], want, "{name}");
    }
    assert_eq!(headers.len(), 7, "no Content-Encoding");

    let all = json!({
        "storage_class": "STANDARD_IA", "expected_bucket_owner": "123456789012", "compression": "gzip",
        "encryption": {"sse_kms": {"key_id": "arn:aws:kms:x", "bucket_key": true}},
        "object_lock": {"mode": "compliance", "retain": "365d"}, "conditional": false,
    });
    let all = sink(all);
    let frozen = batch(&all, &LINES);
    let request = all.request(&frozen);
    let (line, headers) = parts(&request);
    assert!(line.ends_with(".ndjson.gz"));
    for (name, want) in [
        ("content-type", "application/gzip"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-expected-bucket-owner", "123456789012"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:x"),
        ("x-amz-server-side-encryption-bucket-key-enabled", "true"),
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        ("x-amz-object-lock-retain-until-date", "2027-11-24T02:30:59Z"),
    ] {
        assert_eq!(headers[name], want, "{name}");
    }
    assert!(!headers.contains_key("if-none-match"));
    let sse = sink(json!({"encryption": "sse_s3"}));
    let request = sse.request(&batch(&sse, &LINES));
    assert_eq!(parts(&request).1["x-amz-server-side-encryption"], "AES256");
}

#[test]
fn mistakes_name_the_option() {
    for (more, want) in [
        (json!({"bucket": "a/b"}), "bucket: is not a bucket's name"),
        (
            json!({"prefix": "/a"}),
            "prefix: must not begin with `/`, hold `.` or `..` as a part, or exceed 512 bytes",
        ),
        (
            json!({"prefix": "a/../b"}),
            "prefix: must not begin with `/`, hold `.` or `..` as a part, or exceed 512 bytes",
        ),
        (json!({"compression": "none"}), "compression: must be zstd or gzip"),
        (json!({"storage_class": "ia\n"}), "storage_class: is not a storage class"),
        (json!({"expected_bucket_owner": "12"}), "expected_bucket_owner: must be 12 digits, in quotes"),
        (
            json!({"object_lock": {"mode": "governance", "retain": "1h"}}),
            "object_lock.retain: must be at least 1d",
        ),
        (
            json!({"object_lock": {"mode": "governance", "retain": "1d"}, "checksum": false}),
            "checksum: cannot be left out where objects are locked",
        ),
        (json!({"endpoint": "https://x?y"}), "endpoint: must not hold a query"),
        (json!({"endpoint": "x"}), "endpoint: must begin with http:// or https://"),
        (
            json!({"credentials": {"access_key_id": "hunter2"}}),
            "credentials: access_key_id and secret_access_key belong together",
        ),
    ] {
        assert_eq!(build("s3", options(more)).err().as_deref(), Some(want));
    }
    assert_eq!(
        build("s3", json!({"bucket": "abc"})).err().as_deref(),
        Some("region: is needed where there is no endpoint")
    );
    assert!(build("s3", json!({"bucket": "abc", "endpoint": "http://x"})).is_ok());
}

fn reply(status: u16, headers: &[(&'static str, &str)], code: &str) -> Reply {
    let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>CONTENT</Message></Error>");
    let body = if code.is_empty() { String::new() } else { body };
    Reply::Http { status, headers: headers.collect(), body: body.into() }
}

/// The outcome in one line; of a question, the request.
fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered => "delivered".to_owned(),
        Outcome::Split => "split".to_owned(),
        Outcome::Retry { after, reason } => format!("retry {after:?} {reason}"),
        Outcome::Hold { reason } => format!("hold {reason}"),
        Outcome::Ask { op, after } => {
            assert!(after.is_zero());
            format!("ask {:?}", Step::of(op).unwrap())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_table_of_answers_to_a_put() {
    let sink = sink(json!({}));
    let frozen = batch(&sink, &LINES);
    let put = sink.request(&frozen);
    let etag = ("etag", "\"x\"");
    let ours = "hold http 400 AuthorizationHeaderMalformed: the bucket is in the region eu-west-3";
    for (reply, want) in [
        (reply(200, &[etag], ""), "ask Probe"),
        (reply(200, &[etag], ""), "delivered"),
        (reply(200, &[], ""), "retry None the answer is no store's"),
        (reply(412, &[], "PreconditionFailed"), "ask Compare"),
        (reply(304, &[], ""), "ask Compare"),
        (reply(409, &[], "ConditionalRequestConflict"), "retry None http 409 ConditionalRequestConflict"),
        (reply(503, &[("retry-after", "3")], "SlowDown"), "retry Some(3s) http 503 SlowDown"),
        (reply(500, &[], "InternalError"), "retry None http 500 InternalError"),
        (reply(429, &[], ""), "retry None http 429"),
        (reply(408, &[], ""), "retry None http 408"),
        (reply(400, &[], "BadDigest"), "retry None http 400 BadDigest"),
        (reply(400, &[], "XAmzContentChecksumMismatch"), "retry None http 400 XAmzContentChecksumMismatch"),
        (reply(400, &[], "RequestTimeout"), "retry None http 400 RequestTimeout"),
        (reply(400, &[], "EntityTooLarge"), "split"),
        (reply(413, &[], ""), "split"),
        (reply(400, &[], "InvalidArgument"), "hold http 400 InvalidArgument"),
        (reply(400, &[], ""), "hold http 400"),
        (
            reply(400, &[], "ExpiredToken"),
            "hold http 400 ExpiredToken: the credentials have expired, and new ones are no better",
        ),
        (
            reply(403, &[("date", "Tue, 24 Nov 2026 02:30:59 GMT")], "RequestTimeTooSkewed"),
            "hold http 403 RequestTimeTooSkewed: this node's clock is more than 15 minutes off; the store's says \
             Tue, 24 Nov 2026 02:30:59 GMT",
        ),
        (
            reply(403, &[], "AccessDenied"),
            "hold http 403 AccessDenied: not allowed: s3:PutObject is needed, and what encryption and locking need",
        ),
        (
            reply(301, &[("x-amz-bucket-region", "eu-west-3")], "PermanentRedirect"),
            "hold http 301 PermanentRedirect: the bucket is in the region eu-west-3",
        ),
        (
            reply(307, &[("x-amz-bucket-region", "<b>")], "TemporaryRedirect"),
            "hold http 307 TemporaryRedirect: wrong region or endpoint",
        ),
        (reply(404, &[], "NoSuchBucket"), "hold http 404 NoSuchBucket: there is no such bucket"),
        (
            reply(501, &[], "NotImplemented"),
            "hold http 501 NotImplemented: the store knows a header not: see `conditional` and `checksum`",
        ),
    ] {
        assert_eq!(told(&sink.judge(&frozen, &put, &reply)), want);
    }
    let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>";
    let malformed = Reply::Http { status: 400, headers: HeaderMap::new(), body: body.into() };
    assert_eq!(told(&sink.judge(&frozen, &put, &malformed)), ours);
}

#[test]
fn what_is_there_already_is_compared() {
    let sink = sink(json!({}));
    let frozen = batch(&sink, &LINES);
    let conflict = sink.judge(&frozen, &sink.request(&frozen), &reply(412, &[], ""));
    let Outcome::Ask { op: compare, .. } = conflict else { panic!("{conflict:?}") };
    let (line, headers) = parts(&compare);
    assert!(
        line.starts_with("HEAD ") && headers[STEP] == "compare" && !headers.contains_key("if-none-match")
    );
    let judged = |asked: &Op, reply: &Reply| sink.judge(&frozen, asked, reply);
    let id = frozen.id.to_string();
    let held = format!(
        "hold another object has the key {}: it is not replaced; who made it?",
        sink.object(&frozen).unwrap()
    );
    let needs =
        "hold the object is there already, and to see whether it is this batch s3:GetObject is needed";
    for (reply, want) in [
        (reply(200, &[(BATCH_ID, &id)], ""), "delivered"),
        (reply(200, &[(BATCH_ID, "0011")], ""), &*held),
        (reply(403, &[], ""), needs),
        (reply(404, &[], ""), "retry None the object was there already, and then was not"),
        (reply(503, &[], ""), "retry None http 503"),
        (reply(200, &[], ""), "ask Checksum"),
    ] {
        assert_eq!(told(&judged(&compare, &reply)), want);
    }
    // A store that keeps no metadata is asked for the checksum, and at last for the length.
    let Outcome::Ask { op: by_checksum, .. } = judged(&compare, &reply(200, &[], "")) else { panic!() };
    assert_eq!(parts(&by_checksum).1["x-amz-checksum-mode"], "ENABLED");
    let checksum = BASE64.encode(sha256(&frozen.body));
    let length = frozen.body.len().to_string();
    for (reply, want) in [
        (reply(200, &[("x-amz-checksum-sha256", &checksum), ("content-length", "1")], ""), "delivered"),
        (reply(200, &[("x-amz-checksum-sha256", "x"), ("content-length", &length)], ""), &*held),
        (reply(200, &[("content-length", &length)], ""), "delivered"),
        (reply(200, &[("content-length", "1")], ""), &*held),
    ] {
        assert_eq!(told(&judged(&by_checksum, &reply)), want);
    }
}

#[test]
fn the_probe_never_undoes_what_was_stored() {
    for (probed, again) in [
        (reply(412, &[], ""), "delivered"),
        (reply(200, &[("etag", "x")], ""), "delivered"),
        (reply(503, &[], ""), "ask Probe"),
        (Reply::Failed { kind: crate::Failure::Timeout, text: String::new() }, "ask Probe"),
    ] {
        let sink = sink(json!({}));
        let frozen = batch(&sink, &LINES);
        let stored = reply(200, &[("etag", "x")], "");
        let Outcome::Ask { op: probe, .. } = sink.judge(&frozen, &sink.request(&frozen), &stored) else {
            panic!()
        };
        let (Op::Http { body, .. }, (line, headers)) = (&probe, parts(&probe)) else { panic!() };
        assert!(line.starts_with("PUT ") && headers["if-none-match"] == "*");
        assert_eq!(*body, frozen.body, "the same bytes: it may be taken");
        assert_eq!(told(&sink.judge(&frozen, &probe, &probed)), "delivered");
        assert_eq!(told(&sink.judge(&frozen, &sink.request(&frozen), &stored)), again);
    }
    let unconditional = sink(json!({"conditional": false}));
    let frozen = batch(&unconditional, &LINES);
    let outcome =
        unconditional.judge(&frozen, &unconditional.request(&frozen), &reply(200, &[("etag", "x")], ""));
    assert_eq!(told(&outcome), "delivered");
}

#[test]
fn it_can_be_tried_without_writing() {
    let sink = sink(json!({"expected_bucket_owner": "123456789012", "prefix": "p/"}));
    let [list] = &sink.probe(&[])[..] else { panic!() };
    let (line, headers) = parts(list);
    assert_eq!(line, "GET https://audit-logs.s3.eu-central-1.amazonaws.com/?list-type=2&max-keys=1");
    assert_eq!(headers["x-amz-expected-bucket-owner"], "123456789012");
    let body =
        "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"x\"><MaxKeys>1</MaxKeys></ListBucketResult>";
    let list_of_one = Reply::Http { status: 200, headers: HeaderMap::new(), body: body.into() };
    for (reply, want) in [
        (list_of_one, "Good(\"the bucket is there\")"),
        (reply(200, &[], ""), "Bad { text: \"what answers is no store\""),
        (reply(403, &[], "AccessDenied"), "Good(\"the credentials are known; "),
        (
            reply(403, &[], "InvalidAccessKeyId"),
            "Bad { text: \"http 403 InvalidAccessKeyId: the store does not know",
        ),
        (reply(404, &[], "NoSuchBucket"), "Bad { text: \"http 404 NoSuchBucket: "),
        (
            reply(301, &[("x-amz-bucket-region", "eu-west-3")], ""),
            "Bad { text: \"http 301: the bucket is in the region",
        ),
        (reply(503, &[], "SlowDown"), "Doubtful(\"http 503 SlowDown\")"),
        (
            Reply::Failed { kind: crate::Failure::Invalid, text: "aws credentials: none".to_owned() },
            "Bad { text: \"aws credentials: none\"",
        ),
    ] {
        let told = format!("{:?}", sink.judge_probe(list, &reply));
        assert!(told.starts_with(want), "{told}");
    }
    assert!(sink.is_signed_with_time());
}

#[test]
fn a_thawed_batch_is_looked_for_first() {
    let sink = sink(json!({"prefix": "p/"}));
    let mut thawed = batch(&sink, &LINES);
    thawed.object = Some("cluster=c/date=2026-11-24/hour=02/x.ndjson.gz".into());
    let look = sink.request(&thawed);
    let (line, headers) = parts(&look);
    assert!(
        line.starts_with("HEAD ") && line.ends_with("/p/cluster%3Dc/date%3D2026-11-24/hour%3D02/x.ndjson.gz")
    );
    assert!(!headers.contains_key(STEP));
    let id = thawed.id.to_string();
    for (reply, want) in [
        (reply(200, &[(BATCH_ID, &id)], ""), "delivered"),
        (reply(404, &[], ""), "ask Store"),
        (reply(403, &[], ""), "ask Store"),
        (reply(503, &[], ""), "retry None http 503"),
    ] {
        assert_eq!(told(&sink.judge(&thawed, &look, &reply)), want);
    }
    let Outcome::Ask { op: store, .. } = sink.judge(&thawed, &look, &reply(404, &[], "")) else { panic!() };
    assert!(parts(&store).0.starts_with("PUT ") && parts(&store).0.ends_with("x.ndjson.gz"));
    // Its content may have changed, its name not: another request may have stored it in between.
    assert_eq!(told(&sink.judge(&thawed, &store, &reply(412, &[], ""))), "ask Compare");
}
