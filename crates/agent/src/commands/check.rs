//! `auditship check`: compiles everything, and says what cannot be meant; on request tries the outputs.

use crate::cli::CheckArgs;
use crate::config::Config;
use crate::coverage;
use crate::exit::Failure;
use crate::outputs::{self, Tried};
use crate::plan::{self, Plan};
use auditship_ship::probe::{Finding, Grade};
use serde_json::{Value, json};

/// Runs the command.
///
/// # Errors
/// [`Failure::Usage`] with every mistake at its place; [`Failure::World`] if an output was tried and does not work.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let (config, located) = super::load(&args.config)?;
    // Any key will do: what is compiled does not depend on it.
    let plan = Plan::compile(&config, &located, &[0; 32], &super::host_name())?;
    let mut warnings = Plan::warnings(&config, &located);
    let whole = Plan::compile(&plan::unthinned(&config), &located, &[0; 32], &super::host_name())?;
    warnings.extend(coverage::warnings(&config, &whole, &located));
    let tried = if args.connect { Some(outputs::probe(&plan)?) } else { None };
    let bad: Vec<&str> =
        tried.iter().flatten().filter(|it| it.grade() == Grade::Failed).map(|it| &*it.name).collect();
    if args.json {
        let mut summary = json!({
            "ok": bad.is_empty(),
            "inputs": config.inputs.len(),
            "outputs": plan.outputs.iter().map(|output| output.name.clone()).collect::<Vec<_>>(),
            "routes": plan.router.names(),
            "warnings": warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        if let Some(tried) = &tried {
            summary["connect"] = tried.iter().map(as_json).collect();
        }
        println!("{summary:#}");
    } else {
        for warning in &warnings {
            eprintln!("{warning}\n");
        }
        println!("{}", summary(&config, &plan, warnings.len()));
        for output in tried.iter().flatten() {
            println!("{}", as_line(output));
        }
    }
    match bad.len() {
        0 => Ok(()),
        count => {
            let names = bad.join(", ");
            Err(anyhow::anyhow!(
                "{count} output{} not work: {names}",
                if count == 1 { " does" } else { "s do" }
            )
            .into())
        }
    }
}

fn summary(config: &Config, plan: &Plan, warnings: usize) -> String {
    let (inputs, outputs, routes) = (config.inputs.len(), plan.outputs.len(), plan.router.names().len());
    let warned = match warnings {
        0 => String::new(),
        n => format!(", {n} warning{}", plural(n)),
    };
    format!(
        "ok: {inputs} input{}, {outputs} output{}, {routes} route{}{warned}",
        plural(inputs),
        plural(outputs),
        plural(routes),
    )
}

/// What was found at an output: its worst, or all of it where all is well.
fn as_line(output: &Tried) -> String {
    let grade = output.grade();
    let told: Vec<String> =
        output.findings.iter().filter(|finding| finding.grade == grade).map(ToString::to_string).collect();
    format!("{}: {}: {}", grade.word(), output.name, told.join(" | "))
}

fn as_json(output: &Tried) -> Value {
    let step = |Finding { step, grade, text, advice }: &Finding| json!({"step": step.word(), "result": grade.word(), "text": text, "advice": advice});
    let steps: Vec<Value> = output.findings.iter().map(step).collect();
    json!({"output": output.name, "result": output.grade().word(), "steps": steps})
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}
