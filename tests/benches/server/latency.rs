//! Latencies of honest clients.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::BoxError;
use crate::server::ExportedFile;

/// The latencies of requests.
pub(crate) struct Latencies {
    sorted: Vec<Duration>,
    failures: usize,
    elapsed: Duration,
}

impl Latencies {
    /// Returns the column headings.
    pub(crate) fn head(subject: &str) -> String {
        format!("\n{subject:<36}  requests/s   median      99 %      worst   failed   memory of the server")
    }

    /// Returns a row of the table.
    pub(crate) fn row(&self, name: &str, memory: &str) -> String {
        let quantile = |percent: usize| {
            let index = self.sorted.len() * percent / 100;
            self.sorted.get(index.min(self.sorted.len().saturating_sub(1))).copied().unwrap_or_default().as_secs_f64() * 1e3
        };
        let rate = self.sorted.len() as f64 / self.elapsed.as_secs_f64();
        let (median, high, worst) = (quantile(50), quantile(99), quantile(100));
        format!("{name:<36}  {rate:>10.0}  {median:>7.1}ms {high:>7.1}ms  {worst:>7.1}ms  {:>6}   {memory}", self.failures)
    }

    /// Returns the number of requests that were answered.
    pub(crate) fn answered(&self) -> usize {
        self.sorted.len()
    }

    /// Sorts the latencies of all clients.
    async fn collect(mut clients: JoinSet<Result<(Vec<Duration>, usize), BoxError>>, started: Instant) -> Result<Self, BoxError> {
        let (mut sorted, mut failures) = (Vec::new(), 0);
        while let Some(client) = clients.join_next().await {
            let (latencies, failed) = client??;
            sorted.extend(latencies);
            failures += failed;
        }
        sorted.sort_unstable();
        Ok(Self { sorted, failures, elapsed: started.elapsed() })
    }
}

/// Measures clients that open a connection for each request: for the status of an export, a part of its file, and the capability statement.
pub(crate) async fn measure(file: &ExportedFile, clients: usize, time: Duration) -> Result<Latencies, BoxError> {
    let (mut tasks, started) = (JoinSet::new(), Instant::now());
    for _ in 0..clients {
        let file = file.clone();
        tasks.spawn(async move {
            let (mut latencies, mut failures) = (Vec::new(), 0);
            while started.elapsed() < time {
                for (url, range) in [(&file.status, None), (&file.url, Some("bytes=0-9999")), (&file.metadata, None)] {
                    let begun = Instant::now();
                    let http = reqwest::Client::builder().no_proxy().build()?;
                    let request = http.get(url).bearer_auth(&file.token).timeout(Duration::from_secs(20));
                    let request = range.into_iter().fold(request, |request, range| request.header("range", range));
                    let received = async { request.send().await?.error_for_status()?.bytes().await };
                    match received.await {
                        Ok(_) => latencies.push(begun.elapsed()),
                        Err(_) => failures += 1,
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok((latencies, failures))
        });
    }
    Latencies::collect(tasks, started).await
}

/// Measures clients that keep their connections and poll the status of an export without a pause.
pub(crate) async fn measure_polls(file: &ExportedFile, clients: usize, time: Duration) -> Result<Latencies, BoxError> {
    let (mut tasks, started) = (JoinSet::new(), Instant::now());
    for _ in 0..clients {
        let file = file.clone();
        tasks.spawn(async move {
            let (mut latencies, mut failures) = (Vec::new(), 0);
            let mut connection = file.connect().await?;
            while started.elapsed() < time {
                let begun = Instant::now();
                match file.poll(&mut connection).await {
                    Ok(()) => latencies.push(begun.elapsed()),
                    Err(_) => {
                        failures += 1;
                        connection = file.connect().await?;
                    }
                }
            }
            Ok((latencies, failures))
        });
    }
    Latencies::collect(tasks, started).await
}
