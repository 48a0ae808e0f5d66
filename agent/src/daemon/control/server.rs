//! The agent's end of the socket.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::unistd::Group;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Answer, Asked, LONGEST, Line, Peer, Refusal, VERSION, answer_line};
use crate::host::private;

/// How many may speak at once: more wait.
const AT_ONCE: usize = 16;

/// For how long somebody may take to ask, and the agent to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket that is listened at, for as long as this lives.
pub(in crate::daemon) struct Server {
    path: PathBuf,
    listening: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Listens. Who may ask what is looked at for each request; with a `group` its members may connect too.
    ///
    /// # Errors
    /// [`AgentError::NotPrivate`](crate::host::AgentError::NotPrivate) for a directory that others can
    /// change; a group that is not there, or that our account is no member of; the system's.
    pub(in crate::daemon) fn listen(
        path: &Path,
        group: Option<String>,
        asked: mpsc::Sender<Asked>,
    ) -> Result<Self> {
        let at = || format!("listen at {}", path.display());
        let folder = path.parent().unwrap_or(Path::new("/"));
        private::writable(folder).with_context(at)?;
        // Ours alone: whoever listened there is gone, since we are the only agent of this state directory.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(at);
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).with_context(at)?;
        let mode = match &group {
            Some(group) => {
                let found = Group::from_name(group).ok().flatten();
                let found = found.with_context(|| format!("there is no group {group}"))?;
                chown(path, None, Some(found.gid.as_raw()))
                    .with_context(|| format!("give the socket to the group {group}"))?;
                0o660
            }
            None => 0o600,
        };
        std::fs::set_permissions(path, Permissions::from_mode(mode)).with_context(at)?;
        let listening = tokio::spawn(accept(listener, group.map(Arc::from), asked));
        Ok(Server { path: path.to_owned(), listening })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, group: Option<Arc<str>>, asked: mpsc::Sender<Asked>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("somebody could not be heard at the agent's socket: {error}");
                sleep_until(Instant::now() + Duration::from_secs(1)).await;
                continue;
            }
        };
        let (group, asked) = (group.clone(), asked.clone());
        tokio::spawn(async move {
            let _place = place;
            if timeout(2 * PATIENCE, serve(stream, group.as_deref(), &asked)).await.is_err() {
                tracing::debug!("somebody at the agent's socket was too slow");
            }
        });
    }
}

/// Answers one request.
async fn serve(mut stream: UnixStream, group: Option<&str>, asked: &mpsc::Sender<Asked>) {
    let answer = match Peer::of(&stream) {
        Ok(peer) => answer(&mut stream, peer, group, asked).await,
        Err(error) => Err(Refusal::new("denied", format!("who asks is not known: {error}"))),
    };
    let mut line = answer_line(&answer).to_string();
    line.push('\n');
    let _ = stream.write_all(line.as_bytes()).await;
}

async fn answer(
    stream: &mut UnixStream,
    peer: Peer,
    group: Option<&str>,
    asked: &mpsc::Sender<Asked>,
) -> Answer {
    let mut text = String::new();
    let mut reader = BufReader::new(stream.take(LONGEST as u64));
    match timeout(PATIENCE, reader.read_line(&mut text)).await {
        Ok(Ok(_)) if text.ends_with('\n') => {}
        _ => return Err(Refusal::new("bad_request", "a request is one line of JSON")),
    }
    let request = read(&text)?;
    if let Err(refusal) = peer.may(&request, group) {
        tracing::warn!(peer = peer.words(), request = request.name(), "refused at the socket");
        return Err(refusal);
    }
    let gone = || Refusal::new("stopping", "the agent is ending");
    let (tell, told) = oneshot::channel();
    asked.send(Asked { peer, request, answer: tell }).await.map_err(|_| gone())?;
    told.await.unwrap_or_else(|_| Err(gone()))
}

/// What a line asks.
fn read(text: &str) -> Result<super::Request, Refusal> {
    let bad = |error: serde_json::Error| Refusal::new("bad_request", error.to_string());
    let value: Value = serde_json::from_str(text).map_err(bad)?;
    if value["version"] != VERSION {
        let text =
            format!("this agent speaks version {VERSION}: install the same drctl on both ends");
        return Err(Refusal::new("version", text));
    }
    let line: Line = serde_json::from_value(value).map_err(bad)?;
    Ok(line.request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_is_refused_with_a_reason() {
        let cases = [
            ("", "bad_request"),
            ("{}", "version"),
            (r#"{"version":2,"do":"jobs"}"#, "version"),
            (r#"{"version":1,"do":"fly"}"#, "bad_request"),
            (r#"{"version":1,"do":"run","source":"../etc","kind":"backup"}"#, "bad_request"),
        ];
        for (text, code) in cases {
            assert_eq!(read(text).unwrap_err().code, code, "{text}");
        }
    }
}
