//! The accounts as Prometheus metrics (text format 1.0, OpenMetrics), encoded afresh at each scrape.
//!
//! Labels are names from the configuration, the catalogue and fixed words; indexes are bounded by the shipper
//! (`other` takes the overflow). Nothing of an event ever becomes a label except through an index name.

use crate::report::{Account, Behind};
use crate::status::{Reload, Status, Trouble};
use auditship_tail::catalogue::Figures;
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;

/// All metrics as text.
pub fn text(status: &Status) -> String {
    let mut registry = Registry::with_prefix("auditship");
    registry.register_collector(Box::new(Scrape {
        accounts: status.accounts(),
        degraded: status.degraded(),
        files: status.files(),
        reloads: status.reloads(),
        state_syncs: status.state_syncs(),
        troubles: status.troubles(),
    }));
    let mut out = String::new();
    match prometheus_client::encoding::text::encode(&mut out, &registry) {
        Ok(()) => out,
        // Writing to a string does not fail.
        Err(fmt::Error) => String::new(),
    }
}

#[derive(Debug)]
struct Scrape {
    accounts: BTreeMap<String, Account>,
    degraded: BTreeMap<String, String>,
    files: Option<Figures>,
    reloads: BTreeMap<Reload, u64>,
    state_syncs: u64,
    troubles: BTreeMap<Trouble, Timestamp>,
}

type Figure = fn(&Account) -> u64;
type Named = fn(&Account) -> Vec<(&'static str, &BTreeMap<String, u64>)>;

const COUNTERS: &[(&str, &str, Figure)] = &[
    ("read_lines", "Lines read", |a| a.read.lines),
    ("read_bytes", "Uncompressed bytes read", |a| a.read.bytes),
    ("delivered_lines", "Lines whose records the output has taken", |a| a.delivered),
    ("dead_lettered_lines", "Lines that the output refused for good", |a| a.dead_lettered),
    ("elsewhere_lines", "Lines that the routes sent to other outputs only", |a| a.elsewhere),
    ("unrouted_lines", "Lines that no route matched", |a| a.unrouted),
    ("wire_bytes", "Compressed bytes sent, retries included", |a| a.wire_bytes),
    ("requests", "Requests made, retries included", |a| a.requests),
    ("retries", "Requests made again", |a| a.retries),
    ("ambiguous_retries", "Repeated requests that may have been carried out", |a| a.ambiguous_retries),
    ("splits", "Batches sent in two pieces instead", |a| a.splits),
    ("flattened_records", "Records sent again with their bodies as strings", |a| a.flattened),
    ("trimmed_records", "Records delivered with something taken out for their length", |a| a.trimmed),
    ("fallen_back_records", "Records that the fallback has taken instead", |a| a.fallen_back),
    ("diverted_records", "Records taken, but into the backend's failure store", |a| a.diverted),
    ("too_old_records", "Records not sent for their age", |a| a.too_old),
    ("refused_unnamed_records", "Records refused without being named", |a| a.refused_unnamed),
];

/// Name, help, label, and the map with its label's values.
const NAMED: &[(&str, &str, &str, Named)] = &[
    ("dropped_lines", "Lines dropped, by filter rule", "rule", |a| vec![("", &a.dropped)]),
    ("thinned_lines", "Lines thinned, by route", "route", |a| vec![("", &a.thinned)]),
    ("rolled_up_lines", "Lines that left in a summary only, by route", "route", |a| vec![("", &a.rolled_up)]),
    ("skipped_lines", "Lines that are no audit events, by reason", "reason", |a| vec![("", &a.skipped)]),
    ("lost_bytes", "Bytes that could not be read, by reason", "reason", |a| vec![("", &a.lost_bytes)]),
    ("redactions", "Values taken out, by rule", "rule", |a| vec![("", &a.redactions)]),
    ("allowed", "Values that the configuration lets stay, by its reason", "reason", |a| {
        vec![("", &a.allowed)]
    }),
    ("failed_closed", "Pieces that left as a stub, by reason", "reason", |a| vec![("", &a.failed_closed)]),
];

type Distance = fn(&Behind) -> Option<f64>;

const BEHIND: &[(&str, &str, Distance)] = &[
    ("lag_bytes", "Bytes known to be unread", |b| Some(b.lag_bytes as f64)),
    ("lag_files", "Files not read to their end", |b| Some(b.lag_files as f64)),
    ("lag_seconds", "From the newest event looked at until now, while anything is unread or open", |b| {
        Some(b.lag_seconds)
    }),
    ("oldest_unread_seconds", "Age of the oldest backup not read to its end", |b| b.oldest_unread_seconds),
    (
        "loss_horizon_seconds",
        "How long until the API server's rotation deletes something not shipped yet",
        |b| b.loss_horizon_seconds,
    ),
];

/// What the file catalogue knows.
fn catalogue(encoder: &mut DescriptorEncoder<'_>, files: &Figures) -> Result<(), fmt::Error> {
    for (name, help, value) in [
        ("rotations", "Live files that became backups", files.rotations),
        ("gaps", "Times that files may have come and gone unseen", files.gaps),
        ("scans", "Scans of the inputs' directories", files.scans),
    ] {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        counter(&mut metric, &[], value)?;
    }
    for (name, help, value) in [
        ("held_files", "Files held although no directory has them", files.held_files as u64),
        ("held_bytes", "Their bytes on disk", files.held_bytes),
        ("descriptors", "Log files that are open", files.descriptors as u64),
    ] {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        gauge(&mut metric, &[], value)?;
    }
    let mut backups =
        encoder.encode_descriptor("backups", "Backups on disk, by input", None, MetricType::Gauge)?;
    let mut by_input: BTreeMap<&str, u64> = BTreeMap::new();
    for input in &files.inputs {
        *by_input.entry(&input.input).or_default() += input.backups as u64;
    }
    for (input, count) in by_input {
        gauge(&mut backups, &[("input", input)], count)?;
    }
    Ok(())
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, figure) in COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (output, account) in &self.accounts {
                counter(&mut metric, &[("output", output)], figure(account))?;
            }
        }
        for (name, help, label, maps) in NAMED {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (output, account) in &self.accounts {
                for (_, map) in maps(account) {
                    for (value, count) in map {
                        counter(&mut metric, &[("output", output), (label, value)], *count)?;
                    }
                }
            }
        }
        self.indexes(&mut encoder)?;
        let help = "Times that the configuration was taken anew, or refused";
        let mut metric = encoder.encode_descriptor("reloads", help, None, MetricType::Counter)?;
        for (Reload { why, result }, count) in &self.reloads {
            counter(&mut metric, &[("why", why), ("result", result)], *count)?;
        }
        let help = "Times that the state log was made durable";
        let mut metric = encoder.encode_descriptor("state_syncs", help, None, MetricType::Counter)?;
        counter(&mut metric, &[], self.state_syncs)?;
        self.behind(&mut encoder)?;
        if let Some(files) = &self.files {
            catalogue(&mut encoder, files)?;
        }
        self.gauges(&mut encoder)
    }
}

impl Scrape {
    fn indexes(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut metric = encoder.encode_descriptor(
            "delivered_records",
            "Records delivered, by index",
            None,
            MetricType::Counter,
        )?;
        for (output, account) in &self.accounts {
            for (index, amount) in &account.indexes {
                counter(&mut metric, &[("output", output), ("index", index)], amount.records)?;
            }
        }
        Ok(())
    }

    fn behind(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, figure) in BEHIND {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (output, account) in &self.accounts {
                if let Some(value) = account.behind.as_ref().and_then(figure) {
                    metric.encode_family(&[("output", output)])?.encode_gauge(&value)?;
                }
            }
        }
        Ok(())
    }

    fn gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures: [(&str, &str, Figure); 2] = [
            ("open_lines", "Lines not settled", |a| a.open),
            ("batch_bytes", "Most bytes of a batch, as configured or as the backend takes", |a| {
                a.batch_bytes
            }),
        ];
        for (name, help, figure) in figures {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (output, account) in &self.accounts {
                gauge(&mut metric, &[("output", output)], figure(account))?;
            }
        }
        let mut state = encoder.encode_descriptor(
            "output_state",
            "1 for what the output is doing",
            None,
            MetricType::Gauge,
        )?;
        for (output, account) in &self.accounts {
            for word in ["ok", "retrying", "held"] {
                let here = account.state.as_deref() == Some(word);
                gauge(&mut state, &[("output", output), ("state", word)], u64::from(here))?;
            }
        }
        let mut degraded = encoder.encode_descriptor(
            "degraded",
            "1 for what should be looked at",
            None,
            MetricType::Gauge,
        )?;
        for what in self.degraded.keys() {
            gauge(&mut degraded, &[("what", what)], 1)?;
        }
        let mut trouble = encoder.encode_descriptor(
            "last_trouble_timestamp_seconds",
            "When something was last lost, dead-lettered, failed closed or missed",
            None,
            MetricType::Gauge,
        )?;
        for (Trouble { what, output }, when) in &self.troubles {
            let seconds = when.as_millisecond() as f64 / 1000.0;
            let output = output.as_deref().map(|output| ("output", output));
            let labels: Vec<(&str, &str)> = output.into_iter().chain([("what", *what)]).collect();
            trouble.encode_family(&labels.as_slice())?.encode_gauge(&seconds)?;
        }
        let mut build = encoder.encode_descriptor("build_info", "Always 1", None, MetricType::Gauge)?;
        gauge(&mut build, &[("version", env!("CARGO_PKG_VERSION"))], 1)
    }
}

fn counter(metric: &mut MetricEncoder<'_>, labels: &[(&str, &str)], value: u64) -> Result<(), fmt::Error> {
    metric.encode_family(&labels)?.encode_counter::<[(&str, &str); 0], _, u64>(&value, None)
}

fn gauge(metric: &mut MetricEncoder<'_>, labels: &[(&str, &str)], value: u64) -> Result<(), fmt::Error> {
    metric.encode_family(&labels)?.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_a_line() {
        let status = Status::default();
        let account = Account {
            delivered: 7,
            dropped: BTreeMap::from([("request-received".to_owned(), 3)]),
            allowed: BTreeMap::from([("a \"test\" value".to_owned(), 2)]),
            state: Some("held".to_owned()),
            ..Account::default()
        };
        let start = Timestamp::UNIX_EPOCH;
        status.set("search", Account::default(), start);
        status.set(
            "search",
            Account { dead_lettered: 1, ..account },
            start + jiff::SignedDuration::from_millis(1500),
        );
        status.set_files(Figures { gaps: 1, ..Figures::default() }, start);
        status.set_degraded("state", Some("disk full".into()));
        status.count_reload(Reload { why: "file", result: "done" });
        let text = text(&status);
        for line in [
            "auditship_delivered_lines_total{output=\"search\"} 7",
            "auditship_dropped_lines_total{output=\"search\",rule=\"request-received\"} 3",
            "auditship_allowed_total{output=\"search\",reason=\"a \\\"test\\\" value\"} 2",
            "auditship_output_state{output=\"search\",state=\"held\"} 1",
            "auditship_degraded{what=\"state\"} 1",
            "auditship_reloads_total{why=\"file\",result=\"done\"} 1",
            "auditship_last_trouble_timestamp_seconds{output=\"search\",what=\"dead_lettered\"} 1.5",
            "auditship_last_trouble_timestamp_seconds{what=\"gap\"} 0.0",
            "# TYPE auditship_open_lines gauge",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn every_metric_is_documented() {
        let status = Status::default();
        let account = Account { behind: Some(Behind::default()), ..Account::default() };
        status.set("search", account, Timestamp::UNIX_EPOCH);
        status.set_files(Figures::default(), Timestamp::UNIX_EPOCH);
        let page = include_str!("../../../docs/metrics.md");
        let text = text(&status);
        let names: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert!(names.len() > 25, "{names:?}");
        for name in names {
            assert!(page.contains(&format!("`{name}")), "docs/metrics.md does not know {name}");
        }
    }
}
