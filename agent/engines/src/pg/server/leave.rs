//! Connections end as the protocol wants it: with a word to the server, which else notes a client
//! that was lost.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

/// How long a connection may take to end. What still runs on it is then given up, and the server
/// sees its client go.
const LEAVING: Duration = Duration::from_secs(2);

/// Connections that have not ended.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Told of each end.
static ENDED: Notify = Notify::const_new();

struct Open;

impl Open {
    fn new() -> Self {
        OPEN.fetch_add(1, Ordering::SeqCst);
        Open
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::SeqCst);
        ENDED.notify_waiters();
    }
}

/// Keeps a connection's driver at work; dropped, the driver has a moment to end by itself.
pub(in crate::pg) struct Held {
    _alive: oneshot::Sender<()>,
}

/// Drives a connection, which ends by itself when nobody has anything to ask of it any more.
pub(super) fn driven(drive: impl Future<Output = ()> + Send + 'static) -> Held {
    let (alive, gone) = oneshot::channel::<()>();
    let open = Open::new();
    tokio::spawn(async move {
        let _open = open;
        tokio::select! {
            () = drive => {}
            _ = async { let _ = gone.await; sleep(LEAVING).await } => {}
        }
    });
    Held { _alive: alive }
}

/// Says the last word on a connection, in the background.
pub(in crate::pg) fn depart(last_word: impl Future<Output = ()> + Send + 'static) {
    // Without a runtime there is nobody to say it.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let open = Open::new();
    runtime.spawn(async move {
        let _open = open;
        let _ = timeout(LEAVING, last_word).await;
    });
}

/// Waits until all connections have ended that nobody uses any more, or for a moment: for a program
/// that is about to end.
pub async fn goodbye() {
    let all = async {
        loop {
            let ended = ENDED.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if OPEN.load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    };
    let _ = timeout(LEAVING * 2, all).await;
}
