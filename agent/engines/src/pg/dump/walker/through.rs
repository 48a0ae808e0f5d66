//! Through which table the rows of another one are loaded.

use super::block::Entry;

/// Schema and name of the table through which the rows of an entry are loaded, where that is not the entry's own:
/// `pg_dump` loads the partitions of a table that is partitioned by the hash of an enum through its root
/// (`forcePartitionRootLoad` in `pg_dump.c`).
pub(super) fn through(entry: &Entry) -> Option<(String, String)> {
    let target = target(&entry.copy)?;
    (target.0 != entry.namespace || target.1 != entry.tag).then_some(target)
}

/// The table of `COPY schema.table (…) FROM stdin;`.
fn target(statement: &str) -> Option<(String, String)> {
    let (schema, rest) = identifier(statement.strip_prefix("COPY ")?)?;
    let (table, rest) = identifier(rest.strip_prefix('.')?)?;
    rest.starts_with(' ').then_some((schema, table))
}

/// An identifier, quoted or not, and what comes behind it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find(['.', ' ', '('])?;
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => rest = more,
            None => return Some((name, rest)),
        }
        name.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(schema: &str, table: &str, copy: &str) -> Option<(String, String)> {
        let (namespace, tag, copy) = (schema.to_owned(), table.to_owned(), copy.to_owned());
        through(&Entry { namespace, tag, copy, ..Entry::default() })
    }

    #[test]
    fn only_another_table_is_told() {
        assert_eq!(of("public", "t", "COPY public.t (a, b) FROM stdin;\n"), None);
        assert_eq!(of("public", "none", "COPY public.none  FROM stdin;\n"), None);
        let odd = "COPY \"Odd \"\"s\"\"\".\"a.b (c)\" (x) FROM stdin;\n";
        assert_eq!(of("Odd \"s\"", "a.b (c)", odd), None);
        let root = Some(("public".to_owned(), "root".to_owned()));
        assert_eq!(of("public", "leaf", "COPY public.root (a) FROM stdin;\n"), root);
        assert_eq!(of("s", "root", "COPY public.root (a) FROM stdin;\n"), root);
    }

    #[test]
    fn what_is_no_such_statement_tells_nothing() {
        for copy in
            ["", "COPY ", "COPY t (a)", "COPY \"s.t (a)", "COPY s.", "SELECT 1", "COPY s.t(a)"]
        {
            assert_eq!(of("x", "y", copy), None, "{copy}");
        }
    }
}
