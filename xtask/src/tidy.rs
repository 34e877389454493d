//! `cargo xtask tidy`: the house rules that no compiler knows, each with its table. CONTRIBUTING.md has the reasons.
//!
//! A rule on text looks at text: it may be fooled by who wants to fool it, which is what reviews are for.

use crate::{links, repo};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Hub and spokes: who may depend on whom. A crate that is not here may depend on no other.
const ARROWS: &[(&str, &[&str])] = &[
    ("auditship-event", &[]),
    ("auditship-rule", &["auditship-event"]),
    ("auditship-tail", &["auditship-event"]),
    ("auditship-ship", &["auditship-event"]),
    ("auditship-redact", &["auditship-event", "auditship-rule"]),
    ("auditship-route", &["auditship-event", "auditship-rule"]),
    ("auditship-fuzz", &["auditship-event", "auditship-redact", "auditship-tail"]),
    (
        "auditship",
        &[
            "auditship-event",
            "auditship-rule",
            "auditship-tail",
            "auditship-ship",
            "auditship-redact",
            "auditship-route",
        ],
    ),
];

/// The only product files that may touch the world. `*` stands for one file name without its extension.
const DOORS: &[&str] = &[
    "crates/tail/src/files.rs",
    "crates/tail/src/watch.rs",
    "crates/tail/src/store.rs",
    "crates/ship/src/aws/chain.rs",
    "crates/ship/src/client.rs",
    "crates/ship/src/probe.rs",
    "crates/ship/src/store.rs",
    "crates/ship/src/shipper.rs",
    "crates/ship/src/tls.rs",
    "crates/agent/src/admin.rs",
    "crates/agent/src/agent.rs",
    "crates/agent/src/consumer.rs",
    "crates/agent/src/doctor/look.rs",
    "crates/agent/src/doctor/tree.rs",
    "crates/agent/src/inflight.rs",
    "crates/agent/src/outputs.rs",
    "crates/agent/src/receiver.rs",
    "crates/agent/src/commands/*.rs",
    "crates/agent/src/config/files.rs",
    "xtask/src/*.rs",
    "xtask/src/apiserver/*.rs",
    "xtask/src/backends/*.rs",
    "xtask/src/chart/*.rs",
    "xtask/src/image/*.rs",
];

/// What makes a file a door.
const DOOR_MARK: &str = "expect(clippy::disallowed_methods";

/// Calls that belong into a door. `clippy.toml` has the whole list; these are looked for as text too, because a
/// renamed import or a generic call gets past it.
const DOOR_CALLS: &[&str] = &["SystemTime::now", "Instant::now", "File::open", "env::var", "TcpStream"];

/// Where a body may be declared fit to leave.
const VOUCH: &str = concat!("Body::", "redacted(");
const MAY_VOUCH: &[&str] = &["crates/redact/src/"];
/// Where a body may be made of another one.
const TRIM: &str = concat!("Body::", "trimmed(");
const MAY_TRIM: &[&str] = &["crates/ship/src/bare.rs", "crates/ship/src/trim.rs"];
/// Where only tests may.
const MAY_VOUCH_IN_TESTS: &[&str] = &["crates/event/", "crates/ship/"];

/// What no source file may hold, and what to do instead.
const UNWANTED: &[(&str, &str)] = &[
    (concat!("todo", "!("), "finish it, or leave it out"),
    (concat!("#[", "ignore"), "a test runs or is deleted"),
];

/// The same in any text file: paths of one machine.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];

const FILE_MAX_LINES: usize = 800;
const TESTDATA_MAX_BYTES: u64 = 15_000_000;

/// Checks everything and prints every finding.
pub(crate) fn run() -> Result<()> {
    let mut findings = arrows(&repo::metadata()?);
    let mut testdata_bytes = 0;
    let paths = committed()?;
    for path in &paths {
        let file = repo::root().join(path);
        // Deleted, but not yet committed as deleted; or a link to nowhere.
        let Ok(bytes) = std::fs::read(&file) else { continue };
        if path.starts_with("testdata/") {
            testdata_bytes += bytes.len() as u64;
        }
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        findings.extend(machine_paths(path, text));
        if path.ends_with(".rs") {
            findings.extend(Source::new(path, text).findings());
        }
        if path.ends_with(".md") {
            findings.extend(links::findings(path, text, page));
        }
    }
    if testdata_bytes > TESTDATA_MAX_BYTES {
        findings.push(format!("testdata: {testdata_bytes} bytes, more than {TESTDATA_MAX_BYTES}"));
    }
    for finding in &findings {
        println!("{finding}");
    }
    ensure!(findings.is_empty(), "{} house rules are broken", findings.len());
    println!("{} files are tidy", paths.len());
    Ok(())
}

/// The text of a file of the repository, for who follows a link; empty for what is no text.
fn page(path: &str) -> Option<String> {
    let file = repo::root().join(path);
    if file.is_dir() {
        Some(String::new())
    } else {
        std::fs::read(file).ok().map(|b| String::from_utf8_lossy(&b).into_owned())
    }
}

/// Every file that is committed or would be, relative to the root.
fn committed() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(repo::root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let list = repo::output(&mut git).context("list the files of the repository")?;
    let mut paths: Vec<String> = list.split_terminator('\0').map(str::to_owned).collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// Dependencies, of every kind, between crates of the workspace which the table does not allow.
fn arrows(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let members: Vec<String> = packages.iter().map(name).collect();
    let mut findings = Vec::new();
    for package in packages {
        let from = name(package);
        let allowed = ARROWS.iter().find(|(of, _)| *of == from).map_or(&[][..], |(_, allowed)| allowed);
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = name(dependency);
            if members.contains(&to) && !allowed.contains(&to.as_str()) {
                findings.push(format!("{from}: must not depend on {to}"));
            }
        }
    }
    findings
}

fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for unwanted in MACHINE_PATHS {
            // A folder of that name inside a longer path, or in a URL, is another thing.
            let absolute = line.match_indices(unwanted).any(|(at, _)| {
                !line[..at]
                    .ends_with(|before: char| before.is_ascii_alphanumeric() || "._-~}".contains(before))
            });
            if absolute {
                findings.push(format!("{path}:{}: a path of one machine, {unwanted}", number + 1));
            }
        }
    }
    findings
}

/// One Rust file, with what its place says about it.
struct Source<'a> {
    path: &'a str,
    text: &'a str,
    /// Where the tests begin; the end where there are none, the beginning in a test file.
    tests_from: usize,
}

impl<'a> Source<'a> {
    fn new(path: &'a str, text: &'a str) -> Source<'a> {
        let test_file = path.split('/').any(|part| matches!(part, "tests" | "benches" | "fuzz" | "tests.rs"));
        let tests_from = if test_file { 0 } else { tests_start(text) };
        Source { path, text, tests_from }
    }

    fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let mut report = |line: usize, what: &str| findings.push(format!("{}:{line}: {what}", self.path));
        if !self.text.starts_with("//!") {
            report(1, "begins without //!, what the file owns");
        }
        let lines = self.text.lines().count();
        if lines > FILE_MAX_LINES && self.tests_from > 0 {
            report(lines, &format!("longer than {FILE_MAX_LINES} lines"));
        }
        let door = is_door(self.path);
        let mut at = 0;
        for (number, line) in self.text.split_inclusive('\n').enumerate() {
            let test = at >= self.tests_from;
            at += line.len();
            for what in self.line_findings(line, test, door) {
                report(number + 1, &what);
            }
        }
        findings
    }

    fn line_findings(&self, line: &str, test: bool, door: bool) -> Vec<String> {
        let mut findings = Vec::new();
        let code = line.split("//").next().unwrap_or_default();
        if !test && !door && code.contains(DOOR_MARK) {
            findings.push("declares itself a door; the doors are listed in xtask/src/tidy.rs".to_owned());
        }
        for call in DOOR_CALLS.iter().filter(|call| !test && !door && names(code, call)) {
            findings.push(format!("{call} outside a door"));
        }
        let under = |places: &[&str]| places.iter().any(|place| self.path.starts_with(place));
        let vouches = code.contains(VOUCH) && !under(MAY_VOUCH) && !(test && under(MAY_VOUCH_IN_TESTS));
        if vouches {
            findings.push(format!("{VOUCH}…) outside crates/redact: only redaction may say what leaves"));
        }
        if code.contains(TRIM) && !under(MAY_TRIM) && !(test && under(MAY_VOUCH_IN_TESTS)) {
            findings.push(format!("{TRIM}…) outside crates/ship/src/trim.rs: it makes a body of any bytes"));
        }
        for (unwanted, instead) in UNWANTED.iter().filter(|(unwanted, _)| code.contains(unwanted)) {
            findings.push(format!("{unwanted}: {instead}"));
        }
        // An attribute over several lines has its reason on another; clippy asks for that one.
        if ["#[", "#!["].iter().any(|open| code.contains(&format!("{open}{}", "allow(")))
            && code.contains(")]")
            && !code.contains("reason")
        {
            findings.push("a bare allow: use expect with a reason".to_owned());
        }
        findings
    }
}

/// Where `#[cfg(test)] mod …` begins, which is the last thing in a file.
fn tests_start(text: &str) -> usize {
    text.match_indices("#[cfg(test)]")
        .find(|(at, mark)| {
            let rest = text[at + mark.len()..].trim_start();
            let item = rest.lines().next().unwrap_or_default();
            let module = ["mod ", "pub mod ", "pub(crate) mod ", "pub(super) mod "];
            item.contains('{') && module.iter().any(|module| item.starts_with(module))
        })
        .map_or(text.len(), |(at, _)| at)
}

fn is_door(path: &str) -> bool {
    DOORS.iter().any(|door| match door.split_once('*') {
        None => *door == path,
        Some((before, after)) => path
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            .is_some_and(|name| Path::new(name).components().count() == 1),
    })
}

/// Whether `code` holds `call` as a word of its own: `tokio::fs::File::open` yes, `ProfileFile::opened` no.
fn names(code: &str, call: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(call).any(|(at, _)| {
        !code[..at].ends_with(word)
            && !code[at + call.len()..].starts_with(|c| word(c) && !call.ends_with("var"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(path: &str, text: &str, want: &[&str]) {
        let found = Source::new(path, text).findings();
        assert_eq!(found.len(), want.len(), "{path}: {found:?}");
        for (found, want) in found.iter().zip(want) {
            assert!(found.contains(want), "{found} does not say {want}");
        }
    }

    #[test]
    fn doors() {
        let call = "//! A file.\nlet now = Instant::now();\n";
        check("crates/tail/src/follow.rs", call, &["crates/tail/src/follow.rs:2: Instant::now"]);
        check("crates/tail/src/files.rs", call, &[]);
        check("crates/agent/src/commands/check.rs", call, &[]);
        check("crates/agent/src/commands/deep/check.rs", call, &["Instant::now"]);
        check("crates/tail/tests/it/follow.rs", call, &[]);
        let tested =
            "//! A file.\nfn f() {}\n#[cfg(test)]\nmod tests {\n    let s = TcpStream::connect(a);\n}\n";
        check("crates/tail/src/follow.rs", tested, &[]);
        let early = "//! A file.\n#[cfg(test)]\nmod model;\nlet v = std::env::vars();\n";
        check("crates/tail/src/follow.rs", early, &["env::var"]);
        let marked = format!("//! A file.\n#![{DOOR_MARK}, reason = \"x\")]\n");
        check("crates/redact/src/edit.rs", &marked, &["declares itself a door"]);
        check("crates/ship/src/client.rs", &marked, &[]);
        check(
            "crates/ship/src/sink.rs",
            "//! A file.\n// Instant::now is not for us\nMyInstant::now_or();\n",
            &[],
        );
    }

    #[test]
    fn vouching_for_bodies() {
        let call = format!("//! A file.\nlet body = {VOUCH}line, &edits);\n");
        check("crates/redact/src/redactor.rs", &call, &[]);
        check("crates/agent/src/pipeline.rs", &call, &["outside crates/redact"]);
        check("crates/ship/src/batch.rs", &call, &["outside crates/redact"]);
        check("crates/ship/tests/it/laws.rs", &call, &[]);
        let tested = format!("//! A file.\n#[cfg(test)]\nmod tests {{\n    {VOUCH}l, e);\n}}\n");
        check("crates/event/src/record.rs", &tested, &[]);
        check("crates/route/src/keep.rs", &tested, &["outside crates/redact"]);
    }

    #[test]
    fn small_rules() {
        check("crates/rule/src/lib.rs", "fn f() {}\n", &["begins without //!"]);
        check(
            "crates/rule/src/lib.rs",
            &("//! A file.\n".to_owned() + &"\n".repeat(800)),
            &["longer than 800"],
        );
        check("crates/rule/tests/it/main.rs", &("//! A file.\n".to_owned() + &"\n".repeat(800)), &[]);
        let bare =
            format!("//! A file.\n#[{}dead_code)]\n#[{}dead_code, reason = \"x\")]\n", "allow(", "allow(");
        check("crates/rule/src/lib.rs", &bare, &["2: a bare allow"]);
        for (unwanted, _) in UNWANTED {
            check("crates/rule/src/lib.rs", &format!("//! A file.\n{unwanted}\n"), &[unwanted]);
        }
    }

    #[test]
    fn paths_of_one_machine() {
        let [first, second] = MACHINE_PATHS else { panic!("two paths") };
        let text = format!("see {first}x\nhttps://example.com{first}x\n\"{second}.cache\"\nnetwork/\n");
        assert_eq!(machine_paths("README.md", &text).len(), 2);
    }

    #[test]
    fn hub_and_spokes() {
        let package = |name: &str, on: &[&str]| {
            let on: Vec<Value> = on.iter().map(|name| json!({"name": name})).collect();
            json!({"name": name, "dependencies": on})
        };
        let workspace = |packages: &[Value]| arrows(&json!({"packages": packages}));
        let event = package("auditship-event", &["memchr"]);
        let rule = package("auditship-rule", &["auditship-event"]);
        let tail = package("auditship-tail", &["auditship-event", "auditship-rule"]);
        let xtask = package("xtask", &["auditship-event", "clap"]);
        assert_eq!(workspace(&[event.clone(), rule.clone()]), Vec::<String>::new());
        assert_eq!(
            workspace(&[event, rule, tail, xtask]),
            [
                "auditship-tail: must not depend on auditship-rule",
                "xtask: must not depend on auditship-event"
            ]
        );
    }
}
