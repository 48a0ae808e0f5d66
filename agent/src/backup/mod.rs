//! One life of a backup: from the first byte to its signed manifest.

pub(crate) mod attempt;
mod brought;
pub(crate) mod commit;
pub(crate) mod gone;
pub(crate) mod incremental;
pub(crate) mod plausible;

pub use attempt::BackedUp;
pub use gone::Gone;
pub use incremental::RequestedKind;
