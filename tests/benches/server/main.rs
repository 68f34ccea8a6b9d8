//! Benchmarks of `headrace serve` under load and under attack: the latency of an honest client, and the server's memory.
//!
//! `cargo bench -p headrace-tests --bench server [-- NAME…]`. The peers need `ulimit -n` of 12,000 in all.

mod attack;
mod latency;
mod server;

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use attack::Attack;
use latency::{Latencies, measure, measure_polls};
use server::ServerProcess;

/// Error of a benchmark.
type BoxError = Box<dyn Error + Send + Sync>;

#[derive(Debug, Parser)]
struct Arguments {
    /// Benchmarks to run.
    #[arg(value_enum)]
    benchmarks: Vec<Benchmark>,
    /// Duration of each measurement in seconds.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Number of peers that send nothing.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Number of peers that download a file and hardly read.
    #[arg(long, default_value_t = 1_000)]
    readers: usize,
    /// Number of peers that send large requests without a token.
    #[arg(long, default_value_t = 200)]
    bodies: usize,
    /// Number of clients that poll the status of an export.
    #[arg(long, default_value_t = 2_000)]
    pollers: usize,
    /// Ignored: `cargo bench` passes this flag.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// Latency of an honest client among attackers.
    Attack,
    /// Latency of many clients that poll.
    Pollers,
}

/// Prints a line to standard output.
fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    // A closed output is not an error of the benchmark.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::parse();
    let wants = |name| arguments.benchmarks.is_empty() || arguments.benchmarks.contains(&name);
    let time = Duration::from_secs(arguments.seconds);
    Runtime::new()?.block_on(async {
        if wants(Benchmark::Attack) {
            measure_attack(&arguments, time).await?;
        }
        if wants(Benchmark::Pollers) {
            measure_pollers(&arguments, time).await?;
        }
        Ok(())
    })
}

/// Measures an honest client alone, and then among attackers.
async fn measure_attack(arguments: &Arguments, time: Duration) -> Result<(), BoxError> {
    print(&format!(
        "\n{} peers that send nothing, {} that hardly read a file of 54 MB, {} that send 4.9 MB without a token",
        arguments.idle, arguments.readers, arguments.bodies
    ));
    print(&Latencies::head("an honest client"));
    for shares_address in [false, true] {
        let server = ServerProcess::start()?;
        let file = server.export_file().await?;
        let name = if shares_address { "at the address of the attackers" } else { "at an address of its own" };
        let idle_memory = server.memory()?;
        let alone = measure(&file, 1, time / 3).await?;
        print(&alone.row("without attackers", &format!("{} MiB", idle_memory.resident_mib)));
        let attack = Attack { file: &file, idle: arguments.idle, readers: arguments.readers, bodies: arguments.bodies, shares_address };
        let mut attackers = JoinSet::new();
        let counts = attack.start(&mut attackers);
        // Until all of them have been there once.
        tokio::time::sleep(time / 3).await;
        let among = measure(&file, 1, time).await?;
        let memory = server.memory()?;
        print(&among.row(name, &format!("{} MiB, peak {} MiB", memory.resident_mib, memory.peak_mib)));
        print(&format!("    {counts}"));
        attackers.shutdown().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after = measure(&file, 1, time / 3).await?;
        print(&after.row("after the attack", &format!("{} MiB", server.memory()?.resident_mib)));
    }
    Ok(())
}

/// Measures clients that poll one after the other and all at once.
async fn measure_pollers(arguments: &Arguments, time: Duration) -> Result<(), BoxError> {
    let server = ServerProcess::start()?;
    let file = server.export_file().await?;
    print(&Latencies::head("clients that poll without a pause"));
    for clients in [1, 16, arguments.pollers] {
        let before = server.cpu_ms()?;
        let latencies = measure_polls(&file, clients, time / 2).await?;
        let cpu = (server.cpu_ms()? - before) as f64 / latencies.answered().max(1) as f64;
        let memory = server.memory()?.resident_mib;
        print(&latencies.row(&clients.to_string(), &format!("{memory} MiB; {cpu:.2} ms of processor time for a request")));
    }
    Ok(())
}
