//! What an error says of one object: that it is no good, or that it is not there.

use drctl_store::{FormatError, StoreError};

/// Whether an error speaks of one manifest only, so that others can still be looked at.
pub(crate) fn is_bad_manifest(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let store = cause.downcast_ref::<StoreError>();
        let is_odd =
            matches!(store, Some(StoreError::TooLarge { .. } | StoreError::NoObject { .. }));
        cause.is::<FormatError>() || is_odd
    })
}

/// Whether an error says that only a newer drctl understands an object.
pub(crate) fn is_newer(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref().is_some_and(FormatError::is_newer))
}

/// Whether an object is not there.
#[must_use]
pub(crate) fn is_missing(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| matches!(cause.downcast_ref::<StoreError>(), Some(StoreError::Missing { .. })))
}

/// Whether no key that is trusted here has signed what lies there.
#[must_use]
pub(crate) fn is_unsigned(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let too_large =
            matches!(cause.downcast_ref::<StoreError>(), Some(StoreError::TooLarge { .. }));
        too_large || cause.downcast_ref().is_some_and(FormatError::is_unsigned)
    })
}
