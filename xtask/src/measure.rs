//! What another process used: processor time and memory, read from `/proc`.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::time::{ClockId, clock_gettime};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// Often enough that a process has no time to grow much unseen.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(5);

/// What a finished process used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// User and system time of all its threads.
    pub(crate) cpu: Duration,
    /// From start to end.
    pub(crate) wall: Duration,
    /// The most memory that it had resident.
    pub(crate) peak_rss_bytes: u64,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<(ExitStatus, Usage)> {
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("start {}", crate::repo::name(command)))?;
    let pid = Pid::from_child(&child);
    let mut peak_rss_bytes = 0;
    // The process stays a zombie until it is waited for: its times can still be read, its memory no longer.
    let exited = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while waitid(WaitId::Pid(pid), exited).context("wait for the process")?.is_none() {
        peak_rss_bytes = peak_rss_bytes.max(peak_rss(child.id()).unwrap_or(0));
        std::thread::sleep(SAMPLE_INTERVAL);
    }
    let wall = start.elapsed();
    let cpu = cpu_so_far(child.id())?;
    let status = child.wait().context("wait for the process")?;
    ensure!(peak_rss_bytes > 0, "the process was too short to be measured");
    Ok((status, Usage { cpu, wall, peak_rss_bytes }))
}

/// User and system time that a process, which may have ended but was not waited for, has used so far.
pub(crate) fn cpu_so_far(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read the process's times")?;
    cpu(&stat).context("understand the process's times")
}

/// Processor time that this thread has used so far.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => (values[even / 2 - 1] + values[even / 2]) / 2.0,
    }
}

/// The most memory that a running process had resident.
pub(crate) fn peak_rss(pid: u32) -> Option<u64> {
    memory(pid, "VmHWM:")
}

/// The memory that a running process has resident now.
pub(crate) fn rss(pid: u32) -> Option<u64> {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// User and system time from `/proc/PID/stat`. The second field, the name, may hold spaces and parentheses.
fn cpu(stat: &str) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_process_with_an_odd_name() {
        let stat = "7 (a) (b) R 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu(stat), Some(Duration::from_secs_f64(200.0 / ticks)));
        assert_eq!(cpu("7 (a) R 1"), None);
    }

    #[test]
    fn the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }
}
