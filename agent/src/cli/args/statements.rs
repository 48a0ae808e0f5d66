use clap::{Args, Subcommand};

/// What is said of backups and sources.
#[derive(Debug, Subcommand)]
pub enum StatementVerb {
    /// Keep a backup and what it is based on, whatever the policy says.
    Pin(PinArgs),
    /// End a pin: the policy decides again.
    Unpin(PinArgs),
    /// Put a backup, or all of a source, on legal hold: a pin that only a key with the role `prune`
    /// ends.
    Hold(HoldArgs),
    /// End a legal hold.
    Release(HoldArgs),
    /// Let nothing of a source be removed until `unfreeze`.
    Freeze(FreezeArgs),
    /// Let the policy decide again what of a source may be removed.
    Unfreeze(UnfreezeArgs),
    /// List what was pinned, put on legal hold or frozen, and what ended that, with the reasons.
    Holds {
        /// Only of this source.
        source: Option<String>,
    },
}

/// A backup, and why.
#[derive(Debug, Args)]
pub struct PinArgs {
    /// SOURCE/BACKUP, or the backup's identifier, or the beginning of exactly one identifier.
    pub backup: String,
    /// Why: 1 to 500 characters.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// A source or a backup, and why.
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// A source; or a backup: SOURCE/BACKUP, its identifier, or a unique beginning of it.
    #[arg(value_name = "SOURCE|BACKUP")]
    pub what: String,
    /// Why: 1 to 500 characters.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// A source, and why.
#[derive(Debug, Args)]
pub struct FreezeArgs {
    /// The source.
    pub source: String,
    /// Why: 1 to 500 characters.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// The same, and what is left out.
#[derive(Debug, Args)]
pub struct UnfreezeArgs {
    /// The source.
    pub source: String,
    /// Why: 1 to 500 characters.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Do not end the freeze, but ignore these statements, which are missing or not believed, for good:
    /// 3 or 3-5, separated by commas.
    #[arg(long, value_name = "NUMBERS")]
    pub without: Option<String>,
}
