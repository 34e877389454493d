//! `cargo bench -p auditship-redact`: what the whole default redaction costs, beside building a document tree of the
//! same bytes with `serde_json`, in the same run.
//!
//! Every figure is CPU time of this thread (not wall time), the least of several rounds over the same lines. Logs are
//! those of `testdata/`, or the files that are named as arguments (plain or `.gz`). `-- --profile` redacts the first
//! one over and over, for a profiler to look at.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads files and its own CPU clock")]

use auditship_event::Keys;
use auditship_redact::{Catalogue, RedactConfig, Redactor, Scratch};
use std::io::Read;
use std::path::{Path, PathBuf};

/// So many bytes take long enough to be measured.
const ENOUGH: usize = 16 << 20;

/// Rounds over the lines; the fastest counts.
const ROUNDS: usize = 7;

fn main() {
    let mut paths: Vec<PathBuf> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).map(PathBuf::from).collect();
    if paths.is_empty() {
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
        paths = ["requestresponse.jsonl.gz", "audit.jsonl.gz"].map(|name| testdata.join(name)).into();
    }
    if std::env::args().any(|arg| arg == "--profile") {
        println!("{:.0} MB/s", bytes_per_second(&read(&paths[0]), &redactor()) / 1e6);
        return;
    }
    println!(
        "| log | MB | serde_json tree MB/s | redaction MB/s | times as fast | parse only MB/s | edits a line |"
    );
    println!(
        "|-----|---:|---------------------:|---------------:|--------------:|----------------:|-------------:|"
    );
    for path in &paths {
        measure(&path.file_name().unwrap_or_default().display().to_string(), &read(path));
    }
    if let Some(last) = paths.last() {
        measure("the same, at rest", &at_rest(&read(last)));
    }
    println!();
    println!("| worst cases, 1 MB a line | MB/s | times the cost of a byte of the first log |");
    println!("|--------------------------|-----:|------------------------------------------:|");
    let base = bytes_per_second(&read(&paths[0]), &redactor());
    for (name, line) in worst() {
        let speed = bytes_per_second(&line, &redactor());
        println!("| {name:24} | {:4.0} | {:41.1} |", speed / 1e6, base / speed);
    }
}

fn redactor() -> Redactor {
    let config = RedactConfig { catalogue: Catalogue::Default, ..RedactConfig::default() };
    Redactor::new(&config, Keys::derive(b"a key for the benchmark", "bench")).expect("the default is valid")
}

fn measure(name: &str, log: &[u8]) {
    let redactor = redactor();
    let lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let megabytes = log.len() as f64 / 1e6;
    let tree = least(|| {
        for line in &lines {
            // One line of the corpus holds a number that serde_json refuses.
            std::hint::black_box(serde_json::from_slice::<serde_json::Value>(line).ok());
        }
    });
    let redaction = log.len() as f64 / bytes_per_second(log, &redactor);
    let look = least(|| {
        let mut scratch = Scratch::default();
        for line in &lines {
            if let Some(looked) = redactor.look(line, &mut scratch) {
                redactor.forget(std::hint::black_box(looked), &mut scratch);
            }
        }
    });
    let edits: u64 = {
        let mut scratch = Scratch::default();
        redact(&redactor, &lines, &mut scratch, &mut Vec::new());
        scratch.counts().iter().sum()
    };
    println!(
        "| {name} | {megabytes:.1} | {:.0} | {:.0} | {:.1} | {:.0} | {:.2} |",
        megabytes / tree,
        megabytes / redaction,
        tree / redaction,
        megabytes / look,
        edits as f64 / lines.len() as f64,
    );
}

fn bytes_per_second(log: &[u8], redactor: &Redactor) -> f64 {
    let lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    // The clock is coarse: one line is too little.
    let times = (ENOUGH / log.len()).max(1);
    // Each round begins without a memory of what was seen before.
    let seconds = least(|| {
        let (mut scratch, mut out) = (Scratch::default(), Vec::new());
        (0..times).for_each(|_| redact(redactor, &lines, &mut scratch, &mut out));
    });
    (log.len() * times) as f64 / seconds
}

/// Looks through every line and writes what may leave.
fn redact(redactor: &Redactor, lines: &[&[u8]], scratch: &mut Scratch, out: &mut Vec<u8>) {
    for line in lines {
        if let Some(looked) = redactor.look(line, scratch) {
            out.clear();
            if let Ok(body) = redactor.body_of(&looked, scratch) {
                body.write(out);
            }
            std::hint::black_box(&out);
            redactor.forget(looked, scratch);
        }
    }
}

/// A hundred events from the middle of `log` over and over, each time with other IDs and times: a cluster at rest, where
/// the same agents ask the same things every few seconds.
fn at_rest(log: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let few: Vec<&[u8]> = lines.into_iter().skip(3000).filter(|line| line.len() < 4096).take(100).collect();
    let mut rest = Vec::with_capacity(ENOUGH + (1 << 20));
    for round in 0u32.. {
        if rest.len() >= ENOUGH || few.is_empty() {
            break;
        }
        for line in &few {
            let begin = rest.len();
            rest.extend_from_slice(line);
            rest.push(b'\n');
            let digits = format!("{round:06}");
            for (name, at) in [
                ("\"auditID\":\"", 0),
                ("\"requestReceivedTimestamp\":\"", 20),
                ("\"stageTimestamp\":\"", 20),
            ] {
                if let Some(found) = memchr::memmem::find(line, name.as_bytes()) {
                    let at = begin + found + name.len() + at;
                    rest[at..at + digits.len()].copy_from_slice(digits.as_bytes());
                }
            }
        }
    }
    rest
}

fn least(mut work: impl FnMut()) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let before = cpu_seconds();
        work();
        cpu_seconds() - before
    });
    rounds.fold(f64::INFINITY, f64::min)
}

/// CPU time of this thread.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn read(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if path.extension().is_some_and(|last| last == "gz") {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&*bytes).read_to_end(&mut plain).expect("a whole gzip file");
        return plain;
    }
    bytes
}

/// Lines of one megabyte that are made to be slow.
fn worst() -> Vec<(&'static str, Vec<u8>)> {
    const SIZE: usize = 1 << 20;
    let within = |body: String| {
        format!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a","stage":"ResponseComplete","requestURI":"/x","verb":"create","user":{{"username":"u"}},"requestObject":{{"a":{body}}}}}"#
        )
        .into_bytes()
    };
    let text = |piece: &str| within(format!("\"{}\"", piece.repeat(SIZE / piece.len())));
    let list = |item: &str| within(format!("[{}0]", item.repeat(SIZE / item.len())));
    let mut nested = "x".to_owned();
    for _ in 0..12 {
        nested = serde_json::json!({ "data": nested, "password": "" }).to_string();
    }
    let nested = serde_json::to_string(&nested).expect("a string");
    let mut either = "token: x".to_owned();
    for _ in 0..6 {
        // At each level it may be opened as JSON or as percent-encoded words first.
        either = percent(&serde_json::json!({ "a": either, "b": "c%20d \"e%22" }).to_string());
    }
    let either = serde_json::to_string(&either).expect("a string");
    vec![
        ("almost names", text("password= token: ")),
        ("almost tokens", text("eyJ.ghp_xoxb-AKIA")),
        ("almost URLs", text("https://a:b ")),
        ("telling keys", list(r#"{"password":"","token":null},"#)),
        ("names and values", list(r#"{"name":"TOKEN","n":1},"#)),
        ("base64 strings", list(r#""QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=","#)),
        ("JSON in strings", list(r#""{\"a\":{\"kind\":\"Secret\",\"data\":{}}}","#)),
        ("deep JSON in strings", list(&format!("{nested},"))),
        ("quoted and percent-encoded", list(&format!("{either},"))),
        ("brackets", within(format!("{}{}", "[".repeat(100), "]".repeat(100)).repeat(1) + "")),
        ("escapes", text(r"\u0070\u0061\u0073s ")),
        ("slowest of the beginnings", slowest(&text)),
    ]
}

/// `text` with everything percent-encoded that is no letter, digit or space.
fn percent(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' => c.to_string(),
            other => format!("%{:02X}", u32::from(other)),
        })
        .collect()
}

/// Of lines that are one beginning of a match after another, the slowest: none may be quadratic.
fn slowest(text: &impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let redactor = redactor();
    let lines = BEGINNINGS.iter().map(|piece| text(piece));
    let speed = |line: &Vec<u8>| bytes_per_second(line, &redactor);
    lines
        .map(|line| (speed(&line), line))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, line)| line)
        .unwrap_or_default()
}

const BEGINNINGS: &[&str] = &[
    "password: ",
    "password=",
    "token: ",
    "--token ",
    "x://",
    "x://a:",
    "eyJ",
    "eyJ.",
    "Basic ",
    "ghp_",
    "-----BEGIN ",
    "-----BEGIN PRIVATE KEY-----",
    "mysql -",
    "Invalid value: ",
    "/proxy/",
    "T3BlbkFJ",
    "/env/0/value",
    "password' ",
    "\\\"name\\\":\\\"token\\\",",
    "\\\"value\\\":\\\"x\\\",\\\"name\\\":\\\"token\\\",",
    "\\\"password\\\":\\\"",
    "\\\\\\\"token\\\\\\\":",
];
