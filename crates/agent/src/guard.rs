//! What the process must not show or do, whatever goes wrong: panic messages, core files, new privileges, files that
//! others can read.
//!
//! A panic message can hold a slice of a line (that of a string cut inside of a character does), and a core file holds
//! all of memory: lines, tokens, the key. All are seen to once, by `main`, before anything is read and before there is a
//! second thread. Nothing here is ever undone.

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::process::{dumpable_behavior, umask};
use rustix::thread::{no_new_privs, set_no_new_privs};
use std::fmt;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

/// Whether a guard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    On,
    /// It does not: nothing has turned it on, or the system refused.
    Off,
    /// It does not: this system has no such thing.
    Unsupported,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::On => "on",
            State::Off => "off",
            State::Unsupported => "unsupported",
        })
    }
}

/// One guard: what it is called in the log, whether it holds and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// `no_core_dumps`, `no_new_privileges`, `umask_077`.
    pub name: &'static str,
    /// Whether it holds.
    pub state: State,
    /// What makes it hold, or what the system said.
    pub reason: String,
    /// What could happen without it.
    pub danger: &'static str,
}

static GUARDS: OnceLock<Vec<Guard>> = OnceLock::new();

/// A guard's name, what could happen without it, and what turns it on.
type Row = (&'static str, &'static str, fn() -> Result<&'static str, Refused>);

const TABLE: &[Row] = &[
    ("no_core_dumps", "a crash could leave what was read on disk", core_dumps_off),
    ("no_new_privileges", "a program that it starts could gain privileges", privileges_kept),
    ("umask_077", "files that it makes could be read by others", files_private),
];

/// Turns every guard on, and the messages of panics off. For `main`, first of all.
pub fn arm() {
    std::panic::set_hook(Box::new(|panic| {
        // Nothing can be done where standard error is gone, and to panic again would end the process.
        let _ = writeln!(std::io::stderr(), "{}", place(panic));
    }));
    GUARDS.get_or_init(|| TABLE.iter().map(|(name, danger, on)| guard(name, danger, on())).collect());
}

/// What has become of each.
pub fn guards() -> Vec<Guard> {
    let idle = |(name, danger, _): &Row| Guard {
        name,
        state: State::Off,
        reason: "nothing has turned it on".to_owned(),
        danger,
    };
    GUARDS.get().cloned().unwrap_or_else(|| TABLE.iter().map(idle).collect())
}

/// For commands without a log: says on standard error which guards do not hold, and nothing where all do.
pub fn warn() {
    for Guard { name, state, reason, danger } in guards() {
        if state != State::On {
            eprintln!("note: {name} {state} ({reason}): {danger}");
        }
    }
}

/// Why a guard does not hold.
enum Refused {
    /// The call and the system's answer.
    Call(&'static str, Errno),
    /// The calls were taken, and what they asked for is not so.
    Unheeded(&'static str),
}

fn guard(name: &'static str, danger: &'static str, result: Result<&'static str, Refused>) -> Guard {
    let (state, reason) = match result {
        Ok(reason) => (State::On, reason.to_owned()),
        // How a kernel answers that does not know a call, or a word of it (prctl(2), setrlimit(2)).
        Err(Refused::Call(call, error @ (Errno::NOSYS | Errno::INVAL))) => {
            (State::Unsupported, format!("{call}: {error}"))
        }
        Err(Refused::Call(call, error)) => (State::Off, format!("{call}: {error}")),
        Err(Refused::Unheeded(what)) => (State::Off, what.to_owned()),
    };
    Guard { name, state, reason, danger }
}

fn core_dumps_off() -> Result<&'static str, Refused> {
    // The limit is for files. A program that takes cores over a pipe (`/proc/sys/kernel/core_pattern`, core(5)) gets
    // them whatever the limit is, unless the process is not dumpable.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(|error| Refused::Call("setrlimit RLIMIT_CORE", error))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| Refused::Call("prctl PR_SET_DUMPABLE", error))?;
    let dumpable = dumpable_behavior().map_err(|error| Refused::Call("prctl PR_GET_DUMPABLE", error))?;
    if getrlimit(Resource::Core).maximum != Some(0) || dumpable != DumpableBehavior::NotDumpable {
        return Err(Refused::Unheeded("the limit or the attribute did not stay"));
    }
    Ok("RLIMIT_CORE is 0 and the process is not dumpable")
}

fn privileges_kept() -> Result<&'static str, Refused> {
    // An attribute of the thread, which every later thread and program inherits (PR_SET_NO_NEW_PRIVS(2const)).
    set_no_new_privs(true).map_err(|error| Refused::Call("prctl PR_SET_NO_NEW_PRIVS", error))?;
    match no_new_privs().map_err(|error| Refused::Call("prctl PR_GET_NO_NEW_PRIVS", error))? {
        true => Ok("PR_SET_NO_NEW_PRIVS is set"),
        false => Err(Refused::Unheeded("the attribute did not stay")),
    }
}

fn files_private() -> Result<&'static str, Refused> {
    let private = Mode::RWXG | Mode::RWXO;
    umask(private);
    // The only way to ask is to set it again (umask(2)).
    match umask(private) == private {
        true => Ok("new files and directories are the owner's alone"),
        false => Err(Refused::Unheeded("the mask did not stay")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_decides_the_word() {
        let state = |result| {
            let it = guard("umask_077", "danger", result);
            (it.state, it.reason)
        };
        assert_eq!(state(Ok("because")), (State::On, "because".to_owned()));
        let (word, reason) = state(Err(Refused::Call("prctl X", Errno::PERM)));
        assert_eq!(word, State::Off);
        assert!(reason.starts_with("prctl X: "), "{reason}");
        for unknown in [Errno::NOSYS, Errno::INVAL] {
            assert_eq!(state(Err(Refused::Call("prctl X", unknown))).0, State::Unsupported);
        }
        assert_eq!(state(Err(Refused::Unheeded("did not stay"))).0, State::Off);
    }
}
