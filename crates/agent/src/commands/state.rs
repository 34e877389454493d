//! `auditship state`: what the state directory says, out and in.
//!
//! A door: it reads the state log, also while an agent is writing it.

#![expect(clippy::disallowed_methods, reason = "reads the state log and the file to import")]

use crate::cli::{StateArgs, StateCommand};
use crate::exit::Failure;
use crate::report::{bytes, grouped};
use anyhow::Context as _;
use auditship_tail::checkpoint::{self, Entry};
use auditship_tail::{State, Store};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::Path;

/// The exported form. Version 1: the state as the records that make it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Export {
    version: u32,
    entries: Vec<Entry>,
}

const VERSION: u32 = 1;

/// Runs the command.
///
/// # Errors
/// As every command: see [`crate::exit`].
pub fn run(args: &StateArgs) -> Result<(), Failure> {
    let dir = match (&args.state_dir, args.config.is_empty()) {
        (Some(dir), _) => dir.clone(),
        (None, true) => crate::plan::STATE_DIR.into(),
        (None, false) => {
            let from = crate::cli::ConfigArgs { config: args.config.clone(), set: Vec::new() };
            super::load(&from)?.0.state_dir
        }
    };
    match &args.command {
        StateCommand::Show { json: false } => print!("{}", text(&read(&dir)?)),
        StateCommand::Show { json: true } | StateCommand::Export => {
            let export = Export { version: VERSION, entries: entries(&read(&dir)?) };
            println!("{}", serde_json::to_string_pretty(&export).map_err(std::io::Error::from)?);
        }
        StateCommand::Import { file } => import(&dir, file)?,
    }
    Ok(())
}

/// The state as it is on the disk, without the lock: an agent may be at work.
fn read(dir: &Path) -> Result<State, Failure> {
    let path = dir.join("state.log");
    let log = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let replay = checkpoint::replay(&log);
    if let checkpoint::End::Damaged = replay.end {
        eprintln!("note: the state log is damaged at byte {}: this is what stands before", replay.good);
    }
    Ok(replay.state)
}

fn entries(state: &State) -> Vec<Entry> {
    let streams = state.streams.values().cloned().map(Entry::Stream);
    let positions = state.positions.values().cloned().map(Entry::Position);
    let frozen = state.frozen.values().cloned().map(Entry::Frozen);
    streams.chain(positions).chain(frozen).collect()
}

fn import(dir: &Path, file: &Path) -> Result<(), Failure> {
    let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let export: Export = serde_json::from_slice(&text).map_err(|error| {
        Failure::Input(format!("{}: not an export of `auditship state`: {error}", file.display()))
    })?;
    if export.version != VERSION {
        let why = format!("{}: version {}, and this program knows {VERSION}", file.display(), export.version);
        return Err(Failure::Input(why));
    }
    let (mut store, _) = Store::open(dir).map_err(anyhow::Error::from)?;
    if !store.state().streams.is_empty() || !store.state().positions.is_empty() {
        let why = format!("{}: holds a state already; move its state.log away first", dir.display());
        return Err(Failure::Input(why));
    }
    let count = export.entries.len();
    for entry in export.entries {
        store.append(entry);
    }
    store.sync().map_err(anyhow::Error::from)?;
    println!("imported {count} records into {}", dir.display());
    Ok(())
}

fn text(state: &State) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "streams");
    for (id, stream) in &state.streams {
        let _ = writeln!(out, "  {id:<6}{:<14}{:>12}  {}", stream.input, bytes(stream.length), stream.file);
    }
    for (name, position) in &state.positions {
        let totals = &position.totals;
        let _ = writeln!(
            out,
            "{name}\n  settled {} lines, {}: delivered {}",
            grouped(totals.read_lines),
            bytes(totals.read_bytes),
            grouped(totals.delivered)
        );
        for (stream, at) in &position.positions {
            let length = state.streams.get(stream).map_or(*at, |stream| stream.length.max(*at));
            let behind = length - at;
            let place = if behind == 0 { "all of it".to_owned() } else { format!("{} to go", bytes(behind)) };
            let _ = writeln!(out, "  {stream:<6}at {:>15}  {place}", grouped(*at));
        }
        let frozen = state.frozen.values().filter(|frozen| frozen.consumer == *name).count();
        if frozen > 0 {
            let _ = writeln!(out, "  {frozen} batches written down and not behind the position yet");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditship_event::StreamId;
    use auditship_tail::{Hash, Position, StreamRecord};
    use std::collections::BTreeMap;

    #[test]
    fn what_goes_out_comes_in() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut store, _) = Store::open(from.path()).unwrap();
        store.append(Entry::Stream(StreamRecord {
            id: StreamId(3),
            input: "apiserver".into(),
            head: Hash::of(b"head"),
            length: 100,
            endless: false,
            file: "audit.log".into(),
            device: 1,
            inode: 2,
        }));
        store.append(Entry::Position(Position {
            consumer: "search".into(),
            positions: BTreeMap::from([(StreamId(3), 40)]),
            ..Position::default()
        }));
        store.sync().unwrap();
        let state = read(from.path()).unwrap();
        assert!(text(&state).contains("60 B to go"), "{}", text(&state));
        let file = from.path().join("export.json");
        let export = Export { version: VERSION, entries: entries(&state) };
        std::fs::write(&file, serde_json::to_vec(&export).unwrap()).unwrap();
        import(to.path(), &file).unwrap();
        assert_eq!(read(to.path()).unwrap(), state);
        assert!(matches!(import(to.path(), &file), Err(Failure::Input(_))), "a state is never overwritten");
        std::fs::write(&file, b"{\"version\":9,\"entries\":[]}").unwrap();
        assert!(matches!(import(from.path(), &file), Err(Failure::Input(_) | Failure::World(_))));
    }
}
