//! What was made and said, as nobody but the simulation knows it, and what has to hold of each object that is
//! written or removed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use drctl_model::{BackupId, Digest, Manifest, SourceId};
use drctl_policies::RetentionPolicy;
use drctl_store::layout::{self, Kind};
use drctl_tests::envelope::opened;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use object_store::path::Path;

use crate::cluster::SEGMENT;
use crate::oracle::needed;
use crate::store::Objects;

/// For how long what an attempt has left stays at least.
const ORPHAN: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A backup whose manifest the bucket got.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) taken: Timestamp,
    pub(crate) start: u64,
    pub(crate) stop: u64,
    pub(crate) parent: Option<BackupId>,
    pub sha256: Digest,
}

/// A stretch of a cluster's log that ends with one commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) commit: Timestamp,
}

/// A removal that runs.
pub(crate) struct Removing {
    /// The backups that were there when it began.
    pub(crate) there: BTreeSet<BackupId>,
    /// Whether nobody said how much may go.
    pub(crate) unattended: bool,
    gone: usize,
    /// Whether somebody pinned a backup since it began.
    pub(crate) pinned: bool,
}

/// What is true of one source.
#[derive(Default)]
pub(crate) struct OfSource {
    /// All backups that ever were.
    pub(crate) made: BTreeMap<BackupId, Made>,
    /// Its cluster's log.
    pub(crate) log: Vec<Piece>,
    /// How many pieces of it were acknowledged.
    pub(crate) shipped: usize,
    pub(crate) pinned: BTreeSet<BackupId>,
    pub(crate) frozen: bool,
    pub(crate) removing: Option<Removing>,
}

/// What is true of a world.
pub(crate) struct Truth {
    pub(crate) sources: BTreeMap<SourceId, OfSource>,
    pub(crate) policy: RetentionPolicy,
    pub(crate) zone: TimeZone,
    /// What must never be, and was.
    pub(crate) wrong: Vec<String>,
}

impl OfSource {
    /// The backups whose manifests lie in the bucket.
    pub(crate) fn there<'a>(
        &'a self,
        objects: &Objects,
        source: &SourceId,
    ) -> Vec<(&'a BackupId, &'a Made)> {
        let is_there = |id: &BackupId| objects.contains_key(layout::manifest(source, id).as_ref());
        self.made.iter().filter(|(id, _)| is_there(id)).collect()
    }

    /// Says that a removal begins.
    pub(crate) fn removal_begins(
        &mut self,
        objects: &Objects,
        source: &SourceId,
        unattended: bool,
    ) {
        let there = self.there(objects, source).into_iter().map(|(id, _)| id.clone()).collect();
        self.removing = Some(Removing { there, unattended, gone: 0, pinned: false });
    }
}

fn below<'a>(
    objects: &'a Objects,
    folder: &Path,
) -> impl Iterator<Item = (&'a String, &'a (Bytes, Timestamp))> {
    let prefix = format!("{folder}/");
    objects.range(prefix.clone()..).take_while(move |(key, _)| key.starts_with(&prefix))
}

impl Truth {
    /// What is true of a source.
    pub(crate) fn of(&mut self, source: &SourceId) -> &mut OfSource {
        self.sources.get_mut(source).expect("it is one")
    }

    /// An object is about to be written.
    pub(crate) fn written(&mut self, objects: &Objects, at: &Path, bytes: &Bytes) {
        let Kind::Manifest(source, id) = layout::classify(at) else { return };
        let manifest: Manifest =
            serde_json::from_value(opened(bytes)).expect("drctl writes manifests");
        let segments: u64 = manifest.streams.iter().map(|stream| stream.segments).sum();
        let there = below(objects, &layout::backup(&source, &id)).count() as u64;
        if there < segments {
            self.wrong.push(format!("{at} is written with {there} of {segments} segments there"));
        }
        let Some(place) = manifest.kind.coordinates() else { return };
        let sha256 = drctl_store::digest(bytes);
        let parent = manifest.kind.parent().map(|parent| parent.backup.clone());
        let made = Made {
            taken: manifest.summary(sha256).taken(),
            start: place.start.0,
            stop: place.stop.0,
            parent,
            sha256,
        };
        let of = self.sources.entry(source).or_default();
        of.made.insert(id, made);
    }

    /// An object is about to be removed.
    pub(crate) fn removed(&mut self, objects: &Objects, at: &Path, now: Timestamp) {
        if !objects.contains_key(at.as_ref()) {
            return;
        }
        let wrong = match layout::classify(at) {
            Kind::Manifest(source, id) => self.manifest_removed(objects, (&source, &id)),
            Kind::Data(source, id) => self.data_removed(objects, (&source, &id), now),
            Kind::Log(source) => self.log_removed(objects, &source, at),
            Kind::Probe => None,
            other => Some(format!("nobody removes a {other:?}")),
        };
        self.wrong.extend(wrong.map(|why| format!("{at} was removed at {now}: {why}")));
    }

    fn manifest_removed(
        &mut self,
        objects: &Objects,
        (source, id): (&SourceId, &BackupId),
    ) -> Option<String> {
        let (policy, zone) = (&self.policy, &self.zone);
        let of = self.sources.get_mut(source)?;
        if of.frozen {
            return Some("the source is frozen".to_owned());
        }
        if !objects.contains_key(layout::tombstone(source, id).as_ref()) {
            return Some("it has no tombstone".to_owned());
        }
        let Some(removing) = &mut of.removing else {
            return Some("no removal runs".to_owned());
        };
        removing.gone += 1;
        if removing.unattended && removing.gone * 2 > removing.there.len() {
            return Some("more than half go, and nobody said so".to_owned());
        }
        let there: Vec<(&BackupId, &Made)> =
            of.made.iter().filter(|(id, _)| removing.there.contains(*id)).collect();
        let why = needed(policy, zone, &there, &of.pinned).remove(id);
        let child = of.made.iter().find(|(child, made)| {
            let is_there = objects.contains_key(layout::manifest(source, child).as_ref());
            made.parent.as_ref() == Some(id) && is_there
        });
        why.or_else(|| child.map(|(child, _)| format!("{child} is based on it")))
    }

    fn data_removed(
        &self,
        objects: &Objects,
        (source, id): (&SourceId, &BackupId),
        now: Timestamp,
    ) -> Option<String> {
        if objects.contains_key(layout::manifest(source, id).as_ref()) {
            return Some("its manifest is there".to_owned());
        }
        let known = self.sources.get(source).is_some_and(|of| of.made.contains_key(id));
        if objects.contains_key(layout::tombstone(source, id).as_ref()) {
            return None;
        }
        if known {
            return Some("it has no tombstone".to_owned());
        }
        let newest =
            below(objects, &layout::backup(source, id)).map(|(_, object)| object.1).max()?;
        (newest + ORPHAN > now).then(|| format!("the attempt is of {newest}"))
    }

    fn log_removed(&self, objects: &Objects, source: &SourceId, at: &Path) -> Option<String> {
        let (_, place) = layout::piece_at(at)?;
        let drctl_model::LogPart::Range { end, .. } = place.part else {
            return Some("notes stay".to_owned());
        };
        let floors =
            objects.keys().filter_map(|key| layout::log_floor_at(&Path::from(key.as_str())));
        let floors = floors.filter(|(of, lineage, _)| of == source && *lineage == place.lineage);
        if floors.map(|(.., before)| before).max().is_none_or(|before| before < end) {
            return Some("no floor says so".to_owned());
        }
        let there = self.sources.get(source)?.there(objects, source);
        let oldest = there.into_iter().min_by_key(|(_, made)| made.start)?;
        (end.0 > oldest.1.start / SEGMENT * SEGMENT).then(|| format!("{} needs it", oldest.0))
    }
}
