//! Whether the tables of a dump are plausible, each beside what it was before.

use std::collections::BTreeMap;

use drctl_model::{
    BackupId, Content, DatabaseFacts, Facts, SCHEMA_BYTES, TableKey, TableMark, TableMarks, shown,
};
use drctl_store::digest;

/// A table with more rows does not become empty unnoticed.
const FEW_ROWS: u64 = 1_000;

/// So many tables are named.
const NAMED: usize = 5;

/// So much of a name is shown.
const NAME_SHOWN: usize = 100;

/// What is remembered at most of tables that are there no more.
const GONE: usize = 10_000;

/// After so many backups in a row in which a table was large its being empty or gone tells something again.
const CALM: u8 = 30;

/// What intruders call the database or the table in which they ask for a ransom, without signs between the
/// words: `PLEASE_READ_ME_VVV`, `READ__ME_TO_RECOVER_YOUR_DATA`, `readme_to_recover_a`.
const RANSOM_NOTES: [&str; 8] = [
    "howtodecrypt",
    "plsreadme",
    "pleasereadme",
    "readmetodecrypt",
    "readmetorecover",
    "readmetorestore",
    "recoveryourdata",
    "restoreyourdata",
];

/// What one dump holds of a table, or of several whose names differ in their digits alone: one of the
/// partitions for each day may go.
pub(crate) struct Table {
    name: String,
    rows: u64,
    ransom_note: bool,
}

/// All tables of a dump; a database that has the name of a ransom note is among them by itself.
pub(crate) type Tables = BTreeMap<TableKey, Table>;

/// What is remembered of the backups that count: of the one that is compared with, and which tables may be
/// empty or gone by any of them.
pub(crate) struct Before {
    /// The newest of them of which something is remembered.
    pub(crate) backup: BackupId,
    pub(crate) marks: TableMarks,
}

impl Before {
    /// Of these, the newest first, of which alone all is needed, and how many others were made after each, of
    /// which some may be gone since; nothing where there is none.
    pub(crate) fn of(newest_first: Vec<(BackupId, u8, TableMarks)>) -> Option<Self> {
        let mut all = newest_first.into_iter();
        let (backup, _, mut marks) = all.next()?;
        for (_, since, older) in all {
            for (key, older) in older.0.iter().filter(|(_, older)| older.is_excused()) {
                let mark = marks.0.entry(*key).or_default();
                // It may have been accepted when the newer ones were there; since then it may be over.
                let calm = older.calm.saturating_add(since);
                if !(mark.emptied || mark.gone) && calm < CALM {
                    (mark.emptied, mark.gone, mark.calm) = (older.emptied, older.gone, calm);
                }
            }
        }
        Some(Before { backup, marks })
    }
}

/// What comparing them came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Why the backup does not count as good. It is in clear text in the bucket, and names no table.
    pub(crate) suspect: Vec<String>,
    /// What the operator should know of it.
    pub(crate) notes: Vec<String>,
}

/// The tables of all databases of a dump; nothing of what is no dump.
pub(crate) fn tables(facts: &Facts) -> Option<Tables> {
    let databases: Vec<&DatabaseFacts> = facts
        .streams
        .iter()
        .filter_map(|stream| match &stream.content {
            Content::Database(database) => Some(&**database),
            Content::Globals | Content::Tablespace(_) | Content::Listing | Content::Archive => None,
        })
        .collect();
    if databases.is_empty() {
        return None;
    }
    let mut tables = BTreeMap::new();
    for database in databases {
        if is_ransom_note(&database.name) {
            let table = Table { name: database.name.clone(), rows: 0, ransom_note: true };
            tables.insert(key([&database.name, "", ""]), table);
        }
        for one in &database.tables {
            let names = [database.name.as_str(), one.schema.as_str(), one.table.as_str()];
            let ransom_note = names[1..].iter().any(|name| is_ransom_note(name));
            let none = || Table { name: names.join("."), rows: 0, ransom_note: false };
            let table = tables.entry(key(names)).or_insert_with(none);
            table.rows = table.rows.saturating_add(one.rows);
            table.ransom_note |= ransom_note;
        }
    }
    Some(tables)
}

fn key([database, schema, table]: [&str; 3]) -> TableKey {
    // By the length of each name, so that no two spell the same together.
    let of = |names: &[&str]| {
        let mut bytes = Vec::new();
        for name in names {
            bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
        }
        digest(&bytes)
    };
    let mut key = TableKey::default();
    let (of_schema, of_table) = key.split_at_mut(SCHEMA_BYTES);
    of_schema.copy_from_slice(&of(&[database, schema]).0[..SCHEMA_BYTES]);
    let bytes = of_table.len();
    of_table.copy_from_slice(&of(&[&without_digits(table)]).0[..bytes]);
    key
}

/// A name with one sign for each row of digits.
fn without_digits(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for sign in name.chars() {
        match (sign.is_ascii_digit(), text.ends_with('#')) {
            (true, true) => {}
            (true, false) => text.push('#'),
            (false, _) => text.push(sign),
        }
    }
    text
}

fn is_ransom_note(name: &str) -> bool {
    let letters: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    RANSOM_NOTES.iter().any(|note| letters.contains(note))
}

/// What is to be remembered of these tables, and what is amiss with them beside what is remembered.
pub(crate) fn compare(tables: &Tables, before: Option<&Before>) -> (TableMarks, Compared) {
    let known = |key: &TableKey| before.and_then(|before| before.marks.0.get(key)).copied();
    let (mut marks, mut found) = (BTreeMap::new(), Lost::default());
    // A large one that is new in a schema may be one that is gone there, under another name.
    let mut new: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (key, table) in tables {
        let (was, large) = (known(key).unwrap_or_default(), table.rows > FEW_ROWS);
        // Whatever was there before and grew, or was empty, is none.
        if large && was == TableMark::default() {
            *new.entry(&key[..SCHEMA_BYTES]).or_default() += 1;
        }
        if table.ransom_note && !was.ransom_note {
            found.ransom_notes.push(&table.name);
        }
        let calm = if large { was.calm.saturating_add(1).min(CALM) } else { 0 };
        let (emptied, gone) = (was.emptied && calm < CALM, was.gone && calm < CALM);
        let ransom_note = table.ransom_note;
        let mark = TableMark { there: true, large, emptied, gone, ransom_note, calm };
        marks.insert(*key, mark);
    }
    let mut missing = 0;
    for (key, was) in before.iter().flat_map(|before| &before.marks.0) {
        let table = tables.get(key);
        let (is_gone, has_lost) = (table.is_none(), table.is_none_or(|table| table.rows == 0));
        // However many there are that may be gone: one of which that tells something is looked at.
        if is_gone && !was.large {
            missing += usize::from(was.is_excused());
            if !was.is_excused() || missing > GONE {
                continue;
            }
        }
        let of_it = marks.entry(*key).or_default();
        if is_gone {
            (of_it.emptied, of_it.gone) = (was.emptied, was.gone);
        }
        if !(was.large && has_lost) {
            continue;
        }
        match table {
            Some(table) if !was.emptied && !was.gone => found.empty.push(&table.name),
            None if !was.gone => match new.get_mut(&key[..SCHEMA_BYTES]) {
                Some(others @ 1..) => *others -= 1,
                _ => found.gone += 1,
            },
            _ => {}
        }
        of_it.emptied |= !is_gone;
        of_it.gone |= is_gone;
    }
    marks.retain(|_, mark| !mark.is_plain());
    (TableMarks(marks), found.told(before.map(|before| &before.backup)))
}

/// What is amiss.
#[derive(Default)]
struct Lost<'a> {
    empty: Vec<&'a str>,
    gone: usize,
    ransom_notes: Vec<&'a str>,
}

impl Lost<'_> {
    /// The words for it.
    fn told(&self, before: Option<&BackupId>) -> Compared {
        let (mut suspect, mut notes) = (Vec::new(), Vec::new());
        let (empty, gone) = (self.empty.len(), self.gone);
        if let Some(before) = before.filter(|_| empty + gone > 0) {
            suspect.push(format!(
                "tables that had more than 1,000 rows in {before} have none: {empty} empty, {gone} gone"
            ));
            if gone > 0 {
                notes.push(format!(
                    "which tables are gone: `drctl show {before} --identity FILE --json` names those that it \
                     holds"
                ));
            }
        }
        notes.extend(named("empty now", &self.empty));
        if !self.ransom_notes.is_empty() {
            suspect.push(
                "a table, a schema or a database is new that has the name of a ransom note, such as \
                 READ_ME_TO_RECOVER: somebody may have deleted data"
                    .to_owned(),
            );
            notes.extend(named("named like a ransom note", &self.ransom_notes));
        }
        Compared { suspect, notes }
    }
}

fn named(what: &str, names: &[&str]) -> Option<String> {
    let shown: Vec<String> = names.iter().take(NAMED).map(|name| shown(name, NAME_SHOWN)).collect();
    let more = if names.len() > NAMED { ", and others" } else { "" };
    (!names.is_empty()).then(|| format!("{what}: {}{more}", shown.join(", ")))
}

#[cfg(test)]
mod tests {
    use drctl_model::{StreamFacts, StreamId, TableRows};

    use super::*;

    fn facts(databases: &[(&str, &[(&str, u64)])]) -> Facts {
        let database = |(name, tables): &(&str, &[(&str, u64)])| {
            let row = |(table, rows): &(&str, u64)| TableRows {
                schema: "public".into(),
                table: (*table).into(),
                rows: *rows,
            };
            let facts = DatabaseFacts {
                name: (*name).into(),
                owner: String::new(),
                encoding: String::new(),
                collate: String::new(),
                ctype: String::new(),
                tables: tables.iter().map(row).collect(),
                ..DatabaseFacts::default()
            };
            let content = Content::Database(Box::new(facts));
            StreamFacts { id: StreamId::database(0), plain_xxh128: String::new(), content }
        };
        let streams = databases.iter().map(database).collect();
        Facts { streams, ..Facts::default() }
    }

    fn id(n: u64) -> BackupId {
        BackupId::new("2026-03-01T00:00:00Z".parse().unwrap(), n)
    }

    /// Which of several backups in a row are suspect, each compared with those before it that are not, or
    /// that are accepted.
    fn in_a_row(backups: &[(&[(&str, u64)], bool)]) -> Vec<bool> {
        let (mut good, mut found) = (Vec::<TableMarks>::new(), Vec::new());
        let id = id(0);
        for (held, accepted) in backups {
            let tables = tables(&facts(&[("shop", held)])).unwrap();
            let newest_first = good.iter().rev().zip(0_u8..);
            let newest_first =
                newest_first.map(|(marks, since)| (id.clone(), since, marks.clone()));
            let before = Before::of(newest_first.collect());
            let (marks, compared) = compare(&tables, before.as_ref());
            if compared.suspect.is_empty() || *accepted {
                good.push(marks);
            }
            found.push(!compared.suspect.is_empty());
        }
        found
    }

    /// Of one backup beside one other.
    fn beside(before: &Tables, now: &Tables) -> Compared {
        let id = id(0);
        let before = Before::of(vec![(id, 0, compare(before, None).0)]);
        compare(now, before.as_ref()).1
    }

    const FULL: &[(&str, u64)] = &[("orders", 1_001), ("x", 9)];
    const SMALL: &[(&str, u64)] = &[("orders", 1_000), ("x", 9)];
    const EMPTY: &[(&str, u64)] = &[("orders", 0), ("x", 9)];
    const WITHOUT: &[(&str, u64)] = &[("x", 9)];

    #[test]
    fn a_large_table_that_is_empty_or_gone_is_suspect_until_that_is_accepted() {
        let not = |held| (held, false);
        assert_eq!(in_a_row(&[not(FULL), not(EMPTY)]), [false, true]);
        assert_eq!(in_a_row(&[not(FULL), not(WITHOUT)]), [false, true]);
        // As long as nobody says that it may be so.
        let row = [not(FULL), not(WITHOUT), not(EMPTY), not(FULL), not(WITHOUT)];
        assert_eq!(in_a_row(&row), [false, true, true, false, true]);
        // Then it may be so again and again; to be empty is not to be gone, but who may be gone may be empty.
        let row = [not(FULL), (EMPTY, true), not(FULL), not(EMPTY), not(FULL), not(WITHOUT)];
        assert_eq!(in_a_row(&row), [false, true, false, false, false, true]);
        let row = [not(FULL), (WITHOUT, true), not(FULL), not(EMPTY), not(FULL), not(WITHOUT)];
        assert_eq!(in_a_row(&row), [false, true, false, false, false, false]);
        // A small one may, whatever lies between.
        assert_eq!(in_a_row(&[not(SMALL), not(WITHOUT)]), [false, false]);
        assert_eq!(in_a_row(&[not(FULL), not(SMALL), not(WITHOUT)]), [false, false, false]);
    }

    #[test]
    fn what_was_accepted_holds_until_the_table_was_full_for_long() {
        let full = vec![(FULL, false); usize::from(CALM) - 1];
        let row = [&[(FULL, false), (EMPTY, true)][..], &full, &[(EMPTY, false)]].concat();
        assert!(!in_a_row(&row).last().unwrap());
        let row =
            [&[(FULL, false), (EMPTY, true), (FULL, false)][..], &full, &[(EMPTY, false)]].concat();
        assert!(in_a_row(&row).last().unwrap());
    }

    #[test]
    fn what_was_accepted_long_ago_is_over_though_backups_are_gone_since() {
        let of = |held: &[(&str, u64)]| tables(&facts(&[("shop", held)])).unwrap();
        let full = compare(&of(FULL), None).0;
        let mut excused = full.clone();
        for mark in excused.0.values_mut().filter(|mark| mark.large) {
            (mark.emptied, mark.calm) = (true, 20);
        }
        for (since, is_suspect) in [(9, false), (10, true)] {
            let row = vec![(id(9), 0, full.clone()), (id(1), since, excused.clone())];
            let found = compare(&of(EMPTY), Before::of(row).as_ref()).1;
            assert_eq!(!found.suspect.is_empty(), is_suspect, "{since}");
        }
    }

    #[test]
    fn it_holds_whichever_backup_was_accepted() {
        let of = |held: &[(&str, u64)]| tables(&facts(&[("shop", held)])).unwrap();
        let (one, two, three) = (id(1), id(2), id(3));
        let full = compare(&of(FULL), None).0;
        let before = Before::of(vec![(one.clone(), 0, full.clone())]);
        let (empty, _) = compare(&of(EMPTY), before.as_ref());
        let (again, _) = compare(&of(FULL), before.as_ref());
        // The suspect one is accepted when a good one is there already that was compared without it.
        let before =
            Before::of(vec![(three.clone(), 0, again), (two, 1, empty), (one, 2, full)]).unwrap();
        assert_eq!(before.backup, three);
        assert_eq!(compare(&of(EMPTY), Some(&before)).1, Compared::default());
    }

    #[test]
    fn one_of_several_that_differ_in_digits_alone_may_go_and_no_database_or_schema() {
        let days = |from: u64| {
            let names = (from..from + 3).map(|day| format!("events_p2026_03_{day:02}"));
            names.collect::<Vec<_>>()
        };
        let of = |names: &[String]| {
            let held: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 5_000)).collect();
            tables(&facts(&[("shop1", &held)])).unwrap()
        };
        assert_eq!(beside(&of(&days(1)), &of(&days(9))), Compared::default());
        let other = tables(&facts(&[("shop2", &[("events_p2026_03_01", 5_000)])])).unwrap();
        let found = beside(&of(&days(1)), &other);
        assert!(found.suspect[0].ends_with("0 empty, 1 gone"), "{found:?}");
        assert_eq!(without_digits("a1b22_333#4é5"), "a#b#_##é#");
    }

    #[test]
    fn a_large_table_that_is_new_in_a_schema_may_be_one_that_is_gone_there() {
        let of = |held: &[(&str, u64)]| tables(&facts(&[("shop", held)])).unwrap();
        let before = of(&[("stage_a", 1_500), ("orders", 4_000)]);
        let renamed = of(&[("stage_b", 1_500), ("orders", 4_000)]);
        assert_eq!(beside(&before, &renamed), Compared::default());
        let found = beside(&before, &of(&[("note", 2_000)]));
        assert!(found.suspect[0].ends_with("0 empty, 1 gone"), "one for one: {found:?}");
        let grown = of(&[("stage_a", 1_500), ("audit", 990)]);
        let found = beside(&grown, &of(&[("audit", 1_010)]));
        assert!(found.suspect[0].ends_with("0 empty, 1 gone"), "one that grew: {found:?}");
        let found = beside(&before, &of(&[("stage_b", 900), ("orders", 4_000)]));
        assert!(found.suspect[0].ends_with("0 empty, 1 gone"), "a small one: {found:?}");
        let twice: Facts =
            facts(&[("shop", &[("orders", 4_000)]), ("bank", &[("stage_b", 1_500)])]);
        let found = beside(&before, &tables(&twice).unwrap());
        assert!(found.suspect[0].ends_with("0 empty, 1 gone"), "elsewhere: {found:?}");
    }

    #[test]
    fn reasons_name_no_table_and_notes_do() {
        let names: Vec<String> = ('a'..='g').map(|c| format!("t{c}")).collect();
        let of = |rows: u64| {
            let held: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), rows)).collect();
            tables(&facts(&[("shop", &held)])).unwrap()
        };
        assert_eq!(compare(&of(2_000), None).1, Compared::default());
        let found = beside(&of(2_000), &of(0));
        assert!(found.suspect[0].contains("have none: 7 empty, 0 gone"), "{found:?}");
        assert!(!found.suspect.concat().contains("public"), "{found:?}");
        assert!(found.notes[0].contains("shop.public.t"), "{found:?}");
        assert!(found.notes[0].ends_with(", and others"), "{found:?}");
    }

    #[test]
    fn a_ransom_note_is_suspect_once() {
        for name in ["PLEASE_READ_ME_VVV", "READ__ME_TO_RECOVER_YOUR_DATA", "readme_to_recover_a"] {
            let held: &[_] = &[("orders", 50), (name, 1)];
            let row: [(&[_], _); 3] = [(&[("orders", 50)], false), (held, true), (held, false)];
            assert_eq!(in_a_row(&row), [false, true, false], "{name}");
        }
        for name in ["warning", "readme", "recovery_data", "please"] {
            assert!(!is_ransom_note(name), "{name}");
        }
        let of = |facts: &Facts| compare(&tables(facts).unwrap(), None).1;
        let found = of(&facts(&[("readme_to_recover", &[])]));
        assert_eq!(found.suspect.len(), 1, "a database, in the first backup, without a table");
        assert_eq!(found.notes, ["named like a ransom note: readme_to_recover"]);
        assert_eq!(of(&facts(&[("restore_your", &[("data", 1)])])), Compared::default());
    }

    #[test]
    fn any_few_backups_in_a_row_are_judged_by_the_rule_for_each_table_alone() {
        let one =
            |of: u32| ([0, 5, 5_000][of as usize % 3], [0, 5, 5_000][of as usize / 3 % 3], of >= 9);
        let (mut judged, id) = (0, id(0));
        for row in 0..18u32.pow(4) {
            let (mut good, mut last, mut exempt) = (None::<TableMarks>, [0, 0], [false, false]);
            for (a, b, accepted) in (0..4).map(|at| one(row / 18u32.pow(at) % 18)) {
                let tables = tables(&facts(&[("shop", &[("a", a), ("b", b)])])).unwrap();
                let before =
                    Before::of(good.iter().map(|marks| (id.clone(), 0, marks.clone())).collect());
                let (marks, found) = compare(&tables, before.as_ref());
                let lost = [last[0] > 1_000 && a == 0, last[1] > 1_000 && b == 0];
                let expected = (lost[0] && !exempt[0]) || (lost[1] && !exempt[1]);
                assert_eq!(!found.suspect.is_empty(), expected, "{row}");
                judged += u32::from(expected);
                if !expected || accepted {
                    exempt = [exempt[0] || lost[0], exempt[1] || lost[1]];
                    (good, last) = (Some(marks), [a, b]);
                }
            }
        }
        assert!(judged > 10_000, "{judged}");
    }
}
