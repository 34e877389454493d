//! `cargo xtask docs`: the pages that are generated from the code.

use crate::repo;
use anyhow::{Context, Result, ensure};
use std::process::Stdio;

/// A page and the command of the agent that prints it.
const PAGES: &[(&str, &[&str])] = &[
    ("docs/configuration.schema.json", &["schema"]),
    ("docs/redaction.md", &["docs", "redaction"]),
    ("docs/shapes.md", &["docs", "shapes"]),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail where a page differs from what would be written.
    #[arg(long)]
    check: bool,
}

/// Fails where a page is not current.
pub(crate) fn check() -> Result<()> {
    run(&Args { check: true })
}

/// Writes or checks every page.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut stale = Vec::new();
    for (page, command) in PAGES {
        let mut agent = repo::cargo();
        agent.args(["run", "--quiet", "--package", "auditship", "--"]).args(*command).stdin(Stdio::null());
        let text = repo::output(&mut agent)?;
        let path = repo::root().join(page);
        // A page that was never written is as stale as one that differs.
        if std::fs::read_to_string(&path).is_ok_and(|current| current == text) {
            println!("{page}: current");
        } else if args.check {
            stale.push(*page);
        } else {
            std::fs::create_dir_all(repo::root().join("docs")).context("make docs")?;
            std::fs::write(&path, text).with_context(|| format!("write {page}"))?;
            println!("{page}: written");
        }
    }
    ensure!(stale.is_empty(), "not current, run `cargo xtask docs`: {}", stale.join(", "));
    Ok(())
}
