//! What the process must not show of what it reads, whatever goes wrong: panic messages, core files.
//!
//! A panic message can hold a slice of a line (that of a string cut inside of a character does), and a core file holds
//! all of memory: lines, tokens, the key. Both are seen to once, by `main`, before anything is read.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use std::fmt;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

/// Whether a crash would leave the memory on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreDumps {
    /// It would not.
    Off,
    /// It might: nothing has turned them off.
    On,
    /// It might: the system has refused to turn them off.
    Unsupported,
}

static CORE_DUMPS: OnceLock<CoreDumps> = OnceLock::new();

impl fmt::Display for CoreDumps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CoreDumps::Off => "off",
            CoreDumps::On => "on",
            CoreDumps::Unsupported => "unsupported",
        })
    }
}

/// Turns core files off, and the messages of panics. For `main`, first of all.
pub fn arm() {
    std::panic::set_hook(Box::new(|panic| {
        // Nothing can be done where standard error is gone, and to panic again would end the process.
        let _ = writeln!(std::io::stderr(), "{}", place(panic));
    }));
    CORE_DUMPS.get_or_init(turn_off);
}

/// What has become of core files.
pub fn core_dumps() -> CoreDumps {
    CORE_DUMPS.get().copied().unwrap_or(CoreDumps::On)
}

/// For commands without a log: says on standard error that memory could land on disk, if it could.
pub fn warn() {
    if core_dumps() != CoreDumps::Off {
        eprintln!("note: core dumps {}: a crash could leave what was read on disk", core_dumps());
    }
}

fn turn_off() -> CoreDumps {
    // The limit is for files. A program that takes cores over a pipe (`/proc/sys/kernel/core_pattern`, core(5)) gets
    // them whatever the limit is, unless the process is not dumpable.
    let limit = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    match (limit, dumpable) {
        (Ok(()), Ok(())) => CoreDumps::Off,
        _ => CoreDumps::Unsupported,
    }
}

/// Where it was, and never what was said.
fn place(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let at = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    format!(
        "error: panic at {at} in thread {:?}; its message is not shown, since it could hold text of an event",
        thread.name().unwrap_or("unnamed")
    )
}
