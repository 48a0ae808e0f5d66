//! Who listens at a Unix socket: the account behind it, and whether that may be the server's.
//!
//! The kernel tells by which account's process a socket was opened (`SO_PEERCRED`). Nothing is sent
//! before that is known, as with libpq's `requirepeer`.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use tokio::net::UnixStream;

use super::PgServer;
use crate::common::{name_of, unfit_way_for};

/// Whoever may write into a directory can put a socket there. A group may, as Debian has it: the socket
/// must be the directory's owner's anyway.
const ALL_MAY_WRITE: u32 = 0o002;

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
    let name = name_of(uid);
    let why = match &server.require_peer {
        Some(required) => unlike(name.as_deref(), required),
        None => {
            let directory = Path::new(&server.host);
            let peer = Peer { uid, name: name.as_deref() };
            judge(&peer, geteuid().as_raw(), (directory, &Place::of(directory)?))
        }
    };
    match why {
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
        let owner = fs::metadata(directory)?.uid();
        let ours = [0, geteuid().as_raw()];
        let unfit = unfit_way_for(directory, Some(ALL_MAY_WRITE), (&ours, Some(owner)));
        Ok(Place { owner, open: unfit.map(|(place, _)| place) })
    }
}

/// That it is another account than the one that is required.
fn unlike(name: Option<&str>, required: &str) -> Option<Why> {
    (name != Some(required)).then(|| Why::Required(required.to_owned()))
}

/// Why whoever listens is not believed to be the server, where no account was required.
fn judge(peer: &Peer<'_>, us: u32, (directory, place): (&Path, &Place)) -> Option<Why> {
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
            let place = Place { owner, open };
            let why = match required {
                Some(required) => unlike(Some(&account), required),
                None => judge(&peer, us, (Path::new("/run/x"), &place)),
            };
            assert_eq!(why.is_none(), right, "{name}: {why:?}");
        }
        // A tool could not be told whom to believe.
        let nameless = Peer { uid: us, name: None };
        let open = Place { owner: 0, open: tmp() };
        assert!(judge(&nameless, us, (Path::new("/tmp"), &open)).is_some());
        let own = Place { owner: us, open: None };
        assert!(judge(&nameless, us, (Path::new("/run/x"), &own)).is_none());
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
        // A link on the way of a link may be led elsewhere as well.
        let (open, link) = (folder.path().join("open"), folder.path().join("link"));
        fs::create_dir(&open).unwrap();
        std::os::unix::fs::symlink(&own, open.join("next")).unwrap();
        std::os::unix::fs::symlink(open.join("next"), &link).unwrap();
        assert_eq!(open_to_others(&link), None);
        mode(&open, 0o777);
        assert_eq!(open_to_others(&link), Some(open));
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
        let name = name_of(geteuid().as_raw());
        assert_eq!(link.unwrap().account(), name);
    }
}
