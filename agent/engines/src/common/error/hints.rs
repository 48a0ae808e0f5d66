//! What an operator can do about an error.

use std::fmt::Write as _;

use crate::common::{Blocker, EngineError, Leftover, ServerSaid};

impl EngineError {
    /// What the operator can do about it, as imperative sentences.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            EngineError::ToolMissing { major, .. } | EngineError::VersionMismatch { major, .. } => {
                format!("install postgresql-client-{major}, or point bin_dir at its programs")
            }
            EngineError::OlderServer { dump, .. } => {
                format!("restore into PostgreSQL {dump} or later; nothing was changed")
            }
            EngineError::Connect { source, .. } => connect_hint(source),
            EngineError::Auth { source, .. } => auth_hint(source),
            EngineError::NoEntry { database, .. } => no_entry_hint(database),
            EngineError::NoDatabase { .. } => {
                "check the names in the configuration against `psql -l`".to_owned()
            }
            EngineError::Locks { blockers, .. } => locks_hint(blockers) + ", or raise lock_timeout",
            EngineError::Waits { blockers, .. } => locks_hint(blockers) + ", and restore again",
            EngineError::Unfinished { names } => unfinished_hint(names),
            EngineError::Unsettled { .. } => {
                "run the backup when no tables are being created and dropped, or raise \
                 lock_attempts"
                    .to_owned()
            }
            EngineError::NotEmpty { .. } => {
                "restore into an empty server or under another database name; nothing was changed"
                    .to_owned()
            }
            EngineError::Exists { name } => {
                format!("restore under another name, or drop `{name}` first; nothing was changed")
            }
            EngineError::Permission { advice, .. } => advice.clone(),
            EngineError::Damaged { .. } | EngineError::Differs { .. } => {
                "verify the backup, and restore another one if it is damaged in the bucket"
                    .to_owned()
            }
            EngineError::RestoreFailed { database, left, source } => {
                return restore_hint(database, *left, source);
            }
            EngineError::ToolFailed { tool, .. } => format!(
                "correct what {tool} complains of and run the command again; earlier backups are \
                 not affected"
            ),
            EngineError::Query { .. } => {
                "look into the server's log for the same moment; earlier backups are not affected"
                    .to_owned()
            }
            EngineError::Io { .. } => {
                "check room and permissions there, and run the command again; earlier backups are \
                 not affected"
                    .to_owned()
            }
            EngineError::Own(own) => return own.said().hint(),
            EngineError::Pooler { .. }
            | EngineError::Silent { .. }
            | EngineError::Structure { .. }
            | EngineError::LeftOut { .. }
            | EngineError::NoTable { .. }
            | EngineError::Counts { .. } => return self.backup_hint(),
            EngineError::Config(_) => {
                "correct the configuration or the command, and run it again".to_owned()
            }
        };
        Some(hint)
    }

    /// The same where a backup is at fault, or what was looked for in one.
    fn backup_hint(&self) -> Option<String> {
        Some(match self {
            EngineError::NoTable { .. } => {
                "nothing was lost, and the recovery stands: name tables that are there and hold \
                 rows"
                    .to_owned()
            }
            EngineError::Pooler { .. } => {
                "name the server's own host and port, and not those of pgbouncer or another pooler: \
                 its sessions would keep our settings, and applications would get them; nothing was \
                 changed"
                    .to_owned()
            }
            EngineError::Silent { .. } => {
                "look what the server does (pg_stat_activity) and whether its disks answer; raise \
                 `silence` of the source if it needs longer; earlier backups are not affected"
                    .to_owned()
            }
            EngineError::Structure { .. } => {
                "this attempt is not a backup and earlier backups are not affected; run it again, \
                 and check memory and disks of this host if it repeats"
                    .to_owned()
            }
            EngineError::Counts { .. } => {
                "this attempt is not a backup and earlier backups are not affected; run it again, \
                 and check the tables for a damaged index or heap (amcheck) if it repeats"
                    .to_owned()
            }
            EngineError::LeftOut { .. } => {
                "PostgreSQL copies nothing behind a symbolic link of its data directory, and no \
                 tablespace in place: move the data back to where the link is, or into a \
                 tablespace (CREATE TABLESPACE, ALTER DATABASE or TABLE … SET TABLESPACE); `find \
                 DATA_DIRECTORY -type l` shows all links. This attempt is not a backup, and base \
                 backups taken since the link was made lack the same data"
                    .to_owned()
            }
            _ => return None,
        })
    }
}

fn restore_hint(database: &str, left: Leftover, source: &EngineError) -> Option<String> {
    let before = source.hint();
    if !matches!(left, Leftover::Ours | Leftover::Theirs) {
        return before;
    }
    let drop = format!("DROP DATABASE {};", crate::pg::server::typed_ident(database));
    let before = before.map(|hint| hint + "; ").unwrap_or_default();
    Some(format!("{before}remove what was restored with `{drop}` before the next attempt"))
}

fn unfinished_hint(names: &[String]) -> String {
    let drop = |name: &String| format!("DROP DATABASE {};", crate::pg::server::typed_ident(name));
    let drop: Vec<String> = names.iter().map(drop).collect();
    format!(
        "let a restore that is under way come to its end; if none is (`SELECT * FROM \
         pg_stat_activity`), remove what was restored with `{}` and restore again. Nothing was \
         changed",
        drop.join(" ")
    )
}

fn connect_hint(said: &ServerSaid) -> String {
    match said.sqlstate() {
        Some("53300") => {
            "all connections that the server, the role or the database may have are taken: free \
             some, or raise the limit (max_connections; ALTER ROLE or ALTER DATABASE … CONNECTION \
             LIMIT); a restored cluster that lets nobody in is recovered to before the limit was set"
        }
        Some("57P03") => "the server is starting up or shutting down: try again in a moment",
        None if said.to_string().contains("TLS") => {
            "check sslmode and ssl_root_cert (of a restore --to-sslmode and --to-ca-file) against the \
             server's certificate"
        }
        _ => "check that the server runs and that host, port and sslmode are right",
    }
    .to_owned()
}

fn no_entry_hint(database: &str) -> String {
    format!(
        "look at what is set for that database and for the role (psql's `\\drds`) and take back \
         what keeps sessions out (`ALTER DATABASE {} RESET ALL`), or leave the database out \
         (exclude_databases); until then no backup of this source is made, and earlier backups \
         are not affected",
        crate::pg::server::typed_ident(database)
    )
}

fn auth_hint(said: &ServerSaid) -> String {
    match said.sqlstate() {
        None if said.to_string().contains(crate::pg::server::WITHHELD) => {
            "set sslmode = \"verify-full\" (with ssl_root_cert where the certificate is of your own \
             authority), or let the role log in by scram-sha-256 (pg_hba.conf); if the server never \
             asked so before, somebody may pose as it"
        }
        Some("28P01") => "check the password of the role",
        Some("28000") => "check that the role exists and that pg_hba.conf lets it in from here",
        _ => "set the role's password (`password` of the source, or --to-password-file), or let it \
              in by pg_hba.conf",
    }
    .to_owned()
}

fn locks_hint(blockers: &[Blocker]) -> String {
    let Some(first) = blockers.first() else {
        return "run it when no schema changes run".to_owned();
    };
    let mut text = String::new();
    for blocker in blockers.iter().take(5) {
        let Blocker { pid, user, application, query, table } = blocker;
        let _ = write!(
            text,
            "{table} is locked or waited for by pid {pid} ({user}, {application}; its last \
             statement: `{query}`); "
        );
    }
    let pid = first.pid;
    text + &format!("wait for it, or end it with `SELECT pg_terminate_backend({pid})`")
}
