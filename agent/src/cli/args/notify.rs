use clap::Subcommand;

/// What `notify` can do.
#[derive(Debug, Subcommand)]
pub enum NotifyVerb {
    /// Send a test message by every channel of [notify], or by one, and tell for each whether it was taken.
    Test {
        /// Only this channel.
        channel: Option<String>,
    },
}
