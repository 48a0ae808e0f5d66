//! Digests of what a dump holds, by which a restored database is compared with it.

use drctl_model::{DatabaseFacts, DumpDigests, LoadedThrough, RowDigest, RowKey, shown};

use super::counts::Counted;
use super::{Digested, DumpShape, DumpedTable, WalkError};

/// What was digested while the dump went by, its tables in the order in which they were counted.
pub(super) fn digests(key: RowKey, counted: &[Counted], dump: &DumpShape) -> DumpDigests {
    let of = |table: &Counted| dump.tables.get(&table.oid).and_then(|table| table.digest);
    let tables = counted.iter().map(|table| of(table).unwrap_or_default()).collect();
    let Digested { large_objects, sequences, objects } = dump.digested;
    DumpDigests { key, tables, large_objects, sequences, objects }
}

/// The tables whose rows are loaded through another one.
pub(super) fn through(counted: &[Counted], dump: &DumpShape) -> Vec<LoadedThrough> {
    let of = |table: &Counted| {
        let (schema, root) = dump.tables.get(&table.oid)?.through.as_ref()?;
        Some(LoadedThrough {
            schema: table.rows.schema.clone(),
            table: table.rows.table.clone(),
            root_schema: schema.clone(),
            root: root.clone(),
        })
    };
    counted.iter().filter_map(of).collect()
}

/// Whether a dump that is restored holds what was digested when it was made.
///
/// # Errors
/// [`WalkError::Contents`], with what is another one.
pub(super) fn check(facts: &DatabaseFacts, dump: &DumpShape) -> Result<(), WalkError> {
    let Some(sealed) = &facts.digests else { return Ok(()) };
    if sealed.tables.len() != facts.tables.len() {
        return Err(other("the number of tables that were digested"));
    }
    let mut expected: Vec<(u64, RowDigest)> =
        facts.tables.iter().map(|table| table.rows).zip(sealed.tables.iter().copied()).collect();
    expected.sort_unstable();
    let of = |table: &DumpedTable| (table.rows, table.digest.unwrap_or_default());
    let mut found: Vec<_> = dump.tables.values().map(|table| (of(table), table)).collect();
    found.sort_unstable_by(|(one, of), (other, than)| (one, &of.table).cmp(&(other, &than.table)));
    if let Some((_, table)) = first_other(&expected, &found) {
        return Err(other(&format!("the rows of {}.{}", table.schema, table.table)));
    }
    let Digested { large_objects, sequences, objects } = dump.digested;
    for (name, same) in [
        ("a table", expected.len() == found.len()),
        ("the large objects", sealed.large_objects == large_objects),
        ("where the sequences stand", sealed.sequences == sequences),
        ("the names in its table of contents", sealed.objects == objects),
    ] {
        if !same {
            return Err(other(name));
        }
    }
    Ok(())
}

/// The first that was found and is not among what was expected; both sorted.
fn first_other<'a, T: Ord>(
    expected: &[T],
    found: &'a [(T, &'a DumpedTable)],
) -> Option<&'a (T, &'a DumpedTable)> {
    let mut expected = expected.iter().peekable();
    found.iter().find(|(one, _)| {
        while expected.next_if(|known| *known < one).is_some() {}
        expected.next_if(|known| *known == one).is_none()
    })
}

fn other(what: &str) -> WalkError {
    WalkError::Contents(format!("{} is not what was dumped", shown(what, 200)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use drctl_model::{Folded, TableRows};

    use super::*;

    fn digest(one: u128) -> RowDigest {
        let mut digest = RowDigest::default();
        digest.add(one);
        digest
    }

    fn facts(tables: &[(u64, u128)]) -> DatabaseFacts {
        let rows = |(rows, _): &(u64, u128)| TableRows {
            schema: "s".into(),
            table: "t".into(),
            rows: *rows,
        };
        DatabaseFacts {
            name: "shop".into(),
            owner: "shop".into(),
            encoding: "UTF8".into(),
            collate: "C".into(),
            ctype: "C".into(),
            tables: tables.iter().map(rows).collect(),
            digests: Some(DumpDigests {
                key: RowKey([1; 16]),
                tables: tables.iter().map(|(_, one)| digest(*one)).collect(),
                large_objects: Folded::default(),
                sequences: Folded::default(),
                objects: Folded::default(),
            }),
            ..DatabaseFacts::default()
        }
    }

    fn dump(tables: &[(u64, u128)]) -> DumpShape {
        let table = |(n, (rows, one)): (u32, &(u64, u128))| {
            let (schema, table) = ("s".to_owned(), format!("t{n}"));
            let digest = Some(digest(*one));
            (n, DumpedTable { schema, table, rows: *rows, digest, through: None, copy: None })
        };
        let tables: HashMap<u32, DumpedTable> = (1..).zip(tables).map(table).collect();
        DumpShape { tables, ..DumpShape::default() }
    }

    #[test]
    fn a_dump_holds_what_was_digested_or_it_is_named_what_not() {
        let says = |expected: &[(u64, u128)], found: &[(u64, u128)]| {
            check(&facts(expected), &dump(found)).map_err(|error| error.to_string())
        };
        assert_eq!(says(&[], &[]), Ok(()));
        assert_eq!(says(&[(1, 7), (2, 8)], &[(2, 8), (1, 7)]), Ok(()));
        let other = |what: &str| Err(format!("{what} is not what was dumped"));
        assert_eq!(says(&[(1, 7), (2, 8)], &[(1, 7), (2, 9)]), other("the rows of s.t2"));
        assert_eq!(says(&[(1, 7), (2, 8)], &[(1, 8), (2, 8)]), other("the rows of s.t1"));
        assert_eq!(says(&[(1, 7)], &[(1, 7), (1, 7)]), other("the rows of s.t2"));
        assert_eq!(says(&[(1, 7), (1, 7)], &[(1, 7)]), other("a table"));
        let mut lacks = dump(&[]);
        lacks.digested.sequences.add(3);
        let said = check(&facts(&[]), &lacks).unwrap_err().to_string();
        assert_eq!(said, "where the sequences stand is not what was dumped");
        // A dump by a drctl that made none is compared by its counts alone.
        let old = DatabaseFacts { digests: None, ..facts(&[(1, 7)]) };
        assert_eq!(check(&old, &dump(&[(9, 9)])), Ok(()));
    }
}
