//! The place of a line: born with it, settled exactly once per consumer.

use std::fmt;

/// A stream: one log file's content, through every rename, copy and compression of it.
///
/// The number has meaning inside one state directory (or one `ship` command) only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// The bytes `start..end` of a stream, counted uncompressed, the line's terminator included.
///
/// Invariant: `start <= end`; spans of one stream never overlap, and each begins where the last one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The stream.
    pub stream: StreamId,
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Span {
    /// How many bytes the span covers.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether it covers no byte.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}-{}", self.stream, self.start, self.end)
    }
}
