//! What `ship` makes of every kind of file.

use crate::support::{
    INDEX, Place, audit_id, auditship, contains, event, event_with, events, gzip, is_root, lines, run,
    secret_event, testdata, testdata_path, zstd,
};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

// One request at a time, so that the order of arrival is that of sending.
const SEARCH: &str = "search: {type: elasticsearch, endpoint: URL, filter: none, concurrency: 1}";

fn place() -> Place {
    let place = Place::new();
    place.configure(SEARCH, "");
    place
}

/// What stands in a file, and the ledger that it must give.
struct Case {
    what: &'static str,
    bytes: Vec<u8>,
    read: u64,
    /// Figures of the ledger that are not zero.
    figures: &'static [(&'static str, u64)],
    /// Documents that arrive.
    documents: usize,
}

fn check(cases: Vec<Case>) {
    for case in cases {
        let place = place();
        let file = place.write("in", &case.bytes);
        let shipped = place.ship(&[], &[&file], b"");
        let report = shipped.assert_clean();
        assert_eq!(report.get("search", "read/lines"), case.read, "{}: {report:?}", case.what);
        for (name, count) in case.figures {
            assert_eq!(report.get("search", name), *count, "{}: {name}: {report:?}", case.what);
        }
        let settled = ["delivered", "skipped"].map(|name| report.get("search", name)).iter().sum::<u64>();
        assert_eq!(settled, case.read, "{}: {report:?}", case.what);
        assert_eq!(place.documents().len(), case.documents, "{}", case.what);
    }
}

#[test]
fn paths_that_cannot_be_read() {
    let place = place();
    std::fs::create_dir(place.path("dir")).unwrap();
    let good = place.write("good", events(0..3));
    for (path, told) in [("none", "none: No such file"), ("dir", "it is a directory; name the files in it")] {
        let shipped = place.ship(&[], &[&good, &place.path(path)], b"");
        assert_eq!(shipped.code, 1, "{shipped:?}");
        assert!(shipped.err.contains(told) && shipped.err.contains(path), "{shipped:?}");
        assert_eq!(place.receiver.counts().requests, 0, "a mistake is found before the first line leaves");
    }
}

#[test]
fn a_file_of_another_user() {
    if !is_root("a file that may not be read") {
        return;
    }
    let place = place();
    let theirs = place.write("theirs.log", events(0..3));
    std::fs::set_permissions(&theirs, PermissionsExt::from_mode(0o600)).unwrap();
    for (path, mode) in [("", 0o755), ("config.yaml", 0o644), ("key", 0o644)] {
        std::fs::set_permissions(place.path(path), PermissionsExt::from_mode(mode)).unwrap();
    }
    // The build directory may be closed to others; a copy of the binary is not.
    let binary = place.path("auditship");
    std::fs::copy(env!("CARGO_BIN_EXE_auditship"), &binary).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(&binary).args(["ship", "--config", "config.yaml", "theirs.log"]).current_dir(place.path(""));
    if Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: setpriv is not here");
        return;
    }
    let ran = run(&mut command, b"");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("theirs.log") && ran.err.contains("Permission denied"), "{ran:?}");
    assert_eq!(place.receiver.counts().requests, 0);
}

#[test]
fn whole_files_of_every_encoding() {
    let text = events(0..7).into_bytes();
    let members = [gzip(&text[..2000]), gzip(&text[2000..])].concat();
    let frames = [zstd(&text[..2000]), zstd(&text[2000..])].concat();
    let crlf = events(0..7).replace('\n', "\r\n").into_bytes();
    let unended = events(0..7).trim_end().as_bytes().to_vec();
    let case = |what, bytes| Case { what, bytes, read: 7, figures: &[("delivered", 7)], documents: 7 };
    check(vec![
        case("plain", text.clone()),
        case("gzip", gzip(&text)),
        case("gzip of several members", members),
        case("zstd", zstd(&text)),
        case("zstd of several frames", frames),
        case("lines that end in CR LF", crlf),
        case("a last line without an end", unended),
    ]);
}

#[test]
fn nothing_and_noise() {
    check(vec![
        Case { what: "empty", bytes: Vec::new(), read: 0, figures: &[], documents: 0 },
        Case {
            what: "blank lines",
            bytes: b"\n\r\n \n\n".to_vec(),
            read: 4,
            figures: &[("skipped/blank", 4)],
            documents: 0,
        },
        Case { what: "empty gzip", bytes: gzip(b""), read: 0, figures: &[], documents: 0 },
        Case {
            what: "1 MB of [",
            bytes: vec![b'['; 1 << 20],
            read: 1,
            figures: &[("delivered", 1), ("failed_closed/too_deep", 1)],
            documents: 1,
        },
        Case {
            what: "1 MB of { in an event",
            bytes: event_with(1, &format!("\"requestObject\":{},", "{\"a\":".repeat(200_000))).into_bytes(),
            read: 1,
            figures: &[("delivered", 1), ("failed_closed/too_deep", 1)],
            documents: 1,
        },
        Case {
            what: "other lines of the API server",
            bytes: format!(
                "I1124 02:30:59.123456       1 server.go:1] hello\n{}\n{{\"level\":\"info\",\"msg\":\"hello\"}}\n",
                event(1)
            )
            .into_bytes(),
            read: 3,
            figures: &[("delivered", 1), ("skipped/klog", 1), ("skipped/not_audit", 1)],
            documents: 1,
        },
        Case {
            what: "the legacy format",
            bytes: testdata("legacy.log.gz"),
            read: 400,
            figures: &[("skipped/legacy_format", 400)],
            documents: 0,
        },
    ]);
}

#[test]
fn nobody_knows_what_noise_was_so_it_leaves_as_stubs() {
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = (0..200_000).map(|_| random.u8(..)).collect();
    let place = place();
    let file = place.write("noise", &noise);
    let shipped = place.ship(&[], &[&file], b"");
    let report = shipped.assert_clean();
    assert_eq!(report.get("search", "read/lines"), lines(&noise).len() as u64, "{report:?}");
    assert_eq!(report.get("search", "read/bytes"), 200_000);
    // Equal lines (a single byte) have the same uid: the receiver has them once.
    let delivered = report.get("search", "delivered");
    let documents = place.documents().len() as u64 + place.receiver.counts().repeated;
    assert!(delivered > 700 && documents >= delivered, "{documents} documents, {report:?}");
    for document in place.documents() {
        assert!(document["annotations"]["auditship.io/failed-closed"].is_string(), "{document:#}");
    }
}

#[test]
fn a_line_that_is_too_long_leaves_its_two_ends() {
    let filler = format!("\"requestObject\":{{\"data\":{{\"x\":\"{}\"}}}},", "y".repeat(10 << 20));
    let text = format!("{}\n{}\n{}\n", event(0), event_with(1, &filler), event(2));
    let place = place();
    let file = place.write("in", &text);
    let shipped = place.ship(&[], &[&file], b"");
    let report = shipped.assert_clean();
    assert_eq!(
        (report.get("search", "delivered"), report.get("search", "failed_closed/too_long")),
        (3, 1),
        "{report:?}"
    );
    let documents = place.documents();
    let ids: Vec<&str> = documents.iter().filter_map(|d| d["auditID"].as_str()).collect();
    assert_eq!(ids, [audit_id(0), audit_id(1), audit_id(2)]);
    let stub = &documents[1];
    assert_eq!(stub["user"]["username"], "alice@example.com");
    assert_eq!(stub["stageTimestamp"], "2026-11-24T00:33:57.363042Z");
    assert_eq!(stub["annotations"]["auditship.io/failed-closed"], "too_long");
    assert!(stub.get("requestObject").is_none());
    // With room for it, it is a line like any other.
    let place = self::place();
    let file = place.write("in", &text);
    let shipped = place.ship(&["--set", "inputs.api.max_line=16MiB"], &[&file], b"");
    let report = shipped.assert_clean();
    assert_eq!(report.get("search", "failed_closed"), 0, "{report:?}");
    let longest = place.receiver.documents(INDEX).iter().map(|document| document.body.len()).max();
    assert!(longest.unwrap() > 10 << 20);
}

#[test]
fn odd_but_valid_json_is_never_punished() {
    let secret = "aHVudGVyMi1odW50ZXIyLWh1bnRlcjI=";
    let plain = secret_event(2, secret);
    let twice = r#"{"data":{"a":"VALUE"},"data":{"b":"VALUE"},"kind":"Secret","d\u0061ta":{"c":"VALUE"}}"#;
    let lines = [
        event_with(0, r#""requestObject":{"x":1e400,"y":-0,"z":123456789012345678901234567890},"#),
        event_with(1, "\"requestObject\":{\"x\":\"a\u{7f}b\"},"),
        plain.replace(r#""data""#, r#""d\u0061t\u0061""#),
        plain.replace("000000000002", "000000000003").replace(
            r#""requestObject":"#,
            &format!(r#""requestObject":{},"requestObject":"#, twice.replace("VALUE", secret)),
        ),
        // White space where the API server writes none.
        plain.replace("000000000002", "000000000004").replace("\":", "\" :\t").replace(",\"", " , \""),
    ];
    let place = place();
    let file = place.write("in", lines.join("\n"));
    let shipped = place.ship(&[], &[&file], b"");
    let report = shipped.assert_clean();
    assert_eq!(
        (report.get("search", "delivered"), report.get("search", "failed_closed")),
        (5, 0),
        "{report:?}"
    );
    let left = place.left();
    assert!(!contains(&left, secret.as_bytes()), "{}", String::from_utf8_lossy(&left));
    assert!(contains(&left, br#"{"x":1e400,"y":-0,"z":123456789012345678901234567890}"#));
    assert_eq!(place.receiver.documents(INDEX).len(), 5);
}

#[test]
fn bytes_that_are_no_text() {
    let mut invalid = event_with(0, "\"requestObject\":{\"x\":\"a-MARK-b\"},").into_bytes();
    let at = invalid.windows(4).position(|w| w == b"MARK").unwrap();
    invalid[at..at + 4].copy_from_slice(b"\xff\xfe\xc3(");
    let nul_inside = event_with(1, "\"requestObject\":{\"x\":\"a\0b\"},");
    let hole = [&[0; 5000][..], event(2).as_bytes(), b"\n"].concat();
    let tail = [event(3).as_bytes(), &[0; 100], b"\n"].concat();
    let text =
        [&invalid[..], b"\n", nul_inside.as_bytes(), b"\n", &hole, &tail, event(4).as_bytes()].concat();
    let place = place();
    let file = place.write("in", &text);
    let shipped = place.ship(&[], &[&file], b"");
    let report = shipped.assert_clean();
    assert_eq!(report.get("search", "read/lines"), 5, "{report:?}");
    assert_eq!(report.get("search", "read/bytes"), text.len() as u64, "a hole's bytes are read bytes");
    assert_eq!(report.get("search", "delivered"), 5, "{report:?}");
    assert_eq!(report.get("search", "redactions/invalid-utf8"), 3, "{report:?}");
    assert_eq!(
        report.get("search", "failed_closed"),
        1,
        "only the raw NUL in a string is no JSON: {report:?}"
    );
    let documents = place.documents();
    assert_eq!(documents[0]["requestObject"]["x"], "a-\u{fffd}\u{fffd}\u{fffd}(-b");
    assert_eq!(documents[1]["annotations"]["auditship.io/failed-closed"], "not_json");
    let ids = place.audit_ids();
    assert_eq!(ids, [0, 1, 2, 3, 4].map(audit_id));
}

#[test]
fn lists_are_split_and_counted_by_line() {
    let list = |events: &[String]| {
        format!(
            r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{}]}}"#,
            events.join(",")
        )
    };
    let secret = "c2VjcmV0LWluLWEtbGlzdC1vZi1ldmVudHM=";
    let text = format!(
        "{}\n{}\n{}\n",
        list(&[event(0), secret_event(1, secret), event(2)]),
        list(&[]),
        list(&[event(3)])
    );
    let place = place();
    let file = place.write("in", &text);
    let shipped = place.ship(&[], &[&file], b"");
    let report = shipped.assert_clean();
    assert_eq!(report.get("search", "read/lines"), 3, "{report:?}");
    assert_eq!(report.get("search", "delivered"), 2, "{report:?}");
    assert_eq!(report.get("search", "skipped/empty_list"), 1, "{report:?}");
    assert_eq!(place.audit_ids(), [0, 1, 2, 3].map(audit_id));
    assert!(!contains(&place.left(), secret.as_bytes()));
}

#[test]
fn a_truncated_gzip_is_read_as_far_as_it_decodes_and_the_rest_is_lost() {
    for (name, pack) in [("gz", gzip as fn(&[u8]) -> Vec<u8>), ("zst", zstd)] {
        let packed = pack(testdata_lines(3000).as_slice());
        let place = place();
        let cut = place.write(&format!("cut.{name}"), &packed[..packed.len() / 2]);
        let whole = place.write("whole", events(0..2));
        let shipped = place.ship(&[], &[&cut, &whole], b"");
        assert_eq!(shipped.code, 2, "{shipped:?}");
        shipped.report.assert_law();
        let get = |name| shipped.report.get("search", name);
        assert!(get("lost_bytes") > 0 && get("open") == 0 && get("delivered") > 500, "{shipped:?}");
        assert!(shipped.err.contains("lost") && shipped.err.contains(&format!("cut.{name}")), "{shipped:?}");
        // What comes after it is not held up.
        assert_eq!(place.audit_ids().iter().filter(|id| **id == audit_id(1)).count(), 1);
    }
}

/// The first lines of the ordinary log.
fn testdata_lines(count: usize) -> Vec<u8> {
    lines(&testdata("audit.jsonl.gz"))[..count].iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect()
}

#[test]
fn the_container_runtimes_format() {
    let place = place();
    let secret = "c2VjcmV0LWN1dC1ieS10aGUtcnVudGltZQ==";
    let cut = secret_event(1, secret);
    let (head, rest) = cut.split_at(cut.find(secret).unwrap() + 12);
    let (middle, tail) = rest.split_at(100);
    let t = "2026-11-24T02:30:59.510963511Z";
    let text = format!(
        "{t} stdout F {}\n{t} stdout P {head}\n{t} stderr F I1124 02:30:59.123456       1 s.go:1] klog\n\
         {t} stdout P {middle}\n{t} stdout F {tail}\n{t} stdout F {}\n",
        event(0),
        event(2)
    );
    let file = place.write("0.log", &text);
    let shipped = place.ship(&[], &[&file], b"");
    let report = shipped.assert_clean();
    assert_eq!(report.get("search", "read/bytes"), text.len() as u64);
    assert_eq!(
        (report.get("search", "read/lines"), report.get("search", "skipped/stderr")),
        (4, 1),
        "{report:?}"
    );
    assert_eq!(report.get("search", "failed_closed"), 0, "{report:?}");
    assert_eq!(place.audit_ids(), [0, 1, 2].map(audit_id));
    assert!(
        !contains(&place.left(), secret.as_bytes()) && !contains(&place.left(), &secret.as_bytes()[..16])
    );
}

#[test]
fn a_run_of_partial_records_goes_on_after_a_rotation() {
    let place = place();
    let names = ["cri/containerd-sample.log.20261124-000001.gz", "cri/containerd-sample.log.gz"];
    let files = names.map(testdata_path);
    let paths: Vec<&Path> = files.iter().map(|path| &**path).collect();
    let shipped = place.ship(&[], &paths, b"");
    let report = shipped.assert_clean();
    let bytes: usize = names.iter().map(|name| testdata(name).len()).sum();
    assert_eq!(report.get("search", "read/bytes"), bytes as u64);
    // The sample begins in the middle of an event, whose rest is a fragment; two whole events follow.
    assert_eq!((report.get("search", "read/lines"), report.get("search", "delivered")), (3, 3), "{report:?}");
    let stages: Vec<String> =
        place.documents().iter().filter_map(|d| d["stage"].as_str()).map(str::to_owned).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
    assert!(report.get("search", "failed_closed/not_json") >= 1, "{report:?}");
}

#[test]
fn standard_input_reaches_every_output() {
    let place = Place::new();
    place.configure(&format!("{SEARCH}\narchive: {{type: dir, path: DIR/archive}}"), "");
    let text = events(0..500);
    let shipped = place.ship(&[], &[Path::new("-")], text.as_bytes());
    let report = shipped.assert_clean();
    for output in ["search", "archive"] {
        assert_eq!(report.get(output, "delivered"), 500, "{report:?}");
        assert_eq!(report.get(output, "read/bytes"), text.len() as u64, "{report:?}");
    }
    crate::support::assert_exactly("search", &place.documents(), 500);
    crate::support::assert_exactly("archive", &place.archive("archive"), 500);
    assert!(!place.path("state").exists(), "`ship` never touches the state directory");
    let twice =
        run(auditship().current_dir(place.path("")).args(["ship", "--config", "config.yaml", "-", "-"]), b"");
    assert_eq!(twice.code, 64, "{twice:?}");
}

#[test]
fn several_files_are_shipped_in_the_order_given() {
    let place = place();
    let files = [
        place.write("c.zst", zstd(events(0..50).as_bytes())),
        place.write("a", events(50..60)),
        place.write("b.gz", gzip(events(60..90).as_bytes())),
    ];
    let paths: Vec<&Path> = files.iter().map(|path| &**path).collect();
    place.ship(&[], &paths, b"").assert_clean();
    assert_eq!(place.audit_ids(), (0..90).map(audit_id).collect::<Vec<_>>());
}
