use anyhow::Result;
use drctl_model::Digest;

use super::Setup;

impl Setup {
    /// What stands for the whole configuration: where the repository is, who signs, who can read.
    ///
    /// # Errors
    /// A configuration that cannot be written down.
    pub(crate) fn digest(&self) -> Result<Digest> {
        Ok(drctl_store::digest(&serde_json::to_vec(&*self.config)?))
    }
}
