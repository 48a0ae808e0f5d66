//! Whether a box can be had on this host, and if not, which part of it.

use std::path::{Path, PathBuf};

use drctl_model::shown;

use super::{APART, Boxes, Wanted};
use crate::common::process::{Tool, search_path};
use crate::common::{runs, temporary};

/// What the options are about, in the order in which they are tried.
const PARTS: [&str; 5] = [
    "a user namespace cannot be created",
    "a network namespace cannot be created",
    "a process namespace cannot be created",
    "an IPC namespace cannot be created",
    "a host name namespace cannot be created",
];

/// Why no box can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoBox {
    /// Which part is missing.
    pub missing: String,
    /// What to do.
    pub hint: &'static str,
}

const INSTALL: &str = "install the package bubblewrap (the program `bwrap`)";
const ALLOW: &str = "allow this account user namespaces (sysctl user.max_user_namespaces, \
                     kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns, \
                     RestrictNamespaces= of a unit), or restore on another host";

/// Tries it.
///
/// # Errors
/// [`NoBox`] with the part that is missing.
pub async fn look_for_box() -> Result<Boxes, NoBox> {
    let path = search_path();
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let program = folders.map(|folder| folder.join("bwrap")).find(|path| path.is_file());
    let Some(program) = program else {
        return Err(NoBox { missing: "bubblewrap is not installed".to_owned(), hint: INSTALL });
    };
    if let Err(error) = runs(&program) {
        let hint = "take the directory that others can change out of PATH";
        return Err(NoBox { missing: error.to_string(), hint });
    }
    let hint = "give this account a temporary directory that no other one may change (TMPDIR)";
    let place = temporary().map_err(|error| NoBox { missing: error.to_string(), hint })?;
    let root = tempfile::Builder::new().prefix("drctl-box-").tempdir_in(place);
    let root = root.map_err(|error| NoBox {
        missing: format!("there is no temporary directory: {error}"),
        hint,
    })?;
    let whole = Boxes { program: program.clone(), proc: true, lacks: None };
    let Err(with_proc) = tried(&whole, root.path()).await else { return Ok(whole) };
    let without = Boxes { proc: false, ..whole };
    if tried(&without, root.path()).await.is_ok() {
        let lacks = format!("it has no /proc, which is masked here ({with_proc})");
        return Ok(Boxes { lacks: Some(lacks), ..without });
    }
    for count in 1..=APART.len() {
        let mut words: Vec<&str> = APART[..count].to_vec();
        words.extend(["--ro-bind", "/", "/", "--", "/usr/bin/true"]);
        if let Err(why) = ended(&program, &words).await {
            return Err(NoBox { missing: format!("{} ({why})", PARTS[count - 1]), hint: ALLOW });
        }
    }
    Err(NoBox { missing: format!("bubblewrap does not run ({with_proc})"), hint: ALLOW })
}

async fn tried(boxes: &Boxes, root: &Path) -> Result<(), String> {
    let mut options = boxes.options(root, &Wanted::default());
    options.extend(["--", "/usr/bin/true"].map(Into::into));
    ended(&boxes.program, &options).await
}

/// How it ends with these arguments: in silence, or with its last word.
async fn ended(program: &Path, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Result<(), String> {
    let tool = Tool::new("bwrap", PathBuf::from(program)).args(arguments);
    let running = tool.start_alone().map_err(|error| error.to_string())?;
    let ended = running.wait_shortly().await.map_err(|error| error.to_string())?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(shown(ended.stderr.trim().lines().last().unwrap_or("no word"), 200)),
    }
}
