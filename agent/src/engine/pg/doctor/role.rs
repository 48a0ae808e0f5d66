//! Whether the role of a source may do what it must, and no more.

use drctl_engines::pg::RoleReport;
use drctl_model::SourceId;
use drctl_policies::PgDump;

use crate::host::{Checks, Level};

/// Looks at the role that dumps.
pub(super) fn dumps(id: &SourceId, pg: &PgDump, role: &RoleReport, found: &mut Checks) {
    let needs = "a dump needs no more than pg_read_all_data, with role_passwords = false";
    superuser(id, role, needs, found);
    if pg.globals && pg.role_passwords && !role.reads_passwords {
        let text = format!("{} may not read the passwords of roles", role.name);
        let hint = Some("set role_passwords = false and keep them elsewhere, or use a superuser");
        found.add(Level::Bad, &format!("source.{id}.globals"), text, hint);
    }
}

/// Looks at the role that takes base backups.
pub(super) fn base_backups(id: &SourceId, role: &RoleReport, found: &mut Checks) {
    superuser(id, role, "a base backup needs no more than REPLICATION", found);
}

fn superuser(id: &SourceId, role: &RoleReport, needs: &str, found: &mut Checks) {
    if !role.superuser {
        return;
    }
    let text = format!(
        "{} is a superuser: whoever steals this login controls the server; {needs}",
        role.name
    );
    let hint =
        "make a role of its own, as docs/postgresql.md says, and name it as the source's user";
    found.warn(&format!("source.{id}.role"), text, hint);
}
