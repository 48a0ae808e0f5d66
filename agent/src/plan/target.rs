//! A target server, before anything is restored into it.

use anyhow::{Context as _, Result};
use drctl_engines::pg::{
    Extent, PgServer, RestoreDatabase, compare_rows, count_rows, filled, major_of, preflight,
};
use drctl_model::{Content, DatabaseFacts, Manifest};

use super::{APPLICATION, Item};

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

fn database_of(item: &Item) -> Option<&DatabaseFacts> {
    match &item.facts.content {
        Content::Database(facts) => Some(facts),
        Content::Globals | Content::Tablespace(_) | Content::Listing => None,
    }
}

pub(super) async fn look_at(
    server: &PgServer,
    manifest: &Manifest,
    items: &[Item],
    kept: &[Item],
    whole: bool,
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
    let mut notes = found.context("look at the target server")?.notes;
    notes.extend(kept.iter().map(|item| {
        format!("database {}: there with all its rows, and left as it is", item.target)
    }));
    Ok(notes)
}
