//! What belongs to a server and is not among what a backup of it copies, as the server itself tells: the
//! files of its configuration, where these lie elsewhere, and certificates.

use std::path::{Path, PathBuf};
use std::time::Duration;

use drctl_model::{Outside, OutsideItem, shown};
use tokio::time::timeout;

use super::PgServer;
use super::address::typed_ident;
use super::said::ServerSaid;
use super::session::Session;
use crate::common::EngineError;

/// The most bytes of a file, and of all of them: every manifest holds them.
const MOST_OF_ONE: usize = 512 << 10;
const MOST: usize = 2 << 20;

/// The most files that are named.
const MOST_FILES: usize = 500;

/// The settings that name files of the configuration.
const CONFIGURATION: [&str; 3] = ["config_file", "hba_file", "ident_file"];

/// What a file that one of them includes is called.
const INCLUDED: &str = "include";

/// The settings that name certificates and keys.
const CERTIFICATES: [&str; 7] = [
    "ssl_cert_file",
    "ssl_key_file",
    "ssl_ca_file",
    "ssl_crl_file",
    "ssl_crl_dir",
    "ssl_dh_params_file",
    "krb_server_keyfile",
];

/// What a backup copies by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// All files of the data directory.
    Cluster,
    /// Databases.
    Databases {
        /// Whether with the server's roles and tablespaces.
        globals: bool,
        /// Whether with the passwords of the roles.
        passwords: bool,
    },
}

/// Asks the server what is not among what a backup copies, and reads the files of its configuration
/// as far as it lets us. What it does not tell within `patience` is noted and no error, for the backup
/// is as good without it.
pub async fn outside(
    server: &PgServer,
    application_name: &str,
    copied: Copied,
    patience: Duration,
) -> Outside {
    let mut found = Outside { items: left_out(copied), unknown: Vec::new() };
    let asking = async {
        let session = Session::open(server, &server.maintenance_database, application_name).await?;
        ask(&session, copied).await
    };
    match timeout(patience, asking).await {
        Ok(Ok(asked)) => {
            found.items.extend(asked.items);
            found.unknown = asked.unknown;
        }
        Ok(Err(error)) => {
            use std::error::Error as _;
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            let text = format!("the server's configuration could not be asked for: {error}{cause}");
            found.unknown.push(shown(&text, 500));
        }
        Err(_) => {
            let seconds = patience.as_secs();
            let text = format!("the server did not tell of its configuration within {seconds} s");
            found.unknown.push(text);
        }
    }
    found
}

/// What the configuration of the source leaves out.
fn left_out(copied: Copied) -> Vec<OutsideItem> {
    match copied {
        Copied::Databases { globals: false, .. } => ["roles", "tablespaces"]
            .map(|what| OutsideItem::missing(what, None, "globals = false"))
            .into(),
        Copied::Databases { passwords: false, .. } => {
            vec![OutsideItem::missing("passwords of roles", None, "role_passwords = false")]
        }
        _ => Vec::new(),
    }
}

/// The files of the configuration that lie outside.
struct Files {
    data: PathBuf,
    /// Whether those in the data directory are copied.
    whole: bool,
    all: Vec<(&'static str, PathBuf)>,
}

impl Files {
    fn is_outside(&self, path: &Path) -> bool {
        !self.whole || !path.starts_with(&self.data)
    }

    fn add(&mut self, what: &'static str, path: PathBuf) {
        let known = self.all.iter().any(|(_, other)| *other == path);
        if !known && self.is_outside(&path) && self.all.len() < MOST_FILES {
            self.all.push((what, path));
        }
    }
}

async fn ask(session: &Session, copied: Copied) -> Result<Outside, EngineError> {
    let role = typed_ident(&session.reached().user);
    let mut found = Outside::default();
    let settings = settings(session).await?;
    let of = |name: &str| settings.iter().find(|(one, _)| one == name).map(|(_, value)| value);
    let Some(data) = of("data_directory").map(PathBuf::from) else {
        let text = "the role may not read where its configuration lies";
        found.unknown.push(format!("{text} (GRANT pg_monitor TO {role})"));
        return Ok(found);
    };
    let mut files = Files { data, whole: copied == Copied::Cluster, all: Vec::new() };
    for what in CONFIGURATION {
        of(what).into_iter().for_each(|path| files.add(what, path.into()));
    }
    let (included, unsure) = included(session, &role).await?;
    included.into_iter().for_each(|path| files.add(INCLUDED, path.into()));
    found.unknown.extend(unsure);
    read_all(session, &mut files, &mut found).await?;
    let on = of("ssl").is_some_and(|value| value == "on");
    for what in CERTIFICATES {
        let wanted = on || !what.starts_with("ssl_");
        let Some(path) = of(what).filter(|path| wanted && !path.is_empty()) else { continue };
        let path = files.data.join(path.strip_prefix("FILE:").unwrap_or(path));
        if files.is_outside(&path) {
            let (path, why) = (path.display().to_string(), "certificates and keys are not copied");
            found.items.push(OutsideItem::missing(what, Some(path), why));
        }
    }
    Ok(found)
}

/// Those settings that name files and that the role may read, without what nobody has set.
async fn settings(session: &Session) -> Result<Vec<(String, String)>, EngineError> {
    let mut names = vec!["data_directory", "ssl"];
    names.extend(CONFIGURATION);
    names.extend(CERTIFICATES);
    let query = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY ($1) \
                 AND (name <> 'krb_server_keyfile' OR source <> 'default')";
    let failed = |error| EngineError::query("ask where the configuration lies")(error);
    let rows = session.client.query(query, &[&names]).await.map_err(failed)?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, _>>()
        .map_err(failed)
}

/// All files of settings, where the role may read the view; those of settings that are in force otherwise.
const IN_FILES: &str =
    "SELECT DISTINCT sourcefile FROM pg_catalog.pg_file_settings WHERE sourcefile IS NOT NULL";
const IN_FORCE: &str =
    "SELECT DISTINCT sourcefile FROM pg_catalog.pg_settings WHERE sourcefile IS NOT NULL";

/// Files of rules that others include: servers know of such from 16 on.
const OF_RULES: &str = "
    SELECT pg_catalog.to_jsonb(r) ->> 'file_name' FROM pg_catalog.pg_hba_file_rules r
    UNION SELECT pg_catalog.to_jsonb(m) ->> 'file_name' FROM pg_catalog.pg_ident_file_mappings m";

/// The first major version whose rules may include files.
const RULES_INCLUDE: u32 = 16;

/// The files that are included, and what is not known of them.
async fn included(
    session: &Session,
    role: &str,
) -> Result<(Vec<String>, Option<String>), EngineError> {
    let mut unsure = Vec::new();
    let mut all = match column(session, IN_FILES).await {
        Ok(all) => all,
        Err(_) => {
            unsure.push("pg_file_settings");
            let failed = |error| EngineError::query("ask for the files of settings")(error);
            column(session, IN_FORCE).await.map_err(failed)?
        }
    };
    let version = session.version().await?;
    if crate::pg::server::major_of(&version) >= Some(RULES_INCLUDE) {
        match column(session, OF_RULES).await {
            Ok(more) => all.extend(more),
            Err(_) => unsure.push("pg_hba_file_rules"),
        }
    }
    all.sort();
    let unsure = (!unsure.is_empty()).then(|| {
        let views = unsure.join(" and ");
        format!(
            "whether other files are included: the role may not read {views} (GRANT SELECT on it, \
             and EXECUTE on the function that it reads, to {role})"
        )
    });
    Ok((all, unsure))
}

async fn column(session: &Session, query: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let rows = session.client.query(query, &[]).await?;
    let values = rows.iter().map(|row| row.try_get::<_, Option<String>>(0));
    values.filter_map(Result::transpose).collect()
}

/// Reads the files, and those of lists of names that they mention.
async fn read_all(
    session: &Session,
    files: &mut Files,
    found: &mut Outside,
) -> Result<(), EngineError> {
    let (mut at, mut room) = (0, MOST);
    let may = "SELECT pg_catalog.has_function_privilege(\
               'pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)', 'EXECUTE')::text";
    let may = session.text(may, "ask what the role may read").await? == "true";
    while let Some((what, path)) = files.all.get(at).cloned() {
        at += 1;
        let text = path.display().to_string();
        let read = match may {
            true => read(session, &text, room).await,
            false => Err("the role may not read it".to_owned()),
        };
        found.items.push(match read {
            // Nothing is there.
            Ok(None) => continue,
            Ok(Some(bytes)) => {
                room -= bytes.len();
                let folder = path.parent().unwrap_or(Path::new("/"));
                let lists = if what == "config_file" { Vec::new() } else { lists_in(&bytes) };
                lists.iter().for_each(|name| files.add(INCLUDED, folder.join(name)));
                OutsideItem::held(what, text, bytes)
            }
            Err(why) => OutsideItem::missing(what, Some(text), why),
        });
    }
    Ok(())
}

/// A file of the server's; nothing where it is not there; or why it is not read.
async fn read(session: &Session, path: &str, room: usize) -> Result<Option<Vec<u8>>, String> {
    let query = "SELECT pg_catalog.pg_read_binary_file($1, 0, $2, true)";
    let most = i64::try_from(MOST_OF_ONE + 1).unwrap_or(i64::MAX);
    let row = session.client.query_one(query, &[&path, &most]).await;
    let said = |error| shown(&ServerSaid::from(error).to_string(), 200);
    let bytes: Option<Vec<u8>> = row.and_then(|row| row.try_get(0)).map_err(said)?;
    match bytes {
        Some(bytes) if bytes.len() > MOST_OF_ONE => {
            Err(format!("it is larger than {} KiB", MOST_OF_ONE >> 10))
        }
        Some(bytes) if bytes.len() > room => {
            Err(format!("such files are larger than {} MiB together", MOST >> 20))
        }
        bytes => Ok(bytes),
    }
}

/// The files with lists of names that rules of access mention (`@names`), as they stand there.
fn lists_in(rules: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(rules);
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let words = lines.flat_map(|line| line.split(|c: char| c.is_whitespace() || c == ','));
    let name = |word: &str| {
        let name = word.strip_prefix('@')?;
        Some(name.trim_matches('"').to_owned()).filter(|name| !name.is_empty())
    };
    words.filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_source_leaves_out_is_named() {
        let names = |globals, passwords| {
            let all = left_out(Copied::Databases { globals, passwords });
            all.into_iter().map(|item| item.what).collect::<Vec<_>>()
        };
        assert_eq!(names(true, true), [""; 0]);
        assert_eq!(names(true, false), ["passwords of roles"]);
        assert_eq!(names(false, true), ["roles", "tablespaces"]);
        assert!(left_out(Copied::Cluster).is_empty());
    }

    #[test]
    fn only_what_a_base_backup_does_not_copy_is_outside_of_it() {
        let mut files = Files { data: "/srv/data".into(), whole: true, all: Vec::new() };
        for path in ["/srv/data/postgresql.conf", "/srv/data2/a", "/etc/a", "/etc/a"] {
            files.add("include", path.into());
        }
        let found: Vec<_> = files.all.iter().map(|(_, path)| path.display().to_string()).collect();
        assert_eq!(found, ["/srv/data2/a", "/etc/a"]);
        files.whole = false;
        files.add("include", "/srv/data/postgresql.conf".into());
        assert_eq!(files.all.len(), 3);
    }

    #[test]
    fn lists_of_names_are_found_where_rules_mention_them() {
        let rules = b"# host @no\nlocal @a,@\"b\" all peer\nhost all @/etc/c all md5 # @no\n@\n";
        assert_eq!(lists_in(rules), ["a", "b", "/etc/c"]);
    }
}
