//! The report as text.

use std::fmt;

use super::Report;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lake_gb, stored_gb, objects, workers, started_workers, mode, seed, .. } = self;
        writeln!(
            f,
            "lake {lake_gb} GB ({stored_gb} GB stored, {objects} objects), {workers} workers, {started_workers} of them started by the export, mode {mode}, seed {seed}"
        )?;
        writeln!(f, "one simulated byte stands for {}", self.bytes_per_simulated_byte)?;
        writeln!(f)?;
        writeln!(f, "end       {}", self.end)?;
        writeln!(f, "wall      {:.1} s", self.seconds)?;
        let usd = &self.usd;
        writeln!(
            f,
            "cost      {:.3} USD: Lambda {:.3}, DynamoDB {:.3}, S3 {:.3}, SQS {:.3}",
            self.usd_total, usd.lambda, usd.dynamodb, usd.s3, usd.sqs
        )?;
        writeln!(f, "exact     {}{}", self.is_exact, if self.is_exact { String::new() } else { format!(": {}", self.differences) })?;
        writeln!(f, "files     {} with {} simulated lines", self.files, self.lines)?;
        writeln!(f, "capacity  {} write units, {} read units", self.write_units, self.read_units)?;
        self.write_calls(f)?;
        self.write_keys(f)?;
        self.write_steps(f)
    }
}

impl Report {
    /// Writes the calls and the rejected ones.
    fn write_calls(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\ncalls")?;
        for (name, count) in &self.calls {
            writeln!(f, "  {count:>12} {name}")?;
        }
        writeln!(f, "rejected calls")?;
        for (name, count) in &self.rejections {
            writeln!(f, "  {count:>12} {name}")?;
        }
        writeln!(f, "  {:>12} messages delivered too often", self.parked_messages)
    }

    /// Writes the partition keys that consumed most.
    fn write_keys(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nhottest keys: units in the busiest second, and in all")?;
        for key in &self.hottest_keys {
            let (writes, reads) = (key.writes, key.reads);
            writeln!(
                f,
                "  {:<24} {:>7} writes {:>7} reads {writes:>10} writes {reads:>10} reads",
                key.key, key.peak_writes, key.peak_reads
            )?;
        }
        Ok(())
    }

    /// Writes the attempts and the time of workers by step.
    fn write_steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (step, ends) in &self.attempts {
            let (start, end) = self.spans.get(step.as_str()).copied().unwrap_or_default();
            writeln!(f, "\n{step}: {start:.1} to {end:.1} s, a worker needs up to {} MB", self.memory_mb.get(step.as_str()).unwrap_or(&0))?;
            let ends: Vec<String> = ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
            let (seconds, usd) =
                (self.attempt_seconds.get(step.as_str()).unwrap_or(&0.0), self.attempt_usd.get(step.as_str()).unwrap_or(&0.0));
            writeln!(f, "  attempts: {}; {seconds:.0} s of Lambda for {usd:.3} USD", ends.join(", "))?;
            let times = self.worker_seconds.get(step.as_str()).into_iter().flatten();
            for (activity, seconds) in times {
                writeln!(f, "  {seconds:>10.1} s {activity}")?;
            }
        }
        Ok(())
    }
}
