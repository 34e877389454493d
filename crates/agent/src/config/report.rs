//! How a mistake in the configuration is shown: what is wrong, where, what was expected, what to write instead.
//!
//! Owns the layout (that of rustc, without colour) and the search for the nearest valid word. Invariant: the
//! text of a spot has been cleared of secrets before it comes here; nothing is looked up while printing.

use std::fmt;

/// The longest piece of a line that is shown.
const SHOWN_MAX: usize = 140;
/// Columns kept before the marked place when a line is longer.
const SHOWN_BEFORE: usize = 40;

/// Whether the configuration can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but not everything in it has an effect.
    Warning,
}

/// One mistake, ready to be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it is fatal.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// Where, the place at fault first.
    pub(crate) spots: Vec<Spot>,
    /// What else is known.
    pub(crate) notes: Vec<String>,
    /// What to write instead.
    pub help: Option<String>,
}

/// A place that is at fault, with what was expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// In a file.
    Line(LineSpot),
    /// A variable or an argument.
    Named { name: String, label: String },
}

/// A line of a file with a part of it marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineSpot {
    /// `file:line:column`.
    pub(crate) place: String,
    pub(crate) number: usize,
    /// The line, secrets hidden.
    pub(crate) text: String,
    /// First marked character of `text`, from 0.
    pub(crate) start: usize,
    pub(crate) length: usize,
    pub(crate) label: String,
}

impl Diagnostic {
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            spots: Vec::new(),
            notes: Vec::new(),
            help: None,
        }
    }

    pub(crate) fn spot(mut self, spot: Option<Spot>) -> Self {
        self.spots.extend(spot);
        self
    }

    pub(crate) fn note(mut self, note: Option<String>) -> Self {
        self.notes.extend(note);
        self
    }

    pub(crate) fn help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }
}

/// What stands in the place of a secret.
pub(crate) const HIDDEN: &str = "<hidden>";

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", self.message)?;
        let width = self
            .spots
            .iter()
            .map(|spot| match spot {
                Spot::Line(line) => line.number.to_string().len(),
                Spot::Named { .. } => 1,
            })
            .max()
            .unwrap_or(1);
        for (at, spot) in self.spots.iter().enumerate() {
            let arrow = if at == 0 { "-->" } else { ":::" };
            match spot {
                Spot::Line(line) => line.print(f, arrow, width)?,
                Spot::Named { name, label } => {
                    write!(f, "\n{:width$}{arrow} {name}", "")?;
                    if !label.is_empty() {
                        write!(f, "\n{:width$} = {label}", "")?;
                    }
                }
            }
        }
        for note in &self.notes {
            write!(f, "\n{:width$} = {note}", "")?;
        }
        match &self.help {
            Some(help) => write!(f, "\nhelp: {help}"),
            None => Ok(()),
        }
    }
}

impl LineSpot {
    fn print(&self, f: &mut fmt::Formatter<'_>, arrow: &str, width: usize) -> fmt::Result {
        let chars: Vec<char> = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let from = if chars.len() > SHOWN_MAX { self.start.saturating_sub(SHOWN_BEFORE) } else { 0 };
        let to = chars.len().min(from + SHOWN_MAX);
        let (before, after) = (if from > 0 { "…" } else { "" }, if to < chars.len() { "…" } else { "" });
        let text: String = chars.get(from..to).unwrap_or_default().iter().collect();
        let indent = self.start - from + before.chars().count();
        let length = self.length.clamp(1, to.saturating_sub(self.start).max(1));
        write!(f, "\n{:width$}{arrow} {}", "", self.place)?;
        write!(f, "\n{:width$} |", "")?;
        write!(f, "\n{:>width$} | {before}{}{after}", self.number, text.trim_end())?;
        write!(f, "\n{:width$} | {:indent$}{}", "", "", "^".repeat(length))?;
        if self.label.is_empty() { Ok(()) } else { write!(f, " {}", self.label) }
    }
}

/// The configuration cannot be used; printed, it says everything a user needs to mend it.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    diagnostics: Vec<Diagnostic>,
}

impl ConfigError {
    /// Several mistakes at once. Invariant: at least one.
    pub fn new(diagnostics: Vec<Diagnostic>) -> Self {
        debug_assert!(!diagnostics.is_empty());
        Self { diagnostics }
    }
}

impl From<Diagnostic> for ConfigError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::new(vec![diagnostic])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, diagnostic) in self.diagnostics.iter().enumerate() {
            f.write_str(if at > 0 { "\n\n" } else { "" })?;
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The words that would have been right, for a sentence.
pub(crate) fn one_of<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => "nothing is expected here".to_owned(),
        [one] => format!("expected {one}"),
        many => format!("expected one of {}", many.join(", ")),
    }
}

/// The valid word that was probably meant: the same but for case and separators, a few letters away, or cut short.
pub(crate) fn nearest<'w>(word: &str, valid: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let wanted = plain(word);
    valid
        .into_iter()
        .map(|candidate| {
            let candidate_plain = plain(candidate);
            let is_cut = wanted.len() >= 3 && candidate_plain.starts_with(&wanted);
            (if is_cut { 1 } else { distance(&wanted, &candidate_plain) }, candidate)
        })
        .filter(|(far, candidate)| *far <= (candidate.chars().count().min(wanted.len()) / 3).max(1))
        .filter(|(far, candidate)| *far < candidate.chars().count())
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

fn plain(word: &str) -> Vec<char> {
    word.chars().take(64).filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Letters to insert, remove, replace or swap with their neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if swap {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        let valid = ["endpoint", "auth", "compression", "max_line", "outputs", "userGroups", "do"];
        for (word, near) in [
            ("endpont", Some("endpoint")),
            ("enpdoint", Some("endpoint")),
            ("maxLine", Some("max_line")),
            ("MAX-LINE", Some("max_line")),
            ("output", Some("outputs")),
            ("user_groups", Some("userGroups")),
            ("auht", Some("auth")),
            ("compress", Some("compression")),
            ("bananas", None),
            ("xy", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, valid), near, "{word}");
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let mut text = "x".repeat(300);
        text.insert_str(200, "BAD");
        let spot = LineSpot {
            place: "f:1:201".into(),
            number: 1,
            text,
            start: 200,
            length: 3,
            label: "here".into(),
        };
        let shown = Diagnostic::error("wrong").spot(Some(Spot::Line(spot))).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let bad = lines[3].chars().position(|c| c == 'B').unwrap();
        assert_eq!(lines[4].chars().position(|c| c == '^'), Some(bad));
        assert!(lines.iter().all(|line| line.chars().count() < 160));
    }
}
