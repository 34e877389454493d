//! `cargo xtask fields`: the table of all fields of Kubernetes' own types that could hold a credential, each with what
//! redaction does about it.
//!
//! The Go program in `xtask/fields` lists the fields; the verdicts are written by hand and stay. A field without a
//! verdict is written with `?`, which the tests of `crates/redact` refuse: a new version's new field is a failing test
//! and not a leak.

use crate::{go, repo};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::process::Command;

/// The table, relative to the root.
const TABLE: &str = "crates/redact/tests/it/fields.tsv";

/// The modules that have one version with Kubernetes: 0.37.2 belongs to 1.37.2.
const MODULES: &[&str] = &["apiextensions-apiserver", "apiserver", "client-go", "kube-aggregator"];

/// What is written where nobody has decided yet.
const OPEN: &str = "?";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail where a field has no verdict, or where the table is not current.
    #[arg(long)]
    check: bool,
    /// Take this version of Kubernetes' modules from now on, for example 0.38.0.
    #[arg(long, conflicts_with = "check")]
    kubernetes: Option<String>,
}

/// Renews or checks the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(version) = &args.kubernetes {
        take(version)?;
    }
    let lister = match go::build("fields")? {
        Ok(lister) => lister,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    let listed = repo::output(&mut Command::new(lister))?;
    let path = repo::root().join(TABLE);
    let current = std::fs::read_to_string(&path).unwrap_or_default();
    let renewed = table(&listed, &verdicts(&current));
    let open: Vec<&str> = renewed.lines().filter(|line| line.ends_with(&format!("\t{OPEN}"))).collect();
    for line in &open {
        println!("no verdict: {line}");
    }
    if args.check {
        ensure!(open.is_empty(), "{} fields have no verdict", open.len());
        ensure!(renewed == current, "{TABLE} is not current, run `cargo xtask fields`");
        println!("{TABLE}: current");
    } else {
        std::fs::write(&path, &renewed).with_context(|| format!("write {TABLE}"))?;
        println!("{TABLE}: {} fields, {} without verdict", renewed.matches("\nfield\t").count(), open.len());
    }
    Ok(())
}

/// Moves the Go program to another version of Kubernetes.
fn take(version: &str) -> Result<()> {
    let source = go::source("fields");
    // What is required now would hold the rest back, or be held back by it, when going to an older version.
    let file = source.join("go.mod");
    let text = std::fs::read_to_string(&file)?;
    let head = text.split("\nrequire").next().unwrap_or_default();
    std::fs::write(&file, format!("{}\n", head.trim_end()))?;
    let modules =
        MODULES.iter().map(|module| format!("k8s.io/{module}@v{}", version.trim_start_matches('v')));
    repo::run(go::go(&source, &["get"]).args(modules))?;
    repo::run(&mut go::go(&source, &["mod", "tidy"]))
}

/// The verdicts of a table, by everything before them but the type.
fn verdicts(table: &str) -> BTreeMap<String, String> {
    let fields = table.lines().filter_map(|line| line.strip_prefix("field\t")?.rsplit_once('\t'));
    fields.map(|(field, verdict)| (key(field).to_owned(), verdict.to_owned())).collect()
}

/// A field's kind, resource and path.
fn key(field: &str) -> &str {
    field.rsplit_once('\t').map_or(field, |(key, _)| key)
}

/// The table as it is written: what was listed, and the verdicts.
fn table(listed: &str, verdicts: &BTreeMap<String, String>) -> String {
    let mut out = String::from(HEAD);
    for line in listed.lines() {
        out.push_str(line);
        if let Some(field) = line.strip_prefix("field\t") {
            out.push('\t');
            out.push_str(verdicts.get(key(field)).map_or(OPEN, String::as_str));
        }
        out.push('\n');
    }
    out
}

/// What stands before the lines.
const HEAD: &str = "\
# All fields of Kubernetes' own types that could hold a credential. `cargo xtask fields` lists them (xtask/fields/main.go
# says which); the last column is written by hand, and kept. Fields of a fragment are listed once; places say where it
# stands.
#
# redacted  what stands there goes, whatever it is
# detected  what stands there goes where its key, its name or its form tells that it is a credential
# text      free text: what is a credential by its form goes
# digest    a public certificate: a digest and a length stand in its place
# public    an identifier, a reference, a setting, a public key: it stays
#
# place\tkind\tresource\tpath\tfragment
# field\tkind\tresource\tpath\ttype\tverdict
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_kept_and_new_fields_are_open() {
        let listed = "field\tcore/Secret\tsecrets\tdata.*\tbytes\nplace\ta\tb\tc\td\nversion\tv0.1.0\n";
        let first = table(listed, &BTreeMap::new());
        assert!(
            first.contains("\nfield\tcore/Secret\tsecrets\tdata.*\tbytes\t?\nplace\ta\tb\tc\td\nversion")
        );
        let decided = first.replace("\t?", "\tredacted");
        assert_eq!(table(listed, &verdicts(&decided)), decided);
        // A change of type alone asks nothing.
        let changed = listed.replace("bytes", "string") + "field\tcore/Secret\tsecrets\tnew\tstring\n";
        let renewed = table(&changed, &verdicts(&decided));
        assert!(renewed.contains("data.*\tstring\tredacted\n") && renewed.ends_with("new\tstring\t?\n"));
    }
}
