//! `drctl pin`, `unpin`, `hold`, `release`, `freeze`, `unfreeze` and `holds`: what has to stay, whatever
//! the policy says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use drctl_catalog::Catalog;
use drctl_model::{BackupId, MAX_WITHOUT, SourceId, Stated, Statement};
use serde_json::{Value, json};

use super::args::{StatementVerb, UnfreezeArgs};
use super::screen::{Screen, line, table};
use super::statement_subject::{known, subject};
use crate::host::{AgentError, Exit, Setup};
use crate::repository::chain::is_broken;
use crate::repository::removed::{back, tombstone};
use crate::repository::say::{Answer, Wish, state};
use crate::repository::statements::{Said, Statements, gone_words, note, statements};
use crate::repository::{Memory, Repository, words};

/// Does what one of the verbs asks for.
pub(super) async fn say(screen: Screen, setup: &Setup, verb: &StatementVerb) -> Result<Exit> {
    let (stated, what, reason) = match verb {
        StatementVerb::Pin(args) => (Stated::Pin, &args.backup, &args.reason),
        StatementVerb::Unpin(args) => (Stated::Unpin, &args.backup, &args.reason),
        StatementVerb::Hold(args) => (Stated::Hold, &args.what, &args.reason),
        StatementVerb::Release(args) => (Stated::Release, &args.what, &args.reason),
        StatementVerb::Freeze(args) => (Stated::Freeze, &args.source, &args.reason),
        StatementVerb::Unfreeze(args) => return unfreeze(screen, setup, args).await,
        StatementVerb::Holds { source } => return holds(screen, setup, source.as_deref()).await,
    };
    one(screen, setup, stated, (what, reason)).await
}

/// What needs no more than a reason.
async fn one(
    screen: Screen,
    setup: &Setup,
    stated: Stated,
    (what, reason): (&str, &str),
) -> Result<Exit> {
    let repository = setup.repository().await?;
    let (source, backup) = subject(setup, &repository, stated, what).await?;
    let wish = Wish { source, stated, backup, reason: reason.to_owned(), without: Vec::new() };
    write(screen, setup, &repository, &wish).await
}

/// `drctl unfreeze`.
async fn unfreeze(screen: Screen, setup: &Setup, args: &UnfreezeArgs) -> Result<Exit> {
    let without = args.without.as_deref().map_or_else(|| Ok(Vec::new()), numbers)?;
    let repository = setup.repository().await?;
    let (source, _) = subject(setup, &repository, Stated::Unfreeze, &args.source).await?;
    let (stated, reason) = (Stated::Unfreeze, args.reason.clone());
    write(screen, setup, &repository, &Wish { source, stated, backup: None, reason, without }).await
}

async fn write(
    screen: Screen,
    setup: &Setup,
    repository: &Repository,
    wish: &Wish,
) -> Result<Exit> {
    let catalog = setup.catalog(repository).await?;
    let answer = state(setup, repository, &catalog, wish)
        .await
        .with_context(|| format!("{} {}", wish.stated, subject_of(wish)))?;
    // A removal looks for this after its tombstone is written: one of both sees the other.
    let (removal, doubt) = match &wish.backup {
        _ if wish.stated.lifts() => (None, None),
        Some(backup) => (
            removal(repository, &wish.source, backup).await?,
            doubt(repository, &catalog, &wish.source, backup).await?,
        ),
        None => (removals(repository, &wish.source).await?, None),
    };
    let mut object = object(&answer.statement);
    object["new"] = json!(answer.new);
    object["blocked"] = json!(answer.blocked);
    object["removal"] = json!(removal);
    object["doubt"] = json!(doubt);
    let warnings: Vec<String> = removal.into_iter().chain(doubt).collect();
    screen.answer("drctl.statement/1", object, || answered(&answer, wish, &warnings));
    Ok(if warnings.is_empty() { Exit::Success } else { Exit::Degraded })
}

/// Why a backup that is kept does not count; nothing where nothing is known against it.
async fn doubt(
    repository: &Repository,
    catalog: &Catalog,
    source: &SourceId,
    backup: &BackupId,
) -> Result<Option<String>> {
    let memory = Memory::of(catalog, Some(source)).await?;
    let told = |why: String| Some(format!("it stays, but does not count: {why}"));
    if let Some(found) = memory.bad(source, backup) {
        return Ok(told(words(found)));
    }
    match repository.is_lacking(source, backup).await {
        Err(error) if is_broken(&error) => return Ok(told(format!("{error:#}"))),
        lacking => {
            if let Some(why) = lacking? {
                return Ok(told(why));
            }
        }
    }
    let proven = repository.manifest(source, backup).await?;
    let suspect = proven.map(|proven| proven.summary()).filter(|one| !one.is_good());
    Ok(suspect.and_then(|one| told(format!("it is suspect: {}", line(&one.suspect.join("; "))))))
}

/// The same for people.
fn answered(answer: &Answer, wish: &Wish, warnings: &[String]) -> String {
    let subject = subject_of(wish);
    let Statement { statement, source, n, at, reason, without, .. } = &answer.statement;
    let reason = line(reason);
    let out = leaves_out(without);
    let mut text = match (answer.new, out) {
        (true, None) => format!("{statement} of {subject} (statement {n} of {source}): {reason}"),
        (true, Some(_)) => format!(
            "ignored from now on, for good: {} of {source} (by statement {n}): {reason}",
            numbered(without)
        ),
        (false, out) => {
            let what = out.unwrap_or_else(|| "says so".to_owned());
            format!(
                "nothing was written: statement {n} of {source} {what} already since {at:.0}: {reason}"
            )
        }
    };
    if !answer.new && wish.reason != answer.statement.reason {
        text.push_str(&not_recorded(wish.stated));
    }
    if answer.new && !without.is_empty() {
        text.push_str(
            "\n  if one of them was a pin, a legal hold or a freeze, it is no longer in force: set it again now",
        );
    }
    for why in &answer.blocked {
        let _ = write!(text, "\n  nothing of {source} is removed all the same: {}", line(why));
    }
    for why in warnings {
        let _ = write!(text, "\n  WARNING: {}", line(why));
    }
    text
}

/// That another reason stands already, and what that means.
fn not_recorded(stated: Stated) -> String {
    let ends = match stated {
        Stated::Pin => "unpin",
        Stated::Hold => "release",
        Stated::Freeze => "unfreeze",
        Stated::Unpin | Stated::Release | Stated::Unfreeze => return String::new(),
    };
    let meanwhile = if stated == Stated::Freeze { "" } else { "freeze the source, " };
    format!(
        "\n  your reason was NOT recorded: one `drctl {ends}` ends the {stated}. If both reasons matter: \
         {meanwhile}end it and set it again with a reason that names both"
    )
}

/// That statements are left out, in words.
fn leaves_out(without: &[u64]) -> Option<String> {
    (!without.is_empty()).then(|| format!("leaves out {}", numbered(without)))
}

/// Statements by their numbers.
fn numbered(without: &[u64]) -> String {
    let all: BTreeSet<u64> = without.iter().copied().collect();
    let (Some(first), Some(last)) = (all.first(), all.last()) else { return String::new() };
    match all.len() {
        1 => format!("statement {first}"),
        many if last - first == many as u64 - 1 => format!("statements {first}-{last}"),
        many => format!("{many} of the statements {first}-{last}"),
    }
}

fn subject_of(wish: &Wish) -> &str {
    wish.backup.as_ref().map_or(wish.source.as_str(), BackupId::as_str)
}

/// That the removal of a backup had begun when it was said that it stays.
async fn removal(
    repository: &Repository,
    source: &SourceId,
    backup: &BackupId,
) -> Result<Option<String>> {
    let is_there = repository.manifest_is_there(source, backup).await?;
    let begun = tombstone(repository, source, backup).await?.is_some();
    Ok(match (is_there, begun) {
        (true, false) => None,
        (true, true) => Some(format!(
            "a removal of {backup} was begun before, and may still run: it is there now, see with `drctl prune \
             {source}` that it stays"
        )),
        (false, _) => Some(format!("{backup} was removed in the meantime, and cannot be kept")),
    })
}

/// That removals of a source's backups had begun when it was said that all of it stays: of those that nobody has
/// pinned or held by themselves.
async fn removals(repository: &Repository, source: &SourceId) -> Result<Option<String>> {
    let attempts = repository.attempts(source).await?;
    let mut begun = back(repository, source, attempts).await?;
    let said = statements(repository, source).await?;
    begun.retain(|one| !said.in_force.names(&one.backup));
    let Some(first) = begun.first() else { return Ok(None) };
    let what = match begun.len() {
        1 => first.backup.to_string(),
        many => format!("each of {many} backups, {} for one,", first.backup),
    };
    Ok(Some(format!(
        "a removal of {what} was begun before, and may still run: what is there now may be lost, and that passes \
         for the end of its removal: pin it by itself (`drctl list {source}` shows it as STILL THERE)"
    )))
}

/// `3-5,9` as numbers.
fn numbers(text: &str) -> Result<Vec<u64>> {
    let mut found = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let pair = first.trim().parse::<u64>().ok().zip(last.trim().parse::<u64>().ok());
        let pair = pair.filter(|(first, last)| (1..=*last).contains(first));
        let room = MAX_WITHOUT - found.len();
        match pair.filter(|(first, last)| last - first < room as u64) {
            Some((first, last)) => found.extend(first..=last),
            None => {
                let text = format!(
                    "--without is a list of at most {MAX_WITHOUT} numbers, such as 3 or 3-5,9; not `{text}`"
                );
                return Err(AgentError::Usage(text).into());
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// `drctl holds`.
async fn holds(screen: Screen, setup: &Setup, source: Option<&str>) -> Result<Exit> {
    let repository = setup.repository().await?;
    let sources: BTreeSet<SourceId> = match source {
        Some(name) => [known(setup, &repository, name).await?].into(),
        None => {
            let there = repository.sources().await?;
            setup.config.sources.keys().cloned().chain(there).collect()
        }
    };
    let (catalog, mut unknown) = remembering(setup).await;
    let writable = setup.log_cache(&repository).await;
    let mut all = Vec::new();
    for source in sources {
        // First: who says something in between is in the bucket.
        let known = match &catalog {
            Some(catalog) => match catalog.statements(&source).await {
                Ok(known) => known,
                Err(error) => {
                    let why = unmissed(&format!("cannot be read: {error}"));
                    unknown = unknown.or(Some(why));
                    BTreeMap::new()
                }
            },
            None => BTreeMap::new(),
        };
        let said = statements(&repository, &source).await?;
        note(writable.as_ref(), &source, &said).await;
        let gone = said.gone(&known);
        let gone: Vec<String> = gone.iter().filter_map(|(key, why)| gone_words(key, why)).collect();
        let doubts = [said.doubts(), gone].concat();
        all.push(Held { source, said, doubts });
    }
    let entry = |Held { source, said, doubts }: &Held| {
        let one = |one: &Said| {
            let mut entry = object(&one.statement);
            entry["stands"] = json!(said.in_force.has(one.statement.n));
            entry["signed_by"] = json!(repository.trust.name(&one.signer));
            entry
        };
        let statements: Vec<Value> = said.said.iter().map(one).collect();
        json!({ "source": source, "doubts": doubts, "statements": statements })
    };
    let sources: Vec<Value> = all.iter().map(entry).collect();
    let object = json!({ "sources": sources, "unknown": unknown });
    screen.answer("drctl.holds/1", object, || text(&all, unknown.as_deref()));
    let in_doubt = all.iter().any(|one| !one.doubts.is_empty());
    Ok(if in_doubt { Exit::Degraded } else { Exit::Success })
}

/// What was said of a source, and what is in doubt of it.
struct Held {
    source: SourceId,
    said: Statements,
    doubts: Vec<String>,
}

/// The catalog that remembers what was said; what is to be said where none does.
async fn remembering(setup: &Setup) -> (Option<Catalog>, Option<String>) {
    match setup.known_catalog().await {
        Ok(catalog) => {
            let is_new = setup.forgotten(&catalog).is_some();
            let why =
                is_new.then(|| unmissed("was made anew, or cannot be used: see `drctl status`"));
            (Some(catalog), why)
        }
        Err(error) => {
            (None, Some(unmissed(&format!("is not there, or cannot be read: {error:#}"))))
        }
    }
}

fn unmissed(why: &str) -> String {
    format!("a statement that is gone may not be missed here, for this host's catalog {why}")
}

fn object(said: &Statement) -> Value {
    json!({
        "source": said.source, "n": said.n, "statement": said.statement, "backup": said.backup,
        "reason": said.reason, "without": said.without, "at": said.at, "host": said.host,
        "account": said.account,
    })
}

fn text(all: &[Held], unknown: Option<&str>) -> String {
    let head = ["SOURCE", "NO", "STATEMENT", "OF", "AT", "BY", "KEEPS", "REASON"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for Held { source, said, .. } in all {
        for Statement { n, statement, backup, reason, at, host, account, without, .. } in
            said.said.iter().map(|one| &one.statement)
        {
            let stands = if said.in_force.has(*n) { "yes" } else { "-" };
            rows.push(vec![
                source.to_string(),
                n.to_string(),
                leaves_out(without).unwrap_or_else(|| statement.to_string()),
                backup.as_ref().map_or("the source".to_owned(), ToString::to_string),
                format!("{at:.0}"),
                line(&format!("{account} on {host}")),
                stands.to_owned(),
                line(reason),
            ]);
        }
    }
    let mut text = match rows.len() {
        1 => "nothing is pinned, on legal hold or frozen: the bucket has no such statement"
            .to_owned(),
        _ => table(&rows),
    };
    for Held { source, doubts, .. } in all {
        for why in doubts {
            let _ =
                write!(text, "\nREMOVAL BLOCKED: nothing of {source} is removed: {}", line(why));
        }
    }
    if let Some(unknown) = unknown {
        let _ = write!(text, "\nnote: {}", line(unknown));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        assert_eq!(numbers("3").unwrap(), [3]);
        assert_eq!(numbers("9,3-5, 4").unwrap(), [3, 4, 5, 9]);
        for bad in
            ["", "0", "5-3", "a", "1-", "-3", "1-1001", "1-999,2000-2001,7000-18446744073709551615"]
        {
            assert!(numbers(bad).is_err(), "{bad}");
        }
    }
}
