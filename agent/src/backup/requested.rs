//! Which kind of backup is asked for.

/// What is asked for at the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedKind {
    /// What the configuration says.
    AsConfigured,
    /// A full backup.
    Full,
    /// An incremental backup, however old the full one is.
    Incremental,
}
