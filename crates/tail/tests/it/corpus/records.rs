//! The API server's stdout and stderr as conmon and containerd write them, through the kubelet's rotation.

use std::fs::{self, File};
use std::ops::ControlFlow;

use auditship_tail::Format;

use crate::corpus::{Tape, assert_same, testdata};
use crate::world::{Agent, World, append, compress};

/// A joined line, by the plainest means: whether it is of stderr, and its content.
type Joined = (bool, Vec<u8>);

/// Joins the records of files that follow each other.
fn join(files: &[Vec<u8>]) -> Vec<Joined> {
    let (mut open, mut lines) = ([Vec::new(), Vec::new()], Vec::new());
    for record in files.iter().flat_map(|file| file.split_inclusive(|byte| *byte == b'\n')) {
        let mut fields = record[..record.len() - 1].splitn(4, |byte| *byte == b' ').skip(1);
        let stderr = fields.next().unwrap() == b"stderr";
        let last = fields.next().unwrap() == b"F";
        let run = &mut open[usize::from(stderr)];
        run.extend_from_slice(fields.next().unwrap());
        if last {
            lines.push((stderr, std::mem::take(run)));
        }
    }
    assert!(open.iter().all(Vec::is_empty), "nothing is left open");
    lines
}

/// What happens to the follower while the files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Up,
    /// Stopped and started with every piece.
    Stopped,
    /// Killed with every piece; saved with every other.
    Killed,
}

/// The kubelet's rotation: renamed with a time stamp, and compressed when the next one comes.
struct Kubelet {
    world: World,
    backups: u32,
}

impl Kubelet {
    fn new() -> Kubelet {
        let mut world = World::new();
        (world.input.path, world.input.format) = (world.path("0.log"), Format::Auto);
        Kubelet { world, backups: 0 }
    }

    fn name(&self, number: u32) -> std::path::PathBuf {
        self.world.path(&format!("0.log.20261124-0230{number:02}"))
    }

    fn rotate(&mut self) {
        if self.backups > 0 {
            compress(&self.name(self.backups - 1));
        }
        fs::rename(self.world.path("0.log"), self.name(self.backups)).unwrap();
        self.backups += 1;
        File::create(self.world.path("0.log")).unwrap();
    }
}

struct Player {
    kubelet: Kubelet,
    agent: Agent,
    tape: Tape,
    fate: Fate,
    steps: u32,
}

impl Player {
    fn new(fate: Fate) -> Player {
        let mut kubelet = Kubelet::new();
        append(&kubelet.world.path("0.log"), b"");
        let agent = kubelet.world.start();
        Player { kubelet, agent, tape: Tape::default(), fate, steps: 0 }
    }

    /// Writes files, in pieces of this size, with a rotation between two.
    fn write(&mut self, files: &[Vec<u8>], piece: usize) {
        for (number, file) in files.iter().enumerate() {
            if number > 0 {
                self.kubelet.rotate();
                self.step();
            }
            for piece in file.chunks(piece) {
                append(&self.kubelet.world.path("0.log"), piece);
                self.step();
            }
        }
    }

    fn step(&mut self) {
        let world = &mut self.kubelet.world;
        self.steps += 1;
        let save = match self.fate {
            Fate::Up => ControlFlow::Continue(()),
            Fate::Stopped => ControlFlow::Break(true),
            Fate::Killed => ControlFlow::Break(self.steps.is_multiple_of(2)),
        };
        world.scan(&self.agent);
        // Not to its end: some of each piece is read with the next one.
        for _ in 0..3 {
            self.tape.read(&mut self.agent);
        }
        let ControlFlow::Break(save) = save else { return };
        if save {
            world.save(&mut self.agent);
        }
        self.tape.forget_unsaved(world);
        self.agent = world.start();
    }

    fn end(mut self, files: &[Vec<u8>], wanted: &[Joined]) -> Tape {
        let what = format!("{:?}", self.fate);
        self.tape.settle(&mut self.kubelet.world, &mut self.agent);
        assert_whole(&self.tape, files, wanted, &what);
        let totals = self.agent.ledger.totals();
        assert_eq!(totals.read_lines as usize, wanted.len(), "{what}");
        assert_eq!(totals.read_bytes as usize, files.iter().map(Vec::len).sum::<usize>(), "{what}");
        assert_eq!(totals, self.agent.ledger.committed(), "{what}");
        self.tape
    }
}

/// Asserts that the lines are those that were joined, in order, and that their spans cover the files once.
fn assert_whole(tape: &Tape, files: &[Vec<u8>], wanted: &[Joined], what: &str) {
    assert_eq!((tape.lost, tape.gaps), (0, 0), "{what}");
    for stderr in [false, true] {
        let got = tape.lines.iter().filter(|line| line.stderr == stderr).map(|line| &line.bytes[..]);
        let wanted = wanted.iter().filter(|line| line.0 == stderr).map(|line| &line.1[..]);
        assert_same(got, wanted, &format!("{what}, stderr: {stderr}"));
    }
    let tags = |stderr: bool| if stderr { &b"e"[..] } else { b"o" };
    let order = tape.lines.iter().map(|line| tags(line.stderr));
    assert_same(order, wanted.iter().map(|line| tags(line.0)), &format!("{what}, order"));
    let ends: Vec<u64> = tape.assert_spans().into_values().collect();
    assert_eq!(ends, files.iter().map(|file| file.len() as u64).collect::<Vec<_>>(), "{what}");
}

fn conmon() -> Vec<u8> {
    testdata("cri/conmon.log.zst")
}

/// The backups of a containerd log and the file that was still open, in order.
fn containerd() -> Vec<Vec<u8>> {
    let stamps = [
        ".20261124-023059",
        ".20261124-023100",
        ".20261124-023102",
        ".20261124-023104",
        ".20261124-023110",
        "",
    ];
    stamps.map(|stamp| testdata(&format!("cri/containerd/0.log{stamp}.zst"))).to_vec()
}

fn events(lines: &[Joined]) -> usize {
    let event = |line: &&Joined| !line.0 && line.1.starts_with(b"{\"kind\":\"Event\"");
    lines.iter().filter(event).count()
}

#[test]
fn conmon_in_one_file() {
    let file = conmon();
    let wanted = join(std::slice::from_ref(&file));
    assert_eq!((events(&wanted), wanted.len()), (4884, 4884 + 315));
    for (fate, piece) in [(Fate::Up, 300_007), (Fate::Stopped, 500_009), (Fate::Killed, 400_009)] {
        let mut player = Player::new(fate);
        player.write(std::slice::from_ref(&file), piece);
        player.end(std::slice::from_ref(&file), &wanted);
    }
}

/// The same bytes as if the kubelet had rotated in the middle of runs.
#[test]
fn conmon_rotated_inside_runs() {
    let file = conmon();
    let wanted = join(std::slice::from_ref(&file));
    // Behind a partial record of stdout, some way apart; a run goes over one end of a file at most.
    let (mut cuts, mut at) = (vec![0], 0);
    for record in file.split_inclusive(|byte| *byte == b'\n') {
        at += record.len();
        let partial = record.split(|byte| *byte == b' ').nth(2) == Some(b"P");
        if partial && at > cuts[cuts.len() - 1] + 400_000 {
            cuts.push(at);
        }
    }
    cuts.push(file.len());
    let files: Vec<Vec<u8>> = cuts.windows(2).map(|cut| file[cut[0]..cut[1]].to_vec()).collect();
    assert!(files.len() > 8, "{}", files.len());
    for (fate, piece) in [(Fate::Up, 150_001), (Fate::Stopped, 150_001), (Fate::Killed, 100_003)] {
        let mut player = Player::new(fate);
        player.write(&files, piece);
        let tape = player.end(&files, &wanted);
        let carried = tape.lines.iter().filter(|line| line.carried.is_some()).count();
        assert_eq!(carried, files.len() - 1, "{fate:?}");
    }
}

#[test]
fn containerd_through_the_kubelets_rotation() {
    let files = containerd();
    let wanted = join(&files);
    assert_eq!((events(&wanted), wanted.len()), (9934, 9934 + 319));
    assert_eq!(wanted.iter().map(|line| line.1.len()).max(), Some(1_201_672));
    for (fate, piece) in [(Fate::Up, 700_001), (Fate::Stopped, 900_001), (Fate::Killed, 900_001)] {
        let mut player = Player::new(fate);
        player.write(&files, piece);
        let tape = player.end(&files, &wanted);
        // Two of the files end inside an event.
        let carried: Vec<u64> = tape.lines.iter().filter_map(|line| Some(line.carried?.stream.0)).collect();
        assert_eq!(carried, [0, 1], "{fate:?}");
    }
}

/// Everything was rotated while the follower was down, and all but the last backup compressed.
#[test]
fn containerd_found_as_it_was_left() {
    let files = containerd();
    let wanted = join(&files);
    let mut player = Player::new(Fate::Up);
    player.write(&files[..1], usize::MAX);
    // A part of the first file is read.
    assert!(!player.tape.lines.is_empty());
    player.kubelet.world.save(&mut player.agent);
    drop(player.agent);
    for file in &files[1..] {
        player.kubelet.rotate();
        append(&player.kubelet.world.path("0.log"), file);
    }
    player.agent = player.kubelet.world.start();
    player.end(&files, &wanted);
}

/// The seam of two files alone: its first records are the middle of an event whose beginning is not there.
#[test]
fn the_seam_of_two_containerd_files() {
    let gunzip = |name: &str| {
        let path = format!("{}/../../testdata/cri/{name}.gz", env!("CARGO_MANIFEST_DIR"));
        let mut bytes = Vec::new();
        let file = flate2::read::GzDecoder::new(File::open(path).unwrap());
        std::io::Read::read_to_end(&mut std::io::BufReader::new(file), &mut bytes).unwrap();
        bytes
    };
    let files = ["containerd-sample.log.20261124-000001", "containerd-sample.log"].map(gunzip);
    let wanted = join(&files);
    assert_eq!((wanted.len(), events(&wanted)), (3, 2));
    for (fate, piece) in [(Fate::Up, 50_000), (Fate::Stopped, 16_500), (Fate::Killed, 16_500)] {
        let mut player = Player::new(fate);
        player.write(&files, piece);
        player.end(&files, &wanted);
    }
}
