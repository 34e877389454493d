//! Text from files, the environment and `--set` to a value of any type, with the origin of each part.
//!
//! Owns the order of the steps: layers, merged, references resolved, read as `T`. Knows nothing of what the
//! configuration means; a [`Shape`] tells it where secrets are.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::de;
use super::explain::Located;
use super::layers::Layers;
use super::origin::{Index, Shape};
use super::report::{ConfigError, Diagnostic};
use super::resolve::{Outside, reason, resolve};

/// Reads a `T` from `files` in their order, then the `AUDITSHIP__…` variables of `env`, then each `--set`.
pub(crate) fn load_as<T: DeserializeOwned>(
    files: &[PathBuf],
    env: impl Iterator<Item = (String, String)>,
    set: &[String],
    read: &dyn Fn(&Path) -> io::Result<String>,
    shape: Shape,
) -> Result<(T, Located), ConfigError> {
    let variables: BTreeMap<String, String> = env.collect();
    let mut layers = Layers::new(Index::new(shape));
    for path in files {
        let text = read(path).map_err(|error| unreadable(path, &error))?;
        layers.file(&path.display().to_string(), &text)?;
    }
    for (name, value) in &variables {
        layers.variable(name, value)?;
    }
    for argument in set {
        layers.set(argument)?;
    }
    let (mut tree, index) = layers.finish();
    let outside = Outside { variables: &variables, read };
    let secrets = resolve(&mut tree, &index, &outside).map_err(ConfigError::new)?;
    let located = Located::new(index, secrets);
    match de::from_tree(&tree) {
        Ok(value) => Ok((value, located)),
        Err(fault) => Err(located.explain(&fault)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    let help = match error.kind() {
        io::ErrorKind::NotFound => Some("give the path of a file with `--config`"),
        io::ErrorKind::IsADirectory => Some("name the files in it one by one, each with `--config`"),
        _ => None,
    };
    Diagnostic::error(format!("cannot read the configuration `{}`: {}", path.display(), reason(error)))
        .help(help.map(str::to_owned))
}
