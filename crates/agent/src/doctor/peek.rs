//! The first and the last event of a log, without reading what is between them.
//!
//! It looks at bytes that it is given; a log is opened by `look.rs`.

use super::facts::Content;
use auditship_event::Event;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

/// So much is searched for a whole event from either end; the API server's own limit for a request is 1.5 MiB.
const REACH: u64 = 16 << 20;
/// What is read first from the end.
const STEP: u64 = 64 << 10;

/// What a log of `bytes` holds.
///
/// # Errors
/// It cannot be read.
pub fn content(file: &mut (impl Read + Seek), bytes: u64) -> io::Result<Content> {
    file.seek(SeekFrom::Start(0))?;
    let head = first_line(&mut *file)?;
    if head.text.is_empty() {
        return Ok(Content::Empty);
    }
    if head.legacy {
        return Ok(Content::Legacy);
    }
    let Some(first) = head.time else { return Ok(Content::Other) };
    let last = last(file, bytes)?.unwrap_or(first);
    Ok(Content::Events { first, last })
}

/// The time of the first event of a backup, and how long it was when it was written.
///
/// # Errors
/// It cannot be read.
pub fn backup(
    file: &mut (impl Read + Seek),
    on_disk: u64,
    gzip: bool,
) -> io::Result<(Option<Timestamp>, u64)> {
    file.seek(SeekFrom::Start(0))?;
    if !gzip {
        return Ok((first_line(file)?.time, on_disk));
    }
    let first = first_line(MultiGzDecoder::new(&mut *file))?.time;
    // The trailer has the length, modulo 4 GiB (RFC 1952, ISIZE).
    let mut size = [0; 4];
    if on_disk < size.len() as u64 {
        return Ok((first, 0));
    }
    file.seek(SeekFrom::End(-4))?;
    file.read_exact(&mut size)?;
    Ok((first, u64::from(u32::from_le_bytes(size))))
}

#[derive(Default)]
struct Head {
    text: Vec<u8>,
    time: Option<Timestamp>,
    legacy: bool,
}

/// The first lines, until one is an event.
fn first_line(file: impl Read) -> io::Result<Head> {
    let mut lines = BufReader::new(file.take(REACH));
    let mut head = Head::default();
    let mut seen = false;
    loop {
        head.text.clear();
        // A backup that is cut short may still begin well.
        let read = match lines.read_until(b'\n', &mut head.text) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            read => read?,
        };
        if read == 0 {
            if seen {
                head.text.push(b'?');
            }
            return Ok(head);
        }
        seen = true;
        head.time = time(&head.text);
        head.legacy = head.text.windows(11).take(64).any(|part| part == b" AUDIT: id=");
        if head.time.is_some() || head.legacy {
            return Ok(head);
        }
    }
}

/// The last whole event, from the end backwards.
fn last(file: &mut (impl Read + Seek), bytes: u64) -> io::Result<Option<Timestamp>> {
    let mut step = STEP;
    loop {
        let from = bytes.saturating_sub(step);
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        Read::take(&mut *file, bytes - from).read_to_end(&mut tail)?;
        let mut lines: Vec<&[u8]> = tail.split(|byte| *byte == b'\n').collect();
        if from > 0 {
            lines.remove(0);
        }
        if let Some(time) = lines.iter().rev().find_map(|line| time(line)) {
            return Ok(Some(time));
        }
        if from == 0 || step >= REACH {
            return Ok(None);
        }
        step *= 8;
    }
}

/// When the event was made, if the line is one.
fn time(line: &[u8]) -> Option<Timestamp> {
    let event = Event::parse(line.trim_ascii()).ok()?;
    Timestamp::from_microsecond(event.time()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write};

    fn event(second: i64, padding: usize) -> Vec<u8> {
        let at = Timestamp::from_second(1_800_000_000 + second).unwrap();
        let text = format!(
            "{{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"stage\":\"ResponseComplete\",\"requestObject\":\"{}\",\"stageTimestamp\":\"{at}\"}}\n",
            "x".repeat(padding)
        );
        text.into_bytes()
    }

    fn events(first: i64, last: i64) -> Content {
        let at = |second| Timestamp::from_second(1_800_000_000 + second).unwrap();
        Content::Events { first: at(first), last: at(last) }
    }

    #[test]
    fn what_a_log_holds() {
        let torn = &event(9, 0)[..40];
        for (bytes, want) in [
            (vec![], Content::Empty),
            (event(1, 0), events(1, 1)),
            ([event(1, 0), event(2, 10), event(3, 0)].concat(), events(1, 3)),
            // The last line is being written, the first one is a fragment, and one is longer than a step.
            ([&b"ent\"}\n"[..], &event(1, 0), &event(2, 300_000), torn].concat(), events(1, 2)),
            (b"2017-01-01T00:00:00Z AUDIT: id=\"x\" stage=y\n".to_vec(), Content::Legacy),
            (b"hello\n".to_vec(), Content::Other),
            (vec![0; 1000], Content::Other),
        ] {
            let length = bytes.len() as u64;
            assert_eq!(content(&mut Cursor::new(bytes), length).unwrap(), want);
        }
    }

    #[test]
    fn what_a_backup_says() {
        let plain = [event(5, 1000), event(6, 0)].concat();
        let first = Timestamp::from_second(1_800_000_005).ok();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&plain).unwrap();
        let packed = packed.finish().unwrap();
        let length = plain.len() as u64;
        let look = |bytes: &[u8], gzip| backup(&mut Cursor::new(bytes), bytes.len() as u64, gzip);
        assert_eq!(look(&plain, false).unwrap(), (first, length));
        assert_eq!(look(&packed, true).unwrap(), (first, length));
        assert_eq!(look(b"", true).unwrap(), (None, 0));
        assert!(look(b"no gzip at all", true).is_err());
    }
}
