//! What of this host a restored server must not see.

use std::path::{Path, PathBuf};

use drctl_policies::{Location, SecretRef};

use super::Setup;

impl Setup {
    /// What a restored server must not see: keys, what opens the bucket, the configuration, what we note.
    pub(crate) fn hidden(&self) -> Vec<PathBuf> {
        let config = &self.config;
        let paths = &config.paths;
        let mut all = vec![
            paths.state_dir.clone(),
            paths.runtime_dir.clone(),
            paths.spool_dir.clone(),
            self.path.clone(),
        ];
        all.extend(self.path.parent().map(Path::to_owned));
        if let Some(SecretRef::File(path)) = &config.keys.identity {
            all.push(path.clone());
        }
        if let Location::File { path } = &config.repository.location {
            all.push(path.clone());
        }
        all.extend(self.also_hidden.iter().cloned());
        all.retain(|path| path.is_absolute() && path.parent().is_some());
        all
    }
}
