//! pgBackRest, its archive, and whether the server archives into it.

use drctl_engines::pg::{ArchivesBy, Copied, PgServer, archives_by};
use drctl_model::{FindingCode, SourceId, shown};
use drctl_policies::Pgbackrest;

use super::{StanzaView, engine};
use crate::engine::{Looked, pg};
use crate::host::Checks;

/// pgBackRest itself, and whether its archive holds what it should.
pub(super) async fn look(
    looked: &Looked<'_>,
    server: &PgServer,
    settings: &Pgbackrest,
    found: &mut Checks,
) {
    pgbackrest(looked, server, settings, found).await;
    pg::doctor::log(looked.setup, server, looked.id, found).await;
    pg::doctor::outside::look(server, looked.id, Copied::Cluster, found).await;
}

async fn pgbackrest(
    looked: &Looked<'_>,
    server: &PgServer,
    settings: &Pgbackrest,
    found: &mut Checks,
) {
    let Looked { setup, id, .. } = *looked;
    let check = format!("source.{id}.pgbackrest");
    let Some(engine) = found.take(&check, engine(setup, settings)) else { return };
    let Some(version) = found.take(&check, engine.version().await.map_err(Into::into)) else {
        return;
    };
    let by = settings.run_as.as_ref().map(|account| format!(", run by the helper of {account}"));
    found.good(&check, format!("pgBackRest {version}{}", by.unwrap_or_default()));
    command(server, (id, settings), found).await;
    let check = format!("source.{id}.archive");
    let seen = StanzaView::with_server(setup, id.as_str(), None).await;
    let Some(Some(stanza)) = found.take(&check, seen) else { return };
    let Some(truth) = found.take(&check, stanza.truth()) else { return };
    if let Some(Err(why)) = &stanza.archived {
        let hint = "only the list was checked: make sure that the server can be reached";
        found.warn(&check, format!("what the server has archived is not known: {why}"), hint);
    }
    for fault in &truth.faults {
        let hint = "pgBackRest's own info and verify do not show this; take a full backup, and see \
                    `drctl timeline` for what can be reached";
        let code = if fault.code == "log_gap" { FindingCode::LogGap } else { FindingCode::Damaged };
        found.finding(code, &check, fault.text.clone(), hint);
    }
    if truth.faults.is_empty() {
        let (segments, backups) = (truth.segments, stanza.info.backups.len());
        let text = format!("{segments} segment(s) without a gap, {backups} backup(s)");
        found.good(&check, text);
    }
}

/// Whether the server hands its log to this stanza, as far as its settings show.
async fn command(server: &PgServer, (id, settings): (&SourceId, &Pgbackrest), found: &mut Checks) {
    let check = format!("source.{id}.archive_command");
    let asked = archives_by(server, "drctl/doctor").await.map_err(Into::into);
    let Some(by) = found.take(&check, asked) else { return };
    match elsewhere(&by, &settings.stanza) {
        Some(text) => {
            let hint = format!(
                "set archive_command as `drctl stanza config {id}` prints it; where a script of your \
                 own calls it, see that `drctl stanza check {id}` succeeds"
            );
            found.warn(&check, format!("{text}: no WAL may get into the stanza"), &hint);
        }
        None => found.good(&check, format!("it calls the stanza {}", settings.stanza)),
    }
}

/// Where else the log goes, in words.
fn elsewhere(by: &ArchivesBy, stanza: &str) -> Option<String> {
    let ArchivesBy { mode, command, library } = by;
    if mode == "off" {
        return Some("the server archives nothing (archive_mode = off)".to_owned());
    }
    if !library.is_empty() {
        return Some(format!("the server archives by archive_library = `{}`", shown(library, 100)));
    }
    let is = format!("archive_command is `{}`", shown(command, 200));
    let calls = command.contains("archive-push");
    let stanzas: Vec<&str> = command.split("--stanza").skip(1).map(name).collect();
    match (calls, stanzas.is_empty() || stanzas.contains(&stanza)) {
        (true, true) => None,
        (true, false) => Some(format!("{is}, which is of another stanza than {stanza}")),
        (false, _) => Some(format!("{is}, and not `archive-push` of the stanza {stanza}")),
    }
}

/// The name that stands behind `--stanza`.
fn name(rest: &str) -> &str {
    let rest = rest.trim_start_matches(['=', ' ', '\'', '"']);
    rest.split([' ', '\'', '"', ';', '&', '|']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_of_the_stanza_that_it_names() {
        let told = |mode: &str, command: &str, library: &str| {
            let by = ArchivesBy {
                mode: mode.to_owned(),
                command: command.to_owned(),
                library: library.to_owned(),
            };
            elsewhere(&by, "shop")
        };
        for good in [
            "pgbackrest --stanza=shop archive-push %p",
            "pgbackrest --stanza='shop' archive-push \"%p\"",
            "pgbackrest --stanza shop --config=/x archive-push %p && drctl wal push shop %p",
            "pgbackrest archive-push %p",
        ] {
            assert_eq!(told("on", good, ""), None, "{good}");
        }
        for bad in [
            "pgbackrest --stanza=shop2 archive-push %p",
            "pgbackrest --stanza=sho archive-push %p",
            "drctl wal push shop %p",
            "pgbackrest --stanza=shop info",
            "",
        ] {
            assert!(told("on", bad, "").is_some_and(|text| text.contains(bad)), "{bad}");
        }
        let command = "pgbackrest --stanza=shop archive-push %p";
        assert!(told("off", command, "").is_some_and(|text| text.contains("archive_mode")));
        assert!(told("always", command, "basic_archive").is_some());
    }
}
