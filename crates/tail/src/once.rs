//! The given files, once, in the order given: the source of `ship` and `redact`.
//!
//! It owns what a path means on the command line (a file or pipe in any encoding, `-` for standard input) and where a run of
//! container records may go on. A stream's number is the place of its path.

use std::path::{Path, PathBuf};

use auditship_event::{Line, Span, StreamId};

use crate::cri::Pieces;
use crate::files::{self, Encoding, Got, Held, PathKind, Reader};
use crate::lines::{Format, Splitter};
use crate::names;
use crate::roster;
use crate::source::{Error, Lost, Progress, Source};

/// Reads the given files once.
pub struct Once {
    paths: Vec<PathBuf>,
    sizes: Vec<Option<u64>>,
    splitter: Splitter,
    open: Option<Open>,
    /// The number of the file that is open or is to be opened.
    current: usize,
    lost: Vec<Lost>,
}

struct Open {
    reader: Reader,
    encoding: Encoding,
}

impl Once {
    /// Looks at every path, so that a mistake in one is found before the first line.
    pub fn new(paths: Vec<PathBuf>, format: Format, limit: usize) -> Result<Once, Error> {
        let mut sizes = Vec::with_capacity(paths.len());
        for path in &paths {
            sizes.push(if is_stdin(path) { None } else { check(path)? });
        }
        let splitter = Splitter::new(StreamId(0), format, limit);
        Ok(Once { paths, sizes, splitter, open: None, current: 0, lost: Vec::new() })
    }

    /// The path of a stream.
    pub fn path(&self, stream: StreamId) -> Option<&Path> {
        self.paths.get(usize::try_from(stream.0).ok()?).map(|path| &**path)
    }

    /// How many bytes there are to read, as they are on disk; `None` with standard input.
    pub fn bytes_total(&self) -> Option<u64> {
        self.sizes.iter().copied().sum()
    }

    /// How many of them were read.
    pub fn bytes_read(&self) -> u64 {
        let finished: u64 = self.sizes[..self.current].iter().flatten().sum();
        finished + self.open.as_ref().map_or(0, |open| open.reader.taken())
    }

    fn open(&mut self) -> Result<(), Error> {
        let path = &self.paths[self.current];
        let failed = |error| Error::Open { path: path.clone(), error };
        let (reader, encoding) = if is_stdin(path) {
            (Reader::stdin().map_err(failed)?, Encoding::Plain)
        } else if self.sizes[self.current].is_none() {
            (Reader::open_stream(path).map_err(failed)?, Encoding::Plain)
        } else {
            let held = Held::open(path).map_err(failed)?;
            (Reader::new(&held), held.encoding)
        };
        self.splitter.begin(StreamId(self.current as u64), 0, 0);
        self.open = Some(Open { reader, encoding });
        Ok(())
    }

    /// The end of a file: its last line, and what cannot go on in the next file.
    fn close(&mut self, each: &mut dyn FnMut(Line<'_>, &Pieces)) {
        while let Some((line, pieces)) = self.splitter.finish() {
            each(line, pieces);
        }
        let next = self.paths.get(self.current + 1);
        let follows = next
            .is_some_and(|next| family(next).is_some() && family(next) == family(&self.paths[self.current]));
        if !follows || self.splitter.carries() {
            while let Some((line, pieces)) = self.splitter.abandon() {
                each(line, pieces);
            }
        }
    }

    fn lose(&mut self, encoding: Encoding, taken: u64) {
        let size = self.sizes[self.current].unwrap_or(taken);
        let start = self.splitter.position();
        // How long the content would be is not known: the bytes left on disk are the least, and one is never none.
        let end = start + size.saturating_sub(taken).max(1);
        let span = Span { stream: StreamId(self.current as u64), start, end };
        let file = self.paths[self.current].clone();
        self.lost.push(Lost { span, reason: encoding.corrupt(), file });
    }
}

impl Source for Once {
    fn read_pieces(&mut self, each: &mut dyn FnMut(Line<'_>, &Pieces)) -> Result<Progress, Error> {
        if self.current == self.paths.len() {
            return Ok(Progress::End);
        }
        if self.open.is_none() {
            self.open()?;
        }
        let Some(open) = &mut self.open else { return Ok(Progress::End) };
        let got = open.reader.read(self.splitter.space()).map_err(|error| Error::Read {
            path: self.paths[self.current].clone(),
            offset: open.reader.offset(),
            error,
        })?;
        if let Got::Bytes(count) = got {
            self.splitter.filled(count);
            while let Some((line, pieces)) = self.splitter.next() {
                each(line, pieces);
            }
            // Nothing is ever resumed.
            drop(self.splitter.stretches());
            return Ok(Progress::More);
        }
        let (encoding, taken) = (open.encoding, open.reader.taken());
        self.close(each);
        if got == Got::Corrupt {
            self.lose(encoding, taken);
        }
        self.open = None;
        self.current += 1;
        Ok(if self.current == self.paths.len() { Progress::End } else { Progress::More })
    }

    fn lost(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.lost)
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// The size on disk of a file; `None` for what can only be read.
fn check(path: &Path) -> Result<Option<u64>, Error> {
    match files::kind(path) {
        Ok(PathKind::File(size)) => Ok(Some(size)),
        Ok(PathKind::Stream) => Ok(None),
        Ok(PathKind::Directory) => Err(Error::Directory { path: path.to_owned() }),
        Err(error) => Err(Error::Open { path: path.to_owned(), error }),
    }
}

/// The live file that `path` belongs to, whatever it is compressed with.
fn family(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_string_lossy();
    let (plain, _) = names::uncompressed(&name);
    (!is_stdin(path)).then(|| roster::live_path(&path.with_file_name(plain)))
}
