use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use drctl_engines::Secret;
use drctl_engines::pg::{PgServer, SILENCE};
use drctl_model::{Content, SourceId, SslMode, shown, total};
use drctl_policies::SecretRef;
use drctl_store::Alarm;
use serde_json::json;

use super::args::RestoreArgs;
use super::progress::Progress;
use super::screen::{NAME_SHOWN, Screen, TEXT_SHOWN, alarms_json, alarms_text, count, line, table};
use crate::host::figures::{bytes, number, span};
use crate::host::{AgentError, Exit, Meter, Setup, Stop, read_secret};
use crate::repository::losses::find;
use crate::repository::newest::two_servers;
use crate::repository::{Latest, Memory, Passed, Repository, words};
use crate::restore::place::check_target;
use crate::restore::{
    Destination, RestorePlan, RestoreRequest, Restored, plan, prepare_cluster,
    restore as run_restore,
};

/// What is told of a backup that is restored, beside its own record.
struct Told {
    /// Newer ones that were not chosen.
    passed: Vec<Passed>,
    /// What people call the key that signed it.
    signer: String,
    alarms: Vec<Alarm>,
}

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
    if let Some(directory) = args.to_files.as_ref().or(args.to_directory.as_ref()) {
        check_target(setup, directory)?;
    }
    if let Some(target) = super::recovery_plan::target(args)? {
        return super::recover::recover(screen, setup, args, target, stop).await;
    }
    let source = super::source_id(&args.source)?;
    // An estimate that nobody sees is not worth a segment.
    let reckon = args.plan || !(screen.quiet || screen.json);
    let planning = async {
        let repository = setup.repository().await?;
        let (request, passed) = request(setup, &repository, &source, args).await?;
        let planned = plan(&repository, &request, setup.limits(), reckon).await?;
        let signer = shown(&repository.trust.name(&request.backup.signer), NAME_SHOWN);
        let told = Told { passed, signer, alarms: repository.alarms() };
        Ok::<_, anyhow::Error>((repository, request, planned, told))
    };
    let (repository, request, planned, told) = tokio::select! {
        planned = planning => planned?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    if args.plan {
        print_plan(screen, &request, &planned, &told);
        return Ok(Exit::Success);
    }
    if let Some(code) = &planned.code {
        code.is_trusted(request.trusted.as_deref())?;
    }
    screen.say(plan_text(&request, &planned, &told));
    let meter = Meter::default();
    let began = Instant::now();
    let progress = Progress::show(screen, &meter);
    let done = run_restore(&repository, &request, &planned, setup.limits(), &meter, stop).await;
    let done = done.and_then(|mut done| {
        let notes = prepare_cluster(&request)?;
        if let Some(last) = done.last_mut() {
            last.notes.extend(notes);
        }
        Ok(done)
    });
    drop(progress);
    let done = done.with_context(|| {
        format!(
            "restore {} (the source and the bucket were not touched)",
            request.backup.manifest.backup
        )
    })?;
    if args.to_stdout {
        let count = total(done.iter().map(|one| one.plain_bytes));
        screen.say(format!("wrote {}: every byte is the one that was dumped", bytes(count)));
        return Ok(Exit::Success);
    }
    let told = Told { alarms: repository.alarms(), ..told };
    print_done(screen, &request, &told, &done, began.elapsed().as_secs_f64());
    let whole = done.iter().all(|one| one.failed.is_empty());
    Ok(if whole { Exit::Success } else { Exit::Degraded })
}

async fn request(
    setup: &Setup,
    repository: &Repository,
    source: &SourceId,
    args: &RestoreArgs,
) -> Result<(RestoreRequest, Vec<Passed>)> {
    let memory = Memory::at_hand(setup, repository, source).await;
    let Latest { backup, passed, outlived } = match &args.backup {
        Some(wanted) => {
            let backup = find(setup, repository, Some(source), wanted).await?;
            Latest { backup, passed: Vec::new(), outlived: None }
        }
        None => repository.latest(source, setup.clock.now(), &memory).await?,
    };
    if let Some(outlived) = outlived {
        return Err(two_servers(&backup, &outlived));
    }
    if let Some(found) = memory.bad(source, &backup.manifest.backup) {
        tracing::warn!("{}: {}", backup.manifest.backup, words(found));
    }
    let identities = setup.identities(args.identity.as_deref())?;
    let id = backup.manifest.backup.clone();
    let identities = identities.ok_or(AgentError::NoIdentity(id))?;
    let request = RestoreRequest {
        backup,
        identities,
        databases: args.databases.clone(),
        globals: !args.no_globals,
        destination: destination(setup, source, args)?,
        begun: false,
        laid_out: false,
        jobs: args.jobs,
        missing: args.missing,
        trusted: args.trust_code.clone(),
        owner: !args.no_owner,
        spool_dir: setup.config.paths.spool_dir.clone(),
        bin_dir: bin_dir(setup, source),
    };
    Ok((request, passed))
}

/// Where the source's programs are, if the source is configured here and says so.
fn bin_dir(setup: &Setup, source: &SourceId) -> Option<PathBuf> {
    setup.config.sources.get(source).and_then(|source| source.engine.server().bin_dir.clone())
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
    Ok(Destination::Server { server: Box::new(server), rename })
}

fn target_server(setup: &Setup, host: &str, args: &RestoreArgs) -> Result<PgServer> {
    let password = match &args.to_password_file {
        Some(path) => {
            let path = std::path::absolute(path)?;
            Some(Secret::new(read_secret("the target's password", &SecretRef::File(path))?))
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

fn plan_text(request: &RestoreRequest, planned: &RestorePlan, told: &Told) -> String {
    let manifest = &request.backup.manifest;
    let mut text = format!(
        "backup {} of {}, begun {}, signed by {}\n  into {}: fetch {}, write {}",
        manifest.backup,
        manifest.source,
        manifest.started,
        told.signer,
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
            "\n  about {} to fetch and open, judging by one segment{onto}",
            span(seconds)
        );
    }
    if let Some(chain) = &planned.chain {
        for (before, _) in &chain.before {
            let _ = write!(text, "\n  stands on {}", before.backup.manifest.backup);
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
        text.push_str(&code.text(request.trusted.as_deref()));
    }
    let word = if request.backup.accepted.is_some() { "accepted, although" } else { "SUSPECT:" };
    for reason in &manifest.suspect {
        let _ = write!(text, "\n  {word} {}", shown(reason, TEXT_SHOWN));
    }
    for Passed { backup, why } in &told.passed {
        let _ = write!(text, "\n  NEWER, and passed over: {backup}: {}", shown(why, TEXT_SHOWN));
    }
    text + &alarms_text(&told.alarms)
}

fn content(content: &Content) -> String {
    match content {
        Content::Globals => "roles and tablespaces".to_owned(),
        Content::Listing => "the server's list of files".to_owned(),
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

fn print_plan(screen: Screen, request: &RestoreRequest, planned: &RestorePlan, told: &Told) {
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
        "room": room, "items": items, "notes": planned.notes,
        "chain": planned.chain.iter().flat_map(|chain| &chain.before)
            .map(|(before, _)| &before.backup.manifest.backup).collect::<Vec<_>>(),
        "code": planned.code.as_ref().map(|code| json!({
            "user": code.user, "runs": code.runs, "digest": code.digest,
            "trusted": code.is_trusted(request.trusted.as_deref()).is_ok(),
        })),
        "estimate_seconds": planned.estimate, "passed_over": told.passed,
        "signed_by": told.signer, "alarms": alarms_json(&told.alarms),
    });
    screen.answer("drctl.restore-plan/1", object, || plan_text(request, planned, told));
}

fn print_done(
    screen: Screen,
    request: &RestoreRequest,
    told: &Told,
    done: &[Restored],
    seconds: f64,
) {
    let entry = |one: &Restored| {
        json!({
            "target": one.target, "content": one.content, "plain_bytes": one.plain_bytes,
            "tables": one.counted.map(|(tables, _)| tables),
            "rows": one.counted.map(|(_, rows)| rows),
            "seconds": one.seconds, "notes": one.notes, "failed": one.failed,
        })
    };
    let object = json!({
        "backup": request.backup.manifest.backup, "source": request.backup.manifest.source,
        "seconds": seconds, "passed_over": told.passed, "signed_by": told.signer,
        "alarms": alarms_json(&told.alarms),
        "restored": done.iter().map(entry).collect::<Vec<_>>(),
    });
    screen.answer("drctl.restore/1", object, || {
        let head = ["RESTORED", "DUMP", "TABLES", "ROWS", "TIME", "PROVEN"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let mut notes = String::new();
        for one in done {
            let to_server = matches!(request.destination, Destination::Server { .. });
            let failed = one.failed.len();
            let proven = match one.counted {
                Some(_) if failed > 0 => "all rows are there, but statements failed",
                None if failed > 0 => "statements failed",
                Some(_) => "every table has the rows that were dumped",
                None if to_server => "every statement was accepted",
                None => "every byte is the one that was dumped",
            };
            rows.push(vec![
                shown(&one.target, NAME_SHOWN),
                bytes(one.plain_bytes),
                one.counted.map_or("-".into(), |(tables, _)| number(tables)),
                one.counted.map_or("-".into(), |(_, rows)| number(rows)),
                span(one.seconds),
                proven.to_owned(),
            ]);
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
            alarms_text(&told.alarms),
            request.backup.manifest.backup,
            told.signer,
            target_text(request),
            span(seconds)
        )
    });
}
