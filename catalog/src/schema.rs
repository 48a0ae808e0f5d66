use std::path::Path;

use drctl_model::RepositoryId;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use crate::CatalogError;
use crate::error::Fault;

/// `drct`, so that `file` and we ourselves know the catalog from other SQLite databases.
pub(crate) const APPLICATION_ID: i64 = 0x6472_6374;

/// The steps from nothing to the present version; step `n` leads to version `n + 1`.
pub(crate) const STEPS: &[&str] = &[
    include_str!("v1.sql"),
    include_str!("v2.sql"),
    include_str!("v3.sql"),
    include_str!("v4.sql"),
    include_str!("v5.sql"),
    include_str!("v6.sql"),
    include_str!("v7.sql"),
    include_str!("v8.sql"),
    include_str!("v9.sql"),
    include_str!("v10.sql"),
    include_str!("v11.sql"),
    include_str!("v12.sql"),
    include_str!("v13.sql"),
    include_str!("v14.sql"),
    include_str!("v15.sql"),
    include_str!("v16.sql"),
    include_str!("v17.sql"),
    include_str!("v18.sql"),
    include_str!("v19.sql"),
    include_str!("v20.sql"),
];

/// What a database file turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Without any content.
    Fresh,
    /// A catalog of this version, which is not above what we know.
    Catalog(i64),
}

pub(crate) fn known(steps: &[&str]) -> i64 {
    i64::try_from(steps.len()).unwrap_or(i64::MAX)
}

fn pragma(connection: &Connection, name: &str) -> Result<i64, Fault> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}

/// Looks at a file without changing it.
///
/// In one transaction: another process may be making the catalog at this moment.
pub(crate) fn inspect(
    connection: &Connection,
    path: &Path,
    steps: &[&str],
) -> Result<Nature, Fault> {
    let snapshot = connection.unchecked_transaction()?;
    let application = pragma(&snapshot, "application_id")?;
    let found = pragma(&snapshot, "user_version")?;
    let tables: i64 =
        snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let known = known(steps);
    match (application, found, tables) {
        (0, 0, 0) => Ok(Nature::Fresh),
        (APPLICATION_ID, 1.., _) if found <= known => Ok(Nature::Catalog(found)),
        (APPLICATION_ID, 1.., _) => {
            Err(CatalogError::Newer { path: path.to_owned(), found, known }.into())
        }
        (APPLICATION_ID, ..) => Err(Fault::Damage(format!("it says version {found}"))),
        _ => Err(CatalogError::Foreign { path: path.to_owned() }.into()),
    }
}

/// Brings a fresh file or an earlier version to the present one, each step in a transaction.
pub(crate) fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), Fault> {
    for (step, version) in steps.iter().zip(1..) {
        // The step may have been taken by another process in the meantime: the version is read
        // under the write lock.
        let transaction = write(connection)?;
        if pragma(&transaction, "user_version")? < version {
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()?;
        }
    }
    Ok(())
}

/// Begins a transaction that has the write lock from its start, so that it never fails half-way
/// because another process wrote in between.
pub(crate) fn write(connection: &mut Connection) -> Result<Transaction<'_>, Fault> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// The repository that the catalog belongs to, if it was ever told.
pub(crate) fn repository(connection: &Connection) -> Result<Option<RepositoryId>, Fault> {
    let text: Option<String> =
        connection.query_row("SELECT id FROM repository", [], |row| row.get(0)).optional()?;
    text.map(|text| text.parse().map_err(|error| Fault::Damage(format!("repository: {error}"))))
        .transpose()
}

/// Whether the catalog is, or has just become, that of the repository `expected`.
pub(crate) fn claim(
    connection: &Connection,
    path: &Path,
    expected: &RepositoryId,
) -> Result<(), Fault> {
    match repository(connection)? {
        Some(found) if &found == expected => Ok(()),
        Some(found) => {
            let (path, expected) = (path.to_owned(), expected.clone());
            Err(CatalogError::OtherRepository { path, found, expected }.into())
        }
        None => {
            connection
                .execute("INSERT INTO repository (one, id) VALUES (1, ?1)", [expected.as_str()])?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(connection: &Connection, steps: &[&str]) -> Result<Nature, &'static str> {
        let path = Path::new("c.db");
        inspect(connection, path, steps).map_err(|fault| fault.at(path).code())
    }

    #[test]
    fn each_step_is_taken_once() {
        let mut db = Connection::open_in_memory().unwrap();
        let steps = ["CREATE TABLE a (x TEXT) STRICT", "ALTER TABLE a ADD y TEXT"];
        assert_eq!(look(&db, &steps), Ok(Nature::Fresh));
        migrate(&mut db, &steps[..1]).unwrap();
        assert_eq!(look(&db, &steps), Ok(Nature::Catalog(1)));
        migrate(&mut db, &steps).unwrap();
        migrate(&mut db, &steps).unwrap();
        assert_eq!(look(&db, &steps), Ok(Nature::Catalog(2)));
        assert_eq!(look(&db, &steps[..1]), Err("catalog_newer"));
        db.execute("INSERT INTO a (x, y) VALUES ('1', '2')", []).unwrap();
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let mut db = Connection::open_in_memory().unwrap();
        let steps = ["CREATE TABLE a (x TEXT) STRICT", "CREATE TABLE b (x TEXT) STRICT; nonsense"];
        assert!(migrate(&mut db, &steps).is_err());
        assert_eq!(look(&db, &steps), Ok(Nature::Catalog(1)));
        let tables: i64 =
            db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
        assert_eq!(tables, 1);
    }

    #[test]
    fn other_databases_are_foreign() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE a (x)").unwrap();
        assert_eq!(look(&db, STEPS), Err("catalog_foreign"));
        db.execute_batch("DROP TABLE a; PRAGMA user_version = 7").unwrap();
        assert_eq!(look(&db, STEPS), Err("catalog_foreign"));
        db.execute_batch("PRAGMA application_id = 4711").unwrap();
        assert_eq!(look(&db, STEPS), Err("catalog_foreign"));
    }
}
