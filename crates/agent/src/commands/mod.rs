//! One file a command. What several need stands here: the configuration, the plan, the key.
//!
//! A door: commands read files and the environment.

#![expect(clippy::disallowed_methods, reason = "commands read files and the environment")]

pub mod check;
pub mod dead_letter;
pub mod demo;
pub mod docs;
pub mod doctor;
pub mod manifests;
mod prove;
pub mod redact;
pub mod run;
pub mod ship;
pub mod state;

use crate::cli::ConfigArgs;
use crate::config::files::Referenced;
use crate::config::{self, Config, Located};
use crate::exit::Failure;
use auditship_tail::store;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Loads the configuration that the arguments name.
///
/// # Errors
/// [`Failure::Usage`], with the place of every mistake.
pub fn load(args: &ConfigArgs) -> Result<(Config, Located), Failure> {
    load_watched(args).map(|(config, located, _)| (config, located))
}

/// The same, with the files that values were taken from.
///
/// # Errors
/// As [`load`].
pub fn load_watched(args: &ConfigArgs) -> Result<(Config, Located, Referenced), Failure> {
    let environment = config::files::environment().into_iter();
    let referenced = Referenced::default();
    // The configuration itself changes by signal alone: somebody may be in the middle of writing it.
    let read = |path: &Path| match args.config.iter().any(|file| file == path) {
        true => config::files::read(path),
        false => referenced.read(path),
    };
    let loaded = config::load(&args.config, environment, &args.set, &read);
    let (config, located) = loaded.map_err(|error| Failure::Usage(error.to_string()))?;
    Ok((config, located, referenced))
}

/// The master key for a command that never touches the state directory: `key_file`, else the state directory's key
/// where it can be read, else one for this run alone.
///
/// # Errors
/// `key_file` is named and cannot be read.
pub fn key_of(key_file: Option<&PathBuf>, state_dir: &Path) -> Result<(Vec<u8>, KeyFrom), Failure> {
    if let Some(path) = key_file {
        let key = store::read_key(path).map_err(|error| Failure::World(error.into()))?;
        return Ok((key.to_vec(), KeyFrom::Kept));
    }
    if let Ok(key) = store::read_key(&state_dir.join("key")) {
        return Ok((key.to_vec(), KeyFrom::Kept));
    }
    let mut key = vec![0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut key))
        .map_err(|error| anyhow::Error::from(error).context("read /dev/urandom"))?;
    Ok((key, KeyFrom::Fresh))
}

/// Whether the key will be the same next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFrom {
    /// It is kept in a file.
    Kept,
    /// It was made for this run.
    Fresh,
}

/// What to say of suppressions that can let nothing stay.
fn foreign_values(redactor: &auditship_redact::Redactor) -> Vec<String> {
    let say = |reason: &str| {
        format!(
            "redact.allow {reason:?}: its value was hashed with another key, so nothing stays because of it \
             (`auditship redact --hash --config FILE` hashes with this one)"
        )
    };
    redactor.foreign_values().map(say).collect()
}

/// Whether the user wants no colours (no-color.org).
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// This node's name, where the configuration gives none.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "unknown".to_owned() } else { name }
}
