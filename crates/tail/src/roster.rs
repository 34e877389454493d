//! Which stream each file is.
//!
//! Pure: what was seen in the directories goes in, the streams come out. A stream is its content (a hash over a
//! growing head); device and inode are only tried first. It owns the numbers of the streams, their order of age
//! within a group (a live file and its backups), and the records that the state log needs.
//!
//! Invariants: in one scan no two files are the same stream; a number is never given twice; a file whose whole
//! content is the beginning of another file is a copy of it until they differ.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use auditship_event::StreamId;

use crate::checkpoint::{Entry, Hash, State, StreamRecord};
use crate::files::HEAD;
use crate::head::{ENOUGH, Head};
use crate::names::{self, Stamp};

/// A live file's path (which may not exist), with the number of its input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    pub(crate) head: Head,
    /// The stream that it was at the last scan, when nothing of it has changed since.
    pub(crate) known: Option<StreamId>,
}

/// What is known of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) record: StreamRecord,
    pub(crate) group: Group,
    /// In how many scans in a row no file had its content.
    pub(crate) missing: u32,
    /// Set when it was last seen as the live file and nobody saw how it was rotated: more may have been written to it
    /// than is known, and whole files after it.
    pub(crate) edge: bool,
    /// Set when its file was seen by this process, not only read from the state log.
    met: bool,
}

/// The streams of all inputs.
#[derive(Default)]
pub(crate) struct Roster {
    streams: BTreeMap<StreamId, Known>,
    /// Oldest first.
    order: BTreeMap<Group, Vec<StreamId>>,
    inputs: Vec<String>,
    next: u64,
    /// Of these the state log does not know the newest, their lengths included.
    changed: BTreeSet<StreamId>,
    retired: Vec<StreamId>,
    /// Files that turned out to hold something else than the stream: by device and inode.
    banned: BTreeSet<(StreamId, u64, u64)>,
    counts: Counts,
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) scans: u64,
    pub(crate) rotations: u64,
    pub(crate) gaps: u64,
}

impl Roster {
    pub(crate) fn new(inputs: Vec<String>, state: &State) -> Roster {
        let mut roster = Roster { inputs, next: state.next_stream, ..Roster::default() };
        for record in state.streams.values() {
            // An input that is no longer configured keeps its records: it may come back.
            let Some(input) = roster.inputs.iter().position(|name| *name == record.input) else { continue };
            let group = Group { input, live: live_path(Path::new(&record.file)) };
            let known = Known {
                record: record.clone(),
                group: group.clone(),
                missing: 0,
                edge: record.inode != 0 && (record.endless || group.live == Path::new(&record.file)),
                met: false,
            };
            roster.streams.insert(record.id, known);
            roster.order.entry(group).or_default().push(record.id);
        }
        // Also where there was nothing yet in the live file: the newest one is where knowledge ends.
        for newest in roster.order.values().filter_map(|order| order.last()) {
            if let Some(known) = roster.streams.get_mut(newest) {
                known.edge = known.record.inode != 0;
            }
        }
        roster
    }

    /// The streams of each group, oldest first.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&Group, &[StreamId])> {
        self.order.iter().map(|(group, order)| (group, &order[..]))
    }

    /// The newest stream of a group.
    pub(crate) fn last(&self, group: &Group) -> Option<StreamId> {
        self.order.get(group)?.last().copied()
    }

    pub(crate) fn known(&self, stream: StreamId) -> Option<&Known> {
        self.streams.get(&stream)
    }

    /// The records that changed since the last call.
    pub(crate) fn changes(&mut self) -> Vec<Entry> {
        let changed = std::mem::take(&mut self.changed);
        let records = changed.iter().filter_map(|stream| self.streams.get(stream));
        let records = records.map(|known| Entry::Stream(known.record.clone()));
        records.chain(self.retired.drain(..).map(Entry::Retired)).collect()
    }

    /// The file at this place is not this stream, whatever its head says.
    pub(crate) fn ban(&mut self, stream: StreamId, device: u64, inode: u64) {
        self.banned.insert((stream, device, inode));
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether a file that has not changed is still this stream.
    pub(crate) fn stands(&self, stream: StreamId, device: u64, inode: u64) -> bool {
        self.streams.contains_key(&stream) && !self.banned.contains(&(stream, device, inode))
    }

    /// A look at which nothing was new.
    pub(crate) fn glanced(&mut self) {
        self.counts.scans += 1;
    }

    /// The plain file of a stream has grown, and nothing else has changed.
    pub(crate) fn grew(&mut self, stream: StreamId, length: u64) {
        if let Some(known) = self.streams.get_mut(&stream)
            && known.record.length < length
        {
            known.record.length = length;
            self.changed.insert(stream);
        }
    }

    /// Says how long a stream is, where only a reader or a held descriptor could tell.
    pub(crate) fn measured(&mut self, stream: StreamId, length: u64) {
        if let Some(known) = self.streams.get_mut(&stream) {
            let record = &mut known.record;
            if record.length < length || (record.endless && !known.edge) {
                record.length = record.length.max(length);
                record.endless &= known.edge;
                self.changed.insert(stream);
            }
        }
    }

    /// Forgets a stream that nobody needs any more.
    pub(crate) fn retire(&mut self, stream: StreamId) {
        if let Some(known) = self.streams.remove(&stream) {
            if let Some(order) = self.order.get_mut(&known.group) {
                order.retain(|other| *other != stream);
            }
            self.order.retain(|_, order| !order.is_empty());
            self.banned.retain(|(other, ..)| *other != stream);
            self.changed.remove(&stream);
            self.retired.push(stream);
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
            if let Some(stream) = file.known.filter(|stream| self.stands(*stream, file.device, file.inode))
                && !taken.contains_key(&stream)
            {
                found[index] = Some(stream);
                taken.insert(stream, index);
            }
        }
        let index = Index::new(&self.streams, seen.len() > taken.len());
        let mut heads = HashMap::new();
        for (at, file) in seen.iter().enumerate() {
            if found[at].is_none()
                && let Some(streams) = index.places.get(&(file.device, file.inode))
                && let Some(head) = whole(at, file, contents)
                && let Some(stream) = self.by_inode(file, &head, streams, contents)
                && !taken.contains_key(&stream)
            {
                found[at] = Some(stream);
                taken.insert(stream, at);
                heads.insert(at, Hash::of(&head));
            }
        }
        let first = self.next;
        for at in by_age(seen) {
            let file = &seen[at];
            if found[at].is_some() || file.head.is_empty() {
                continue;
            }
            let Some(head) = whole(at, file, contents) else { continue };
            let stream = self.by_head(file, &head, &taken, &index, contents);
            let stream = match stream {
                Some(stream) => stream,
                None if self.is_copy(at, &head, seen, &taken, contents) => continue,
                None => self.create(file),
            };
            found[at] = Some(stream);
            taken.insert(stream, at);
            heads.insert(at, Hash::of(&head));
        }
        if complete == Complete::Yes {
            self.edges(seen, &taken, first, contents);
        }
        for (stream, index) in &taken {
            // What has not changed says nothing new.
            if let Some(head) = heads.remove(index) {
                self.update(*stream, &seen[*index], head);
            }
        }
        for (stream, known) in &mut self.streams {
            match (taken.contains_key(stream), complete) {
                (true, _) => known.missing = 0,
                (false, Complete::Yes) => known.missing = known.missing.saturating_add(1),
                (false, Complete::No) => {}
            }
        }
        self.sort(seen, &found);
        self.counts.scans += 1;
        found
    }

    /// Finds the groups of which everything was deleted between two scans while new files are there: as many files as
    /// the writer keeps were rotated in between, maybe more. What was only moved away says nothing of that.
    fn edges(
        &mut self,
        seen: &[Seen],
        taken: &BTreeMap<StreamId, usize>,
        first: u64,
        contents: &mut dyn Contents,
    ) {
        let there: BTreeSet<&Group> = seen.iter().map(|file| &file.group).collect();
        let old = taken.iter().filter(|(stream, _)| stream.0 < first).map(|(_, index)| &seen[*index].group);
        let old: BTreeSet<&Group> = old.collect();
        for (_, order) in self.order.iter().filter(|(group, _)| there.contains(group) && !old.contains(group))
        {
            let newest = order.iter().rev().find(|stream| stream.0 < first);
            if let Some(known) = newest.and_then(|stream| self.streams.get_mut(stream))
                && known.met
                && known.missing == 0
                && contents.deleted(known.record.id)
            {
                (known.edge, known.record.endless) = (true, true);
                self.changed.insert(known.record.id);
            }
        }
        for (stream, known) in &self.streams {
            // At the second look: a rename may fall between two.
            self.counts.gaps += u64::from(known.edge && known.missing == 1 && !taken.contains_key(stream));
        }
    }

    /// A stream is settled by everyone and its file is gone: nothing is missing any more should it stay away.
    pub(crate) fn entomb(&mut self, stream: StreamId) {
        if let Some(known) = self.streams.get_mut(&stream)
            && known.record.inode != 0
        {
            (known.edge, known.record.endless) = (false, false);
            (known.record.device, known.record.inode) = (0, 0);
            self.changed.insert(stream);
        }
    }

    /// The end of a stream was never seen: its file was truncated.
    pub(crate) fn cut(&mut self, stream: StreamId) {
        if let Some(known) = self.streams.get_mut(&stream) {
            (known.edge, known.record.endless) = (true, true);
            self.changed.insert(stream);
        }
    }

    fn is_banned(&self, stream: StreamId, file: &Seen) -> bool {
        self.banned.contains(&(stream, file.device, file.inode))
    }

    /// An inode number is used again at once: it means something only while we hold a descriptor of it, or when a
    /// restart finds enough of the same content in the same place (and maybe a copy of it elsewhere).
    fn by_inode(
        &self,
        file: &Seen,
        head: &[u8],
        streams: &[StreamId],
        contents: &mut dyn Contents,
    ) -> Option<StreamId> {
        let mine = |known: &&Known| {
            let record = &known.record;
            // A file that we saw longer was truncated: it is another stream even if it begins the same.
            let shrunk = known.met && file.length.is_some_and(|length| length < record.length);
            !shrunk
                && known.group.input == file.group.input
                && !self.is_banned(record.id, file)
                && record.head.length > 0
                && record.head.begins(head)
                && match contents.held(record.id) {
                    Some(held) => held.starts_with(head),
                    None => !known.met && record.head.length as usize >= ENOUGH && !longer_than(record, file),
                }
        };
        streams.iter().filter_map(|stream| self.streams.get(stream)).find(mine).map(|known| known.record.id)
    }

    fn by_head(
        &self,
        file: &Seen,
        head: &[u8],
        taken: &BTreeMap<StreamId, usize>,
        index: &Index,
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
                && !self.is_banned(record.id, file)
        };
        let begun = index.begun_by(head).filter_map(|stream| self.streams.get(stream));
        let mut candidates: Vec<&Known> = begun.filter(mine).collect();
        candidates.sort_by_key(|known| {
            let record = &known.record;
            let moved = (record.device, record.inode) != (file.device, file.inode);
            (std::cmp::Reverse(record.head.length), moved, record.id)
        });
        let right = candidates.into_iter().find(|known| match contents.held(known.record.id) {
            // The descriptor tells what the stream is now, unless it was truncated under us.
            Some(held) if known.record.head.begins(&held) => *held == *head,
            // A backup does not grow. What begins like it and goes on is another file: a torn first line may begin
            // like any other.
            _ => {
                let length = known.record.head.length as usize;
                let backup = live_path(Path::new(&known.record.file)) != Path::new(&known.record.file);
                !backup || length >= HEAD || length == head.len()
            }
        });
        right.map(|known| known.record.id)
    }

    fn is_copy(
        &self,
        index: usize,
        head: &[u8],
        seen: &[Seen],
        taken: &BTreeMap<StreamId, usize>,
        contents: &mut dyn Contents,
    ) -> bool {
        let file = &seen[index];
        // A torn first line may begin like any other: it says nothing.
        let lines = head.contains(&b'\n') || head.len() >= ENOUGH;
        lines
            && taken.values().any(|other| {
                let longer = file.length.zip(seen[*other].length).is_some_and(|(file, whole)| file > whole);
                seen[*other].group.input == file.group.input
                    && !longer
                    && seen[*other].head.starts_with(head).unwrap_or_else(|| {
                        whole(*other, &seen[*other], contents).is_some_and(|whole| whole.starts_with(head))
                    })
                    && (head.len() < HEAD || contents.same(index, *other))
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
            endless: false,
            device: file.device,
            inode: file.inode,
        };
        let known = Known { record, group: file.group.clone(), missing: 0, edge: false, met: true };
        // Rotated before it was ever seen; at the first scan everything is.
        self.counts.rotations += u64::from(self.counts.scans > 0 && file.stamp.is_some());
        self.streams.insert(id, known);
        self.order.entry(file.group.clone()).or_default().push(id);
        id
    }

    fn update(&mut self, stream: StreamId, file: &Seen, head: Hash) {
        let Some(known) = self.streams.get_mut(&stream) else { return };
        (known.met, known.edge) = (true, false);
        let before = known.record.clone();
        let record = &mut known.record;
        let was_live = known.group.live == Path::new(&before.file);
        self.counts.rotations += u64::from(was_live && file.stamp.is_some());
        if record.head.length < head.length {
            record.head = head;
        }
        (record.device, record.inode) = (file.device, file.inode);
        // Compressed since it was last seen as the live file: it had grown, and only decoding tells how far.
        record.endless = file.length.is_none() && (record.endless || (was_live && file.stamp.is_some()));
        record.length = record.length.max(file.length.unwrap_or(0));
        record.file = file.path.to_string_lossy().into_owned();
        if before != *record {
            self.changed.insert(stream);
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

/// Where to look for a stream, made once a scan.
#[derive(Default)]
struct Index {
    places: HashMap<(u64, u64), Vec<StreamId>>,
    /// By the length of what was hashed, and the hash.
    heads: BTreeMap<u32, HashMap<String, Vec<StreamId>>>,
}

impl Index {
    fn new(streams: &BTreeMap<StreamId, Known>, wanted: bool) -> Index {
        let mut index = Index::default();
        for known in streams.values().filter(|_| wanted) {
            let record = &known.record;
            index.places.entry((record.device, record.inode)).or_default().push(record.id);
            if record.head.length > 0 {
                let heads = index.heads.entry(record.head.length).or_default();
                heads.entry(record.head.hash.clone()).or_default().push(record.id);
            }
        }
        index
    }

    /// The streams that `head` begins with.
    fn begun_by<'a>(&'a self, head: &'a [u8]) -> impl Iterator<Item = &'a StreamId> {
        self.heads
            .iter()
            .filter_map(|(length, heads)| {
                let begin = head.get(..*length as usize)?;
                heads.get(&Hash::of(begin).hash)
            })
            .flatten()
    }
}

/// What only reading can tell.
pub(crate) trait Contents {
    /// All of the head of a file of which it was cut, by its number in what was seen; `None` when it has changed.
    fn head(&mut self, file: usize) -> Option<Arc<[u8]>>;

    /// Whether the shorter of two files, by their numbers in what was seen, is the beginning of the other.
    fn same(&mut self, one: usize, other: usize) -> bool;

    /// The head of the file that is held open for a stream, as it is now.
    fn held(&mut self, stream: StreamId) -> Option<Vec<u8>>;

    /// Whether the file that was held for a stream has no name any more, here or elsewhere.
    fn deleted(&mut self, stream: StreamId) -> bool;
}

/// Whether a scan could look at everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complete {
    Yes,
    No,
}

/// Whether a stream was longer than `file` is.
fn longer_than(record: &StreamRecord, file: &Seen) -> bool {
    file.length.is_some_and(|length| length < record.length)
}

/// All of a file's head. `None`: it has changed since it was seen.
fn whole(at: usize, file: &Seen, contents: &mut dyn Contents) -> Option<Arc<[u8]>> {
    file.head.whole().map(Arc::clone).or_else(|| contents.head(at))
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
            head: Head::new(content.as_bytes()[..content.len().min(HEAD)].to_vec()),
            known: None,
        }
    }

    fn roster() -> Roster {
        Roster::new(vec!["api".into()], &State::default())
    }

    /// Nothing is held; files with equal heads are equal.
    struct Heads<'a>(&'a [Seen]);

    impl Contents for Heads<'_> {
        fn head(&mut self, _: usize) -> Option<Arc<[u8]>> {
            None
        }

        fn same(&mut self, one: usize, other: usize) -> bool {
            self.0[one].head.whole() == self.0[other].head.whole()
        }

        fn held(&mut self, _: StreamId) -> Option<Vec<u8>> {
            None
        }

        fn deleted(&mut self, _: StreamId) -> bool {
            true
        }
    }

    /// Files that differ behind their heads; one head is held for all streams.
    struct Held(Option<&'static str>);

    impl Contents for Held {
        fn head(&mut self, _: usize) -> Option<Arc<[u8]>> {
            None
        }

        fn same(&mut self, _: usize, _: usize) -> bool {
            false
        }

        fn held(&mut self, _: StreamId) -> Option<Vec<u8>> {
            self.0.map(|head| head.as_bytes().to_vec())
        }

        fn deleted(&mut self, _: StreamId) -> bool {
            true
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
