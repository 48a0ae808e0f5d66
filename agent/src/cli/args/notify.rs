use clap::Subcommand;

/// What `notify` can do.
#[derive(Debug, Subcommand)]
pub enum NotifyVerb {
    /// Send a test message by every channel of [notify], or by one, and tell for each whether it was taken.
    Test {
        /// Only this channel.
        channel: Option<String>,
    },
    /// Say that the monthly test message of a channel has reached you.
    Ack {
        /// The code in the message.
        code: String,
    },
}
