//! `auditship`: the life of the process. Arguments in, one command, an exit code out.

use auditship_agent::cli::{Args, Command};
use auditship_agent::exit::{self, Failure};
use auditship_agent::{commands, guard, receiver};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    guard::arm();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(usage) => {
            // Help and version are answers; anything else is bad usage (exit code 64).
            let answered = !usage.use_stderr();
            let _ = usage.print();
            return if answered { ExitCode::SUCCESS } else { ExitCode::from(64) };
        }
    };
    exit::code(match args.command {
        Command::Run(args) => commands::run::run(&args),
        Command::Ship(args) => commands::ship::run(&args),
        Command::Redact(args) => commands::redact::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Manifests(args) => commands::manifests::run(&args),
        Command::Demo(args) => commands::demo::run(&args),
        Command::DeadLetter(args) => commands::dead_letter::run(&args),
        Command::State(args) => commands::state::run(&args),
        Command::Schema => commands::docs::schema(),
        Command::Completions { shell } => commands::docs::completions(shell),
        Command::Man(args) => commands::docs::man(&args),
        Command::Docs { page } => commands::docs::page(page),
        Command::Receiver { listen, save } => {
            receiver::serve_blocking(listen, save.as_deref()).map_err(Failure::from)
        }
    })
}
