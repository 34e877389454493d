//! The container runtime's log format: one record, and the joining of a run of records.
//!
//! It owns the grammar `<RFC 3339 time> stdout|stderr P|F <content>` (kubernetes `pkg/kubelet/kuberuntime/logs/
//! logs.go`, `parseCRILog`; containerd `internal/cri/io/logger.go`; cri-o `conmon/src/ctr_logging.c`) and the bounded
//! memory of a joined line. It knows nothing of spans or files.

use std::ops::Range;

/// The bytes kept of each end of a line that is longer than the limit.
pub(crate) const EDGE: usize = 64 << 10;

/// The end of the time stamp is looked for in this many bytes (`2026-11-24T02:30:59.511512340+00:00` has 35).
const LONGEST_TIME: usize = 40;

/// Which stream of the container wrote a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Stdout,
    Stderr,
}

impl Tag {
    pub(crate) fn index(self) -> usize {
        match self {
            Tag::Stdout => 0,
            Tag::Stderr => 1,
        }
    }
}

/// One record: where its content begins in its physical line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) tag: Tag,
    /// `P`: the line goes on in the next record of this tag.
    pub(crate) partial: bool,
    pub(crate) content_at: usize,
}

/// Reads the prefix of a physical line; `None` when it is not a record.
pub(crate) fn record(line: &[u8]) -> Option<Record> {
    if !line.first()?.is_ascii_digit() {
        return None;
    }
    let time = memchr::memchr(b' ', &line[..line.len().min(LONGEST_TIME)])?;
    if !is_time(&line[..time]) {
        return None;
    }
    let rest = &line[time + 1..];
    let tag = match rest.get(..7)? {
        b"stdout " => Tag::Stdout,
        b"stderr " => Tag::Stderr,
        _ => return None,
    };
    // The third field may hold several tags, divided by colons; the first says whether the line goes on.
    let flags = &rest[7..];
    let end = memchr::memchr(b' ', &flags[..flags.len().min(LONGEST_TIME)]);
    let (flags, content_at) = match end {
        Some(end) => (&flags[..end], time + 1 + 7 + end + 1),
        // An empty content may come without the last space.
        None if flags.len() < LONGEST_TIME => (flags, line.len()),
        None => return None,
    };
    let partial = match flags.split(|b| *b == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Record { tag, partial, content_at })
}

fn is_time(text: &[u8]) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00";
    text.len() > SHAPE.len()
        && SHAPE.iter().zip(text).all(|(shape, byte)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => other == byte,
        })
}

/// How a physical line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminator {
    /// The file ended.
    None,
    /// A line feed.
    Lf,
    /// A carriage return and a line feed.
    CrLf,
}

impl Terminator {
    /// The bytes.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Terminator::None => b"",
            Terminator::Lf => b"\n",
            Terminator::CrLf => b"\r\n",
        }
    }
}

/// One physical record of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where its prefix stands in [`Pieces::prefixes`]; empty for a line that is not a container runtime's record.
    pub prefix: Range<usize>,
    /// Where its content stands in the line's bytes. Pieces follow each other without a gap.
    pub content: Range<usize>,
    /// How it ended.
    pub terminator: Terminator,
}

/// The physical layout of a line: `prefix content terminator`, once per record, is what stands in the file.
///
/// It exists so that an edit of the joined line can be written back into its records.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pieces {
    /// The prefixes, one after the other (time, tag and flag; the last space included).
    pub prefixes: Vec<u8>,
    /// The records, in their order.
    pub list: Vec<Piece>,
    /// Set when the line is cut: the list then says only how it began.
    pub cut: bool,
}

impl Pieces {
    pub(crate) fn clear(&mut self) {
        self.prefixes.clear();
        self.list.clear();
        self.cut = false;
    }

    /// Leaves what stands in the first `length` bytes: the rest of the line is not in memory.
    pub(crate) fn cut(&mut self, length: usize) {
        self.cut = true;
        self.list.retain(|piece| piece.content.start < length);
        if let Some(last) = self.list.last_mut() {
            last.content.end = last.content.end.min(length);
        }
    }

    pub(crate) fn push(&mut self, prefix: &[u8], content: Range<usize>, terminator: Terminator) {
        let from = self.prefixes.len();
        self.prefixes.extend_from_slice(prefix);
        self.list.push(Piece { prefix: from..self.prefixes.len(), content, terminator });
    }

    /// The prefix of `piece`.
    pub fn prefix(&self, piece: &Piece) -> &[u8] {
        &self.prefixes[piece.prefix.clone()]
    }
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pieces").field("records", &self.list.len()).field("cut", &self.cut).finish()
    }
}

/// A line that is put together in memory, never more of it than the limit.
///
/// Invariant: while `!cut`, `bytes` is the whole content so far and `tail` is empty. Once cut, `bytes` is the head
/// ([`EDGE`]) and `tail` ends with the last bytes (at most twice [`EDGE`]).
#[derive(Default)]
pub(crate) struct Joined {
    pub(crate) bytes: Vec<u8>,
    tail: Vec<u8>,
    pub(crate) cut: bool,
}

impl Joined {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        // One huge line must not hold its memory for ever.
        self.bytes.shrink_to(4 * EDGE);
        self.tail.clear();
        self.cut = false;
    }

    pub(crate) fn push(&mut self, content: &[u8], limit: usize) {
        let edge = edge(limit);
        if !self.cut && self.bytes.len() + content.len() <= limit {
            self.bytes.extend_from_slice(content);
            return;
        }
        if !self.cut {
            self.cut = true;
            let kept = self.bytes.len().min(edge);
            let rest = self.bytes.split_off(kept);
            self.push_tail(&rest, edge);
        }
        // The head is filled first; what follows can only be the tail.
        let (head, rest) = content.split_at(content.len().min(edge - self.bytes.len().min(edge)));
        if self.tail.is_empty() {
            self.bytes.extend_from_slice(head);
            self.push_tail(rest, edge);
        } else {
            self.push_tail(content, edge);
        }
    }

    fn push_tail(&mut self, content: &[u8], edge: usize) {
        // One more than is shown: a carriage return may be taken from its end.
        let content = &content[content.len().saturating_sub(edge + 1)..];
        self.tail.extend_from_slice(content);
        if self.tail.len() > 2 * edge {
            self.tail.drain(..self.tail.len() - edge - 1);
        }
    }

    /// Takes a trailing carriage return away; says whether there was one.
    pub(crate) fn strip_cr(&mut self) -> bool {
        let end = if self.tail.is_empty() { &mut self.bytes } else { &mut self.tail };
        let found = end.last() == Some(&b'\r');
        if found {
            end.pop();
        }
        found
    }

    pub(crate) fn tail(&self, limit: usize) -> &[u8] {
        &self.tail[self.tail.len().saturating_sub(edge(limit))..]
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity() + self.tail.capacity()
    }
}

/// How much of each end is kept under `limit`: head and tail never overlap.
pub(crate) fn edge(limit: usize) -> usize {
    EDGE.min(limit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let stdout = |partial, content_at| Some(Record { tag: Tag::Stdout, partial, content_at });
        let stderr = |partial, content_at| Some(Record { tag: Tag::Stderr, partial, content_at });
        for (line, expected) in [
            (&b"2026-11-24T02:30:59.511512340Z stdout F {}"[..], stdout(false, 40)),
            (b"2026-11-24T02:30:59.511512340+00:00 stderr P x", stderr(true, 45)),
            (b"2026-11-24T02:30:59Z stdout P:x y", stdout(true, 32)),
            (b"2026-11-24T02:30:59Z stdout F ", stdout(false, 30)),
            (b"2026-11-24T02:30:59Z stdout F", stdout(false, 29)),
            (b"2026-11-24T02:30:59Z stdout X y", None),
            (b"2026-11-24T02:30:59Z stdin F y", None),
            (b"2026-11-24 stdout F y", None),
            (b"2026-11-24T02:00:00.123456789Z AUDIT: id=\"x\"", None),
            (b"{\"kind\":\"Event\"}", None),
            (b"", None),
            (b"2", None),
        ] {
            assert_eq!(record(line), expected, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn a_joined_line_keeps_its_ends() {
        for step in [1, 3, 7, 100] {
            let all: Vec<u8> = (0..=255u8).collect();
            let mut joined = Joined::default();
            for part in all.chunks(step) {
                joined.push(part, 64);
            }
            assert!(joined.cut);
            assert_eq!(joined.bytes, all[..32], "step {step}");
            assert_eq!(joined.tail(64), &all[256 - 32..], "step {step}");
        }
    }

    #[test]
    fn a_joined_line_within_the_limit_is_whole() {
        let mut joined = Joined::default();
        joined.push(&[1; 32], 64);
        joined.push(&[2; 32], 64);
        assert!(!joined.cut && joined.bytes.len() == 64 && joined.tail(64).is_empty());
    }
}
