//! What a process costs, from /proc.

use std::fs;
use std::time::Duration;

use crate::clock;
use crate::failure::Failure;

/// The unit of times in /proc: `USER_HZ` is 100 on every processor this runs on.
const TICK: Duration = Duration::from_millis(10);

/// A process to watch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pid: u32,
}

/// Processor time and memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Time on a processor since the process started, in steps of 10 ms.
    pub(crate) cpu: Duration,
    /// Resident set size in octets.
    pub(crate) rss: u64,
    at: std::time::Instant,
}

impl Process {
    pub(crate) fn new(pid: u32) -> Result<Self, Failure> {
        let process = Self { pid };
        process.usage().map(|_| process)
    }

    /// Watches the tool itself.
    pub(crate) fn myself() -> Self {
        Self {
            pid: std::process::id(),
        }
    }

    pub(crate) fn usage(self) -> Result<Usage, Failure> {
        let gone = || {
            Failure::Socket(format!(
                "process {} cannot be watched: no such process",
                self.pid
            ))
        };
        let read = |file| fs::read_to_string(format!("/proc/{}/{file}", self.pid));
        let stat = read("stat").map_err(|_| gone())?;
        let status = read("status").map_err(|_| gone())?;
        Ok(Usage {
            cpu: cpu_time(&stat).ok_or_else(gone)?,
            rss: resident(&status).unwrap_or(0),
            at: clock::now(),
        })
    }
}

impl Usage {
    /// Returns the processor time since an earlier moment.
    pub(crate) fn cpu_since(&self, earlier: &Self) -> Duration {
        self.cpu.saturating_sub(earlier.cpu)
    }

    /// Returns the share of one processor used since an earlier moment, in percent.
    pub(crate) fn load_since(&self, earlier: &Self) -> f64 {
        let wall = self.at.duration_since(earlier.at).as_secs_f64();
        100.0 * self.cpu_since(earlier).as_secs_f64() / wall.max(f64::MIN_POSITIVE)
    }
}

/// Adds fields 14 (user) and 15 (system) of /proc/PID/stat. The second field, the name, may hold
/// blanks and brackets, so counting starts behind its last bracket.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(TICK * u32::try_from(user + system).ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 1 0 9 0 0";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_time("nonsense"), None);
        let status = "Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    1234 kB\n";
        assert_eq!(resident(status), Some(1234 * 1024));
    }

    #[test]
    fn a_running_process_has_memory_and_a_missing_one_is_an_error() {
        assert!(Process::myself().usage().unwrap().rss > 0);
        assert!(Process::new(u32::MAX).is_err());
    }
}
