//! What `pg_restore` says of statements that failed, when it went on behind them.

use drctl_model::shown;

use crate::common::EngineError;
use crate::common::process::Ended;

/// The most failures that are named.
const NAMED: usize = 50;

/// From so many bytes on its words may have lost their beginning.
const KEPT: usize = 15 << 10;

/// The most characters of one.
const SHOWN: usize = 300;

/// What it says last when it has come to the end with statements that failed.
const AT_THE_END: &str = "pg_restore: warning: errors ignored on restore: ";

/// Signs that it went on without a server: then it has not come to the end of anything.
const WITHOUT_SERVER: &[&str] = &["server closed the connection", "no connection to the server"];

/// The statements that failed; an error where it did not come to the end.
pub(super) fn failures(ended: Ended) -> Result<Vec<String>, EngineError> {
    let count = ended.stderr.lines().rev().find_map(|line| line.strip_prefix(AT_THE_END));
    let count = count.and_then(|count| count.trim().parse::<usize>().ok());
    let alone = WITHOUT_SERVER.iter().any(|sign| ended.stderr.contains(sign));
    match count.filter(|_| ended.status.code() == Some(1) && !alone) {
        Some(count) => Ok(named(&ended.stderr, count)),
        None => ended.success().map(|()| Vec::new()),
    }
}

/// The errors in its words, each with the beginning of its statement, and how many more there are.
fn named(said: &str, count: usize) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut lines = said.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(error) = line.strip_prefix("pg_restore: error: ") {
            found.push(error.trim_start_matches("could not execute query: ").to_owned());
        }
        let Some(command) = line.strip_prefix("Command was: ") else { continue };
        let next = lines.next_if(|line| line.starts_with(char::is_whitespace)).unwrap_or_default();
        if let Some(last) = found.last_mut() {
            *last = format!("{}: {last}", beginning(&format!("{command} {next}")));
        }
    }
    // The number alone does not tell: where several connections load, it counts some twice.
    let cut = said.len() >= KEPT || found.len() > NAMED;
    found.truncate(NAMED);
    let mut found: Vec<String> = found.iter().map(|text| shown(text, SHOWN)).collect();
    if cut || found.is_empty() {
        found.push(format!("{count} errors in all"));
    }
    found
}

/// The first words of a statement: never what may be a password.
fn beginning(statement: &str) -> String {
    let words = statement.split_whitespace().take(8);
    let harmless = |word: &&str| !word.contains('\'') && !["CONNECTION", "OPTIONS"].contains(word);
    words.take_while(harmless).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_failed_are_named() {
        let said = "pg_restore: error: could not execute query: ERROR:  insert violates \"fk\"\n\
            DETAIL:  Key (c)=(7) is not present.\n\
            Command was: ALTER TABLE ONLY public.sale\n    ADD CONSTRAINT fk FOREIGN KEY (c);\n\n\n\
            pg_restore: error: COPY failed for table \"t\": ERROR:  no\n\
            pg_restore: warning: errors ignored on restore: 3\n";
        let first = "ALTER TABLE ONLY public.sale ADD CONSTRAINT fk FOREIGN: \
                     ERROR:  insert violates \"fk\"";
        let wanted = [first, "COPY failed for table \"t\": ERROR:  no"];
        assert_eq!(named(said, 3), wanted);
        let secret = "CREATE SUBSCRIPTION s CONNECTION 'password=hunter2' PUBLICATION p";
        assert_eq!(beginning(secret), "CREATE SUBSCRIPTION s");
    }
}
