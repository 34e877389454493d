//! `auditship redact`: audit lines in, redacted lines out.

use super::{KeyFrom, key_of};
use crate::cli::{ConfigArgs, RedactArgs};
use crate::exit::Failure;
use crate::lines::LineEditor;
use crate::report;
use auditship_event::Keys;
use auditship_redact::{RedactConfig, Redactor};
use auditship_tail::lines::Format;
use auditship_tail::once::Once;
use auditship_tail::source::{Progress, Source};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A filter holds one line in memory: longer ones lose their bodies.
const MAX_LINE: usize = 64 << 20;

/// Runs the command.
///
/// # Errors
/// As every command: see [`crate::exit`].
pub fn run(args: &RedactArgs) -> Result<(), Failure> {
    let redactor = redactor(args)?;
    let paths = if args.paths.is_empty() { vec![PathBuf::from("-")] } else { args.paths.clone() };
    let mut source = Once::new(paths, Format::Auto, MAX_LINE)?;
    let mut editor = LineEditor::new(&redactor);
    let mut out = Vec::with_capacity(1 << 20);
    let mut stdout = std::io::stdout().lock();
    loop {
        let progress = source.read_pieces(&mut |line, pieces| editor.edit(&line, pieces, &mut out))?;
        stdout.write_all(&out)?;
        out.clear();
        if progress == Progress::End {
            break;
        }
    }
    stdout.flush()?;
    if args.stats {
        eprintln!(
            "{} lines, {} changed; redacted {}; failed closed {}",
            report::grouped(editor.lines),
            report::grouped(editor.changed),
            or_none(&report::by_name(&editor.redactions())),
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

fn or_none(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

fn redactor(args: &RedactArgs) -> Result<Redactor, Failure> {
    if args.config.is_empty() {
        let (key, _) = key_of(None, Path::new(crate::plan::STATE_DIR))?;
        let keys = Keys::derive(&key, "default");
        return Redactor::new(&RedactConfig::default(), keys)
            .map_err(|e| Failure::Usage(format!("{}: {}", e.at, e.why)));
    }
    let from = ConfigArgs { config: args.config.clone(), set: args.set.clone() };
    let (config, located) = super::load(&from)?;
    let (key, made) = key_of(config.key_file.as_ref(), &config.state_dir)?;
    if made == KeyFrom::Fresh {
        eprintln!(
            "note: no master key found: tokens of this run compare with each other only (set key_file)"
        );
    }
    let keys = Keys::derive(&key, &config.cluster);
    Redactor::new(&config.redact, keys).map_err(|e| crate::plan::redact_error(&located, &e))
}
