//! Since when the configuration is as it is.

use jiff::Timestamp;

use super::Setup;

impl Setup {
    /// Since when the configuration has been as it is.
    pub(crate) fn configured_since(&self) -> Timestamp {
        let policies = self.policy_files().unwrap_or_default();
        let changed = policies.iter().chain([&self.path]).filter_map(|path| {
            let changed = std::fs::metadata(path).and_then(|found| found.modified()).ok()?;
            Timestamp::try_from(changed).ok()
        });
        changed.max().unwrap_or_else(|| self.clock.now())
    }
}
