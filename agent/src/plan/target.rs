//! A target server, before anything is restored into it.

use anyhow::{Context as _, Result};
use drctl_engines::pg::{
    Extent, PgServer, RestoreDatabase, compare_rows, count_rows, filled, major_of, preflight,
};
use drctl_model::{Content, DatabaseFacts, Manifest, shown};

use super::{APPLICATION, Item};
use crate::problem::Problem;

/// Takes out the databases that are on the server with all the rows that were dumped.
pub(super) async fn take_kept(server: &PgServer, items: &mut Vec<Item>) -> Result<Vec<Item>> {
    let databases = |item: &&Item| matches!(item.facts.content, Content::Database(_));
    let names: Vec<&str> = items.iter().filter(databases).map(|item| &*item.target).collect();
    let filled = filled(server, &names, APPLICATION).await.context("look at the target server")?;
    let mut kept = Vec::new();
    for name in filled {
        let at = items.iter().position(|item| database_of(item).is_some() && item.target == name);
        let Some(at) = at else { continue };
        let found = count_rows(server, &name, APPLICATION).await;
        let found = found.with_context(|| format!("count what {name} holds already"))?;
        if database_of(&items[at]).is_some_and(|it| compare_rows(&it.tables, &found).is_empty()) {
            kept.push(items.remove(at));
        }
    }
    Ok(kept)
}

/// The code that runs while these databases are loaded.
fn running(items: &[Item]) -> Vec<String> {
    let databases = items.iter().filter_map(|item| Some((&item.target, database_of(item)?)));
    let runs = |(target, facts): (&String, &DatabaseFacts)| -> Vec<String> {
        let all = facts.runs.iter().flatten();
        all.map(|one| shown(&format!("database {target}: {one}"), 300)).collect()
    };
    databases.flat_map(runs).collect()
}

fn database_of(item: &Item) -> Option<&DatabaseFacts> {
    match &item.facts.content {
        Content::Database(facts) => Some(facts),
        Content::Globals | Content::Tablespace(_) | Content::Listing => None,
    }
}

pub(super) async fn look_at(
    server: &PgServer,
    (manifest, items, kept): (&Manifest, &[Item], &[Item]),
    (whole, trusted): (bool, bool),
) -> Result<Vec<String>> {
    let all = items.iter().map(|item| (item, false)).chain(kept.iter().map(|item| (item, true)));
    let wanted: Vec<RestoreDatabase<'_>> = all
        .filter_map(|(item, kept)| {
            let (facts, target_name) = (database_of(item)?, item.target.clone());
            Some(RestoreDatabase { facts, target_name, kept })
        })
        .collect();
    let dumped = manifest.tools.get("server").and_then(|version| major_of(version));
    let globals = items.iter().any(|item| item.facts.content == Content::Globals);
    let extent = Extent { whole, globals };
    let found = preflight(server, dumped, &wanted, extent, APPLICATION).await;
    let found = found.context("look at the target server")?;
    let loads = items.iter().any(|item| database_of(item).is_some());
    if let Some(why) = server.withheld(&found.pg_restore.version).filter(|_| loads) {
        let text = format!("{why} (--to-sslmode, --to-ca-file). Nothing was done on the server");
        return Err(Problem::Usage(text).into());
    }
    let runs = running(items);
    if found.superuser && !trusted && !runs.is_empty() {
        return Err(Problem::Runs { user: server.user.clone(), what: runs }.into());
    }
    let mut notes = found.notes;
    if found.superuser {
        notes.extend(runs.iter().map(|one| format!("runs as {}: {one}", server.user)));
        let unasked = |item: &&Item| database_of(item).is_some_and(|facts| facts.runs.is_none());
        notes.extend(items.iter().filter(unasked).map(|item| {
            format!(
                "database {}: an older drctl made this backup and did not look which code of its \
                 owner runs while it is loaded",
                item.target
            )
        }));
    }
    notes.extend(kept.iter().map(|item| {
        format!("database {}: there with all its rows, and left as it is", item.target)
    }));
    Ok(notes)
}
