//! The databases of a server, and which of them a backup takes.

use drctl_model::{LocaleProvider, ProviderLocale};
use tokio_postgres::{Client, Row};

use super::DatabaseChoice;
use super::session::Session;
use crate::EngineError;

/// A database that can be dumped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Database {
    pub(crate) name: String,
    /// Whether that is not its name, which is not UTF-8.
    pub(crate) unnamed: bool,
    pub(crate) owner: String,
    pub(crate) encoding: String,
    pub(crate) collate: String,
    pub(crate) ctype: String,
    pub(crate) provider: Option<ProviderLocale>,
}

/// The columns of the locale's provider came and changed their names with releases (15, 16, 17):
/// as JSON, one that is missing is null. A limit of -2 marks a database that was left half dropped.
const LIST: &str = "
    SELECT pg_catalog.convert_to(datname::text, e.bytes),
           pg_catalog.convert_to(pg_catalog.pg_get_userbyid(datdba)::text, e.bytes),
           pg_catalog.pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text,
           pg_catalog.to_jsonb(d) ->> 'datlocprovider',
           coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale',
                    pg_catalog.to_jsonb(d) ->> 'daticulocale'),
           pg_catalog.to_jsonb(d) ->> 'daticurules'
    FROM pg_catalog.pg_database d
    CROSS JOIN (SELECT CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII'
                       ELSE 'UTF8' END::name AS bytes) e
    WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2
    ORDER BY datname";

/// Lists the databases that take connections and are no templates.
pub(crate) async fn list(client: &Client) -> Result<Vec<Database>, EngineError> {
    let failed = |error| EngineError::query("list the databases")(error);
    let rows = client.query(LIST, &[]).await.map_err(failed)?;
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
        name: String::from_utf8_lossy(row.try_get(0)?).into_owned(),
        owner: String::from_utf8_lossy(row.try_get(1)?).into_owned(),
        unnamed: std::str::from_utf8(row.try_get(0)?).is_err(),
        encoding: row.try_get(2)?,
        collate: row.try_get(3)?,
        ctype: row.try_get(4)?,
        provider: provider(row)?,
    })
}

/// The databases that are to be dumped, those among them whose names we cannot say.
pub(crate) async fn choose(
    session: &Session,
    choice: &DatabaseChoice,
) -> Result<Vec<Database>, EngineError> {
    pick(list(&session.client).await?, choice)
}

fn pick(all: Vec<Database>, choice: &DatabaseChoice) -> Result<Vec<Database>, EngineError> {
    match choice {
        DatabaseChoice::All { exclude } => {
            Ok(all.into_iter().filter(|d| d.unnamed || !exclude.contains(&d.name)).collect())
        }
        DatabaseChoice::Only(names) => {
            let exists = |name: &&String| all.iter().any(|d| &d.name == *name && !d.unnamed);
            let missing: Vec<String> = names.iter().filter(|n| !exists(n)).cloned().collect();
            if !missing.is_empty() {
                return Err(EngineError::NoDatabase { names: missing });
            }
            Ok(all.into_iter().filter(|d| names.contains(&d.name) && !d.unnamed).collect())
        }
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
                unnamed: false,
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
                (Err(EngineError::NoDatabase { names }), Err(missing)) => {
                    assert_eq!(names, *missing);
                }
                (found, expected) => panic!("{choice:?}: {found:?}, not {expected:?}"),
            }
        }
    }
}
