//! Figures side by side.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::BoxError;

/// Prints a line.
pub(crate) fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever closed the output wants no more.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// The head of [`Row`]'s columns.
pub(crate) const HEAD: &str =
    "\nmedians                          wall      MB/s     cpu    yardstick                    wall     cpu    ratio";

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    wall: Duration,
    /// User and system time of this process and of the children it has waited for.
    cpu: Duration,
}

/// Measures `work`; an error is no figure.
pub(crate) fn time<T>(work: impl FnOnce() -> Result<T, BoxError>) -> Result<(Took, T), BoxError> {
    let (began, used) = (Instant::now(), cpu()?);
    let done = work()?;
    Ok((Took { wall: began.elapsed(), cpu: cpu()?.saturating_sub(used) }, done))
}

/// Something measured against a yardstick, in alternation.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) yardstick: &'a str,
    pub(crate) bytes: u64,
    pub(crate) runs: usize,
}

impl Row<'_> {
    /// Runs both in turn and prints the medians.
    pub(crate) fn compare(
        &self,
        mut subject: impl FnMut() -> Result<Took, BoxError>,
        mut yardstick: impl FnMut() -> Result<Took, BoxError>,
    ) -> Result<(), BoxError> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // The first of each warms caches and is not counted.
        for run in 0..=self.runs {
            let pair = (yardstick()?, subject()?);
            if run > 0 {
                theirs.push(pair.0);
                ours.push(pair.1);
            }
        }
        // Of each pair, for a busy machine is as busy for both.
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
            self.yardstick,
            other,
            theirs.cpu.as_secs_f64(),
            ratio
        ));
        Ok(())
    }
}

fn median(runs: &[Took]) -> Took {
    let middle = |of: fn(&Took) -> Duration| {
        let mut times: Vec<Duration> = runs.iter().map(of).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    Took { wall: middle(|took| took.wall), cpu: middle(|took| took.cpu) }
}

/// Processor time so far, from `/proc`; zero where there is none.
fn cpu() -> Result<Duration, BoxError> {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return Ok(Duration::ZERO) };
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    // utime, stime, cutime, cstime: 14 to 17, of which two stand before the bracket. A tick is 10 ms on Linux.
    let ticks = fields.skip(11).take(4).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}
