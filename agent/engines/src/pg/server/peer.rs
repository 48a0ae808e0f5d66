//! Who listens at a Unix socket: the account behind it, and whether that may be the server's.
//!
//! The kernel tells by which account's process a socket was opened (`SO_PEERCRED`). Nothing is sent
//! before that is known, as with libpq's `requirepeer`.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use rustix::process::geteuid;
use tokio::net::UnixStream;

use super::PgServer;

/// Whoever may write into a directory can put a socket there.
const ALL_MAY_WRITE: u32 = 0o002;

/// Whoever may write above it can put another directory in its place.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// Names in such a directory are their owners' alone.
const STICKY: u32 = 0o1000;

/// That somebody listens at a socket who may not be the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    account: String,
    why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// Another account was asked for.
    Required(String),
    /// It is none of ours, nor the owner's of the directory.
    NoOwner(PathBuf),
    /// Others may write where its socket lies, or above.
    Open(PathBuf),
    /// No tool could be told of it.
    Nameless(PathBuf),
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it runs as the account {}", self.account)?;
        match &self.why {
            Why::Required(account) => write!(f, ", and require_peer says `{account}`"),
            Why::NoOwner(place) => write!(f, ", to whom {} does not belong", place.display()),
            Why::Open(place) => {
                write!(f, ", and other accounts may put a socket there ({})", place.display())
            }
            Why::Nameless(place) => write!(
                f,
                ", which has no name, and other accounts may put a socket there ({})",
                place.display()
            ),
        }
    }
}

impl std::error::Error for Stranger {}

/// The name of the account behind a connection, which may be the server's; nothing where it has no
/// name.
///
/// # Errors
/// One that holds a [`Stranger`].
pub(super) fn believed(server: &PgServer, stream: &UnixStream) -> io::Result<Option<String>> {
    let uid = stream.peer_cred()?.uid();
    let name = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    let directory = Path::new(&server.host);
    let place = Place::of(directory)?;
    let peer = Peer { uid, name: name.as_deref() };
    let us = geteuid().as_raw();
    match judge(&peer, us, server.require_peer.as_deref(), (directory, &place)) {
        None => Ok(name),
        Some(why) => {
            let account = name.map_or_else(|| uid.to_string(), |name| format!("`{name}`"));
            Err(io::Error::other(Stranger { account, why }))
        }
    }
}

/// Where others than its owner and root may put a socket that would be taken for the server's: the
/// directory, or one above it. Nothing where a directory is well kept, or is not there.
#[must_use]
pub fn open_to_others(directory: &Path) -> Option<PathBuf> {
    Place::of(directory).ok()?.open
}

struct Peer<'a> {
    uid: u32,
    name: Option<&'a str>,
}

/// A directory of a socket.
struct Place {
    owner: u32,
    /// Which directory others may write into.
    open: Option<PathBuf>,
}

impl Place {
    fn of(directory: &Path) -> io::Result<Place> {
        let real = directory.canonicalize()?;
        let found = fs::metadata(&real)?;
        let owner = found.uid();
        let itself = (found.mode() & ALL_MAY_WRITE != 0).then_some(&real);
        // The way as it is named, links and all, and the way to where that leads.
        let ways = [directory, &real].into_iter().flat_map(|way| way.ancestors().skip(1));
        let is_open =
            |place: &&Path| fs::metadata(place).map_or(true, |found| may_be_swapped(&found, owner));
        let is_alien = |place: &&Path| {
            let link = fs::symlink_metadata(place).ok().filter(Metadata::is_symlink);
            link.is_some_and(|link| !is_trusted(link.uid(), owner))
        };
        let above = ways.clone().find(is_open).map(Path::to_owned);
        let link = directory.ancestors().find(is_alien).map(Path::to_owned);
        Ok(Place { owner, open: itself.cloned().or(above).or(link) })
    }
}

/// Whether what lies in a directory may be swapped by others than the owner, root and us.
fn may_be_swapped(found: &Metadata, owner: u32) -> bool {
    let (mode, by) = (found.mode(), found.uid());
    !is_trusted(by, owner) || (mode & OTHERS_MAY_WRITE != 0 && mode & STICKY == 0)
}

fn is_trusted(account: u32, owner: u32) -> bool {
    [0, geteuid().as_raw(), owner].contains(&account)
}

/// Why whoever listens is not believed to be the server.
fn judge(
    peer: &Peer<'_>,
    us: u32,
    required: Option<&str>,
    (directory, place): (&Path, &Place),
) -> Option<Why> {
    if let Some(required) = required {
        return (peer.name != Some(required)).then(|| Why::Required(required.to_owned()));
    }
    let ours = [0, us].contains(&peer.uid);
    match &place.open {
        Some(open) if ours && peer.name.is_none() => Some(Why::Nameless(open.clone())),
        _ if ours => None,
        Some(open) => Some(Why::Open(open.clone())),
        None => (peer.uid != place.owner).then(|| Why::NoOwner(directory.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn who_may_own_a_socket() {
        let (us, postgres, nobody) = (1000, 101, 65_534);
        let tmp = || Some(PathBuf::from("/tmp"));
        let cases = [
            ("the owner of a place of its own", postgres, None, postgres, None, true),
            ("somebody else there", nobody, None, postgres, None, false),
            ("ourselves", us, None, postgres, None, true),
            ("root", 0, None, postgres, None, true),
            ("the owner of an open place", postgres, None, postgres, tmp(), false),
            ("somebody in an open place", postgres, None, 0, tmp(), false),
            ("ourselves in an open place", us, None, 0, tmp(), true),
            ("root in an open place", 0, None, 0, tmp(), true),
            ("who was named, in an open place", postgres, Some("a101"), 0, tmp(), true),
            ("another one than was named", nobody, Some("a101"), 0, tmp(), false),
            ("another one, though the owner", nobody, Some("a101"), nobody, None, false),
            ("ourselves, and not who was named", us, Some("a101"), us, None, false),
        ];
        for (name, uid, required, owner, open, right) in cases {
            let account = format!("a{uid}");
            let peer = Peer { uid, name: Some(&account) };
            let why = judge(&peer, us, required, (Path::new("/run/x"), &Place { owner, open }));
            assert_eq!(why.is_none(), right, "{name}: {why:?}");
        }
        // A tool could not be told whom to believe.
        let nameless = Peer { uid: us, name: None };
        let open = Place { owner: 0, open: tmp() };
        assert!(judge(&nameless, us, None, (Path::new("/tmp"), &open)).is_some());
        let own = Place { owner: us, open: None };
        assert!(judge(&nameless, us, None, (Path::new("/run/x"), &own)).is_none());
    }

    #[test]
    fn a_directory_is_as_safe_as_the_way_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let (above, own) = (folder.path().join("above"), folder.path().join("above/own"));
        fs::create_dir_all(&own).unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let cases = [
            ("nobody else", 0o755, 0o700, None),
            ("a group beside the owner, as Debian has it", 0o755, 0o2775, None),
            ("everybody", 0o755, 0o777, Some(&own)),
            ("everybody, though sticky", 0o755, 0o1777, Some(&own)),
            ("everybody above", 0o777, 0o700, Some(&above)),
            ("a group above", 0o775, 0o700, Some(&above)),
            ("everybody above, but sticky", 0o1777, 0o700, None),
        ];
        for (name, one, other, open) in cases {
            mode(&above, one);
            mode(&own, other);
            assert_eq!(open_to_others(&own).as_ref(), open, "{name}");
        }
        assert_eq!(open_to_others(&folder.path().join("absent")), None);
    }

    #[tokio::test]
    async fn nothing_is_said_to_a_stranger() {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let reach = |require_peer: Option<&str>| PgServer {
            host: folder.path().display().to_string(),
            require_peer: require_peer.map(ToOwned::to_owned),
            ..crate::pg::server::address::tests::server()
        };
        let server = reach(Some("somebody-else"));
        let (link, heard) = tokio::join!(super::super::link::connect(&server), listener.accept());
        let error = server.unreachable(&link.err().unwrap());
        assert!(error.to_string().contains("not proven"), "{error}");
        let mut said = Vec::new();
        let mut stream = heard.unwrap().0;
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut said).await.unwrap();
        assert_eq!(said, b"");
        let ours = reach(None);
        let (link, _heard) = tokio::join!(super::super::link::connect(&ours), listener.accept());
        let name = User::from_uid(Uid::effective()).unwrap().map(|user| user.name);
        assert_eq!(link.unwrap().account(), name);
    }
}
