//! kube-apiserver's own rotation (lumberjack) as an observer saw it, step by step: the live file in pieces, the rename,
//! the new file, ten bytes of gzip and then more beside the plain file, its removal, the removal of the oldest, and
//! inode numbers that are used again at once.
//!
//! What the log calls files of which the content is gone are given real lines of another log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::ops::Range;
use std::path::PathBuf;

use crate::corpus::{Tape, assert_same, testdata};
use crate::world::{World, append, gzip};

const LIVE: &str = "audit.log";

/// One step of the writer.
#[derive(Debug)]
enum Step {
    Create(String),
    /// Appends a part of the content of file number `.0`.
    Write(usize, Range<usize>),
    Rename(String),
    /// Appends a part of the gzip of file number `.1`.
    Pack(String, usize, Range<usize>),
    Remove(String),
}

/// A run of the writer: its files' contents, oldest first, and what it did.
struct Run {
    files: Vec<Vec<u8>>,
    packed: Vec<Vec<u8>>,
    steps: Vec<Step>,
    /// The inode numbers by name; of a live file under the name that it was rotated to.
    inodes: BTreeMap<String, u64>,
    /// How many files there are whose content is the original one.
    real: usize,
}

/// Real lines for files that are gone, of another log.
fn stand_ins() -> impl Iterator<Item = Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/audit.jsonl.gz");
    let log = std::io::BufReader::new(flate2::read::GzDecoder::new(File::open(path).unwrap()));
    let mut lines = std::io::BufRead::split(log, b'\n').map(Result::unwrap);
    std::iter::from_fn(move || {
        let lines: Vec<Vec<u8>> = lines.by_ref().take(40).collect();
        Some(lines.into_iter().flat_map(|line| [line, b"\n".to_vec()].concat()).collect())
    })
}

impl Run {
    fn load(kind: &str) -> Run {
        let text =
            |what: &str| String::from_utf8(testdata(&format!("rotation/{kind}.{what}.txt.zst"))).unwrap();
        let seen = text("inotify");
        let events: Vec<(&str, &str)> = seen.lines().map(|line| line[9..].split_once(' ').unwrap()).collect();
        // 2.261 audit-….log.gz None -> (5931047, 10, '600')
        let (mut inodes, mut sizes) = (BTreeMap::new(), BTreeMap::new());
        for line in text("inodes").lines() {
            let (_, rest) = line.split_once(' ').unwrap();
            let (name, rest) = rest.split_once(' ').unwrap();
            let after = rest.split_once("-> ").unwrap().1.trim_matches(['(', ')']);
            let Some((inode, rest)) = after.split_once(", ") else { continue };
            let (inode, size) = (inode.parse().unwrap(), rest.split_once(',').unwrap().0.parse().unwrap());
            inodes.insert(name.to_owned(), inode);
            sizes.entry((name.to_owned(), inode)).or_insert(size);
        }

        let names: Vec<&str> =
            events.iter().filter(|(verb, _)| *verb == "MOVED_TO").map(|(_, name)| *name).collect();
        let directory = format!("{}/../../testdata/rotation/{kind}", env!("CARGO_MANIFEST_DIR"));
        let mut stand_ins = stand_ins();
        let mut real = 0;
        let content = |name: &&str| match PathBuf::from(format!("{directory}/{name}.zst")).exists() {
            true => {
                real += 1;
                testdata(&format!("rotation/{kind}/{name}.zst"))
            }
            false => stand_ins.next().unwrap(),
        };
        let files: Vec<Vec<u8>> = names.iter().chain([&LIVE]).map(content).collect();
        let packed = files.iter().map(|file| gzip(file)).collect();
        let mut run = Run { files, packed, steps: Vec::new(), inodes, real };
        run.follow(&events, &names, &sizes);
        run
    }

    /// Makes steps of what inotify said. It was not asked for modifications: the observer's sizes stand for them.
    fn follow(&mut self, events: &[(&str, &str)], names: &[&str], sizes: &BTreeMap<(String, u64), usize>) {
        let mut live = 0;
        let number = |name: &str| names.iter().position(|other| *other == name.trim_end_matches(".gz"));
        let mut opened = BTreeSet::new();
        for (verb, name) in events {
            let zipped = name.ends_with(".gz");
            match *verb {
                "CREATE" if *name == LIVE => {
                    self.steps.push(Step::Create(LIVE.to_owned()));
                    let inode = names.get(live).map_or(self.inodes[LIVE], |name| self.inodes[*name]);
                    let size = sizes.get(&(LIVE.to_owned(), inode)).copied().unwrap_or(0);
                    let size = size.min(self.files[live].len() / 2);
                    self.steps.push(Step::Write(live, 0..size));
                }
                "MOVED_FROM" => self.write_rest(live),
                "MOVED_TO" => {
                    self.steps.push(Step::Rename((*name).to_owned()));
                    live += 1;
                }
                "CREATE" if zipped => self.steps.push(Step::Create((*name).to_owned())),
                // First it is created, given away, and closed; then opened for writing.
                "OPEN" if zipped && opened.insert(*name) => {}
                "OPEN" if zipped => {
                    let number = number(name).unwrap();
                    let first = sizes[&((*name).to_owned(), self.inodes[*name])];
                    let length = self.packed[number].len();
                    let cuts = [0, 10, first.clamp(10, length / 2), length * 3 / 4, length];
                    for cut in cuts.windows(2).filter(|cut| cut[0] < cut[1]) {
                        self.steps.push(Step::Pack((*name).to_owned(), number, cut[0]..cut[1]));
                    }
                }
                "DELETE" => self.steps.push(Step::Remove((*name).to_owned())),
                "OPEN" | "CLOSE_WRITE,CLOSE" | "ATTRIB" => {}
                other => panic!("{other} of {name}"),
            }
        }
        self.write_rest(live);
    }

    /// The rest of a live file, in pieces that do not end where lines do.
    fn write_rest(&mut self, number: usize) {
        let length = self.files[number].len();
        let Some(Step::Write(_, first)) = self.steps.iter().rfind(|step| matches!(step, Step::Write(..)))
        else {
            return;
        };
        let cuts = [first.end, (first.end + length) / 2, length - 7, length];
        for cut in cuts.windows(2) {
            self.steps.push(Step::Write(number, cut[0]..cut[1]));
        }
    }

    /// The number of the step that finishes the rotation to file `number`.
    fn rotated(&self, number: usize) -> usize {
        let renames = self.steps.iter().enumerate().filter(|(_, step)| matches!(step, Step::Rename(_)));
        renames.map(|(index, _)| index).nth(number - 1).unwrap()
    }
}

/// Whether a follower runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follower {
    Up,
    Down,
}

/// The directory. While no follower keeps a removed file from going away, its inode number is used again for the file
/// that had it in life: such a file is put aside, and made empty and moved back as the new one.
struct Disk<'a> {
    run: &'a Run,
    world: World,
    aside: tempfile::TempDir,
    free: BTreeMap<u64, PathBuf>,
    live: usize,
    reused: usize,
}

impl Disk<'_> {
    fn new(run: &Run) -> Disk<'_> {
        let aside = tempfile::tempdir().unwrap();
        Disk { run, world: World::new(), aside, free: BTreeMap::new(), live: 0, reused: 0 }
    }

    /// The number that the file of this name had in life, now.
    fn inode(&self, name: &str) -> u64 {
        let mut backups = self.run.steps.iter().filter_map(|step| match step {
            Step::Rename(to) => Some(to),
            _ => None,
        });
        let name = if name == LIVE { backups.nth(self.live).map_or(LIVE, |name| name) } else { name };
        self.run.inodes[name]
    }

    fn step(&mut self, step: &Step, follower: Follower) {
        match step {
            Step::Create(name) => {
                let path = self.world.path(name);
                match self.free.remove(&self.inode(name)) {
                    Some(file) if follower == Follower::Down => {
                        self.reused += 1;
                        File::create(&file).unwrap();
                        fs::rename(file, path).unwrap();
                    }
                    _ => drop(File::create(path).unwrap()),
                }
            }
            Step::Write(number, part) => self.world.write(&self.run.files[*number][part.clone()]),
            Step::Rename(name) => {
                fs::rename(self.world.live(), self.world.path(name)).unwrap();
                self.live += 1;
            }
            Step::Pack(name, number, part) => {
                append(&self.world.path(name), &self.run.packed[*number][part.clone()]);
            }
            Step::Remove(name) if follower == Follower::Up => fs::remove_file(self.world.path(name)).unwrap(),
            Step::Remove(name) => {
                let inode = self.inode(name);
                let aside = self.aside.path().join(inode.to_string());
                fs::rename(self.world.path(name), &aside).unwrap();
                self.free.insert(inode, aside);
            }
        }
    }
}

/// Asserts that every line of every file came once, in order, at its place.
fn assert_whole(tape: &Tape, files: &[Vec<u8>], what: &str) {
    assert_eq!((tape.lost, tape.gaps), (0, 0), "{what}");
    let ends = tape.assert_spans();
    assert_eq!(ends.len(), files.len(), "{what}: as many streams as files");
    for ((stream, lines), file) in tape.streams().into_iter().zip(files) {
        assert_eq!(ends[&stream], file.len() as u64, "{what}: {stream}");
        let wanted = file.split_inclusive(|byte| *byte == b'\n').map(|line| &line[..line.len() - 1]);
        assert_same(lines.iter().map(|line| &line.bytes[..]), wanted, &format!("{what}: {stream}"));
        for line in lines {
            let place = &file[line.span.start as usize..line.span.end as usize];
            assert_eq!(place.strip_suffix(b"\n"), Some(&line.bytes[..]), "{what}: {}", line.span);
        }
    }
}

/// Up for so many steps, then down for so many, over and over.
struct Pattern {
    up: usize,
    down: usize,
    /// A stop saves; a kill leaves what was saved a few steps before.
    kill: bool,
    /// How many steps there are from one scan to the next while it is up.
    scan: usize,
}

/// Plays a run; gives how many inode numbers were used again.
fn play(run: &Run, pattern: &Pattern) -> usize {
    let Pattern { up, down, kill, scan } = *pattern;
    let what = format!("{up} up, {down} down, a scan every {scan}, kill: {kill}");
    let mut disk = Disk::new(run);
    let mut tape = Tape::default();
    let mut agent = Some(disk.world.start());
    for (index, step) in run.steps.iter().enumerate() {
        let at = index % (up + down);
        if at == up {
            let mut stopped = agent.take().unwrap();
            if !kill {
                disk.world.save(&mut stopped);
            }
            tape.forget_unsaved(&disk.world);
        } else if agent.is_none() && at == 0 {
            agent = Some(disk.world.start());
        }
        disk.step(step, if agent.is_some() { Follower::Up } else { Follower::Down });
        let Some(agent) = &mut agent else { continue };
        if index % scan == 0 {
            disk.world.scan(agent);
        }
        if at + 1 == up {
            // A stop comes in the middle of a file.
            for _ in 0..3 {
                tape.read(agent);
            }
        } else {
            tape.drain(agent);
        }
        if index % 5 == 0 {
            disk.world.save(agent);
        }
    }
    let mut agent = agent.unwrap_or_else(|| disk.world.start());
    tape.settle(&mut disk.world, &mut agent);
    assert_whole(&tape, &run.files, &what);
    assert!(agent.ledger.totals().adds_up());
    disk.reused
}

/// `longest`: in so many steps the writer removes nothing that a follower has not read before.
/// Gives how many inode numbers were used again.
fn replay(run: &Run, longest: usize) -> usize {
    let always = run.steps.len();
    let patterns = [
        (always, 0, false, 1),
        (always, 0, false, 6),
        (1, 1, false, 1),
        (3, 2, false, 1),
        (7, 5, false, 2),
        (2, longest * 3 / 4, false, 1),
        (3, longest, false, 1),
        (4, 3, true, 1),
        (11, 13, true, 3),
        // What was read to its end, and not saved, must not be removed before the next start: it would be a gap.
        (9, longest / 2, true, 1),
    ];
    let mut reused = 0;
    for (up, down, kill, scan) in patterns {
        reused += play(run, &Pattern { up, down, kill, scan });
    }
    reused
}

#[test]
fn the_real_rotation_with_compression() {
    let run = Run::load("compressed");
    assert_eq!((run.files.len(), run.real), (30, 5));
    let lines = |file: &Vec<u8>| file.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(run.files[25..].iter().map(lines).collect::<Vec<_>>(), [311, 337, 243, 326, 178]);
    assert!(replay(&run, 40) > 100, "inode numbers were used again, as they were in life");
}

#[test]
fn the_real_rotation_without_compression() {
    let run = Run::load("plain");
    assert_eq!((run.files.len(), run.real), (7, 5));
    let lines = |file: &Vec<u8>| file.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(run.files[2..].iter().map(lines).collect::<Vec<_>>(), [879, 885, 916, 692, 468]);
    assert_eq!(replay(&run, 20), 0);
}

/// Stopped inside the file `from`, started when all is over.
fn away(run: &Run, from: usize) -> (Tape, usize) {
    let mut disk = Disk::new(run);
    let mut tape = Tape::default();
    let stop = run.rotated(from) + 3;
    for step in &run.steps[..stop] {
        disk.step(step, Follower::Up);
    }
    let mut agent = disk.world.start();
    tape.settle(&mut disk.world, &mut agent);
    disk.world.save(&mut agent);
    drop(agent);
    let before = tape.lines.len();
    for step in &run.steps[stop..] {
        disk.step(step, Follower::Down);
    }
    let mut agent = disk.world.start();
    tape.settle(&mut disk.world, &mut agent);
    for _ in 0..2 {
        disk.world.save(&mut agent);
        disk.world.scan(&agent);
    }
    disk.world.save(&mut agent);
    assert!(disk.reused > 0);
    // Once more, now that there is nothing.
    drop(agent);
    let lines = tape.lines.len();
    let mut agent = disk.world.start();
    tape.settle(&mut disk.world, &mut agent);
    assert_eq!(tape.lines.len(), lines);
    (tape, before)
}

#[test]
fn the_real_rotation_while_stopped_until_all_is_compressed() {
    let run = Run::load("compressed");
    // What the four backups and the live file hold that the writer leaves, all of it but a part of the first unread.
    let (tape, before) = away(&run, 25);
    let read: usize =
        run.files[25..].iter().map(|file| file.iter().filter(|byte| **byte == b'\n').count()).sum();
    assert!(tape.lines.len() - before > read - 300 && tape.lines.len() > read);
    // The three backups before them were there when it began.
    let there = tape.streams().len();
    assert_whole(&tape, &run.files[run.files.len() - there..], "stopped until the end");
}

#[test]
fn the_real_rotation_while_stopped_for_too_long_is_told() {
    let run = Run::load("compressed");
    let (tape, before) = away(&run, 12);
    // Half a line of file 12 was seen; what it got after the stop is gone, and 13 to 24 came and went.
    assert!((1..2000).contains(&tape.lost), "{}", tape.lost);
    assert_eq!(tape.gaps, 1);
    let lines = |file: &Vec<u8>| file.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(tape.lines.len() - before, run.files[25..].iter().map(lines).sum::<usize>());
    let wanted = run.files[25..]
        .iter()
        .flat_map(|file| file.split_inclusive(|byte| *byte == b'\n').map(|line| &line[..line.len() - 1]));
    assert_same(tape.lines[before..].iter().map(|line| &line.bytes[..]), wanted, "what is left");
}
