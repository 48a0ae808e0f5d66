use drctl_model::{Content, Facts, Manifest, shown};

use super::screen::{NAME_SHOWN, count, table};
use crate::host::figures::{bytes, number};

/// The streams of a backup, a row each; what they hold, where its facts are open.
pub(super) fn streams(manifest: &Manifest, facts: Option<&Facts>) -> String {
    let head = ["STREAM", "HOLDS", "DATA", "STORED", "SEGMENTS", "TABLES", "ROWS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (at, stream) in manifest.streams.iter().enumerate() {
        let content = facts.and_then(|facts| facts.streams.get(at)).map(|facts| &facts.content);
        let (holds, tables, rows_in_it) = match content {
            None => ("sealed".to_owned(), String::new(), String::new()),
            Some(Content::Globals) => {
                ("roles and tablespaces".to_owned(), String::new(), String::new())
            }
            Some(Content::Tablespace(facts)) => (
                match facts.oid {
                    Some(oid) => format!("tablespace {oid}, {}", count(facts.files, "file")),
                    None => format!("data directory, {}", count(facts.files, "file")),
                },
                String::new(),
                String::new(),
            ),
            Some(Content::Listing) => {
                ("the server's list of files".to_owned(), String::new(), String::new())
            }
            Some(Content::Archive) => ("the whole source".to_owned(), String::new(), String::new()),
            Some(Content::Database(database)) => (
                format!("database {}", shown(&database.name, NAME_SHOWN)),
                number(database.tables.len() as u64),
                number(database.rows()),
            ),
        };
        rows.push(vec![
            stream.id.to_string(),
            holds,
            bytes(stream.plain_bytes),
            bytes(stream.sealed_bytes),
            number(stream.segments),
            tables,
            rows_in_it,
        ]);
    }
    table(&rows)
}
