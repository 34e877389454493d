//! Real logs, written again as their writers wrote them, with a follower beside them that is stopped and killed.
//!
//! `testdata/README.md` says what they are.

mod records;
mod rotation;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use auditship_event::{Span, StreamId};
use auditship_tail::{Class, Progress, Source};

use crate::world::{Agent, World};

/// A file of `testdata/`, unpacked.
fn testdata(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name);
    zstd::decode_all(fs::File::open(&path).unwrap()).unwrap()
}

/// A line as it was handed out.
struct Taken {
    bytes: Vec<u8>,
    span: Span,
    carried: Option<Span>,
    stderr: bool,
}

/// All that was handed out, over every stop.
#[derive(Default)]
struct Tape {
    lines: Vec<Taken>,
    lost: u64,
    gaps: usize,
}

impl Tape {
    /// One call of read.
    fn read(&mut self, agent: &mut Agent) -> Progress {
        let (ledger, lines) = (&mut agent.ledger, &mut self.lines);
        let progress = agent.follower.read(&mut |line| {
            assert!(line.cut.is_none(), "{} is cut", line.span);
            ledger.settle(line.span, line.carried, Class::Delivered);
            let (span, carried, stderr) = (line.span, line.carried, line.skip == Some("stderr"));
            lines.push(Taken { bytes: line.bytes.to_vec(), span, carried, stderr });
        });
        for lost in agent.follower.lost() {
            agent.ledger.lost(lost.reason, lost.span);
            self.lost += lost.span.len();
        }
        self.gaps += agent.follower.gaps().len();
        assert_eq!(agent.ledger.faults(), 0);
        progress.unwrap()
    }

    fn drain(&mut self, agent: &mut Agent) {
        while self.read(agent) == Progress::More {}
    }

    /// Scans and reads until nothing comes any more.
    fn settle(&mut self, world: &mut World, agent: &mut Agent) {
        for _ in 0..4 {
            world.scan(agent);
            self.drain(agent);
        }
    }

    /// The follower was killed: what is not behind a saved position will come again.
    fn forget_unsaved(&mut self, world: &World) {
        let saved = world.state.positions.get("consumer").map(|position| &position.positions);
        let behind = |span: &Span| saved.and_then(|saved| saved.get(&span.stream)).copied() >= Some(span.end);
        self.lines.retain(|line| behind(&line.span));
    }

    /// The lines of each stream, in the order of the streams.
    fn streams(&self) -> BTreeMap<StreamId, Vec<&Taken>> {
        let mut streams: BTreeMap<StreamId, Vec<&Taken>> = BTreeMap::new();
        for line in &self.lines {
            streams.entry(line.span.stream).or_default().push(line);
        }
        streams
    }

    /// Asserts that the spans, those of carried bytes too, cover each stream once and in order; gives the lengths.
    fn assert_spans(&self) -> BTreeMap<StreamId, u64> {
        let mut ends: BTreeMap<StreamId, u64> = BTreeMap::new();
        let spans = self.lines.iter().flat_map(|line| [line.carried, Some(line.span)]).flatten();
        for span in spans {
            let end = ends.entry(span.stream).or_default();
            assert_eq!(*end, span.start, "{span} does not follow");
            *end = span.end;
        }
        ends
    }
}

/// Where two lists of lines differ, without what is in them.
fn assert_same<'a>(
    got: impl IntoIterator<Item = &'a [u8]>,
    wanted: impl IntoIterator<Item = &'a [u8]>,
    what: &str,
) {
    let (mut got, mut wanted) = (got.into_iter(), wanted.into_iter());
    for index in 0.. {
        match (got.next(), wanted.next()) {
            (None, None) => return,
            (one, other) if one == other => {}
            (one, other) => {
                let length = |line: Option<&[u8]>| line.map(<[u8]>::len);
                panic!("{what}: line {index} has {:?} bytes, not {:?}", length(one), length(other));
            }
        }
    }
}
