//! Whether a sandbox can be had on this host, and if not, which part of it.

use std::path::{Path, PathBuf};

use drctl_model::shown;

use super::{APART, Sandbox, Wanted};
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

/// Why no sandbox can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSandbox {
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
/// [`NoSandbox`] with the part that is missing.
pub async fn look_for_sandbox() -> Result<Sandbox, NoSandbox> {
    let path = search_path();
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let program = folders.map(|folder| folder.join("bwrap")).find(|path| path.is_file());
    let Some(program) = program else {
        return Err(NoSandbox { missing: "bubblewrap is not installed".to_owned(), hint: INSTALL });
    };
    if let Err(error) = runs(&program) {
        let hint = "take the directory that others can change out of PATH";
        return Err(NoSandbox { missing: error.to_string(), hint });
    }
    let hint = "give this account a temporary directory that no other one may change (TMPDIR)";
    let place = temporary().map_err(|error| NoSandbox { missing: error.to_string(), hint })?;
    let root = tempfile::Builder::new().prefix("drctl-sandbox-").tempdir_in(place);
    let root = root.map_err(|error| NoSandbox {
        missing: format!("there is no temporary directory: {error}"),
        hint,
    })?;
    let whole = Sandbox { program: program.clone(), proc: true, lacks: None, limits: None };
    let Err(with_proc) = tried(&whole, root.path()).await else { return Ok(whole) };
    let without = Sandbox { proc: false, ..whole };
    if tried(&without, root.path()).await.is_ok() {
        let lacks = format!("it has no /proc, which is masked here ({with_proc})");
        return Ok(Sandbox { lacks: Some(lacks), ..without });
    }
    for count in 1..=APART.len() {
        let mut words: Vec<&str> = APART[..count].to_vec();
        words.extend(["--ro-bind", "/", "/", "--", "/usr/bin/true"]);
        if let Err(why) = ended(&program, &words).await {
            return Err(NoSandbox {
                missing: format!("{} ({why})", PARTS[count - 1]),
                hint: ALLOW,
            });
        }
    }
    Err(NoSandbox { missing: format!("bubblewrap does not run ({with_proc})"), hint: ALLOW })
}

async fn tried(sandbox: &Sandbox, root: &Path) -> Result<(), String> {
    let mut options = sandbox.options(root, &Wanted::default());
    options.extend(["--", "/usr/bin/true"].map(Into::into));
    ended(&sandbox.program, &options).await
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
