//! The signals that end a program: from a terminal, and from cron, systemd or a container.

use std::io;

/// Waits until the process is told to end, and returns the name of the signal: SIGINT, SIGTERM, or SIGHUP unless `nohup` ignores it.
#[cfg(unix)]
pub(crate) async fn stop_signal() -> io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = if handles_hangup() { Some(signal(SignalKind::hangup())?) } else { None };
    let hung_up = async {
        match &mut hangup {
            Some(hangup) => hangup.recv().await,
            None => std::future::pending().await,
        }
    };
    Ok(tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hung_up => "SIGHUP",
    })
}

/// Returns true unless the process was started with SIGHUP ignored, as `nohup` does. A handler would end that. The answer is that of the
/// start, because a handler changes it. It is only known on Linux; elsewhere SIGHUP keeps its default.
#[cfg(unix)]
fn handles_hangup() -> bool {
    static HANDLES_HANGUP: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *HANDLES_HANGUP.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        // SIGHUP is signal 1, the lowest bit.
        ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 0)
    })
}

/// Waits until the user interrupts the process.
#[cfg(not(unix))]
pub(crate) async fn stop_signal() -> io::Result<&'static str> {
    tokio::signal::ctrl_c().await.map(|()| "interrupt")
}
