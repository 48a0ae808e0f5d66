//! What an operator can do about a problem.

use drctl_model::SourceId;
use drctl_policies::Diagnostic;

use super::AgentError;

/// Every mistake of a configuration, a line each.
pub(super) fn wrong(diagnostics: &[Diagnostic]) -> String {
    let many = match diagnostics.len() {
        1 => "an error".to_owned(),
        many => format!("{many} errors"),
    };
    let lines: String = diagnostics.iter().map(|d| format!("\n  {d}")).collect();
    format!("the configuration has {many}{lines}")
}

/// What to do about a drill that other work kept from its end.
const OF_DRILL: &str = "it says nothing of the backup. Make room there, name another place (--scratch), or allow it \
    more time (`max_duration` of [drill])";

impl AgentError {
    /// What to do where there is no sandbox for a server.
    fn hint_of_sandbox(&self) -> Option<String> {
        Some(match self {
            Self::NoSandbox(_, hint) => {
                format!("{hint}; to recover without a sandbox, if you trust the data: --without-sandbox")
            }
            Self::Place(_) => "only a server in a sandbox may replay that: recover it to a point with \
                                  `drctl restore … --to-end`, or `--to-lsn`, without --without-sandbox"
                .to_owned(),
            _ => return None,
        })
    }

    /// What to do about code that would run with more rights than its owner has, and about an agent that does
    /// not answer.
    fn hint_of_code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Runs { .. } => {
                "whoever owns that code could take the server over. Restore it into a server of its own \
                 that holds nothing else, or with --to-user as a role that is no superuser, or read all the \
                 functions that --plan names; if you trust them, add --trust-code=DIGEST"
            }
            Self::AgentSilent(_) => {
                "see its log (`journalctl -u drctl`); if it does nothing, `systemctl restart drctl`"
            }
            _ => return None,
        })
    }

    /// What to do about a place that holds not the repository that it should.
    fn hint_of_place(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotARepository { .. } => {
                "the backups, if there are any, are not at this URL: check repository.url (its prefix too), and \
                 that a file system is mounted. Nothing was written. `drctl init` only if there never was a \
                 repository"
            }
            Self::OtherRepository { .. } => {
                "somebody put another repository, or its marker, in the place of yours: check \
                 repository.url, and look at the bucket; only if the place is right and the backups \
                 are yours, correct repository.id. Nothing was read from it or written"
            }
            Self::MarkerLost { .. } => {
                "the backups are safe, and nothing was written: do not make a new repository here, \
                 it would lock them out. `drctl init --restore-marker` on a host that is configured \
                 for it writes the marker again; the identifier is in the recovery kit"
            }
            Self::RepositoryExists { .. } => {
                "to use it from this host, pass --join; nothing was written"
            }
            _ => return None,
        })
    }

    /// What to do about log that is not what it should be.
    fn hint_of_log(&self) -> Option<&'static str> {
        Some(match self {
            Self::OtherLog { .. } => {
                "two servers archive under one source (a clone, or a primary that was replaced), or \
                 a segment was pushed by hand before it was full. Nothing was overwritten; stop one \
                 of them, or give it a source of its own"
            }
            Self::OtherHistory { .. } => {
                "this server is a clone, or was set back: nothing of its WAL was stored. Stop one \
                 of the two, or give this one a source of its own"
            }
            Self::NameTaken { .. } => {
                "somebody wrote an object where drctl's belongs: find out who may write into the \
                 bucket, and remove it with the bucket's own client; in a bucket that keeps \
                 versions it would do no harm. Nothing is lost: PostgreSQL keeps its WAL and tries \
                 again"
            }
            Self::NotWal { .. } => {
                "nothing was stored and PostgreSQL keeps the file: check the disk, and take a new \
                 base backup"
            }
            Self::Unfinished { .. } => {
                "nothing was stored: leave it to the server, which hands it over when it is full; \
                 `SELECT pg_switch_wal()` ends it now"
            }
            Self::BadSegment { .. } => {
                "nothing was delivered, so that no rows are lost in silence; `drctl timeline` \
                 shows what can be reached, another repository may have the missing WAL"
            }
            Self::LogGap { .. } => {
                "the recovery was stopped so that no rows are lost in silence; `drctl timeline` \
                 shows what can be reached"
            }
            Self::Hook(..) => {
                "nothing was written and nothing was removed: run the hook's command by hand, as the account \
                 that runs drctl, or ask its address with curl from this host; on_failure = \"go-on\" has the \
                 job begin all the same"
            }
            _ => return self.hint_of_audit(),
        })
    }

    /// What to do about the log of what was done.
    fn hint_of_audit(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotLogged(_) => {
                "nothing was removed: a removal that is in no log cannot be told from a loss. Make room in \
                 the state directory and let drctl's account write audit.log there; `drctl audit verify` \
                 shows whether the log is whole"
            }
            Self::AuditBroken(_) => {
                "backups go on, and the log in the bucket stays as it is: find out who changed or removed \
                 audit.log or audit.shipped on this host. `drctl audit verify --bucket` compares it with the bucket; when that is \
                 explained, move audit.shipped out of the state directory, and audit.log too if it is the one \
                 that was changed: a new log begins"
            }
            _ => return None,
        })
    }

    /// What to do about what other accounts can change.
    fn hint_of_others(&self) -> Option<String> {
        let text = match self {
            Self::NotPrivate { .. } => {
                "nothing was done: look at what is in it, then chown it to drctl's account and \
                 chmod it to 0700, or name another directory in [paths]"
            }
            Self::Changeable { .. } => {
                "nothing was done: look at what it says now and who changed it, then let drctl's \
                 account or root own it and nobody else write there (`chown`, `chmod go-w`), the \
                 directories above it included"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// What to do about a key that is not at hand, or not trusted.
    fn hint_of_key(&self) -> Option<String> {
        let text = match self {
            Self::NoIdentity(_) => {
                "name the identity's file with --identity FILE, or in keys.identity: that of any recipient \
                 which `drctl show` lists, the offline recovery identity too"
            }
            Self::NoIdentityToTest => "name its file with --identity FILE, or in keys.identity",
            Self::NoSigningKey => "set keys.signing_key: what is not signed does not count",
            Self::Unpinned(key) => return Some(unpinned(key)),
            _ => return None,
        };
        Some(text.to_owned())
    }

    pub(super) fn hint(&self) -> Option<String> {
        let special = self.hint_of_place().or_else(|| self.hint_of_log());
        if let Some(text) = special.or_else(|| self.hint_of_code()) {
            return Some(text.to_owned());
        }
        let text = match self {
            Self::NoConfiguration(_) => "make one with `drctl init`, or name it with --config FILE",
            Self::Configuration(_) => "correct these lines; `drctl config check` looks again",
            Self::Secret { .. } => {
                "put the secret there, readable by drctl's account alone, or correct its place in the \
                 configuration or on the command line. Nothing was written"
            }
            Self::NotPrivate { .. } | Self::Changeable { .. } => return self.hint_of_others(),
            Self::UnknownSource { known, .. } => {
                let names: Vec<&str> = known.iter().map(SourceId::as_str).collect();
                return Some(format!(
                    "configured are: {}; another one needs a section [sources.NAME] of its own",
                    names.join(", ")
                ));
            }
            Self::SecondAgent(..) | Self::AgentRefused(_) => "`drctl jobs` shows what it does",
            Self::Busy { .. } => "wait until it ends: its lock ends with it",
            Self::NoBackup(_) => {
                "`drctl list` shows what there is, `drctl verify` why something does not count"
            }
            Self::Exists(_) => "nothing was overwritten; choose another place or move it away",
            Self::Segment { .. } => {
                "what needs this object cannot be restored in full; `drctl verify --data` shows what \
                 else is damaged, `drctl list` and `drctl timeline` what else there is"
            }
            Self::BrokenChain(_) => {
                "an incremental backup is worth nothing without those before it: `drctl list` \
                 shows what else there is, `drctl backup SOURCE --full` begins a new chain"
            }
            Self::Mismatch(_) => "do not use what was restored before this is explained",
            Self::NoAgent(_, hint) | Self::NoPlan(_, hint) => hint,
            Self::Incomplete(_) => "nothing was committed; do not trust this store",
            Self::NoIdentity(_) | Self::NoIdentityToTest => return self.hint_of_key(),
            Self::NoSigningKey | Self::Unpinned(_) => return self.hint_of_key(),
            Self::Interrupted => {
                "run the command again; an incomplete backup does not count, and of a restore only \
                 what is named above as proven"
            }
            Self::DrillAborted(_) | Self::DrillSkipped(_) => OF_DRILL,
            Self::Place(_) | Self::NoSandbox(..) => return self.hint_of_sandbox(),
            Self::Runs { .. }
            | Self::AgentSilent(_)
            | Self::Hook(..)
            | Self::NotLogged(_)
            | Self::AuditBroken(_)
            | Self::NotARepository { .. }
            | Self::OtherRepository { .. }
            | Self::MarkerLost { .. }
            | Self::RepositoryExists { .. }
            | Self::OtherLog { .. }
            | Self::OtherHistory { .. }
            | Self::NameTaken { .. }
            | Self::NotWal { .. }
            | Self::Unfinished { .. }
            | Self::BadSegment { .. }
            | Self::LogGap { .. }
            | Self::Target(_)
            | Self::Usage(_) => return None,
        };
        Some(text.to_owned())
    }
}

/// What to do about a signing key that is not pinned.
fn unpinned(key: &str) -> String {
    format!(
        "nothing was signed or stored: add {key} to keys.verifying_keys here and wherever you \
         restore, or put the signing key back that is listed there"
    )
}
