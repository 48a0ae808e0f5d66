//! What a request comes to, by what root lets be asked for; pure.

use std::path::Path;

use drctl_engines::backrest::{Asked, BackRest, Command, Purpose};
use drctl_engines::{Refusal, account};
use drctl_policies::{JobRights, May};
use rustix::process::geteuid;
use serde::Deserialize;
use serde_json::Value;

/// The jobs that there are: a closed list for each tool.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Job {
    Pgbackrest(Asked),
}

/// The tool and its command, all of it out of root's file but for what the command itself takes.
///
/// # Errors
/// A [`Refusal`] that says what root would have to write.
pub(super) fn decide(
    rights: &JobRights,
    job: &Value,
    file: &Path,
) -> Result<(BackRest, Command), Refusal> {
    let unknown = |why: String| {
        let hint = "nothing was done: install the same drctl on both ends";
        Refusal::new(format!("it does not know this request: {why}"), hint)
    };
    let Job::Pgbackrest(asked) = Job::deserialize(job).map_err(|e| unknown(e.to_string()))?;
    asked.check().map_err(|error| unknown(error.to_string()))?;
    let Asked { stanza, repo, run } = asked;
    let at = file.display();
    let Some(found) = rights.pgbackrest.get(&stanza) else {
        let text = format!("{at} has no stanza `{stanza}`");
        let hint = format!("as root write [pgbackrest.{stanza}] there (docs/service.md)");
        return Err(Refusal::new(text, hint));
    };
    let purpose = may(run.purpose());
    if !found.may.contains(&purpose) {
        let (name, word) = (run.name(), purpose.as_str());
        let text = format!("{at} does not allow pgbackrest {name} of `{stanza}`");
        let hint = format!("as root add \"{word}\" to `may` of [pgbackrest.{stanza}] there");
        return Err(Refusal::new(text, hint));
    }
    let mut engine = BackRest::new(stanza);
    engine.repo = repo;
    engine.program.clone_from(&found.program);
    engine.config.clone_from(&found.config);
    // The server runs as this very account: pgBackRest believes no other one at its socket.
    engine.require_peer = Some(account(geteuid().as_raw()));
    Ok((engine, run))
}

/// What must be allowed for it.
fn may(purpose: Purpose) -> May {
    match purpose {
        Purpose::Look => May::Look,
        Purpose::Backup => May::Backup,
        Purpose::Wal => May::Wal,
        Purpose::Stanza => May::Stanza,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use drctl_policies::StanzaRights;
    use serde_json::json;

    use super::*;

    fn rights(allowed: &[May]) -> JobRights {
        let may: BTreeSet<May> = allowed.iter().copied().collect();
        let config = Some("/srv/pgbackrest.conf".into());
        let stanza = StanzaRights { may, config, program: "/opt/pgbackrest".into() };
        let pgbackrest = BTreeMap::from([("main".to_owned(), stanza)]);
        JobRights { agent: "drctl".to_owned(), pgbackrest }
    }

    fn decided(allowed: &[May], job: &Value) -> Result<(BackRest, Command), Refusal> {
        decide(&rights(allowed), job, Path::new("/etc/drctl-job/postgres.toml"))
    }

    fn asks(stanza: &str, run: &Value) -> Value {
        json!({ "pgbackrest": { "stanza": stanza, "repo": 2, "run": run } })
    }

    #[test]
    fn program_configuration_and_account_are_roots_word_alone() {
        let job = asks("main", &json!({ "expire": {} }));
        let (engine, run) = decided(&[May::Backup], &job).unwrap();
        assert_eq!(run, Command::Expire {});
        assert_eq!((engine.stanza.as_str(), engine.repo), ("main", 2));
        assert_eq!(engine.program, Path::new("/opt/pgbackrest"));
        assert_eq!(engine.config.as_deref(), Some(Path::new("/srv/pgbackrest.conf")));
        assert_eq!(engine.require_peer, Some(account(geteuid().as_raw())));
        assert!(engine.cipher_pass.is_none() && engine.helper.is_none());
    }

    #[test]
    fn what_root_did_not_write_is_refused_with_what_he_would_have_to() {
        let runs = [
            (json!({ "version": {} }), May::Look),
            (json!({ "info": {} }), May::Look),
            (json!({ "list_archive": {} }), May::Look),
            (json!({ "list_backups": {} }), May::Look),
            (json!({ "verify": {} }), May::Look),
            (json!({ "backup": { "kind": "full", "annotation": "a" } }), May::Backup),
            (json!({ "expire": {} }), May::Backup),
            (json!({ "archive_get": { "name": "00000002.history" } }), May::Wal),
            (json!({ "check": {} }), May::Stanza),
            (json!({ "stanza_create": {} }), May::Stanza),
            (json!({ "stanza_upgrade": {} }), May::Stanza),
        ];
        let all = [May::Look, May::Backup, May::Wal, May::Stanza];
        for (run, needs) in runs {
            let job = asks("main", &run);
            assert!(decided(&[needs], &job).is_ok(), "{run}");
            let others: Vec<May> = all.into_iter().filter(|may| *may != needs).collect();
            let refusal = decided(&others, &job).unwrap_err();
            assert!(refusal.text.contains("does not allow pgbackrest"), "{refusal:?}");
            assert!(refusal.hint.contains(needs.as_str()), "{refusal:?}");
            let refusal = decided(&all, &asks("other", &run)).unwrap_err();
            assert!(refusal.text.contains("no stanza `other`"), "{refusal:?}");
        }
        for job in [
            json!({}),
            json!({ "shell": { "argv": ["id"] } }),
            asks("main", &json!({ "restore": {} })),
            asks("../etc", &json!({ "info": {} })),
            asks("main", &json!({ "info": { "set": "--config=/etc/shadow" } })),
            asks("main", &json!({ "archive_get": { "name": "../../etc/passwd" } })),
            asks("main", &json!({ "expire": {}, "info": {} })),
        ] {
            let refusal = decided(&all, &job).unwrap_err();
            assert!(refusal.text.contains("does not know this request"), "{job}: {refusal:?}");
        }
    }
}
