//! Whether a PostgreSQL server can be backed up, and is.

mod base_backup;
mod cluster;
mod log;
pub(crate) mod outside;
mod role;

use std::path::PathBuf;

use drctl_engines::pg::{
    Copied, DatabaseReport, PgServer, ServerReport, open_to_others, probe, typed_ident,
};
use drctl_policies::{BaseBackup, PgDump, Server, Source};

pub(crate) use log::look as log;

use super::dump::copied;
use crate::engine::Looked;
use crate::host::{Checks, Level};

/// What it costs that others may write where a server's socket lies.
pub(crate) const SOCKET_COST: &str = "other accounts may put a socket of their own there: drctl \
                                      trusts the server only if it runs as root or as drctl's own \
                                      account";

/// Where others may put a socket that would be taken for a server's, and nobody is named to listen
/// there.
pub(crate) fn open_socket(server: &Server) -> Option<PathBuf> {
    open_to_others(server.unnamed_socket()?)
}

/// What is looked at of any source of PostgreSQL's: how its server is reached, and whether it answers;
/// nothing where it does not.
pub(crate) async fn server(
    looked: &Looked<'_>,
    source: &Source,
    found: &mut Checks,
) -> Option<(PgServer, ServerReport)> {
    let Looked { setup, id, .. } = looked;
    let check = format!("source.{id}");
    let configured = source.engine.server();
    if let Some((configured, cost)) = configured.and_then(|one| Some((one, one.ssl_cost()?))) {
        let text = format!("sslmode = \"{}\": {cost}", configured.sslmode.as_str());
        let hint = "set sslmode = \"verify-full\", with ssl_root_cert for an authority of your own";
        found.warn(&format!("{check}.sslmode"), text, hint);
    }
    if let Some(place) = configured.and_then(open_socket) {
        let text = format!("{}: {SOCKET_COST}", place.display());
        found.warn(
            &format!("{check}.socket"),
            text,
            "set require_peer = \"ACCOUNT\" to the account that the server runs as",
        );
    }
    log::refused(setup, id, found).await;
    let server = found.take(&check, setup.server(source))?;
    let probed = probe(&server, "drctl/doctor").await.map_err(Into::into);
    let report = found.take(&check, probed)?;
    found.good(&check, format!("PostgreSQL {} at {}", report.version, server.target()));
    Some((server, report))
}

/// Whether base backups can be taken of it, and its log be stored.
pub(super) async fn base_backups(
    looked: &Looked<'_>,
    (server, report): (&PgServer, &ServerReport),
    base: &BaseBackup,
    found: &mut Checks,
) {
    let Looked { setup, id, repository } = *looked;
    role::base_backups(id, &report.role, found);
    base_backup::look(setup, (server, repository), (id, base), found).await;
    log::look(setup, server, id, found).await;
    log::compare(server, repository, id, found).await;
    outside::look(server, id, Copied::Cluster, found).await;
}

/// Whether its databases can be dumped.
pub(super) async fn dumps(
    looked: &Looked<'_>,
    pg: &PgDump,
    (server, mut report): (PgServer, ServerReport),
    found: &mut Checks,
) {
    let Looked { setup, id, .. } = *looked;
    let check = format!("source.{id}");
    cluster::dumped(setup, id, &report.cluster, found).await;
    role::dumps(id, pg, &report.role, found);
    if let Some(error) = report.refused.take() {
        found.bad(&format!("{check}.damage"), &error.into());
    }
    if let Some(names) = &pg.databases {
        found.take(&format!("{check}.databases"), report.has_all(names).map_err(Into::into));
    }
    let tools = format!("{check}.tools");
    for (name, tool) in report.tools {
        if let Some(tool) = found.take(&tools, tool.map_err(Into::into)) {
            found.good(&tools, format!("{name} {} at {}", tool.version, tool.path.display()));
        }
    }
    for database in report.databases.into_iter().filter(|database| wanted(pg, &database.name)) {
        dumped(&check, database, &report.role.name, found);
    }
    outside::look(&server, id, copied(pg), found).await;
}

/// Whether a database can be dumped.
fn dumped(check: &str, database: DatabaseReport, role: &str, found: &mut Checks) {
    let grants = format!("{check}.grants");
    left_out(check, &database, found);
    if let Some(error) = database.error {
        found.bad(&grants, &error.into());
    } else if database.unreadable.is_empty() {
        let text = format!("all {} table(s) of {} can be read", database.tables, database.name);
        found.good(&grants, text);
    } else {
        let names = database.unreadable.iter().take(5);
        let names: Vec<String> = names.map(|t| format!("{}.{}", t.schema, t.table)).collect();
        let count = database.unreadable.len();
        let text =
            format!("{count} table(s) of {} cannot be read: {}", database.name, names.join(", "));
        let hint = format!("run `GRANT pg_read_all_data TO {};`", typed_ident(role));
        found.add(Level::Bad, &grants, text, Some(&hint));
    }
}

/// What no dump holds: tables of extensions, and rows that the server is told to hide.
fn left_out(check: &str, database: &DatabaseReport, found: &mut Checks) {
    for member in database.members.iter().take(20) {
        let hint = match member.added {
            true => {
                "remove it from the extension (ALTER EXTENSION … DROP TABLE …): until then no dump \
                 holds it"
            }
            false => "back the cluster up with engine = \"base_backup\" too, if its rows count",
        };
        found.warn(&format!("{check}.extensions"), member.text(&database.name), hint);
    }
    for name in &database.hiding {
        let text = format!("{name} is on in {}: damaged pages look empty or sound", database.name);
        let hint = "reset it where it is set (ALTER SYSTEM, DATABASE or ROLE … RESET), and restart \
                    the server";
        found.warn(&format!("{check}.damage"), text, hint);
    }
}

fn wanted(pg: &PgDump, database: &str) -> bool {
    match &pg.databases {
        Some(names) => names.iter().any(|name| name == database),
        None => !pg.exclude_databases.iter().any(|name| name == database),
    }
}
