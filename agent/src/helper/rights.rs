//! The file in which root says what a helper may be asked for.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use drctl_engines::{Refusal, unfit_place, unfit_way};
use drctl_policies::{JobRights, SourceFile, parse_job_rights};
use rustix::fs::OFlags;

/// The most bytes of it that are read.
const LONGEST: u64 = 64 << 10;

/// What root says there, if nobody else can have written it.
///
/// # Errors
/// A [`Refusal`]: without it nothing is allowed.
pub(super) fn read(path: &Path) -> Result<JobRights, Refusal> {
    let at = path.display();
    if let Some((place, unfit)) = unfit_way(path, true, 0) {
        let text = format!("{at} is not believed: {} {unfit}", place.display());
        let hint = format!("as root look who changed it, then `chown root` and `chmod go-w` {at}");
        return Err(Refusal::new(text, hint));
    }
    let text = text(path).map_err(|error| {
        let why = match error.kind() {
            ErrorKind::NotFound => "is not there".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        let hint = format!("as root write {at} (docs/service.md), with mode 0644");
        Refusal::new(format!("{at} {why}"), hint)
    })?;
    let file = SourceFile { name: at.to_string(), text };
    parse_job_rights(&file).map_err(|found| {
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        Refusal::new(told.join("; "), format!("as root correct {at}"))
    })
}

/// What is in it, as it lay there when it was opened: root's, and for nobody else to write.
fn text(path: &Path) -> io::Result<String> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || unfit_place(found.uid(), found.mode(), 0).is_some() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no file of root's"));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn a_file_that_anybody_else_can_change_allows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postgres.toml");
        let set = |mode: u32| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let refused = |path: &Path| read(path).unwrap_err().text;
        assert!(refused(&path).contains("is not there") || !rustix::process::geteuid().is_root());
        fs::write(&path, "version = 1\n").unwrap();
        set(0o644);
        if !rustix::process::geteuid().is_root() {
            assert!(refused(&path).contains("not believed"), "it is ours, and not root's");
            return;
        }
        assert_eq!(read(&path).unwrap().agent, "drctl");
        for mode in [0o664, 0o646] {
            set(mode);
            assert!(refused(&path).contains("not believed"), "{mode:o}");
        }
        set(0o644);
        chown(&path, Some(65_534), None).unwrap();
        assert!(refused(&path).contains("belongs to"));
        // A link of root's to it is no better.
        symlink(&path, folder.path().join("link")).unwrap();
        assert!(refused(&folder.path().join("link")).contains("belongs to"));
        chown(&path, Some(0), None).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refused(&path).contains("not believed"), "where others can put another one");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(&path, "version = 1\n[pgbackrest.main]\nmay = [\"all\"]\n").unwrap();
        assert!(refused(&path).contains("postgres.toml:3:8"));
    }
}
