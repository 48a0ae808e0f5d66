//! The backup that somebody names by the beginning of its identifier.

use anyhow::Result;
use drctl_model::{SourceId, shown};

use super::{Proven, Repository};
use crate::host::AgentError;

/// A backup as people name it, by the beginning of its identifier or as `SOURCE/BACKUP`: its source, as far
/// as that is known, and the beginning.
///
/// # Errors
/// [`AgentError::NoBackup`] for what names no source, or another one than `source`.
pub(crate) fn named<'a>(
    source: Option<&SourceId>,
    wanted: &'a str,
) -> Result<(Option<SourceId>, &'a str), AgentError> {
    let Some((of, id)) = wanted.split_once('/') else { return Ok((source.cloned(), wanted)) };
    let other = |what: &str| AgentError::NoBackup(format!("`{}` {what}", shown(wanted, 200)));
    let of = of.parse().map_err(|_| other("is no SOURCE/BACKUP"))?;
    match source {
        Some(source) if *source != of => Err(other(&format!("is no backup of {source}"))),
        _ => Ok((Some(of), id)),
    }
}

/// How many backups are named that somebody may have meant.
const SOME: usize = 5;

impl Repository {
    /// The backup whose identifier begins with `wanted`; with the source and the whole identifier
    /// nothing is listed, so that it is found in a bucket that cannot be.
    ///
    /// # Errors
    /// [`AgentError::NoBackup`] where there is none or more than one; a bad manifest; the store's.
    pub async fn find(&self, source: Option<&SourceId>, wanted: &str) -> Result<Proven> {
        let (named, wanted) = named(source, wanted)?;
        let source = named.as_ref();
        if let (Some(source), Ok(id)) = (source, wanted.parse())
            && let Some(proven) = self.manifest(source, &id).await?
        {
            return Ok(proven);
        }
        let sources = match source {
            Some(source) => vec![source.clone()],
            None => self.sources().await?,
        };
        let mut found = Vec::new();
        for source in sources {
            let ids = self.attempts(&source).await?;
            found.extend(
                ids.into_iter()
                    .filter(|id| id.as_str().starts_with(wanted))
                    .map(|id| (source.clone(), id)),
            );
        }
        match found.as_slice() {
            [] => Err(AgentError::NoBackup(self.nothing(source, wanted).await?).into()),
            [(source, id)] => self.manifest(source, id).await?.ok_or_else(|| {
                let why = "has no manifest: the attempt never ended, or still runs";
                AgentError::NoBackup(format!("{source}/{id} {why}")).into()
            }),
            many => {
                let ids: Vec<String> = many.iter().map(|(s, id)| format!("{s}/{id}")).collect();
                let some = ids[..ids.len().min(SOME)].join(", ");
                let more = if ids.len() > SOME { ", …" } else { "" };
                let text = format!(
                    "`{wanted}` fits {} backups, give more characters: {some}{more}",
                    ids.len()
                );
                Err(AgentError::NoBackup(text).into())
            }
        }
    }

    /// What is said where no backup of a name is there: it may be a source's, or a wrong one of one.
    async fn nothing(&self, source: Option<&SourceId>, wanted: &str) -> Result<String> {
        if let Some(source) = source {
            return Ok(format!("there is no backup `{wanted}` of {source}"));
        }
        let sources = self.sources().await?;
        if sources.iter().any(|source| source.as_str() == wanted) {
            return Ok(format!(
                "`{wanted}` is a source: name one of its backups, as SOURCE/BACKUP"
            ));
        }
        let names: Vec<&str> = sources.iter().map(SourceId::as_str).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Ok(format!(
            "the bucket has no backup `{wanted}`, and no backup of a source `{wanted}`; sources with \
             backups: {names}"
        ))
    }
}
