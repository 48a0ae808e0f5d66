//! Whether two dumps hold the same. Decides, and touches nothing.

use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{RowDigest, shown};

use super::{DumpShape, DumpedTable};

/// How many things are named that are not the same.
const NAMED: usize = 100;

/// What of a database that was restored is equal to what was dumped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Equality {
    /// Tables whose rows are the same.
    pub tables: u64,
    /// The rows of these.
    pub rows: u64,
    /// Tables that were compared by the number of their rows alone, each with the reason: at most 100.
    pub counted: Vec<String>,
    /// Large objects, sequences and all else that has a name, where these are the same.
    pub others: u64,
    /// What is not the same, in words: at most 100. Nothing: it is equal.
    pub unlike: Vec<String>,
}

/// A table, or all that is loaded through one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Group<'a> {
    rows: u64,
    digest: Option<RowDigest>,
    copies: BTreeSet<&'a str>,
}

/// Compares a dump with one of what was restored from it.
pub(super) fn compare(before: &DumpShape, after: &DumpShape) -> Equality {
    let mut found = Equality::default();
    let (expected, there) = (groups(before), groups(after));
    let names: BTreeSet<&(&str, &str)> = expected.keys().chain(there.keys()).collect();
    for name in names {
        found.table(&format!("{}.{}", name.0, name.1), expected.get(name), there.get(name));
    }
    found.sequences(before, after);
    let (expected, there) = (&before.digested, &after.digested);
    match expected.large_objects == there.large_objects {
        true => found.others += expected.large_objects.count,
        false => found.say(format!(
            "large objects: {} were dumped, {} are there, and they are not the same",
            before.large_objects, after.large_objects
        )),
    }
    found.names(before, after);
    found
}

fn groups(dump: &DumpShape) -> BTreeMap<(&str, &str), Group<'_>> {
    let mut groups: BTreeMap<(&str, &str), Group<'_>> = BTreeMap::new();
    for table in dump.tables.values() {
        let DumpedTable { schema, table, rows, digest, through, copy } = table;
        let own = (schema.as_str(), table.as_str());
        let name = through.as_ref().map_or(own, |(schema, table)| (schema, table));
        let group = groups.entry(name).or_default();
        group.rows += rows;
        group.digest = match (group.digest, digest) {
            (Some(sum), Some(more)) => Some(sum.and(*more)),
            (sum, more) => sum.or(*more),
        };
        group.copies.extend(copy.as_deref());
    }
    groups
}

impl Equality {
    fn say(&mut self, what: String) {
        if self.unlike.len() < NAMED {
            self.unlike.push(what);
        }
    }

    fn table(&mut self, name: &str, expected: Option<&Group<'_>>, there: Option<&Group<'_>>) {
        let name = shown(name, 200);
        let (Some(expected), Some(there)) = (expected, there) else {
            match (expected, there) {
                (Some(expected), _) => {
                    self.say(format!("{name} is not there: it had {} rows", expected.rows))
                }
                // One without rows that was not dumped: of a standby, unlogged ones.
                (_, Some(there)) if there.rows > 0 => {
                    self.say(format!("{name} has {} rows, and was not dumped", there.rows));
                }
                _ => {}
            }
            return;
        };
        if expected.rows != there.rows {
            self.say(format!("{name} has {} rows instead of {}", there.rows, expected.rows));
        } else if expected.digest == there.digest && expected.digest.is_some() {
            self.tables += 1;
            self.rows += expected.rows;
        } else if expected.digest.is_none() {
            self.count(format!("{name}: no digest was made when it was dumped"));
        } else if expected.copies != there.copies {
            self.count(format!("{name}: its columns stand in another order"));
        } else {
            self.say(format!("{name} has {} rows as before, and not the same ones", there.rows));
        }
    }

    fn count(&mut self, what: String) {
        if self.counted.len() < NAMED {
            self.counted.push(what);
        }
    }

    fn sequences(&mut self, before: &DumpShape, after: &DumpShape) {
        for (name, stands) in &before.stands {
            if after.stands.get(name) == Some(stands) {
                self.others += 1;
            } else {
                let name = shown(&format!("{}.{}", name.0, name.1), 200);
                self.say(format!("the sequence {name} does not stand where it stood"));
            }
        }
    }

    /// All that has a name, but for the database itself, which is made before anything is restored into it.
    fn names(&mut self, before: &DumpShape, after: &DumpShape) {
        let names: BTreeSet<_> = before.named.keys().chain(after.named.keys()).collect();
        for name in names {
            let count = |dump: &DumpShape| dump.named.get(name).copied().unwrap_or_default();
            let (kind, schema, own) = name;
            let what = shown(&format!("{} {schema}.{own}", kind.to_lowercase()), 200);
            match (count(before), count(after)) {
                (expected, there) if expected == there => self.others += expected,
                (expected, there) if expected > there => self.say(format!("{what} is missing")),
                _ => self.say(format!("{what} is there, and was not dumped")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(one: u128) -> RowDigest {
        let mut digest = RowDigest::default();
        digest.add(one);
        digest
    }

    fn dump(tables: &[(&str, u64, u128)]) -> DumpShape {
        let table = |(n, (name, rows, one)): (u32, &(&str, u64, u128))| {
            let copy = Some(format!("COPY s.{name} (a) FROM stdin;"));
            let (schema, table) = ("s".to_owned(), (*name).to_owned());
            let digest = Some(digest(*one));
            (n, DumpedTable { schema, table, rows: *rows, digest, through: None, copy })
        };
        let tables = (1..).zip(tables).map(table).collect();
        DumpShape { tables, ..DumpShape::default() }
    }

    fn unlike(before: &DumpShape, after: &DumpShape) -> Vec<String> {
        compare(before, after).unlike
    }

    #[test]
    fn rows_are_the_same_or_it_is_named_which_are_not() {
        let before = dump(&[("a", 2, 7), ("b", 1, 8)]);
        let same = compare(&before, &dump(&[("b", 1, 8), ("a", 2, 7)]));
        assert_eq!((same.tables, same.rows, same.unlike.len()), (2, 3, 0));
        let changed = dump(&[("a", 2, 9), ("b", 1, 8)]);
        assert_eq!(unlike(&before, &changed), ["s.a has 2 rows as before, and not the same ones"]);
        let fewer = dump(&[("a", 1, 7), ("b", 1, 8)]);
        assert_eq!(unlike(&before, &fewer), ["s.a has 1 rows instead of 2"]);
        let gone = dump(&[("a", 2, 7), ("c", 0, 0)]);
        assert_eq!(unlike(&before, &gone), ["s.b is not there: it had 1 rows"]);
        let more = dump(&[("a", 2, 7), ("b", 1, 8), ("c", 1, 1)]);
        assert_eq!(unlike(&before, &more), ["s.c has 1 rows, and was not dumped"]);
    }

    #[test]
    fn partitions_of_one_root_are_compared_together() {
        let through = |mut dump: DumpShape| {
            for table in dump.tables.values_mut() {
                table.through = Some(("s".to_owned(), "root".to_owned()));
                table.copy = Some("COPY s.root (a) FROM stdin;".to_owned());
            }
            dump
        };
        let before = through(dump(&[("a", 2, 7), ("b", 1, 8)]));
        let after = through(dump(&[("a", 1, 5), ("b", 2, 10)]));
        let found = compare(&before, &after);
        assert_eq!((found.tables, found.rows, found.unlike.len()), (1, 3, 0));
        assert_eq!(unlike(&before, &through(dump(&[("a", 1, 5), ("b", 2, 11)]))).len(), 1);
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let before = dump(&[("a", 2, 7)]);
        let mut other = dump(&[("a", 2, 9)]);
        for table in other.tables.values_mut() {
            table.copy = Some("COPY s.a (b, a) FROM stdin;".to_owned());
        }
        let found = compare(&before, &other);
        assert_eq!(found.counted, ["s.a: its columns stand in another order"]);
        assert_eq!((found.tables, found.unlike.len()), (0, 0));
        let mut old = dump(&[("a", 2, 7)]);
        old.tables.values_mut().for_each(|table| table.digest = None);
        assert_eq!(compare(&old, &before).counted.len(), 1);
    }

    #[test]
    fn a_lost_index_and_a_sequence_that_is_wrong_are_named() {
        let named = |names: &[(&str, &str)]| {
            let key = |(kind, name): &(&str, &str)| {
                (((*kind).to_owned(), "s".to_owned(), (*name).to_owned()), 1)
            };
            DumpShape { named: names.iter().map(key).collect(), ..DumpShape::default() }
        };
        let before = named(&[("INDEX", "i"), ("TABLE", "t")]);
        assert_eq!(compare(&before, &before).others, 2);
        assert_eq!(unlike(&before, &named(&[("TABLE", "t")])), ["index s.i is missing"]);
        let more = named(&[("INDEX", "i"), ("TABLE", "t"), ("RULE", "r")]);
        assert_eq!(unlike(&before, &more), ["rule s.r is there, and was not dumped"]);
        let stands = |at: &str| DumpShape {
            stands: [(("s".to_owned(), "q".to_owned()), at.to_owned())].into(),
            ..DumpShape::default()
        };
        assert_eq!(unlike(&stands("5"), &stands("5")), [""; 0]);
        let moved = ["the sequence s.q does not stand where it stood"];
        assert_eq!(unlike(&stands("5"), &stands("1")), moved);
        assert_eq!(unlike(&stands("5"), &DumpShape::default()), moved);
    }
}
