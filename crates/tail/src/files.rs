//! Opening files and decoding them.
//!
//! A door. It owns what a file is by its first bytes (never by its name), reading at offsets of the uncompressed
//! content, the descriptors, and the difference between the world failing and content that does not decode.
//!
//! Invariants: a [`Reader`] never uses a descriptor's own offset, so that all consumers share one descriptor; what a
//! guarded reader hands out follows, in the file as it is now, what it handed out before.
#![expect(clippy::disallowed_methods, reason = "door: log files")]

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::bufread::MultiGzDecoder;
use rustix::io::Errno;

/// How much of a stream's beginning identifies it.
pub(crate) const HEAD: usize = 4096;

/// How much before a position must be as it was.
pub(crate) const GUARD: usize = 256;

/// How a file is encoded, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Not at all.
    Plain,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 8878, one or more frames.
    Zstd,
}

impl Encoding {
    fn of(magic: &[u8]) -> Encoding {
        match magic {
            [0x1f, 0x8b, ..] => Encoding::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Encoding::Zstd,
            _ => Encoding::Plain,
        }
    }

    /// The reason that counts what does not decode.
    pub(crate) fn corrupt(self) -> &'static str {
        match self {
            Encoding::Zstd => "corrupt_zstd",
            Encoding::Plain | Encoding::Gzip => "corrupt_gz",
        }
    }
}

/// A file's descriptor, shared by all who read it.
///
/// It can be parked: closed, and opened again by the file's path when someone reads, as long as the same file is
/// there. It can be revoked: closed for good under everyone's hands, so that the disk gets its space back.
pub(crate) struct Slot {
    device: u64,
    inode: u64,
    place: Mutex<Place>,
}

struct Place {
    path: PathBuf,
    file: Option<Arc<File>>,
    revoked: bool,
}

impl Slot {
    /// The descriptor. `ESTALE` when it is gone, see [`is_stale`].
    fn file(&self) -> io::Result<Arc<File>> {
        let mut place = self.place();
        if let Some(file) = &place.file {
            return Ok(Arc::clone(file));
        }
        if place.revoked {
            return Err(Errno::STALE.into());
        }
        let file = match File::open(&place.path) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Errno::STALE.into()),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        if (meta.dev(), meta.ino()) != (self.device, self.inode) {
            return Err(Errno::STALE.into());
        }
        place.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Opens it, unless it is open.
    pub(crate) fn pin(&self) -> io::Result<()> {
        self.file().map(drop)
    }

    /// Closes it until someone reads.
    pub(crate) fn park(&self) {
        self.place().file = None;
    }

    /// Closes it for good.
    pub(crate) fn revoke(&self) {
        let mut place = self.place();
        (place.file, place.revoked) = (None, true);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.place().file.is_some()
    }

    /// Where the file is now.
    pub(crate) fn moved(&self, path: &Path) {
        path.clone_into(&mut self.place().path);
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a file was not there any more when it was to be read: the next scan knows what became of it.
pub(crate) fn is_stale(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::STALE.raw_os_error())
}

/// A file, and what it looked like when it was last looked at.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) slot: Arc<Slot>,
    pub(crate) path: PathBuf,
    pub(crate) encoding: Encoding,
    pub(crate) stat: Stat,
}

/// What the file system says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
    /// Of its content or of what the file system knows of it; nobody can set it back.
    pub(crate) changed: SystemTime,
}

impl Stat {
    fn of(meta: &std::fs::Metadata) -> Stat {
        let time = |seconds: i64, nanos: i64| {
            let seconds = Duration::from_secs(seconds.max(0).unsigned_abs());
            UNIX_EPOCH + seconds + Duration::from_nanos(nanos.max(0).unsigned_abs())
        };
        Stat {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: time(meta.mtime(), meta.mtime_nsec()),
            changed: time(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl Held {
    /// Opens a regular file.
    pub(crate) fn open(path: &Path) -> io::Result<Held> {
        // Opening a pipe would wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        let meta = file.metadata()?;
        let mut magic = [0; 4];
        let count = read_at(&file, &mut magic, 0)?;
        let encoding = Encoding::of(&magic[..count]);
        let place = Place { path: path.to_owned(), file: Some(Arc::new(file)), revoked: false };
        let slot = Slot { device: meta.dev(), inode: meta.ino(), place: Mutex::new(place) };
        Ok(Held { slot: Arc::new(slot), path: path.to_owned(), encoding, stat: Stat::of(&meta) })
    }

    /// The same descriptor as it looks now; one that is parked looks as it did.
    pub(crate) fn look(&self) -> io::Result<Held> {
        let mut held = self.clone();
        if !self.slot.is_open() {
            return Ok(held);
        }
        let file = self.slot.file()?;
        held.stat = Stat::of(&file.metadata()?);
        if held.stat.size != self.stat.size && self.stat.size < 4 {
            let mut magic = [0; 4];
            let count = read_at(&file, &mut magic, 0)?;
            held.encoding = Encoding::of(&magic[..count]);
        }
        Ok(held)
    }

    /// Whether it has no name any more, here or elsewhere.
    pub(crate) fn is_deleted(&self) -> bool {
        self.slot.file().and_then(|file| file.metadata()).map_or(true, |meta| meta.nlink() == 0)
    }

    /// Whether less than `percent` of its file system is free. `false` where nobody can tell.
    pub(crate) fn disk_is_full(&self, percent: u64) -> bool {
        let disk = self.slot.file().and_then(|file| Ok(rustix::fs::fstatvfs(&file)?));
        disk.is_ok_and(|disk| disk.f_bavail.saturating_mul(100) < disk.f_blocks.saturating_mul(percent))
    }

    /// The first bytes of the content, at most [`HEAD`]. NUL bytes before them are a hole that a foreign truncation
    /// left: they are like those of any other file, and passed over.
    pub(crate) fn head(&self) -> io::Result<Vec<u8>> {
        let mut head = vec![0; HEAD];
        let mut reader = Reader::new(self);
        let mut length = 0;
        while length < HEAD {
            match reader.read(&mut head[length..])? {
                Got::Bytes(count) => length += count,
                Got::End | Got::Corrupt | Got::Rewritten => break,
            }
            if head[0] == 0 {
                let hole = head[..length].iter().take_while(|byte| **byte == 0).count();
                head.copy_within(hole..length, 0);
                length -= hole;
                if length == 0 {
                    reader.skip_hole()?;
                }
            }
        }
        head.truncate(length);
        Ok(head)
    }

    /// The length of the content. Decodes all of a compressed file.
    pub(crate) fn content_length(&self) -> io::Result<u64> {
        if self.encoding == Encoding::Plain {
            return Ok(self.stat.size);
        }
        Ok(Reader::new(self).skip_to(u64::MAX)?.0)
    }

    /// The content before `offset`, at most [`GUARD`] bytes; only for a plain file.
    pub(crate) fn before(&self, offset: u64) -> io::Result<Option<Vec<u8>>> {
        if self.encoding != Encoding::Plain {
            return Ok(None);
        }
        let start = offset.saturating_sub(GUARD as u64);
        let mut bytes = vec![0; (offset - start) as usize];
        let count = self.slot.file().and_then(|file| read_at(&file, &mut bytes, start))?;
        bytes.truncate(count);
        Ok(Some(bytes))
    }

    /// Where the last line begins that starts before `offset`, looking back at most `limit` bytes (plain files).
    pub(crate) fn line_start(&self, offset: u64, limit: usize) -> io::Result<u64> {
        let start = offset.saturating_sub(limit as u64);
        let mut bytes = vec![0; (offset - start) as usize];
        let count = self.slot.file().and_then(|file| read_at(&file, &mut bytes, start))?;
        Ok(match memchr::memrchr(b'\n', &bytes[..count]) {
            Some(at) => start + at as u64 + 1,
            None if start == 0 => 0,
            None => offset,
        })
    }
}

/// What the file system says of `path`.
pub(crate) fn stat(path: &Path) -> io::Result<Stat> {
    std::fs::metadata(path).map(|meta| Stat::of(&meta))
}

/// What a path on the command line is.
pub(crate) enum PathKind {
    /// Of this size on disk.
    File(u64),
    Directory,
    /// A pipe or a device: readable once, of unknown size.
    Stream,
}

/// What `path` is.
pub(crate) fn kind(path: &Path) -> io::Result<PathKind> {
    let meta = std::fs::metadata(path)?;
    Ok(match meta.file_type() {
        kind if kind.is_file() => PathKind::File(meta.size()),
        kind if kind.is_dir() => PathKind::Directory,
        _ => PathKind::Stream,
    })
}

/// Whether the shorter content is the beginning of the longer one.
pub(crate) fn same_content(one: &Held, other: &Held) -> io::Result<bool> {
    let (mut one, mut other) = (Reader::new(one), Reader::new(other));
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let (a, b) = (fill(&mut one, &mut left)?, fill(&mut other, &mut right)?);
        let shared = a.min(b);
        if left[..shared] != right[..shared] {
            return Ok(false);
        }
        if shared < left.len() {
            return Ok(true);
        }
    }
}

fn fill(reader: &mut Reader, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..])? {
            Got::Bytes(count) => length += count,
            Got::End | Got::Corrupt | Got::Rewritten => break,
        }
    }
    Ok(length)
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Bytes(usize),
    /// The end of the content; a plain file may grow.
    End,
    /// What follows does not decode.
    Corrupt,
    /// The file no longer holds what was read from it before: nothing was read.
    Rewritten,
}

/// Reads the content of one file from an uncompressed offset on.
pub(crate) struct Reader {
    kind: Kind,
    offset: u64,
    /// Bytes taken from the file itself.
    taken: Arc<AtomicU64>,
    corrupt: bool,
    /// The last bytes before `offset`, at most [`GUARD`], when every read is checked against them.
    last: Option<Vec<u8>>,
    /// What the file begins with, as long as nothing was read.
    first: Vec<u8>,
}

enum Kind {
    Plain(Arc<Slot>),
    Decoded(Box<dyn Read + Send>),
}

impl Reader {
    pub(crate) fn new(held: &Held) -> Reader {
        let taken = Arc::new(AtomicU64::new(0));
        let at = At { slot: Arc::clone(&held.slot), taken: Arc::clone(&taken) };
        let kind = match held.encoding {
            Encoding::Plain => Kind::Plain(Arc::clone(&held.slot)),
            encoding => decoder(encoding, BufReader::with_capacity(1 << 16, at)),
        };
        Reader { kind, offset: 0, taken, corrupt: false, last: None, first: Vec::new() }
    }

    /// A reader that finds out when a plain file is truncated or rewritten under it, also when it is long again
    /// before anyone looks.
    pub(crate) fn guarded(held: &Held) -> io::Result<Reader> {
        let mut reader = Reader::new(held);
        if let Kind::Plain(slot) = &reader.kind {
            let mut first = vec![0; GUARD];
            let count = slot.file().and_then(|file| read_at(&file, &mut first, 0))?;
            first.truncate(count);
            (reader.first, reader.last) = (first, Some(Vec::new()));
        }
        Ok(reader)
    }

    /// A reader of standard input.
    pub(crate) fn stdin() -> io::Result<Reader> {
        Reader::of_stream(io::stdin())
    }

    /// A reader of a pipe or a device, as a shell's `<(…)` gives it.
    pub(crate) fn open_stream(path: &Path) -> io::Result<Reader> {
        Reader::of_stream(File::open(path)?)
    }

    /// A reader of something that is not a file (standard input), by its first bytes.
    fn of_stream(stream: impl Read + Send + 'static) -> io::Result<Reader> {
        let taken = Arc::new(AtomicU64::new(0));
        let mut counted = Counted { stream, taken: Arc::clone(&taken) };
        let mut magic = Vec::new();
        counted.by_ref().take(4).read_to_end(&mut magic)?;
        let encoding = Encoding::of(&magic);
        let whole = io::Cursor::new(magic).chain(counted);
        let kind = match encoding {
            // The splitter's buffer is large already.
            Encoding::Plain => Kind::Decoded(Box::new(whole)),
            encoding => decoder(encoding, BufReader::with_capacity(1 << 16, whole)),
        };
        Ok(Reader { kind, offset: 0, taken, corrupt: false, last: None, first: Vec::new() })
    }

    /// The offset of the next byte, uncompressed.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes were taken from the file itself.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// What stands before the next byte, where it is guarded.
    pub(crate) fn last(&self) -> Option<&[u8]> {
        self.last.as_deref()
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        if self.corrupt {
            return Ok(Got::Corrupt);
        }
        loop {
            let result = match &mut self.kind {
                Kind::Plain(slot) => {
                    let file = slot.file()?;
                    let count = file.read_at(buffer, self.offset);
                    // Looked at after the read: if the old bytes still stand, the new ones follow them.
                    if count.is_ok() && !self.stands(&file)? {
                        return Ok(Got::Rewritten);
                    }
                    count
                }
                Kind::Decoded(decoder) => decoder.read(buffer),
            };
            match result {
                Ok(0) => return Ok(Got::End),
                Ok(count) => {
                    self.offset += count as u64;
                    if let Some(last) = &mut self.last {
                        last.extend_from_slice(&buffer[count.saturating_sub(GUARD)..count]);
                        last.drain(..last.len().saturating_sub(GUARD));
                    }
                    if matches!(self.kind, Kind::Plain(_)) {
                        self.taken.store(self.offset, Ordering::Relaxed);
                    }
                    return Ok(Got::Bytes(count));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel's errors have a number, the decoders' have none.
                Err(error) if error.raw_os_error().is_some() => return Err(error),
                Err(_) => {
                    self.corrupt = true;
                    return Ok(Got::Corrupt);
                }
            }
        }
    }

    /// Goes to where the file system has data, where it can tell.
    fn skip_hole(&mut self) -> io::Result<()> {
        if let Kind::Plain(slot) = &self.kind {
            let file = slot.file()?;
            // The descriptor's own offset moves; nobody uses it.
            if let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(self.offset)) {
                self.offset = self.offset.max(data);
            }
        }
        Ok(())
    }

    /// Whether what was read, or found at the beginning, is still there.
    fn stands(&self, file: &File) -> io::Result<bool> {
        let (wanted, start) = match &self.last {
            None => return Ok(true),
            Some(_) if self.offset == 0 => (&self.first, 0),
            Some(last) => (last, self.offset - last.len() as u64),
        };
        let mut bytes = [0; GUARD];
        let bytes = &mut bytes[..wanted.len()];
        let count = read_at(file, bytes, start)?;
        Ok(bytes[..count] == **wanted)
    }

    /// Goes forward to `offset`, or as far as it decodes. Gives where it is, and the last bytes before it (at most
    /// [`GUARD`]; none for a plain file, which is not read).
    pub(crate) fn skip_to(&mut self, offset: u64) -> io::Result<(u64, Vec<u8>)> {
        if let Kind::Plain(slot) = &self.kind {
            if let Some(last) = &mut self.last {
                last.resize(GUARD.min(usize::try_from(offset).unwrap_or(GUARD)), 0);
                // What is missing stays zero, which the next read finds out.
                let start = offset - last.len() as u64;
                slot.file().and_then(|file| read_at(&file, last, start))?;
            }
            self.offset = offset;
            return Ok((offset, Vec::new()));
        }
        let mut buffer = vec![0; 1 << 16];
        let mut last = Vec::new();
        while self.offset < offset {
            let room = usize::try_from(offset - self.offset).unwrap_or(usize::MAX).min(buffer.len());
            let Got::Bytes(count) = self.read(&mut buffer[..room])? else { break };
            last.extend_from_slice(&buffer[count.saturating_sub(GUARD)..count]);
            last.drain(..last.len().saturating_sub(GUARD));
        }
        Ok((self.offset, last))
    }
}

fn decoder(encoding: Encoding, from: impl io::BufRead + Send + 'static) -> Kind {
    Kind::Decoded(match encoding {
        Encoding::Plain => Box::new(from),
        Encoding::Gzip => Box::new(MultiGzDecoder::new(from)),
        Encoding::Zstd => match zstd::stream::read::Decoder::with_buffer(from) {
            Ok(decoder) => Box::new(decoder),
            Err(error) => Box::new(Failing(Some(error))),
        },
    })
}

/// A decoder that could not be made.
struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(self.0.take().unwrap_or_else(|| io::ErrorKind::OutOfMemory.into()))
    }
}

/// Reads a shared descriptor at an offset of its own.
struct At {
    slot: Arc<Slot>,
    taken: Arc<AtomicU64>,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.slot.file()?.read_at(buffer, self.taken.load(Ordering::Relaxed))?;
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

struct Counted<R> {
    stream: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn held(bytes: &[u8]) -> (tempfile::NamedTempFile, Held) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let held = Held::open(file.path()).unwrap();
        (file, held)
    }

    fn all(held: &Held, from: u64) -> (Vec<u8>, Got) {
        let mut reader = Reader::new(held);
        reader.skip_to(from).unwrap();
        let (mut bytes, mut buffer) = (Vec::new(), [0; 1000]);
        loop {
            match reader.read(&mut buffer).unwrap() {
                Got::Bytes(count) => bytes.extend_from_slice(&buffer[..count]),
                end => return (bytes, end),
            }
        }
    }

    fn content() -> Vec<u8> {
        (0..50_000u32).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
    }

    #[test]
    fn every_encoding_gives_the_same_bytes() {
        let content = content();
        let (one, two) = content.split_at(content.len() / 3);
        let members = [gzip(one), gzip(two)].concat();
        let frames = [zstd::encode_all(one, 1).unwrap(), zstd::encode_all(two, 1).unwrap()].concat();
        for (bytes, encoding) in
            [(content.clone(), Encoding::Plain), (members, Encoding::Gzip), (frames, Encoding::Zstd)]
        {
            let (_file, held) = held(&bytes);
            assert_eq!(held.encoding, encoding);
            assert_eq!(all(&held, 0), (content.clone(), Got::End));
            assert_eq!(all(&held, 12_345), (content[12_345..].to_vec(), Got::End));
            assert_eq!(held.head().unwrap(), content[..HEAD]);
            assert_eq!(held.content_length().unwrap(), content.len() as u64);
        }
    }

    #[test]
    fn a_corrupt_tail_gives_what_decodes() {
        let content = content();
        for encoded in [gzip(&content), zstd::encode_all(&content[..], 1).unwrap()] {
            let (_file, held) = held(&encoded[..encoded.len() / 2]);
            let (bytes, end) = all(&held, 0);
            assert_eq!(end, Got::Corrupt);
            assert!(!bytes.is_empty() && content.starts_with(&bytes));
        }
    }

    #[test]
    fn what_is_skipped_leaves_its_last_bytes() {
        let content = content();
        let (_file, held) = held(&gzip(&content));
        let (reached, last) = Reader::new(&held).skip_to(70_000).unwrap();
        assert_eq!((reached, &last[..]), (70_000, &content[70_000 - GUARD..70_000]));
        let (reached, _) = Reader::new(&held).skip_to(u64::MAX).unwrap();
        assert_eq!(reached, content.len() as u64);
    }

    #[test]
    fn a_copy_has_the_same_content_and_a_fork_has_not() {
        let content = content();
        let mut fork = content.clone();
        *fork.last_mut().unwrap() = b'x';
        let (_a, plain) = held(&content);
        let (_b, copy) = held(&gzip(&content));
        let (_c, part) = held(&content[..5000]);
        let (_d, fork) = held(&fork);
        assert!(same_content(&plain, &copy).unwrap());
        assert!(same_content(&part, &plain).unwrap());
        assert!(!same_content(&plain, &fork).unwrap());
    }

    #[test]
    fn the_last_line_begins_after_a_line_feed() {
        let (_file, held) = held(b"one\ntwo\nthr");
        for (offset, start) in [(11, 8), (8, 8), (7, 4), (2, 0)] {
            assert_eq!(held.line_start(offset, 100).unwrap(), start);
        }
    }
}
