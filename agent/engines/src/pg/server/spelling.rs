//! Names whose bytes are not UTF-8, as servers and databases of `SQL_ASCII` have them: as text, and
//! in statements.
//!
//! Our sessions speak UTF-8, and so does the client library. What is not is spelled: U+FFFD and two
//! hexadecimal digits stand for one byte. No two names are spelled alike.

use tokio_postgres::{Client, Row};

use crate::pg::server::ServerSaid;

/// Stands before the digits of a byte.
const MARK: char = char::REPLACEMENT_CHARACTER;

/// An SQL expression for the bytes of a name of the whole server (a database, a role), which is in
/// the encoding of whatever database it was given in: unlike `convert_to` it refuses none.
pub(crate) fn bytes_of(name: &str) -> String {
    format!("pg_catalog.replace({name}::text, E'\\\\', E'\\\\\\\\')::pg_catalog.bytea")
}

/// The same for names and texts of the database that the session is in.
pub(crate) fn bytes_in(text: &str) -> String {
    format!(
        "pg_catalog.convert_to({text}, CASE pg_catalog.getdatabaseencoding() \
         WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END::pg_catalog.name)"
    )
}

/// Columns of a row of `pg_stat_activity`: role, application and statement, whose texts are in
/// whatever encoding their session has.
pub(crate) fn who_is(row: &str) -> String {
    let [role, application] = ["usename", "application_name"]
        .map(|name| bytes_of(&format!("coalesce({row}.{name}::text, '?')")));
    let statement = bytes_of(&format!("coalesce({row}.query, '?')"));
    format!("{role}, {application}, pg_catalog.substr({statement}, 1, {STATEMENT_BYTES})")
}

/// Of a statement so much is read.
const STATEMENT_BYTES: usize = 400;

/// Of a statement so much is shown.
const STATEMENT_CHARS: usize = 80;

/// These columns, from `at` on, as people read them.
pub(crate) fn who(row: &Row, at: usize) -> Result<(String, String, String), tokio_postgres::Error> {
    let text = |at: usize| Ok(String::from_utf8_lossy(row.try_get(at)?).into_owned());
    let words: Vec<String> = text(at + 2)?.split_whitespace().map(str::to_owned).collect();
    let statement = words.join(" ").chars().take(STATEMENT_CHARS).collect();
    Ok((text(at)?, text(at + 1)?, statement))
}

/// Whether a name cannot be said as it is.
pub(crate) fn is_spelled(name: &str) -> bool {
    name.contains(MARK)
}

/// The name that something may be given instead, which can be said: a backslash and an x stand for
/// what marks a byte.
#[must_use]
pub fn sayable(name: &str) -> String {
    name.replace(MARK, "\\x")
}

/// The message that begins a session, with the database's name in its own bytes.
pub(super) fn unspelled_startup(message: &[u8]) -> Vec<u8> {
    // Its length, the protocol's version; then names and values, each with a zero behind it.
    let (head, fields) = message.split_at(message.len().min(8));
    let (mut out, mut is_database) = (head.to_vec(), false);
    for (at, field) in fields.split(|byte| *byte == 0).enumerate() {
        if at > 0 {
            out.push(0);
        }
        match std::str::from_utf8(field) {
            Ok(text) if is_database => out.extend(unspelled(text)),
            _ => out.extend_from_slice(field),
        }
        is_database = at % 2 == 0 && field == b"database";
    }
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
    if let Some(place) = out.first_chunk_mut() {
        *place = length.to_be_bytes();
    }
    out
}

/// By what a database is reached that sessions like this one know by this name, spelled: who asks
/// for one at the login names it by bytes, in whatever encoding it was made.
pub(crate) async fn reached_by(client: &Client, name: &str) -> String {
    let query = format!("SELECT {}", bytes_of("$1"));
    let asked = client.query_one(&query, &[&name]).await;
    // What the session's encoding has no letters for is no name of its.
    asked.and_then(|row| row.try_get(0).map(spelled)).unwrap_or_else(|_| name.to_owned())
}

/// By what the database is reached that the session is in.
pub(crate) async fn reached(client: &Client) -> Result<String, tokio_postgres::Error> {
    let query = format!("SELECT {}", bytes_of("pg_catalog.current_database()"));
    client.query_one(&query, &[]).await?.try_get(0).map(spelled)
}

/// A name as text.
pub(crate) fn spelled(name: &[u8]) -> String {
    let mut text = String::new();
    let byte = |byte: &u8| format!("{MARK}{byte:02x}");
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                MARK => text.extend(MARK.encode_utf8(&mut [0; 4]).as_bytes().iter().map(byte)),
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(byte));
    }
    text
}

/// The bytes of what was spelled.
pub(crate) fn unspelled(text: &str) -> Vec<u8> {
    let mut parts = text.split(MARK);
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match digits {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => {
                bytes.extend_from_slice(MARK.encode_utf8(&mut [0; 4]).as_bytes());
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    bytes
}

/// Runs a statement in which names are spelled.
pub(crate) async fn execute(client: &Client, statement: &str) -> Result<(), ServerSaid> {
    let said = match String::from_utf8(unspelled(statement)) {
        Ok(plain) => client.batch_execute(&plain).await,
        Err(odd) => client.batch_execute(&wrapped(odd.as_bytes(), "")).await,
    };
    Ok(said?)
}

/// The number that a query gives in which names are spelled. Within a transaction.
pub(crate) async fn number(client: &Client, query: &str) -> Result<i64, tokio_postgres::Error> {
    match String::from_utf8(unspelled(query)) {
        Ok(plain) => client.query_one(&plain, &[]).await?.try_get(0),
        Err(odd) => {
            client.batch_execute(&wrapped(odd.as_bytes(), "INTO n")).await?;
            let told = "SELECT pg_catalog.current_setting('drctl.number')::pg_catalog.int8";
            client.query_one(told, &[]).await?.try_get(0)
        }
    }
}

/// The statement in one that is ASCII, as is what the server says of it: it is told with the state
/// that it has, and without the names.
fn wrapped(statement: &[u8], into: &str) -> String {
    let digits: String = statement.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "DO LANGUAGE plpgsql $drctl$ DECLARE n pg_catalog.int8; BEGIN \
         EXECUTE pg_catalog.convert_from(pg_catalog.decode('{digits}', 'hex'), 'SQL_ASCII') {into}; \
         PERFORM pg_catalog.set_config('drctl.number', n::text, true); \
         EXCEPTION WHEN OTHERS THEN RAISE USING ERRCODE = SQLSTATE, \
         MESSAGE = pg_catalog.regexp_replace(SQLERRM, '[^ -~]', '?', 'g'); END $drctl$"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_apart_and_come_back() {
        let names: [&[u8]; 6] = [
            b"plain",
            "\u{e9}t\u{e9}".as_bytes(),
            b"\xe9t\xe9",
            "\u{fffd}e9t\u{fffd}e9".as_bytes(),
            "\u{fffd}".as_bytes(),
            b"\xff\xfe\\x",
        ];
        let texts: std::collections::BTreeSet<String> = names.map(spelled).into();
        assert_eq!(texts.len(), names.len());
        for name in names {
            assert_eq!(unspelled(&spelled(name)), name);
        }
        assert_eq!(spelled(b"t\xe9"), "t\u{fffd}e9");
        // What nobody has spelled stays as it is.
        assert_eq!(unspelled("\u{fffd}x\u{fffd}"), "\u{fffd}x\u{fffd}".as_bytes());
    }

    #[test]
    fn the_first_message_names_a_database_by_its_bytes() {
        let message = |database: &[u8]| {
            let fields = [&b"user\0database\0database\0"[..], database, b"\0a\0\0\0"].concat();
            let length = u32::try_from(fields.len() + 8).unwrap().to_be_bytes();
            [&length[..], &[0, 3, 0, 0], &fields].concat()
        };
        let plain = message(b"shop");
        assert_eq!(unspelled_startup(&plain), plain);
        assert_eq!(unspelled_startup(&message("d\u{fffd}e9".as_bytes())), message(b"d\xe9"));
    }

    #[test]
    fn a_statement_is_wrapped_in_ascii() {
        let text = wrapped(b"LOCK \"t\xe9$drctl$\"", "");
        assert!(text.is_ascii() && text.contains("'4c4f434b202274e9246472"), "{text}");
    }
}
