//! `auditship redact --prove`: plants made-up secrets in front of the configuration, and says what would leave.

use crate::cli::{ConfigArgs, RedactArgs};
use crate::config::{self, Config, Located};
use crate::exit::Failure;
use crate::pipeline::Now;
use crate::plan::{self, Plan};
use crate::prove::{self, plant};
use std::sync::Arc;
use std::time::Instant;

/// Stands for a configuration where none is given: the built-in filter, routes and catalogue, and one output.
const NONE_GIVEN: &str = "outputs: {output: {type: stdout}}\n";

/// Runs the command.
///
/// # Errors
/// [`Failure::Input`] where something would leave.
pub(super) fn run(args: &RedactArgs) -> Result<(), Failure> {
    let (config, located) = load(args)?;
    // A route that keeps a fraction ships any event some time or other.
    let config = plan::unthinned(&config);
    // Any key will do: what leaves does not depend on it.
    let plan = Plan::compile(&config, &located, &[0; 32], &super::host_name())?;
    // Seeds that are easy to type.
    let seed = args.seed.unwrap_or_else(|| u64::from(fastrand::u32(..)));
    let cases = plant::cases(seed);
    let micros = jiff::Timestamp::now().as_microsecond();
    let now = Now { instant: Instant::now(), micros };
    let proof = prove::run(&Arc::new(plan), seed, &cases, now)?;
    if args.json {
        println!("{}", proof.json());
    } else {
        print!("{}", proof.text());
    }
    match proof.leaks.len() {
        0 => Ok(()),
        _ => Err(Failure::Input(format!("{}; seed {seed}", proof.summary()))),
    }
}

fn load(args: &RedactArgs) -> Result<(Config, Located), Failure> {
    if !args.config.is_empty() {
        return super::load(&ConfigArgs { config: args.config.clone(), set: args.set.clone() });
    }
    let read = |_: &std::path::Path| Ok(NONE_GIVEN.to_owned());
    config::load(&["built-in".into()], std::iter::empty(), &args.set, &read)
        .map_err(|error| Failure::Usage(error.to_string()))
}
