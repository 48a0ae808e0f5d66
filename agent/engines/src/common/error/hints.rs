//! What an operator can do about an error.

use super::EngineError;

impl EngineError {
    /// What the operator can do about it, as imperative sentences.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            EngineError::Own(own) => return own.said().hint(),
            EngineError::ToolFailed { tool, .. } => format!(
                "correct what {tool} complains of and run the command again; earlier backups are \
                 not affected"
            ),
            EngineError::Silent { activity, .. } => {
                let activity = activity.map_or(String::new(), |activity| format!(" ({activity})"));
                format!(
                    "look what the server does{activity} and whether its disks answer; raise \
                     `silence` of the source if it needs longer; earlier backups are not affected"
                )
            }
            EngineError::Held { tool, .. } => format!(
                "something that {tool} started (ssh, a wrapper of its program) may hold it open: have \
                 that close it, and run the command again; earlier backups are not affected"
            ),
            EngineError::NotEmpty { .. } => {
                "restore into an empty server or under another database name; nothing was changed"
                    .to_owned()
            }
            EngineError::Io { .. } => {
                "check free space and permissions there, and run the command again; earlier \
                 backups are not affected"
                    .to_owned()
            }
            EngineError::NotPrivate { .. } => {
                "set TMPDIR to a directory that only this account and root may change, or to a \
                 sticky one such as /tmp; nothing was done there"
                    .to_owned()
            }
            EngineError::Changeable { .. } => {
                "nothing was done: look who changed it, then let drctl's account or root own it and \
                 nobody else write there (`chown`, `chmod go-w`), the directories above it included, \
                 or name another one"
                    .to_owned()
            }
            EngineError::Temporary { .. } => {
                "set TMPDIR to another directory, for example TMPDIR=/tmp; nothing was done there"
                    .to_owned()
            }
            EngineError::Config(_) => {
                "correct the configuration or the command, and run it again".to_owned()
            }
        })
    }
}
