//! A target server, before anything is restored into it.

use anyhow::{Context as _, Result};
use drctl_engines::pg::{
    CODE_NAMED, Extent, PgServer, RestoreDatabase, compare_rows, count_rows, existing, major_of,
    preflight,
};
use drctl_model::{Content, DatabaseFacts, Manifest, shown};
use drctl_store::Identities;

use super::makes::makes;
use super::{APPLICATION, Item};
use crate::host::AgentError;
use crate::transfer::Outlet;

/// A database that is on the server already, and stays as it is.
#[derive(Debug, Clone)]
pub struct Kept {
    /// What the backup has of it.
    pub item: Item,
    /// Whether it holds anything.
    filled: bool,
}

impl Kept {
    /// What is said of it.
    #[must_use]
    pub fn note(&self) -> String {
        let name = &self.item.target;
        let tables = database_of(&self.item).is_some_and(|facts| !facts.tables.is_empty());
        let there = match (tables, self.filled) {
            (true, _) => "there already with all its rows, left as it is",
            (false, true) => "there already, and the backup has no table of it: left as it is",
            (false, false) => {
                return format!(
                    "database {name}: there already, and as empty as in the backup: left as it is. \
                     For privileges and comments of the backup restore it alone, with --database \
                     and without --missing"
                );
            }
        };
        format!(
            "database {name}: {there}. Its definitions (views, functions, indexes, constraints) are \
             not compared"
        )
    }
}

/// Takes out the databases that are on the server with all the rows that were dumped. One that holds
/// nothing is not there if its dump makes anything.
pub(super) async fn take_kept(
    server: &PgServer,
    items: &mut Vec<Item>,
    (outlet, identities): (&Outlet, &Identities),
) -> Result<Vec<Kept>> {
    let databases = |item: &&Item| matches!(item.facts.content, Content::Database(_));
    let names: Vec<&str> = items.iter().filter(databases).map(|item| &*item.target).collect();
    let there = existing(server, &names, APPLICATION).await.context("look at the target server")?;
    let mut kept = Vec::new();
    for (name, filled) in there {
        let at = items.iter().position(|item| database_of(item).is_some() && item.target == name);
        let Some((at, facts)) = at.and_then(|at| Some((at, database_of(&items[at])?))) else {
            continue;
        };
        let stays = match (filled, facts.tables.is_empty()) {
            (true, true) => true,
            (true, false) => {
                let found = count_rows(server, &name, APPLICATION).await;
                let found = found.with_context(|| format!("count what {name} holds already"))?;
                let expected = facts.together(&facts.tables);
                compare_rows(&expected, &facts.together(&found)).is_empty()
            }
            (false, true) => !makes(outlet, &items[at].stream, identities)
                .await
                .with_context(|| format!("look what the backup has of {name}"))?,
            (false, false) => false,
        };
        if stays {
            kept.push(Kept { item: items.remove(at), filled });
        }
    }
    Ok(kept)
}

/// Code that would run as a superuser of the target, and that no superuser answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// As whom.
    pub user: String,
    /// All of it, each for people: where it stands, which function, whose, and what stands for its text.
    pub runs: Vec<String>,
    /// What stands for all of it: `--trust-code=DIGEST` trusts this and nothing else.
    pub digest: String,
    /// Databases with more of it than was named.
    uncounted: Vec<String>,
}

impl Code {
    fn of(user: &str, items: &[Item], owners: bool) -> Option<Code> {
        let runs = running(items, owners);
        let digest = drctl_store::digest(format!("{user:?}\n{runs:?}").as_bytes());
        let more = |item: &&Item| {
            let runs = database_of(item).and_then(|facts| listed(facts, owners));
            runs.is_some_and(|runs| runs.len() > CODE_NAMED)
        };
        let uncounted = items.iter().filter(more).map(|item| item.target.clone()).collect();
        let digest = digest.to_string()[..16].to_owned();
        (!runs.is_empty()).then(|| Code { user: user.to_owned(), runs, digest, uncounted })
    }

    /// Whether somebody who has seen all of it trusts it.
    ///
    /// # Errors
    /// [`AgentError::Runs`]; [`AgentError::Target`] where not all of it was named.
    pub fn is_trusted(&self, digest: Option<&str>) -> Result<()> {
        if let Some(database) = self.uncounted.first() {
            let text = format!(
                "database {}: more than {CODE_NAMED} places run code as {}, a superuser of the \
                 target: nobody could read all of it. Restore it into a server of its own that \
                 holds nothing else, as a role that is no superuser. Nothing was done",
                shown(database, 200),
                self.user
            );
            return Err(AgentError::Target(text).into());
        }
        if digest == Some(&self.digest) {
            return Ok(());
        }
        let (user, what, digest) = (self.user.clone(), self.runs.clone(), self.digest.clone());
        Err(AgentError::Runs { user, what, digest }.into())
    }
}

/// The code that runs while these databases are loaded.
fn running(items: &[Item], owners: bool) -> Vec<String> {
    let databases = items.iter().filter_map(|item| Some((&item.target, database_of(item)?)));
    let runs = |(target, facts): (&String, &DatabaseFacts)| -> Vec<String> {
        let unknown = (!owners && facts.runs_unowned.is_none())
            .then(|| "what runs as an owner: this backup does not record it".to_owned());
        // What runs with owners runs without them too.
        let all = listed(facts, owners).or(facts.runs.as_ref()).into_iter().flatten();
        all.chain(&unknown).map(|one| shown(&format!("database {target}: {one}"), 2000)).collect()
    };
    databases.flat_map(runs).collect()
}

/// What was found, for a restore with owners or without.
fn listed(facts: &DatabaseFacts, owners: bool) -> Option<&Vec<String>> {
    if owners { facts.runs.as_ref() } else { facts.runs_unowned.as_ref() }
}

fn database_of(item: &Item) -> Option<&DatabaseFacts> {
    match &item.facts.content {
        Content::Database(facts) => Some(facts),
        Content::Globals | Content::Tablespace(_) | Content::Listing | Content::Archive => None,
    }
}

pub(super) async fn look_at(
    server: &PgServer,
    (manifest, items, kept): (&Manifest, &[Item], &[Kept]),
    (whole, missing, owners): (bool, bool, bool),
) -> Result<(Vec<String>, Option<Code>)> {
    let stay = kept.iter().map(|kept| (&kept.item, true));
    let all = items.iter().map(|item| (item, false)).chain(stay);
    let wanted: Vec<RestoreDatabase<'_>> = all
        .filter_map(|(item, kept)| {
            let (facts, target_name) = (database_of(item)?, item.target.clone());
            Some(RestoreDatabase { facts, target_name, kept })
        })
        .collect();
    let dumped = manifest.tools.get("server").and_then(|version| major_of(version));
    let globals = items.iter().any(|item| item.facts.content == Content::Globals);
    let extent = Extent { whole, globals, missing };
    let found = preflight(server, dumped, &wanted, extent, APPLICATION).await;
    let found = found.context("look at the target server")?;
    let loads = items.iter().any(|item| database_of(item).is_some());
    if let Some(why) = server.withheld(&found.pg_restore.version).filter(|_| loads) {
        let text = format!("{why} (--to-sslmode, --to-ca-file). Nothing was done on the server");
        return Err(AgentError::Usage(text).into());
    }
    let code = if found.superuser { Code::of(&server.user, items, owners) } else { None };
    let mut notes = found.notes;
    if found.superuser {
        let runs = code.iter().flat_map(|code| &code.runs);
        notes.extend(runs.map(|one| format!("runs as {}: {one}", server.user)));
        let unasked =
            |item: &&Item| database_of(item).is_some_and(|facts| listed(facts, owners).is_none());
        notes.extend(items.iter().filter(unasked).map(|item| {
            format!(
                "database {}: an older drctl made this backup and did not look which code of its \
                 owner runs while it is loaded",
                item.target
            )
        }));
    }
    notes.extend(kept.iter().map(Kept::note));
    let fills = |item: &&Item| missing && found.empty.contains(&item.target);
    notes.extend(items.iter().filter(fills).map(|item| {
        format!(
            "database {}: there and empty; it is filled, and its schemas get the privileges and \
             comments of the backup",
            item.target
        )
    }));
    Ok((notes, code))
}
