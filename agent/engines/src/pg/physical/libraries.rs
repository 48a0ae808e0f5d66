//! The libraries that a server's program loads: where they are, and whether another account can change
//! them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::process::told;
use crate::common::{EngineError, runs};

/// Where a server's libraries are (`pkglibdir`); nothing where that cannot be told.
pub(super) fn libraries(bin_dir: &Path) -> Option<PathBuf> {
    let mut tool = Command::new(bin_dir.join("pg_config"));
    let said = told(tool.arg("--pkglibdir").env_clear()).ok();
    let said = said.filter(|output| output.status.success());
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    // Without that program: beside the others, as the server itself finds them.
    let beside = || bin_dir.parent().map(|prefix| prefix.join("lib"));
    let folder = said.map(PathBuf::from).or_else(beside)?;
    (folder.is_absolute() && folder.is_dir()).then_some(folder)
}

/// Whether no other account can change a library that a server loads, as it can't change its program.
///
/// # Errors
/// [`EngineError::Changeable`].
pub fn may_load(bin_dir: &Path) -> Result<(), EngineError> {
    let Some(folder) = libraries(bin_dir) else { return Ok(()) };
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    let mut all = vec![folder.clone()];
    all.extend(files.filter(|path| path.extension().is_some_and(|end| end == "so")));
    all.iter().try_for_each(|path| runs(path))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn libraries_that_others_can_change_are_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let (bin_dir, lib) = (folder.path().join("bin"), folder.path().join("lib"));
        let library = lib.join("plpgsql.so");
        for place in [&bin_dir, &lib] {
            fs::create_dir(place).unwrap();
        }
        fs::write(&library, "").unwrap();
        fs::write(lib.join("notes.txt"), "").unwrap();
        let mode = |path: &Path, mode: u32| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        mode(&lib.join("notes.txt"), 0o666);
        assert_eq!(libraries(&bin_dir), Some(lib.clone()));
        for (folder, file, right) in [
            (0o755, 0o644, true),
            (0o775, 0o644, false),
            (0o1777, 0o644, false),
            (0o755, 0o666, false),
        ] {
            mode(&lib, folder);
            mode(&library, file);
            let code = may_load(&bin_dir).map_err(|error| error.code());
            let wanted = if right { Ok(()) } else { Err("not_private") };
            assert_eq!(code, wanted, "{folder:o} {file:o}");
        }
    }
}
