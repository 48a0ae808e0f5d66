//! The helper of an account: what systemd starts under it when drctl asks for a job there, and nothing
//! that anybody could ask for beside that.
//!
//! It listens at the socket that systemd has made for drctl's account, and reads what root lets it do
//! from a file of root's, anew for each request. When nobody asks for a while it ends.

mod decide;
mod rights;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener as Listener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::{Refusal, Waiting, account};
use drctl_policies::JobRights;
use nix::unistd::User;
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::host::{AgentError, Stop};
use decide::decide;

/// How many requests are served at once; more wait.
const AT_ONCE: usize = 32;

/// For how long somebody may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// For how long nobody may ask before it ends: the socket stays, and another one is started.
const IDLE: Duration = Duration::from_secs(60);

/// For how long what runs may take to end, once it was asked to.
const GRACE: Duration = Duration::from_secs(12);

/// Serves requests at the socket on its standard input, until nobody asks for a while, or its end is
/// wished for.
///
/// # Errors
/// [`AgentError::Usage`] as root, and where standard input is no such socket; the system's.
pub(crate) async fn run(allowed: &Path, stop: &Stop) -> Result<()> {
    if geteuid().is_root() {
        let text = "a helper runs as the account of a server, and never as root";
        return Err(AgentError::Usage(text.to_owned()).into());
    }
    let listener = listener().context("take over the socket on standard input")?;
    let allowed: Arc<PathBuf> = Arc::new(allowed.to_owned());
    let (room, mut served) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    loop {
        let place = Arc::clone(&room).acquire_owned().await.context("make room")?;
        let accepted = tokio::select! {
            accepted = timeout(IDLE, listener.accept()) => accepted,
            () = stop.requested() => break,
        };
        while served.try_join_next().is_some() {}
        let stream = match accepted {
            Err(_) if served.is_empty() => return Ok(()),
            Err(_) => continue,
            Ok(accepted) => accepted.context("hear whoever asks")?.0,
        };
        let (allowed, stop) = (Arc::clone(&allowed), stop.clone());
        served.spawn(async move {
            let _place = place;
            serve(stream, &allowed, &stop).await;
        });
    }
    let _ = timeout(GRACE, async { while served.join_next().await.is_some() {} }).await;
    Ok(())
}

/// The socket that systemd has made, on standard input: `StandardInput=socket`.
fn listener() -> Result<UnixListener> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let listens = sockopt::socket_acceptconn(&socket) == Ok(true)
        && sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&socket) == Ok(SocketType::STREAM);
    if !listens {
        let text = "standard input is no socket that takes requests: systemd starts this, as \
                    drctl-job@ACCOUNT.service";
        return Err(AgentError::Usage(text.to_owned()).into());
    }
    let listener = Listener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}

/// Serves one request.
async fn serve(stream: UnixStream, allowed: &Path, stop: &Stop) {
    let Ok(peer) = stream.peer_cred() else { return };
    let who = account(peer.uid());
    let refused = |refusal: &Refusal| tracing::warn!(peer = who, "refused: {}", refusal.text);
    // Whoever may not ask is not heard.
    let rights = match rights::read(allowed).and_then(|rights| of_agent(peer.uid(), rights)) {
        Ok(rights) => rights,
        Err(refusal) => {
            refused(&refusal);
            return Waiting::turn_away(stream, refusal).await;
        }
    };
    let Ok(Some(waiting)) = timeout(PATIENCE, Waiting::hear(stream)).await else { return };
    match decide(&rights, waiting.job(), allowed) {
        Err(refusal) => {
            refused(&refusal);
            waiting.refuse(refusal).await;
        }
        Ok((engine, command)) => {
            let (name, stanza) = (command.name(), engine.stanza.clone());
            tracing::info!(peer = who, "pgbackrest {name} of {stanza} begins");
            engine.serve(&command, waiting, stop.requested()).await;
            tracing::info!(peer = who, "pgbackrest {name} of {stanza} has ended");
        }
    }
}

/// What whoever asks may ask for, if he may at all.
fn of_agent(peer: u32, rights: JobRights) -> Result<JobRights, Refusal> {
    let agent = User::from_name(&rights.agent).ok().flatten().map(|user| user.uid.as_raw());
    may_ask(peer, agent, &rights.agent).map(|()| rights)
}

/// Whether an account may ask: root, and the one that root has named.
fn may_ask(peer: u32, agent: Option<u32>, name: &str) -> Result<(), Refusal> {
    if peer == 0 || agent == Some(peer) {
        return Ok(());
    }
    let text = format!("{} may not ask it: root and {name} may", account(peer));
    Err(Refusal::new(text, "run this as drctl's account, or as root"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_named_account_may_ask() {
        assert!(may_ask(0, None, "drctl").is_ok() && may_ask(7, Some(7), "drctl").is_ok());
        for (peer, agent) in [(7, None), (7, Some(8)), (geteuid().as_raw() + 1, Some(9))] {
            assert!(may_ask(peer, agent, "drctl").unwrap_err().text.contains("may not ask"));
        }
    }
}
