//! The state log over a disk that forgets what was not synced, and one that refuses to write.
//!
//! Every operation is a step, and the power is cut before each. What was not synced is then there whole, in part, as
//! zeros, or not at all, and a new name may still mean the old file. Whatever is left, opening it gives what a sync
//! has promised or something newer that was appended; never more than that.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use auditship_event::StreamId;

use super::{Disk, Opened, Store};
use crate::checkpoint::{Entry, Position};

/// A file: what a sync has brought to the disk, and what the process sees.
#[derive(Clone, Default)]
struct File {
    safe: Vec<u8>,
    seen: Vec<u8>,
}

#[derive(Clone, Default)]
struct Platter {
    files: Vec<File>,
    safe_names: BTreeMap<String, usize>,
    names: BTreeMap<String, usize>,
    steps: usize,
    /// Everything from this step on fails.
    cut: Option<usize>,
    /// Writing fails, as on a full or read-only disk.
    refuses: bool,
}

/// A disk of which the test keeps a handle.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Platter>>);

impl Fake {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    fn step(&self, writes: bool) -> io::Result<MutexGuard<'_, Platter>> {
        let mut platter = self.platter();
        platter.steps += 1;
        if platter.cut.is_some_and(|cut| platter.steps > cut) {
            return Err(io::Error::other("no power"));
        }
        if writes && platter.refuses {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(platter)
    }
}

impl Platter {
    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        let number = self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut self.files[*number])
    }

    /// What may be left when the power is cut now.
    fn left(&self) -> Vec<Fake> {
        let mut left = Vec::new();
        for names in [&self.safe_names, &self.names] {
            for how in 0..5 {
                let rest = |file: &File| {
                    let common =
                        file.safe.iter().zip(&file.seen).take_while(|(one, other)| one == other).count();
                    let new = file.seen.len() - common;
                    let part = |length: usize| file.seen[..common + length].to_vec();
                    let zeros = |length: usize| [part(length), vec![0; new - length]].concat();
                    match how {
                        0 => file.safe.clone(),
                        1 => part(new),
                        2 => part(new / 2),
                        3 => zeros(new / 2),
                        _ => zeros(0),
                    }
                };
                let files = self.files.iter().map(rest).map(|seen| File { safe: seen.clone(), seen });
                let platter = Platter {
                    files: files.collect(),
                    safe_names: names.clone(),
                    names: names.clone(),
                    ..Platter::default()
                };
                left.push(Fake(Arc::new(Mutex::new(platter))));
            }
        }
        left
    }
}

impl Disk for Fake {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.step(false)?.file(name).ok().map(|file| file.seen.clone()))
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.step(true)?;
        if !platter.names.contains_key(name) {
            platter.files.push(File::default());
            let number = platter.files.len() - 1;
            platter.names.insert(name.to_owned(), number);
        }
        let file = platter.file(name)?;
        file.seen.truncate(usize::try_from(offset).unwrap());
        file.seen.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let mut platter = self.step(true)?;
        let file = platter.file(name)?;
        file.safe.clone_from(&file.seen);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut platter = self.step(true)?;
        let number = platter.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        platter.names.insert(to.to_owned(), number);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.step(true)?.names.remove(name);
        Ok(())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        let mut platter = self.step(true)?;
        platter.safe_names = platter.names.clone();
        Ok(())
    }
}

fn at(offset: u64) -> Entry {
    let positions = [(StreamId(1), offset)].into();
    Entry::Position(Position { consumer: "c".into(), positions, ..Position::default() })
}

fn offset(store: &Store) -> u64 {
    store.state().positions.get("c").map_or(0, |position| position.positions[&StreamId(1)])
}

fn open(disk: &Fake) -> Result<(Store, Opened), super::Error> {
    Store::over(Path::new("state"), Box::new(disk.clone()))
}

/// Appends and syncs, with a rewrite now and then, until the power is cut. Gives what was appended and what a sync
/// has promised.
fn run(disk: &Fake) -> (u64, u64) {
    let (mut appended, mut promised) = (0, 0);
    let Ok((mut store, _)) = open(disk) else { return (0, 0) };
    for number in 1..=24 {
        store.append(at(number));
        appended = number;
        if number % 2 == 1 {
            continue;
        }
        // As after a failed write; a compaction is the same.
        store.suspect = number % 8 == 0;
        if store.sync().is_err() {
            break;
        }
        promised = number;
    }
    (appended, promised)
}

#[test]
fn case_28_killed_at_every_step_what_was_written_is_there() {
    let steps = {
        let disk = Fake::default();
        assert_eq!(run(&disk), (24, 24));
        disk.platter().steps
    };
    for cut in 0..steps {
        let disk = Fake::default();
        disk.platter().cut = Some(cut);
        let (appended, promised) = run(&disk);
        // The process is gone, the kernel is not: all that was written is there.
        disk.platter().cut = None;
        let (store, opened) = open(&disk).unwrap();
        assert!((promised..=appended).contains(&offset(&store)), "cut {cut}");
        assert!(!matches!(opened, Opened::Damaged { .. }), "cut {cut}: {opened:?}");
    }
}

#[test]
fn case_29_power_lost_at_every_step_gives_the_old_or_the_new_state() {
    let steps = {
        let disk = Fake::default();
        run(&disk);
        disk.platter().steps
    };
    assert!(steps > 30);
    for cut in 0..=steps {
        let disk = Fake::default();
        disk.platter().cut = Some(cut);
        let (appended, promised) = run(&disk);
        let left = disk.platter().left();
        for (number, disk) in left.into_iter().enumerate() {
            let (mut store, opened) = open(&disk).unwrap();
            let found = offset(&store);
            assert!(
                (promised..=appended).contains(&found),
                "cut {cut}, {number}: {found} and not {promised} to {appended}, {opened:?}"
            );
            // It can be gone on with, and what is promised now is kept over one more cut.
            store.append(at(1000));
            store.sync().unwrap();
            drop(store);
            for again in disk.platter().left() {
                assert_eq!(offset(&open(&again).unwrap().0), 1000, "cut {cut}, {number}");
            }
        }
    }
}

#[test]
fn case_32_a_disk_that_refuses_loses_nothing() {
    let disk = Fake::default();
    let (mut store, _) = open(&disk).unwrap();
    store.append(at(1));
    store.sync().unwrap();
    disk.platter().refuses = true;
    for number in 2..5 {
        store.append(at(number));
        assert!(store.sync().is_err());
        assert!(!store.is_synced());
        assert_eq!(offset(&store), number);
    }
    disk.platter().refuses = false;
    store.sync().unwrap();
    assert!(store.is_synced());
    for left in disk.platter().left() {
        assert_eq!(offset(&open(&left).unwrap().0), 4);
    }
}
