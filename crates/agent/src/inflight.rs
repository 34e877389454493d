//! A line that kills the process must not kill it for ever.
//!
//! Panics are caught line by line; what is left is an abort or the kernel's hand. A small file for each consumer
//! says that it runs and from which positions. Found at a start it means an unclean end. After one without any
//! progress the consumer is careful: it writes down each line's span before it touches it, so that the next end
//! leaves the name of the line. An end from outside may hit any line; one that is named twice in a row, so that it
//! was under way at three ends, is then shipped as a stub.
//!
//! A door: it owns these files. They need no sync: they are for the death of the process, not of the machine.

#![expect(clippy::disallowed_methods, reason = "reads and writes the file that says what is under way")]

use auditship_event::{Span, StreamId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// So many unclean ends without progress make a consumer careful.
const CAREFUL_AFTER: u32 = 1;

/// A careful consumer is so for this many bytes.
const CAREFUL_BYTES: u64 = 64 << 20;

/// What the file says. Version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    v: u8,
    /// Unclean ends in a row without progress before this start.
    ends: u32,
    /// Where it began: stream and offset.
    from: BTreeMap<u64, u64>,
    /// The line that a careful consumer was about to touch: stream, start, end.
    line: Option<(u64, u64, u64)>,
    /// The line that the last end named.
    suspect: Option<(u64, u64, u64)>,
    /// Lines that are not to be touched any more.
    poison: Vec<(u64, u64, u64)>,
}

/// One consumer's file.
#[derive(Debug)]
pub struct InFlight {
    path: PathBuf,
    file: Option<File>,
    note: Note,
    careful_bytes: u64,
}

impl InFlight {
    /// Reads what the last run left, and writes that this one has begun at `positions`. Where the file cannot be
    /// written, the consumer runs without it.
    pub fn begin(path: PathBuf, positions: &BTreeMap<StreamId, u64>) -> InFlight {
        let from: BTreeMap<u64, u64> = positions.iter().map(|(stream, at)| (stream.0, *at)).collect();
        let last: Option<Note> =
            std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut note = Note { v: 1, from, ..Note::default() };
        if let Some(last) = last {
            let stuck = last.from == note.from;
            note.ends = if stuck { last.ends + 1 } else { 0 };
            note.poison = last.poison;
            note.poison.retain(|(stream, _, end)| note.from.get(stream).is_none_or(|at| at < end));
            note.suspect = last.line.filter(|_| stuck);
            if let Some(line) = note.suspect
                && last.suspect == Some(line)
            {
                note.poison.push(line);
            }
        }
        let careful_bytes = if note.ends >= CAREFUL_AFTER { CAREFUL_BYTES } else { 0 };
        let file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).ok();
        let mut this = InFlight { path, file, note, careful_bytes };
        this.write();
        this
    }

    /// The lines that are not to be touched: they were under way when the process died.
    pub fn poison(&self) -> Vec<Span> {
        let span = |(stream, start, end): &(u64, u64, u64)| Span {
            stream: StreamId(*stream),
            start: *start,
            end: *end,
        };
        self.note.poison.iter().map(span).collect()
    }

    /// Whether it writes down each line.
    pub fn is_careful(&self) -> bool {
        self.careful_bytes > 0
    }

    /// A line is about to be touched; `None`: there is none under way, so that an end from outside blames nobody.
    pub fn touch(&mut self, line: Option<Span>) {
        if self.careful_bytes == 0 {
            return;
        }
        self.careful_bytes = self.careful_bytes.saturating_sub(line.map_or(0, |span| span.len().max(1)));
        let line = line.filter(|_| self.careful_bytes > 0).map(|span| (span.stream.0, span.start, span.end));
        if line != self.note.line {
            self.note.line = line;
            self.write();
        }
    }

    /// A clean end: nothing was under way.
    pub fn end(&mut self) {
        self.file = None;
        let _ = std::fs::remove_file(&self.path);
    }

    fn write(&mut self) {
        let Some(file) = &mut self.file else { return };
        let Ok(mut text) = serde_json::to_vec(&self.note) else { return };
        text.push(b'\n');
        let written =
            file.rewind().and_then(|()| file.write_all(&text)).and_then(|()| file.set_len(text.len() as u64));
        if written.is_err() {
            self.file = None;
        }
    }
}

/// The file of `consumer` in the state directory.
pub fn path(state_dir: &Path, consumer: &str) -> PathBuf {
    state_dir.join(format!("in-flight-{consumer}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64) -> Span {
        Span { stream: StreamId(1), start, end: start + 10 }
    }

    fn at(offset: u64) -> BTreeMap<StreamId, u64> {
        BTreeMap::from([(StreamId(1), offset)])
    }

    #[test]
    fn the_third_unclean_end_convicts_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(dir.path(), "search");
        let begin = |offset| InFlight::begin(file.clone(), &at(offset));
        let mut first = begin(100);
        assert!(!first.is_careful());
        first.touch(Some(span(100)));
        for run in 2..=3 {
            let mut next = begin(100);
            assert!(next.is_careful() && next.poison().is_empty(), "run {run}");
            next.touch(Some(span(100)));
            next.touch(Some(span(110)));
        }
        assert_eq!(begin(100).poison(), [span(110)]);
        // It stays poison until the position is past it.
        assert_eq!(begin(105).poison(), [span(110)]);
        assert!(begin(120).poison().is_empty());
    }

    #[test]
    fn ends_from_outside_convict_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(dir.path(), "search");
        for named in [None, Some(span(100)), Some(span(110)), None, Some(span(110)), Some(span(120))] {
            let mut run = InFlight::begin(file.clone(), &at(100));
            assert!(run.poison().is_empty());
            run.touch(named);
        }
        let mut idle = InFlight::begin(file.clone(), &at(100));
        idle.touch(Some(span(120)));
        idle.touch(None);
        assert!(InFlight::begin(file, &at(100)).poison().is_empty());
    }

    #[test]
    fn progress_and_clean_ends_forgive() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(dir.path(), "search");
        for offset in [0, 10, 20, 30, 40] {
            assert!(!InFlight::begin(file.clone(), &at(offset)).is_careful());
        }
        InFlight::begin(file.clone(), &at(40)).end();
        assert!(!file.exists());
        assert!(!InFlight::begin(file.clone(), &at(40)).is_careful());
        std::fs::write(&file, b"nonsense").unwrap();
        assert!(!InFlight::begin(file, &at(40)).is_careful());
    }
}
