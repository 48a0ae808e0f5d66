//! What a server says beside its answers while it copies its files.
//!
//! Source: `sendDir` in `basebackup.c`: what is neither a file nor a directory, such as a symbolic
//! link, is not sent, and only a warning tells so. The words are in the server's language, the
//! name of the routine is not.

use drctl_model::shown;

/// The routine of the server that sends a directory's files.
const SENDER: &str = "sendDir";

/// The same in words, for a server that does not name its routines.
const SKIPPED: &str = "skipping special file";

/// What lies below these is a cluster's data.
const DATA: &[&str] = &[
    "PG_VERSION",
    "base",
    "global",
    "pg_commit_ts",
    "pg_logical",
    "pg_multixact",
    "pg_tblspc",
    "pg_twophase",
    "pg_xact",
];

/// What nobody misses in a backup: logs, and what is of a running server only.
const OF_NO_USE: &[&str] = &["log", "pg_log", "pg_stat", "postmaster.opts", "postmaster.pid"];

/// How many texts of a kind are kept.
const KEPT: usize = 20;

/// How many characters of a text are shown.
const SHOWN: usize = 300;

/// A message that is no answer.
#[derive(Debug, Default)]
pub(super) struct Notice {
    /// The severity, in English where the server tells it so.
    pub(super) severity: String,
    /// The text.
    pub(super) message: String,
    /// The routine of the server that says it.
    pub(super) routine: String,
}

/// What was said that matters to a backup.
#[derive(Debug, Default)]
pub(super) struct Heard {
    lost: Vec<String>,
    left_out: Vec<String>,
    warnings: Vec<String>,
}

impl Heard {
    /// Takes a message up.
    pub(super) fn hear(&mut self, notice: &Notice) {
        let list = match judge(notice) {
            Meaning::Lost => &mut self.lost,
            Meaning::LeftOut => &mut self.left_out,
            Meaning::Warning => &mut self.warnings,
            Meaning::Nothing => return,
        };
        let text = path_in(&notice.message).filter(|_| is_skipped(notice));
        let text = shown(text.unwrap_or(&notice.message), SHOWN);
        // A server that estimates the size first says the same twice.
        if list.len() < KEPT && !list.contains(&text) {
            list.push(text);
        }
    }

    /// The paths of data that the server did not send.
    pub(super) fn lost(&self) -> &[String] {
        &self.lost
    }

    /// What an operator should know of a backup that is good.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.left_out.is_empty() {
            notes.push(format!(
                "symbolic links and special files are not in the base backup: {}",
                self.left_out.join(", ")
            ));
        }
        notes.extend(self.warnings.iter().map(|text| format!("the server warned: {text}")));
        notes
    }
}

enum Meaning {
    Lost,
    LeftOut,
    Warning,
    Nothing,
}

fn is_skipped(notice: &Notice) -> bool {
    notice.routine == SENDER || notice.message.starts_with(SKIPPED)
}

fn judge(notice: &Notice) -> Meaning {
    if notice.severity != "WARNING" {
        return Meaning::Nothing;
    }
    if !is_skipped(notice) {
        return Meaning::Warning;
    }
    match path_in(&notice.message) {
        // Outside of the data directory are tablespaces alone.
        Some(path) => match path.strip_prefix("./") {
            Some(inside) => below_data_directory(inside),
            None => Meaning::Lost,
        },
        None => Meaning::Lost,
    }
}

fn below_data_directory(path: &str) -> Meaning {
    let first = path.split('/').next().unwrap_or_default();
    if DATA.contains(&first) {
        Meaning::Lost
    } else if OF_NO_USE.contains(&first) || first.starts_with(".s.PGSQL.") {
        Meaning::Nothing
    } else {
        Meaning::LeftOut
    }
}

/// The path that a message names, whatever quotation marks its language has.
fn path_in(message: &str) -> Option<&str> {
    let slash = message.find('/')?;
    let start = if message[..slash].ends_with('.') { slash - 1 } else { slash };
    let quotes = ['"', '\'', '»', '«', '“', '”', '„', '’', '‘', '「', '」', '.', ' '];
    Some(message[start..].trim_end_matches(quotes)).filter(|path| path.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(messages: &[(&str, &str)]) -> Heard {
        let mut heard = Heard::default();
        for (message, routine) in messages {
            let (message, routine) = ((*message).to_owned(), (*routine).to_owned());
            heard.hear(&Notice { severity: "WARNING".into(), message, routine });
        }
        heard
    }

    #[test]
    fn data_that_is_skipped_is_lost_in_every_language() {
        let lost = [
            ("skipping special file \"./base/16384\"", SENDER, "./base/16384"),
            ("skipping special file \"./base/5/16390\"", "", "./base/5/16390"),
            ("überspringe besondere Datei »./pg_xact«", SENDER, "./pg_xact"),
            (
                "ファイル\"./pg_multixact/members\"をスキップ",
                SENDER,
                "./pg_multixact/members\"をスキップ",
            ),
            ("skipping special file \"/srv/ts/PG_15_1/5/1\"", SENDER, "/srv/ts/PG_15_1/5/1"),
            ("skipping special file \"./pg_tblspc/16385\"", SENDER, "./pg_tblspc/16385"),
            ("something odd", SENDER, "something odd"),
        ];
        for (message, routine, path) in lost {
            assert_eq!(heard(&[(message, routine)]).lost(), [path], "{message}");
        }
    }

    #[test]
    fn what_is_no_data_is_told_or_not_missed() {
        let skip = |path: &str| format!("skipping special file \"{path}\"");
        for path in ["./log", "./pg_log", "./.s.PGSQL.5432"] {
            let heard = heard(&[(&skip(path), SENDER)]);
            assert!(heard.lost().is_empty() && heard.notes().is_empty(), "{path}");
        }
        for path in ["./postgresql.conf", "./conf.d", "./base-of-something"] {
            let heard = heard(&[(&skip(path), SENDER)]);
            assert!(heard.lost().is_empty(), "{path}");
            assert!(heard.notes()[0].ends_with(path), "{:?}", heard.notes());
        }
        let said = heard(&[("could not verify checksum in file \"./base/5/1\"", "sendFile")]);
        assert!(said.lost().is_empty() && said.notes()[0].contains("could not verify"));
        let mut quiet = Heard::default();
        let severity = "NOTICE".to_owned();
        quiet.hear(&Notice { severity, message: skip("./base"), routine: SENDER.into() });
        assert!(quiet.lost().is_empty() && quiet.notes().is_empty());
    }
}
