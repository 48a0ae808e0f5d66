//! What is true of a stanza's archive, whatever pgBackRest's own `info` and `verify` say of it.

use anyhow::{Context as _, Result};
use drctl_engines::backrest::{BackRest, Backup, ClusterArchive, Gap, Info, SegmentName, Walk};
use drctl_engines::pg::{Archived, PgServer, archived};
use drctl_model::{WalSegmentSize, label_begun};

use super::StanzaView;
use super::place::coordinates;
use crate::host::{Failure, Setup};

/// Something that is wrong with a stanza's archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// A stable name.
    pub(crate) code: &'static str,
    /// What, in words.
    pub(crate) text: String,
}

/// What was found out about a stanza's archive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Truth {
    /// How many segments there are.
    pub(crate) segments: u64,
    /// What is wrong.
    pub(crate) faults: Vec<Fault>,
    /// What WAL is lost that no backup covers yet: points in time that are out of reach, until the
    /// next backup. Nothing where there is none.
    pub(crate) incident: Option<String>,
}

/// Walks over the archive of a cluster and compares it with what the backups need, and with what
/// the server says that it archived.
///
/// # Errors
/// A segment that cannot be with this size.
pub(crate) fn truth(
    stanza: &StanzaView,
    (system_id, size): (u64, WalSegmentSize),
    archived: Option<SegmentName>,
) -> Result<Truth> {
    let mut found = Truth::default();
    let Some(cluster) = stanza.cluster(system_id) else { return Ok(found) };
    let mut backups: Vec<&Backup> =
        stanza.info.backups.iter().filter(|b| b.database_id == cluster.id).collect();
    backups.sort_by_key(|backup| (backup.stopped, &backup.label));
    let nothing = ClusterArchive {
        id: String::new(),
        version: cluster.version.clone(),
        database_id: cluster.id,
        segments: Vec::new(),
        partials: Vec::new(),
        histories: Vec::new(),
        others: 0,
    };
    let archive = stanza.archive(system_id).unwrap_or(&nothing);
    found.segments = archive.segments.len() as u64;
    let walk = Walk::over(archive, size).context("check pgBackRest's archive for gaps")?;
    for name in &walk.doubles {
        let text = format!(
            "the archive has two segments {name} that differ: two servers have archived into this \
             stanza, and pgBackRest delivers neither"
        );
        found.faults.push(Fault { code: "log_conflict", text });
    }
    let needed: Vec<(SegmentName, SegmentName)> =
        backups.iter().filter_map(|backup| needs(backup)).collect();
    for gap in walk.gaps().filter(|gap| !gap.may_be_expired(&needed)) {
        found.faults.push(Fault { code: "log_gap", text: told(&gap) });
    }
    for backup in &backups {
        let Some((first, last)) = needs(backup) else { continue };
        for gap in walk.missing(first, last)? {
            let text =
                format!("the backup {} cannot be made consistent: {}", backup.label, told(&gap));
            found.faults.push(Fault { code: "log_gap", text });
        }
    }
    let gone = unexplained(stanza, &backups);
    found
        .faults
        .extend(gone.iter().map(|(_, text)| Fault { code: "no_backup", text: text.clone() }));
    let newest = backups.last().and_then(|backup| needs(backup));
    let last = archive.segments.last().map(|segment| segment.name);
    found.incident = lost(&walk, newest, last.max(archived), archived)?;
    if let Some(text) = &found.incident {
        found.faults.push(Fault { code: "log_gap", text: text.clone() });
    }
    let unmade = gone.into_iter().rev().find(|(covered, _)| !covered);
    found.incident = found.incident.or(unmade.map(|(_, text)| text));
    Ok(found)
}

/// What of the list of backups and of their directories does not belong together, in words, each with
/// whether a later backup is there.
fn unexplained(stanza: &StanzaView, there: &[&Backup]) -> Vec<(bool, String)> {
    gone(stanza, there).into_iter().chain(unlisted(&stanza.info)).collect()
}

/// The backups that pgBackRest lists and whose files are gone, each with whether a later one is there.
fn gone(stanza: &StanzaView, there: &[&Backup]) -> Vec<(bool, String)> {
    let told = |backup: &Backup| {
        let text = format!(
            "the files of the backup {} are gone from pgBackRest's repository (its directory, or that \
             of one it is based on), though pgBackRest lists it",
            backup.label
        );
        (there.last().is_some_and(|last| last.stopped > backup.stopped), text)
    };
    stanza.info.gone.iter().map(told).collect()
}

/// The backups that are there and that pgBackRest does not list, which no expiry leaves behind; each with
/// whether a later one is listed.
fn unlisted(info: &Info) -> impl Iterator<Item = (bool, String)> {
    let last = info.backups.iter().map(|backup| label_begun(&backup.label)).max();
    info.unlisted.iter().map(move |label| {
        let text = format!(
            "pgBackRest does not list the backup {label}, whose directory is there: backup.info is an \
             older one, and no expiry. Put the newer one back before a backup or an expiry writes it \
             anew"
        );
        (last > Some(label_begun(label)), text)
    })
}

/// What is missing from the newest backup on, up to the last segment that is there or that the
/// server says it has archived.
fn lost(
    walk: &Walk,
    newest: Option<(SegmentName, SegmentName)>,
    until: Option<SegmentName>,
    archived: Option<SegmentName>,
) -> Result<Option<String>> {
    let Some(((first, last), until)) = newest.zip(until) else { return Ok(None) };
    let gaps = walk.missing(first, until.max(last))?;
    let Some(gap) = gaps.first() else { return Ok(None) };
    let dropped = match archived.filter(|archived| *archived >= gap.first()) {
        Some(archived) => format!(
            "; the server says that it has archived {archived}: pgBackRest may have dropped WAL \
             (archive-push-queue-max), or somebody removed it"
        ),
        None => String::new(),
    };
    let more = gaps.len().saturating_sub(1);
    let more = if more > 0 { format!(" (and {more} more gap(s))") } else { String::new() };
    Ok(Some(format!("since the newest backup {}{more}{dropped}", told(gap))))
}

impl StanzaView {
    /// The same as [`StanzaView::of`], after its server was asked what it has archived: what that names
    /// must be in the list. What pgBackRest `said` just now is not asked again, unless something seems to
    /// be missing: it may have been expired meanwhile.
    ///
    /// # Errors
    /// As [`StanzaView::of`].
    pub(crate) async fn with_server(
        setup: &Setup,
        source: &str,
        said: Option<Info>,
    ) -> Result<Option<StanzaView>> {
        let Some((_, configured)) = setup.configured(source) else { return Ok(None) };
        let Some(backrest) = super::engine_of(setup, source)? else { return Ok(None) };
        let asking = async {
            let server = setup.server(configured)?;
            Ok::<_, anyhow::Error>(archived(&server, "drctl/backrest").await?)
        };
        let archived = asking.await.map_err(|error| Failure::of(&error).messages.join(": "));
        let archived = Some(archived);
        if said.is_some() {
            let seen = StanzaView::look(backrest.clone(), said).await?;
            let seen = StanzaView { archived: archived.clone(), ..seen };
            if seen.truth()?.faults.is_empty() {
                return Ok(Some(seen));
            }
        }
        let seen = StanzaView::look(backrest, None).await?;
        Ok(Some(StanzaView { archived, ..seen }))
    }

    /// In what pgBackRest's list of backups and their directories differ, which no expiry leaves behind.
    pub(crate) fn differs(&self) -> Vec<String> {
        unexplained(self, &[]).into_iter().map(|(_, text)| text).collect()
    }

    /// What is true of its present cluster, by what that one's server said too, where it was asked;
    /// nothing is known of one without backups.
    ///
    /// # Errors
    /// A segment that cannot be with the cluster's size.
    pub(crate) fn truth(&self) -> Result<Truth> {
        let Some(system_id) = self.info.current().map(|cluster| cluster.system_id) else {
            return Ok(Truth::default());
        };
        let said = self.archived.as_ref().and_then(|said| said.as_ref().ok());
        let said = said.filter(|said| said.system_id == system_id);
        let size = match said {
            Some(said) => Some(said.segment_size),
            None => size_of(&self.info, system_id),
        };
        let Some(size) = size else { return Ok(Truth::default()) };
        truth(self, (system_id, size), said.and_then(last_archived))
    }
}

/// The size of a cluster's segments, as its backups show it.
fn size_of(info: &Info, system_id: u64) -> Option<WalSegmentSize> {
    let of = |backup: &&Backup| {
        info.cluster(backup.database_id).is_some_and(|cluster| cluster.system_id == system_id)
    };
    let mut all = info.backups.iter().filter(of);
    all.find_map(|backup| coordinates(info, backup, None).ok()).map(|at| at.segment_size)
}

/// What WAL is lost that no backup covers yet, of the server's own cluster. Where that cannot be
/// told it is said, and is no reason against a backup.
pub(crate) async fn incident(engine: &BackRest, info: &Info, server: &PgServer) -> Option<String> {
    let looking = async {
        let said = archived(server, "drctl/backup").await?;
        let listing = engine.listing().await?;
        let (backrest, info) = (engine.clone(), info.clone());
        let stanza = StanzaView { backrest, info, listing, archived: None };
        let of = (said.system_id, said.segment_size);
        Ok::<_, anyhow::Error>(truth(&stanza, of, last_archived(&said))?.incident)
    };
    let found = looking.await;
    found.unwrap_or_else(|error| {
        tracing::warn!("whether WAL is lost is not known: {error:#}");
        None
    })
}

/// The last segment that a server says it has archived.
pub(crate) fn last_archived(said: &Archived) -> Option<SegmentName> {
    said.last.as_deref().and_then(SegmentName::parse)
}

/// The segments that a backup needs for its own consistency.
fn needs(backup: &Backup) -> Option<(SegmentName, SegmentName)> {
    let (first, last) = backup.wal.as_ref()?;
    SegmentName::parse(first).zip(SegmentName::parse(last))
}

fn told(gap: &Gap) -> String {
    match gap.segments() {
        1 => format!("the segment {} is missing", gap.first()),
        n => format!("{n} segments are missing, {} to {}", gap.first(), gap.last()),
    }
}
