//! How a command ends, and what the shell is told.

use std::process::ExitCode;

/// The ways to end, by whose fault it was.
#[derive(Debug)]
pub enum Failure {
    /// The world failed: a file, a socket, a full disk. Exit code 1.
    World(anyhow::Error),
    /// The input was at fault, or something was not delivered. Exit code 2.
    Input(String),
    /// Bad usage or configuration. Exit code 64 (`EX_USAGE`, sysexits.h).
    Usage(String),
    /// Whoever reads our output has gone away, which is no failure.
    Pipe,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        match error.downcast_ref::<std::io::Error>() {
            Some(io) if io.kind() == std::io::ErrorKind::BrokenPipe => Failure::Pipe,
            _ => Failure::World(error),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        anyhow::Error::from(error).into()
    }
}

impl From<auditship_tail::source::Error> for Failure {
    fn from(error: auditship_tail::source::Error) -> Failure {
        Failure::World(error.into())
    }
}

/// Tells the person on standard error, and the shell by the code.
pub fn code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) | Err(Failure::Pipe) => ExitCode::SUCCESS,
        Err(Failure::World(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
        Err(Failure::Input(text)) => {
            eprintln!("error: {text}");
            ExitCode::from(2)
        }
        Err(Failure::Usage(text)) => {
            let text = text.trim_end();
            if text.starts_with("error") {
                eprintln!("{text}")
            } else {
                eprintln!("error: {text}")
            }
            ExitCode::from(64)
        }
    }
}
