//! Dumps that hold nothing.

use drctl_model::{Content, StreamFacts, total};

/// Why dumps that hold nothing are not to be trusted.
pub(in crate::pg) fn why(streams: &[StreamFacts]) -> Option<String> {
    match rows(streams) {
        None => Some("it holds no database".to_owned()),
        Some(0) => Some("no table in it holds a row".to_owned()),
        Some(_) => None,
    }
}

/// The rows of all tables of all databases; nothing where there is no database.
pub(in crate::pg) fn rows(streams: &[StreamFacts]) -> Option<u64> {
    let rows = streams.iter().filter_map(|stream| match &stream.content {
        Content::Database(database) => Some(database.rows()),
        Content::Globals | Content::Tablespace(_) | Content::Listing | Content::Archive => None,
    });
    let rows: Vec<u64> = rows.collect();
    (!rows.is_empty()).then(|| total(rows))
}

#[cfg(test)]
mod tests {
    use drctl_model::{DatabaseFacts, StreamId, TableRows};

    use super::*;

    #[test]
    fn dumps_that_hold_nothing_are_suspect() {
        let database = |rows: &[u64]| {
            let row = |rows: &u64| TableRows { schema: "s".into(), table: "t".into(), rows: *rows };
            let facts = DatabaseFacts {
                name: "shop".into(),
                owner: "shop".into(),
                encoding: "UTF8".into(),
                collate: "C".into(),
                ctype: "C".into(),
                tables: rows.iter().map(row).collect(),
                ..DatabaseFacts::default()
            };
            let content = Content::Database(Box::new(facts));
            StreamFacts { id: StreamId::database(0), plain_xxh128: String::new(), content }
        };
        assert!(why(&[]).unwrap().contains("no database"));
        assert!(why(&[database(&[0, 0]), database(&[])]).unwrap().contains("no table"));
        assert_eq!(why(&[database(&[]), database(&[0, 1])]), None);
    }
}
