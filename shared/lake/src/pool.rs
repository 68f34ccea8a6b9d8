//! Works on items with all cores.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Passes each item, with its index, to one of the workers, which are threads. Returns the workers, or the first error.
pub(crate) fn for_each_item<I: Sync, W: Send, E: Send>(
    items: &[I],
    workers: Vec<W>,
    work: impl Fn(&mut W, usize, &I) -> Result<(), E> + Sync,
) -> Result<Vec<W>, E> {
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let run = |mut worker: W| {
        while !has_failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { break };
            work(&mut worker, index, item).inspect_err(|_| has_failed.store(true, Ordering::Relaxed))?;
        }
        Ok(worker)
    };
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = workers.into_iter().map(|worker| scope.spawn(move || run(worker))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
