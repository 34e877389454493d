//! More audit log from the logs in `testdata/`: the same lines again, with fresh audit IDs and later times.
//!
//! Invariant: a copy has the length of the original, line by line, and differs from every other copy in every line
//! whose audit ID is a UUID or whose times can be read.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use memchr::memmem;
use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The logs that are taken where none is named.
pub(crate) fn default_paths() -> Vec<PathBuf> {
    ["testdata/audit.jsonl.gz", "testdata/requestresponse.jsonl.gz"]
        .map(|path| crate::repo::root().join(path))
        .into()
}

/// Audit lines in memory, which can be made into their own copies.
pub(crate) struct Corpus {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    /// How far the times of one copy are from those of the next.
    period_micros: i64,
    /// The latest time of the original.
    last_micros: i64,
}

struct Line {
    /// With the newline.
    range: Range<usize>,
    /// Where the first eight hexadecimal digits of the audit ID stand, and what they were.
    id: Option<(usize, u32)>,
    /// Where the times stand, and what they were in microseconds since 1970.
    times: [Option<(usize, i64)>; 2],
}

/// `2026-11-24T00:33:57.317967Z`
const TIME_BYTES: usize = 27;

impl Corpus {
    /// Reads logs, plain or gzip, one after the other.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Corpus> {
        let mut bytes = Vec::new();
        for path in paths {
            read_to_end(path, &mut bytes).with_context(|| format!("read {}", path.display()))?;
            if bytes.last().is_some_and(|last| *last != b'\n') {
                bytes.push(b'\n');
            }
        }
        ensure!(!bytes.is_empty(), "there are no lines to copy");
        let mut lines = Vec::new();
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', &bytes) {
            lines.push(Line::find(&bytes, start..newline + 1));
            start = newline + 1;
        }
        let times = || lines.iter().filter_map(|line| line.times[1]).map(|(_, micros)| micros);
        let span = times().max().unwrap_or(0) - times().min().unwrap_or(0);
        let last_micros = times().max().unwrap_or(0);
        Ok(Corpus { bytes, lines, period_micros: span + 1_000_000, last_micros })
    }

    /// How many lines a copy has.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Becomes copy `number`; copy 0 is the original.
    pub(crate) fn become_copy(&mut self, number: u32) {
        let shift = i64::from(number) * self.period_micros;
        let mask = number.wrapping_mul(0x9e37_79b1);
        let mut text = Vec::with_capacity(TIME_BYTES);
        for line in &self.lines {
            if let Some((at, id)) = line.id {
                text.clear();
                // Writing to a vector cannot fail.
                let _ = write!(text, "{:08x}", id ^ mask);
                self.bytes[at..at + 8].copy_from_slice(&text);
            }
            for (at, micros) in line.times.into_iter().flatten() {
                let Ok(time) = Timestamp::from_microsecond(micros + shift) else { continue };
                text.clear();
                let _ = write!(text, "{time:.6}");
                if text.len() == TIME_BYTES {
                    self.bytes[at..at + TIME_BYTES].copy_from_slice(&text);
                }
            }
        }
    }

    /// Becomes the last copy that has no time after `now`.
    pub(crate) fn become_recent(&mut self, now: Timestamp) {
        let copies = (now.as_microsecond() - self.last_micros).max(0) / self.period_micros;
        self.become_copy(u32::try_from(copies).unwrap_or(0));
    }

    /// One line of the present copy, with its newline.
    pub(crate) fn line(&self, number: usize) -> &[u8] {
        &self.bytes[self.lines[number].range.clone()]
    }

    /// Writes copies until `path` has as many whole lines as fit into `size`: how many lines and bytes that are.
    pub(crate) fn write(&mut self, path: &Path, size: u64) -> Result<(u64, u64)> {
        let mut file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        let (mut lines, mut written) = (0, 0);
        for number in 0.. {
            self.become_copy(number);
            let room = size - written;
            let fitting = self.lines.partition_point(|line| line.range.end as u64 <= room);
            let end = fitting.checked_sub(1).map_or(0, |last| self.lines[last].range.end);
            file.write_all(&self.bytes[..end]).with_context(|| format!("write {}", path.display()))?;
            lines += fitting as u64;
            written += end as u64;
            if fitting < self.lines.len() {
                break;
            }
        }
        Ok((lines, written))
    }
}

impl Line {
    fn find(bytes: &[u8], range: Range<usize>) -> Line {
        let text = &bytes[range.clone()];
        let id = memmem::find(text, b"\"auditID\":\"").map(|at| at + 11).and_then(|at| {
            let digits = std::str::from_utf8(text.get(at..at + 8)?).ok()?;
            let uuid = text.get(at + 8) == Some(&b'-')
                && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            uuid.then(|| u32::from_str_radix(digits, 16).ok()).flatten().map(|id| (range.start + at, id))
        });
        // The event's own times follow its objects, which may hold such keys too.
        let time = |key: &[u8]| {
            let at = memmem::rfind(text, key)? + key.len();
            let time: Timestamp = std::str::from_utf8(text.get(at..at + TIME_BYTES)?).ok()?.parse().ok()?;
            Some((range.start + at, time.as_microsecond()))
        };
        let times = [time(b"\"requestReceivedTimestamp\":\""), time(b"\"stageTimestamp\":\"")];
        Line { range, id, times }
    }
}

/// Appends a file, unpacked where its name ends in `.gz`.
fn read_to_end(path: &Path, bytes: &mut Vec<u8>) -> std::io::Result<usize> {
    let file = File::open(path)?;
    if path.extension().is_some_and(|extension| extension == "gz") {
        flate2::read::MultiGzDecoder::new(std::io::BufReader::new(file)).read_to_end(bytes)
    } else {
        (&file).read_to_end(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = concat!(
        r#"{"auditID":"0a1b2c3d-0000","stage":"ResponseComplete","requestReceivedTimestamp":"2026-11-24T00:33:57.317967Z","#,
        r#""stageTimestamp":"2026-11-24T00:33:57.363000Z","annotations":{}}"#,
        "\n",
        r#"{"auditID":"client-chosen-id","stageTimestamp":"2026-11-24T00:33:59.000001Z"}"#,
        "\n",
        r#"{"auditID":"x"}"#,
        "\n",
    );

    fn corpus(folder: &Path) -> Corpus {
        let path = folder.join("log");
        std::fs::write(&path, LOG).unwrap();
        Corpus::read(&[path]).unwrap()
    }

    #[test]
    fn copies_keep_lengths_and_change_ids_and_times() {
        let folder = tempfile::tempdir().unwrap();
        let mut corpus = corpus(folder.path());
        corpus.become_copy(0);
        assert_eq!(corpus.bytes, LOG.as_bytes());
        corpus.become_copy(3);
        let copy = String::from_utf8(corpus.bytes.clone()).unwrap();
        assert_eq!(copy.len(), LOG.len());
        assert!(
            !copy.contains("0a1b2c3d") && copy.contains("-0000") && copy.contains("client-chosen-id"),
            "{copy}"
        );
        // A copy is 1.637001 s of log and one second more.
        assert!(copy.contains(r#""stageTimestamp":"2026-11-24T00:34:05.274003Z","annotations""#), "{copy}");
        assert!(copy.contains("2026-11-24T00:34:06.911004Z"), "{copy}");
        assert_eq!(corpus.line(2), b"{\"auditID\":\"x\"}\n");
        // Three periods of 2.637001 s after its last time, and not yet four.
        corpus.become_recent("2026-11-24T00:34:09.5Z".parse().unwrap());
        assert_eq!(corpus.bytes, copy.as_bytes());
    }

    #[test]
    fn a_file_has_whole_lines_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut corpus = corpus(folder.path());
        let path = folder.path().join("out");
        let (lines, bytes) = corpus.write(&path, LOG.len() as u64 * 2 + 20).unwrap();
        assert_eq!((lines, bytes), (6, LOG.len() as u64 * 2));
        let written = std::fs::read(&path).unwrap();
        assert_eq!(&written[..LOG.len()], LOG.as_bytes());
        assert_ne!(&written[LOG.len()..], LOG.as_bytes());
    }
}
