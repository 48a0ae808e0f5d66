use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::{Connection, Params, Row};

use crate::error::Fault;

/// A time as the catalog stores it: nine digits behind the point, so that it sorts as text.
pub(crate) fn time(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// Reads a column that holds the text of a `T`.
pub(crate) fn parsed<T>(row: &Row<'_>, column: &str) -> Result<T, Fault>
where
    T: FromStr,
    T::Err: Display,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| Fault::Damage(format!("column {column}: {error}")))
}

/// The same where the column may be empty.
pub(crate) fn optional<T>(row: &Row<'_>, column: &str) -> Result<Option<T>, Fault>
where
    T: FromStr,
    T::Err: Display,
{
    if row.get::<_, Option<String>>(column)?.is_none() {
        return Ok(None);
    }
    parsed(row, column).map(Some)
}

/// The error of a column whose JSON is not what drctl writes.
pub(crate) fn bad_json(column: &str) -> impl FnOnce(serde_json::Error) -> Fault {
    move |error| Fault::Damage(format!("column {column}: {error}"))
}

/// Every row of a query, read with `read`.
pub(crate) fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sort_as_text_and_come_back() {
        let mut times: Vec<Timestamp> =
            ["2026-03-01T00:00:00Z", "2026-03-01T00:00:00.5Z", "2026-03-01T00:00:00.000000001Z"]
                .iter()
                .map(|text| text.parse().unwrap())
                .collect();
        times.sort();
        let texts: Vec<String> = times.iter().copied().map(time).collect();
        assert!(texts.is_sorted(), "{texts:?}");
        let back: Vec<Timestamp> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(back, times);
    }
}
