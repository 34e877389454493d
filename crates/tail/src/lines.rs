//! Bytes in, whole lines out.
//!
//! It owns the buffer, the spans, the limit on a line and the joining of a container runtime's records. It does no
//! I/O: the caller fills [`Splitter::space`] and says how much came.
//!
//! **Spans.** A line's span ends with the last byte of its last record, and begins where the line handed out before
//! it ended. For an ordinary line that is the line and its terminator. For joined records it is the first record to
//! the last. Where records of the other tag lie in between (`stdout P`, `stderr F`, `stdout F`), the line that is
//! complete first is handed out first and takes the bytes up to its end, less one for each run that is still open, so
//! that spans stay disjoint, contiguous, in order and never empty, and a position at the end of a stream means that
//! nothing of it is open. What is handed out with which span is therefore a function of the stream's bytes alone. The
//! price: a position may lie inside an open run. A stream is therefore resumed from an **anchor**, the last place at or
//! before the position where nothing was open, handing out nothing that ends at or before the position
//! ([`Splitter::begin`]). [`Splitter::stretches`] tells between which places runs were open.
//!
//! **Carried.** A run that is open when the stream ends goes on in the next stream that is begun. Its bytes in the
//! old stream are then the `carried` span of the line that ends it (when both tags are open: of the line that ends
//! the last of them). A run that would cross two ends of streams is given up at the second (`unfinished`).
//!
//! **Holes.** NUL bytes in front of a line are what a foreign truncation leaves when the writer does not append
//! (natefinch/lumberjack `lumberjack.go`, `openNew`: no `O_APPEND`). They count in the span, not in the line, and
//! take no memory.

use std::ops::Range;

use auditship_event::{Cut, Line, Span, StreamId};

use crate::cri::{self, Joined, Pieces, Tag, Terminator};

/// The limit on a line where the configuration names none.
pub const DEFAULT_LIMIT: usize = 4 << 20;

/// The buffer's first size; it grows up to the limit and shrinks back.
const INITIAL: usize = 256 << 10;

/// How the lines stand in their files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One event a line, as the API server writes its audit log.
    Audit,
    /// Records of a container runtime. A physical line that is none is handed out as it is.
    Cri,
    /// Line by line: what has the form of a record is one. An audit event begins with `{` and can never be.
    #[default]
    Auto,
}

impl Format {
    /// Whether a stream that begins with `head` may hold records, so that it can be resumed at an anchor alone.
    pub fn may_join(self, head: &[u8]) -> bool {
        match self {
            Format::Audit => false,
            Format::Cri => true,
            Format::Auto => head.iter().find(|byte| **byte != 0) != Some(&b'{'),
        }
    }
}

/// Cuts one stream after the other into lines.
///
/// Invariants: `from <= scanned <= to <= buffer.len()`; no line feed in `from..scanned`; `buffer[from]` is byte `at`
/// of the stream; `claimed <= at`, and no line handed out ended after `claimed`.
pub struct Splitter {
    format: Format,
    limit: usize,
    stream: StreamId,
    buffer: Vec<u8>,
    from: usize,
    scanned: usize,
    to: usize,
    at: u64,
    claimed: u64,
    resume: u64,
    /// Behind the last physical line that left no run open.
    quiet: u64,
    /// A run has been open since `quiet`.
    joining: bool,
    /// See [`Splitter::stretches`].
    stretches: Vec<Range<u64>>,
    /// The physical line that is longer than the limit, as far as it came.
    long: Joined,
    /// Set when the line in `long` was handed out.
    long_spent: bool,
    runs: [Run; 2],
    /// The bytes of the stream before that belong to the carried runs.
    carry: Option<Span>,
    single: Pieces,
    hole_bytes: u64,
}

/// A run of records of one tag: open from the first `P` to the `F`.
#[derive(Default)]
struct Run {
    joined: Joined,
    pieces: Pieces,
    open: bool,
    carried: bool,
    /// Set when the line was handed out and only its bytes are still borrowed.
    spent: bool,
    /// Where its last record ended.
    end: u64,
}

/// A physical line.
#[derive(Clone, Copy)]
struct Physical {
    /// In the buffer; empty when the line is in `long`.
    from: usize,
    to: usize,
    long: bool,
    /// One past its terminator.
    end: u64,
    terminator: Terminator,
}

/// A line that is complete, by where its bytes are.
struct Out {
    place: Place,
    span: Span,
    carried: Option<Span>,
    /// The container runtime says that it stood on standard error, where no audit event ever does.
    stderr: bool,
    reason: &'static str,
}

enum Place {
    Buffer(Range<usize>),
    Long(usize),
    Run(usize),
}

impl Splitter {
    /// A splitter at the first byte of `stream`.
    pub fn new(stream: StreamId, format: Format, limit: usize) -> Splitter {
        Splitter {
            format,
            limit: limit.max(16),
            stream,
            buffer: vec![0; INITIAL.min(limit.max(16) + 2)],
            from: 0,
            scanned: 0,
            to: 0,
            at: 0,
            claimed: 0,
            resume: 0,
            quiet: 0,
            joining: false,
            stretches: Vec::new(),
            long: Joined::default(),
            long_spent: false,
            runs: Default::default(),
            carry: None,
            single: Pieces::default(),
            hole_bytes: 0,
        }
    }

    /// Goes on with another stream, whose bytes will come from offset `from`; lines that end at or before `resume`
    /// are not handed out. For ordinary lines `from == resume`; for records `from` is an anchor.
    ///
    /// Runs that are open are carried into it. A caller whose streams do not follow each other calls
    /// [`Splitter::abandon`] until it has nothing more, before. Bytes of an unterminated line are forgotten.
    pub fn begin(&mut self, stream: StreamId, from: u64, resume: u64) {
        let open = self.runs.iter().any(|run| run.open);
        self.carry = open.then_some(Span { stream: self.stream, start: self.position(), end: self.fed() });
        for run in &mut self.runs {
            run.carried = run.open;
            run.end = from;
        }
        (self.from, self.scanned, self.to) = (0, 0, 0);
        self.long.clear();
        self.stream = stream;
        self.at = from;
        self.claimed = from;
        self.resume = resume;
        (self.quiet, self.joining) = (from, open);
        self.stretches.clear();
    }

    /// The stream.
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The end of the last line handed out.
    pub fn position(&self) -> u64 {
        self.claimed.max(self.resume)
    }

    /// The offset of the next byte to be fed.
    pub fn fed(&self) -> u64 {
        self.at + (self.to - self.from) as u64
    }

    /// The stretches of the stream in which runs were open, each from its anchor to the end of the last of them, since
    /// this was last called. A position inside one is resumed from its beginning, any other from itself.
    pub fn stretches(&mut self) -> std::vec::Drain<'_, Range<u64>> {
        self.stretches.drain(..)
    }

    /// The last place where no run was open. A position behind it is resumed from it.
    pub fn anchor(&self) -> u64 {
        self.quiet
    }

    /// Notes, behind a physical line, whether runs are open.
    fn note(&mut self, end: u64) {
        if self.unfinished() {
            self.joining = true;
            return;
        }
        if std::mem::take(&mut self.joining) {
            self.stretches.push(self.quiet..end);
        }
        self.quiet = end;
    }

    /// How many bytes of holes were passed so far, in all streams.
    pub fn hole_bytes(&self) -> u64 {
        self.hole_bytes
    }

    /// The bytes of memory held.
    pub fn memory(&self) -> usize {
        let runs: usize = self.runs.iter().map(|run| run.joined.capacity()).sum();
        self.buffer.capacity() + self.long.capacity() + runs
    }

    /// Room for more bytes: never empty once [`Splitter::next`] has returned `None`.
    pub fn space(&mut self) -> &mut [u8] {
        if self.from == self.to {
            (self.from, self.scanned, self.to) = (0, 0, 0);
            if self.buffer.len() > INITIAL {
                self.buffer.truncate(INITIAL);
                self.buffer.shrink_to_fit();
            }
        } else if self.to == self.buffer.len() && self.from > 0 {
            self.buffer.copy_within(self.from..self.to, 0);
            self.scanned -= self.from;
            self.to -= self.from;
            self.from = 0;
        }
        if self.to == self.buffer.len() {
            // A line and its terminator fit exactly; `physical` has moved anything longer away.
            let size = (self.buffer.len() * 2).min(self.limit + 2).max(self.to + 1);
            self.buffer.resize(size, 0);
        }
        &mut self.buffer[self.to..]
    }

    /// Says that the first `count` bytes of [`Splitter::space`] were filled.
    pub fn filled(&mut self, count: usize) {
        debug_assert!(self.to + count <= self.buffer.len());
        self.to = (self.to + count).min(self.buffer.len());
    }

    /// The next line that is complete, and its physical layout.
    #[expect(clippy::should_implement_trait, reason = "it lends: an Iterator cannot")]
    pub fn next(&mut self) -> Option<(Line<'_>, &Pieces)> {
        loop {
            let physical = self.physical()?;
            let out = self.take(physical);
            self.note(physical.end);
            if let Some(out) = out
                && out.span.end > self.resume
            {
                return Some(self.show(out));
            }
        }
    }

    /// The last line, when the stream ends without a terminator. To be called once [`Splitter::next`] has nothing
    /// more and the stream is known to have ended; may have to be called twice.
    pub fn finish(&mut self) -> Option<(Line<'_>, &Pieces)> {
        self.tidy();
        self.skip_nuls();
        let long = self.long.cut;
        if !long && self.from == self.to {
            self.forget_settled();
            return None;
        }
        let (from, to) = (self.from, self.to);
        if long {
            self.long.push(&self.buffer[from..to], self.limit);
        }
        self.at += (to - from) as u64;
        (self.from, self.scanned) = (to, to);
        self.long_spent = long;
        let out = self.take(Physical { from, to, long, end: self.at, terminator: Terminator::None });
        self.note(self.at);
        let out = out?;
        (out.span.end > self.resume).then(|| self.show(out))
    }

    /// When every byte of the stream was settled before, so was what its open runs hold: by the line that ended them
    /// in the next stream, or when they were given up. They must not be carried again.
    fn forget_settled(&mut self) {
        if self.resume > 0 && self.fed() <= self.resume {
            self.carry = None;
            for run in &mut self.runs {
                run.spent |= run.open;
                (run.open, run.carried) = (false, false);
            }
            self.note(self.at);
        }
    }

    /// Whether a run of records is open: the stream before its successor begins, or a loss.
    pub fn unfinished(&self) -> bool {
        self.runs.iter().any(|run| run.open)
    }

    /// Whether the runs that are open came from the stream before: they cannot be carried once more.
    pub fn carries(&self) -> bool {
        self.carry.is_some()
    }

    /// Gives up the open runs, one line at a time, oldest end first: nothing follows them.
    pub fn abandon(&mut self) -> Option<(Line<'_>, &Pieces)> {
        loop {
            self.tidy();
            let open = (0..2).filter(|index| self.runs[*index].open);
            let index = open.min_by_key(|index| self.runs[*index].end)?;
            let last = !self.runs[1 - index].open;
            // Of two, the first takes at least one byte; `claim` leaves the other run one.
            let end = if last { self.at } else { self.runs[index].end.max(self.claimed + 1) + 1 };
            let out = self.close(index, end.min(self.at), "unfinished");
            self.note(self.at);
            if self.resume == 0 || out.span.end > self.resume {
                return Some(self.show(out));
            }
        }
    }

    /// Frees what only a line handed out before still borrowed.
    fn tidy(&mut self) {
        if self.long_spent {
            self.long.clear();
            self.long_spent = false;
        }
        for run in &mut self.runs {
            if run.spent {
                run.joined.clear();
                run.pieces.clear();
                run.spent = false;
            }
        }
    }

    fn skip_nuls(&mut self) {
        if self.long.cut {
            return;
        }
        let hole = self.buffer[self.from..self.to].iter().take_while(|byte| **byte == 0).count();
        self.from += hole;
        self.at += hole as u64;
        self.hole_bytes += hole as u64;
        self.scanned = self.scanned.max(self.from);
    }

    /// The next physical line; moves the bytes of one that is too long out of the buffer.
    fn physical(&mut self) -> Option<Physical> {
        self.tidy();
        self.skip_nuls();
        let found = memchr::memchr(b'\n', &self.buffer[self.scanned..self.to]);
        let Some(found) = found.map(|found| self.scanned + found) else {
            self.scanned = self.to;
            // With a carriage return a line of exactly the limit has one byte more before its line feed.
            if self.long.cut || self.to - self.from > self.limit + 1 {
                self.long.push(&self.buffer[self.from..self.to], self.limit);
                self.at += (self.to - self.from) as u64;
                self.from = self.to;
            }
            return None;
        };
        let from = self.from;
        self.at += (found + 1 - from) as u64;
        (self.from, self.scanned) = (found + 1, found + 1);
        let long = self.long.cut || found - from > self.limit + 1;
        if long {
            self.long.push(&self.buffer[from..found], self.limit);
            self.long_spent = true;
        }
        Some(Physical { from, to: found, long, end: self.at, terminator: Terminator::Lf })
    }

    /// What a physical line means: a line, or one more record of a run.
    fn take(&mut self, physical: Physical) -> Option<Out> {
        let Physical { from, mut to, long, end, mut terminator } = physical;
        let record = match self.format {
            Format::Audit => None,
            Format::Cri | Format::Auto if long => cri::record(&self.long.bytes),
            Format::Cri | Format::Auto => cri::record(&self.buffer[from..to]),
        };
        // The content of a partial record may end in a carriage return that the line goes on after.
        let partial = record.is_some_and(|record| record.partial);
        if terminator == Terminator::Lf && !partial {
            let stripped = if long { self.long.strip_cr() } else { self.buffer[from..to].ends_with(b"\r") };
            if stripped {
                to -= usize::from(!long);
                terminator = Terminator::CrLf;
            }
        }
        if let Some(record) = record
            && (record.partial || self.runs[record.tag.index()].open)
        {
            self.join(record.tag, record.content_at, Physical { from, to, long, end, terminator });
            return (!record.partial).then(|| self.close(record.tag.index(), end, "too_long"));
        }
        let content_at =
            record.map_or(0, |record| record.content_at.min(if long { usize::MAX } else { to - from }));
        let span = self.claim(end);
        self.single.clear();
        let place = if long || to - from - content_at > self.limit {
            if !long {
                self.long.push(&self.buffer[from..to], self.limit);
                self.long_spent = true;
            }
            let content = content_at..self.long.bytes.len();
            self.single.push(&self.long.bytes[..content_at], 0..content.len(), terminator);
            self.single.cut = true;
            Place::Long(content_at)
        } else {
            let prefix = from..from + content_at;
            self.single.push(&self.buffer[prefix], 0..to - from - content_at, terminator);
            Place::Buffer(from + content_at..to)
        };
        let stderr = record.is_some_and(|record| record.tag == Tag::Stderr);
        Some(Out { place, span, carried: None, stderr, reason: "too_long" })
    }

    /// Appends one record to the run of its tag.
    fn join(&mut self, tag: Tag, content_at: usize, physical: Physical) {
        let Physical { from, to, long, end, terminator } = physical;
        let run = &mut self.runs[tag.index()];
        run.open = true;
        run.end = end;
        let line = if long { &self.long.bytes[..] } else { &self.buffer[from..to] };
        let content_at = content_at.min(line.len());
        let before = run.joined.bytes.len();
        run.joined.push(&line[content_at..], self.limit);
        if long {
            run.joined.push(self.long.tail(self.limit), self.limit);
            run.joined.cut |= self.long.cut;
        }
        if run.joined.cut {
            run.pieces.cut(run.joined.bytes.len());
        } else {
            run.pieces.push(&line[..content_at], before..run.joined.bytes.len(), terminator);
        }
    }

    /// Ends a run: its line takes everything up to `end`.
    fn close(&mut self, index: usize, end: u64, reason: &'static str) -> Out {
        let others = self.runs[1 - index].open && self.runs[1 - index].carried;
        let run = &mut self.runs[index];
        let carried = if run.carried && !others { self.carry.take() } else { None };
        (run.open, run.carried, run.spent) = (false, false, true);
        let span = self.claim(end);
        let stderr = index == Tag::Stderr.index();
        Out { place: Place::Run(index), span, carried, stderr, reason }
    }

    /// The span of a line that is complete with byte `end`.
    fn claim(&mut self, end: u64) -> Span {
        let open = self.runs.iter().filter(|run| run.open).count() as u64;
        let end = end.saturating_sub(open).max(self.claimed);
        // A position inside a line is nobody's, but it must not turn a span round.
        let start = self.position().min(end);
        self.claimed = end;
        Span { stream: self.stream, start, end }
    }

    fn show(&self, out: Out) -> (Line<'_>, &Pieces) {
        let Out { place, span, carried, stderr, reason } = out;
        let (bytes, tail, cut, pieces) = match place {
            Place::Buffer(range) => (&self.buffer[range], &b""[..], false, &self.single),
            Place::Long(at) => (&self.long.bytes[at..], self.long.tail(self.limit), true, &self.single),
            Place::Run(index) => {
                let run = &self.runs[index];
                let unfinished = reason == "unfinished";
                (
                    &run.joined.bytes[..],
                    run.joined.tail(self.limit),
                    run.joined.cut || unfinished,
                    &run.pieces,
                )
            }
        };
        // An unfinished line has no end, so what would be its tail is only more of its middle.
        let cut = cut.then_some(Cut { tail: if reason == "unfinished" { b"" } else { tail }, reason });
        let skip = stderr.then_some("stderr");
        (Line { span, carried, bytes, skip, cut }, pieces)
    }
}
