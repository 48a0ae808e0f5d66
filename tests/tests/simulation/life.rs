//! A life of a host by a seed: weeks in which everything fails that can, then days in which nothing does, and what
//! must hold at the end.

use std::collections::BTreeSet;
use std::fs;

use drctl::daemon::simulated;
use drctl::health::{Renewed, rebuild};
use drctl::host::{Setup, Stop};
use drctl::repository::inventory;
use drctl_catalog::{Catalog, diff};
use drctl_model::{BackupId, BackupSummary, JobKind, JobState, SourceId, Stated, plant};
use drctl_policies::recovery::{Target, Want, plan};
use jiff::{SignedDuration, Timestamp};

use crate::host::{Host, SOURCES};
use crate::oracle::{left_over, window_begins};

/// What came of a life.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// What must never be, and was; nothing where all is well.
    pub(crate) wrong: Option<String>,
    pub(crate) effects: u64,
    pub(crate) runs: u64,
    /// What stands for all effects in their order.
    pub(crate) hash: u64,
}

/// How long a life has trouble.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) days: i64,
}

/// Days without trouble after which whatever may go has gone: an attempt's rest takes eight.
const QUIET: SignedDuration = SignedDuration::from_hours(9 * 24);

/// Whatever waits in it, such as a request that is tried again, takes no time.
fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().expect("a runtime")
}

/// Lives through a seed, with a fault planted or none.
pub(crate) fn life(seed: u64, length: Length, planted: Option<&'static str>) -> Told {
    let runtime = runtime();
    plant(planted);
    let told = runtime.block_on(async {
        let mut host = Host::new(seed);
        host.begin().await;
        let end = host.plan.begin + SignedDuration::from_hours(24 * length.days);
        let mut failed = troubled(&mut host, end).await;
        if failed.is_none() {
            failed = heal(&mut host).await;
        }
        let state = host.world.state();
        let told =
            failed.map(|why| format!("{why}\nplan: {:?}\nlast:\n{}", host.plan, state.last()));
        Told { wrong: told, effects: state.effects, runs: host.starts, hash: state.hash() }
    });
    plant(None);
    told
}

/// What was found to be wrong so far.
fn found(host: &Host) -> Option<String> {
    let state = host.world.state();
    state.truth.wrong.first().cloned()
}

fn source(host: &Host) -> SourceId {
    let name = host.world.state().random.pick(&SOURCES);
    name.parse().expect("a name")
}

/// Weeks of trouble, one after the other.
async fn troubled(host: &mut Host, end: Timestamp) -> Option<String> {
    while host.now() < end {
        let quiet = host.world.state().random.seconds(3_000, 90_000);
        let until = host.now() + quiet;
        if !host.live(until).await {
            let away = away(host);
            host.die(away).await;
        }
        trouble(host).await;
        if let Some(wrong) = found(host) {
            return Some(wrong);
        }
    }
    None
}

fn away(host: &Host) -> SignedDuration {
    let mut state = host.world.state();
    let (from, until) =
        state.random.pick(&[(1, 50), (60, 3_000), (3_600, 60_000), (90_000, 200_000)]);
    state.random.seconds(from, until)
}

/// Something happens that nobody wished for, or that a person wants.
async fn trouble(host: &mut Host) {
    let what = host.world.state().random.below(20);
    match what {
        0..=7 => {
            let mut state = host.world.state();
            let most = state.random.pick(&[30, 150, 400]);
            let at = state.effects + 1 + state.random.below(most);
            let behind = state.random.chance(50);
            state.dies_at = Some((at, behind));
        }
        8 | 9 => host.world.state().faults = 40,
        10 => host.world.state().outage = true,
        11 | 12 => {
            let away = away(host);
            host.die(away).await;
        }
        13 => lose_catalog(host),
        14 => {
            let renewed = renew(host).await;
            drop(renewed);
        }
        15 => pin(host).await,
        16 | 17 => freeze(host).await,
        _ => {
            let mut state = host.world.state();
            let n = state.random.below(6);
            state.dies_in_removal = Some(n);
        }
    }
    if what > 10 {
        let mut state = host.world.state();
        (state.faults, state.outage) = (0, false);
        drop(state);
        host.quiet_since = host.now();
    }
}

/// The catalog is lost, and with it what it remembers of runs.
fn lose_catalog(host: &mut Host) {
    if host.runs() > 0 {
        return;
    }
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(host.directory.path().join(format!("state/catalog.db{suffix}")));
    }
    host.world.state().say("the catalog is lost".to_owned());
    host.record.retain(|key, _| key.kind == JobKind::Backup);
    host.lost_catalog = true;
    host.quiet_since = host.now();
}

/// A person has the catalog made anew.
async fn renew(host: &mut Host) -> Option<Renewed> {
    if host.runs() > 0 {
        return None;
    }
    let setup = host.setup.clone();
    let work = async move {
        let repository = setup.repository().await.ok()?;
        rebuild(&setup, &repository).await.ok()
    };
    match host.at_once(work).await {
        Some(renewed) => renewed,
        None => {
            host.die(SignedDuration::from_secs(60)).await;
            None
        }
    }
}

/// A person says something; whether it was said.
async fn say(host: &mut Host, of: &SourceId, stated: Stated, backup: Option<BackupId>) -> bool {
    let (setup, of) = (host.setup.clone(), of.clone());
    let work = async move { simulated::say(&setup, &of, stated, backup).await.is_ok() };
    match host.at_once(work).await {
        Some(said) => said,
        None => {
            host.die(SignedDuration::from_secs(60)).await;
            false
        }
    }
}

/// Pins a backup, or ends that.
async fn pin(host: &mut Host) {
    let source = source(host);
    let (pinned, oldest) = {
        let state = host.world.state();
        let of = &state.truth.sources[&source];
        let there = of.there(&state.objects, &source);
        (of.pinned.first().cloned(), there.first().map(|(id, _)| (*id).clone()))
    };
    let (stated, id) = match (pinned, oldest) {
        (Some(id), _) => (Stated::Unpin, id),
        (None, Some(id)) => (Stated::Pin, id),
        (None, None) => return,
    };
    // One that is not wanted any more may go from when that is said, and one that is pinned stays from then on.
    if stated == Stated::Unpin {
        let _ = host.world.state().truth.of(&source).pinned.remove(&id);
    }
    if say(host, &source, stated, Some(id.clone())).await && stated == Stated::Pin {
        let mut state = host.world.state();
        let of = state.truth.of(&source);
        of.pinned.insert(id);
        if let Some(removing) = &mut of.removing {
            removing.pinned = true;
        }
    }
}

/// Freezes a source, or ends that.
async fn freeze(host: &mut Host) {
    let source = source(host);
    let frozen = host.world.state().truth.sources[&source].frozen;
    let is_frozen = |host: &Host, frozen| {
        host.world.state().truth.of(&source).frozen = frozen;
    };
    if frozen {
        is_frozen(host, false);
        let _ = say(host, &source, Stated::Unfreeze, None).await;
    } else if say(host, &source, Stated::Freeze, None).await {
        is_frozen(host, true);
    }
}

/// Days without trouble, after which all is as the policy says.
async fn heal(host: &mut Host) -> Option<String> {
    {
        let mut state = host.world.state();
        (state.faults, state.outage, state.dies_at) = (0, false, None);
        state.dies_in_removal = None;
        state.say("nothing fails any more".to_owned());
    }
    host.quiet_since = host.now();
    let settled = host.now() + SignedDuration::from_hours(5);
    let _ = host.live(settled).await;
    while host.runs() > 0 {
        let until = host.now() + SignedDuration::from_mins(10);
        let _ = host.live(until).await;
    }
    for name in SOURCES {
        let source: SourceId = name.parse().expect("a name");
        // Whether what was said last was heard nobody knows: it is ended whatever it was.
        let _ = say(host, &source, Stated::Unfreeze, None).await;
        host.world.state().truth.of(&source).frozen = false;
        let there: Vec<BackupId> = {
            let state = host.world.state();
            let of = &state.truth.sources[&source];
            of.there(&state.objects, &source).into_iter().map(|(id, _)| id.clone()).collect()
        };
        for id in there {
            host.world.state().truth.of(&source).pinned.remove(&id);
            let _ = say(host, &source, Stated::Unpin, Some(id)).await;
        }
    }
    let _ = renew(host).await;
    let until = host.now() + QUIET;
    let _ = host.live(until).await;
    while host.runs() > 0 {
        let until = host.now() + SignedDuration::from_mins(10);
        let _ = host.live(until).await;
    }
    match found(host) {
        None => at_the_end(host).await.err(),
        wrong => wrong,
    }
}

/// What must hold when nothing fails any more.
async fn at_the_end(host: &mut Host) -> Result<(), String> {
    for name in SOURCES {
        let source: SourceId = name.parse().expect("a name");
        removed_as_asked(host, &source).await?;
        jobs_are_true(host, &source).await?;
        planner_reaches_the_window(host, &source).await?;
    }
    let setup = host.setup.clone();
    let rows = host.at_once(async move { agree(&setup).await }).await.expect("nobody dies")?;
    lose_catalog(host);
    let setup = host.setup.clone();
    let again = host.at_once(async move { agree(&setup).await }).await.expect("nobody dies")?;
    match rows == again {
        true => found(host).map_or(Ok(()), Err),
        false => Err(format!("a catalog that was made anew is another: {rows:?}, {again:?}")),
    }
}

/// A person has all removed that may go: nothing is left over then.
async fn removed_as_asked(host: &mut Host, source: &SourceId) -> Result<(), String> {
    {
        let mut state = host.world.state();
        let state = &mut *state;
        let of = state.truth.of(source);
        of.removal_begins(&state.objects, source, false);
    }
    let (setup, of) = (host.setup.for_prune(), source.clone());
    let removing = async move {
        let (_stopper, stop) = Stop::new();
        let removed = drctl::prune::remove(&setup, &of, |_| Ok(true), &stop).await;
        removed.map(drop).map_err(|error| format!("{error:#}"))
    };
    host.at_once(removing).await.expect("nobody dies")?;
    let state = host.world.state();
    let of = &state.truth.sources[source];
    let (policy, zone) = (&state.truth.policy, &state.truth.zone);
    let left = left_over(policy, zone, (of, &state.objects, source), state.now);
    if of.made.len() < 5 {
        return Err(format!("only {} backups of {source} were made", of.made.len()));
    }
    match left.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} things are left of {source}, {first} for one", left.len())),
    }
}

/// The record of each job says what became of it.
async fn jobs_are_true(host: &mut Host, source: &SourceId) -> Result<(), String> {
    let (setup, of) = (host.setup.clone(), source.clone());
    let asked = async move {
        let catalog = Catalog::open_read_only(&setup.catalog_path()).await.ok()?;
        catalog.jobs(Some(&of), 10_000).await.ok()
    };
    let jobs = host.at_once(asked).await.expect("nobody dies").ok_or("the jobs cannot be read")?;
    let state = host.world.state();
    let made: BTreeSet<&BackupId> = state.truth.sources[source].made.keys().collect();
    for job in jobs {
        if !job.state.is_final() {
            return Err(format!("{job:?} has no end"));
        }
        let Some(id) = &job.backup else { continue };
        if (job.state == JobState::Committed) != made.contains(id) {
            return Err(format!("{job:?} is not true: made {}", made.contains(id)));
        }
    }
    Ok(())
}

/// The shipped planner finds a way to each moment of the recovery window.
async fn planner_reaches_the_window(host: &mut Host, source: &SourceId) -> Result<(), String> {
    let (begin, moments) = {
        let state = host.world.state();
        let of = &state.truth.sources[source];
        let Some(begin) = window_begins(&state.truth.policy, of) else { return Ok(()) };
        let commits: Vec<Timestamp> = of.log[..of.shipped].iter().map(|one| one.commit).collect();
        (begin, commits)
    };
    let Some(last) = moments.last().copied() else { return Ok(()) };
    let (setup, of) = (host.setup.clone(), source.clone());
    let asked = async move {
        let repository = setup.repository().await.ok()?;
        drctl::restore::known::known(&setup, &repository, &of, None, (Want::All, None)).await.ok()
    };
    let known = host.at_once(asked).await.expect("nobody dies").ok_or("the log cannot be read")?;
    let second = SignedDuration::from_secs(1);
    let around = moments.iter().flat_map(|at| [*at - second, *at, *at + second]).chain([begin]);
    for at in around.filter(|at| *at >= begin && *at < last) {
        if let Err(no) = plan(&known.archive, &Target::Time(at), None) {
            return Err(format!(
                "{source} cannot be brought to {at}, in the window from {begin}: {no:?}"
            ));
        }
    }
    Ok(())
}

/// The catalog has the rows that the bucket's manifests make; these.
async fn agree(setup: &Setup) -> Result<Vec<BackupSummary>, String> {
    let told = |error: &dyn std::fmt::Display| format!("{error:#}");
    let repository = setup.repository().await.map_err(|error| told(&error))?;
    let catalog = setup.catalog(&repository).await.map_err(|error| told(&error))?;
    let mut rows = catalog.backups(None).await.map_err(|error| told(&error))?;
    let mut found = inventory(&repository).await.map_err(|error| told(&error))?.backups;
    rows.sort_by(|one, other| one.backup.cmp(&other.backup));
    found.sort_by(|one, other| one.backup.cmp(&other.backup));
    let differs = diff(&rows, &found);
    match differs.is_empty() {
        true => Ok(rows),
        false => Err(format!("catalog and bucket differ: {differs:?}")),
    }
}

/// A host that lives well for so long, and then loses its catalog.
async fn without_a_catalog(seed: u64, well: SignedDuration) -> Host {
    let mut host = Host::new(seed);
    host.begin().await;
    let until = host.plan.begin + well;
    let _ = host.live(until).await;
    while host.runs() > 0 {
        let until = host.now() + SignedDuration::from_mins(10);
        let _ = host.live(until).await;
    }
    lose_catalog(&mut host);
    host
}

/// One that dies at an effect of the first run without it, and comes back.
pub(crate) fn dies_without_a_catalog(seed: u64, at: u64) -> Option<String> {
    runtime().block_on(async {
        // Until its backups of the day are made, and a removal is what comes next.
        let mut host = without_a_catalog(seed, SignedDuration::from_hours(84)).await;
        host.dies_in_next_run = Some(at);
        let until = host.now() + SignedDuration::from_hours(24);
        if !host.live(until).await {
            host.die(SignedDuration::from_mins(1)).await;
        }
        let until = host.now() + SignedDuration::from_hours(4);
        let _ = host.live(until).await;
        found(&host)
    })
}

/// One that is away for so long.
pub(crate) fn is_away_without_a_catalog(seed: u64, away: SignedDuration) -> Option<String> {
    runtime().block_on(async {
        let mut host = without_a_catalog(seed, SignedDuration::from_hours(72)).await;
        host.die(away).await;
        let until = host.now() + SignedDuration::from_hours(8);
        let _ = host.live(until).await;
        found(&host)
    })
}
