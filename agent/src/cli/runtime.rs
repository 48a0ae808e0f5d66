use tokio::runtime::{Builder, Runtime};

/// What all work runs on.
///
/// # Errors
/// The system's.
pub(super) fn full() -> std::io::Result<Runtime> {
    let threads = blocking_threads();
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(2).max_blocking_threads(threads).enable_all().build()
}

/// What a short talk with the agent runs on: no threads.
///
/// # Errors
/// The system's.
pub(super) fn light() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Threads that compress, encrypt and do file IO. The allocator keeps some memory for each thread,
/// so that more of them than can work at once would only cost memory.
fn blocking_threads() -> usize {
    std::thread::available_parallelism().map_or(4, |cores| cores.get() + 2)
}
