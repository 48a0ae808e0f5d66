//! Roles and tablespaces that a server has already, and which statements would change them.

use std::collections::BTreeSet;

use drctl_model::shown;

use super::preflight::{names_of, shared_names};
use super::script::{Subject, subject_of};
use crate::common::EngineError;
use crate::pg::server::session::Session;

/// The most names that a note lists.
const LISTED: usize = 20;

/// What is there.
#[derive(Debug, Clone, Default)]
pub(super) struct There {
    roles: BTreeSet<String>,
    tablespaces: BTreeSet<String>,
}

impl There {
    /// Asks the server.
    pub(super) async fn on(session: &Session) -> Result<There, EngineError> {
        let roles = names_of(session, &shared_names("rolname", "pg_roles")).await?;
        let tablespaces = names_of(session, &shared_names("spcname", "pg_tablespace")).await?;
        // Whoever grants to PUBLIC changes what every role there may do.
        let roles = roles.into_iter().chain(["PUBLIC".to_owned()]).collect();
        Ok(There { roles, tablespaces: tablespaces.into_iter().collect() })
    }

    /// What is there already and would be changed by this statement.
    pub(super) fn changed_by(&self, statement: &str) -> Option<Subject> {
        subject_of(statement).filter(|subject| self.has(subject))
    }

    pub(super) fn has(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Role(name) => self.roles.contains(name),
            Subject::Tablespace(name) => self.tablespaces.contains(name),
        }
    }

    /// What a plan says of roles that are there, but for the one that restores.
    pub(super) fn note(&self, me: &str, left: bool) -> Option<String> {
        let own = |name: &&String| *name != me && *name != "PUBLIC" && !name.starts_with("pg_");
        let names: Vec<&str> = self.roles.iter().filter(own).map(String::as_str).collect();
        if names.is_empty() {
            return None;
        }
        let more = match names.len().saturating_sub(LISTED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let names = names[..names.len().min(LISTED)].join(", ");
        let names = format!("{}{more}", shown(&names, 1000));
        Some(match left {
            true => format!("roles that are on the server already are left as they are: {names}"),
            false => format!(
                "roles that are on the server already get the attributes, passwords, settings and \
                 memberships of the backup, where it has them: {names}. --missing leaves them as \
                 they are, --no-globals leaves out all roles"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_told_before() {
        let names = ["app", "postgres", "pg_monitor", "PUBLIC"].map(str::to_owned);
        let there = There { roles: names.into(), ..There::default() };
        let left = there.note("postgres", true).unwrap();
        assert!(left.ends_with("left as they are: app"), "{left}");
        let changed = there.note("postgres", false).unwrap();
        assert!(changed.contains("where it has them: app. --missing"), "{changed}");
        assert!(there.note("app", true).unwrap().ends_with("postgres"));
        assert_eq!(There::default().note("postgres", true), None);
        let many = (0..30).map(|n| format!("r{n:02}")).collect();
        let many = There { roles: many, ..There::default() }.note("postgres", true).unwrap();
        assert!(many.ends_with("r19 and 10 more"), "{many}");
    }
}
