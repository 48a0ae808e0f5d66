//! A removal as a job on record: planned once more under the source's lock, and carried out if it is meant.

use anyhow::{Context as _, Result};
use drctl_model::{JobKind, SourceId};

use super::carry_out::carry_out;
use super::plan as plan_of;
use super::plan::PrunePlan;
use super::pruned::Pruned;
use crate::audit::{Act, Logged};
use crate::host::{AgentError, Setup, Stop};
use crate::jobs::{Came, hooked, run};
use crate::repository::cache::lock;

/// Removes what no policy keeps of a source, if `meant` takes the plan for what somebody wants: nothing where
/// it says false.
///
/// # Errors
/// [`AgentError::Busy`] while another process works on the source; those of [`plan`](super::plan()), of
/// `meant`, and the store's. Nothing was removed where the plan was not made or not meant.
pub async fn remove(
    setup: &Setup,
    source: &SourceId,
    meant: impl Fn(&PrunePlan) -> Result<bool>,
    stop: &Stop,
) -> Result<(PrunePlan, Pruned)> {
    // Neither a backup nor another removal is under way on this host.
    let lock = lock(setup, source)?;
    let removing = async {
        let repository = setup.repository().await?;
        let catalog = setup.catalog(&repository).await?;
        let plan = plan_of(setup, &repository, &catalog, source, Some(&lock)).await?;
        let done = match meant(&plan)? {
            true => {
                let going = plan.going();
                let going: Vec<&str> =
                    going.iter().map(|one| one.summary.backup.as_str()).collect();
                let logged = Logged::must_begin(setup, act(&plan, going.len()), ("going", &going))?;
                let done = carry_out(setup, &repository, &catalog, &plan, stop).await;
                logged.end(&done, |done, act| put_done(act, done));
                done?
            }
            false => Pruned::default(),
        };
        Ok((plan, done))
    };
    let amiss = |(_, done): &(PrunePlan, Pruned), _: &SourceId| {
        let text = || "it was stopped before all was removed".to_owned();
        done.stopped.then(|| ("interrupted".to_owned(), text()))
    };
    let came = |(_, done): &(PrunePlan, Pruned)| Came { stopped: done.stopped, ..Came::default() };
    let removing = hooked((setup, JobKind::Prune, source), stop, Box::pin(removing), came);
    run(setup, (JobKind::Prune, vec![source.clone()]), Box::pin(removing), amiss)
        .await
        .with_context(|| format!("remove what no policy keeps of {source}"))
}

/// A removal as the audit log has it: nothing goes that is not in there.
fn act(plan: &PrunePlan, backups: usize) -> Act {
    let act = Act::new("prune").of(plan.source.as_str()).with("plan", plan.digest());
    act.with("backups", backups.to_string())
}

/// What came of it.
fn put_done(act: &mut Act, done: &Pruned) {
    act.put("gone", &done.gone.len().to_string());
    act.put("objects", &done.objects.to_string());
    act.put("left", &(done.left.len() + done.retained.len()).to_string());
    if done.stopped {
        act.put("code", "interrupted");
    }
}

/// The same where nobody looks on: never what is much, which a person says by number. Nothing is left to do
/// where nothing would go; of a source whose removals are blocked nothing goes.
///
/// # Errors
/// As [`remove`]; [`AgentError::Usage`] where much would go.
pub async fn remove_unattended(
    setup: &Setup,
    source: &SourceId,
    stop: &Stop,
) -> Result<(PrunePlan, Pruned)> {
    let meant = |plan: &PrunePlan| match plan.is_much() {
        _ if plan.is_empty() || !plan.blocked.is_empty() => Ok(false),
        _ if plan.unattended.is_some() => Ok(false),
        None => Ok(true),
        Some(why) => {
            let text = format!(
                "{why}: nothing was removed, for much goes only when somebody says how much: look with \
                 `drctl prune {source}`"
            );
            Err(AgentError::Usage(text).into())
        }
    };
    remove(setup, source, meant, stop).await
}
