//! Reads the script that `pg_dumpall` writes: statements one by one, and its end.

use super::WalkError;
use super::stream::Watch;

/// The line that `pg_dumpall` writes last when all went well.
const TRAILER: &str = "-- PostgreSQL database cluster dump complete";

/// Bytes at the end of the script that are kept.
const TAIL: usize = 4096;

/// The most bytes that roles and tablespaces may be; some hundred thousand roles.
pub(crate) const SCRIPT_BYTES: usize = 64 << 20;

/// Sees whether a script is complete.
#[derive(Debug, Default)]
pub(crate) struct Trailer {
    tail: Vec<u8>,
    bytes: usize,
}

impl Watch for Trailer {
    type Shape = ();

    fn push(&mut self, bytes: &[u8]) -> Result<(), WalkError> {
        // What is longer would be refused when it is restored.
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > SCRIPT_BYTES {
            return Err(WalkError::TooLong { limit: SCRIPT_BYTES });
        }
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        Ok(())
    }

    fn finish(self) -> Result<(), WalkError> {
        // The script ends with a newline; without it, the last line may have been cut.
        let complete = self.tail.ends_with(b"\n") && {
            let text = String::from_utf8_lossy(&self.tail);
            let mut lines = text.lines().rev().map(str::trim_end);
            let frame =
                |line: &&str| line.is_empty() || *line == "--" || line.starts_with("\\unrestrict ");
            lines.find(|line| !frame(line)) == Some(TRAILER)
        };
        if complete { Ok(()) } else { Err(WalkError::NoTrailer { wanted: TRAILER }) }
    }
}

/// Cuts a script into statements, without comments and commands to `psql`.
pub(crate) fn statements(script: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = script;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return found;
        }
        if rest.starts_with("--") || rest.starts_with('\\') {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
            continue;
        }
        let end = statement_end(rest);
        let statement = rest[..end].trim();
        if !statement.is_empty() {
            found.push(statement.to_owned());
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
}

/// The place of the semicolon that ends the first statement.
fn statement_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b';' => return at,
            b'\'' => {
                let escapes = at > 0 && matches!(bytes[at - 1], b'E' | b'e');
                at = quote_end(bytes, at, escapes);
            }
            b'"' => at = quote_end(bytes, at, false),
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The place after a quoted text that begins at `start`. A doubled quote reads as two texts.
fn quote_end(bytes: &[u8], start: usize, escapes: bool) -> usize {
    let quote = bytes[start];
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 2,
            b if b == quote && escapes && bytes.get(at + 1) == Some(&quote) => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The role that a `CREATE ROLE` or `ALTER ROLE` is about, with the verb.
pub(crate) fn role_of(statement: &str) -> Option<(&'static str, String)> {
    ["CREATE ROLE ", "ALTER ROLE "].into_iter().find_map(|verb| {
        let name = name_after(statement.strip_prefix(verb)?)?;
        Some((verb.trim_end(), name))
    })
}

/// What a statement makes or changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// A role: its attributes, settings, comment, or what it is granted. `PUBLIC` for all roles.
    Role(String),
    /// A tablespace: its options, comment, or who may use it.
    Tablespace(String),
}

/// What a statement of `pg_dumpall` makes or changes; nothing for those about the session.
pub(crate) fn subject_of(statement: &str) -> Option<Subject> {
    let words = words(statement);
    let at = |word: &str| words.iter().position(|it| it == word).map(|at| at + 1);
    let named = |at: usize| words.get(at).map(|name| unquoted(name));
    let object = |at: usize| match words.get(at)?.as_str() {
        "ROLE" => named(at + 1).map(Subject::Role),
        "TABLESPACE" => named(at + 1).map(Subject::Tablespace),
        _ => None,
    };
    match words.first()?.as_str() {
        "CREATE" | "ALTER" => object(1),
        "COMMENT" | "SECURITY" => object(at("ON")?),
        "GRANT" | "REVOKE" => {
            let tablespace = at("ON").and_then(object);
            let grantee = at("TO").or_else(|| at("FROM")).and_then(named);
            tablespace.or(grantee.map(Subject::Role))
        }
        _ => None,
    }
}

/// The role whose membership a statement grants.
pub(crate) fn granted(statement: &str) -> Option<String> {
    let words = words(statement);
    let is = words.first()? == "GRANT" && words.get(2)? == "TO";
    is.then(|| words.get(1).map(|name| unquoted(name))).flatten()
}

/// The words of a statement; a quoted name is one word, with its quotes.
fn words(statement: &str) -> Vec<String> {
    let (bytes, mut found, mut at) = (statement.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let start = at;
        while at < bytes.len() && !bytes[at].is_ascii_whitespace() {
            at = match bytes[at] {
                b'"' => quote_end(bytes, at, false),
                // Texts end what is read here: no name comes after one.
                b'\'' => return found,
                _ => at + 1,
            };
        }
        if at > start {
            found.push(statement[start..at].to_owned());
        }
        at += 1;
    }
    found
}

fn unquoted(word: &str) -> String {
    let name = if word.starts_with('"') { name_after(word) } else { None };
    name.unwrap_or_else(|| word.trim_end_matches(',').to_owned())
}

/// The tablespace that a `CREATE TABLESPACE` makes.
pub(crate) fn tablespace_of(statement: &str) -> Option<String> {
    name_after(statement.strip_prefix("CREATE TABLESPACE ")?)
}

/// The same made elsewhere: at this place, whose quotes are doubled. Nothing for what is no `CREATE TABLESPACE`.
pub(crate) fn at_place(statement: &str, place: &str) -> Option<String> {
    tablespace_of(statement)?;
    let bytes = statement.as_bytes();
    let mut at = 0;
    while at < bytes.len() && bytes[at] != b'\'' {
        at = if bytes[at] == b'"' { quote_end(bytes, at, false) } else { at + 1 };
    }
    let (before, rest) = statement.split_at_checked(at)?;
    before.ends_with(" LOCATION ").then_some(())?;
    // A doubled quote reads as two texts.
    let mut behind = rest;
    while behind.starts_with('\'') {
        behind = &behind[quote_end(behind.as_bytes(), 0, false)..];
    }
    Some(format!("{before}'{place}'{behind}"))
}

/// A grant of a membership as if whoever runs it had granted it: only the first superuser of a cluster may
/// grant in the name of another one.
pub(crate) fn without_grantor(statement: &str) -> &str {
    let words = words(statement);
    let grantor = words.iter().rposition(|word| word == "GRANTED").map(|at| &words[at..]);
    let Some([_, by, name]) = grantor.filter(|_| granted(statement).is_some()) else {
        return statement;
    };
    let clause = format!(" GRANTED {by} {name}");
    statement.strip_suffix(clause.as_str()).unwrap_or(statement)
}

fn name_after(text: &str) -> Option<String> {
    if !text.starts_with('"') {
        return text.split_whitespace().next().map(ToOwned::to_owned);
    }
    let mut name = String::new();
    let mut letters = text[1..].chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '"' && letters.next_if_eq(&'"').is_none() {
            return Some(name);
        }
        name.push(letter);
    }
    None
}

/// The first words of a statement, for people: never what may be a password.
pub(crate) fn head(statement: &str) -> String {
    if let Some((verb, role)) = role_of(statement) {
        return format!("{verb} {role}");
    }
    statement.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_cut_into_statements() {
        let script = "--\n-- a; b\n--\n\n\\restrict abc\nSET client_encoding = 'UTF8';\n\
            CREATE ROLE \"a;b\"\"c\";\nALTER ROLE x SET p TO E'it\\'s; ';\n\
            COMMENT ON ROLE x IS 'two\nlines; it''s';\n\n-- User Configurations\n\n\\unrestrict abc\n";
        let expected = [
            "SET client_encoding = 'UTF8'",
            "CREATE ROLE \"a;b\"\"c\"",
            "ALTER ROLE x SET p TO E'it\\'s; '",
            "COMMENT ON ROLE x IS 'two\nlines; it''s'",
        ];
        assert_eq!(statements(script), expected);
        assert!(statements("-- nothing").is_empty());
    }

    #[test]
    fn a_tablespace_is_made_elsewhere() {
        let moved = |statement: &str| at_place(statement, "/new/1");
        for (statement, expected) in [
            (
                "CREATE TABLESPACE t OWNER x LOCATION '/old'",
                "CREATE TABLESPACE t OWNER x LOCATION '/new/1'",
            ),
            (
                "CREATE TABLESPACE \"a LOCATION '/b'\" OWNER \"o'\" LOCATION '/it''s'",
                "CREATE TABLESPACE \"a LOCATION '/b'\" OWNER \"o'\" LOCATION '/new/1'",
            ),
        ] {
            assert_eq!(moved(statement).as_deref(), Some(expected));
        }
        assert_eq!(moved("CREATE ROLE x PASSWORD '/old'"), None);
        assert_eq!(moved("CREATE TABLESPACE t OWNER x"), None);
    }

    #[test]
    fn a_membership_is_granted_by_whoever_restores_it() {
        for (statement, expected) in [
            (
                "GRANT a TO b WITH INHERIT TRUE GRANTED BY postgres",
                "GRANT a TO b WITH INHERIT TRUE",
            ),
            ("GRANT a TO b GRANTED BY \"o o\"", "GRANT a TO b"),
            ("GRANT a TO b", "GRANT a TO b"),
            ("ALTER ROLE a SET x TO 'GRANTED BY b'", "ALTER ROLE a SET x TO 'GRANTED BY b'"),
        ] {
            assert_eq!(without_grantor(statement), expected);
        }
    }

    #[test]
    fn roles_are_recognised() {
        let cases = [
            ("CREATE ROLE shop", Some(("CREATE ROLE", "shop"))),
            ("ALTER ROLE \"a \"\"b\" WITH SUPERUSER", Some(("ALTER ROLE", "a \"b"))),
            ("ALTER ROLE x SET search_path TO 'y'", Some(("ALTER ROLE", "x"))),
            ("GRANT a TO b", None),
            ("COMMENT ON ROLE x IS 'CREATE ROLE y'", None),
        ];
        for (statement, expected) in cases {
            let found = role_of(statement);
            assert_eq!(found.as_ref().map(|(verb, name)| (*verb, name.as_str())), expected);
        }
        assert_eq!(tablespace_of("CREATE TABLESPACE t OWNER x").as_deref(), Some("t"));
    }

    #[test]
    fn whom_a_statement_changes_is_known() {
        let role = |name: &str| Some(Subject::Role(name.to_owned()));
        let tablespace = |name: &str| Some(Subject::Tablespace(name.to_owned()));
        let cases = [
            ("CREATE ROLE app", role("app")),
            ("ALTER ROLE app WITH LOGIN PASSWORD 'x TO y'", role("app")),
            ("ALTER ROLE \"a \"\"TO b\" SET work_mem TO '1MB'", role("a \"TO b")),
            ("COMMENT ON ROLE app IS 'a TO b'", role("app")),
            ("SECURITY LABEL FOR dummy ON ROLE app IS 'x'", role("app")),
            ("GRANT boss TO app WITH ADMIN OPTION, INHERIT TRUE GRANTED BY postgres", role("app")),
            ("GRANT \"to TO\" TO \"ON x\"", role("ON x")),
            ("GRANT SET, ALTER SYSTEM ON PARAMETER work_mem TO app", role("app")),
            ("GRANT ALL ON PARAMETER work_mem TO PUBLIC", role("PUBLIC")),
            ("REVOKE ALL ON PARAMETER work_mem FROM app", role("app")),
            ("CREATE TABLESPACE t OWNER app LOCATION '/x'", tablespace("t")),
            ("ALTER TABLESPACE t SET (seq_page_cost=2)", tablespace("t")),
            ("GRANT ALL ON TABLESPACE t TO app", tablespace("t")),
            ("REVOKE ALL ON TABLESPACE \"t t\" FROM PUBLIC", tablespace("t t")),
            ("COMMENT ON TABLESPACE t IS 'x'", tablespace("t")),
            ("SET client_encoding = 'UTF8'", None),
            ("SET SESSION AUTHORIZATION app", None),
        ];
        for (statement, expected) in cases {
            assert_eq!(subject_of(statement), expected, "{statement}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_password() {
        let statement = "ALTER ROLE \"x y\" WITH NOSUPERUSER PASSWORD 'SCRAM-SHA-256$4096:abc'";
        assert_eq!(head(statement), "ALTER ROLE x y");
        assert_eq!(head("GRANT a TO b"), "GRANT a TO");
    }

    #[test]
    fn the_end_of_a_script_is_known() {
        let whole = "CREATE ROLE x;\n--\n-- PostgreSQL database cluster dump complete\n--\n\n";
        let restricted = format!("x;\n{TRAILER}\n\\unrestrict abc\n\n");
        let cases = [
            (whole.to_owned(), true),
            (restricted, true),
            (whole.replace("complete", "complet"), false),
            (format!("{whole}CREATE ROLE late;\n"), false),
            (format!("-- x\n{TRAILER}"), false),
            (String::new(), false),
        ];
        for (script, complete) in cases {
            let mut trailer = Trailer::default();
            script.as_bytes().chunks(3).for_each(|piece| trailer.push(piece).unwrap());
            assert_eq!(trailer.finish().is_ok(), complete, "{script}");
        }
        for end in 0..whole.len() - 5 {
            let mut trailer = Trailer::default();
            trailer.push(&whole.as_bytes()[..end]).unwrap();
            assert!(trailer.finish().is_err(), "{end}");
        }
    }
}
