//! What is carried over into a catalog that is made anew: rows as they are.

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::error::Fault;
use crate::rows::all;

/// Copies these columns (`a, b, c`) of a table's rows; a row that is there already stays as it is.
pub(crate) fn rows(
    old: &Connection,
    new: &Connection,
    table: &str,
    columns: &str,
) -> Result<(), Fault> {
    let count = columns.split(", ").count();
    let found = all(old, &format!("SELECT {columns} FROM {table}"), [], |row| {
        (0..count).map(|at| Ok::<Value, Fault>(row.get(at)?)).collect::<Result<Vec<_>, _>>()
    })?;
    let places: Vec<String> = (1..=count).map(|at| format!("?{at}")).collect();
    let places = places.join(", ");
    let sql = format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({places})");
    for row in found {
        new.execute(&sql, rusqlite::params_from_iter(row))?;
    }
    Ok(())
}
