//! Named steps at which a test build kills itself, to show that no crash loses or forges anything.
//!
//! Without the feature `crash-points` (every released build) a step is nothing.

/// Every step of a backup of the agent's own; the catalog has more, [`drctl_catalog::CRASH_POINTS`].
pub const CRASH_POINTS: &[&str] = &[
    "backup-job-begun",
    "backup-first-segment",
    "backup-stream-stored",
    "backup-before-manifest",
    "backup-manifest-put",
    "backup-manifest-read-back",
];

/// Every step of a recovery to a point in time.
pub const RECOVERY_CRASH_POINTS: &[&str] = &[
    "recovery-begun",
    "recovery-in-stream",
    "recovery-stream-extracted",
    "recovery-extracted",
    "recovery-replaying",
    "recovery-proven",
    "recovery-promoting",
];
/// Every step of `wal push`.
pub const PUSH_CRASH_POINTS: &[&str] = &["push-stored", "push-ahead-stored", "push-ahead-noted"];

/// Every step of the removal of what no policy keeps.
pub const PRUNE_CRASH_POINTS: &[&str] = &[
    "prune-tombstone-put",
    "prune-manifest-gone",
    "prune-data-gone",
    "prune-floor-put",
    "prune-indexes-gone",
];

/// Kills the process with SIGKILL if the environment asks for it at this step.
#[cfg(feature = "crash-points")]
pub fn crash_point(name: &'static str) {
    if std::env::var("DRCTL_CRASH_AT").is_ok_and(|wanted| wanted == name) {
        let me = rustix::process::getpid();
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
        std::process::abort();
    }
}

/// Nothing, in this build.
#[cfg(not(feature = "crash-points"))]
pub fn crash_point(_: &'static str) {}
