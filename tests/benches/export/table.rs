//! Printed table of measurements.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::BoxError;

/// Prints a line to standard output.
pub(crate) fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    // A closed output is not an error of the benchmark.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// Column headings of [`Row`].
pub(crate) const HEAD: &str =
    "\nmedians                          wall      MB/s     cpu    baseline                     wall     cpu    ratio";

/// Duration of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    wall: Duration,
    /// User and system time of this process and its finished child processes.
    cpu: Duration,
}

/// Measures `work`. Errors are returned without a measurement.
pub(crate) fn time<T>(work: impl FnOnce() -> Result<T, BoxError>) -> Result<(Timing, T), BoxError> {
    let (start, start_cpu) = (Instant::now(), cpu_time()?);
    let result = work()?;
    Ok((Timing { wall: start.elapsed(), cpu: cpu_time()?.saturating_sub(start_cpu) }, result))
}

/// Row of the table: a measurement and its baseline.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) baseline: &'a str,
    pub(crate) bytes: u64,
    pub(crate) runs: usize,
}

impl Row<'_> {
    /// Runs both in turn and prints their medians.
    pub(crate) fn compare(
        &self,
        mut subject: impl FnMut() -> Result<Timing, BoxError>,
        mut baseline: impl FnMut() -> Result<Timing, BoxError>,
    ) -> Result<(), BoxError> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // The first run of each warms caches and is not counted.
        for run in 0..=self.runs {
            let pair = (baseline()?, subject()?);
            if run > 0 {
                theirs.push(pair.0);
                ours.push(pair.1);
            }
        }
        // The ratio is computed per pair, because other load on the machine affects both runs of a pair.
        let mut ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(one, other)| one.wall.as_secs_f64() / other.wall.as_secs_f64()).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let ratio = ratios.get(ratios.len() / 2).copied().unwrap_or_default();
        let (ours, theirs) = (median(&ours), median(&theirs));
        let (wall, other) = (ours.wall.as_secs_f64(), theirs.wall.as_secs_f64());
        print(&format!(
            "{:<28} {:>6.3} s  {:>8.0}  {:>4.2} s    {:<22} {:>8.3} s  {:>4.2} s  {:>6.2}x",
            self.name,
            wall,
            self.bytes as f64 / 1e6 / wall,
            ours.cpu.as_secs_f64(),
            self.baseline,
            other,
            theirs.cpu.as_secs_f64(),
            ratio
        ));
        Ok(())
    }
}

/// Returns the median wall time and the median processor time, which may be of different runs.
fn median(runs: &[Timing]) -> Timing {
    let middle = |of: fn(&Timing) -> Duration| {
        let mut times: Vec<Duration> = runs.iter().map(of).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    Timing { wall: middle(|timing| timing.wall), cpu: middle(|timing| timing.cpu) }
}

/// Returns the processor time so far from `/proc`, or zero on systems without it.
fn cpu_time() -> Result<Duration, BoxError> {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return Ok(Duration::ZERO) };
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    // utime, stime, cutime and cstime are the fields 14 to 17; two fields come before the bracket. A tick is 10 ms on Linux.
    let ticks = fields.skip(11).take(4).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}
