//! `auditship doctor`: what is wrong with a node's audit log, and how to put it right.

use crate::cli::DoctorArgs;
use crate::doctor::look::{Asked, look};
use crate::doctor::{Grade, Wanted, examine, show};
use crate::exit::Failure;
use crate::show::Colour;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Runs the command.
///
/// # Errors
/// [`Failure::World`] where there is no API server to look at, [`Failure::Input`] where a verdict is fail.
pub fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let asked = Asked {
        manifest: args.manifest.clone(),
        policy: args.policy.clone(),
        root: args.root.clone(),
        process: args.process,
        distribution: args.distribution,
    };
    let facts = look(&asked)?;
    let hold = Duration::from_secs(args.hold.saturating_mul(3600));
    let verdicts = examine(&facts, Wanted { hold, rate: args.rate.map(crate::doctor::rate) });
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{:#}", show::json(&facts, &verdicts))?;
    } else {
        let colour = if out.is_terminal() && !super::no_color() { Colour::Yes } else { Colour::No };
        out.write_all(show::text(&facts, &verdicts, colour).as_bytes())?;
    }
    match show::count(&verdicts, Grade::Fail) {
        0 => Ok(()),
        1 => Err(Failure::Input("1 check fails".to_owned())),
        count => Err(Failure::Input(format!("{count} checks fail"))),
    }
}
