//! The databases of a server, and which of them a backup takes.

use drctl_model::{LocaleProvider, ProviderLocale};
use tokio_postgres::{Client, Row};

use crate::common::EngineError;
use crate::pg::server::ServerError;
use crate::pg::server::session::Session;
use crate::pg::server::spelling::{bytes_of, spelled};

/// Which databases are dumped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseChoice {
    /// All that take connections and are no templates, but not those named.
    All {
        /// Databases to leave out.
        exclude: Vec<String>,
    },
    /// Those named; each of them must exist.
    Only(Vec<String>),
}

/// A database that can be dumped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Database {
    /// Its name, spelled.
    pub(crate) name: String,
    /// The name by which it is reached, spelled.
    pub(crate) reached: String,
    pub(crate) owner: String,
    pub(crate) encoding: String,
    pub(crate) collate: String,
    pub(crate) ctype: String,
    pub(crate) provider: Option<ProviderLocale>,
}

/// The columns of the locale's provider came and changed their names with releases (15, 16, 17):
/// as JSON, one that is missing is null. A limit of -2 marks a database that was left half dropped.
///
/// A name is in the encoding of the database that it was given in: one of another encoding than
/// UTF-8 takes it for its own.
fn query(which: &str) -> String {
    let (name, owner) = ("datname", "pg_catalog.pg_get_userbyid(datdba)");
    let (name_bytes, owner_bytes) = (bytes_of(name), bytes_of(owner));
    format!(
        "
    SELECT CASE WHEN own THEN {name_bytes} ELSE pg_catalog.convert_to({name}::text, 'UTF8') END,
           CASE WHEN own THEN {owner_bytes} ELSE pg_catalog.convert_to({owner}::text, 'UTF8') END,
           pg_catalog.pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text,
           pg_catalog.to_jsonb(d) ->> 'datlocprovider',
           coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale',
                    pg_catalog.to_jsonb(d) ->> 'daticulocale'),
           pg_catalog.to_jsonb(d) ->> 'daticurules', {name_bytes}
    FROM pg_catalog.pg_database d
    CROSS JOIN (SELECT pg_catalog.getdatabaseencoding() IN ('UTF8', 'SQL_ASCII') AS own) e
    WHERE datallowconn AND datconnlimit <> -2{which}
    ORDER BY datname"
    )
}

/// Lists the databases that take connections and are no templates.
pub(crate) async fn list(client: &Client) -> Result<Vec<Database>, EngineError> {
    listed(client, " AND NOT datistemplate").await
}

/// Lists all that take connections.
pub(crate) async fn all(client: &Client) -> Result<Vec<Database>, EngineError> {
    listed(client, "").await
}

async fn listed(client: &Client, which: &str) -> Result<Vec<Database>, EngineError> {
    let failed = |error| EngineError::query("list the databases")(error);
    let rows = client.query(&query(which), &[]).await.map_err(failed)?;
    rows.iter().map(database).collect::<Result<_, _>>().map_err(failed)
}

fn provider(row: &Row) -> Result<Option<ProviderLocale>, tokio_postgres::Error> {
    let provider = match row.try_get::<_, Option<&str>>(5)? {
        Some("i") => LocaleProvider::Icu,
        Some("b") => LocaleProvider::Builtin,
        _ => return Ok(None),
    };
    let locale: Option<String> = row.try_get(6)?;
    let rules = row.try_get(7)?;
    Ok(locale.map(|locale| ProviderLocale { provider, locale, rules }))
}

fn database(row: &Row) -> Result<Database, tokio_postgres::Error> {
    Ok(Database {
        name: spelled(row.try_get(0)?),
        owner: spelled(row.try_get(1)?),
        reached: spelled(row.try_get(8)?),
        encoding: row.try_get(2)?,
        collate: row.try_get(3)?,
        ctype: row.try_get(4)?,
        provider: provider(row)?,
    })
}

/// The databases that are to be dumped.
pub(crate) async fn choose(
    session: &Session,
    choice: &DatabaseChoice,
) -> Result<Vec<Database>, EngineError> {
    pick(list(&session.client).await?, choice)
}

fn pick(all: Vec<Database>, choice: &DatabaseChoice) -> Result<Vec<Database>, EngineError> {
    match choice {
        DatabaseChoice::All { exclude } => {
            Ok(all.into_iter().filter(|d| !exclude.contains(&d.name)).collect())
        }
        DatabaseChoice::Only(names) => {
            all_there(names, |name| all.iter().any(|d| d.name == name))?;
            Ok(all.into_iter().filter(|d| names.contains(&d.name)).collect())
        }
    }
}

/// An error that names the databases that are asked for and not there.
pub(super) fn all_there(
    names: &[String],
    exists: impl Fn(&str) -> bool,
) -> Result<(), EngineError> {
    let missing: Vec<String> = names.iter().filter(|name| !exists(name)).cloned().collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(EngineError::from(ServerError::NoDatabase { names: missing })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        let all = |names: &[&str]| -> Vec<Database> {
            let database = |name: &&str| Database {
                name: (*name).to_owned(),
                reached: String::new(),
                owner: String::new(),
                encoding: String::new(),
                collate: String::new(),
                ctype: String::new(),
                provider: None,
            };
            names.iter().map(database).collect()
        };
        let exclude = |names: &[&str]| DatabaseChoice::All {
            exclude: names.iter().map(ToString::to_string).collect(),
        };
        let only =
            |names: &[&str]| DatabaseChoice::Only(names.iter().map(ToString::to_string).collect());
        type Names<'a> = &'a [&'a str];
        let cases: &[(DatabaseChoice, Result<Names<'_>, Names<'_>>)] = &[
            (exclude(&[]), Ok(&["a", "b"])),
            (exclude(&["b", "x"]), Ok(&["a"])),
            (only(&["b"]), Ok(&["b"])),
            (only(&["b", "a", "b"]), Ok(&["a", "b"])),
            (only(&["a", "x", "y"]), Err(&["x", "y"])),
        ];
        for (choice, expected) in cases {
            match (pick(all(&["a", "b"]), choice), expected) {
                (Ok(found), Ok(names)) => assert_eq!(found, all(names)),
                (Err(error), Err(missing)) => {
                    let Some(ServerError::NoDatabase { names }) = error.own() else {
                        panic!("{error}")
                    };
                    assert_eq!(names, missing);
                }
                (found, expected) => panic!("{choice:?}: {found:?}, not {expected:?}"),
            }
        }
    }
}
