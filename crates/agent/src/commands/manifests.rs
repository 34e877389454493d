//! `auditship manifests`: files that put the agent beside a control plane without Helm.

use crate::cli::ManifestsArgs;
use crate::exit::Failure;
use crate::manifests::{IMAGE, Options, render};
use std::io::Write;

/// Prints the file.
///
/// # Errors
/// [`Failure::Usage`] where the options contradict each other.
pub fn run(args: &ManifestsArgs) -> Result<(), Failure> {
    let places = args.distribution.places();
    let options = Options {
        distribution: args.distribution,
        config: args.config.clone().unwrap_or_else(|| format!("{}/config.yaml", places.config_dir)),
        audit_dir: args.audit_dir.clone().unwrap_or_else(|| places.audit_dir.to_owned()),
        image: args.image.clone().unwrap_or_else(|| IMAGE.to_owned()),
        binary: args.binary.clone(),
        owner: args.owner.unwrap_or(places.owner),
    };
    let text = render(args.form, &options).map_err(Failure::Usage)?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
