use std::error::Error;
use std::fmt;

use drctl_model::Classified;

use super::EngineError;

/// An error that only one engine has.
pub struct OwnError(Box<dyn Classified + Send + Sync>);

impl OwnError {
    pub(super) fn said(&self) -> &dyn Classified {
        &*self.0
    }
}

impl fmt::Debug for OwnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for OwnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for OwnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl EngineError {
    /// What only one engine knows of.
    pub(crate) fn from_own(error: impl Classified + Send + Sync + 'static) -> Self {
        EngineError::Own(OwnError(Box::new(error)))
    }

    /// The error of one engine, where it is one.
    #[must_use]
    pub fn own<E: Error + 'static>(&self) -> Option<&E> {
        let EngineError::Own(own) = self else { return None };
        let error: &(dyn Error + 'static) = &*own.0;
        error.downcast_ref()
    }
}
