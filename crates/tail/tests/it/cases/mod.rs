//! The numbered faults that a follower of logs must stand, each with its test.
//!
//! | case | fault | test |
//! |---|---|---|
//! | 1 | an inode is used again | `follow::case_01_…`; `roster` (unit) |
//! | 2 | two files begin alike | `follow::case_02_…` |
//! | 3 | an empty file, or one with half a line, is rotated | `rotation::case_03_…` |
//! | 4 | the device number changes | `identity::case_04_…` |
//! | 5 | links, overlapping globs | `identity::case_05_…`, `follow::case_06_…` |
//! | 6 | a backup is copied or restored | `follow::case_06_…` |
//! | 7 | 1,000 rotations under load | `rotation::case_07_…` |
//! | 8 | rotated while the output is down | `rotation::case_08_…` |
//! | 9 | unread backups are deleted, agent up | `follow::case_09_…` |
//! | 10 | two rotations between two scans | `follow::case_10_…` |
//! | 11 | a glob matches the backups too | `follow::case_11_…` |
//! | 12 | a late append to a renamed file | `follow::case_12_…` |
//! | 13 | copytruncate, NUL hole | `rotation::case_13_…` (three) |
//! | 14 | truncated and rewritten to the same size or more | `rotation::case_14_…`, `follow::case_14_…` |
//! | 15 | moved to another directory | `rotation::case_15_…` |
//! | 16 | the live file is unlinked, its writer goes on | `follow::case_16_…` |
//! | 17 | no file watch | `latency::case_17_…` |
//! | 18 | rotated many times while down | `down::case_18_…` |
//! | 19 | rotated and compressed while half-read | `follow::case_19_…`, `down::case_19_…` (zstd, many steps) |
//! | 20 | plain file and partial gzip side by side | `follow::case_20_…`, `down::case_20_…` |
//! | 21 | gzip rewritten under the reader, several members, a flipped bit | `down::case_21_…` (three) |
//! | 22 | `.N.gz` renumbering, dateext | `down::case_22_…` |
//! | 23 | a backup is deleted while down | `follow::case_23_…`, `down::case_23_…` (the gaps); the agent's `cases::case_23_…` |
//! | 24 | half a line, crash, restart | `down::case_24_…` |
//! | 25 | a torn line glued to the next event | `down::case_25_…`: it comes whole; the agent's `cases::case_25_…`: two records |
//! | 26 | lines of 1, 10, 100 MB | `resources::case_26_…` |
//! | 27 | CRLF, NUL, invalid UTF-8, delimiters across buffers | `resources::case_27_…`, `lines::terminators` |
//! | 28 | killed at every step of a save | `store::power::case_28_…` (unit) |
//! | 29 | power loss | `store::power::case_29_…` (unit) |
//! | 30 | the state is corrupt or missing | `down::case_30_…`, `store` (unit) |
//! | 31 | a read fails | `records::case_31_…` (two), `resources::case_31_…` |
//! | 32 | the state's disk is full or read-only | `store::power::case_32_…` (unit); the agent's `disk::case_32_…` (a real one that is full) |
//! | 33 | a settled file comes back | `down::case_33_…` |
//! | 34 | stopped during a flush | `down::case_34_…` for the position; the agent's `cases::case_34_…` for the flush |
//! | 35 | two agents, one state directory | `store` (unit) `a_second_agent_is_told_who_is_first` |
//! | 36 | acknowledgements out of order | `ledger::a_position_never_passes_an_open_line`, `ledger::the_ledger_is_the_model` |
//! | 44 | reload during an outage | the agent's `cases::case_44_…`; `down::case_44_…` for what is held |
//! | 46 | held deleted files are capped and visible | `follow::case_46_…`, `resources::case_46_…` |
//! | 47 | thousands of files, few descriptors | `resources::case_47_…` |
//! | 48 | idle with many files | `resources::case_48_…` |
//! | 49 | the clock steps by a day | `resources::case_49_…` |
//! | 50 | two API servers overlap | `rotation::case_50_…` |
//!
//! 37 to 43 and 45 are of delivery, which this crate does not do.

mod down;
mod identity;
mod idle;
mod latency;
mod records;
mod resources;
mod rotation;
