//! Where an archive's objects are: the names that `dir` and `s3` share.
//!
//! `cluster=C/date=YYYY-MM-DD/hour=HH/TIME-NODE-BATCH.ndjson.zst`: Hive's `key=value` directories, which DuckDB, Trino,
//! Athena and Spark read as columns. A name is a function of the batch alone (event time, not the time of sending), so
//! that a repeated batch meets its own object.

use crate::batch::Batch;
use crate::compress::Encoding;
use crate::sink::{Context, GroupKey, Named};
use auditship_event::Record;

const HOUR_MICROS: i64 = 3_600_000_000;
const HOUR_SECONDS: i64 = 3600;

/// What all names of one output have in common.
pub(super) struct Layout {
    cluster: String,
    node: String,
}

impl Layout {
    pub(super) fn new(context: &Context) -> Layout {
        Layout { cluster: component(context.cluster()), node: component(context.node()) }
    }

    /// An object holds the events of one hour.
    pub(super) fn group(record: &Record<'_>) -> GroupKey {
        GroupKey::Hour(record.time.div_euclid(HOUR_MICROS))
    }

    /// The name of the batch's object: the one that was written down for it, or the one that its content gives.
    pub(super) fn name(&self, batch: &Batch) -> String {
        if let Some(object) = &batch.object {
            return object.to_string();
        }
        let time = jiff::Timestamp::from_microsecond(batch.time).unwrap_or_default();
        format!(
            "cluster={}/{}/{}-{}-{}.ndjson{}",
            self.cluster,
            time.strftime("date=%Y-%m-%d/hour=%H"),
            time.strftime("%Y%m%dT%H%M%S.%6fZ"),
            self.node,
            batch.id,
            batch.encoding.extension()
        )
    }
}

/// What a name says, whatever else is in it: its hour, and how it is compressed.
pub(super) fn named(object: &str) -> Option<Named> {
    let part = |key: &str| object.split('/').find_map(|part| part.strip_prefix(key));
    let time = format!("{}T{}:00:00Z", part("date=")?, part("hour=")?);
    let time: jiff::Timestamp = time.parse().ok()?;
    let hour = time.as_second().div_euclid(HOUR_SECONDS);
    Some(Named { group: GroupKey::Hour(hour), encoding: Encoding::of_name(object) })
}

/// `text` as one component of a path: only `A-Z a-z 0-9 . _ -`, never empty, never beginning with a dot.
fn component(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = text.chars().take(100).map(safe).collect();
    match name.chars().next() {
        None => "_".to_owned(),
        Some('.') => format!("_{}", &name[1..]),
        Some(_) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let object = "cluster=c/date=2026-11-24/hour=02/20261124T023059.123456Z-n-00.ndjson.zst";
        let want = Named { group: GroupKey::Hour(1_795_487_459 / HOUR_SECONDS), encoding: Encoding::Zstd };
        assert_eq!(named(object), Some(want));
        for object in ["x/hour=02/y", "date=x/hour=02", "00112233445566778899aabbccddeeff"] {
            assert_eq!(named(object), None, "{object}");
        }
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        for (name, want) in
            [("", "_"), ("..", "_."), ("a/../b", "a_.._b"), ("é\0x", "__x"), ("prod-eu1", "prod-eu1")]
        {
            assert_eq!(component(name), want);
        }
        assert_eq!(component(&"x".repeat(1000)).len(), 100);
    }
}
