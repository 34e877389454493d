//! Where lines come from, in one interface: the live files of `run` and the given files of `ship`.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use auditship_event::{Line, Span, StreamId};

use crate::cri::Pieces;

/// What a call to read has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There may be more at once.
    More,
    /// Nothing now; wait.
    Idle,
    /// Nothing, ever.
    End,
}

/// Bytes that can no longer be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Which; where the end is not known, a lower bound.
    pub span: Span,
    /// Why: `deleted`, `released`, `truncated`, `corrupt_gz`, `corrupt_zstd`.
    pub reason: &'static str,
    /// The file's last known name.
    pub file: PathBuf,
}

/// Something may be missing, and nobody can say how much: the live file was rotated and its backups were deleted
/// while nobody looked. What is known to be lost is told as [`Lost`] besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The input's name.
    pub input: String,
    /// The end of what was there before it.
    pub after: Edge,
    /// Where reading goes on: the next line of that stream is the first one found. `None`: there is nothing yet.
    pub before: Option<Edge>,
    /// The time of the last event before it, when the checkpoint has one ([`crate::Position::last_event`]).
    pub last_event: Option<SystemTime>,
}

/// A place beside a [`Gap`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The stream.
    pub stream: StreamId,
    /// The offset in it.
    pub offset: u64,
    /// Its file's last known name.
    pub file: PathBuf,
}

/// Only the world fails. Every variant names the path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user gave a path that cannot be read.
    #[error("open {}: {error}", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The user gave a directory.
    #[error("read {}: it is a directory; name the files in it", path.display())]
    Directory {
        /// The path.
        path: PathBuf,
    },
    /// Reading failed; what was read so far is valid, and the next call tries again.
    #[error("read {} at byte {offset}: {error}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Uncompressed.
        offset: u64,
        /// Why.
        error: std::io::Error,
    },
}

/// A consumer's reader.
///
/// Lines of one stream come in the order of their spans, which are contiguous; a span in [`Source::lost`] stands for
/// the lines that would have had it, and is to be told to the ledger before the next call to read.
pub trait Source {
    /// Reads some lines (about one buffer, so that the caller can look around) and hands each to `each`.
    fn read_pieces(&mut self, each: &mut dyn FnMut(Line<'_>, &Pieces)) -> Result<Progress, Error>;

    /// As [`Source::read_pieces`], without the physical layout.
    fn read(&mut self, each: &mut dyn FnMut(Line<'_>)) -> Result<Progress, Error> {
        self.read_pieces(&mut |line, _| each(line))
    }

    /// What was found to be lost since the last call. While something is not asked for, a call to read may give
    /// nothing but [`Progress::More`].
    fn lost(&mut self) -> Vec<Lost>;
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {} bytes", self.file.display(), self.reason, self.span.len())
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: after byte {} of {}", self.input, self.after.offset, self.after.file.display())?;
        match &self.before {
            Some(before) => write!(f, " and before byte {} of {}", before.offset, before.file.display()),
            None => write!(f, ", with nothing after it yet"),
        }
    }
}
