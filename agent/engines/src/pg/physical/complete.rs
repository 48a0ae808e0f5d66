//! Whether every database and every tablespace of a cluster is in its base backup: asked of the
//! server before and after, since it does not tell of all that it leaves out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::common::EngineError;
use crate::pg::server::PgServer;
use crate::pg::server::ServerError;
use crate::pg::server::session::Session;

/// How long the server may take to tell.
const PATIENCE: Duration = Duration::from_secs(60);

/// From which major version on servers send tablespaces that lie in the data directory.
const SENDS_IN_PLACE: u32 = 16;

/// Where databases lie whose tablespace is `pg_default`.
const DEFAULT_TABLESPACE: u32 = 1663;

/// A limit of -2 marks a database that was left half dropped.
const DATABASES: &str = "SELECT oid, dattablespace FROM pg_catalog.pg_database \
                         WHERE datconnlimit <> -2";

/// All but `pg_default` and `pg_global`, which lie in the data directory.
const TABLESPACES: &str = "SELECT oid, pg_catalog.pg_tablespace_location(oid) \
                           FROM pg_catalog.pg_tablespace WHERE oid NOT IN (1663, 1664)";

/// What a cluster has that must come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Census {
    /// Each database's OID, and that of the tablespace where its directory lies.
    databases: BTreeMap<u32, u32>,
    /// Each tablespace's OID, and where it lies.
    tablespaces: BTreeMap<u32, String>,
}

/// Asks the server. A role that may only replicate is not told.
pub(super) async fn census(server: &PgServer, application: &str) -> Result<Census, EngineError> {
    let asking = async {
        let session = Session::open(server, &server.maintenance_database, application).await?;
        let failed = |error| EngineError::query("list databases and tablespaces")(error);
        let mut census = Census::default();
        for row in session.client.query(DATABASES, &[]).await.map_err(failed)? {
            let oid = row.try_get(0).map_err(failed)?;
            census.databases.insert(oid, row.try_get(1).map_err(failed)?);
        }
        for row in session.client.query(TABLESPACES, &[]).await.map_err(failed)? {
            let oid = row.try_get(0).map_err(failed)?;
            census.tablespaces.insert(oid, row.try_get(1).map_err(failed)?);
        }
        Ok(census)
    };
    let late = |_| EngineError::Config("the server did not answer in time".to_owned());
    tokio::time::timeout(PATIENCE, asking).await.map_err(late)?
}

/// Compares what came, directories of databases and archives of tablespaces, with what the server has
/// now and had `before`; gives what an operator should know where it cannot be asked.
///
/// # Errors
/// [`ServerError::LeftOut`].
pub(super) async fn all_came(
    before: Result<Census, EngineError>,
    server: &PgServer,
    application: &str,
    (directories, archives): (BTreeSet<(u32, u32)>, BTreeSet<u32>),
) -> Result<Option<String>, EngineError> {
    let asked = match before {
        Ok(before) => census(server, application).await.map(|after| (before, after)),
        Err(error) => Err(error),
    };
    match asked {
        Ok((before, after)) => match before.missing(&after, &directories, &archives) {
            what if what.is_empty() => Ok(None),
            what => Err(EngineError::from(ServerError::LeftOut { what })),
        },
        Err(error) => Ok(Some(format!(
            "drctl could not ask the server for its databases and tablespaces ({error}), so it did \
             not check that all of them are in the base backup; the server warned of none that it \
             left out"
        ))),
    }
}

impl Census {
    /// Tablespaces that are directories of the data directory (`allow_in_place_tablespaces`, made for
    /// PostgreSQL's own tests) and that a server of this major version does not send.
    pub(super) fn not_sent(&self, major: Option<u32>) -> Vec<String> {
        let sends = major >= Some(SENDS_IN_PLACE);
        let inside = |place: &str| !sends && !place.starts_with('/');
        let inside = self.tablespaces.iter().filter(|(_, place)| inside(place));
        inside.map(|(oid, _)| format!("pg_tblspc/{oid}, an in-place tablespace")).collect()
    }

    /// What was there before and after the backup, at the same place, and is not among the
    /// `directories` (tablespace and database) and archives that came.
    pub(super) fn missing(
        &self,
        after: &Census,
        directories: &BTreeSet<(u32, u32)>,
        archives: &BTreeSet<u32>,
    ) -> Vec<String> {
        let stayed = self.databases.iter().filter(|(oid, at)| after.databases.get(oid) == Some(at));
        let databases = stayed.filter(|(oid, at)| !directories.contains(&(**at, **oid)));
        let name = |(oid, at): (&u32, &u32)| match *at {
            DEFAULT_TABLESPACE => format!("base/{oid}, the database with the OID {oid}"),
            at => format!("the database with the OID {oid}, in pg_tblspc/{at}"),
        };
        let mut all: Vec<String> = databases.map(name).collect();
        let stayed = self.tablespaces.iter();
        let stayed = stayed.filter(|(oid, at)| after.tablespaces.get(oid) == Some(at));
        let gone = stayed.filter(|(oid, _)| !archives.contains(oid));
        all.extend(gone.map(|(oid, at)| format!("pg_tblspc/{oid}, the tablespace at {at}")));
        all
    }
}

/// The database whose directory has this file in a data directory, and its tablespace: each has a
/// `PG_VERSION`.
pub(super) fn directory_of(path: &str) -> Option<(u32, u32)> {
    let mut parts = path.strip_suffix("/PG_VERSION")?.split('/');
    let (tablespace, database) = match parts.next()? {
        "base" => (DEFAULT_TABLESPACE, parts.next()?),
        "pg_tblspc" => {
            let oid = parts.next()?.parse().ok()?;
            let _version = parts.next()?;
            (oid, parts.next()?)
        }
        _ => return None,
    };
    let database = database.parse().ok()?;
    parts.next().is_none().then_some((tablespace, database))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stayed_and_did_not_come_is_missing() {
        let census = |databases: &[(u32, u32)], tablespaces: &[(u32, &str)]| Census {
            databases: databases.iter().copied().collect(),
            tablespaces: tablespaces.iter().map(|(oid, at)| (*oid, (*at).to_owned())).collect(),
        };
        let before = census(&[(5, 1663), (7, 1663), (8, 90), (9, 1663)], &[(90, "/a"), (91, "/b")]);
        // One was dropped meanwhile, one was moved, one is new.
        let after = census(&[(5, 1663), (8, 90), (9, 90), (10, 1663)], &[(90, "/a")]);
        let came: BTreeSet<_> =
            ["base/5/PG_VERSION", "pg_tblspc/90/PG_15_2/8/PG_VERSION", "base/1"]
                .iter()
                .filter_map(|path| directory_of(path))
                .collect();
        assert_eq!(before.missing(&after, &came, &[90].into()), [""; 0]);
        let found = before.missing(&after, &BTreeSet::new(), &BTreeSet::new());
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("base/5,") && found[1].contains("pg_tblspc/90"), "{found:?}");
        let in_place = census(&[], &[(90, "pg_tblspc/90")]);
        for (major, count) in [(None, 1), (Some(15), 1), (Some(16), 0), (Some(18), 0)] {
            assert_eq!(in_place.not_sent(major).len(), count, "{major:?}");
            assert!(before.not_sent(major).is_empty());
        }
    }

    #[test]
    fn directories_of_databases_are_known_by_their_version() {
        assert_eq!(directory_of("base/16384/PG_VERSION"), Some((1663, 16384)));
        assert_eq!(directory_of("pg_tblspc/90/PG_15_2/8/PG_VERSION"), Some((90, 8)));
        for path in ["PG_VERSION", "base/PG_VERSION", "base/5/x/PG_VERSION", "base/5/1"] {
            assert_eq!(directory_of(path), None, "{path}");
        }
    }
}
