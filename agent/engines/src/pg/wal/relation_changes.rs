//! What transactions did to relations, read out of whole segments: what an incident looks like in
//! the WAL. Relations are numbers there; their names are in the catalog of a server.
//!
//! The WAL is believed here: its pieces are signed, and were proven when they were stored. What
//! cannot be read is passed over, and counts nothing. Sources: `xlogrecord.h`, `heapam_xlog.h`,
//! `xact.h`, `storage_xlog.h`, `dbcommands_xlog.h` of PostgreSQL 15 to 18.

use std::collections::{BTreeMap, HashMap, HashSet};

use drctl_model::Lsn;
use jiff::Timestamp;

use super::bytes::Reader;
use super::fragments::{End, Fragments, first_block, fragments, main_data, relation_of};
use super::records::{Record, Records};

/// The most transactions that are open at once: those beyond are passed over.
const OPEN: usize = 100_000;
/// The catalog of relations, unless it was rewritten.
const PG_CLASS: u32 = 1259;
/// The catalog of types: each table and view has one, no index and no TOAST table has.
const PG_TYPE: u32 = 1247;
/// The first number that is not the system's own.
const FIRST_USER: u32 = 16_384;
/// PostgreSQL's epoch in microseconds from 1970.
const EPOCH: i64 = 946_684_800_000_000;

/// Resource managers (`rmgrlist.h`).
const XLOG: u8 = 0;
const XACT: u8 = 1;
const SMGR: u8 = 2;
const DATABASE: u8 = 4;
const HEAP2: u8 = 9;
const HEAP: u8 = 10;

/// A file of a relation, as the WAL names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Relation {
    /// The tablespace's OID.
    pub tablespace: u32,
    /// The database's OID.
    pub database: u32,
    /// The file's number.
    pub file: u32,
}

/// What a transaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It removed relations: tables, or their indexes.
    Dropped,
    /// It emptied relations.
    Truncated,
    /// It deleted rows.
    Deleted,
    /// It changed rows.
    Updated,
    /// It removed a database.
    DroppedDatabase,
}

/// What a transaction did to relations of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationChange {
    /// What it did.
    pub kind: Kind,
    /// When it was committed.
    pub time: Timestamp,
    /// Its number.
    pub xid: u32,
    /// Where the record of its commit begins.
    pub at: Lsn,
    /// To what, each with the rows that were counted; 0 where none are. Of a database its OID alone.
    pub relations: Vec<(Relation, u64)>,
}

/// A row of a table: its block, and its number there.
type Place = (u32, u16);

/// What a transaction has done so far.
#[derive(Debug, Default)]
struct Doing {
    deleted: HashMap<Relation, u64>,
    updated: HashMap<Relation, u64>,
    /// Files that it made, with how many records write into each.
    made: HashMap<Relation, u64>,
    /// Its rows of the catalogs of relations and of types.
    classes: Catalog,
    types: Catalog,
    /// Whether a record says that it truncates.
    truncates: bool,
    databases: Vec<u32>,
}

/// What a transaction has done to the rows of a catalog.
#[derive(Debug, Default)]
struct Catalog {
    /// Where rows lie that it wrote itself: of what it makes, or only makes for a while (VACUUM FULL,
    /// ALTER TABLE).
    own: HashSet<Place>,
    /// Rows that it wrote, and those of them that it deleted.
    listed: u64,
    passing: u64,
    /// Rows that others wrote and it deleted, and that it changed.
    unlisted: u64,
    changed: u64,
}

/// Reads segments in the order of the WAL, and tells what was committed in them.
#[derive(Debug)]
pub struct RelationChanges {
    least: u64,
    records: Records,
    long_stats: bool,
    at: Lsn,
    open: HashMap<u32, Doing>,
    found: Vec<RelationChange>,
}

impl RelationChanges {
    /// Tells of rows only where at least so many of one relation were deleted or changed.
    #[must_use]
    pub fn new(least: u64) -> Self {
        RelationChanges {
            least,
            records: Records::default(),
            long_stats: false,
            at: Lsn(0),
            open: HashMap::new(),
            found: Vec::new(),
        }
    }

    /// Reads a segment, or as much of one as there is, with zeros behind it. After a segment that is
    /// left out it begins anew, and does not count what lies before.
    pub fn feed(&mut self, start: Lsn, bytes: &[u8]) {
        let mut records = std::mem::take(&mut self.records);
        records.feed(start, bytes, |record| {
            // What means nothing here, or cannot be read, is passed over.
            let _ = self.record(record);
        });
        self.records = records;
    }

    /// What was found since it was asked last, in the order of the commits in the WAL.
    pub fn take(&mut self) -> Vec<RelationChange> {
        std::mem::take(&mut self.found)
    }

    /// One record; nothing of one that means nothing here, or cannot be read.
    fn record(&mut self, record: Record<'_>) -> Option<()> {
        let Record { at, long_stats, xid, info, manager, body } = record;
        (self.at, self.long_stats) = (at, long_stats);
        if manager == XACT {
            return self.ended(xid, info, main_data(body)?);
        }
        if xid == 0 || (self.open.len() >= OPEN && !self.open.contains_key(&xid)) {
            return None;
        }
        let relation = first_block(body);
        if let (HEAP, Some(Relation { file: file @ (PG_CLASS | PG_TYPE), .. })) =
            (manager, relation)
        {
            let (doing, record) = (self.doing(xid), fragments(body)?);
            let catalog = if file == PG_CLASS { &mut doing.classes } else { &mut doing.types };
            catalog.note(info & 0x70, &record);
        }
        match (manager, info & 0x70, relation) {
            (HEAP, 0x10, Some(relation)) => self.doing(xid).delete(relation),
            (HEAP, 0x20 | 0x40, Some(relation)) => self.doing(xid).update(relation),
            (HEAP, 0x30, _) => self.doing(xid).truncates = true,
            (SMGR, 0x10, None) => {
                let mut data = Reader(main_data(body)?);
                let (relation, fork) = (relation_of(&mut data)?, data.u32()?);
                if fork == 0 {
                    self.doing(xid).made.entry(relation).or_default();
                }
            }
            (DATABASE, 0x20, None) => {
                let database = Reader(main_data(body)?).u32()?;
                self.doing(xid).databases.push(database);
            }
            _ => {}
        }
        if let (HEAP | HEAP2 | XLOG, Some(relation)) = (manager, relation)
            && let Some(doing) = self.open.get_mut(&xid)
            && let Some(written) = doing.made.get_mut(&relation)
        {
            *written += 1;
        }
        Some(())
    }

    fn doing(&mut self, xid: u32) -> &mut Doing {
        self.open.entry(xid).or_default()
    }

    /// A commit or an abort.
    fn ended(&mut self, xid: u32, info: u8, data: &[u8]) -> Option<()> {
        let committed = matches!(info & 0x70, 0x00 | 0x30);
        if !committed && !matches!(info & 0x70, 0x20 | 0x40) {
            return None;
        }
        let end = End::read(info, data, self.long_stats)?;
        let xid = end.prepared.unwrap_or(xid);
        let mut doing = self.open.remove(&xid).unwrap_or_default();
        for sub in &end.subtransactions {
            if let Some(more) = self.open.remove(sub) {
                doing.join(more);
            }
        }
        if committed {
            let time = Timestamp::from_microsecond(end.time.checked_add(EPOCH)?).ok()?;
            let change =
                |(kind, relations)| RelationChange { kind, time, xid, at: self.at, relations };
            let changes: Vec<RelationChange> =
                doing.judge(&end.removed, self.least).map(change).collect();
            self.found.extend(changes);
        }
        Some(())
    }
}

impl Catalog {
    /// What is done to a row of it (`heapam_xlog.h`).
    fn note(&mut self, what: u8, record: &Fragments<'_>) -> Option<()> {
        let (&new, &old) = (record.blocks.first()?, record.blocks.last()?);
        let mut data = Reader(record.data);
        match what {
            0x00 => {
                self.listed += 1;
                self.own.insert((new, data.u16()?));
            }
            0x10 => {
                let (_xmax, row) = (data.u32()?, data.u16()?);
                match self.own.remove(&(new, row)) {
                    true => self.passing += 1,
                    false => self.unlisted += 1,
                }
            }
            0x20 | 0x40 => {
                let (_xmax, row) = (data.u32()?, data.u16()?);
                let (_flags, _xmax) = (data.u16()?, data.u32()?);
                let now = data.u16()?;
                if self.own.remove(&(old, row)) {
                    self.own.insert((new, now));
                } else {
                    self.changed += 1;
                }
            }
            _ => {}
        }
        Some(())
    }

    fn join(&mut self, other: Catalog) {
        self.own.extend(other.own);
        self.listed += other.listed;
        self.passing += other.passing;
        self.unlisted += other.unlisted;
        self.changed += other.changed;
    }
}

impl Doing {
    fn delete(&mut self, relation: Relation) {
        *self.deleted.entry(relation).or_default() += 1;
    }

    fn update(&mut self, relation: Relation) {
        *self.updated.entry(relation).or_default() += 1;
    }

    fn join(&mut self, other: Doing) {
        for (ours, theirs) in [
            (&mut self.deleted, other.deleted),
            (&mut self.updated, other.updated),
            (&mut self.made, other.made),
        ] {
            for (relation, count) in theirs {
                *ours.entry(relation).or_default() += count;
            }
        }
        self.classes.join(other.classes);
        self.types.join(other.types);
        self.truncates |= other.truncates;
        self.databases.extend(other.databases);
    }

    /// What it comes to, when it commits and removes these files.
    fn judge(
        self,
        removed: &[Relation],
        least: u64,
    ) -> impl Iterator<Item = (Kind, Vec<(Relation, u64)>)> {
        let users = |relation: &&Relation| relation.file >= FIRST_USER;
        let gone: Vec<(Relation, u64)> =
            removed.iter().filter(users).map(|relation| (*relation, 0)).collect();
        let kind = if self.classes.unlisted > 0 && !self.wrote_anew() {
            Some(Kind::Dropped)
        } else if self.truncates || (self.classes.listed == 0 && self.made_nothing_of()) {
            Some(Kind::Truncated)
        } else {
            // It was written anew (VACUUM FULL, ALTER TABLE, REINDEX): its rows are there.
            None
        };
        let files: HashSet<Relation> = gone.iter().map(|(relation, _)| *relation).collect();
        let rows = |counts: HashMap<Relation, u64>| {
            let large = counts.into_iter().filter(|(relation, count)| {
                *count >= least && relation.file >= FIRST_USER && !files.contains(relation)
            });
            large.collect::<BTreeMap<_, _>>().into_iter().collect::<Vec<_>>()
        };
        let of_database = |database: u32| (Relation { tablespace: 0, database, file: 0 }, 0);
        let databases = self.databases.into_iter().map(of_database).collect();
        let all = [
            (Some(Kind::DroppedDatabase), databases),
            (kind, gone),
            (Some(Kind::Deleted), rows(self.deleted)),
            (Some(Kind::Updated), rows(self.updated)),
        ];
        let there = all.into_iter().filter(|(_, relations)| !relations.is_empty());
        there.filter_map(|(kind, relations)| Some((kind?, relations)))
    }

    /// Whether what it removed are indexes and TOAST tables of what it wrote anew: each has a new one in
    /// its place, and what took up the rows lasted for a while alone (REFRESH MATERIALIZED VIEW, ALTER
    /// TABLE; `finish_heap_swap` in `cluster.c`).
    fn wrote_anew(&self) -> bool {
        let Catalog { own, passing, unlisted, changed, .. } = &self.classes;
        self.types.unlisted == 0
            && *passing > 0
            && changed >= passing
            && own.len() as u64 >= *unlisted
    }

    /// Whether one of the files that it made in place of others stayed empty.
    fn made_nothing_of(&self) -> bool {
        self.made.values().any(|written| *written == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::PAGE;
    use super::*;

    fn relation(file: u32) -> Relation {
        Relation { tablespace: 1663, database: 5, file }
    }

    fn judged(doing: Doing, removed: &[Relation]) -> Vec<(Kind, Vec<(Relation, u64)>)> {
        doing.judge(removed, 10).collect()
    }

    #[test]
    fn what_a_transaction_did_is_told_by_what_it_left() {
        let (old, new, class) = (relation(20_000), relation(20_001), relation(PG_CLASS));
        let row = |block: u32, data: &'static [u8]| Fragments { blocks: vec![block], data };
        let mut dropped = Doing::default();
        dropped.classes.note(0x10, &row(3, &[0, 0, 0, 0, 7, 0]));
        assert_eq!(judged(dropped, &[old]), [(Kind::Dropped, vec![(old, 0)])]);
        // What it made itself, changed, and removed again.
        let mut anew = Doing { made: HashMap::from([(new, 0)]), ..Doing::default() };
        anew.classes.note(0x00, &row(3, &[7, 0]));
        anew.classes.note(0x40, &row(3, &[0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8, 0]));
        anew.classes.note(0x10, &row(3, &[0, 0, 0, 0, 8, 0]));
        assert!(judged(anew, &[old]).is_empty());
        // The same with TOAST tables and indexes: its own stay, and those of others go.
        let anew = |listed: u16, removed: u16| {
            let mut anew = Doing { made: HashMap::from([(new, 1)]), ..Doing::default() };
            for row in 0..listed {
                anew.classes.note(0x00, &Fragments { blocks: vec![3], data: &row.to_le_bytes() });
            }
            anew.classes.note(0x20, &row(4, &[0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 10, 0]));
            anew.classes.note(0x10, &row(3, &[0, 0, 0, 0, 0, 0]));
            for row in 0..removed {
                let [low, high] = (20 + row).to_le_bytes();
                let data = &[0, 0, 0, 0, low, high];
                anew.classes.note(0x10, &Fragments { blocks: vec![4], data });
            }
            anew
        };
        assert!(judged(anew(3, 2), &[old]).is_empty());
        for removes_more in [anew(3, 3), anew(1, 1)] {
            assert_eq!(judged(removes_more, &[old])[0].0, Kind::Dropped);
        }
        let mut with_a_table = anew(5, 3);
        with_a_table.types.note(0x10, &row(3, &[0, 0, 0, 0, 7, 0]));
        assert_eq!(judged(with_a_table, &[old])[0].0, Kind::Dropped);
        let made = |records| Doing { made: HashMap::from([(new, records)]), ..Doing::default() };
        assert_eq!(judged(made(0), &[old]), [(Kind::Truncated, vec![(old, 0)])]);
        assert!(judged(made(1), &[old]).is_empty(), "written anew");
        assert!(judged(made(0), &[]).is_empty(), "made and nothing removed");
        let mut rows = Doing::default();
        (0..10).for_each(|_| rows.delete(old));
        (0..9).for_each(|_| rows.update(new));
        (0..50).for_each(|_| rows.update(class));
        assert_eq!(judged(rows, &[]), [(Kind::Deleted, vec![(old, 10)])]);
        let base = Doing { databases: vec![7], ..Doing::default() };
        assert_eq!(judged(base, &[])[0].0, Kind::DroppedDatabase);
    }

    #[test]
    fn what_is_no_log_is_passed_over() {
        let mut changes = RelationChanges::new(1);
        let mut noise = 1u32;
        let mut byte = || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.to_le_bytes()[3]
        };
        let bytes: Vec<u8> = (0..64 * PAGE).map(|_| byte()).collect();
        changes.feed(Lsn(0), &bytes);
        changes.feed(Lsn(7), &[0; 3 * PAGE]);
        changes.feed(Lsn(0), &[1, 2, 3]);
        assert!(changes.take().is_empty());
        for length in 0..80 {
            for (manager, info) in [(XACT, 0x80), (HEAP, 0x10), (SMGR, 0x10), (DATABASE, 0x20)] {
                let body = &bytes[..length];
                let record = Record { at: Lsn(0), long_stats: true, xid: 7, info, manager, body };
                let _ = changes.record(record);
            }
            let _ = End::read(0x80, &bytes[..length], false);
        }
    }
}
