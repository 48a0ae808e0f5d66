//! Notes and indexes of the log that this host has read: whether they are still there.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{IndexPlace, Lineage, LogPart, LogPlace, NoteName};
use drctl_store::{Key, layout};
use futures_util::{StreamExt as _, stream};

use super::LogStore;
use super::listing::Listed;
use crate::repository::documents::{Missed, some};
use crate::repository::faults::{is_bad_manifest, is_missing};
use crate::repository::removed::log_floors;

/// How many that this host does not know yet are read in one look: the next one reads more.
const MOST_NEW: usize = 64;

/// How many are fetched at once.
const AT_ONCE: usize = 16;

/// What lies under a key.
enum Document {
    Note(LogPlace),
    Index(IndexPlace),
}

impl Document {
    fn at(key: &str) -> Option<Document> {
        let key = Key::from(key);
        if let Some((_, place)) = layout::log_index_at(&key) {
            return Some(Document::Index(place));
        }
        let (_, place) = layout::piece_at(&key)?;
        matches!(place.part, LogPart::Note { .. }).then_some(Document::Note(place))
    }

    fn lineage(&self) -> &Lineage {
        match self {
            Document::Note(place) => &place.lineage,
            Document::Index(place) => &place.lineage,
        }
    }

    fn why(&self) -> &'static str {
        match self {
            Document::Note(_) => {
                "it was there before and is gone, a note on a log: nothing else may lead there"
            }
            Document::Index(_) => {
                "it was there before and is gone, an index of a log, which saves time only"
            }
        }
    }
}

/// Tells the catalog which notes and indexes of some lineages are gone, and which are there again; what is
/// new is read, and noted. That this cannot be done keeps nobody from the log.
pub(super) async fn look_for_documents(
    log_store: &LogStore,
    cache: Option<&Catalog>,
    of: impl Fn(&Lineage) -> bool,
    listed: (&BTreeMap<Lineage, Listed>, &BTreeSet<IndexPlace>),
) {
    let Some(cache) = cache else { return };
    if let Err(error) = look(log_store, cache, of, listed).await {
        tracing::debug!("whether notes and indexes are gone is not known: {error:#}");
    }
}

async fn look(
    log_store: &LogStore,
    cache: &Catalog,
    of: impl Fn(&Lineage) -> bool,
    (listed, contradicted): (&BTreeMap<Lineage, Listed>, &BTreeSet<IndexPlace>),
) -> Result<()> {
    let source = &log_store.source;
    let there: BTreeSet<String> =
        listed.iter().flat_map(|(lineage, listed)| keys(log_store, lineage, listed)).collect();
    // One that lies is missed by nobody.
    let lies = contradicted.iter().map(|place| layout::log_index(source, place).to_string());
    let lies: BTreeSet<String> = lies.collect();
    let mut known = known(log_store, cache, of).await?;
    known.retain(|key, _| !lies.contains(key));
    let (gone, mut over) = missing(log_store, cache, &known, &there).await?;
    let kept = cache.lost(Some(source)).await?.into_iter().map(|lost| lost.key);
    let back = kept.filter(|key| there.contains(key)).collect();
    cache.remember_lost(source, log_store.now(), gone, back).await?;
    let is_new = |key: &String| !known.contains_key(key) && !lies.contains(key);
    let new = there.into_iter().filter(is_new).collect();
    let read = believed(log_store, some(new, MOST_NEW)).await?;
    over.extend(lies);
    Ok(cache.note_documents(source, read, over).await?)
}

/// What a catalog knows of all lineages, and what of that a listing of the whole log lacks.
///
/// # Errors
/// The store's, and the catalog's.
pub(crate) async fn missed_documents(log_store: &LogStore, cache: &Catalog) -> Result<Missed> {
    let known = known(log_store, cache, |_| true).await?;
    if known.is_empty() {
        return Ok(Missed::default());
    }
    let listed = log_store.listed(|_| true).await?;
    let there: BTreeSet<String> =
        listed.iter().flat_map(|(lineage, listed)| keys(log_store, lineage, listed)).collect();
    let (gone, _) = missing(log_store, cache, &known, &there).await?;
    Ok(Missed { gone, known: known.into_keys().collect() })
}

/// The keys of all notes and indexes of a lineage that are listed.
fn keys(log_store: &LogStore, lineage: &Lineage, listed: &Listed) -> Vec<String> {
    let source = &log_store.source;
    let note = |name: &NoteName| {
        let part = LogPart::Note { name: name.clone() };
        layout::piece(source, &LogPlace { lineage: lineage.clone(), part }).to_string()
    };
    let indexes = listed.indexes.iter().map(|place| layout::log_index(source, place).to_string());
    listed.notes.iter().map(note).chain(indexes).collect()
}

/// Those of some lineages that a catalog knows.
async fn known(
    log_store: &LogStore,
    cache: &Catalog,
    of: impl Fn(&Lineage) -> bool,
) -> Result<BTreeMap<String, Document>> {
    let all = cache.documents(&log_store.source).await?.into_iter();
    let of_log = all.filter_map(|key| Document::at(&key).map(|document| (key, document)));
    Ok(of_log.filter(|(_, document)| of(document.lineage())).collect())
}

/// What is gone of those that are known, with why; and what of it was removed on purpose.
async fn missing(
    log_store: &LogStore,
    cache: &Catalog,
    known: &BTreeMap<String, Document>,
    there: &BTreeSet<String>,
) -> Result<(BTreeMap<String, String>, BTreeSet<String>)> {
    let (mut gone, mut over) = (BTreeMap::new(), BTreeSet::new());
    let missing: Vec<_> = known.iter().filter(|(key, _)| !there.contains(*key)).collect();
    if missing.is_empty() {
        return Ok((gone, over));
    }
    let floors = log_floors(log_store.repository(), cache, &log_store.source).await?;
    for (key, document) in missing {
        let floor = floors.get(document.lineage());
        match document {
            Document::Index(place) if floor.is_some_and(|floor| place.end <= *floor) => {
                over.insert(key.clone());
            }
            document => drop(gone.insert(key.clone(), document.why().to_owned())),
        }
    }
    Ok((gone, over))
}

/// Those of some that are what their keys say, signed by whom we trust.
async fn believed(log_store: &LogStore, keys: Vec<String>) -> Result<BTreeSet<String>> {
    let reading = keys.into_iter().map(|key| async move {
        let read = match Document::at(&key) {
            Some(Document::Note(place)) => log_store.head(&place).await.map(drop),
            Some(Document::Index(place)) => log_store.log_index(&place).await.map(drop),
            None => return Ok(None),
        };
        match read {
            Err(error) if is_bad_manifest(&error) || is_missing(&error) => Ok(None),
            read => read.map(|()| Some(key)),
        }
    });
    let mut reading = stream::iter(reading).buffered(AT_ONCE);
    let mut read = BTreeSet::new();
    while let Some(one) = reading.next().await {
        read.extend(one?);
    }
    Ok(read)
}
