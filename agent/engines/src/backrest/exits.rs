//! pgBackRest's exit codes (its `build/error.yaml`), and what to do about each.

use std::fmt;

/// What kind of trouble an exit code tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitKind {
    /// Another pgBackRest works on the stanza: no failure, and worth waiting for.
    Busy,
    /// The stanza was stopped by `pgbackrest stop`.
    Stopped,
    /// The server's WAL does not get into the archive.
    Archiving,
    /// One segment has two contents in the archive.
    SplitBrain,
    /// The repository, or what is in it, cannot be read.
    Repository,
    /// There is no such backup.
    NoBackup,
    /// The configuration or the command.
    Configuration,
    /// The server.
    Server,
    /// The place that a restore goes to.
    Target,
    /// A signal ended it.
    Signal,
    /// The system, or pgBackRest itself.
    Other,
}

/// An exit code of pgBackRest. `archive-get`'s 1 (absent) is none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The number.
    pub code: i32,
    /// What pgBackRest calls it.
    pub name: &'static str,
    /// What that means.
    pub meaning: &'static str,
    /// What kind of trouble it is.
    pub kind: ExitKind,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (exit status {}, {})", self.meaning, self.code, self.name)
    }
}

const fn exit(code: i32, name: &'static str, kind: ExitKind, meaning: &'static str) -> Exit {
    Exit { code, name, meaning, kind }
}

/// All of them, in order.
const EXITS: &[Exit] = {
    use ExitKind::{
        Archiving, Busy, Configuration, NoBackup, Other, Repository, Server, Signal, SplitBrain,
        Stopped, Target,
    };
    &[
        exit(25, "assert", Other, "it has an internal error"),
        exit(26, "checksum", Repository, "a file is damaged: it has another checksum"),
        exit(27, "config", Configuration, "its configuration is wrong"),
        exit(28, "file-invalid", Repository, "a file is not what it should be"),
        exit(29, "format", Repository, "a file cannot be understood, or the passphrase is wrong"),
        exit(30, "command-required", Configuration, "no command was given"),
        exit(31, "option-invalid", Configuration, "an option is not allowed there"),
        exit(
            32,
            "option-invalid-value",
            Configuration,
            "an option has a value that is not allowed",
        ),
        exit(37, "option-required", Configuration, "an option is missing"),
        exit(38, "pg-running", Target, "a server runs in the directory to restore into"),
        exit(39, "protocol", Other, "its processes cannot communicate"),
        exit(40, "path-not-empty", Target, "the directory to restore into is not empty"),
        exit(41, "file-open", Repository, "a file cannot be opened"),
        exit(42, "file-read", Repository, "a file cannot be read"),
        exit(43, "param-required", Configuration, "a parameter is missing"),
        exit(44, "archive-mismatch", Archiving, "the archive belongs to another cluster"),
        exit(
            45,
            "archive-duplicate",
            SplitBrain,
            "the archive has two different segments under one name",
        ),
        exit(46, "version-not-supported", Server, "it does not know this version of PostgreSQL"),
        exit(47, "path-create", Other, "a directory cannot be made"),
        exit(48, "command-invalid", Configuration, "it does not know the command"),
        exit(49, "host-connect", Other, "the other host cannot be reached"),
        exit(50, "lock-acquire", Busy, "another pgBackRest works on the stanza"),
        exit(51, "backup-mismatch", Server, "the stanza's backups are of another cluster"),
        exit(52, "file-sync", Other, "a file cannot be synced"),
        exit(53, "path-open", Repository, "a directory cannot be opened"),
        exit(54, "path-sync", Other, "a directory cannot be synced"),
        exit(55, "file-missing", Repository, "a file is missing, or the stanza was never created"),
        exit(56, "db-connect", Server, "the server cannot be reached"),
        exit(57, "db-query", Server, "a query on the server failed"),
        exit(58, "db-mismatch", Server, "the stanza belongs to another cluster than the server's"),
        exit(60, "file-remove", Other, "a file cannot be removed"),
        exit(61, "path-remove", Other, "a directory cannot be removed"),
        exit(62, "stop", Stopped, "the stanza is stopped by a stop file"),
        exit(63, "term", Signal, "it was ended by a signal"),
        exit(64, "file-write", Other, "a file cannot be written"),
        exit(67, "feature-not-supported", Configuration, "this cannot be done there"),
        exit(68, "archive-command-invalid", Archiving, "archive_command does not call pgBackRest"),
        exit(69, "link-expected", Other, "a symbolic link was expected"),
        exit(70, "link-destination", Target, "a symbolic link has a wrong target"),
        exit(72, "host-invalid", Configuration, "the command does not belong on this host"),
        exit(73, "path-missing", Configuration, "a directory is missing"),
        exit(74, "file-move", Other, "a file cannot be moved"),
        exit(75, "backup-set-invalid", NoBackup, "there is no such backup"),
        exit(76, "tablespace-map", Configuration, "a tablespace cannot be mapped"),
        exit(78, "link-map", Configuration, "a link cannot be mapped"),
        exit(79, "file-close", Other, "a file cannot be closed"),
        exit(80, "db-missing", Configuration, "a database is not in the backup"),
        exit(81, "db-invalid", Configuration, "a database cannot be chosen"),
        exit(82, "archive-timeout", Archiving, "the WAL did not reach the archive in time"),
        exit(83, "file-mode", Other, "a file has a wrong mode"),
        exit(
            87,
            "archive-disabled",
            Archiving,
            "archive_mode is off, or has a value that cannot be used",
        ),
        exit(88, "file-owner", Target, "a file's owner cannot be set"),
        exit(89, "user-missing", Configuration, "there is no such account"),
        exit(93, "file-exists", Target, "a file is there already"),
        exit(94, "memory", Other, "it ran out of memory"),
        exit(95, "crypto", Repository, "the passphrase is wrong, or a file is damaged"),
        exit(96, "param-invalid", Configuration, "a parameter is not allowed"),
        exit(97, "path-close", Other, "a directory cannot be closed"),
        exit(98, "file-info", Repository, "the state of a file cannot be read"),
        exit(99, "json-format", Repository, "a file cannot be understood"),
        exit(100, "kernel", Other, "the system refuses"),
        exit(101, "service", Repository, "the repository's service returned an error"),
        exit(102, "execute", Other, "a program cannot be started"),
        exit(103, "repo-invalid", Repository, "no repository can be read"),
        exit(104, "command", Other, "the command had errors"),
        exit(105, "access", Repository, "the repository refuses the credentials"),
        exit(106, "clock", Other, "the clock was changed"),
        exit(122, "runtime", Other, "it failed"),
        exit(124, "unhandled", Other, "it failed without knowing why"),
        exit(125, "unknown", Other, "it failed without saying why"),
    ]
};

impl Exit {
    /// Whether it says that what it has read is damaged: the same again is damaged again.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self.name, "checksum" | "file-invalid" | "format")
    }

    /// What an exit status means; an unknown one is said to be unknown.
    #[must_use]
    pub fn of(code: i32) -> Exit {
        let known = EXITS.iter().find(|exit| exit.code == code).copied();
        known.unwrap_or(exit(code, "unknown", ExitKind::Other, "it failed in an unknown way"))
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match (self.code, self.kind) {
            (_, ExitKind::Busy) => {
                "wait for the other pgBackRest to end (`ps -ef | grep pgbackrest`), and run the \
                 command again; nothing was harmed"
            }
            (_, ExitKind::Stopped) => {
                "somebody ran `pgbackrest stop`: find out why, then run `pgbackrest --stanza=… \
                 start`; until then no WAL is archived"
            }
            (_, ExitKind::Archiving) => self.archiving_hint(),
            (_, ExitKind::SplitBrain) => {
                "two servers archive into this stanza, or did after a split: stop the wrong one, \
                 remove its segments by hand, and take a full backup"
            }
            (29 | 95, _) => {
                "check the passphrase (cipher_pass of the source) and then whether the file is \
                 whole: `drctl verify`"
            }
            (26, _) => {
                "`drctl verify` names the damaged backups; use another one, or a copy of the \
                 repository"
            }
            (55, _) => {
                "if the stanza is new run `drctl stanza config SOURCE` and `drctl stanza create SOURCE`; if it is \
                 not, the repository is not where it should be (is it mounted?), or has lost files"
            }
            (_, ExitKind::Repository) => {
                "check that the repository can be reached and read from here: path, mount, \
                 credentials, certificate; `drctl doctor` tries it"
            }
            (_, ExitKind::NoBackup) => {
                "`drctl list` shows what is there; the backup may have expired meanwhile"
            }
            (27, _) => {
                "correct pgBackRest's configuration, or start the server: pgBackRest reports the \
                 same error if it cannot reach one; nothing was changed"
            }
            (_, ExitKind::Configuration) => {
                "correct pgBackRest's configuration or the source's settings; nothing was changed"
            }
            (51 | 58, _) => {
                "check that stanza and server belong together; if the cluster was upgraded or \
                 replaced on purpose, run `drctl stanza upgrade` and take a full backup"
            }
            (_, ExitKind::Server) => {
                "check that the server runs, and pg1-path, pg1-port and pg1-socket-path of the \
                 stanza; pgBackRest runs as the server's own account"
            }
            (_, ExitKind::Target) => "restore into a new directory; nothing was changed",
            (_, ExitKind::Signal) => "run the command again; earlier backups are not affected",
            (104, _) => "correct what pgBackRest complains of, and run the command again",
            (_, ExitKind::Other) => {
                "correct what pgBackRest complains of (its log has more), and run the command \
                 again; earlier backups are not affected"
            }
        }
    }

    /// Where the server's WAL does not get into the archive.
    fn archiving_hint(self) -> &'static str {
        match self.code {
            44 => {
                "another cluster archives here: give it a stanza of its own, or run `drctl stanza \
                 upgrade` if the cluster was replaced on purpose"
            }
            68 => {
                "set archive_command to `pgbackrest --stanza=… archive-push %p` and reload; until \
                 then no WAL is archived"
            }
            87 => {
                "set archive_mode to on and restart the server: without its WAL a backup cannot be \
                 restored"
            }
            _ => {
                "look at last_failed_wal in pg_stat_archiver and into the server's log: \
                 archive_command fails or is too slow; earlier backups are not affected"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_name_and_a_hint() {
        assert!(EXITS.is_sorted_by(|a, b| a.code < b.code));
        for exit in EXITS {
            // All others are what other programs and signals end with.
            assert!((25..=125).contains(&exit.code), "{exit}");
            assert!(!exit.hint().is_empty() && !exit.meaning.is_empty(), "{exit}");
            assert_eq!(EXITS.iter().filter(|other| other.name == exit.name).count(), 1, "{exit}");
        }
        assert_eq!(Exit::of(50).kind, ExitKind::Busy);
        assert_eq!(
            Exit::of(50).to_string(),
            "another pgBackRest works on the stanza (exit status 50, lock-acquire)"
        );
        assert_eq!(Exit::of(7).kind, ExitKind::Other);
    }

    #[test]
    fn those_that_people_meet_are_told_apart() {
        let cases = [(62, "start"), (68, "archive_command"), (82, "pg_stat_archiver")];
        let more = [(87, "archive_mode"), (45, "two servers"), (75, "expired"), (103, "reached")];
        let rest = [(95, "passphrase"), (58, "belong together"), (40, "new directory")];
        for (code, word) in cases.into_iter().chain(more).chain(rest) {
            assert!(Exit::of(code).hint().contains(word), "{code}: {}", Exit::of(code).hint());
        }
    }
}
