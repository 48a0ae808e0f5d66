//! Whether the tables of a dump are plausible, each beside what it was before.

use std::collections::BTreeMap;

use drctl_model::{
    BackupId, Content, DatabaseFacts, Facts, TableKey, TableMark, TableMarks, shown,
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
}

/// All tables of a dump.
pub(crate) type Tables = BTreeMap<TableKey, Table>;

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
        for one in &database.tables {
            let names = [database.name.as_str(), one.schema.as_str(), one.table.as_str()];
            let table = tables
                .entry(key(names))
                .or_insert_with(|| Table { name: names.join("."), rows: 0 });
            table.rows = table.rows.saturating_add(one.rows);
        }
    }
    Some(tables)
}

/// By the length of each name, so that no two spell the same together.
fn key(names: [&str; 3]) -> TableKey {
    let mut bytes = Vec::new();
    for name in names {
        let name = without_digits(name);
        bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
    }
    let mut key = TableKey::default();
    key.copy_from_slice(&digest(&bytes).0[..16]);
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

/// What is to be remembered of these tables, and what is amiss with them beside what is remembered of
/// `before`, the newest good backup of its like.
pub(crate) fn compare(
    tables: &Tables,
    before: Option<(&BackupId, &TableMarks)>,
) -> (TableMarks, Compared) {
    let known = || before.iter().flat_map(|(_, marks)| &marks.0);
    let (mut marks, mut ransom_notes) = (BTreeMap::new(), 0);
    for (key, table) in tables {
        let ransom_note = is_ransom_note(&table.name);
        let was = before.and_then(|(_, marks)| marks.0.get(key));
        ransom_notes += usize::from(ransom_note && !was.is_some_and(|was| was.ransom_note));
        let mark = TableMark { large: table.rows > FEW_ROWS, emptied: false, ransom_note };
        marks.insert(*key, mark);
    }
    let (mut empty, mut gone, mut remembered) = (Vec::new(), 0, 0);
    for (key, was) in known() {
        let table = tables.get(key);
        let has_lost = was.large && table.is_none_or(|table| table.rows == 0);
        if has_lost && !was.emptied {
            empty.extend(table.map(|table| table.name.as_str()));
            gone += usize::from(table.is_none());
        }
        remembered += usize::from(table.is_none());
        if (was.emptied || has_lost) && (table.is_some() || remembered <= GONE) {
            marks.entry(*key).or_default().emptied = true;
        }
    }
    marks.retain(|_, mark| !mark.is_plain());
    let before = before.map(|(before, _)| before);
    (TableMarks(marks), told(before, (&empty, gone), ransom_notes))
}

/// The words for it.
fn told(before: Option<&BackupId>, (empty, gone): (&[&str], usize), notes: usize) -> Compared {
    let mut compared = Compared::default();
    if let Some(before) = before.filter(|_| gone + empty.len() > 0) {
        compared.suspect.push(format!(
            "tables that had more than 1,000 rows in {before}, the newest good one, have none: {} empty, {gone} gone",
            empty.len()
        ));
        if !empty.is_empty() {
            let named: Vec<String> =
                empty.iter().take(NAMED).map(|name| shown(name, NAME_SHOWN)).collect();
            let more = if empty.len() > NAMED { ", and others" } else { "" };
            compared.notes.push(format!("empty now: {}{more}", named.join(", ")));
        }
        if gone > 0 {
            compared.notes.push(format!(
                "which tables are gone: `drctl show {before} --identity FILE --json` names those that it holds"
            ));
        }
    }
    if notes > 0 {
        compared.suspect.push(
            "a table or a database has the name of a ransom note, such as READ_ME_TO_RECOVER: somebody may \
             have deleted data"
                .to_owned(),
        );
    }
    compared
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
                provider: None,
                bytes: 0,
                tables: tables.iter().map(row).collect(),
                runs: None,
                runs_unowned: None,
                forced: None,
            };
            let content = Content::Database(Box::new(facts));
            StreamFacts { id: StreamId::database(0), plain_xxh128: String::new(), content }
        };
        let streams = databases.iter().map(database).collect();
        Facts { streams, ..Facts::default() }
    }

    /// The reasons of each of several backups in a row, each compared with the last one that has none, or
    /// that is accepted.
    fn in_a_row(backups: &[(&[(&str, u64)], bool)]) -> Vec<bool> {
        let id: BackupId = "20260301T000000Z-0000000000000000".parse().unwrap();
        let mut good: Option<TableMarks> = None;
        let mut found = Vec::new();
        for (held, accepted) in backups {
            let tables = tables(&facts(&[("shop", held)])).unwrap();
            let (marks, compared) = compare(&tables, good.as_ref().map(|marks| (&id, marks)));
            if compared.suspect.is_empty() || *accepted {
                good = Some(marks);
            }
            found.push(!compared.suspect.is_empty());
        }
        found
    }

    #[test]
    fn a_large_table_that_is_empty_or_gone_is_suspect_until_that_is_accepted() {
        let (full, empty): (&[_], &[_]) =
            (&[("orders", 1_001), ("x", 9)], &[("orders", 0), ("x", 9)]);
        let gone: &[_] = &[("x", 9)];
        assert_eq!(in_a_row(&[(full, false), (empty, false)]), [false, true]);
        assert_eq!(in_a_row(&[(full, false), (gone, false)]), [false, true]);
        // As long as nobody says that it may be so.
        let row = [(full, false), (gone, false), (empty, false), (full, false), (gone, false)];
        assert_eq!(in_a_row(&row), [false, true, true, false, true]);
        // Then it may be so again and again.
        let row = [
            (full, false),
            (empty, true),
            (full, false),
            (gone, false),
            (full, false),
            (empty, false),
        ];
        assert_eq!(in_a_row(&row), [false, true, false, false, false, false]);
        // A small one may.
        let small: &[_] = &[("orders", 1_000), ("x", 9)];
        assert_eq!(in_a_row(&[(small, false), (gone, false)]), [false, false]);
        // Whatever lies between.
        let row = [(full, false), (small, false), (gone, false)];
        assert_eq!(in_a_row(&row), [false, false, false]);
    }

    #[test]
    fn one_of_several_that_differ_in_digits_alone_may_go() {
        let days = |from: u64| {
            let names = (from..from + 3).map(|day| format!("events_p2026_03_{day:02}"));
            names.collect::<Vec<_>>()
        };
        let id: BackupId = "20260301T000000Z-0000000000000000".parse().unwrap();
        let of = |names: &[String]| {
            let held: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 5_000)).collect();
            tables(&facts(&[("shop", &held)])).unwrap()
        };
        let (marks, _) = compare(&of(&days(1)), None);
        assert_eq!(compare(&of(&days(9)), Some((&id, &marks))).1, Compared::default());
        // All of them may not, and another database or schema does not stand for them.
        let other = tables(&facts(&[("bank", &[("events_p2026_03_01", 5_000)])])).unwrap();
        let found = compare(&other, Some((&id, &marks))).1;
        assert!(found.suspect[0].ends_with("0 empty, 1 gone"), "{found:?}");
        assert_eq!(without_digits("a1b22_333#4é5"), "a#b#_##é#");
    }

    #[test]
    fn reasons_name_no_table_and_notes_do() {
        let id: BackupId = "20260301T000000Z-0000000000000000".parse().unwrap();
        let (names, rows): (Vec<_>, _) = (('a'..='g').map(|c| format!("t{c}")).collect(), 2_000);
        let of = |rows: u64| {
            let held: Vec<(&str, u64)> =
                names.iter().map(|name: &String| (name.as_str(), rows)).collect();
            tables(&facts(&[("shop", &held)])).unwrap()
        };
        let (marks, first) = compare(&of(rows), None);
        assert_eq!(first, Compared::default());
        let found = compare(&of(0), Some((&id, &marks))).1;
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
        let named = tables(&facts(&[("readme_to_recover", &[("t", 1)])])).unwrap();
        assert_eq!(compare(&named, None).1.suspect.len(), 1, "a database, in the first backup");
    }

    #[test]
    fn any_few_backups_in_a_row_are_judged_by_the_rule_for_each_table_alone() {
        let id: BackupId = "20260301T000000Z-0000000000000000".parse().unwrap();
        let one =
            |of: u32| ([0, 5, 5_000][of as usize % 3], [0, 5, 5_000][of as usize / 3 % 3], of >= 9);
        let mut judged = 0;
        for row in 0..18u32.pow(4) {
            let (mut good, mut last, mut exempt) = (None::<TableMarks>, [0, 0], [false, false]);
            for (a, b, accepted) in (0..4).map(|at| one(row / 18u32.pow(at) % 18)) {
                let tables = tables(&facts(&[("shop", &[("a", a), ("b", b)])])).unwrap();
                let (marks, found) = compare(&tables, good.as_ref().map(|marks| (&id, marks)));
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
