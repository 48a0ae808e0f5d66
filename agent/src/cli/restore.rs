use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use drctl_engines::Secret;
use drctl_engines::pg::{Equality, PgServer, SILENCE};
use drctl_model::{Content, JobKind, SourceId, SslMode, shown, total};
use serde_json::{Value, json};

use super::args::RestoreArgs;
use super::audited::restore_act;
use super::progress::Progress;
use super::screen::{NAME_SHOWN, Screen, TEXT_SHOWN, alarms_json, alarms_text, count, line, table};
use crate::audit::Logged;
use crate::host::figures::{bytes, number, span};
use crate::host::{AgentError, Exit, Meter, Setup, Stop, private, read_named};
use crate::jobs::{Amiss, run};
use crate::repository::Passed;
use crate::restore::recovery::is_handed;
use crate::restore::{
    BackupRequest, Code, Destination, Kept, PlannedRestore, RestoreRequest, Restored, plan_backup,
    restore_backup,
};

/// `drctl restore`.
pub(super) async fn restore(
    screen: Screen,
    setup: &Setup,
    args: &RestoreArgs,
    stop: &Stop,
) -> Result<Exit> {
    if args.to_stdout {
        screen.arrives()?;
    }
    if let Some(target) = super::recovery_request::target(args)? {
        return match is_handed(setup, &super::source_id(&args.source)?)? {
            true => super::recover_handed::recover_handed(screen, setup, args, target, stop).await,
            false => super::recover::recover(screen, setup, args, target, stop).await,
        };
    }
    let request = request(setup, args)?;
    if let Destination::Files(directory) | Destination::Cluster(directory) = &request.destination
        && !args.plan
    {
        private::writable(directory)?;
    }
    let source = request.source.clone();
    let restoring = Box::pin(planned_and_run(screen, setup, (args, request), stop));
    let statements = |(_, failed): &(Exit, Vec<String>), _: &SourceId| of_failed(failed);
    let done = as_job(setup, (args, source), restoring, statements).await;
    done.map(|(exit, _)| exit)
}

/// Does it as a job, a restore or a drill; a plan is none.
pub(super) async fn as_job<T>(
    setup: &Setup,
    (args, source): (&RestoreArgs, SourceId),
    work: Pin<Box<impl Future<Output = Result<T>>>>,
    amiss: impl Fn(&T, &SourceId) -> Amiss,
) -> Result<T> {
    if args.plan {
        return work.await;
    }
    let kind = if args.drill { JobKind::Drill } else { JobKind::Restore };
    let logged = Logged::begin(setup, restore_act(args));
    let done = run(setup, (kind, vec![source]), work, amiss).await;
    logged.end(&done, |_, _| {});
    done
}

/// What is on record where statements failed.
fn of_failed(failed: &[String]) -> Amiss {
    let first = failed.first()?;
    let (many, first) = (count(failed.len() as u64, "statement"), shown(first, TEXT_SHOWN));
    Some(("failed".to_owned(), format!("{many} failed, for one: {first}")))
}

/// Does it; tells also which statements failed.
async fn planned_and_run(
    screen: Screen,
    setup: &Setup,
    (args, request): (&RestoreArgs, BackupRequest),
    stop: &Stop,
) -> Result<(Exit, Vec<String>)> {
    // An estimate that nobody sees is not worth a segment.
    let reckon = args.plan || !(screen.quiet || screen.json);
    let planned = tokio::select! {
        planned = plan_backup(setup, request, reckon) => planned?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    if args.plan {
        print_plan(screen, &planned);
        return Ok((Exit::Success, Vec::new()));
    }
    planned.trusted()?;
    screen.say(plan_text(&planned));
    let meter = Meter::default();
    let began = Instant::now();
    let progress = Progress::show(screen, &meter);
    let done = restore_backup(&planned, &meter, stop).await;
    drop(progress);
    let done = done?;
    if args.to_stdout {
        let count = total(done.iter().map(|one| one.plain_bytes));
        screen.say(format!("wrote {}: every byte is the one that was backed up", bytes(count)));
        return Ok((Exit::Success, Vec::new()));
    }
    print_done(screen, &planned, &done, began.elapsed().as_secs_f64());
    let failed: Vec<String> = done.into_iter().flat_map(|one| one.failed).collect();
    Ok((if failed.is_empty() { Exit::Success } else { Exit::Degraded }, failed))
}

fn request(setup: &Setup, args: &RestoreArgs) -> Result<BackupRequest> {
    let source = super::source_id(&args.source)?;
    Ok(BackupRequest {
        destination: destination(setup, &source, args)?,
        source,
        backup: args.backup.clone(),
        identity: args.identity.clone(),
        databases: args.databases.clone(),
        globals: !args.no_globals,
        jobs: args.jobs,
        missing: args.missing,
        trusted: args.trust_code.clone(),
        owner: !args.no_owner,
        prove: args.prove,
    })
}

fn destination(setup: &Setup, source: &SourceId, args: &RestoreArgs) -> Result<Destination> {
    if let Some(directory) = &args.to_files {
        return Ok(Destination::Files(directory.clone()));
    }
    if let Some(directory) = &args.to_directory {
        return Ok(Destination::Cluster(std::path::absolute(directory)?));
    }
    if args.to_stdout {
        let output =
            std::io::stdout().as_fd().try_clone_to_owned().context("use standard output")?;
        return Ok(Destination::Pipe(Arc::new(File::from(output))));
    }
    if args.jobs > 1 {
        setup.private_directory(&setup.config.paths.spool_dir)?;
    }
    let rename = args.rename.clone();
    let server = match &args.to_host {
        Some(host) => target_server(setup, host, args)?,
        // Beside the old one: the source's own server.
        None => setup.server(setup.source(source.as_str())?.1)?,
    };
    Ok(Destination::Server { server: Box::new(server), rename, tablespaces: None })
}

fn target_server(setup: &Setup, host: &str, args: &RestoreArgs) -> Result<PgServer> {
    let password = match &args.to_password_file {
        Some(path) => {
            let path = std::path::absolute(path)?;
            Some(Secret::new(read_named("the target's password", &path)?))
        }
        None => None,
    };
    let sslmode = SslMode::parse(&args.to_sslmode).ok_or_else(|| {
        let (other, known) = (&args.to_sslmode, SslMode::WORDS.join(", "));
        AgentError::Usage(format!("--to-sslmode {other}: there are {known}"))
    })?;
    setup.private_directory(&setup.config.paths.runtime_dir)?;
    Ok(PgServer {
        host: host.to_owned(),
        port: args.to_port,
        user: args.to_user.clone(),
        maintenance_database: "postgres".to_owned(),
        password,
        sslmode,
        ssl_root_cert: args.to_ca_file.clone(),
        require_peer: args.to_require_peer.clone(),
        bin_dir: None,
        runtime_dir: setup.config.paths.runtime_dir.clone(),
        options: Vec::new(),
        silence: SILENCE,
    })
}

fn target_text(request: &RestoreRequest) -> String {
    match &request.destination {
        Destination::Files(directory) => format!("files in {}", directory.display()),
        Destination::Pipe(_) => "standard output".to_owned(),
        Destination::Cluster(directory) => format!("the new cluster in {}", directory.display()),
        Destination::Server { server, .. } => format!("the server at {}", server.target()),
    }
}

/// What people call the key that signed the backup.
fn signer(planned: &PlannedRestore<'_>) -> String {
    shown(&planned.signer(), NAME_SHOWN)
}

fn plan_text(restore: &PlannedRestore<'_>) -> String {
    let PlannedRestore { request, plan: planned, passed, .. } = restore;
    let manifest = &request.backup.manifest;
    let mut text = format!(
        "backup {} of {}, begun {}, signed by {}\n  into {}: fetch {}, write {}",
        manifest.backup,
        manifest.source,
        manifest.started,
        signer(restore),
        target_text(request),
        bytes(planned.fetch_bytes),
        bytes(planned.plain_bytes)
    );
    if let Some((directory, needed)) = &planned.room {
        let _ = write!(text, "\n  needs {} in {}", bytes(*needed), directory.display());
    }
    if let Some(seconds) = planned.estimate {
        let onto = match &request.destination {
            Destination::Files(_) | Destination::Pipe(_) | Destination::Cluster(_) => "",
            Destination::Server { .. } => "; how long the server takes to load it is not known",
        };
        let _ = write!(
            text,
            "\n  about {} to fetch and decrypt, estimated from one segment{onto}",
            span(seconds)
        );
    }
    if let Some(chain) = &planned.chain {
        for (before, _) in &chain.before {
            let _ = write!(text, "\n  is based on {}", before.backup.manifest.backup);
        }
    }
    for item in &planned.items {
        let _ = write!(
            text,
            "\n  {} -> {}",
            content(&item.facts.content),
            shown(&item.target, NAME_SHOWN)
        );
    }
    for note in &planned.notes {
        let _ = write!(text, "\n  note: {}", line(note));
    }
    if let Some(code) = &planned.code {
        text.push_str(&code_text(code, request.trusted.as_deref()));
    }
    let word = if request.backup.accepted.is_some() { "accepted, although" } else { "SUSPECT:" };
    for reason in &manifest.suspect {
        let _ = write!(text, "\n  {word} {}", shown(reason, TEXT_SHOWN));
    }
    for Passed { backup, why } in passed {
        let _ = write!(text, "\n  NEWER, and passed over: {backup}: {}", shown(why, TEXT_SHOWN));
    }
    text + &alarms_text(&restore.alarms())
}

/// What to write to trust a backup's code, and whether that was written.
fn code_text(code: &Code, given: Option<&str>) -> String {
    let (all, digest) = (code.runs.len(), &code.digest);
    let refused = code
        .is_trusted(given)
        .err()
        .map(|error| format!("\n  WOULD BE REFUSED: {}", shown(&error.to_string(), 4000)));
    format!(
        "\n  code that is not owned by a superuser, {all} in all: --trust-code={digest} trusts \
         exactly what is named here{}",
        refused.unwrap_or_default()
    )
}

fn content(content: &Content) -> String {
    match content {
        Content::Globals => "roles and tablespaces".to_owned(),
        Content::Listing => "the server's list of files".to_owned(),
        Content::Archive => "the whole source".to_owned(),
        Content::Tablespace(facts) => match facts.oid {
            Some(oid) => format!("tablespace {oid} ({})", count(facts.files, "file")),
            None => format!("data directory ({})", count(facts.files, "file")),
        },
        Content::Database(database) => format!(
            "database {} ({}, {})",
            shown(&database.name, NAME_SHOWN),
            count(database.tables.len() as u64, "table"),
            count(database.rows(), "row")
        ),
    }
}

fn print_plan(screen: Screen, restore: &PlannedRestore<'_>) {
    let PlannedRestore { request, plan: planned, passed, .. } = restore;
    let items: Vec<_> = planned
        .items
        .iter()
        .map(|item| {
            json!({
                "stream": item.stream.id, "content": item.facts.content, "target": item.target,
                "plain_bytes": item.stream.plain_bytes, "sealed_bytes": item.stream.sealed_bytes,
            })
        })
        .collect();
    let room = planned.room.as_ref().map(|(at, bytes)| json!({ "directory": at, "bytes": bytes }));
    let object = json!({
        "backup": request.backup.manifest.backup, "source": request.backup.manifest.source,
        "fetch_bytes": planned.fetch_bytes, "plain_bytes": planned.plain_bytes,
        "room": room, "items": items, "notes": planned.notes, "kept": kept_json(&planned.kept),
        "chain": planned.chain.iter().flat_map(|chain| &chain.before)
            .map(|(before, _)| &before.backup.manifest.backup).collect::<Vec<_>>(),
        "code": planned.code.as_ref().map(|code| json!({
            "user": code.user, "runs": code.runs, "digest": code.digest,
            "trusted": code.is_trusted(request.trusted.as_deref()).is_ok(),
        })),
        "estimate_seconds": planned.estimate, "passed_over": passed,
        "signed_by": signer(restore), "alarms": alarms_json(&restore.alarms()),
    });
    screen.answer("drctl.restore-plan/1", object, || plan_text(restore));
}

fn kept_json(kept: &[Kept]) -> Vec<Value> {
    kept.iter().map(|one| json!({ "target": one.item.target, "note": one.note() })).collect()
}

/// Whether all of it was compared row by row, and is the same.
fn is_equal(one: &Restored) -> bool {
    one.equal.as_ref().is_some_and(|equal| equal.counted.is_empty() && equal.unlike.is_empty())
}

fn equal_json(equal: &Equality) -> Value {
    json!({
        "tables": equal.tables, "rows": equal.rows, "others": equal.others, "counted": equal.counted,
    })
}

fn print_done(screen: Screen, planned: &PlannedRestore<'_>, done: &[Restored], seconds: f64) {
    let (request, signer) = (&planned.request, signer(planned));
    let entry = |one: &Restored| {
        json!({
            "target": one.target, "content": one.content, "plain_bytes": one.plain_bytes,
            "tables": one.counted.map(|(tables, _)| tables),
            "rows": one.counted.map(|(_, rows)| rows),
            "seconds": one.seconds, "notes": one.notes, "failed": one.failed,
            "equal": one.equal.as_ref().map(equal_json),
        })
    };
    let object = json!({
        "backup": request.backup.manifest.backup, "source": request.backup.manifest.source,
        "seconds": seconds, "passed_over": planned.passed, "signed_by": signer,
        "alarms": alarms_json(&planned.alarms()),
        "restored": done.iter().map(entry).collect::<Vec<_>>(),
        "kept": kept_json(&planned.plan.kept),
    });
    screen.answer("drctl.restore/1", object, || {
        let head = ["RESTORED", "DATA", "TABLES", "ROWS", "TIME", "PROVEN"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let kept = planned.plan.kept.iter();
        let mut notes: String =
            kept.map(|one| format!("\nkept: {}", shown(&one.note(), TEXT_SHOWN))).collect();
        for one in done {
            let to_server = matches!(request.destination, Destination::Server { .. });
            let failed = one.failed.len();
            let proven = match one.counted {
                Some(_) if failed > 0 => "all rows are there, but statements failed",
                Some(_) if is_equal(one) => "every row is the one that was dumped",
                None if failed > 0 => "statements failed",
                Some(_) => "every table has the rows that were dumped",
                None if to_server => "every statement was accepted",
                None => "every byte is the one that was backed up",
            };
            rows.push(vec![
                shown(&one.target, NAME_SHOWN),
                bytes(one.plain_bytes),
                one.counted.map_or("-".into(), |(tables, _)| number(tables)),
                one.counted.map_or("-".into(), |(_, rows)| number(rows)),
                span(one.seconds),
                proven.to_owned(),
            ]);
            for counted in one.equal.iter().flat_map(|equal| &equal.counted) {
                let _ = write!(notes, "\nonly counted: {}", line(counted));
            }
            for note in &one.notes {
                let _ = write!(notes, "\nnote: {}", line(note));
            }
            for failed in &one.failed {
                let target = shown(&one.target, NAME_SHOWN);
                let _ = write!(notes, "\nfailed: {target}: {}", shown(failed, TEXT_SHOWN));
            }
        }
        format!(
            "{}{notes}{}\nrestored {}, signed by {}, into {} in {}",
            table(&rows),
            alarms_text(&planned.alarms()),
            request.backup.manifest.backup,
            signer,
            target_text(request),
            span(seconds)
        )
    });
}
