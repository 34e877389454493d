//! The configuration: what the user wrote, merged, typed and judged, with every mistake shown at its place.
//!
//! [`load`] reads YAML files in order, then `AUDITSHIP__A__B` environment variables, then `--set a.b=c`, and
//! yields the [`Config`] as written together with [`Located`], which turns the path of a mistake that is found
//! later into a message with the line at fault. This module touches the world only in [`files`].
//!
//! ```text
//! text ─ yaml ─→ tree with places ─ layers (`config` crate) ─→ one tree ─ resolve ─→ de ─→ model ─ validate ─→ Config
//!                       └──────────── origin: path → place ───────────────┴── explain ──→ ConfigError
//! ```

mod de;
mod explain;
pub mod files;
mod kinds;
mod layers;
mod load;
mod model;
mod origin;
mod path;
mod report;
mod resolve;
#[cfg(test)]
mod tests;
mod validate;
mod yaml;

use std::io;
use std::path::PathBuf;

pub use explain::Located;
pub use kinds::{FilterUse, Input, Output};
pub use model::{Admin, Config, FileInput, Format, Limits, StartAt, StdinInput, schema};
pub use path::{Path, Step};
pub(crate) use report::nearest;
pub use report::{ConfigError, Diagnostic, Severity};
pub use validate::Finding;

/// Reads the configuration from `files` in their order, then from the `AUDITSHIP__A__B` variables of `env`, then
/// from each `a.b=c` of `set`. `read` gives the text of a file, also that of a `${file:PATH}`.
///
/// # Errors
/// Everything that keeps it from being used; what does not is in [`Located::warnings`].
pub fn load(
    files: &[PathBuf],
    env: impl Iterator<Item = (String, String)>,
    set: &[String],
    read: &dyn Fn(&std::path::Path) -> io::Result<String>,
) -> Result<(Config, Located), ConfigError> {
    let (config, mut located) = load::load_as::<Config>(files, env, set, read, model::SHAPE)?;
    let mut errors = Vec::new();
    for finding in config.validate() {
        let Finding { severity, path, message, help } = finding;
        let diagnostic = located.diagnostic_at(severity, &path, &message, help.as_deref());
        match severity {
            Severity::Error => errors.push(diagnostic),
            Severity::Warning => located.warn(diagnostic),
        }
    }
    if errors.is_empty() { Ok((config, located)) } else { Err(ConfigError::new(errors)) }
}
