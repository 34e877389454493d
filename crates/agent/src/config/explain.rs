//! A fault in the configuration to the message that a user reads, and the door to the same for other errors.
//!
//! Owns [`Located`]: whoever finds a mistake later (the plan, a compiler of rules) reports it by path and gets
//! the line in the file. Invariant: no text that leaves here holds the value of a secret.

use super::de::{Fault, Problem};
use super::origin::Index;
use super::path::{Path, Step};
use super::report::{ConfigError, Diagnostic, HIDDEN, Severity, nearest, one_of};

/// Longest list of valid words that stands behind the mark; a longer one gets a line of its own.
const LABEL_MAX: usize = 80;
/// Secrets shorter than this are not searched for in messages: they would be found in every second word.
const SECRET_MIN: usize = 4;

/// Where everything in a configuration is written.
pub struct Located {
    index: Index,
    secrets: Vec<String>,
    warnings: Vec<Diagnostic>,
}

impl std::fmt::Debug for Located {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Located").field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

impl Located {
    pub(crate) fn new(index: Index, secrets: Vec<String>) -> Self {
        Self { index, secrets, warnings: Vec::new() }
    }

    /// The error `message` at the value of `path`, or at the nearest thing around it that is written.
    pub fn error_at(&self, path: impl Into<Path>, message: &str, help: Option<&str>) -> ConfigError {
        self.diagnostic_at(Severity::Error, &path.into(), message, help).into()
    }

    /// The same for what does not keep the configuration from being used.
    pub fn warning_at(&self, path: impl Into<Path>, message: &str, help: Option<&str>) -> Diagnostic {
        self.diagnostic_at(Severity::Warning, &path.into(), message, help)
    }

    pub(crate) fn diagnostic_at(
        &self,
        severity: Severity,
        path: &Path,
        message: &str,
        help: Option<&str>,
    ) -> Diagnostic {
        let is_written = path.is_top() || self.index.is_written(path);
        let label = if is_written {
            String::new()
        } else {
            format!("`{}` is not written here", self.index.shown(path))
        };
        let spot = self.index.spot(path, &label, false);
        let nowhere = (spot.is_none() && !path.is_top()).then(|| format!("`{path}` is not written anywhere"));
        let mut diagnostic = Diagnostic::error(self.clear(message))
            .spot(spot)
            .note(nowhere)
            .help(help.map(|help| self.clear(help)));
        diagnostic.severity = severity;
        diagnostic
    }

    /// Where `path` is written: `file:line:column`, a variable or an argument; `None` if it is a default.
    pub fn place(&self, path: impl Into<Path>) -> Option<String> {
        self.index.name(&path.into())
    }

    /// What is in the configuration without any effect.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    pub(crate) fn warn(&mut self, warning: Diagnostic) {
        self.warnings.push(warning);
    }

    /// `text` without any value of a secret.
    fn clear(&self, text: &str) -> String {
        let mut clear = text.to_owned();
        for secret in self.secrets.iter().filter(|secret| secret.chars().count() >= SECRET_MIN) {
            if clear.contains(secret.as_str()) {
                clear = clear.replace(secret.as_str(), HIDDEN);
            }
        }
        clear
    }

    pub(crate) fn explain(&self, fault: &Fault) -> ConfigError {
        let path = fault.path();
        let shown = self.index.shown(&path);
        let diagnostic = match &fault.problem {
            Problem::UnknownKey { key, valid } => self.unknown_key(&path, key, valid),
            Problem::UnknownWord { found, valid } => {
                let found = self.found(&path, found);
                let (label, note) = expectation(valid.iter().copied());
                Diagnostic::error(format!("unknown value `{found}` for `{shown}`"))
                    .spot(self.index.spot(&path, &label, fault.at_key))
                    .note(note)
                    .help(did_you_mean(&found, valid.iter().copied()))
            }
            Problem::Missing { key } => {
                let message = match path.is_top() {
                    true => format!("missing key `{key}`"),
                    false => format!("missing key `{key}` in `{shown}`"),
                };
                Diagnostic::error(message).spot(self.index.spot(
                    &path,
                    &format!("`{key}` is needed here"),
                    false,
                ))
            }
            Problem::WrongType { found, expected } => {
                let found = self.found(&path, found);
                Diagnostic::error(format!("wrong type for {}", name(&shown)))
                    .spot(self.index.spot(
                        &path,
                        &format!("expected {expected}, found {found}"),
                        fault.at_key,
                    ))
                    .help(mended(&found, expected))
            }
            Problem::WrongValue { found, expected } => {
                let found = self.found(&path, found);
                Diagnostic::error(format!("wrong value for {}", name(&shown))).spot(self.index.spot(
                    &path,
                    &format!("expected {expected}, found {found}"),
                    fault.at_key,
                ))
            }
            // The reason may repeat a secret that is too short to be searched for.
            Problem::Custom(_) if self.index.is_secret(&path) => Diagnostic::error(format!(
                "wrong value for {}",
                name(&shown)
            ))
            .spot(self.index.spot(&path, "not accepted", fault.at_key)),
            Problem::Custom(reason) => Diagnostic::error(format!("wrong value for {}", name(&shown)))
                .spot(self.index.spot(&path, &self.clear(reason), fault.at_key)),
        };
        diagnostic.into()
    }

    fn unknown_key(&self, path: &Path, key: &str, valid: &[&'static str]) -> Diagnostic {
        let shown = match self.index.shown(&path.clone().key(key)).steps().last() {
            Some(Step::Key(shown)) => shown.clone(),
            _ => key.to_owned(),
        };
        let valid: Vec<&str> = self.index.extra(path).iter().chain(valid).copied().collect();
        let (label, note) = expectation(valid.iter().copied());
        let message = match path.is_top() {
            true => format!("unknown key `{shown}`"),
            false => format!("unknown key `{shown}` in `{}`", self.index.shown(path)),
        };
        let help = match key {
            "<<" => Some("YAML merge keys are not accepted; write the values out".to_owned()),
            _ => did_you_mean(key, valid.iter().copied()),
        };
        Diagnostic::error(message)
            .spot(self.index.spot(&path.clone().key(key), &label, true))
            .note(note)
            .help(help)
    }

    /// What was found at `path`, if it may be shown.
    fn found(&self, path: &Path, found: &str) -> String {
        let is_value = !matches!(found, "a map" | "a list" | "nothing");
        if is_value && self.index.is_hidden(path) { HIDDEN.to_owned() } else { self.clear(found) }
    }
}

fn name(path: &Path) -> String {
    if path.is_top() { "the configuration".to_owned() } else { format!("`{path}`") }
}

/// The valid words behind the mark, or, if they are many, on a line below.
fn expectation<'w>(valid: impl IntoIterator<Item = &'w str>) -> (String, Option<String>) {
    let words = one_of(valid);
    if words.chars().count() <= LABEL_MAX { (words, None) } else { (String::new(), Some(words)) }
}

fn did_you_mean<'w>(word: &str, valid: impl IntoIterator<Item = &'w str>) -> Option<String> {
    nearest(word, valid).map(|near| format!("did you mean `{near}`?"))
}

/// What most people mean when they write the wrong type.
fn mended(found: &str, expected: &str) -> Option<String> {
    match (found.trim_matches('"').to_lowercase().as_str(), expected) {
        ("yes" | "on" | "y", "`true` or `false`") => Some("did you mean `true`?".to_owned()),
        ("no" | "off" | "n", "`true` or `false`") => Some("did you mean `false`?".to_owned()),
        ("nothing", "a map") => Some("remove the key, or write `{}` for an empty map".to_owned()),
        ("nothing", "a list") => Some("remove the key, or write `[]` for an empty list".to_owned()),
        ("nothing", _) => Some("remove the key to get the default".to_owned()),
        (found, "a list") if found != "a map" => Some("put a single entry into brackets: `[…]`".to_owned()),
        _ => None,
    }
}
