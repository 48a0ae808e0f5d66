//! Whether two dumps hold the same. Decides, and touches nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{ProvenTable, RowDigest, shown};

use super::{DumpShape, DumpedTable};
use crate::pg::server::major_of;

/// How many things are named that are not the same.
const NAMED: usize = 100;

/// What of a database that was restored is equal to what was dumped, or of a cluster to another one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Equality {
    /// Tables whose rows are the same.
    pub tables: u64,
    /// The rows of these.
    pub rows: u64,
    /// Which tables that are.
    pub proven: Vec<ProvenTable>,
    /// What was compared by its number alone, or not at all, each with the reason: at most 100.
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

/// Compares a dump with one of what was restored from it, with its owners and privileges or without.
pub(in crate::pg) fn compare(before: &DumpShape, after: &DumpShape, owner: bool) -> Equality {
    let mut found = Equality::default();
    let (expected, there) = (groups(before), groups(after));
    let names: BTreeSet<&(&str, &str)> = expected.keys().chain(there.keys()).collect();
    for name in names {
        found.table(&format!("{}.{}", name.0, name.1), expected.get(name), there.get(name));
    }
    found.sequences(before, after);
    found.large_objects(before, after);
    let majors = [before, after].map(|dump| major_of(&dump.pg_dump));
    match majors[0] == majors[1] {
        true => found.names(before, after, owner),
        // Each names some things in its own way.
        false => found.count(format!(
            "the names of all else: pg_dump {} wrote them, and {} writes them now",
            shown(&before.pg_dump, 40),
            shown(&after.pg_dump, 40)
        )),
    }
    found
}

/// Whether an entry of the table of contents is compared by its name: rows and large objects are compared by
/// themselves, and what is not restored is not there.
fn is_compared((kind, _, name): &(String, Vec<u8>, Vec<u8>), owner: bool) -> bool {
    let of_large_object = name.starts_with(b"LARGE OBJECT");
    match kind.as_str() {
        "TABLE DATA" | "BLOB" | "BLOBS" | "BLOB METADATA" => false,
        "ACL" | "DEFAULT ACL" => owner && !of_large_object,
        "COMMENT" | "SECURITY LABEL" => !of_large_object,
        // One of another owner is named, and one without owners is nobody's.
        "SCHEMA" => owner || name != b"public",
        _ => true,
    }
}

/// The columns of the statement that loads a table, in no order.
fn columns(copy: &str) -> BTreeSet<&str> {
    let inner = copy.rfind(") FROM ").and_then(|end| Some(&copy[copy.find(" (")? + 2..end]));
    let mut columns = BTreeSet::new();
    let (mut rest, mut at, mut quoted) = (inner.unwrap_or_default(), 0, false);
    while let Some(sign) = rest[at..].chars().next() {
        if sign == ',' && !quoted {
            columns.insert(rest[..at].trim());
            (rest, at) = (&rest[at + 1..], 0);
            continue;
        }
        quoted ^= sign == '"';
        at += sign.len_utf8();
    }
    columns.insert(rest.trim());
    columns
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
    /// Takes what was found of a database of a cluster.
    pub(in crate::pg) fn take(&mut self, database: &str, of: Equality) {
        self.tables += of.tables;
        self.rows += of.rows;
        self.others += of.others;
        let database = || shown(database, 100);
        let of_database = |what: String| format!("{}: {what}", database());
        let proven = of.proven.into_iter();
        self.proven.extend(proven.map(|one| ProvenTable { database: database(), ..one }));
        of.counted.into_iter().for_each(|what| self.count(of_database(what)));
        of.unlike.into_iter().for_each(|what| self.say(of_database(what)));
    }

    pub(in crate::pg) fn say(&mut self, what: String) {
        if self.unlike.len() < NAMED {
            self.unlike.push(what);
        }
    }

    fn table(&mut self, name: &str, expected: Option<&Group<'_>>, there: Option<&Group<'_>>) {
        let name = shown(name, 200);
        let (Some(expected), Some(there)) = (expected, there) else {
            match (expected, there) {
                (Some(expected), _) if expected.rows > 0 => {
                    self.say(format!("{name} is not there: it had {} rows", expected.rows));
                }
                // One without rows is in one dump alone: a standby's has no unlogged ones.
                (_, Some(there)) if there.rows > 0 => {
                    self.say(format!("{name} has {} rows, and should not be there", there.rows));
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
            let (database, table) = (String::new(), name);
            self.proven.push(ProvenTable { database, table, rows: expected.rows });
        } else if expected.digest.is_none() {
            self.count(format!("{name}: no digest was made when it was dumped"));
        } else if expected.copies != there.copies {
            let sets = [expected, there].map(|group| {
                group.copies.iter().map(|copy| columns(copy)).collect::<BTreeSet<_>>()
            });
            match sets[0] == sets[1] {
                true => self.count(format!("{name}: its columns stand in another order")),
                false => self.say(format!("{name} has other columns")),
            }
        } else {
            self.say(format!("{name} has {} rows as before, and not the same ones", there.rows));
        }
    }

    pub(in crate::pg) fn count(&mut self, what: String) {
        if self.counted.len() < NAMED {
            self.counted.push(what);
        }
    }

    fn sequences(&mut self, before: &DumpShape, after: &DumpShape) {
        for (name, stands) in &before.stands {
            if after.stands.get(name) != Some(stands) {
                let name = shown(&format!("{}.{}", text(&name.0), text(&name.1)), 200);
                self.say(format!("the sequence {name} does not stand where it stood"));
            }
        }
    }

    fn large_objects(&mut self, before: &DumpShape, after: &DumpShape) {
        let (count, there) = (before.large_objects, after.large_objects);
        if count != there {
            self.say(format!("{there} large objects are there instead of {count}"));
        } else if before.digested.objects.count == 0 && count > 0 {
            self.count("large objects: no digest was made when they were dumped".to_owned());
        } else if before.digested.large_objects != after.digested.large_objects {
            self.say(format!("{count} large objects are there as before, and not the same ones"));
        } else {
            self.others += count;
        }
    }

    /// All that has a name, but for the database itself, which is made before anything is restored into it.
    fn names(&mut self, before: &DumpShape, after: &DumpShape, owner: bool) {
        let names: BTreeSet<_> = before.named.keys().chain(after.named.keys()).collect();
        for name in names.into_iter().filter(|name| is_compared(name, owner)) {
            let count = |dump: &DumpShape| dump.named.get(name).copied().unwrap_or_default();
            let (kind, schema, own) = (name.0.to_lowercase(), text(&name.1), text(&name.2));
            let what = shown(&format!("{kind} {schema}.{own}"), 200);
            match (count(before), count(after)) {
                (expected, there) if expected == there => self.others += expected,
                (expected, there) if expected > there => self.say(format!("{what} is missing")),
                _ => self.say(format!("{what} is there, and should not be")),
            }
        }
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
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
        compare(before, after, true).unlike
    }

    #[test]
    fn rows_are_the_same_or_it_is_named_which_are_not() {
        let before = dump(&[("a", 2, 7), ("b", 1, 8)]);
        let same = compare(&before, &dump(&[("b", 1, 8), ("a", 2, 7)]), true);
        assert_eq!((same.tables, same.rows, same.unlike.len()), (2, 3, 0));
        let changed = dump(&[("a", 2, 9), ("b", 1, 8)]);
        assert_eq!(unlike(&before, &changed), ["s.a has 2 rows as before, and not the same ones"]);
        let fewer = dump(&[("a", 1, 7), ("b", 1, 8)]);
        assert_eq!(unlike(&before, &fewer), ["s.a has 1 rows instead of 2"]);
        let gone = dump(&[("a", 2, 7), ("c", 0, 0)]);
        assert_eq!(unlike(&before, &gone), ["s.b is not there: it had 1 rows"]);
        let more = dump(&[("a", 2, 7), ("b", 1, 8), ("c", 1, 1)]);
        assert_eq!(unlike(&before, &more), ["s.c has 1 rows, and should not be there"]);
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
        let found = compare(&before, &after, true);
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
        let mut before = before;
        for table in before.tables.values_mut() {
            table.copy = Some("COPY s.a (a, b) FROM stdin;".to_owned());
        }
        let found = compare(&before, &other, true);
        assert_eq!(found.counted, ["s.a: its columns stand in another order"]);
        assert_eq!((found.tables, found.unlike.len()), (0, 0));
        for table in other.tables.values_mut() {
            table.copy = Some("COPY s.a (c, a) FROM stdin;".to_owned());
        }
        assert_eq!(unlike(&before, &other), ["s.a has other columns"]);
        let mut old = dump(&[("a", 2, 7)]);
        old.tables.values_mut().for_each(|table| table.digest = None);
        assert_eq!(compare(&old, &before, true).counted.len(), 1);
    }

    #[test]
    fn a_lost_index_and_a_sequence_that_is_wrong_are_named() {
        let named = |names: &[(&str, &str)]| {
            let key = |(kind, name): &(&str, &str)| {
                (((*kind).to_owned(), b"s".to_vec(), name.as_bytes().to_vec()), 1)
            };
            DumpShape { named: names.iter().map(key).collect(), ..DumpShape::default() }
        };
        let before = named(&[("INDEX", "i"), ("TABLE", "t")]);
        assert_eq!(compare(&before, &before, true).others, 2);
        assert_eq!(unlike(&before, &named(&[("TABLE", "t")])), ["index s.i is missing"]);
        let more = named(&[("INDEX", "i"), ("TABLE", "t"), ("RULE", "r")]);
        assert_eq!(unlike(&before, &more), ["rule s.r is there, and should not be"]);
        let stands = |at: &str| DumpShape {
            stands: [((b"s".to_vec(), b"q".to_vec()), at.as_bytes().to_vec())].into(),
            ..DumpShape::default()
        };
        assert_eq!(unlike(&stands("5"), &stands("5")), [""; 0]);
        let moved = ["the sequence s.q does not stand where it stood"];
        assert_eq!(unlike(&stands("5"), &stands("1")), moved);
        assert_eq!(unlike(&stands("5"), &DumpShape::default()), moved);
    }

    #[test]
    fn what_is_not_restored_or_compared_by_itself_is_no_name_that_is_missing() {
        let of = |kind: &str, name: &str| {
            let key = (kind.to_owned(), b"s".to_vec(), name.as_bytes().to_vec());
            DumpShape { named: [(key, 1)].into(), ..DumpShape::default() }
        };
        let none = DumpShape::default();
        let missing = |kind, name, owner| compare(&of(kind, name), &none, owner).unlike.len();
        for kind in ["TABLE DATA", "BLOB", "BLOBS", "BLOB METADATA"] {
            assert_eq!(missing(kind, "x", true), 0, "{kind}");
        }
        for (kind, name) in [("ACL", "TABLE t"), ("DEFAULT ACL", "x"), ("SCHEMA", "public")] {
            assert_eq!((missing(kind, name, true), missing(kind, name, false)), (1, 0), "{kind}");
        }
        assert_eq!(missing("COMMENT", "LARGE OBJECT 4711", true), 0);
        assert_eq!(missing("COMMENT", "TABLE t", false), 1);
        let of_15 = DumpShape { pg_dump: "15.18".to_owned(), ..of("TABLE", "t") };
        let of_17 = DumpShape { pg_dump: "17.2 (Debian)".to_owned(), ..none };
        let found = compare(&of_15, &of_17, true);
        assert_eq!((found.unlike.len(), found.counted.len()), (0, 1), "each has its own names");
    }

    #[test]
    fn large_objects_are_compared_with_digests_and_without() {
        let of = |count, one: Option<u128>| {
            let mut dump = DumpShape { large_objects: count, ..DumpShape::default() };
            if let Some(one) = one {
                dump.digested.objects.add(1);
                dump.digested.large_objects.add(one);
            }
            dump
        };
        let said = |before: &DumpShape, after: &DumpShape| {
            let found = compare(before, after, true);
            (found.others, found.counted.len(), found.unlike.len())
        };
        assert_eq!(said(&of(1, Some(7)), &of(1, Some(7))), (1, 0, 0));
        assert_eq!(said(&of(1, Some(7)), &of(1, Some(8))), (0, 0, 1));
        assert_eq!(said(&of(2, None), &of(2, None)), (0, 1, 0));
        assert_eq!(said(&of(2, None), &of(1, None)), (0, 0, 1));
    }

    #[test]
    fn columns_are_told_apart_whatever_they_are_called() {
        let of = |copy| columns(copy).into_iter().collect::<Vec<_>>();
        assert_eq!(of("COPY s.t (b, a) FROM stdin;\n"), ["a", "b"]);
        assert_eq!(of("COPY s.t (\"x, y\", \"a\"\"b\") FROM stdin;"), ["\"a\"\"b\"", "\"x, y\""]);
        assert_eq!(of("COPY s.t  FROM stdin;"), [""]);
    }
}
