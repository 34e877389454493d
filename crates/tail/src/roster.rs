//! Which stream each file is.
//!
//! Pure: what was seen in the directories goes in, the streams come out. A stream is its content (a hash over a
//! growing head); device and inode are only tried first. It owns the numbers of the streams, their order of age
//! within a group (a live file and its backups), and the records that the state log needs.
//!
//! Invariants: in one scan no two files are the same stream; a number is never given twice; a file whose whole
//! content is the beginning of another file is a copy of it until they differ.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use auditship_event::StreamId;

use crate::checkpoint::{Entry, Hash, State, StreamRecord};
use crate::files::HEAD;
use crate::names::{self, Stamp};

/// A live file's path (which may not exist), with the number of its input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    pub(crate) input: usize,
    pub(crate) live: PathBuf,
}

/// A file in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) group: Group,
    pub(crate) path: PathBuf,
    /// `None`: it is the live file.
    pub(crate) stamp: Option<Stamp>,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// The length of its content, where it is known without decoding.
    pub(crate) length: Option<u64>,
    pub(crate) modified: SystemTime,
    /// The first bytes of its content, at most [`HEAD`].
    pub(crate) head: Vec<u8>,
}

/// What is known of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) record: StreamRecord,
    pub(crate) group: Group,
    /// In how many scans in a row no file had its content.
    pub(crate) missing: u32,
    /// Set when its file was seen by this process, not only read from the state log.
    met: bool,
    /// The length in the record that was last handed out.
    saved_length: u64,
}

/// The length in a record is brought up to date when it has grown by this much; it is only needed to know how much
/// was lost.
const LENGTH_STEP: u64 = 1 << 20;

/// The streams of all inputs.
#[derive(Default)]
pub(crate) struct Roster {
    streams: BTreeMap<StreamId, Known>,
    /// Oldest first.
    order: BTreeMap<Group, Vec<StreamId>>,
    inputs: Vec<String>,
    next: u64,
    changes: Vec<Entry>,
}

impl Roster {
    pub(crate) fn new(inputs: Vec<String>, state: &State) -> Roster {
        let mut roster = Roster { inputs, next: state.next_stream, ..Roster::default() };
        for record in state.streams.values() {
            // An input that is no longer configured keeps its records: it may come back.
            let Some(input) = roster.inputs.iter().position(|name| *name == record.input) else { continue };
            let group = Group { input, live: live_path(Path::new(&record.file)) };
            let saved_length = record.length;
            let known =
                Known { record: record.clone(), group: group.clone(), missing: 0, met: false, saved_length };
            roster.streams.insert(record.id, known);
            roster.order.entry(group).or_default().push(record.id);
        }
        roster
    }

    /// The streams of each group, oldest first.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&Group, &[StreamId])> {
        self.order.iter().map(|(group, order)| (group, &order[..]))
    }

    pub(crate) fn known(&self, stream: StreamId) -> Option<&Known> {
        self.streams.get(&stream)
    }

    /// The records that changed since the last call.
    pub(crate) fn changes(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.changes)
    }

    /// Takes its content away from a stream: the file turned out to hold something else.
    pub(crate) fn disown(&mut self, stream: StreamId) {
        if let Some(known) = self.streams.get_mut(&stream) {
            // No file is that long in its head.
            known.record.head = Hash { length: u32::MAX, hash: String::new() };
            known.record.inode = 0;
            self.changes.push(Entry::Stream(known.record.clone()));
        }
    }

    /// Says how long a stream is, where only decoding could tell.
    pub(crate) fn measured(&mut self, stream: StreamId, length: u64) {
        if let Some(known) = self.streams.get_mut(&stream)
            && known.record.length < length
        {
            known.record.length = length;
        }
    }

    /// Forgets a stream that nobody needs any more.
    pub(crate) fn retire(&mut self, stream: StreamId) {
        if let Some(known) = self.streams.remove(&stream) {
            if let Some(order) = self.order.get_mut(&known.group) {
                order.retain(|other| *other != stream);
            }
            self.order.retain(|_, order| !order.is_empty());
            self.changes.push(Entry::Retired(stream));
        }
    }

    /// Finds out which stream each of `seen` is; `None` for a file without content, and for a copy of another.
    /// `complete`: every file could be looked
    /// at, so that a stream that has none is missing.
    pub(crate) fn scan(
        &mut self,
        seen: &[Seen],
        complete: Complete,
        contents: &mut dyn Contents,
    ) -> Vec<Option<StreamId>> {
        let mut found = vec![None; seen.len()];
        let mut taken = BTreeMap::new();
        for (index, file) in seen.iter().enumerate() {
            if let Some(stream) = self.by_inode(file, contents)
                && !taken.contains_key(&stream)
            {
                found[index] = Some(stream);
                taken.insert(stream, index);
            }
        }
        for index in by_age(seen) {
            let file = &seen[index];
            if found[index].is_some() || file.head.is_empty() {
                continue;
            }
            let stream = self.by_head(file, &taken, contents);
            let stream = match stream {
                Some(stream) => stream,
                None if self.is_copy(index, seen, &taken, contents) => continue,
                None => self.create(file),
            };
            found[index] = Some(stream);
            taken.insert(stream, index);
        }
        for (stream, index) in &taken {
            self.update(*stream, &seen[*index]);
        }
        for (stream, known) in &mut self.streams {
            match (taken.contains_key(stream), complete) {
                (true, _) => known.missing = 0,
                (false, Complete::Yes) => known.missing = known.missing.saturating_add(1),
                (false, Complete::No) => {}
            }
        }
        self.sort(seen, &found);
        found
    }

    /// An inode number is used again at once: it means something only while we hold a descriptor of it.
    fn by_inode(&self, file: &Seen, contents: &mut dyn Contents) -> Option<StreamId> {
        let mine = |known: &&Known| {
            let record = &known.record;
            let place = record.device == file.device && record.inode == file.inode;
            // A file that we saw longer was truncated: it is another stream even if it begins the same.
            let shrunk = known.met && file.length.is_some_and(|length| length < record.length);
            place
                && !shrunk
                && known.group.input == file.group.input
                && begins(record, file)
                && contents.held(record.id).is_some_and(|head| head.starts_with(&file.head))
        };
        self.streams.values().find(mine).map(|known| known.record.id)
    }

    fn by_head(
        &self,
        file: &Seen,
        taken: &BTreeMap<StreamId, usize>,
        contents: &mut dyn Contents,
    ) -> Option<StreamId> {
        let mine = |known: &&Known| {
            let record = &known.record;
            let truncated = known.met
                && (record.device, record.inode) == (file.device, file.inode)
                && file.length.is_some_and(|length| length < record.length);
            known.group.input == file.group.input
                && !taken.contains_key(&record.id)
                && !truncated
                && begins(record, file)
        };
        let mut candidates: Vec<&Known> = self.streams.values().filter(mine).collect();
        candidates.sort_by_key(|known| {
            let record = &known.record;
            let moved = (record.device, record.inode) != (file.device, file.inode);
            (std::cmp::Reverse(record.head.length), moved, record.id)
        });
        let right = candidates.into_iter().find(|known| match contents.held(known.record.id) {
            // The descriptor tells what the stream is now.
            Some(head) => head == file.head,
            // A backup does not grow. What begins like it and goes on is another file: a torn first line may begin
            // like any other.
            None => {
                let length = known.record.head.length as usize;
                let backup = live_path(Path::new(&known.record.file)) != Path::new(&known.record.file);
                !backup || length >= HEAD || length == file.head.len()
            }
        });
        right.map(|known| known.record.id)
    }

    fn is_copy(
        &self,
        index: usize,
        seen: &[Seen],
        taken: &BTreeMap<StreamId, usize>,
        contents: &mut dyn Contents,
    ) -> bool {
        let file = &seen[index];
        // A torn first line may begin like any other: it says nothing.
        let lines = file.head.contains(&b'\n') || file.head.len() == HEAD;
        lines
            && taken.values().any(|other| {
                let whole = &seen[*other];
                let longer = file.length.zip(whole.length).is_some_and(|(file, whole)| file > whole);
                whole.group.input == file.group.input
                    && !longer
                    && whole.head.starts_with(&file.head)
                    && (file.head.len() < HEAD || contents.same(index, *other))
            })
    }

    fn create(&mut self, file: &Seen) -> StreamId {
        let id = StreamId(self.next);
        self.next += 1;
        let record = StreamRecord {
            id,
            input: self.inputs[file.group.input].clone(),
            head: Hash::default(),
            length: 0,
            file: String::new(),
            device: file.device,
            inode: file.inode,
        };
        let known = Known { record, group: file.group.clone(), missing: 0, met: true, saved_length: 0 };
        self.streams.insert(id, known);
        self.order.entry(file.group.clone()).or_default().push(id);
        id
    }

    fn update(&mut self, stream: StreamId, file: &Seen) {
        let Some(known) = self.streams.get_mut(&stream) else { return };
        known.met = true;
        let before = known.record.clone();
        let record = &mut known.record;
        if (record.head.length as usize) < file.head.len() {
            record.head = Hash::of(&file.head);
        }
        (record.device, record.inode) = (file.device, file.inode);
        record.length = record.length.max(file.length.unwrap_or(0));
        record.file = file.path.to_string_lossy().into_owned();
        let grown = record.length >= known.saved_length + LENGTH_STEP;
        let other = StreamRecord { length: record.length, ..before } != *record;
        if grown || other {
            known.saved_length = record.length;
            self.changes.push(Entry::Stream(record.clone()));
        }
        if known.group != file.group {
            let group = std::mem::replace(&mut known.group, file.group.clone());
            if let Some(order) = self.order.get_mut(&group) {
                order.retain(|other| *other != stream);
            }
            self.order.entry(file.group.clone()).or_default().push(stream);
        }
    }

    /// Brings the streams that have files into the order of their files; those without keep their place.
    fn sort(&mut self, seen: &[Seen], found: &[Option<StreamId>]) {
        let mut sorted: BTreeMap<&Group, Vec<StreamId>> = BTreeMap::new();
        for index in by_age(seen) {
            if let Some(stream) = found[index] {
                sorted.entry(&seen[index].group).or_default().push(stream);
            }
        }
        for (group, streams) in sorted {
            let Some(order) = self.order.get_mut(group) else { continue };
            let visible: BTreeSet<StreamId> = streams.iter().copied().collect();
            let places = order.iter_mut().filter(|stream| visible.contains(stream));
            places.zip(streams).for_each(|(place, stream)| *place = stream);
        }
    }
}

/// What only reading can tell.
pub(crate) trait Contents {
    /// Whether the shorter of two files, by their numbers in what was seen, is the beginning of the other.
    fn same(&mut self, one: usize, other: usize) -> bool;

    /// The head of the file that is held open for a stream, as it is now.
    fn held(&mut self, stream: StreamId) -> Option<Vec<u8>>;
}

/// Whether a scan could look at everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complete {
    Yes,
    No,
}

fn begins(record: &StreamRecord, file: &Seen) -> bool {
    record.head.length > 0 && record.head.begins(&file.head)
}

/// The live file that `path` is or was the backup of.
pub(crate) fn live_path(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    match names::backup(&name) {
        Some(backup) => path.with_file_name(backup.base),
        None => path.to_owned(),
    }
}

/// The numbers of `seen`, group by group, oldest first, the live file last.
fn by_age(seen: &[Seen]) -> Vec<usize> {
    let mut groups: BTreeMap<&Group, Vec<usize>> = BTreeMap::new();
    for (index, file) in seen.iter().enumerate() {
        groups.entry(&file.group).or_default().push(index);
    }
    for files in groups.values_mut() {
        // Where two kinds of rotation are at work only the time of the last write compares them all.
        let stamps: Vec<&Stamp> = files.iter().filter_map(|index| seen[*index].stamp.as_ref()).collect();
        let mixed = stamps.windows(2).any(|pair| names::older(pair[0], pair[1]).is_none());
        files.sort_by(|one, two| {
            let (one, two) = (&seen[*one], &seen[*two]);
            let stamps = match (&one.stamp, &two.stamp) {
                (None, None) => Ordering::Equal,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(_), Some(_)) if mixed => Ordering::Equal,
                (Some(one), Some(two)) => names::older(one, two).unwrap_or(Ordering::Equal),
            };
            stamps.then(one.modified.cmp(&two.modified)).then_with(|| one.path.cmp(&two.path))
        });
    }
    groups.into_values().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn file(name: &str, inode: u64, content: &str) -> Seen {
        let path = PathBuf::from("/log").join(name);
        Seen {
            group: Group { input: 0, live: live_path(&path) },
            stamp: names::backup(name).map(|backup| backup.stamp),
            path,
            device: 1,
            inode,
            length: (!name.ends_with(".gz")).then_some(content.len() as u64),
            modified: UNIX_EPOCH,
            head: content.as_bytes()[..content.len().min(HEAD)].to_vec(),
        }
    }

    fn roster() -> Roster {
        Roster::new(vec!["api".into()], &State::default())
    }

    /// Nothing is held; files with equal heads are equal.
    struct Heads<'a>(&'a [Seen]);

    impl Contents for Heads<'_> {
        fn same(&mut self, one: usize, other: usize) -> bool {
            self.0[one].head == self.0[other].head
        }

        fn held(&mut self, _: StreamId) -> Option<Vec<u8>> {
            None
        }
    }

    /// Files that differ behind their heads; one head is held for all streams.
    struct Held(Option<&'static str>);

    impl Contents for Held {
        fn same(&mut self, _: usize, _: usize) -> bool {
            false
        }

        fn held(&mut self, _: StreamId) -> Option<Vec<u8>> {
            self.0.map(|head| head.as_bytes().to_vec())
        }
    }

    fn scan(roster: &mut Roster, seen: &[Seen]) -> Vec<Option<u64>> {
        let found = roster.scan(seen, Complete::Yes, &mut Heads(seen));
        found.iter().map(|stream| stream.map(|stream| stream.0)).collect()
    }

    fn order(roster: &Roster) -> Vec<u64> {
        roster.groups().flat_map(|(_, order)| order).map(|stream| stream.0).collect()
    }

    const OLD: &str = "audit-2026-11-24T02-00-00.000.log";
    const NEW: &str = "audit-2026-11-24T03-00-00.000.log";

    #[test]
    fn a_stream_stays_itself_through_rename_and_gzip() {
        let mut roster = roster();
        assert_eq!(scan(&mut roster, &[file("audit.log", 1, "a")]), [Some(0)]);
        assert_eq!(scan(&mut roster, &[file("audit.log", 1, "aaa")]), [Some(0)]);
        let rotated = [file(OLD, 1, "aaab"), file("audit.log", 2, "b")];
        assert_eq!(scan(&mut roster, &rotated), [Some(0), Some(1)]);
        let zipped = [file("audit.log", 2, "bb"), file(&format!("{OLD}.gz"), 3, "aaab")];
        assert_eq!(scan(&mut roster, &zipped), [Some(1), Some(0)]);
        assert_eq!(order(&roster), [0, 1]);
        // A restart: only the log is left.
        let mut state = State::default();
        roster.changes().into_iter().for_each(|entry| state.apply(entry));
        let mut again = Roster::new(vec!["api".into()], &state);
        assert_eq!(
            scan(&mut again, &[file(&format!("{OLD}.gz"), 9, "aaab"), file("audit.log", 8, "bbb")]),
            [Some(0), Some(1)]
        );
    }

    #[test]
    fn an_inode_used_again_is_another_stream() {
        let mut roster = roster();
        assert_eq!(scan(&mut roster, &[file("audit.log", 1, "first")]), [Some(0)]);
        let seen = [file(&format!("{OLD}.gz"), 2, "first"), file("audit.log", 1, "second")];
        assert_eq!(scan(&mut roster, &seen), [Some(0), Some(1)]);
    }

    #[test]
    fn files_with_the_same_head_are_told_apart_where_they_diverge() {
        let long = "x".repeat(HEAD);
        let mut roster = roster();
        let seen = [file(OLD, 1, &long), file("audit.log", 2, &long)];
        let mut differ = Held(None);
        let found = roster.scan(&seen, Complete::Yes, &mut differ);
        assert_eq!(found, [Some(StreamId(0)), Some(StreamId(1))]);
        // The same again, after one grew: by inode.
        assert_eq!(roster.scan(&seen, Complete::Yes, &mut differ), found);
    }

    #[test]
    fn a_copy_is_not_a_second_stream_until_it_differs() {
        let mut roster = roster();
        assert_eq!(
            scan(&mut roster, &[file(OLD, 1, "a\nb\n"), file("audit.log", 2, "a\n")]),
            [Some(0), None]
        );
        let seen = [file(OLD, 1, "a\nb\n"), file("audit.log", 2, "a\nc")];
        assert_eq!(scan(&mut roster, &seen), [Some(0), Some(1)]);
    }

    #[test]
    fn what_goes_on_after_another_file_is_no_copy() {
        let mut roster = roster();
        let seen = [file(OLD, 1, "{\"kind\":"), file("audit.log", 2, "{\"kind\":\"Event\"}\n")];
        assert_eq!(scan(&mut roster, &seen), [Some(0), Some(1)]);
        let mut roster = self::roster();
        let seen = [file(OLD, 1, "a\n"), file("audit.log", 2, "a\nb\n")];
        assert_eq!(scan(&mut roster, &seen), [Some(0), Some(1)]);
    }

    #[test]
    fn copytruncate_moves_the_stream_to_the_copy() {
        let mut roster = roster();
        assert_eq!(scan(&mut roster, &[file("audit.log", 1, "abc")]), [Some(0)]);
        assert_eq!(
            scan(&mut roster, &[file("audit.log.1", 2, "abc"), file("audit.log", 1, "")]),
            [Some(0), None]
        );
        assert_eq!(
            scan(&mut roster, &[file("audit.log.1", 2, "abc"), file("audit.log", 1, "x")]),
            [Some(0), Some(1)]
        );
    }

    #[test]
    fn what_was_found_later_may_be_older() {
        let mut roster = roster();
        scan(&mut roster, &[file(NEW, 2, "n"), file("audit.log", 3, "l")]);
        scan(&mut roster, &[file(NEW, 2, "n"), file("audit.log", 3, "l"), file(OLD, 1, "o")]);
        assert_eq!(order(&roster), [2, 0, 1]);
    }

    #[test]
    fn what_begins_like_a_torn_backup_is_another_file() {
        let mut roster = roster();
        scan(&mut roster, &[file(OLD, 1, "{\"n\":5")]);
        assert_eq!(scan(&mut roster, &[file("audit.log", 2, "{\"n\":53}\n")]), [Some(1)]);
        // The same while its descriptor is held, though it was never seen as a backup.
        let mut roster = self::roster();
        scan(&mut roster, &[file("audit.log", 1, "{\"n\":5")]);
        let seen = [file("audit.log", 2, "{\"n\":53}\n")];
        assert_eq!(roster.scan(&seen, Complete::Yes, &mut Held(Some("{\"n\":5"))), [Some(StreamId(1))]);
        // It had grown before it was copied.
        let mut roster = self::roster();
        scan(&mut roster, &[file("audit.log", 1, "{\"n\":5")]);
        let seen = [file(&format!("{OLD}.gz"), 2, "{\"n\":53}\n")];
        assert_eq!(roster.scan(&seen, Complete::Yes, &mut Held(Some("{\"n\":53}\n"))), [Some(StreamId(0))]);
    }

    #[test]
    fn renumbered_backups_are_the_same_streams() {
        let mut roster = roster();
        scan(&mut roster, &[file("a.log.1", 1, "one"), file("a.log", 2, "two")]);
        let seen = [file("a.log.2.gz", 7, "one"), file("a.log.1", 2, "two"), file("a.log", 3, "three")];
        assert_eq!(scan(&mut roster, &seen), [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_stream_without_a_file_is_missing_only_when_all_could_be_seen() {
        let mut roster = roster();
        scan(&mut roster, &[file("audit.log", 1, "a")]);
        roster.scan(&[], Complete::No, &mut Held(None));
        assert_eq!(roster.known(StreamId(0)).unwrap().missing, 0);
        roster.scan(&[], Complete::Yes, &mut Held(None));
        assert_eq!(roster.known(StreamId(0)).unwrap().missing, 1);
    }
}
