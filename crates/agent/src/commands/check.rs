//! `auditship check`: compiles everything, and says what cannot be meant.

use crate::cli::CheckArgs;
use crate::coverage;
use crate::exit::Failure;
use crate::plan::{self, Plan};

/// Runs the command.
///
/// # Errors
/// [`Failure::Usage`] with every mistake at its place.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let (config, located) = super::load(&args.config)?;
    // Any key will do: what is compiled does not depend on it.
    let plan = Plan::compile(&config, &located, &[0; 32], &super::host_name())?;
    let mut warnings = Plan::warnings(&config, &located);
    let whole = Plan::compile(&plan::unthinned(&config), &located, &[0; 32], &super::host_name())?;
    warnings.extend(coverage::warnings(&config, &whole, &located));
    if args.json {
        let summary = serde_json::json!({
            "ok": true,
            "inputs": config.inputs.len(),
            "outputs": plan.outputs.iter().map(|output| output.name.clone()).collect::<Vec<_>>(),
            "routes": plan.router.names(),
            "warnings": warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        println!("{summary:#}");
        return Ok(());
    }
    for warning in &warnings {
        eprintln!("{warning}\n");
    }
    println!(
        "ok: {} input{}, {} output{}, {} route{}{}",
        config.inputs.len(),
        plural(config.inputs.len()),
        plan.outputs.len(),
        plural(plan.outputs.len()),
        plan.router.names().len(),
        plural(plan.router.names().len()),
        match warnings.len() {
            0 => String::new(),
            n => format!(", {n} warning{}", plural(n)),
        }
    );
    Ok(())
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}
