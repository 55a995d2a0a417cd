//! What this machine has and how much of it is in use.

use std::fs;

use crate::cgroup;

/// A node's capacity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// CPUs in thousandths.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of disk.
    pub storage: i64,
}

impl Machine {
    /// Measures this machine: what this process may use of it.
    pub fn measure() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        let total = meminfo("MemTotal").unwrap_or(0);
        let limit = cgroup::memory_limit().filter(|l| *l > 0 && *l < total);
        let storage =
            rustix::fs::statvfs("/").map_or(0, |s| i64::try_from(s.f_blocks * s.f_frsize).unwrap_or(0));
        Self { cpu_milli: i64::try_from(cpus).unwrap_or(1) * 1000, memory: limit.unwrap_or(total), storage }
    }
}

/// A value of `/proc/meminfo` in bytes.
fn meminfo(name: &str) -> Option<i64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<i64>().ok()? * 1024)
}

/// Memory in use that could not be given back, in bytes.
pub(crate) fn memory_in_use() -> i64 {
    meminfo("MemTotal").zip(meminfo("MemAvailable")).map_or(0, |(total, available)| total - available)
}

/// CPU time that the machine has spent working, in milliseconds over all CPUs.
pub(crate) fn cpu_busy_milliseconds() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).map(|t| t.parse().unwrap_or(0)).collect();
    // user nice system idle iowait irq softirq steal; a tick is 10 ms on every Linux.
    let busy = ticks.iter().take(8).sum::<u64>() - ticks.get(3)? - ticks.get(4)?;
    Some(busy * 10)
}
