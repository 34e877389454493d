//! `auditship redact`: audit lines in, redacted lines out; or what would be taken out of them.

use super::{KeyFrom, key_of};
use crate::cli::{ConfigArgs, RedactArgs};
use crate::config::nearest;
use crate::exit::Failure;
use crate::guard;
use crate::lines::LineEditor;
use crate::report;
use crate::show::{self, Colour};
use auditship_event::{Keys, Line};
use auditship_redact::rules::{RULES, Rule};
use auditship_redact::{Catalogue, RedactConfig, Redactor};
use auditship_tail::Pieces;
use auditship_tail::lines::Format;
use auditship_tail::once::Once;
use auditship_tail::source::{Progress, Source};
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

/// A filter holds one line in memory: longer ones lose their bodies.
const MAX_LINE: usize = 64 << 20;

/// Edits that no rule asks for: they are always made.
const OWN: [&str; 3] = ["invalid-utf8", "nested-limit", "failed-closed"];

/// What is printed for a line.
#[derive(Clone, Copy)]
enum Form {
    /// The line itself.
    Line,
    Diff(Colour),
    Explain(Colour),
    ExplainJson,
}

/// Runs the command.
///
/// # Errors
/// As every command: see [`crate::exit`].
pub fn run(args: &RedactArgs) -> Result<(), Failure> {
    guard::warn();
    if args.prove {
        return super::prove::run(args);
    }
    if args.hash {
        return hash(args);
    }
    if args.json && !args.explain {
        return Err(Failure::Usage("`--json` goes with `--explain` or `--prove`".to_owned()));
    }
    let (redactor, made) = redactor(args)?;
    if made == KeyFrom::Fresh && !args.config.is_empty() {
        eprintln!(
            "note: no master key found: tokens of this run compare with each other only (set key_file)"
        );
    }
    if made == KeyFrom::Kept {
        super::foreign_values(&redactor).iter().for_each(|why| eprintln!("note: {why}"));
    }
    let paths = if args.paths.is_empty() { vec![PathBuf::from("-")] } else { args.paths.clone() };
    let mut source = Once::new(paths, Format::Auto, MAX_LINE)?;
    let mut editor = LineEditor::new(&redactor);
    let mut out = Vec::with_capacity(1 << 20);
    let mut stdout = std::io::stdout().lock();
    let form = form(args);
    loop {
        let progress = source.read_pieces(&mut |line, pieces| {
            write(form, &mut editor, &line, pieces, &mut out);
        })?;
        stdout.write_all(&out)?;
        out.clear();
        if progress == Progress::End {
            break;
        }
    }
    stdout.flush()?;
    if args.stats {
        eprintln!(
            "{} lines, {} changed; redacted {}; {}failed closed {}",
            report::grouped(editor.lines),
            report::grouped(editor.changed),
            or_none(&report::by_name(&editor.redactions())),
            allowed(&editor),
            or_none(&report::by_name(
                &editor.failed_closed.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
            )),
        );
    }
    let lost = source.lost();
    if let Some(first) = lost.first() {
        return Err(Failure::Input(format!(
            "{}: cannot be decoded to its end ({})",
            first.file.display(),
            first.reason
        )));
    }
    Ok(())
}

/// Nothing where nothing was let stay: most have no suppressions.
fn allowed(editor: &LineEditor<'_>) -> String {
    match editor.allowed() {
        none if none.is_empty() => String::new(),
        some => format!("allowed {}; ", report::by_name(&some)),
    }
}

/// Prints the hash of a value, which must be written as it stands in the event: that of a Secret in base64.
fn hash(args: &RedactArgs) -> Result<(), Failure> {
    let (redactor, made) = redactor(args)?;
    if made == KeyFrom::Fresh {
        return Err(Failure::Usage(
            "no master key found: a hash with another one would match nothing\nhelp: give --config FILE with key_file"
                .to_owned(),
        ));
    }
    let mut value = Vec::new();
    std::io::stdin().lock().read_to_end(&mut value)?;
    // What a shell's `echo` or an editor adds is no part of it.
    let value = value.strip_suffix(b"\n").unwrap_or(&value);
    if value.is_empty() {
        return Err(Failure::Input("there is no value on standard input".to_owned()));
    }
    println!("{}", redactor.hash(value));
    Ok(())
}

fn form(args: &RedactArgs) -> Form {
    let colour = match std::io::stdout().is_terminal() && !super::no_color() {
        true => Colour::Yes,
        false => Colour::No,
    };
    match (args.diff, args.explain, args.json) {
        (true, ..) => Form::Diff(colour),
        (_, true, true) => Form::ExplainJson,
        (_, true, false) => Form::Explain(colour),
        _ => Form::Line,
    }
}

fn write(form: Form, editor: &mut LineEditor<'_>, line: &Line<'_>, pieces: &Pieces, out: &mut Vec<u8>) {
    if let Form::Line = form {
        editor.edit(line, pieces, out);
        return;
    }
    let mut text = String::new();
    let told = editor.tell(line);
    let number = editor.lines;
    for part in &told {
        match form {
            Form::Line => {}
            Form::Diff(colour) => show::diff(number, part, colour, &mut text),
            Form::Explain(colour) => show::explain(number, part, colour, &mut text),
            Form::ExplainJson => {
                text.push_str(&show::explain_json(number, part));
                text.push('\n');
            }
        }
    }
    out.extend_from_slice(text.as_bytes());
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

fn redactor(args: &RedactArgs) -> Result<(Redactor, KeyFrom), Failure> {
    let invalid = |e: auditship_redact::Invalid| Failure::Usage(format!("{}: {}", e.at, e.why));
    if args.config.is_empty() {
        let (key, made) = key_of(None, Path::new(crate::plan::STATE_DIR))?;
        let keys = Keys::derive(&key, "default");
        let (builtin, config) = chosen(RedactConfig::default(), &args.only)?;
        return Ok((Redactor::of(&builtin, &config, keys).map_err(invalid)?, made));
    }
    let from = ConfigArgs { config: args.config.clone(), set: args.set.clone() };
    let (config, located) = super::load(&from)?;
    let (key, made) = key_of(config.key_file.as_ref(), &config.state_dir)?;
    let keys = Keys::derive(&key, &config.cluster);
    // All rules are compiled first, so that a mistake is shown at its place whatever was chosen.
    let all = Redactor::new(&config.redact, keys.clone());
    let all = all.map_err(|e| crate::plan::redact_error(&located, &e))?;
    if args.only.is_empty() {
        return Ok((all, made));
    }
    let (builtin, config) = chosen(config.redact, &args.only)?;
    Ok((Redactor::of(&builtin, &config, keys).map_err(invalid)?, made))
}

/// The rules of the catalogue and the user's that `only` names; all of them where it names none.
fn chosen(mut config: RedactConfig, only: &[String]) -> Result<(Vec<&'static Rule>, RedactConfig), Failure> {
    let builtin: &[&'static Rule] = if config.catalogue == Catalogue::Default { RULES } else { &[] };
    if only.is_empty() {
        return Ok((builtin.to_vec(), config));
    }
    for name in only {
        let known = || {
            let builtin = builtin.iter().map(|rule| rule.name);
            builtin.chain(config.rules.iter().map(|rule| &*rule.name)).chain(OWN)
        };
        if known().any(|known| known == name) {
            continue;
        }
        let help = match nearest(name, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if builtin.is_empty() => "the configuration turns the catalogue off".to_owned(),
            None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
        };
        let name = show::printable(name);
        return Err(Failure::Usage(format!("there is no redaction rule `{name}`\nhelp: {help}")));
    }
    let is_chosen = |name: &str| only.iter().any(|only| only == name);
    config.rules.retain(|rule| is_chosen(&rule.name));
    Ok((builtin.iter().copied().filter(|rule| is_chosen(rule.name)).collect(), config))
}
