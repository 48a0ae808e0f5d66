//! A backup's files restored into a new directory, by pgBackRest.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::{BackRest, call, checked, option};
use crate::common::EngineError;
use crate::pg::physical::Layout;

/// What no helper does: it would write where it is told to, and what another account could read.
const RESTORES: &str = "restore: a restored cluster is to be the account's that will run it";

impl BackRest {
    /// Whether it can restore here: what a helper runs it for cannot.
    ///
    /// # Errors
    /// [`HelperError::NotOffered`](crate::HelperError::NotOffered).
    pub fn may_restore(&self) -> Result<(), EngineError> {
        self.helper.as_ref().map_or(Ok(()), |helper| Err(helper.lacks(RESTORES)))
    }

    /// Lays a backup out: the data directory, and each tablespace in a directory of its own. No
    /// recovery is set up, nothing archives, no server is started.
    ///
    /// Whatever the configuration says, nothing is written outside of the layout: links are not
    /// followed, tablespaces do not go where they were. pgBackRest compares every file with its
    /// checksum as it writes it. It may run while the stanza is backed up: its lock is its own.
    ///
    /// # Errors
    /// [`EngineError::NotEmpty`] before anything is touched; [`BackRestError::Failed`](super::BackRestError::Failed)
    /// with what
    /// is wrong: then what is there is of no use.
    pub async fn restore(&self, label: &str, layout: &Layout) -> Result<(), EngineError> {
        let label = checked(label)?;
        self.may_restore()?;
        let detail = self.detail(label).await?;
        let (data, places) = (layout.data(), detail.tablespaces.iter().map(|space| space.oid));
        let places: Vec<_> = places.map(|oid| (oid, layout.tablespace(oid))).collect();
        for place in places.iter().map(|(_, place)| place).chain([&data]) {
            make_empty(place)?;
        }
        // Its lock is that of the stanza, which a backup may hold.
        let lock = data.with_file_name("lock");
        let tool = self.of_repository(self.everywhere("restore"));
        let mut tool = tool.arg(format!("--set={label}")).args(&[
            "--log-level-console=off",
            "--log-level-stderr=warn",
            "--log-level-file=off",
            "--type=none",
            "--archive-mode=off",
            "--no-delta",
            "--no-link-all",
            "--reset-pg1-host",
            "--reset-link-map",
            "--reset-tablespace-map-all",
            "--reset-recovery-option",
            "--reset-db-include",
            "--reset-db-exclude",
        ]);
        tool = tool.arg(option("pg1-path", &data)).arg(option("lock-path", &lock));
        if places.is_empty() {
            tool = tool.arg("--reset-tablespace-map");
        }
        for (oid, place) in &places {
            let mut mapping = std::ffi::OsString::from(format!("--tablespace-map={oid}="));
            mapping.push(place);
            tool = tool.arg(mapping);
        }
        let result = call::outcome("restore", call::run(&tool, self.silence).await?);
        let _ = fs::remove_dir_all(&lock);
        result.map(|_| ())
    }
}

/// Makes a directory, unless it is there and empty.
fn make_empty(place: &Path) -> Result<(), EngineError> {
    let action = || format!("make the directory {}", place.display());
    let made = DirBuilder::new().recursive(true).mode(0o700).create(place);
    made.map_err(EngineError::io(action()))?;
    let mut entries = fs::read_dir(place).map_err(EngineError::io(action()))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(EngineError::NotEmpty { found: vec![place.display().to_string()] }),
    }
}
