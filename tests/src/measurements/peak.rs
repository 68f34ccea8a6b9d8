//! The peak memory of this process, as Linux counts it.

use std::fs;

use crate::flows::Result;

/// Forgets the peak so far: the next one is at least the memory that the process has now.
pub fn reset() -> Result<()> {
    // The number 5 stands for the peak, see the manual page of /proc/PID/clear_refs.
    Ok(fs::write("/proc/self/clear_refs", "5")?)
}

/// Returns the peak resident memory in kB.
pub fn kilobytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|rest| rest.split_ascii_whitespace().next());
    Ok(kilobytes.ok_or("no VmHWM in /proc/self/status")?.parse()?)
}
