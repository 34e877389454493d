//! Facts to verdicts: the log on the node. Rotation against the measured rate, the disk, who may read, the clock.
//!
//! Pure. What only a node shows is skipped where none was looked at, in one verdict.

use super::facts::{Content, Facts, Live, Log, Node, Seen, Stat};
use super::judge::{Wanted, log_path, verdict};
use super::mend::Mend;
use super::pace::{Fit, Rate, Rotation, between};
use super::server::Place;
use super::{Grade, Verdict};
use crate::report::bytes;
use crate::show::printable;
use std::time::Duration;

/// Below this an event can be longer than the file may be, and such an event is lost: etcd takes requests of 1.5 MiB,
/// and an event may hold the object twice (natefinch/lumberjack `lumberjack.go`, `Write`).
const SIZE_MIN: u64 = 10;
/// Less history than this and an evening's outage of a backend loses events.
const HOLD_MIN: Duration = Duration::from_secs(3600);
/// A live API server writes more often than this: leases alone are renewed every few seconds, unless they are left out.
const SILENCE_MAX: Duration = Duration::from_secs(15 * 60);
/// Clocks that differ by more than this make alerts and searches wrong.
const SKEW_MAX: Duration = Duration::from_secs(60);
/// Of the file system; below it auditship lets go of unread files (docs/configuration: held files), and etcd is near.
const FREE_MIN: f64 = 0.10;

/// All that concern the log itself.
pub(super) fn examine(facts: &Facts, wanted: Wanted) -> Vec<Verdict> {
    let log = facts.node.as_ref().and_then(|node| node.log.as_ref());
    let rate = wanted.rate.or_else(|| log.and_then(Rate::of));
    let mut all = Vec::new();
    match Rotation::of(&facts.server) {
        Err((flag, text)) => {
            let text = format!("--{flag} is no number, so the API server cannot start: {}", printable(&text));
            let good = Fit::to(rate.map_or(0.0, |rate| rate.mean), wanted.hold, room(log), false);
            let value = if flag == "audit-log-maxsize" { good.size } else { good.backups };
            all.push(verdict("rotation", Grade::Fail, text).mend(Mend::Set(flag, value.to_string())));
        }
        Ok(rotation) => {
            all.extend(sizes(facts, rotation));
            all.push(history(facts, rotation, rate, log, wanted));
            all.push(compression(facts, rotation));
        }
    }
    let Some(node) = &facts.node else {
        let text = "the file itself, its disk and the clock were not looked at";
        all.push(verdict("disk", Grade::Skip, text).seen("--root DIR looks at a node's files below DIR"));
        return all;
    };
    match log {
        Some(log) => all.extend(on_node(facts, node, log)),
        None if log_path(facts).is_some_and(|path| matches!(facts.server.place(path), Place::Host(..))) => {
            all.push(verdict("disk", Grade::Skip, "the file itself was not looked at"));
        }
        None => {}
    }
    all
}

/// How much of the disk the log may take: half of what it has and what is free.
fn room(log: Option<&Log>) -> Option<u64> {
    let log = log?;
    Some((log.on_disk() + log.system.as_ref()?.free) / 2)
}

fn sizes(facts: &Facts, rotation: Rotation) -> Vec<Verdict> {
    let Rotation { size, backups, days } = rotation;
    let seen = facts.server.flags.audit().filter(|(name, _)| name.starts_with("audit-log-max"));
    let seen: Vec<String> = seen.map(|(name, value)| format!("{name}={value}")).collect();
    let seen =
        if seen.is_empty() { "no flag is set, these are the defaults".to_owned() } else { seen.join(" ") };
    let say = |grade, text: &str| verdict("rotation", grade, text).seen(&seen);
    let larger = Mend::Set("audit-log-maxsize", "100".to_owned());
    let fewer = Mend::Set("audit-log-maxbackup", "20".to_owned());
    let Some(size) = size else {
        return vec![
            say(Grade::Fail, "the log is never rotated: it grows until the disk is full").mend(larger),
        ];
    };
    let mut all = Vec::new();
    if size < SIZE_MIN {
        let text = format!("an event longer than {size} MiB is lost, and a change of a large object can be");
        all.push(say(Grade::Warn, &text).mend(larger));
    }
    let days = days.map_or_else(String::new, |days| format!(", {days} day{} at most", plural(days)));
    let unset = facts.server.flags.get("audit-log-maxbackup").is_none();
    match backups {
        Some(backups) if all.is_empty() => {
            let text = format!("{backups} backup{} of {size} MiB{days}", plural(backups));
            all.push(say(Grade::Ok, &text));
        }
        Some(_) => {}
        None if !days.is_empty() => {
            let text = format!("any number of backups of {size} MiB{days}: nothing bounds the disk");
            all.push(say(Grade::Warn, &text).mend(fewer));
        }
        // Neither a manifest nor a default tells.
        None if unset && facts.server.minor.is_none() => {
            let text = "before Kubernetes 1.36 backups are never deleted, and grow until the disk is full";
            all.push(say(Grade::Warn, text).mend(fewer));
        }
        None => {
            let text = "backups are never deleted: they grow until the disk is full";
            all.push(say(Grade::Fail, text).mend(fewer));
        }
    }
    all
}

/// How long rotation keeps an event that nobody has shipped yet.
fn history(
    facts: &Facts,
    rotation: Rotation,
    rate: Option<Rate>,
    log: Option<&Log>,
    wanted: Wanted,
) -> Verdict {
    let Some(rate) = rate.filter(|rate| rate.mean > 0.0) else {
        let text = "how long backups last is not known: the rate was not measured";
        let seen = match log {
            Some(log) if log.span().is_some() => "the log holds less than 30 s of events",
            Some(Log { file: Seen::Refused(_) | Seen::Is(Live { refused: Some(_), .. }), .. }) => {
                "the log cannot be read"
            }
            Some(_) => "the log shows no events",
            None => "--rate 500KB/s says how fast it grows",
        };
        return verdict("history", Grade::Skip, text).seen(seen);
    };
    let compressing = facts.server.flags.is_on("audit-log-compress");
    let fit = Fit::to(rate.mean, wanted.hold, room(log), compressing);
    let mut seen = format!("{}/s", bytes(rate.mean as u64));
    if rate.over > Duration::ZERO {
        seen += &format!(" over the last {}", span(rate.over.as_secs_f64()));
    }
    if rate.busiest > rate.mean * 1.5 {
        seen += &format!(", at most {}/s", bytes(rate.busiest as u64));
    }
    let Some(holds) = rotation.holds(rate.mean) else {
        return verdict("history", Grade::Ok, "what is not shipped stays until the disk is full").seen(seen);
    };
    if let Some(oldest) = log.and_then(|log| log.backups.iter().filter_map(|backup| backup.first).min())
        && let Some((_, last)) = log.and_then(Log::span)
    {
        seen += &format!("; on disk now: {}", span(between(oldest, last).as_secs_f64()));
    }
    let wants = span(wanted.hold.as_secs_f64());
    if holds >= wanted.hold.as_secs_f64() {
        let text = format!("what is not shipped lasts {} on disk, {wants} are wanted", span(holds));
        return verdict("history", Grade::Ok, text).seen(seen);
    }
    let grade = if holds < HOLD_MIN.as_secs_f64() { Grade::Fail } else { Grade::Warn };
    let text = format!("what is not shipped within {} is deleted, {wants} are wanted", span(holds));
    let mut mends = vec![
        Mend::Set("audit-log-maxsize", fit.size.to_string()),
        Mend::Set("audit-log-maxbackup", fit.backups.to_string()),
    ];
    if fit.compress && !compressing {
        mends.push(Mend::Set("audit-log-compress", "true".to_owned()));
    }
    if let Some(days) = rotation.days.filter(|days| days.saturating_mul(86_400) < wanted.hold.as_secs()) {
        let enough = wanted.hold.as_secs().div_ceil(86_400).max(days) + 1;
        mends.push(Mend::Set("audit-log-maxage", enough.to_string()));
    }
    let takes =
        format!("that holds {} and takes {} of disk at most", span(fit.holds as f64), bytes(fit.takes));
    let short = fit.holds < wanted.hold.as_secs();
    let takes = if short {
        format!("{takes}, which is half of what there is: more needs a larger disk")
    } else {
        takes
    };
    verdict("history", grade, text).seen(seen).mends(mends).mend(Mend::Say(takes))
}

fn compression(facts: &Facts, rotation: Rotation) -> Verdict {
    let compressed = facts.server.flags.is_on("audit-log-compress");
    let text = match compressed {
        true => "backups are compressed",
        false => "backups are not compressed, which costs disk and no CPU",
    };
    let seen = match (rotation.takes(false), rotation.takes(true)) {
        (Some(_), Some(packed)) if compressed => format!("about {} of disk at most", bytes(packed)),
        (Some(plain), Some(packed)) => {
            format!("{} of disk at most; about {} with --audit-log-compress", bytes(plain), bytes(packed))
        }
        _ => String::new(),
    };
    verdict("compression", Grade::Ok, text).seen(seen)
}

fn on_node(facts: &Facts, node: &Node, log: &Log) -> Vec<Verdict> {
    let mut all = Vec::new();
    all.extend(system(facts, log));
    all.extend(space(facts, log));
    all.push(access(facts, node, log));
    all.extend(content(log));
    all.extend(clock(node, log));
    if !log.logrotate.is_empty() {
        let text = "logrotate rotates the log too: what it truncates or moves away is lost to the API server's own rotation";
        let how = format!("take it out of {}", log.logrotate.join(", "));
        all.push(verdict("logrotate", Grade::Fail, text).seen(log.logrotate.join(", ")).mend(Mend::Say(how)));
    }
    all
}

/// What the file system is fit for.
fn system(facts: &Facts, log: &Log) -> Option<Verdict> {
    let system = log.system.as_ref()?;
    let elsewhere = facts.server.distribution.places().audit_dir;
    let elsewhere = Mend::Say(format!("put the log on a local disk, {elsewhere} for example"));
    let seen = format!("{} under {}", system.kind, log.dir_path());
    Some(match &*system.kind {
        "tmpfs" | "ramfs" => verdict(
            "disk",
            Grade::Fail,
            "the log is in memory: it is gone when the node restarts, and takes memory from it",
        )
        .seen(seen)
        .mend(elsewhere),
        "overlay" => verdict("disk", Grade::Warn, "the log is in a container's layer, and goes with it")
            .seen(seen)
            .mend(elsewhere),
        "nfs" | "cifs" | "smb2" | "fuse" | "9p" | "ceph" => verdict(
            "disk",
            Grade::Warn,
            "the log is on a network: the API server waits for it, and changes are not noticed at once",
        )
        .seen(seen)
        .mend(elsewhere),
        _ => verdict("disk", Grade::Ok, "the log is on a local disk").seen(seen),
    })
}

fn space(facts: &Facts, log: &Log) -> Option<Verdict> {
    let system = log.system.as_ref().filter(|system| system.bytes > 0)?;
    let part = system.free as f64 / system.bytes as f64;
    let seen = format!("{} of {} free", bytes(system.free), bytes(system.bytes));
    if part < FREE_MIN {
        let text = format!(
            "only {:.0} % of the disk is free: unread files are let go of below 10 %, and etcd may share it",
            part * 100.0
        );
        let how = "free some, or keep less: a smaller audit-log-maxbackup, audit-log-compress=true";
        return Some(verdict("space", Grade::Fail, text).seen(seen).mend(Mend::Say(how.to_owned())));
    }
    let rotation = Rotation::of(&facts.server).ok()?;
    let compress = facts.server.flags.is_on("audit-log-compress");
    let more = rotation.takes(compress)?.saturating_sub(log.on_disk());
    if more > system.free {
        let text = format!("rotation may take {} more than it has now, and the disk has less", bytes(more));
        let fit = if compress { "a smaller audit-log-maxbackup" } else { "" };
        let mend = if compress {
            Mend::Say(format!("give it {fit}"))
        } else {
            Mend::Set("audit-log-compress", "true".to_owned())
        };
        return Some(verdict("space", Grade::Warn, text).seen(seen).mend(mend));
    }
    Some(
        verdict(
            "space",
            Grade::Ok,
            format!("{:.0} % of the disk is free, enough for all backups", part * 100.0),
        )
        .seen(seen),
    )
}

/// Who may read the log: the agent as it is deployed (root without capabilities), the one who asks, and everybody.
fn access(facts: &Facts, node: &Node, log: &Log) -> Verdict {
    let dir = match &log.dir {
        Seen::Is(dir) if dir.is_dir => *dir,
        Seen::Is(_) => {
            return verdict("access", Grade::Fail, "what should be the log's directory is none")
                .seen(log.dir_path());
        }
        Seen::Missing => {
            return verdict("access", Grade::Fail, "the log's directory does not exist on the node")
                .seen(log.dir_path())
                .mend(Mend::Run(format!("mkdir -p -m 700 {}", log.dir_path())));
        }
        Seen::Refused(why) => return unread(node, log.dir_path(), why),
    };
    let live = match &log.file {
        Seen::Is(live) => live,
        Seen::Missing => {
            return verdict(
                "access",
                Grade::Fail,
                "there is no such file: the API server has not written, or writes elsewhere",
            )
            .seen(&log.path)
            .mend(Mend::Say(
                "look at the API server's own log: an audit backend that cannot start is told there"
                    .to_owned(),
            ));
        }
        Seen::Refused(why) => return unread(node, &log.path, why),
    };
    let seen = format!("{} is {}, {} is {}", log.path, mode(live.stat), log.dir_path(), mode(dir));
    if live.stat.mode & 0o004 != 0 && dir.mode & 0o005 != 0 {
        return verdict(
            "access",
            Grade::Warn,
            "everybody on the node may read the log, with the tokens in it",
        )
        .seen(seen)
        .mend(Mend::Run(format!("chmod 700 {} && chmod 600 {}", log.dir_path(), log.path)));
    }
    if !(live.stat.allows(0, 0o4) && dir.allows(0, 0o5)) {
        let owner = if live.stat.allows(0, 0o4) { dir.user } else { live.stat.user };
        let preset = facts.server.distribution;
        if owner == preset.places().owner {
            let text = format!(
                "the log is user {owner}'s alone; the preset {preset} gives the agent CAP_DAC_READ_SEARCH for it"
            );
            return verdict("access", Grade::Ok, text).seen(seen);
        }
        let text = format!(
            "the log is user {owner}'s alone: root without capabilities, which the chart uses, cannot read it"
        );
        return verdict("access", Grade::Warn, text).seen(seen).mend(Mend::Say(
            format!("give the agent CAP_DAC_READ_SEARCH: audit.rootOwned=false in the chart, or `auditship manifests … --owner {owner}`"),
        ));
    }
    if let Some(why) = &live.refused {
        return unread(node, &log.path, why);
    }
    verdict("access", Grade::Ok, "root reads the log without any capability, and others do not").seen(seen)
}

/// The one who asks may not look.
fn unread(node: &Node, path: &str, why: &str) -> Verdict {
    verdict("access", Grade::Skip, format!("user {} cannot read it: {}", node.user, printable(why)))
        .seen(path)
        .mend(Mend::Say("run this as root, as the agent will be".to_owned()))
}

fn mode(stat: Stat) -> String {
    format!("{:04o} {}:{}", stat.mode, stat.user, stat.group)
}

fn content(log: &Log) -> Option<Verdict> {
    let Seen::Is(Live { content: Some(content), .. }) = &log.file else { return None };
    let is = |grade, text: &str| Some(verdict("content", grade, text).seen(&log.path));
    match content {
        Content::Events { .. } => None,
        Content::Empty if log.backups.is_empty() => is(Grade::Warn, "the log is empty"),
        Content::Empty => None,
        Content::Legacy => {
            is(Grade::Fail, "the log holds text lines of the legacy format, which auditship skips")
        }
        Content::Other => is(Grade::Fail, "the log holds no audit events"),
    }
}

fn clock(node: &Node, log: &Log) -> Option<Verdict> {
    let (_, last) = log.span()?;
    let (ahead, behind) = (between(node.now, last), between(last, node.now));
    let seen = format!("the last event is of {last}");
    Some(if ahead > SKEW_MAX {
        let text = format!("the last event is {} ahead of this clock", span(ahead.as_secs_f64()));
        verdict("clock", Grade::Warn, text)
            .seen(seen)
            .mend(Mend::Say("set the node's clock by NTP (chronyc tracking, timedatectl)".to_owned()))
    } else if behind > SILENCE_MAX {
        let text = format!(
            "no event for {}: the API server is down, its log is another one, or this clock is wrong",
            span(behind.as_secs_f64())
        );
        verdict("clock", Grade::Warn, text).seen(seen).mend(Mend::Say(
            "see whether the API server runs, and whether --audit-log-path is this file".to_owned(),
        ))
    } else {
        verdict("clock", Grade::Ok, format!("the last event is {} old", span(behind.as_secs_f64())))
            .seen(seen)
    })
}

/// A time as a person says it.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 2.0 * 3600.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{} h", short(s / 3600.0)),
        s => format!("{} days", short(s / 86_400.0)),
    }
}

fn short(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn plural(number: u64) -> &'static str {
    if number == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_they_are_said() {
        for (seconds, want) in [
            (0.4, "0 s"),
            (119.0, "119 s"),
            (120.0, "2 min"),
            (2.5 * 3600.0, "2.5 h"),
            (24.0 * 3600.0, "24 h"),
            (1e6, "11.6 days"),
        ] {
            assert_eq!(span(seconds), want);
        }
    }
}
