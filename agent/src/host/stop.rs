use anyhow::Result;
use tokio::sync::watch;

use super::AgentError;

/// A wish to end, from a signal; verbs look at it wherever they wait.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// The other end of a [`Stop`].
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stop {
    /// A wish that nobody has yet, and the means to have it.
    #[must_use]
    pub fn new() -> (Stopper, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Stopper(sender), Stop(receiver))
    }

    /// Whether the end is wished for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Does the work, unless somebody wishes for the end.
    ///
    /// # Errors
    /// Those of the work; [`AgentError::Interrupted`].
    pub async fn unless<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            () = self.requested() => Err(AgentError::Interrupted.into()),
        }
    }

    /// Waits until the end is wished for; for ever, if it never is.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|wished| *wished).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Stopper {
    /// Wishes for the end.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}
