//! Whether a dump makes anything where nothing is, read from its table of contents.

use anyhow::{Context as _, Result};
use drctl_engines::pg::DumpWalker;
use drctl_model::Stream;
use drctl_store::{Identities, layout, open_segment};
use futures_util::TryStreamExt as _;

use crate::transfer::download::unopened;
use crate::transfer::{Outlet, fetch_sealed, segments};

/// Fetches a dump up to the end of its table of contents, or to the first entry that makes something.
pub(super) async fn makes(
    outlet: &Outlet,
    stream: &Stream,
    identities: &Identities,
) -> Result<bool> {
    let mut walker = DumpWalker::new();
    let mut segments = segments(outlet, stream);
    while let Some(segment) = segments.try_next().await? {
        let sealed = fetch_sealed(outlet, stream, &segment).await?;
        let key = layout::segment(&outlet.source, &outlet.backup, &stream.id, segment.n);
        let identities = identities.clone();
        let open = move || open_segment(&segment, &sealed, &identities);
        let opened = tokio::task::spawn_blocking(open).await?;
        let plain = opened.map_err(|error| unopened(error.into(), key.as_ref()))?;
        walker.push(&plain).context("read the table of contents of the dump")?;
        if let Some(makes) = walker.makes() {
            return Ok(makes);
        }
    }
    Ok(false)
}
