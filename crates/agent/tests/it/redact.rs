//! `redact` over the real logs: order and count are kept, what was not edited is the same byte for byte, planted
//! secrets are gone and what only looks like one stays.

use crate::support::{
    Place, Ran, archive_text, auditship, gunzip, leak, lines, run, secret_event, testdata, testdata_path,
};
use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

const AUDIT: &str = "audit.jsonl.gz";
const WORST: &str = "requestresponse.jsonl.gz";
const CRI: [&str; 2] = ["cri/containerd-sample.log.20261124-000001.gz", "cri/containerd-sample.log.gz"];

/// A log of `testdata/` before and after.
struct Both {
    before: Vec<u8>,
    after: Vec<u8>,
}

fn redacted(names: &[&str]) -> Both {
    let output =
        auditship().arg("redact").args(names.iter().map(|name| testdata_path(name))).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    Both { before: names.iter().flat_map(|name| testdata(name)).collect(), after: output.stdout }
}

// Each is several tests' material.
static AUDIT_BOTH: LazyLock<Both> = LazyLock::new(|| redacted(&[AUDIT]));
static WORST_BOTH: LazyLock<Both> = LazyLock::new(|| redacted(&[WORST]));

fn both(name: &str) -> &'static Both {
    if name == AUDIT { &AUDIT_BOTH } else { &WORST_BOTH }
}

/// The tokens of a JSON text: strings with their quotes, everything between them.
fn tokens(text: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    let mut from = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at] != b'"' {
            at += 1;
            continue;
        }
        out.push(&text[from..at]);
        from = at;
        at += 1;
        while at < text.len() && text[at] != b'"' {
            at += if text[at] == b'\\' { 2 } else { 1 };
        }
        at = (at + 1).min(text.len());
        out.push(&text[from..at]);
        from = at;
    }
    out.push(&text[from..]);
    out
}

/// Whether `after` is `before` with stretches replaced by masks, or with its invalid bytes replaced.
fn is_edit(before: &[u8], after: &[u8]) -> bool {
    if String::from_utf8_lossy(before).as_bytes() == after {
        return true;
    }
    // A document that was opened and packed again shows its masks only when it is opened again.
    let inner = after.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(after);
    if let Ok(opened) = BASE64.decode(inner) {
        return find(&opened, b"redacted:").is_some();
    }
    let Some(first) = find(after, b"redacted:") else { return false };
    let mask = |byte: &u8| byte.is_ascii_alphanumeric() || b":._-".contains(byte);
    let tail = after.iter().rev().take_while(|byte| !mask(byte)).count();
    before.starts_with(&after[..first]) && before.ends_with(&after[after.len() - tail..])
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[test]
fn order_and_count_are_kept_and_only_strings_change() {
    for name in [AUDIT, WORST] {
        let both = both(name);
        let (before, after) = (lines(&both.before), lines(&both.after));
        assert_eq!(before.len(), after.len(), "{name}");
        let mut changed = 0;
        for (number, (before, after)) in before.iter().zip(&after).enumerate() {
            if before == after {
                continue;
            }
            changed += 1;
            let (before, after) = (tokens(before), tokens(after));
            assert_eq!(before.len(), after.len(), "{name}:{}: its structure changed", number + 1);
            for (before, after) in before.iter().zip(after) {
                let same = *before == after || (before.starts_with(b"\"") && is_edit(before, after));
                assert!(
                    same,
                    "{name}:{}: {:?} became {:?}",
                    number + 1,
                    String::from_utf8_lossy(before),
                    String::from_utf8_lossy(after)
                );
            }
        }
        assert!(changed > 100, "{name}: {changed} lines changed");
        assert_eq!(both.before.ends_with(b"\n"), both.after.ends_with(b"\n"));
    }
}

#[test]
fn other_formats_keep_their_lines() {
    let legacy = redacted(&["legacy.log.gz"]);
    assert_eq!(lines(&legacy.before).len(), lines(&legacy.after).len());
    for (before, after) in lines(&legacy.before).iter().zip(lines(&legacy.after)) {
        assert!(*before == after || is_edit(before, after), "{}", String::from_utf8_lossy(after));
    }
    let cri = redacted(&CRI);
    let (before, after) = (lines(&cri.before), lines(&cri.after));
    assert_eq!((before.len(), after.len()), (30, 30));
    for (before, after) in before.iter().zip(after) {
        let prefix = find(before, b" stdout ").unwrap() + b" stdout P ".len();
        assert_eq!(before[..prefix], after[..prefix], "the runtime's own words stay");
    }
}

/// A row of a list in `testdata/`.
struct Row {
    kind: String,
    value: String,
    places: String,
}

fn rows(list: &str, file: &str) -> Vec<Row> {
    let text = String::from_utf8(testdata(list)).unwrap();
    text.lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|row| row[0] == file)
        .map(|row| Row {
            kind: row[1].to_owned(),
            value: row[2].to_owned(),
            places: row.get(3).copied().unwrap_or_default().to_owned(),
        })
        .collect()
}

/// How often each value occurs in `text`.
fn occurrences(rows: &[Row], text: &[u8]) -> Vec<usize> {
    let finder = AhoCorasick::new(rows.iter().map(|row| &row.value)).unwrap();
    let mut counts = vec![0; rows.len()];
    for found in finder.find_overlapping_iter(text) {
        counts[found.pattern().as_usize()] += 1;
    }
    counts
}

/// Where planted values stand of which nothing tells what they are: what is written before them, and why no rule
/// takes them. This list may only shrink.
const UNTOLD: &[(&str, &str)] = &[
    ("echo ", "a word that a program prints"),
    (r#""path":"/data/nope","value":""#, "a patch of a key that says nothing"),
    (r#""name":"A=B","value":""#, "a variable whose name says nothing"),
    (r#"{\"deep\":\""#, "a key that says nothing, in an escaped spelling of JSON"),
    (r#"{\\\"deep\\\":\\\""#, "the same, one level deeper"),
    (r#""auditID":""#, "the client chooses it, and who reads the log looks it up by it"),
    ("bad key ", "a refused key, of which the message repeats the text"),
    (r#""bad key "#, "the key itself"),
];

/// Whether every occurrence of `value` in `text` stands at one of the places in [`UNTOLD`].
fn is_untold(value: &str, text: &[u8]) -> bool {
    AhoCorasick::new([value])
        .unwrap()
        .find_iter(text)
        .all(|found| UNTOLD.iter().any(|(before, _)| text[..found.start()].ends_with(before.as_bytes())))
}

#[test]
fn no_planted_secret_survives() {
    let (mut misses, mut untold, mut gone) = (Vec::new(), BTreeMap::new(), 0);
    for file in [AUDIT, WORST] {
        let rows = rows("planted-secrets.tsv.gz", file);
        let text = [&both(file).after[..], &opened(&both(file).after)].concat();
        for (row, count) in rows.iter().zip(occurrences(&rows, &text)) {
            if count == 0 {
                gone += 1;
            } else if is_untold(&row.value, &text) {
                *untold.entry(row.kind.clone()).or_insert(0) += 1;
            } else {
                misses.push(format!("{file} {} {count} times, places {}", row.kind, row.places));
            }
        }
    }
    println!("nothing tells what they are, by kind: {untold:?}");
    assert!(gone > 1700, "{gone}");
    assert!(untold.values().sum::<i32>() <= 60, "{untold:?}");
    assert!(misses.is_empty(), "{} survive, {gone} do not:\n{}", misses.len(), misses.join("\n"));
}

#[test]
fn nor_does_one_leave_by_any_output() {
    let place = Place::new();
    // No routes and no filter of its own: the built-in ones, on the worst log there is.
    let text = "key_file: DIR/key\nfilter: {packs: [noise]}\noutputs:\n  search: {type: elasticsearch, endpoint: URL}\n  \
                archive: {type: dir, path: DIR/archive}\n";
    let dir = place.path("");
    place.write(
        "config.yaml",
        text.replace("DIR/", &dir.to_string_lossy()).replace("URL", &place.receiver.url()),
    );
    let shipped = place.ship(&[], &[&testdata_path(WORST)], b"");
    let report = shipped.assert_clean();
    let count = lines(&WORST_BOTH.before).len() as u64;
    assert_eq!(report.get("archive", "delivered"), count, "{report:?}");
    assert_eq!((report.get("archive", "failed_closed"), report.get("search", "failed_closed")), (0, 0));
    for class in ["delivered", "dropped", "thinned"] {
        assert!(report.get("search", class) > 0, "{class}: {report:?}");
    }
    let archived = archive_text(&place.path("archive"));
    assert_eq!(lines(&archived).len() as u64, count);
    let rows = rows("planted-secrets.tsv.gz", WORST);
    for (output, text) in [("search", place.left()), ("archive", archived)] {
        let text = [&text[..], &opened(&text)].concat();
        let misses: BTreeSet<&str> = rows
            .iter()
            .zip(occurrences(&rows, &text))
            .filter(|(row, count)| *count > 0 && !is_untold(&row.value, &text))
            .map(|(row, _)| row.kind.as_str())
            .collect();
        assert!(misses.is_empty(), "{output}: {misses:?}");
    }
}

/// What base64 strings of `text` hold, and what gzip inside of them does.
fn opened(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut seen = BTreeSet::new();
    for word in text.split(|byte| !(byte.is_ascii_alphanumeric() || b"+/=".contains(byte))) {
        if word.len() < 16 || word.len() % 4 != 0 || !seen.insert(word) {
            continue;
        }
        let Ok(mut inner) = BASE64.decode(word) else { continue };
        if let Ok(twice) = BASE64.decode(&inner) {
            inner = twice;
        }
        if inner.starts_with(&[0x1f, 0x8b]) {
            out.extend_from_slice(&gunzip(&inner));
        }
        out.extend_from_slice(&inner);
        out.push(b'\n');
    }
    out
}

/// Kinds of `benign.tsv` that leave as a digest.
const PUBLIC_BULK: [&str; 3] = ["ca-bundle-public", "csr-request-public", "csr-certificate-public"];

/// What stands in the place of a certificate in base64.
fn digest(value: &str) -> String {
    use sha2::Digest;
    let sum = sha2::Sha256::digest(BASE64.decode(value).unwrap());
    let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"redacted:public-certificate:sha256-{hex}:{}\"", value.len())
}

#[test]
fn what_only_looks_like_a_secret_stays() {
    let mut missing = Vec::new();
    for file in [AUDIT, WORST] {
        let rows = rows("benign.tsv.gz", file);
        let (before, after) = (occurrences(&rows, &both(file).before), occurrences(&rows, &both(file).after));
        for ((row, before), after) in rows.iter().zip(before).zip(after) {
            // What is public and bulky may be known by its digest instead.
            if PUBLIC_BULK.contains(&&*row.kind) && before > 0 {
                let digest = digest(&row.value);
                if after > 0 || find(&both(file).after, digest.as_bytes()).is_none() {
                    missing.push(format!("{file} {}: {after} times, and no {digest}", row.kind));
                }
                continue;
            }
            // In a value that is taken out as a whole some occurrences go with it, but never all.
            if after == 0 || before == 0 {
                missing.push(format!("{file} {} {:.60}: {before} times, then {after}", row.kind, row.value));
            }
        }
    }
    assert!(missing.is_empty(), "{} are gone:\n{}", missing.len(), missing.join("\n"));
}

fn filter(args: &[&str], input: &[u8]) -> Ran {
    run(auditship().arg("redact").args(args), input)
}

#[test]
fn line_ends_and_a_missing_one_stay() {
    let event = crate::support::event(1);
    for text in
        [format!("{event}\r\n{event}\n{event}"), "\n\n".to_owned(), String::new(), format!("{event}\r\n")]
    {
        let ran = filter(&[], text.as_bytes());
        assert_eq!((ran.code, ran.out), (0, text), "{}", ran.err);
    }
}

#[test]
fn equal_values_get_equal_tokens_under_one_key() {
    let secret = "c2VjcmV0LXZhbHVlLXRoYXQtbXVzdC1ub3QtbGVhdmUtdGhlLW5vZGU=";
    let place = Place::new();
    place.configure("search: {type: stdout}", "");
    let config = place.path("config.yaml");
    let args = ["--config", config.to_str().unwrap(), "--stats"];
    let text = secret_event(1, secret) + "\n" + &secret_event(2, "b3RoZXItdmFsdWU=") + "\n";
    let (first, second) = (filter(&args, text.as_bytes()), filter(&args, text.as_bytes()));
    assert_eq!((first.code, &first.out), (0, &second.out), "{}", first.err);
    assert_eq!(leak(first.out.as_bytes(), secret), None);
    let tokens: BTreeSet<&str> =
        first.out.split('"').filter(|word| word.starts_with("redacted:secret-data:")).collect();
    assert_eq!(tokens.len(), 2, "{tokens:?}");
    assert!(
        first.err.contains("2 lines, 2 changed; redacted secret-data 4; failed closed nothing"),
        "{}",
        first.err
    );
}

#[test]
fn a_corrupt_file_is_told() {
    let place = Place::new();
    let packed = crate::support::gzip(&testdata(AUDIT)[..1 << 20]);
    let file = place.write("cut.gz", &packed[..packed.len() / 2]);
    let ran = filter(&[file.to_str().unwrap()], b"");
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("cut.gz: cannot be decoded to its end") && !ran.out.is_empty(), "{}", ran.err);
    let ran = filter(&["none"], b"");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
}

const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ";

/// An event with a secret in `data`, one more in `last-applied-configuration`, a token in a message and one packed.
fn telling_event() -> String {
    let packed = BASE64.encode(r#"{"kind":"Secret","data":{"k":"aHVudGVyMg=="}}"#);
    let applied = serde_json::json!({"kind": "Secret", "data": {"password": "aHVudGVyMg=="}}).to_string();
    serde_json::json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": "a\u{1b}[31m\u{202e}", "stage": "ResponseComplete",
        "verb": "create", "objectRef": {"resource": "secrets", "namespace": "n", "name": "s"},
        "requestObject": {
            "kind": "Secret", "data": {"tls.key": "aHVudGVyMg=="}, "packed": packed,
            "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}},
        },
        "responseStatus": {"message": format!("no such token: {JWT}")},
    })
    .to_string()
}

#[test]
fn explain_says_where_and_never_what() {
    let text =
        format!("{}\n{}\nI1124 02:30:59.1 1 server.go:1] hello\n", telling_event(), crate::support::event(7));
    let ran = filter(&["--explain", "--json"], text.as_bytes());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let told: Vec<serde_json::Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 3, "one for each event: {}", ran.out);
    assert_eq!(
        (told[0]["auditID"].as_str(), told[0]["verb"].as_str()),
        (Some("a\u{1b}[31m\u{202e}"), Some("create"))
    );
    let edits: BTreeSet<(String, String, String, u64)> = told[0]["redacted"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edit| {
            let text = |member: &str| edit[member].as_str().unwrap().to_owned();
            (text("path"), text("rule"), text("action"), edit["length"].as_u64().unwrap())
        })
        .collect();
    let applied =
        r#"requestObject.metadata.annotations["kubectl.kubernetes.io/last-applied-configuration"]<json>"#;
    let packed = BASE64.encode(r#"{"kind":"Secret","data":{"k":"aHVudGVyMg=="}}"#).len() as u64;
    let want = [
        (r#"requestObject.data["tls.key"]"#.to_owned(), "secret-data", 12),
        (format!("{applied}.data.password"), "secret-data", 12),
        ("requestObject.packed<b64><json>.data.k".to_owned(), "secret-data", packed),
        ("responseStatus.message".to_owned(), "jwt", JWT.len() as u64),
    ];
    let want = want.map(|(path, rule, length)| (path, rule.to_owned(), "token".to_owned(), length));
    assert_eq!(edits, want.into_iter().collect());
    assert_eq!(told[1]["redacted"], serde_json::json!([]));
    assert_eq!(told[2]["line"], 3);
    for form in [&["--explain"][..], &["--explain", "--json"], &["--diff"]] {
        let ran = filter(form, text.as_bytes());
        for secret in ["aHVudGVyMg", "hunter2", "c2lnbmF0"] {
            assert!(!ran.out.contains(secret), "{form:?}: {}", ran.out);
        }
        assert!(!ran.out.contains(['\u{1b}', '\u{202e}']), "{form:?}: {}", ran.out);
    }
}

#[test]
fn diff_shows_the_lines_that_change() {
    let text = format!("{}\n{}\n", crate::support::event(7), telling_event());
    let ran = filter(&["--diff", "--stats"], text.as_bytes());
    assert_eq!(ran.code, 0);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 5, "{}", ran.out);
    assert_eq!(lines[0], "line 2: a\\u{1b}[31m\\u{202e} create secrets n/s");
    let data = lines.iter().find(|line| line.contains("tls.key")).unwrap();
    let (before, after) = data.split_once(" → redacted:secret-data:").unwrap();
    assert_eq!(before, r#"  requestObject.data["tls.key"]  secret-data  [12 bytes]"#);
    assert!(
        !after.is_empty() && ran.err.contains("2 lines, 1 changed; redacted secret-data 3, jwt 1"),
        "{}",
        ran.err
    );
}

#[test]
fn only_the_rules_that_are_named() {
    let text = telling_event() + "\n";
    let ran = filter(&["--only", "jwt", "--stats"], text.as_bytes());
    assert!(!ran.out.contains(JWT) && ran.out.contains("aHVudGVyMg=="), "{}", ran.out);
    assert!(ran.err.contains("redacted jwt 1;"), "{}", ran.err);
    let both = filter(&["--only", "jwt", "--only", "secret-data"], text.as_bytes());
    assert!(!both.out.contains(JWT) && !both.out.contains("aHVudGVyMg=="), "{}", both.out);
    let place = Place::new();
    place.configure(
        "search: {type: stdout}",
        "redact: {rules: [{name: verbs, paths: [verb]}, {name: names, paths: [objectRef.name]}]}",
    );
    let config = place.path("config.yaml");
    let own = filter(&["--only", "verbs", "--config", config.to_str().unwrap()], text.as_bytes());
    assert!(
        own.out.contains(r#""verb":"redacted:verbs""#) && own.out.contains(r#""name":"s""#),
        "{}",
        own.out
    );
    assert!(own.out.contains(JWT), "{}", own.out);
    for (name, told) in [("jtw", "did you mean `jwt`?"), ("secret_data", "did you mean `secret-data`?")] {
        let ran = filter(&["--only", name], text.as_bytes());
        assert_eq!((ran.code, ran.out.as_str()), (64, ""));
        assert!(
            ran.err.contains(told) && ran.err.contains(&format!("no redaction rule `{name}`")),
            "{}",
            ran.err
        );
    }
}

#[test]
fn ways_to_look_that_do_not_go_together() {
    for args in [
        &["--diff", "--explain"][..],
        &["--json"],
        &["--prove", "--diff"],
        &["--seed", "1"],
        &["--prove", "x.log"],
    ] {
        let ran = filter(args, b"");
        assert_eq!((ran.code, ran.out.as_str()), (64, ""), "{args:?}: {}", ran.err);
    }
}

#[test]
fn what_the_configuration_lets_stay_is_counted_by_its_reason() {
    let place = Place::new();
    let value = "dGhpcyBpcyBhIHRlc3QgdmFsdWU=";
    place.configure("search: {type: elasticsearch, endpoint: URL}", "");
    let config = place.path("config.yaml");
    let args = ["--hash", "--config", config.to_str().unwrap()];
    let hash = filter(&args, value.as_bytes());
    assert_eq!((hash.code, hash.out.len()), (0, 26), "{}", hash.err);
    assert_eq!(filter(&args, format!("{value}\n").as_bytes()).out, hash.out);
    let more = format!(
        "redact:\n  actions: {{jwt: mask}}\n  allow:\n    - {{reason: a value of the tests, value: {}}}\n    \
         - {{reason: none, path: requestObject.none}}\n",
        hash.out.trim()
    );
    place.configure("search: {type: elasticsearch, endpoint: URL}", &more);
    let other = "YW5vdGhlciB2YWx1ZSB0aGF0IG11c3QgZ28=";
    let text = [secret_event(1, value), secret_event(2, other), telling_event()].join("\n") + "\n";
    let ran = filter(&["--stats", "--config", config.to_str().unwrap()], text.as_bytes());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains(value) && !ran.out.contains(other), "{}", ran.out);
    assert!(ran.out.contains("no such token: redacted:jwt\""), "{}", ran.out);
    // In its request and in its response.
    assert!(ran.err.contains("; allowed a value of the tests 2; failed closed nothing"), "{}", ran.err);
    let input = place.write("log", text);
    let shipped = place.ship(&[], &[&input], b"");
    assert_eq!(shipped.assert_clean().get("search", "allowed/a value of the tests"), 2);
}

#[test]
fn a_hash_that_would_match_nothing_is_refused() {
    let place = Place::new();
    let state = format!("state_dir: {}", place.path("none").display());
    let config = place.write("no-key.yaml", format!("{state}\noutputs: {{out: {{type: stdout}}}}\n"));
    let ran = filter(&["--hash", "--config", config.to_str().unwrap()], b"hunter2");
    assert_eq!((ran.code, ran.out.as_str()), (64, ""), "{}", ran.err);
    assert!(ran.err.contains("no master key found") && !ran.err.contains("hunter2"), "{}", ran.err);
    place.configure("search: {type: stdout}", "");
    let config = place.path("config.yaml");
    let ran = filter(&["--hash", "--config", config.to_str().unwrap()], b"\n");
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
}
