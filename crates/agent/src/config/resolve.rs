//! `${env:NAME}` and `${file:PATH}`, in the values of secrets and identity only.
//!
//! Everywhere else `${` is an error, so that nobody believes it to work: what an event is matched against must
//! be readable in the file. `$${` stands for `${` itself. Refuses an empty result: a variable or a file that
//! holds nothing is a mistake in every place that this is for.

use std::collections::BTreeMap;
use std::io;

use super::layers::Tree;
use super::origin::{Index, holds_credentials, is_reference};
use super::path::Path;
use super::report::{Diagnostic, nearest};

/// The world that values may be taken from.
pub(crate) struct Outside<'a> {
    pub(crate) variables: &'a BTreeMap<String, String>,
    pub(crate) read: &'a dyn Fn(&std::path::Path) -> io::Result<String>,
}

/// A reference that leads nowhere.
struct Broken {
    message: String,
    help: Option<String>,
}

/// Resolves every reference in the tree, and collects the values that must never be shown.
pub(crate) fn resolve(
    tree: &mut Tree,
    index: &Index,
    outside: &Outside<'_>,
) -> Result<Vec<String>, Vec<Diagnostic>> {
    let mut walk = Walk { index, outside, secrets: Vec::new(), faults: Vec::new() };
    walk.value(tree, &Path::top());
    if walk.faults.is_empty() { Ok(walk.secrets) } else { Err(walk.faults) }
}

struct Walk<'a> {
    index: &'a Index,
    outside: &'a Outside<'a>,
    secrets: Vec<String>,
    faults: Vec<Diagnostic>,
}

impl Walk<'_> {
    fn value(&mut self, tree: &mut Tree, path: &Path) {
        match tree {
            Tree::Null => {}
            Tree::Scalar { text, .. } => {
                let is_secret = self.index.is_secret(path);
                if (is_secret && !is_reference(text)) || holds_credentials(text) {
                    self.secrets.push(text.clone());
                }
                if !text.contains("${") {
                    return;
                }
                if let Some(resolved) = self.text(text, path) {
                    if is_secret {
                        self.secrets.push(resolved.clone());
                    }
                    *tree = Tree::Scalar { text: resolved, plain: false };
                }
            }
            Tree::List(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    self.value(item, &path.clone().item(at));
                }
            }
            Tree::Map(entries) => {
                for (key, value) in entries {
                    self.value(value, &path.clone().key(key.as_str()));
                }
            }
        }
    }

    fn text(&mut self, text: &str, path: &Path) -> Option<String> {
        let resolved =
            if self.index.resolves(path) { expand(text, self.outside) } else { expand_nothing(text, path) };
        resolved
            .map_err(|broken| {
                self.faults.push(
                    Diagnostic::error(broken.message)
                        .spot(self.index.spot(path, "", false))
                        .help(broken.help),
                );
            })
            .ok()
    }
}

fn expand_nothing(text: &str, path: &Path) -> Result<String, Broken> {
    let escaped = text.replace("$${", "");
    if escaped.contains("${") {
        return Err(Broken {
            message: format!("`${{…}}` is not resolved in `{path}`"),
            help: Some(
                "it works in `cluster`, `node`, authentication, credentials, header values, `bucket` and `region`; use an AUDITSHIP__… variable \
                 or `--set` here, and write `$${` for the characters themselves"
                    .to_owned(),
            ),
        });
    }
    Ok(text.replace("$${", "${"))
}

fn expand(text: &str, outside: &Outside<'_>) -> Result<String, Broken> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &reference[2..];
            continue;
        }
        out.push_str(before);
        let Some((inside, after)) = reference[2..].split_once('}') else {
            return Err(Broken { message: "`${` is not closed by `}`".to_owned(), help: None });
        };
        out.push_str(&look_up(inside, outside)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn look_up(inside: &str, outside: &Outside<'_>) -> Result<String, Broken> {
    match inside.split_once(':') {
        Some(("env", name)) => variable(name, outside),
        Some(("file", path)) => file(path, outside),
        _ => {
            // What stands here may be a secret that only looks like a reference.
            let is_name = inside.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            let meant = is_name && outside.variables.contains_key(inside);
            Err(Broken {
                message: "`${…}` must begin with `env:` or `file:`".to_owned(),
                help: meant.then(|| format!("did you mean `${{env:{inside}}}`?")),
            })
        }
    }
}

fn variable(name: &str, outside: &Outside<'_>) -> Result<String, Broken> {
    match outside.variables.get(name).map(String::as_str) {
        Some("") => Err(Broken { message: format!("environment variable `{name}` is empty"), help: None }),
        Some(value) => Ok(value.to_owned()),
        None => Err(Broken {
            message: format!("environment variable `{name}` is not set"),
            help: nearest(name, outside.variables.keys().map(String::as_str))
                .map(|near| format!("did you mean `{near}`?")),
        }),
    }
}

fn file(path: &str, outside: &Outside<'_>) -> Result<String, Broken> {
    let text = (outside.read)(std::path::Path::new(path)).map_err(|error| Broken {
        message: format!("cannot read `{path}`: {}", reason(&error)),
        help: None,
    })?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(Broken { message: format!("file `{path}` is empty"), help: None }),
        value => Ok(value.to_owned()),
    }
}

/// Why a file cannot be read, in few words.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory, not a file".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let variables = BTreeMap::from([
            ("TOKEN".to_owned(), "t0k".to_owned()),
            ("EMPTY".to_owned(), String::new()),
            ("NODE_NAME".to_owned(), "n1".to_owned()),
        ]);
        let read = |path: &std::path::Path| match path.to_str() {
            Some("/key") => Ok("k3y\n".to_owned()),
            Some("/empty") => Ok("\n".to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let outside = Outside { variables: &variables, read: &read };
        expand(text, &outside).map_err(|broken| {
            [Some(broken.message), broken.help].into_iter().flatten().collect::<Vec<_>>().join("; ")
        })
    }

    #[test]
    fn references_are_replaced() {
        for (text, value) in [
            ("${env:TOKEN}", "t0k"),
            ("Bearer ${env:TOKEN}!", "Bearer t0k!"),
            ("${file:/key}/${env:TOKEN}", "k3y/t0k"),
            ("$${env:TOKEN}", "${env:TOKEN}"),
            ("5$ and $$", "5$ and $$"),
        ] {
            assert_eq!(expanded(text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn references_that_lead_nowhere_say_so() {
        for (text, message) in [
            ("${env:NODE_NAM}", "environment variable `NODE_NAM` is not set; did you mean `NODE_NAME`?"),
            ("${env:EMPTY}", "environment variable `EMPTY` is empty"),
            ("${TOKEN}", "`${…}` must begin with `env:` or `file:`; did you mean `${env:TOKEN}`?"),
            ("${hunter2}", "`${…}` must begin with `env:` or `file:`"),
            ("${env:TOKEN", "`${` is not closed by `}`"),
            ("${file:/none}", "cannot read `/none`: it does not exist"),
            ("${file:/empty}", "file `/empty` is empty"),
        ] {
            assert_eq!(expanded(text).unwrap_err(), message, "{text}");
        }
    }
}
