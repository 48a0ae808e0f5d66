//! The agent's end of the socket.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::unistd::Group;
use rustix::process::geteuid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::recorder::Recorder;
use super::{
    Answer, Asked, LONGEST, Line, Peer, Refusal, Request, Rights, VERSION, Wish, answer_line,
};
use crate::audit::Log;
use crate::daemon::pushes::Pushes;
use crate::host::{AgentError, private};

/// How many may speak at once that are neither root nor our own account: more are sent away, so that they
/// keep nobody else from being heard.
const OTHERS: usize = 8;

/// For how long somebody may take to ask, and the agent to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket that is listened at, for as long as this lives.
pub(in crate::daemon) struct Server {
    path: PathBuf,
    /// Device and inode of our socket.
    ours: (u64, u64),
    listening: tokio::task::JoinHandle<()>,
    recorder: Recorder,
}

impl Server {
    /// Listens. Who may ask what is looked at for each request; with a group its members may connect too,
    /// and everybody where another account may hand over log.
    ///
    /// # Errors
    /// [`AgentError::Changeable`] for a directory that others can change; [`AgentError::SecondAgent`] where
    /// somebody listens there; [`AgentError::Usage`] where something else lies there, which stays; a group
    /// that is not there, or that our account is no member of; the system's.
    pub(in crate::daemon) fn listen(
        path: &Path,
        rights: Rights,
        (asked, pushes, log): (mpsc::Sender<Asked>, Pushes, Log),
    ) -> Result<Self> {
        let at = || format!("listen at {}", path.display());
        let folder = path.parent().unwrap_or(Path::new("/"));
        private::believed(folder, geteuid().as_raw()).with_context(at)?;
        make_room(path).with_context(at)?;
        let listener = UnixListener::bind(path).with_context(at)?;
        let mode = match rights.group.as_ref().or(rights.admins.as_ref()) {
            Some(group) => {
                let found = Group::from_name(group).ok().flatten();
                let found = found.with_context(|| format!("there is no group {group}"))?;
                chown(path, None, Some(found.gid.as_raw()))
                    .with_context(|| format!("give the socket to the group {group}"))?;
                0o660
            }
            None => 0o600,
        };
        let mode = if rights.push_user.is_some() { 0o666 } else { mode };
        std::fs::set_permissions(path, Permissions::from_mode(mode)).with_context(at)?;
        let recorder = Recorder::new(log);
        let told = (asked, recorder.clone());
        let listening = tokio::spawn(accept(listener, Arc::new(rights), told, pushes));
        let ours = place(path).context("look at our socket")?;
        Ok(Server { path: path.to_owned(), ours, listening, recorder })
    }

    /// From now on requests are put on record here.
    pub(in crate::daemon) fn logs_into(&self, log: Log) {
        self.recorder.logs_into(log);
    }
}

/// Device and inode of what lies at a path; a link is not followed.
fn place(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Removes a socket that an agent has left. Nothing else goes: neither what is no socket, nor one at which
/// somebody listens, nor another account's.
fn make_room(path: &Path) -> Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let usage =
        |what: &str| AgentError::Usage(format!("{what} lies at {}: it stays", path.display()));
    if !found.file_type().is_socket() {
        return Err(usage("something that is no socket").into());
    }
    if found.uid() != geteuid().as_raw() {
        return Err(usage("a socket of another account").into());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        _ => {
            let who = "somebody listens at its socket, and is no agent of this state directory";
            return Err(AgentError::SecondAgent(path.to_owned(), who.to_owned()).into());
        }
    }
    Ok(std::fs::remove_file(path)?)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
        // Somebody else's may lie there by now.
        if place(&self.path).is_ok_and(|found| found == self.ours) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

async fn accept(
    listener: UnixListener,
    rights: Arc<Rights>,
    told: (mpsc::Sender<Asked>, Recorder),
    pushes: Pushes,
) {
    // Whoever may hand over log has places of his own, which nobody else can take.
    let (room, pushers) = (Arc::new(Semaphore::new(OTHERS)), Arc::new(Semaphore::new(OTHERS)));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("somebody could not be heard at the agent's socket: {error}");
                sleep_until(Instant::now() + Duration::from_secs(1)).await;
                continue;
            }
        };
        let Ok(peer) = Peer::of(&stream) else { continue };
        let place = match peer.is_trusted() {
            true => None,
            false => {
                let room = if peer.may_push(&rights) { &pushers } else { &room };
                match Arc::clone(room).try_acquire_owned() {
                    Ok(place) => Some(place),
                    Err(_) => continue,
                }
            }
        };
        let (rights, told, pushes) = (Arc::clone(&rights), told.clone(), pushes.clone());
        tokio::spawn(async move {
            let _place = place;
            let mut stream = stream;
            let serving = serve(&mut stream, peer, &rights, &told);
            match timeout(2 * PATIENCE, serving).await {
                Err(_) => tracing::debug!("somebody at the agent's socket was too slow"),
                Ok(Some(wish)) => pushes.serve(&mut stream, &wish).await,
                Ok(None) => {}
            }
        });
    }
}

/// Answers one request. One to take log is given back: it goes on for longer.
async fn serve(
    stream: &mut UnixStream,
    peer: Peer,
    rights: &Rights,
    (asked, recorder): &(mpsc::Sender<Asked>, Recorder),
) -> Option<Wish> {
    let mut asks = None;
    let answer = match heard(stream, &peer, rights, &mut asks).await {
        Ok(Request::Push(wish)) => return Some(wish),
        Ok(request) => answer(peer.clone(), request, asked).await,
        Err(refusal) => Err(refusal),
    };
    recorder.record(&peer, asks.as_ref(), &answer).await;
    let _ = tell(stream, &answer).await;
    None
}

/// Writes an answer.
///
/// # Errors
/// The system's.
pub(in crate::daemon) async fn tell(
    stream: &mut UnixStream,
    answer: &Answer,
) -> std::io::Result<()> {
    let mut line = answer_line(answer).to_string();
    line.push('\n');
    stream.write_all(line.as_bytes()).await
}

/// What somebody asks who may ask it.
async fn heard(
    stream: &mut UnixStream,
    peer: &Peer,
    rights: &Rights,
    asks: &mut Option<Request>,
) -> Result<Request, Refusal> {
    let mut text = String::new();
    let mut reader = BufReader::new(stream.take(LONGEST as u64));
    match timeout(PATIENCE, reader.read_line(&mut text)).await {
        Ok(Ok(_)) if text.ends_with('\n') => {}
        _ => return Err(Refusal::new("bad_request", "a request is one line of JSON")),
    }
    let request = read(&text)?;
    *asks = Some(request.clone());
    if let Err(refusal) = peer.may(&request, rights) {
        tracing::warn!(peer = peer.words(), request = request.name(), "refused at the socket");
        return Err(refusal);
    }
    Ok(request)
}

async fn answer(peer: Peer, request: Request, asked: &mpsc::Sender<Asked>) -> Answer {
    let gone = || Refusal::new("stopping", "the agent is ending");
    let (tell, told) = oneshot::channel();
    asked.send(Asked { peer: peer.clone(), request, answer: tell }).await.map_err(|_| gone())?;
    told.await.unwrap_or_else(|_| Err(gone()))
}

/// What a line asks.
fn read(text: &str) -> Result<Request, Refusal> {
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
