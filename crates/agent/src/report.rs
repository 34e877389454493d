//! The ledger as a person and as a program read it: one shape for `ship`, `demo`, `/status`.

use auditship_tail::ledger::Totals;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The whole account.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of the program.
    pub version: &'static str,
    /// Since the start, in seconds.
    pub elapsed_s: f64,
    /// By output.
    pub consumers: BTreeMap<String, Account>,
}

/// One consumer's account. Counts are of lines, except `indexes` and the byte figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Account {
    /// What was read.
    pub read: Amount,
    /// Lines whose records the output has taken.
    pub delivered: u64,
    /// Lines dropped, by filter rule.
    pub dropped: BTreeMap<String, u64>,
    /// Lines thinned, by route.
    pub thinned: BTreeMap<String, u64>,
    /// Lines that left only in a summary, by route.
    pub rolled_up: BTreeMap<String, u64>,
    /// Lines that the routes sent to other outputs only.
    pub elsewhere: u64,
    /// Lines that no route matched.
    pub unrouted: u64,
    /// Lines that are no audit events, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Lines that the output refused for good.
    pub dead_lettered: u64,
    /// Lines not settled.
    pub open: u64,
    /// Bytes that could not be read, by reason.
    pub lost_bytes: BTreeMap<String, u64>,
    /// Values taken out, by rule.
    pub redactions: BTreeMap<String, u64>,
    /// Values that the configuration lets stay, by the reason that it gives.
    pub allowed: BTreeMap<String, u64>,
    /// Pieces that left as a stub, by reason.
    pub failed_closed: BTreeMap<String, u64>,
    /// What arrived, by index.
    pub indexes: BTreeMap<String, IndexAmount>,
    /// Compressed bytes sent, retries included.
    pub wire_bytes: u64,
    /// Requests made, retries included.
    pub requests: u64,
    /// Requests made again.
    pub retries: u64,
    /// Of them, those that repeat one which the backend may have carried out.
    pub ambiguous_retries: u64,
    /// Batches sent in two pieces instead.
    pub splits: u64,
    /// Records sent once more with their bodies as strings.
    pub flattened: u64,
    /// Records delivered with something taken out of them because they were too long.
    pub trimmed: u64,
    /// Records that the backend has taken, but put where it keeps what it could not index.
    pub diverted: u64,
    /// Records that another output, its fallback, has taken instead.
    pub fallen_back: u64,
    /// Records dead-lettered (or given to the fallback) because the backend takes none of that age.
    pub too_old: u64,
    /// Records refused without being named; the whole of their batch is dead-lettered.
    pub refused_unnamed: u64,
    /// How many bytes a batch may have, by its configuration and by what the backend has refused as too large.
    pub batch_bytes: u64,
    /// What the output is doing: `ok`, `retrying`, `held`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// How far it is behind, where it follows live files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<Behind>,
    /// What went wrong last, while something is wrong; never content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// How far a consumer that follows live files is behind them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Behind {
    /// Bytes known to be unread (of compressed files only what is known of their length).
    pub lag_bytes: u64,
    /// Files not read to their end.
    pub lag_files: u64,
    /// From the time of the newest event that was looked at until now, while anything is unread or open; else 0.
    pub lag_seconds: f64,
    /// Age of the oldest backup that is not read to its end, by its last write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_unread_seconds: Option<f64>,
    /// How long until the API server's own rotation deletes something that is not shipped yet, at the measured rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_horizon_seconds: Option<f64>,
}

/// Lines and bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Amount {
    /// Lines.
    pub lines: u64,
    /// Uncompressed bytes, terminators included.
    pub bytes: u64,
}

/// Records and bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct IndexAmount {
    /// Records.
    pub records: u64,
    /// Their bytes before compression.
    pub bytes: u64,
}

impl Account {
    /// Takes over the totals of a ledger.
    pub fn set_totals(&mut self, totals: &Totals) {
        self.read = Amount { lines: totals.read_lines, bytes: totals.read_bytes };
        self.delivered = totals.delivered;
        self.dropped.clone_from(&totals.dropped);
        self.thinned.clone_from(&totals.thinned);
        self.rolled_up.clone_from(&totals.rolled_up);
        self.elsewhere = totals.elsewhere;
        self.unrouted = totals.unrouted;
        self.skipped.clone_from(&totals.skipped);
        self.dead_lettered = totals.dead_lettered;
        self.open = totals.open;
        self.lost_bytes.clone_from(&totals.lost_bytes);
    }

    /// Whether everything read is accounted for, exactly once (the law).
    pub fn adds_up(&self) -> bool {
        let sum = |map: &BTreeMap<String, u64>| map.values().sum::<u64>();
        self.read.lines
            == self.delivered
                + sum(&self.dropped)
                + sum(&self.thinned)
                + sum(&self.rolled_up)
                + self.elsewhere
                + self.unrouted
                + sum(&self.skipped)
                + self.dead_lettered
                + self.open
    }

    /// Whether every line has reached its end and none was refused or lost.
    pub fn is_clean(&self) -> bool {
        self.open == 0
            && self.dead_lettered == 0
            && self.lost_bytes.values().all(|n| *n == 0)
            && self.adds_up()
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes as a person reads them.
pub fn bytes(number: u64) -> String {
    match number {
        0..10_000 => format!("{number} B"),
        10_000..1_000_000 => format!("{:.1} kB", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", number as f64 / 1e6),
        _ => format!("{:.2} GB", number as f64 / 1e9),
    }
}

impl Report {
    /// The account as text, one consumer after the other.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, account) in &self.consumers {
            let _ = writeln!(out, "{name}");
            account.text(&mut out);
        }
        out
    }
}

impl Account {
    fn text(&self, out: &mut String) {
        let mut row = |what: &str, lines: u64, more: &str| {
            let _ = writeln!(out, "  {what:<14}{:>12}  {more}", grouped(lines));
        };
        row("read", self.read.lines, &format!("lines, {}", bytes(self.read.bytes)));
        let indexes: Vec<String> =
            self.indexes.iter().map(|(name, amount)| format!("{name} {}", grouped(amount.records))).collect();
        row("delivered", self.delivered, &indexes.join(", "));
        for (what, map) in [
            ("dropped", &self.dropped),
            ("thinned", &self.thinned),
            ("rolled up", &self.rolled_up),
            ("skipped", &self.skipped),
        ] {
            let total = map.values().sum();
            if total > 0 {
                row(what, total, &by_name(map));
            }
        }
        for (what, lines) in
            [("elsewhere", self.elsewhere), ("unrouted", self.unrouted), ("dead letters", self.dead_lettered)]
        {
            if lines > 0 {
                row(what, lines, "");
            }
        }
        row(
            "open",
            self.open,
            if self.adds_up() { "the ledger adds up" } else { "THE LEDGER DOES NOT ADD UP" },
        );
        let lost = self.lost_bytes.values().sum();
        if lost > 0 {
            row("lost", lost, &format!("bytes at least: {}", by_name(&self.lost_bytes)));
        }
        let redactions = self.redactions.values().sum();
        if redactions > 0 {
            row("redacted", redactions, &format!("values: {}", by_name(&self.redactions)));
        }
        let allowed = self.allowed.values().sum();
        if allowed > 0 {
            row("allowed", allowed, &format!("values: {}", by_name(&self.allowed)));
        }
        let failed = self.failed_closed.values().sum();
        if failed > 0 {
            row("failed closed", failed, &by_name(&self.failed_closed));
        }
        if self.fallen_back > 0 {
            row("fell back", self.fallen_back, "records that another output took instead");
        }
        if self.trimmed > 0 {
            row("trimmed", self.trimmed, "records too long for the output, delivered with less");
        }
        if self.diverted > 0 {
            row("diverted", self.diverted, "records in the backend's failure store, not in their index");
        }
        row(
            "requests",
            self.requests,
            &format!(
                "{} retries, {} on the wire{}",
                grouped(self.retries),
                bytes(self.wire_bytes),
                self.ratio()
            ),
        );
    }

    fn ratio(&self) -> String {
        let raw: u64 = self.indexes.values().map(|amount| amount.bytes).sum();
        if self.wire_bytes == 0 || raw == 0 {
            return String::new();
        }
        format!(" for {} of records ({:.1}:1)", bytes(raw), raw as f64 / self.wire_bytes as f64)
    }
}

/// `name 1,234, other 5`, largest first.
pub fn by_name(map: &BTreeMap<String, u64>) -> String {
    let mut all: Vec<_> = map.iter().filter(|(_, count)| **count > 0).collect();
    all.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
    all.iter().map(|(name, count)| format!("{name} {}", grouped(**count))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(bytes(25_810_056), "25.8 MB");
    }

    #[test]
    fn the_law() {
        let mut account =
            Account { read: Amount { lines: 3, bytes: 30 }, delivered: 2, open: 1, ..Account::default() };
        assert!(account.adds_up() && !account.is_clean());
        account.delivered = 3;
        assert!(!account.adds_up());
        account.open = 0;
        assert!(account.is_clean());
    }
}
