//! What is made from the code: the JSON Schema, the redaction catalogue, the shapes, completions, manual pages.
//!
//! A door: it writes manual pages.

#![expect(clippy::disallowed_methods, reason = "writes manual pages")]

use crate::cli::{Args, DocsPage, ManArgs};
use crate::exit::Failure;
use anyhow::Context as _;
use auditship_redact::Form;
use auditship_redact::rules::{Needle, RULES, Resource, Selector};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use std::fmt::Write;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Prints the JSON Schema of the configuration.
///
/// # Errors
/// It cannot be written.
pub fn schema() -> Result<(), Failure> {
    println!("{:#}", crate::config::schema());
    Ok(())
}

/// Prints one page.
///
/// # Errors
/// It cannot be written.
pub fn page(page: DocsPage) -> Result<(), Failure> {
    match page {
        DocsPage::Redaction => print!("{}", redaction()),
        DocsPage::Shapes => print!("{}", auditship_ship::shape::page()),
    }
    Ok(())
}

/// Prints what a shell needs to complete the command line.
///
/// # Errors
/// It cannot be written.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "auditship", &mut text);
    io::Write::write_all(&mut io::stdout(), &text)?;
    Ok(())
}

/// Prints one manual page, or writes all of them.
///
/// # Errors
/// There is no such command, or a page cannot be written.
pub fn man(args: &ManArgs) -> Result<(), Failure> {
    let mut root = Args::command();
    // Names of commands in pages: `auditship-doctor`.
    root.build();
    if let Some(dir) = &args.out {
        return pages(dir)
            .with_context(|| format!("write manual pages into {}", dir.display()))
            .map_err(Failure::from);
    }
    let page = match &args.page {
        None => root,
        Some(name) => root.find_subcommand(name).cloned().ok_or_else(|| {
            let shown = |command: &&Command| !command.is_hide_set();
            let names: Vec<&str> = root.get_subcommands().filter(shown).map(Command::get_name).collect();
            Failure::Usage(format!("there is no command {name:?}; there are {}", names.join(", ")))
        })?,
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    io::Write::write_all(&mut io::stdout(), &text)?;
    Ok(())
}

/// Every page, readable by everybody, whatever the umask is.
fn pages(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut todo = vec![Args::command()];
    todo[0].build();
    while let Some(command) = todo.pop() {
        // `help` is clap's own, and each command has --help.
        let shown = |sub: &&Command| !sub.is_hide_set() && sub.get_name() != "help";
        todo.extend(command.get_subcommands().filter(shown).cloned());
        let page = clap_mangen::Man::new(command);
        let path = dir.join(page.get_filename());
        let mut text = Vec::new();
        page.render(&mut text)?;
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644))?;
    }
    Ok(())
}

/// The resources' names.
fn plural(resources: &[Resource]) -> String {
    let name = |r: &Resource| match r.subresource {
        "" | "*" => r.resource.to_owned(),
        sub => format!("{}/{sub}", r.resource),
    };
    resources.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn redaction() -> String {
    let mut out = String::from(
        "# What is taken out\n\n\
         Made from the table in `crates/redact/src/rules` by `cargo xtask docs`. These rules are on by default;\n\
         `redact.catalogue: none` turns them off, `redact.rules` adds your own, `redact.actions` changes what one does\n\
         (`mask`, `token`, `remove`), and `redact.allow` names what may stay, each with its reason.\n\n\
         | rule | takes out | where it looks | action |\n|---|---|---|---|\n",
    );
    for rule in RULES {
        let place = match &rule.selector {
            Selector::Fields { kinds, resources, paths } => format!(
                "`{}` of objects of kind {}, and in requests for {}",
                paths.join("`, `"),
                kinds.join(", "),
                plural(resources)
            ),
            Selector::Name { kinds, resources } => format!(
                "the name of objects of kind {}, and of what requests for {} name, in the whole event",
                kinds.join(", "),
                plural(resources)
            ),
            Selector::Text { needles, .. } => {
                format!("any text that holds {}", words(needles).join(", "))
            }
            Selector::Pair(form) => match form {
                Form::Member => "members of objects, at any depth and in documents inside strings",
                Form::Named => "objects with `name` (`key`, `path`) and `value`",
                Form::Argument => "arguments, in one string, in lists and in `exec` requests",
                Form::Query => "query strings, also percent-encoded",
                Form::Text => "text: properties, INI, YAML, environment files, XML, connection strings",
            }
            .to_owned(),
            Selector::LastApplied => {
                "annotation `kubectl.kubernetes.io/last-applied-configuration`".to_owned()
            }
        };
        let action = format!("{:?}", rule.action).to_lowercase();
        let _ = writeln!(out, "| `{}` | {} | {place} | {action} |", rule.name, rule.doc);
    }
    out.push_str(
        "\nObjects are found wherever they stand: in request and response bodies, in lists and table rows, in\n\
         every kind of patch, in a webhook's patch annotation, and in JSON text inside strings, to eight levels.\n\
         Keys compare decoded and every duplicate of a key is followed.\n\n\
         A masked value becomes `redacted:RULE`, a token `redacted:RULE:KEY-HASH`, where the hash is keyed: equal\n\
         values stay equal and cannot be guessed. A digest is `redacted:RULE:sha256-DIGEST:LENGTH`: the SHA-256 of what the\n\
         value holds as base64, else of its text, and the number of bytes that it had in the line. It is for what is\n\
         public; a value there that holds no certificate, or a private key beside it, becomes a token.\n\n\
         Besides the rules, bytes that are not UTF-8 become U+FFFD (`invalid-utf8`), and a document nested deeper than eight strings goes as a whole (`nested-limit`).\n",
    );
    out
}

fn words(needles: &[Needle]) -> Vec<String> {
    let word = |needle: &Needle| match *needle {
        Needle::Begin(word) | Needle::End(word) | Needle::Mark(word) => format!("`{word}`"),
        Needle::Joined(before, after) => {
            format!("{before} and {after} letters or digits with a dot between them")
        }
    };
    needles.iter().map(word).collect()
}
