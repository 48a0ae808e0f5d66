use drctl_model::Class;

/// How a command ends, for scripts. A code that is not listed means failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// Failed, for a reason that has no code of its own.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Done, but something needs attention.
    Degraded = 3,
    /// Data is not what the manifest says.
    Verification = 4,
    /// No backup satisfies what was asked for.
    NoTarget = 5,
    /// Another process works on the same source.
    Busy = 6,
    /// The configuration is wrong.
    Configuration = 7,
    /// The bucket cannot be reached, read or written.
    Storage = 8,
    /// A key is missing, damaged or the wrong one.
    Key = 9,
    /// The source's server or its tools refuse.
    Source = 10,
    /// An objective (RPO) is breached.
    Objective = 11,
    /// The target is not empty, or not fit.
    Target = 12,
    /// Stopped by a signal.
    Interrupted = 130,
}

impl Exit {
    /// What a program of ours came to that ended with this code.
    pub(crate) fn of_code(code: i32) -> Self {
        let all = [
            Exit::Success,
            Exit::Usage,
            Exit::Degraded,
            Exit::Verification,
            Exit::NoTarget,
            Exit::Busy,
            Exit::Configuration,
            Exit::Storage,
            Exit::Key,
            Exit::Source,
            Exit::Objective,
            Exit::Target,
            Exit::Interrupted,
        ];
        all.into_iter().find(|exit| *exit as i32 == code).unwrap_or(Exit::Failure)
    }
}

impl From<Class> for Exit {
    fn from(class: Class) -> Self {
        match class {
            Class::Failure => Exit::Failure,
            Class::Usage => Exit::Usage,
            Class::Verification => Exit::Verification,
            Class::NoTarget => Exit::NoTarget,
            Class::Busy => Exit::Busy,
            Class::Configuration => Exit::Configuration,
            Class::Storage => Exit::Storage,
            Class::Key => Exit::Key,
            Class::Source => Exit::Source,
            Class::Target => Exit::Target,
            Class::Interrupted => Exit::Interrupted,
        }
    }
}

impl Exit {
    /// Every code, its name, and what it means: the table of the documentation.
    pub const TABLE: &'static [(Exit, &'static str, &'static str)] = &[
        (Exit::Success, "success", "done"),
        (Exit::Failure, "failure", "failed, for a reason without a code of its own"),
        (Exit::Usage, "usage", "the command line is wrong; nothing was done"),
        (Exit::Degraded, "degraded", "done, but something needs attention"),
        (Exit::Verification, "verification", "data is not what its manifest says"),
        (Exit::NoTarget, "no-target", "no backup satisfies what was asked for"),
        (Exit::Busy, "busy", "another process works on the same source"),
        (Exit::Configuration, "configuration", "the configuration is wrong; nothing was done"),
        (Exit::Storage, "storage", "the bucket cannot be reached, read or written"),
        (Exit::Key, "key", "a key is missing, damaged or the wrong one"),
        (Exit::Source, "source", "the source's server or its tools refuse"),
        (Exit::Objective, "objective", "a recovery objective is breached"),
        (Exit::Target, "target", "the restore's target is not empty or not fit"),
        (Exit::Interrupted, "interrupted", "stopped by a signal; nothing half done is visible"),
    ];

    /// The number that the process returns.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}
