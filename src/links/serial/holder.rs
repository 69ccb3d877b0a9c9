//! Who has a port open.

use std::fmt;
use std::fs;
use std::path::Path;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Name of the program.
    pub program: String,
    /// Process id.
    pub pid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.program, self.pid)
    }
}

pub(super) fn name(holder: Option<&Holder>) -> String {
    holder.map_or_else(
        || "another process (run as root to see which)".to_owned(),
        Holder::to_string,
    )
}

/// Finds the first other process with this device open; `None` when there is none that may be seen.
pub fn of(device: &Path) -> Option<Holder> {
    let own = std::process::id();
    first(device, |pid| pid != own)
}

/// Finds the first process of another program with this device open. One of the same program would have locked
/// it, unless it is a child about to start another one.
pub(super) fn of_another_program(device: &Path) -> Option<Holder> {
    let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let own = program("self");
    first(device, |pid| program(&pid.to_string()) != own)
}

fn first(device: &Path, is_meant: impl Fn(u32) -> bool) -> Option<Holder> {
    let device = fs::canonicalize(device).ok()?;
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    let pid = pids
        .into_iter()
        .find(|pid| has_open(*pid, &device) && is_meant(*pid))?;
    let program = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(Holder {
        program: program.trim().to_owned(),
        pid,
    })
}

fn has_open(pid: u32, device: &Path) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors
        .flatten()
        .any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|open| open == device))
}
