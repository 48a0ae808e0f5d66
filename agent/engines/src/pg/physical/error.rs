use drctl_model::{Class, Classified};

use crate::common::EngineError;
use crate::pg::dump::WalkError;
use crate::pg::server::ServerSaid;

/// What goes wrong with a base backup, or with what is taken out of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PhysicalError {
    /// What was named as a table has no rows that could be taken out.
    #[error("{name} {what}")]
    NoTable {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The server gets no memory when it starts.
    #[error("this host has not enough memory for the restored server")]
    Memory {
        /// What it says.
        source: ServerSaid,
    },
    /// A base backup that was extracted, or a chain that was combined, is not the one that it
    /// should be.
    #[error("the files in {place} are not those in its list of files")]
    Differs {
        /// The data directory.
        place: String,
        /// What is wrong.
        source: WalkError,
    },
}

impl From<PhysicalError> for EngineError {
    fn from(error: PhysicalError) -> Self {
        EngineError::from_own(error)
    }
}

impl Classified for PhysicalError {
    fn code(&self) -> &'static str {
        match self {
            PhysicalError::NoTable { .. } => "no_table",
            PhysicalError::Memory { .. } => "host_memory",
            PhysicalError::Differs { .. } => "copy_differs",
        }
    }

    fn class(&self) -> Class {
        match self {
            PhysicalError::NoTable { .. } => Class::NoTarget,
            PhysicalError::Memory { .. } => Class::Target,
            PhysicalError::Differs { .. } => Class::Verification,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            PhysicalError::NoTable { .. } => {
                "nothing was lost, and the recovery is still valid: name tables that exist and \
                 hold rows"
                    .to_owned()
            }
            PhysicalError::Memory { .. } => {
                "free memory (`free`, limits of this account or container), or restore on a larger \
                 host: max_connections, max_locks_per_transaction and max_prepared_transactions of \
                 the source decide how much a replay needs"
                    .to_owned()
            }
            PhysicalError::Differs { .. } => {
                "verify the backup, and restore another one if it is damaged in the bucket"
                    .to_owned()
            }
        })
    }
}
