//! What was found out, before anything is made of it.
//!
//! Plain data, filled in by `look.rs` and by tests. Times are the clock's or the events' own.

use super::server::Server;
use jiff::Timestamp;

/// Everything that the verdicts are made of.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What the API server is told.
    pub server: Server,
    /// Where that was read: a path, or a process.
    pub from: String,
    /// The policy file's text; `None`: not looked at.
    pub policy: Option<Seen<Vec<u8>>>,
    /// What the node shows; `None`: nothing of a node was looked at.
    pub node: Option<Node>,
}

/// What looking at something gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<T> {
    /// This.
    Is(T),
    /// There is none.
    Missing,
    /// It cannot be looked at, and why.
    Refused(String),
}

/// What the node shows.
#[derive(Clone, Debug)]
pub struct Node {
    /// The clock.
    pub now: Timestamp,
    /// The user that looked.
    pub user: u32,
    /// The API server's process, if one is seen.
    pub process: Option<Process>,
    /// The audit log, where there is one on the node.
    pub log: Option<Log>,
}

/// The running API server.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// API servers besides.
    pub others: Vec<u32>,
    /// Audit flags that are not as the description says: names.
    pub differs: Vec<String>,
    /// It has the log open, and the log has no name any more.
    pub writes_deleted: bool,
    /// In its eyes the log is a mount of its own.
    pub file_mount: bool,
}

/// The audit log and the directory around it.
#[derive(Clone, Debug)]
pub struct Log {
    /// The live file, on the node.
    pub path: String,
    /// Its directory.
    pub dir: Seen<Stat>,
    /// The live file.
    pub file: Seen<Live>,
    /// The file system below.
    pub system: Option<System>,
    /// Rotated files, oldest first.
    pub backups: Vec<Backup>,
    /// Files of logrotate that name it.
    pub logrotate: Vec<String>,
}

/// Whose something is, and who may what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The lower twelve bits.
    pub mode: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// A directory.
    pub is_dir: bool,
}

/// The live file.
#[derive(Clone, Debug)]
pub struct Live {
    /// Who may read it.
    pub stat: Stat,
    /// How long it is.
    pub bytes: u64,
    /// What is in it; `None`: it could not be opened, and why is in `refused`.
    pub content: Option<Content>,
    /// Why it could not be opened.
    pub refused: Option<String>,
}

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Empty,
    /// Audit events, and the time of the first and the last one.
    Events {
        /// Of the first.
        first: Timestamp,
        /// Of the last.
        last: Timestamp,
    },
    /// Text lines of the legacy format.
    Legacy,
    /// Something else.
    Other,
}

/// A rotated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its length when it was written.
    pub bytes: u64,
    /// What it takes on disk.
    pub on_disk: u64,
    /// The time of its first event, where it could be read.
    pub first: Option<Timestamp>,
}

/// A file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// `ext4`, `tmpfs`; a number where it has no name here.
    pub kind: String,
    /// Its size.
    pub bytes: u64,
    /// What can still be written.
    pub free: u64,
}

impl Stat {
    /// Whether a user of the group of the same number, without any capability, may do what `bits` (of `rwx`) say.
    pub fn allows(self, user: u32, bits: u32) -> bool {
        let shift = match () {
            () if self.user == user => 6,
            () if self.group == user => 3,
            () => 0,
        };
        (self.mode >> shift) & bits == bits
    }
}

impl Log {
    /// The name of the directory.
    pub fn dir_path(&self) -> &str {
        match self.path.rsplit_once('/') {
            Some(("", _)) | None => "/",
            Some((dir, _)) => dir,
        }
    }

    /// The live file's first and last event.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        match &self.file {
            Seen::Is(Live { content: Some(Content::Events { first, last }), .. }) => Some((*first, *last)),
            _ => None,
        }
    }

    /// What the live file and the backups take on disk.
    pub fn on_disk(&self) -> u64 {
        let live = if let Seen::Is(live) = &self.file { live.bytes } else { 0 };
        live + self.backups.iter().map(|backup| backup.on_disk).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_read() {
        let stat = |mode, user, group| Stat { mode, user, group, is_dir: false };
        for (stat, user, want) in [
            (stat(0o600, 0, 0), 0, true),
            (stat(0o600, 65534, 65534), 0, false),
            (stat(0o640, 65534, 0), 0, true),
            (stat(0o604, 65534, 65534), 0, true),
            (stat(0o066, 0, 0), 0, false),
        ] {
            assert_eq!(stat.allows(user, 0o4), want, "{stat:?}");
        }
    }
}
