//! Whoever speaks with the agent.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::opened::send;
use super::{LONGEST, Peer, Refusal, Request, Wish};
use crate::engine::wal::ParcelLabel;
use crate::host::AgentError;

/// For how long the agent may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// For how long it may take to store a file that was handed over.
const STORES_WITHIN: Duration = Duration::from_secs(120);

/// Asks the agent at a socket. It is believed where it is root's, ours, or of the account `author`, whose the
/// configuration is.
///
/// # Errors
/// [`AgentError::NoAgent`] where none listens; [`AgentError::AgentSilent`]; [`AgentError::AgentRefused`]; the
/// system's.
pub(crate) async fn ask(path: &Path, author: Option<u32>, request: &Request) -> Result<Value> {
    let asked = timeout(PATIENCE, exchange(path, author, request)).await;
    let Ok(answer) = asked else {
        return Err(AgentError::AgentSilent(PATIENCE.as_secs()).into());
    };
    granted(answer?)
}

/// Hands a file of log over to the agent at a socket, which is believed as in [`ask`]; what became of it.
/// `gather` opens it as soon as the agent is ready.
///
/// # Errors
/// As [`ask`]; the agent's silence, and its end in the middle.
pub(crate) async fn hand_over(
    path: &Path,
    author: Option<u32>,
    wish: Wish,
    gather: impl FnOnce() -> io::Result<(ParcelLabel, Vec<File>)>,
) -> Result<Value> {
    let ready = async {
        let mut stream = connect(path, author).await?;
        say(&mut stream, &Request::Push(wish)).await?;
        let answer = line(&mut stream).await?;
        Ok::<_, anyhow::Error>((stream, granted(answer)?))
    };
    let ready = timeout(PATIENCE, ready).await.context("the agent is not ready in time")?;
    let (mut stream, _) = ready?;
    let stored = async {
        let (label, files) = gather().context("open the file")?;
        let label = serde_json::to_string(&label)?;
        send(&mut stream, &label, &files).await.context("hand the file over")?;
        granted(line(&mut stream).await?)
    };
    timeout(STORES_WITHIN, stored).await.context("the agent has not stored it in time")?
}

/// What an answer holds, if it is no refusal.
fn granted(mut answer: Value) -> Result<Value> {
    if answer["ok"] == true {
        return Ok(answer["answer"].take());
    }
    let refusal: Refusal = serde_json::from_value(answer["refused"].take())
        .context("read the agent's answer: is it of another version?")?;
    Err(AgentError::AgentRefused(refusal.message).into())
}

/// Why nobody can be asked at a socket: nobody is there, or whoever asks may not.
fn unreached(path: &Path, error: &io::Error) -> AgentError {
    let at = path.display();
    let (why, hint) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => (
            format!("no agent runs on this host: none listens at {at}"),
            "`systemctl status drctl` shows why, `systemctl start drctl` starts it",
        ),
        io::ErrorKind::PermissionDenied => (
            format!("this account may not ask the agent at {at}"),
            "run this as root, as drctl's account, or as a member of agent.socket_group or admin_group",
        ),
        _ => (
            format!("no agent can be asked at {at}: {error}"),
            "`systemctl status drctl` shows whether it runs",
        ),
    };
    AgentError::NoAgent(why, hint)
}

async fn line(stream: &mut UnixStream) -> Result<Value> {
    let mut text = String::new();
    let mut bounded = BufReader::new(stream.take(LONGEST as u64));
    bounded.read_line(&mut text).await.context("hear the agent")?;
    serde_json::from_str(&text).context("read the agent's answer")
}

async fn exchange(path: &Path, author: Option<u32>, request: &Request) -> Result<Value> {
    let mut stream = connect(path, author).await?;
    say(&mut stream, request).await?;
    let mut text = Vec::new();
    let mut bounded = stream.take(LONGEST as u64);
    bounded.read_to_end(&mut text).await.context("hear the agent")?;
    serde_json::from_slice(&text).context("read the agent's answer: is it of another version?")
}

/// A connection to whoever is believed.
async fn connect(path: &Path, author: Option<u32>) -> Result<UnixStream> {
    let stream = UnixStream::connect(path).await;
    let stream = stream.map_err(|error| unreached(path, &error))?;
    let peer = Peer::of(&stream).context("see who listens there")?;
    if !peer.is_trusted() && !peer.is(author) {
        let why = format!(
            "{} listens at {}, which is not drctl's account: it was asked nothing",
            peer.words(),
            path.display()
        );
        return Err(AgentError::NoAgent(why, "find out who does that, and why").into());
    }
    Ok(stream)
}

async fn say(stream: &mut UnixStream, request: &Request) -> Result<()> {
    let mut line = serde_json::to_string(&request.line())?;
    line.push('\n');
    stream.write_all(line.as_bytes()).await.context("ask the agent")
}
