//! Whoever speaks with the agent.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{LONGEST, Peer, Refusal, Request};
use crate::host::AgentError;

/// For how long the agent may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks the agent at a socket. It is believed where it is root's, ours, or of the account `author`, whose the
/// configuration is.
///
/// # Errors
/// [`AgentError::NoAgent`] where none listens; [`AgentError::AgentRefused`]; the system's.
pub(crate) async fn ask(path: &Path, author: Option<u32>, request: &Request) -> Result<Value> {
    let asked = timeout(PATIENCE, exchange(path, author, request)).await;
    let Ok(answer) = asked else {
        bail!("the agent did not answer within {} s: see its log", PATIENCE.as_secs());
    };
    let mut answer = answer?;
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
            "run this as root, as drctl's account, or as a member of agent.socket_group",
        ),
        _ => (
            format!("no agent can be asked at {at}: {error}"),
            "`systemctl status drctl` shows whether it runs",
        ),
    };
    AgentError::NoAgent(why, hint)
}

async fn exchange(path: &Path, author: Option<u32>, request: &Request) -> Result<Value> {
    let stream = UnixStream::connect(path).await;
    let mut stream = stream.map_err(|error| unreached(path, &error))?;
    let peer = Peer::of(&stream).context("see who listens there")?;
    if !peer.is_trusted() && !peer.is(author) {
        let why = format!(
            "{} listens at {}, which is not drctl's account: it was asked nothing",
            peer.words(),
            path.display()
        );
        return Err(AgentError::NoAgent(why, "find out who does that, and why").into());
    }
    let mut line = serde_json::to_string(&request.line())?;
    line.push('\n');
    stream.write_all(line.as_bytes()).await.context("ask the agent")?;
    let mut text = Vec::new();
    let mut bounded = stream.take(LONGEST as u64);
    bounded.read_to_end(&mut text).await.context("hear the agent")?;
    serde_json::from_slice(&text).context("read the agent's answer: is it of another version?")
}
