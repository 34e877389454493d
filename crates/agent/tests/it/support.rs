//! What the tests share: a place to run the binary in, events to ship, and the ledger read back.
//!
//! Waiting is polling with a deadline; nothing here depends on how fast the machine is, short of [`PATIENCE`].

use auditship_agent::receiver::{Options, Receiver};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing takes this long unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The index that all tests ship to.
pub const INDEX: &str = "audit";

/// The binary, without what the tester's environment would tell it.
pub fn auditship() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditship"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AUDITSHIP__") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs `command` to its end with `input` on its standard input.
pub fn run(command: &mut Command, input: &[u8]) -> Ran {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A command that does not read its input is no mistake of ours.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    });
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A temporary directory with a key, and a receiver.
pub struct Place {
    dir: TempDir,
    pub receiver: Receiver,
}

impl Place {
    /// A place whose receiver takes everything.
    pub fn new() -> Place {
        Place::with(Options::default())
    }

    /// A place whose receiver behaves as told.
    pub fn with(options: Options) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap(), receiver: Receiver::start(options).unwrap() };
        place.write("key", [7; 32]);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, and makes the directories above it.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes `config.yaml`: one input, everything to every output. `outputs` are lines of the outputs' map, in
    /// which `URL` stands for the receiver and `DIR` for the directory.
    pub fn configure(&self, outputs: &str, more: &str) -> PathBuf {
        let outputs = outputs.replace("URL", &self.receiver.url());
        let names: Vec<&str> =
            outputs.lines().filter_map(|line| line.trim().split_once(':')).map(|(n, _)| n).collect();
        let text = format!(
            "cluster: test\nstate_dir: DIR/state\nkey_file: DIR/key\n\
             inputs:\n  api: {{type: file, path: DIR/log/audit.log}}\n\
             routes: [{{name: all, index: {INDEX}, outputs: [{}]}}]\n\
             outputs:\n{}\n{more}\n",
            names.join(", "),
            outputs.lines().map(|line| format!("  {}", line.trim())).collect::<Vec<_>>().join("\n"),
        );
        let text = text.replace("DIR", &self.dir.path().to_string_lossy());
        let text = if more.contains("admin:") { text } else { text + "admin: {listen: null}\n" };
        self.write("config.yaml", text)
    }

    /// `auditship ship --json` over `paths`, with `input` on standard input.
    pub fn ship(&self, args: &[&str], paths: &[&Path], input: &[u8]) -> Shipped {
        let mut command = auditship();
        command.current_dir(self.dir.path()).args(["ship", "--json", "--config", "config.yaml"]);
        let ran = run(command.args(args).args(paths), input);
        let report = serde_json::from_str(&ran.out).unwrap_or(Value::Null);
        Shipped { code: ran.code, err: ran.err, report: Report(report) }
    }

    /// What the receiver has, by index [`INDEX`].
    pub fn documents(&self) -> Vec<Value> {
        let documents = self.receiver.documents(INDEX);
        documents.iter().map(|document| serde_json::from_slice(&document.body).unwrap()).collect()
    }

    /// The audit IDs that the receiver has, in the order of arrival.
    pub fn audit_ids(&self) -> Vec<String> {
        self.documents().iter().map(|d| d["auditID"].as_str().unwrap_or("none").to_owned()).collect()
    }

    /// Everything that has left for the receiver, in one piece.
    pub fn left(&self) -> Vec<u8> {
        self.receiver.bodies().concat()
    }

    /// The records of the archive in the directory `name`.
    pub fn archive(&self, name: &str) -> Vec<Value> {
        archive(&self.path(name))
    }
}

/// How `ship` ended.
#[derive(Debug)]
pub struct Shipped {
    pub code: i32,
    pub err: String,
    pub report: Report,
}

impl Shipped {
    /// Asserts that all went well: exit code 0, everything delivered or accounted for, nothing open or lost.
    #[track_caller]
    pub fn assert_clean(&self) -> &Report {
        assert_eq!(self.code, 0, "{self:?}");
        self.report.assert_law();
        for (name, account) in self.report.outputs() {
            assert_eq!(
                (figure(&account["open"]), figure(&account["lost_bytes"])),
                (0, 0),
                "{name}: {account:#}"
            );
        }
        &self.report
    }
}

/// The ledger as `--json` and `/status` print it.
#[derive(Debug)]
pub struct Report(pub Value);

impl Report {
    pub fn outputs(&self) -> Vec<(String, Value)> {
        let outputs = self.0["consumers"].as_object();
        outputs.into_iter().flatten().map(|(name, account)| (name.clone(), account.clone())).collect()
    }

    /// The law, for every output, computed here and not by the program.
    #[track_caller]
    pub fn assert_law(&self) {
        let outputs = self.outputs();
        assert!(!outputs.is_empty(), "no ledger: {:?}", self.0);
        for (name, account) in outputs {
            let settled: u64 = [
                "delivered",
                "dropped",
                "thinned",
                "rolled_up",
                "elsewhere",
                "unrouted",
                "skipped",
                "dead_lettered",
                "open",
            ]
            .iter()
            .map(|word| figure(&account[word]))
            .sum();
            assert_eq!(
                account["read"]["lines"], settled,
                "the ledger of {name} does not add up: {account:#}"
            );
        }
    }

    /// One figure of one output: `"delivered"`, or `"skipped/klog"`.
    pub fn get(&self, output: &str, path: &str) -> u64 {
        let account = &self.0["consumers"][output];
        figure(path.split('/').fold(account, |value, word| &value[word]))
    }
}

/// A number, the sum of a map of numbers, or nothing.
fn figure(value: &Value) -> u64 {
    match value {
        Value::Object(map) => map.values().map(figure).sum(),
        other => other.as_u64().unwrap_or(0),
    }
}

/// An agent (`auditship run`) in a place; killed when dropped.
pub struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts it with the place's `config.yaml`.
    pub fn start(place: &Place) -> Agent {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let log = place.path(&format!("agent-{count}.err"));
        let child = auditship()
            .current_dir(place.dir.path())
            .args(["run", "--config", "config.yaml"])
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Agent { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        poll(&format!("{text:?} in the log"), || self.log().contains(text), || self.log());
    }

    /// Waits until `done`; shows the log if that never comes.
    #[track_caller]
    pub fn until(&self, what: &str, done: impl FnMut() -> bool) {
        poll(what, done, || self.log());
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM, and its exit code.
    #[track_caller]
    pub fn stop(mut self) -> i32 {
        self.signal(rustix::process::Signal::TERM);
        let mut status: Option<ExitStatus> = None;
        let log = self.log.clone();
        poll(
            "the agent's end",
            || {
                status = self.child.try_wait().unwrap();
                status.is_some()
            },
            || std::fs::read_to_string(&log).unwrap(),
        );
        status.and_then(|status| status.code()).unwrap_or(-1)
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The address of its admin listener (`admin: {listen: 127.0.0.1:0}`).
    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        self.wait_log("admin listener");
        let log = self.log();
        let line = log.lines().find(|line| line.contains("admin listener")).unwrap();
        let word = line.split_whitespace().find_map(|word| word.strip_prefix("address=")).unwrap();
        word.parse().unwrap()
    }

    /// Asks its admin listener: the status code and the body.
    #[track_caller]
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(!head.to_lowercase().contains("transfer-encoding: chunked"), "{head}");
        (code, body.to_owned())
    }

    /// The ledger as `/status` gives it.
    #[track_caller]
    pub fn status(&self) -> Report {
        Report(serde_json::from_str(&self.get("/status").1).unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done`, and fails with `context` if that takes too long.
#[track_caller]
pub fn poll(what: &str, mut done: impl FnMut() -> bool, context: impl FnOnce() -> String) {
    let started = Instant::now();
    while !done() {
        if started.elapsed() > PATIENCE {
            panic!("waited {PATIENCE:?} for {what}\n{}", context());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An audit event, as the API server writes it, with the number `n`.
pub fn event(n: usize) -> String {
    event_with(n, "")
}

/// The audit ID of event `n`.
pub fn audit_id(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

/// An audit event with more members, such as `"requestObject":{…},`.
pub fn event_with(n: usize, members: &str) -> String {
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"{}","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/configmaps","verb":"create","user":{{"username":"alice@example.com","groups":["developers"]}},"sourceIPs":["192.0.2.10"],"userAgent":"kubectl/v1.35.1","objectRef":{{"resource":"configmaps","namespace":"shop","name":"n-{n}","apiVersion":"v1"}},"responseStatus":{{"metadata":{{}},"code":201}},{members}"requestReceivedTimestamp":"2026-11-24T00:33:57.317967Z","stageTimestamp":"2026-11-24T00:33:57.363042Z"}}"#,
        audit_id(n)
    )
}

/// An event that creates a Secret whose `data` holds `value`.
pub fn secret_event(n: usize, value: &str) -> String {
    let body = format!(
        r#"{{"kind":"Secret","apiVersion":"v1","metadata":{{"name":"s"}},"data":{{"password":"{value}"}},"type":"Opaque"}}"#
    );
    event_with(n, &format!(r#""requestObject":{body},"responseObject":{body},"#))
        .replace(r#""resource":"configmaps""#, r#""resource":"secrets""#)
}

/// Events `from..to` as lines.
pub fn events(range: std::ops::Range<usize>) -> String {
    range.map(|n| event(n) + "\n").collect()
}

/// A file of `testdata/`, unpacked.
pub fn testdata(name: &str) -> Vec<u8> {
    gunzip(&std::fs::read(testdata_path(name)).unwrap())
}

pub fn testdata_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

/// The lines of `bytes` without their line feeds; a last one without a line feed counts.
pub fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|b| *b == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line)).collect()
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The first stretch of eight bytes of `secret` that is in `text`.
pub fn leak(text: &[u8], secret: &str) -> Option<String> {
    let stretches: BTreeSet<&[u8]> = secret.as_bytes().windows(8).collect();
    let found = text.windows(8).find(|window| stretches.contains(window));
    found.map(|stretch| String::from_utf8_lossy(stretch).into_owned())
}

/// Every file below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A hidden file is not finished: nobody may read it as part of the archive.
fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// The files below `dir` that were never finished.
pub fn unfinished(dir: &Path) -> Vec<PathBuf> {
    files(dir).into_iter().filter(|path| is_unfinished(path)).collect()
}

/// All records of the archive in `dir`, a line each.
pub fn archive_text(dir: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for path in files(dir).into_iter().filter(|path| !is_unfinished(path)) {
        let bytes = std::fs::read(&path).unwrap();
        text.extend(match path.extension().and_then(|extension| extension.to_str()) {
            Some("zst") => zstd::stream::decode_all(&bytes[..]).unwrap(),
            Some("gz") => gunzip(&bytes),
            _ => bytes,
        });
    }
    text
}

/// All records of the archive in `dir`.
pub fn archive(dir: &Path) -> Vec<Value> {
    lines(&archive_text(dir)).into_iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// Asserts that `records` are the events `0..count`, each once, by uid and by audit ID.
#[track_caller]
pub fn assert_exactly(what: &str, records: &[Value], count: usize) {
    let ids: BTreeSet<&str> = records.iter().filter_map(|record| record["auditID"].as_str()).collect();
    let uids: BTreeSet<&str> =
        records.iter().filter_map(|record| record["auditship"]["uid"].as_str()).collect();
    let odd: Vec<&Value> = records.iter().filter(|record| !record["auditID"].is_string()).take(3).collect();
    assert!(odd.is_empty(), "{what}: {odd:#?}");
    let missing: Vec<usize> = (0..count).filter(|n| !ids.contains(&*audit_id(*n))).take(5).collect();
    assert_eq!(
        (records.len(), ids.len(), uids.len(), missing),
        (count, count, count, Vec::new()),
        "{what}: records, ids, uids, first missing"
    );
}

/// Whether the disk of temporary files has the room below which the agent holds no deleted file.
pub fn has_room(what: &str) -> bool {
    let disk = rustix::fs::statvfs(std::env::temp_dir()).unwrap();
    let room = disk.f_bavail * 100 >= disk.f_blocks * 12;
    if !room {
        println!("skipped: {what}: the disk is nearly full");
    }
    room
}

/// Whether the tests run as root; says so where a test is skipped because they do not.
pub fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: {what} needs root");
    }
    root
}

/// The log that the API server writes in a place: appended to, renamed when it is full, begun anew.
pub struct Log {
    dir: PathBuf,
    file: File,
    backups: usize,
    /// How many events have been written.
    pub written: usize,
}

impl Log {
    pub fn create(place: &Place) -> Log {
        let dir = place.path("log");
        std::fs::create_dir_all(&dir).unwrap();
        let file = File::create(dir.join("audit.log")).unwrap();
        Log { dir, file, backups: 0, written: 0 }
    }

    /// Appends the next `count` events, each with one write as the API server does.
    pub fn append(&mut self, count: usize) {
        for n in self.written..self.written + count {
            self.file.write_all((event(n) + "\n").as_bytes()).unwrap();
        }
        self.written += count;
    }

    /// Renames the file as lumberjack does, and creates the next; returns the backup's path.
    pub fn rotate(&mut self) -> PathBuf {
        self.backups += 1;
        let backup = self.dir.join(format!("audit-2026-11-24T00-33-57.{:03}.log", self.backups));
        let live = self.dir.join("audit.log");
        std::fs::rename(&live, &backup).unwrap();
        self.file = File::create(live).unwrap();
        backup
    }
}
