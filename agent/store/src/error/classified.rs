//! How a command ends that meets one of our errors.

use drctl_model::{Class, Classified, ManifestError, MarkerError};

use super::{FormatError, KeyError, SealError, StoreError};

impl Classified for StoreError {
    fn code(&self) -> &'static str {
        StoreError::code(self)
    }

    fn class(&self) -> Class {
        Class::Storage
    }

    fn hint(&self) -> Option<String> {
        StoreError::hint(self).map(str::to_owned)
    }
}

impl Classified for FormatError {
    fn code(&self) -> &'static str {
        FormatError::code(self)
    }

    fn class(&self) -> Class {
        match self {
            FormatError::Manifest(
                ManifestError::TooNew { .. } | ManifestError::UnknownFeature { .. },
            )
            | FormatError::Marker(MarkerError::TooNew { .. } | MarkerError::Foreign(_)) => {
                Class::Storage
            }
            _ => Class::Verification,
        }
    }

    fn hint(&self) -> Option<String> {
        FormatError::hint(self).map(str::to_owned)
    }
}

impl Classified for SealError {
    fn code(&self) -> &'static str {
        SealError::code(self)
    }

    fn class(&self) -> Class {
        match self {
            SealError::WrongKey => Class::Key,
            _ => Class::Verification,
        }
    }

    fn hint(&self) -> Option<String> {
        SealError::hint(self).map(str::to_owned)
    }
}

impl Classified for KeyError {
    fn code(&self) -> &'static str {
        KeyError::code(self)
    }

    fn class(&self) -> Class {
        Class::Key
    }

    fn hint(&self) -> Option<String> {
        let hint = "name the right file, or correct [keys] in the configuration: `drctl keys list`";
        Some(hint.to_owned())
    }
}
