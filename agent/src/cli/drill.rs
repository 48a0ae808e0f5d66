//! `drctl drill`: backups tried in scratch servers, and what the evidence of that says.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_model::{
    BackupId, Drill, DrillNames, DrillOutcome, DrillRun, Equal, PointWanted, ProvenTable, SourceId,
    Verdict, shown,
};
use drctl_store::open_drill_names;
use serde_json::{Value, json};

use super::args::{DrillRunArgs, DrillVerb, Point};
use super::progress::Progress;
use super::screen::{NAME_SHOWN, Screen, TEXT_SHOWN, line, table};
use super::{drill_bundle, drill_together};
use crate::drill::{DrillDone, DrillRequest, Wanted, drill_on_record};
use crate::host::figures::{count, number, span};
use crate::host::{AgentError, Exit, Meter, Setup, Stop};
use crate::repository::drills;

/// `drctl drill`.
pub(super) async fn drill_verb(
    screen: Screen,
    setup: impl FnOnce() -> Result<Setup>,
    verb: &DrillVerb,
    stop: &Stop,
) -> Result<Exit> {
    match verb {
        DrillVerb::Run(args) => run(screen, &setup()?, args, stop).await,
        DrillVerb::List { source } => list(screen, &setup()?, source.as_deref()).await,
        DrillVerb::Show { source, drill, identity } => {
            show(screen, &setup()?, (source, drill.as_deref()), identity.as_deref()).await
        }
        DrillVerb::Export(args) => {
            let setup = &setup()?;
            let drill = named(setup, &args.source, args.drill.as_deref()).await?.0.0;
            drill_bundle::export(screen, setup, &drill, &args.to).await
        }
        DrillVerb::Verify(args) => drill_bundle::verify(screen, args),
    }
}

async fn run(screen: Screen, setup: &Setup, args: &DrillRunArgs, stop: &Stop) -> Result<Exit> {
    if args.sources.len() > 1 {
        let requests = args.sources.iter().map(|source| request(setup, args, source));
        let requests = requests.collect::<Result<Vec<_>>>()?;
        return drill_together::run(screen, setup, requests, stop).await;
    }
    let request = request(setup, args, args.source())?;
    let meter = Meter::default();
    let progress = Progress::show(screen, &meter);
    let done = drill_on_record(setup, &request, &meter, stop).await;
    drop(progress);
    let done = done?;
    screen.answer("drctl.drill/1", done_json(&done), || done_text(&done));
    Ok(exit(done.drill.verdict(), done.is_clean()))
}

fn request(setup: &Setup, args: &DrillRunArgs, source: &str) -> Result<DrillRequest> {
    let wanted = match (&args.backup, args.point) {
        (Some(backup), _) => Wanted::Named(backup.clone()),
        (None, Point::Latest) => Wanted::Latest,
        (None, Point::Previous) => Wanted::Previous,
        (None, Point::Oldest) => Wanted::Oldest,
        (None, Point::Worst) => Wanted::Worst,
        (None, Point::Random) => Wanted::Random(args.seed),
        (None, Point::Moment) => Wanted::Moment(args.seed),
        (None, Point::Timeline) => Wanted::Timeline,
        (None, Point::Suspect) => Wanted::Suspect,
        (None, Point::Time(at)) => Wanted::Time(at),
    };
    if args.seed.is_some() && !matches!(wanted, Wanted::Random(_) | Wanted::Moment(_)) {
        let text =
            "--seed chooses at random: give --point random or moment with it. Nothing was done";
        return Err(AgentError::Usage(text.to_owned()).into());
    }
    Ok(DrillRequest {
        within: within(setup, source),
        kit: args.kit.clone(),
        together: None,
        source: super::source_id(source)?,
        wanted,
        identity: args.identity.clone(),
        scratch: args.scratch.clone(),
    })
}

/// How long it may take: as the source's policy says, else a day.
fn within(setup: &Setup, source: &str) -> Duration {
    let day = Duration::from_secs(86_400);
    setup.source(source).map_or(day, |(_, source)| source.policy.drill.max_duration)
}

/// A drill that was run, for scripts.
pub(super) fn done_json(done: &DrillDone) -> Value {
    let mut object = drill_json(&done.drill, None);
    object["why"] = json!(done.why);
    object["hint"] = json!(done.hint);
    object
}

pub(super) fn exit(verdict: Verdict, clean: bool) -> Exit {
    match verdict {
        Verdict::Pass if clean => Exit::Success,
        Verdict::Pass | Verdict::Inconclusive | Verdict::Aborted | Verdict::Skipped => {
            Exit::Degraded
        }
        Verdict::FailRto | Verdict::FailRpo => Exit::Objective,
        Verdict::FailData => Exit::Verification,
    }
}

/// A verdict, as people read it.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "PASSED",
        Verdict::FailRto | Verdict::FailRpo | Verdict::FailData => "FAILED",
        Verdict::Inconclusive => "INCONCLUSIVE",
        Verdict::Aborted => "ABORTED",
        Verdict::Skipped => "SKIPPED",
    }
}

pub(super) fn done_text(done: &DrillDone) -> String {
    let mut text = drill_text(&done.drill);
    for why in &done.why {
        let _ = write!(text, "\n  {}", shown(why, TEXT_SHOWN));
    }
    if let Some(hint) = &done.hint {
        let _ = write!(text, "\n  hint: {}", shown(hint, TEXT_SHOWN));
    }
    text
}

/// What was proven, in a sentence.
fn proven(outcome: &DrillOutcome, with: Option<&BackupId>) -> String {
    match outcome {
        DrillOutcome::Equal(equal) => {
            let mut text = are(equal, "what was dumped");
            if equal.only_counted > 0 {
                let tables = count(equal.only_counted, "table");
                let _ = write!(text, "; of {tables} only the rows were counted");
            }
            text
        }
        DrillOutcome::Proven { replayed, shows, equal, .. } => {
            let shows =
                shows.map_or_else(String::new, |at| format!(", and shows commits up to {at}"));
            let equal = equal.as_ref().map_or_else(String::new, |equal| {
                let with = with.map_or_else(String::new, |with| format!(" {with}"));
                let mut text =
                    format!("\n  {}", are(equal, &format!("what base backup{with} holds there")));
                if equal.only_counted > 0 {
                    let others = number(equal.only_counted);
                    let _ = write!(
                        text,
                        "; NOT compared: {others} (`drill show --identity` tells what)"
                    );
                }
                text
            });
            format!("the cluster was recovered to {replayed}{shows}{equal}")
        }
        DrillOutcome::Failed { error }
            if matches!(error.as_str(), "mismatch" | "check" | "amcheck") =>
        {
            format!("what was restored is not what it has to be ({error})")
        }
        DrillOutcome::Failed { error } | DrillOutcome::Inconclusive { error } => {
            format!("it broke off: {}", shown(error, 60))
        }
    }
}

/// What was compared, and is the same.
fn are(equal: &Equal, what: &str) -> String {
    let Equal { tables, rows, others, .. } = equal;
    format!(
        "{} with {} are {what}, row by row; so are {} other objects",
        count(*tables, "table"),
        count(*rows, "row"),
        number(*others)
    )
}

pub(super) fn drill_text(drill: &Drill) -> String {
    let mut text = format!(
        "drill {} of {} on {}: {}\n  {}{}",
        drill.drill,
        drill.source,
        shown(&drill.host, NAME_SHOWN),
        format_args!("{}: {}", word(drill.verdict()), drill.says()),
        drill.base.as_ref().map_or_else(String::new, |base| format!("backup {base}: ")),
        proven(&drill.outcome, drill.run.as_ref().and_then(|run| Some(&run.with.as_ref()?.backup)))
    );
    if let Some(run) = &drill.run {
        text.push_str(&run_text(run));
    }
    text
}

fn run_text(run: &DrillRun) -> String {
    let seconds = |ms: u64| span(Duration::from_millis(ms).as_secs_f64());
    let phases = run.phases.iter();
    let phases: Vec<String> =
        phases.map(|clock| format!("{} {}", clock.phase.as_str(), seconds(clock.ms))).collect();
    let promised = |ms: Option<u64>| ms.map_or("none promised".to_owned(), seconds);
    let mut text = format!(
        "\n  restored in {} (RTO: {})\n  {}",
        seconds(run.restore_ms()),
        promised(run.objectives.rto_ms),
        phases.join(", ")
    );
    if let Some(lost) = run.lost_ms {
        let rpo = promised(run.objectives.rpo_ms);
        let _ = write!(text, "\n  would have been lost: {} (RPO: {rpo})", seconds(lost));
    }
    if run.by_kit {
        text.push_str("\n  with nothing but the recovery kit and the bucket");
    }
    if let Some(seed) = run.point.seed {
        let among = match run.point.wanted {
            PointWanted::Moment => count(run.point.of, "millisecond"),
            _ => count(run.point.of, "backup"),
        };
        let _ = write!(text, "\n  chosen by --seed {seed} among {among}");
    }
    for check in &run.checks {
        let said = if check.passed { "as expected" } else { "NOT as expected" };
        let _ = write!(text, "\n  check {}: {said}", shown(&check.name, NAME_SHOWN));
    }
    for deviation in &run.deviations {
        let _ = write!(text, "\n  note: {}", line(deviation));
    }
    if !run.cleaned {
        text.push_str("\n  NOT REMOVED: what it restored is still on that host");
    }
    text
}

pub(super) fn drill_json(drill: &Drill, signer: Option<&str>) -> Value {
    let mut object = json!({
        "drill": drill.drill, "source": drill.source, "host": drill.host, "started": drill.started,
        "took_ms": drill.took_ms, "backup": drill.base, "verdict": drill.verdict().as_str(),
        "system_id": drill.system_id.map(|id| id.to_string()), "timeline": drill.timeline,
        "target": drill.target, "run": drill.run, "signed_by": signer,
        "restore_ms": drill.run.as_ref().map(DrillRun::restore_ms),
    });
    object["result"] = json!(drill.outcome);
    object
}

/// A drill that counts, and what people call who signed it.
type Signed = (Drill, String);

/// The drills of a source, newest first, and what is there and does not count.
async fn of_source(setup: &Setup, source: &SourceId) -> Result<(Vec<Signed>, Vec<String>)> {
    let repository = setup.repository().await?;
    let mut refused = Vec::new();
    let found = drills(&repository, source, &mut refused).await?;
    let named = |(drill, key)| (drill, repository.trust.name(&key));
    let all = found.into_iter().rev().map(named).collect();
    Ok((all, refused.into_iter().map(|one| one.text).collect()))
}

async fn list(screen: Screen, setup: &Setup, source: Option<&str>) -> Result<Exit> {
    // What is drilled here need not be configured here.
    let sources = match source {
        Some(name) => vec![super::source_id(name)?],
        None => setup.repository().await?.sources().await?,
    };
    let (mut all, mut refused) = (Vec::new(), Vec::new());
    for source in &sources {
        let (drills, not) = of_source(setup, source).await?;
        all.extend(drills);
        refused.extend(not);
    }
    let object = json!({
        "drills": all.iter().map(|(drill, signer)| drill_json(drill, Some(signer))).collect::<Vec<_>>(),
        "refused": refused,
    });
    screen.answer("drctl.drills/1", object, || list_text(&all, &refused));
    Ok(if refused.is_empty() { Exit::Success } else { Exit::Degraded })
}

fn list_text(all: &[Signed], refused: &[String]) -> String {
    let mut text = match all {
        [] => "there is no evidence of a drill that counts: `drctl drill run SOURCE`".to_owned(),
        all => {
            let head = ["SOURCE", "DRILL", "BACKUP", "RESTORED IN", "SAID"];
            let mut rows = vec![head.map(str::to_owned).to_vec()];
            rows.extend(all.iter().map(|(drill, _)| {
                let ms = drill.run.as_ref().map_or(drill.took_ms, DrillRun::restore_ms);
                vec![
                    drill.source.to_string(),
                    drill.drill.to_string(),
                    drill.base.as_ref().map_or("-".to_owned(), ToString::to_string),
                    span(Duration::from_millis(ms).as_secs_f64()),
                    word(drill.verdict()).to_owned(),
                ]
            }));
            table(&rows)
        }
    };
    for one in refused {
        let _ = write!(text, "\nNOT COUNTED: {}", shown(one, TEXT_SHOWN));
    }
    text
}

async fn show(
    screen: Screen,
    setup: &Setup,
    (source, wanted): (&str, Option<&str>),
    identity: Option<&Path>,
) -> Result<Exit> {
    let ((drill, signer), refused) = named(setup, source, wanted).await?;
    let names = match identity {
        Some(file) => {
            let identities = setup.identities(Some(file))?.context("read the identity")?;
            open_drill_names(&drill, &identities)?
        }
        None => None,
    };
    let mut object = drill_json(&drill, Some(&signer));
    object["names"] = json!(names);
    screen.answer("drctl.drill/1", object, || {
        let names = names.as_ref().map_or_else(String::new, names_text);
        format!("{}\n  signed by {}{names}", drill_text(&drill), shown(&signer, NAME_SHOWN))
    });
    Ok(if refused { Exit::Degraded } else { Exit::Success })
}

/// The drill that is meant, and whether there is anything beside it that does not count.
async fn named(setup: &Setup, source: &str, wanted: Option<&str>) -> Result<(Signed, bool)> {
    let source = super::source_id(source)?;
    let (all, refused) = of_source(setup, &source).await?;
    Ok((chosen(all, &source, wanted)?, !refused.is_empty()))
}

/// The names that are sealed in evidence, below it.
pub(super) fn names_text(names: &DrillNames) -> String {
    let mut text = String::new();
    for ProvenTable { database, table, rows } in &names.tables {
        let name = shown(&format!("{database}: {table}"), TEXT_SHOWN);
        let _ = write!(text, "\n  proven: {name}, {}", count(*rows, "row"));
    }
    if names.more > 0 {
        let _ = write!(text, "\n  proven: {} more", count(names.more, "table"));
    }
    for not in &names.counted {
        let _ = write!(text, "\n  not compared, or its number alone: {}", line(not));
    }
    for why in &names.why {
        let _ = write!(text, "\n  why: {}", line(why));
    }
    text
}

/// The newest, or the only one whose identifier begins so.
fn chosen(all: Vec<Signed>, source: &SourceId, wanted: Option<&str>) -> Result<Signed> {
    let none = |text: String| AgentError::NoBackup(text).into();
    let Some(wanted) = wanted else {
        let text = format!("no drill of {source} has been run");
        return all.into_iter().next().ok_or_else(|| none(text));
    };
    let mut fits = all.into_iter().filter(|(drill, _)| drill.drill.as_str().starts_with(wanted));
    match (fits.next(), fits.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            Err(none(format!("`{}` fits more than one drill of {source}", shown(wanted, 60))))
        }
        (None, _) => Err(none(format!("there is no drill `{}` of {source}", shown(wanted, 60)))),
    }
}
