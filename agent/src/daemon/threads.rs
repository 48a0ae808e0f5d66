//! Work on a thread of its own: the futures of jobs stay on the thread on which they began.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use anyhow::{Result, anyhow};
use tokio::runtime::Handle;

/// Does work on a thread of its own, which shares the runtime; `ended` hears what came of it, also where it
/// panicked.
///
/// # Errors
/// The system's, where it has no thread left.
pub(super) fn spawn<T>(
    name: String,
    work: impl AsyncFnOnce() -> Result<T> + Send + 'static,
    ended: impl FnOnce(Result<T>) + Send + 'static,
) -> io::Result<()> {
    let runtime = Handle::current();
    let doing = move || {
        let work = AssertUnwindSafe(|| runtime.block_on(Box::pin(work())));
        let panicked = |_| Err(anyhow!("drctl panicked: a fault of drctl"));
        ended(catch_unwind(work).unwrap_or_else(panicked));
    };
    thread::Builder::new().name(name).spawn(doing).map(drop)
}
