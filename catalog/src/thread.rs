use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use drctl_model::Call;
use tokio::sync::{mpsc, oneshot};

use crate::CatalogError;
use crate::error::{Fault, io};

/// Calls that may wait for the thread; a caller beyond them waits to be let in.
const QUEUE: usize = 32;

type Task<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A thread that owns a state (a database connection) and runs one call after the other on it.
///
/// A call that was sent runs to its end, whether or not its caller still waits: a caller that is
/// cancelled never leaves half a transaction. Dropping it runs what was sent and joins the thread.
pub(crate) struct Worker<S> {
    path: PathBuf,
    tasks: Option<mpsc::Sender<Task<S>>>,
    thread: Option<JoinHandle<()>>,
}

impl<S: 'static> Worker<S> {
    /// Starts the thread and waits until it has made its state.
    pub(crate) async fn start(
        path: &Path,
        make: impl FnOnce(&Path) -> Result<S, Fault> + Send + 'static,
    ) -> Result<Self, CatalogError> {
        let heard = Call::begin();
        let (tasks, mut inbox) = mpsc::channel::<Task<S>>(QUEUE);
        let (ready, made) = oneshot::channel();
        let home = path.to_owned();
        let run = move || match make(&home) {
            Ok(mut state) => {
                let _ = ready.send(Ok(()));
                while let Some(task) = inbox.blocking_recv() {
                    task(&mut state);
                }
            }
            Err(fault) => {
                let _ = ready.send(Err(fault.at(&home)));
            }
        };
        let thread = thread::Builder::new()
            .name("catalog".to_owned())
            .spawn(run)
            .map_err(|source| io("start the thread of")(source).at(path))?;
        let worker = Worker { path: path.to_owned(), tasks: Some(tasks), thread: Some(thread) };
        let made = made.await;
        ended(heard).await;
        made.map_err(|_| CatalogError::Stopped)??;
        Ok(worker)
    }

    /// Runs `work` on the thread.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut S) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let heard = Call::begin();
        let (answer, result) = oneshot::channel();
        let path = self.path.clone();
        let task: Task<S> = Box::new(move |state| {
            // The caller may be gone; what was done stays done.
            let _ = answer.send(work(state).map_err(|fault| fault.at(&path)));
        });
        let tasks = self.tasks.as_ref().ok_or(CatalogError::Stopped)?;
        tasks.send(task).await.map_err(|_| CatalogError::Stopped)?;
        let result = result.await;
        ended(heard).await;
        result.map_err(|_| CatalogError::Stopped)?
    }
}

/// Answers whoever lives.
async fn ended(call: Call) {
    if call.is_dead() {
        std::future::pending::<()>().await;
    }
}

impl<S> Worker<S> {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.tasks = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(path = %self.path.display(), "the catalog's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_was_sent_is_done_before_the_drop_returns() {
        let done = Arc::new(AtomicU32::new(0));
        let worker = Worker::start(Path::new("x"), |_| Ok(0_u32)).await.unwrap();
        for _ in 0..10 {
            let done = done.clone();
            let call = worker.call(move |state| {
                *state += 1;
                done.store(*state, Ordering::SeqCst);
                Ok(())
            });
            // Sent by the first poll, then given up.
            tokio::select! { biased; _ = call => {}, () = std::future::ready(()) => {} }
        }
        drop(worker);
        assert_eq!(done.load(Ordering::SeqCst), 10);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_for_this_caller_and_the_next() {
        let worker = Worker::start(Path::new("x"), |_| Ok(())).await.unwrap();
        let first = worker.call::<()>(|()| panic!("on purpose")).await;
        assert!(matches!(first, Err(CatalogError::Stopped)));
        let second = worker.call(|()| Ok(())).await;
        assert!(matches!(second, Err(CatalogError::Stopped)));
    }

    #[tokio::test]
    async fn a_state_that_cannot_be_made_is_an_error() {
        let made = Worker::<()>::start(Path::new("x"), |_| Err(Fault::Busy("no"))).await;
        assert!(matches!(made, Err(CatalogError::Busy { .. })));
    }
}
