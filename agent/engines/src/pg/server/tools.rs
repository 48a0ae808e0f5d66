//! Finds the client tools whose major version is the server's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::PgServer;
use crate::common::process::Tool;
use crate::common::{EngineError, runs};
use crate::pg::server::ServerError;

/// How long a tool may take to tell its version.
const VERSION_WAIT: Duration = Duration::from_secs(20);

/// A client tool that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTool {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Its version, such as `15.18`.
    pub version: String,
}

/// The major version in a text such as `15.18 (Debian 15.18-0+deb12u1)` or `17beta1`.
#[must_use]
pub fn major_of(version: &str) -> Option<u32> {
    let digits = version.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// Finds `name` for the version of a server.
///
/// # Errors
/// [`ServerError::ToolMissing`], or [`ServerError::VersionMismatch`] when only another major
/// version is there.
pub(crate) async fn find(
    server: &PgServer,
    name: &'static str,
    server_version: &str,
) -> Result<FoundTool, EngineError> {
    find_in(server.bin_dir.as_deref(), name, server_version).await
}

/// As [`find`], in `bin_dir` alone where one is given.
async fn find_in(
    bin_dir: Option<&Path>,
    name: &'static str,
    server_version: &str,
) -> Result<FoundTool, EngineError> {
    let major = major_of(server_version).unwrap_or_default();
    let candidates = candidates(bin_dir, name, major);
    let mut other = None;
    for path in candidates.iter().filter(|path| path.is_file()) {
        runs(path)?;
        let Some(version) = version_of(name, path.clone()).await else { continue };
        if major_of(&version) == Some(major) {
            return Ok(FoundTool { name, path: path.clone(), version });
        }
        other.get_or_insert(version);
    }
    let server = short(server_version).to_owned();
    Err(match other {
        Some(client) => {
            EngineError::from(ServerError::VersionMismatch { tool: name, client, server, major })
        }
        None => EngineError::from(ServerError::ToolMissing {
            tool: name,
            major,
            looked: folders(&candidates),
        }),
    })
}

/// The server's own program for a version; in `bin_dir` alone where one is given.
///
/// # Errors
/// [`ServerError::ToolMissing`], [`ServerError::VersionMismatch`].
pub async fn server_program(bin_dir: Option<&Path>, version: &str) -> Result<PathBuf, EngineError> {
    Ok(find_in(bin_dir, "postgres", version).await?.path)
}

/// The program that combines the backups of a chain, for the version of the server that they are
/// of; in `bin_dir` alone where one is given.
///
/// # Errors
/// [`ServerError::ToolMissing`], [`ServerError::VersionMismatch`].
pub async fn combine_program(
    bin_dir: Option<&Path>,
    version: &str,
) -> Result<PathBuf, EngineError> {
    Ok(find_in(bin_dir, "pg_combinebackup", version).await?.path)
}

/// The first word of a version: `15.18` of `15.18 (Debian 15.18-0+deb12u1)`.
pub(crate) fn short(version: &str) -> &str {
    version.split_whitespace().next().unwrap_or(version)
}

fn candidates(bin_dir: Option<&Path>, name: &str, major: u32) -> Vec<PathBuf> {
    if let Some(dir) = bin_dir {
        return vec![dir.join(name)];
    }
    // Where Debian and Red Hat keep several versions side by side; then the search path.
    let mut dirs = vec![
        PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")),
        PathBuf::from(format!("/usr/pgsql-{major}/bin")),
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    dirs.extend(std::env::split_paths(&path).filter(|dir| dir.is_absolute()));
    dirs.into_iter().map(|dir| dir.join(name)).collect()
}

fn folders(candidates: &[PathBuf]) -> Vec<PathBuf> {
    candidates.iter().filter_map(|path| path.parent()).map(ToOwned::to_owned).collect()
}

async fn version_of(name: &'static str, path: PathBuf) -> Option<String> {
    let (mut output, running) = Tool::new(name, path).arg("--version").start_writer().ok()?;
    let mut text = String::new();
    timeout(VERSION_WAIT, output.read_to_string(&mut text)).await.ok()?.ok()?;
    running.wait_shortly().await.ok()?.success().ok()?;
    parse_version(&text)
}

/// `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` → `15.18`.
fn parse_version(text: &str) -> Option<String> {
    let after = text.split_once("(PostgreSQL)")?.1;
    let version = after.split_whitespace().next()?;
    major_of(version).map(|_| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let cases = [
            ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some("15.18"), Some(15)),
            ("pg_restore (PostgreSQL) 17beta1\n", Some("17beta1"), Some(17)),
            ("pg_dumpall (PostgreSQL) 16.4\n", Some("16.4"), Some(16)),
            ("mysqldump  Ver 10.19\n", None, None),
            ("", None, None),
        ];
        for (text, version, major) in cases {
            let found = parse_version(text);
            assert_eq!(found.as_deref(), version);
            assert_eq!(found.as_deref().and_then(major_of), major);
        }
    }
}
