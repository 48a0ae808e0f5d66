//! Something said of a source: that a backup has to stay, that nothing may go, what ends that, and which
//! statements are left out. Numbered, signed, and written beside the others.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use drctl_catalog::Catalog;
use drctl_engines::account;
use drctl_model::{BackupId, Digest, Header, SourceId, Stated, Statement, is_reason};
use drctl_store::{SigningKey, StoreError, digest, encode_statement, layout};

use super::Repository;
use super::statements::{Statements, statements};
use crate::host::{AgentError, Setup};

/// How often a number is taken that another host took at the same moment.
const TRIES: usize = 20;

/// What somebody wants to say.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Of which source.
    pub(crate) source: SourceId,
    /// What.
    pub(crate) stated: Stated,
    /// Of which backup; nothing where it is said of the source.
    pub(crate) backup: Option<BackupId>,
    /// Why.
    pub(crate) reason: String,
    /// Statements that are left out from now on.
    pub(crate) without: Vec<u64>,
}

/// What became of a wish.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The statement that says it.
    pub(crate) statement: Statement,
    /// Whether it was written now; otherwise an earlier one says so already.
    pub(crate) new: bool,
    /// By what nothing of the source may go all the same, where something was ended or left out: in
    /// sentences.
    pub(crate) blocked: Vec<String>,
}

/// Writes a statement; where what it says stands already, gives the one that says so.
///
/// # Errors
/// [`AgentError::Usage`] for a reason that is none, a key that may not say this, where there is nothing to
/// lift, and for a statement that counts and is to be left out; the store's.
pub(crate) async fn state(
    setup: &Setup,
    repository: &Repository,
    catalog: &Catalog,
    wish: &Wish,
) -> Result<Answer> {
    let key = setup.signing_key()?;
    may_say(repository, &key, wish)?;
    repository.may_write().await?;
    let mut wish = wish.clone();
    let mut tried = BTreeSet::new();
    for _ in 0..TRIES {
        let mut there = statements(repository, &wish.source).await?;
        // Something lies there that no listing shows: a pipe, or a link that leads nowhere.
        there.take(&tried);
        let known = catalog.statements(&wish.source).await?;
        if let Some(statement) = says_so(&there, &known, &mut wish)? {
            return Ok(Answer {
                blocked: still_blocked(&there, &statement),
                statement,
                new: false,
            });
        }
        let n = there.next_number(&known, &wish.without)?;
        let said = said(setup, repository, &wish, n);
        let bytes = encode_statement(&said, &key).context("sign the statement")?;
        let sha256 = digest(&bytes);
        let place = layout::statement(&wish.source, n);
        match repository.bucket.put_read_back(&place, Bytes::from(bytes)).await {
            // Another host took this number: what it said counts before this.
            Err(StoreError::Conflict { .. }) => drop(tried.insert(n)),
            put => {
                put.context("write the statement")?;
                let noted = catalog.note_statements(&wish.source, [(n, sha256)].into()).await;
                let _ = noted.inspect_err(|error| tracing::debug!("it is not noted: {error}"));
                let blocked = still_blocked(&there, &said);
                return Ok(Answer { statement: said, new: true, blocked });
            }
        }
    }
    Err(anyhow!(
        "other hosts write statements of {} all the time: nothing was written",
        wish.source
    ))
}

/// The statement that says already what is wished; of numbers that are to be left out only those stay in
/// the wish that are not yet.
fn says_so(
    there: &Statements,
    known: &BTreeMap<u64, Digest>,
    wish: &mut Wish,
) -> Result<Option<Statement>> {
    let usage = |text: String| Err(AgentError::Usage(text).into());
    if !wish.without.is_empty() {
        let left_out = there.left_out_by(&wish.without);
        let is_new = |n: &&u64| !there.in_force.without.contains(*n);
        let new: Vec<u64> = wish.without.iter().filter(is_new).copied().collect();
        if let Some(why) = new.iter().find_map(|n| there.keeps(*n, known)) {
            return usage(format!("{why}; nothing was written"));
        }
        wish.without = new;
        return Ok(left_out.filter(|_| wish.without.is_empty()).cloned());
    }
    let stands = there.in_force.about(wish.stated, wish.backup.as_ref());
    match stands {
        Some(stands) if !wish.stated.lifts() => Ok(Some(stands.clone())),
        None if wish.stated.lifts() => {
            let what = wish.backup.as_ref().map_or(wish.source.as_str(), BackupId::as_str);
            let is = match wish.stated {
                Stated::Unpin => "pinned",
                Stated::Release => "on legal hold",
                _ => "frozen",
            };
            usage(format!("{what} is not {is}: nothing was written"))
        }
        _ => Ok(None),
    }
}

/// By what nothing of the source may go after an `unfreeze`. One that leaves statements out ends no freeze.
fn still_blocked(there: &Statements, last: &Statement) -> Vec<String> {
    if last.statement != Stated::Unfreeze {
        return Vec::new();
    }
    let is_ended = |said: &Statement| said.statement == Stated::Freeze && last.without.is_empty();
    let blocked = there.frozen().into_iter().filter(|(_, said)| !is_ended(said));
    blocked.map(|(why, _)| why).collect()
}

fn said(setup: &Setup, repository: &Repository, wish: &Wish, n: u64) -> Statement {
    Statement {
        header: Header::new([]),
        repository: repository.id.clone(),
        source: wish.source.clone(),
        n,
        statement: wish.stated,
        backup: wish.backup.clone(),
        reason: wish.reason.clone(),
        without: wish.without.clone(),
        host: setup.host(),
        account: account(rustix::process::geteuid().as_raw()),
        at: setup.clock.now(),
    }
}

/// That this host's key may say it, so that everybody believes it.
fn may_say(repository: &Repository, key: &SigningKey, wish: &Wish) -> Result<()> {
    if !is_reason(&wish.reason) {
        let text = "--reason is a text of 1 to 500 characters, without control characters";
        return Err(AgentError::Usage(text.to_owned()).into());
    }
    let key = key.verifying_key();
    let roles = wish.stated.roles();
    if roles.iter().any(|role| repository.trust.believes(&key, &wish.source, *role)) {
        return Ok(());
    }
    let roles: Vec<String> = roles.iter().map(|role| format!("`{role}`")).collect();
    let text = format!(
        "the signing key of this host may not {} anything of {}: its entry in `verifying_keys` has `sources` \
         without {}, or `roles` without {}; nothing was written",
        wish.stated,
        wish.source,
        wish.source,
        roles.join(" or ")
    );
    Err(AgentError::Usage(text).into())
}
