//! One life of a backup: from the first byte to its signed manifest.

pub(crate) mod attempt;
pub(crate) mod commit;
pub(crate) mod plausible;
mod requested;
pub(crate) mod streamed;
mod tables;

pub use attempt::BackedUp;
pub(crate) use attempt::Order;
pub use requested::RequestedKind;
