use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use drctl_model::{BackupId, SourceId};
use drctl_store::{Alarm, Identities, SealError, open_facts};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

use super::args::VerifyArgs;
use super::progress::Progress;
use super::screen::{Screen, alarms_json, alarms_text, bytes, count, table};
use crate::backrest::verify_stanza;
use crate::chain::is_broken;
use crate::problem::{Failure, Problem};
use crate::{
    Candidate, Chains, Depth, Exit, Finding, Level, LogVerdict, Meter, Proven, Repository, Setup,
    Stop, Verdict, doctor as examine, everything, verify as verify_one, verify_log,
};

type Row = (SourceId, BackupId, Verdict);

/// `drctl verify`.
pub(super) async fn verify(
    screen: Screen,
    setup: &Setup,
    args: &VerifyArgs,
    stop: &Stop,
) -> Result<Exit> {
    let identities = setup.identities(args.identity.as_deref())?;
    let depth = if args.data { Depth::Data } else { Depth::Structure };
    let meter = Meter::default();
    meter.label("verifying");
    let progress = Progress::show(screen, &meter);
    let looking = async {
        let repository = setup.repository().await?;
        let (mut rows, mut chains) = (Vec::<Row>::new(), Chains::new(&repository));
        let mut all = wanted(&repository, args.what.as_deref()).await?;
        while let Some((source, id, proven)) = all.try_next().await? {
            let verdict = match proven {
                Ok(proven) => {
                    let limits = setup.limits();
                    let identities = identities.as_ref().filter(|identities| {
                        args.identity.is_some() || !is_for_others(&proven, identities)
                    });
                    let mut verdict =
                        verify_one(&repository, &proven, depth, identities, limits, &meter).await?;
                    match chains.of(&proven.summary()).await {
                        Err(error) if is_broken(&error) => {
                            verdict.problems.extend(refused(&error).problems);
                        }
                        chain => drop(chain?),
                    }
                    verdict
                }
                Err(error) => refused(&error),
            };
            rows.push((source, id, verdict));
        }
        drop(all);
        let mut logs = Vec::new();
        for source in repository.sources().await? {
            if args.what.as_deref().is_some_and(|what| what != source.as_str()) {
                continue;
            }
            if let Some(verdict) = verify_stanza(setup, source.as_str(), args.data).await? {
                logs.push((source.clone(), verdict));
            }
            let verdict = verify_log(&repository, &source, args.data, identities.as_ref()).await?;
            if verdict.pieces > 0 {
                logs.push((source, verdict));
            }
        }
        Ok::<_, anyhow::Error>((rows, logs, repository.alarms()))
    };
    let (rows, logs, alarms) = tokio::select! {
        looked = looking => looked?,
        () = stop.requested() => return Err(Problem::Interrupted.into()),
    };
    drop(progress);
    if rows.is_empty() {
        return Err(Problem::NoBackup("there is no backup to verify".to_owned()).into());
    }
    print(screen, args, (&rows, &logs, &alarms));
    let bad = rows.iter().any(|(_, _, verdict)| !verdict.problems.is_empty())
        || logs.iter().any(|(_, verdict)| !verdict.problems.is_empty())
        || !alarms.is_empty();
    Ok(if bad { Exit::Verification } else { Exit::Success })
}

/// Whether a backup was made for other keys. With the identity of the configuration that says
/// nothing against the backup: it may be older than the key.
fn is_for_others(proven: &Proven, identities: &Identities) -> bool {
    matches!(open_facts(&proven.manifest, identities), Err(SealError::WrongKey))
}

fn refused(error: &anyhow::Error) -> Verdict {
    let failure = Failure::of(error);
    let problems = vec![(failure.code.to_owned(), failure.messages.join(": "))];
    Verdict { problems, read_bytes: 0, opened: false }
}

async fn wanted<'a>(
    repository: &'a Repository,
    what: Option<&str>,
) -> Result<BoxStream<'a, Result<Candidate>>> {
    let sources = repository.sources().await?;
    let Some(what) = what else { return Ok(everything(repository, sources)) };
    if let Some(source) = sources.into_iter().find(|source| source.as_str() == what) {
        return Ok(everything(repository, vec![source]));
    }
    let found = repository.find(None, what).await?;
    let (source, id) = (found.manifest.source.clone(), found.manifest.backup.clone());
    Ok(stream::once(async { Ok((source, id, Ok(found))) }).boxed())
}

/// What was found out: of backups, of logs, of objects that somebody meddled with.
type Looked<'a> = (&'a [Row], &'a [(SourceId, LogVerdict)], &'a [Alarm]);

fn print(screen: Screen, args: &VerifyArgs, (rows, logs, alarms): Looked<'_>) {
    let listed = |problems: &[(String, String)]| -> Vec<serde_json::Value> {
        let entry =
            |(code, message): &(String, String)| json!({ "code": code, "message": message });
        problems.iter().map(entry).collect()
    };
    let log = |(source, verdict): &(SourceId, LogVerdict)| {
        json!({
            "source": source, "good": verdict.problems.is_empty(), "pieces": verdict.pieces,
            "read_bytes": verdict.read_bytes, "opened": verdict.opened,
            "problems": listed(&verdict.problems),
        })
    };
    let entry = |(source, id, verdict): &Row| {
        let problems = listed(&verdict.problems);
        json!({
            "source": source, "backup": id, "good": verdict.problems.is_empty(),
            "read_bytes": verdict.read_bytes, "opened": verdict.opened, "problems": problems,
        })
    };
    let object = json!({
        "data": args.data, "backups": rows.iter().map(entry).collect::<Vec<_>>(),
        "logs": logs.iter().map(log).collect::<Vec<_>>(), "alarms": alarms_json(alarms),
    });
    screen.answer("drctl.verify/1", object, || {
        let head = ["BACKUP", "SOURCE", "RESULT", "READ", "LOOKED AT"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        let mut details = String::new();
        for (source, id, verdict) in rows {
            let looked = match (args.data, verdict.opened) {
                (false, _) => "signature, list, presence and length of every object",
                (true, false) => "every stored byte; not opened: no identity at hand fits",
                (true, true) => "every stored byte and every plain byte",
            };
            let result = if verdict.problems.is_empty() { "good" } else { "BAD" };
            let read = bytes(verdict.read_bytes);
            lines.push(vec![
                id.to_string(),
                source.to_string(),
                result.into(),
                read,
                looked.into(),
            ]);
            for (code, message) in &verdict.problems {
                let _ = write!(details, "\n{id}: {message} [{code}]");
            }
        }
        details.push_str(&of_logs(logs));
        details.push_str(&alarms_text(alarms));
        format!("{}{details}", table(&lines))
    });
}

/// What was found out about the log of sources.
fn of_logs(logs: &[(SourceId, LogVerdict)]) -> String {
    let mut text = String::new();
    for (source, verdict) in logs {
        let looked = if verdict.opened { "every record" } else { "signatures and stored bytes" };
        let result = if verdict.problems.is_empty() { "good" } else { "BAD" };
        let pieces = count(verdict.pieces, "piece");
        let _ = write!(text, "\nlog of {source}: {result}, {pieces} ({looked})");
        for (code, message) in &verdict.problems {
            let _ = write!(text, "\n{source}: {message} [{code}]");
        }
    }
    text
}

/// `drctl doctor`.
pub(super) async fn doctor(
    screen: Screen,
    setup: &Setup,
    source: Option<&str>,
    identity: Option<&Path>,
) -> Result<Exit> {
    let only = source.map(|name| setup.source(name).map(|(id, _)| id)).transpose()?;
    let found = examine(setup, only, identity).await;
    let word = |level| match level {
        Level::Good => "good",
        Level::Warning => "warning",
        Level::Bad => "bad",
    };
    let entry = |finding: &Finding| {
        json!({
            "level": word(finding.level), "check": finding.check,
            "text": finding.text, "hint": finding.hint,
        })
    };
    let object = json!({ "findings": found.iter().map(entry).collect::<Vec<_>>() });
    screen.answer("drctl.doctor/1", object, || {
        let mut text = String::new();
        for finding in &found {
            let level = match finding.level {
                Level::Good => "ok  ",
                Level::Warning => "WARN",
                Level::Bad => "BAD ",
            };
            let _ = writeln!(text, "{level}  {:<24} {}", finding.check, finding.text);
            if let Some(hint) = &finding.hint {
                let _ = writeln!(text, "      {:<24} -> {hint}", "");
            }
        }
        text
    });
    Ok(match found.iter().map(|finding| finding.level).max() {
        Some(Level::Bad) => Exit::Failure,
        Some(Level::Warning) => Exit::Degraded,
        _ => Exit::Success,
    })
}
