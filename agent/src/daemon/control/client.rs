//! Whoever speaks with the agent.

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

async fn exchange(path: &Path, author: Option<u32>, request: &Request) -> Result<Value> {
    let stream = UnixStream::connect(path).await;
    let mut stream =
        stream.map_err(|error| AgentError::NoAgent(path.to_owned(), error.to_string()))?;
    let peer = Peer::of(&stream).context("see who listens there")?;
    if !peer.is_trusted() && !peer.is(author) {
        let why = format!("{} listens there, which is not drctl's account", peer.words());
        return Err(AgentError::NoAgent(path.to_owned(), why).into());
    }
    let mut line = serde_json::to_string(&request.line())?;
    line.push('\n');
    stream.write_all(line.as_bytes()).await.context("ask the agent")?;
    let mut text = Vec::new();
    let mut bounded = stream.take(LONGEST as u64);
    bounded.read_to_end(&mut text).await.context("hear the agent")?;
    serde_json::from_slice(&text).context("read the agent's answer: is it of another version?")
}
