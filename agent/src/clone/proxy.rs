//! The exposed way to a clone, which has no network: connections are handed on to its socket, for the one role that
//! logs in with a password. Others would be taken for us there. PostgreSQL's protocol, 3: "Start-up" in chapter 54 of
//! its documentation ("Message Flow").

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::pg::PgServer;
use drctl_engines::pg::physical::CLONE_USER;
use rustix::process::geteuid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::host::AgentError;

/// How many may be connected at once.
const AT_ONCE: usize = 64;

/// For how long somebody may take to say who he is.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the first message may be (`MAX_STARTUP_PACKET_LENGTH`).
const LONGEST: u32 = 10_000;

/// What the first message may be, instead of a version.
const CANCEL: u32 = 80_877_102;
const ENCRYPT: [u32; 2] = [80_877_103, 80_877_104];

/// How others than this account reach a clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A port of this host's own address, 127.0.0.1.
    Port(u16),
    /// A socket in this directory.
    Socket(PathBuf),
}

enum Listener {
    Port(TcpListener, SocketAddr),
    Socket(UnixListener, Place),
}

/// A socket's file, which goes with it.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A place that is listened at before there is a clone.
pub(super) struct Proxy(Listener);

/// One that hands connections on, until it is dropped.
pub(super) struct Serving {
    at: String,
    _socket: Option<Place>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// # Errors
    /// [`AgentError::Target`] where it is taken; the system's.
    pub(super) async fn listen(way: &Way) -> Result<Self> {
        Ok(Proxy(match way {
            Way::Port(port) => {
                let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).await;
                let bound = bound.with_context(|| format!("listen at 127.0.0.1:{port}"))?;
                let at = bound.local_addr().context("look at the port")?;
                Listener::Port(bound, at)
            }
            Way::Socket(directory) => {
                let path = directory.join(".s.PGSQL.5432");
                make_room(&path)?;
                let failed = || format!("listen at {}", path.display());
                let bound = UnixListener::bind(&path).with_context(failed)?;
                let place = Place(path.clone());
                // As the server's own is: who gets in is told by the password.
                fs::set_permissions(&path, Permissions::from_mode(0o777)).with_context(failed)?;
                Listener::Socket(bound, place)
            }
        }))
    }

    /// Hands connections on to a server.
    pub(super) fn serve(self, server: &PgServer) -> Serving {
        let to = Path::new(&server.host).join(format!(".s.PGSQL.{}", server.port));
        let room = Arc::new(Semaphore::new(AT_ONCE));
        match self.0 {
            Listener::Port(listener, at) => {
                let task = tokio::spawn(async move {
                    loop {
                        match listener.accept().await {
                            Ok((stream, _)) => one(stream, &to, &room),
                            Err(_) => sleep(Duration::from_secs(1)).await,
                        }
                    }
                });
                Serving { at: at.to_string(), _socket: None, task }
            }
            Listener::Socket(listener, place) => {
                let at = place.0.parent().unwrap_or(&place.0).display().to_string();
                let task = tokio::spawn(async move {
                    loop {
                        match listener.accept().await {
                            Ok((stream, _)) => one(stream, &to, &room),
                            Err(_) => sleep(Duration::from_secs(1)).await,
                        }
                    }
                });
                Serving { at, _socket: Some(place), task }
            }
        }
    }
}

/// Removes a socket of our own account at which nobody listens: a clone that was killed has left it. Nothing else goes.
///
/// # Errors
/// [`AgentError::Target`] where something is there.
fn make_room(path: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    let ours = found.file_type().is_socket() && found.uid() == geteuid().as_raw();
    let connected = ours.then(|| std::os::unix::net::UnixStream::connect(path));
    match connected {
        Some(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("remove {}", path.display()))
        }
        _ => {
            let text = format!("{} is there already", path.display());
            Err(AgentError::Target(text).into())
        }
    }
}

impl Serving {
    /// Where.
    pub(super) fn at(&self) -> String {
        self.at.clone()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, as far as there is room.
fn one<S>(stream: S, to: &Path, room: &Arc<Semaphore>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(place) = Arc::clone(room).try_acquire_owned() else { return };
    let to = to.to_owned();
    tokio::spawn(async move {
        let _place = place;
        if let Err(error) = hand_on(stream, &to).await {
            tracing::debug!("a connection to the clone ended: {error}");
        }
    });
}

async fn hand_on<S>(mut from: S, to: &Path) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Ok(first) = timeout(PATIENCE, first(&mut from)).await else { return Ok(()) };
    let Some(first) = first? else { return Ok(()) };
    let mut server = UnixStream::connect(to).await?;
    server.write_all(&first).await?;
    copy_bidirectional(&mut from, &mut server).await.map(drop)
}

/// The message with which somebody begins, as it is handed on; nothing where he was sent away.
async fn first<S>(from: &mut S) -> std::io::Result<Option<Vec<u8>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Encryption may be asked for in two ways, each once.
    for _ in 0..3 {
        let (length, code) = (from.read_u32().await?, from.read_u32().await?);
        if !(8..=LONGEST).contains(&length) {
            return Ok(None);
        }
        let mut rest = vec![0; length as usize - 8];
        from.read_exact(&mut rest).await?;
        if ENCRYPT.contains(&code) {
            from.write_all(b"N").await?;
            continue;
        }
        if code != CANCEL && user(&rest) != Some(CLONE_USER.as_bytes()) {
            let text = format!("only the role {CLONE_USER} may come this way");
            from.write_all(&refusal(&text)).await?;
            from.shutdown().await?;
            return Ok(None);
        }
        let head = [length.to_be_bytes(), code.to_be_bytes()].concat();
        return Ok(Some([head, rest].concat()));
    }
    Ok(None)
}

/// The role in a start-up message: where it is said twice the server takes the last one.
fn user(parameters: &[u8]) -> Option<&[u8]> {
    let mut words = parameters.split(|byte| *byte == 0);
    let mut found = None;
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        if name.is_empty() {
            break;
        }
        if name == b"user" {
            // Two roles are nobody's.
            if found.is_some() {
                return None;
            }
            found = Some(value);
        }
    }
    found
}

/// An `ErrorResponse`: the role may not log in.
fn refusal(text: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C28000\0M{text}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap_or(u32::MAX);
    [b"E".as_slice(), &length.to_be_bytes(), fields.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_told_and_two_are_none() {
        let said = |text: &str| user(text.as_bytes()).map(<[u8]>::to_vec);
        assert_eq!(said("user\0drctl_clone\0database\0shop\0\0"), Some(b"drctl_clone".to_vec()));
        assert_eq!(said("database\0user\0user\0postgres\0\0"), Some(b"postgres".to_vec()));
        assert_eq!(said("user\0drctl_clone\0user\0postgres\0\0"), None);
        assert_eq!(said("\0user\0drctl_clone\0"), None);
        assert_eq!(said(""), None);
    }

    async fn begun(bytes: &[u8]) -> (Option<Vec<u8>>, Vec<u8>) {
        let (mut client, mut server) = tokio::io::duplex(1 << 16);
        client.write_all(bytes).await.unwrap();
        let first = first(&mut server).await.unwrap();
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        (first, answer)
    }

    fn message(code: u32, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(rest.len() + 8).unwrap();
        [&length.to_be_bytes(), &code.to_be_bytes(), rest].concat()
    }

    #[tokio::test]
    async fn only_one_role_is_handed_on_and_no_encryption_is_promised() {
        let ours = message(196_608, b"user\0drctl_clone\0\0");
        assert_eq!(begun(&ours).await, (Some(ours.clone()), Vec::new()));
        let encrypt = message(ENCRYPT[0], b"");
        assert_eq!(begun(&[encrypt, ours.clone()].concat()).await, (Some(ours), b"N".to_vec()));
        let (handed, answer) = begun(&message(196_608, b"user\0postgres\0\0")).await;
        assert!(handed.is_none() && answer.starts_with(b"E"), "{answer:?}");
        assert!(String::from_utf8_lossy(&answer).contains("28000"));
        let cancel = message(CANCEL, &[0; 8]);
        assert_eq!(begun(&cancel).await, (Some(cancel.clone()), Vec::new()));
        for odd in [vec![0, 0, 0, 7, 0, 0, 0, 0], message(196_608, &[b'x'; 20_000])] {
            assert_eq!(begun(&odd).await, (None, Vec::new()));
        }
    }
}
