//! Whether the role of a source may do what it must, and no more.

use drctl_engines::pg::RoleReport;
use drctl_model::SourceId;
use drctl_policies::Engine;

use super::Findings;
use crate::host::Level;

/// Looks at the role.
pub(super) fn look(id: &SourceId, engine: &Engine, role: &RoleReport, found: &mut Findings) {
    let dumped = match engine {
        Engine::PgDump(pg) => Some(pg),
        Engine::BaseBackup(_) => None,
        // It is the server's own account that pgBackRest runs under.
        Engine::Pgbackrest(_) => return,
    };
    if role.superuser {
        let needs = match dumped {
            Some(_) => "a dump needs no more than pg_read_all_data, with role_passwords = false",
            None => "a base backup needs no more than REPLICATION",
        };
        let text = format!(
            "{} is a superuser: whoever gets hold of this login owns the server; {needs}",
            role.name
        );
        let hint = "make a role of its own, as docs/postgresql.md says, and name it as the \
                    source's user";
        found.warn(&format!("source.{id}.role"), text, hint);
    }
    let Some(pg) = dumped else { return };
    if pg.globals && pg.role_passwords && !role.reads_passwords {
        let text = format!("{} may not read the passwords of roles", role.name);
        let hint = Some("set role_passwords = false and keep them elsewhere, or use a superuser");
        found.add(Level::Bad, &format!("source.{id}.globals"), text, hint);
    }
}
