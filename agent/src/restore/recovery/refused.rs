//! Why a recovery does not begin.

use std::fmt::Write as _;

use drctl_policies::recovery::NoPlan;
use jiff::Timestamp;

use super::Refusal;
use crate::host::AgentError;
use crate::host::zone::both;

/// Why a recovery does not begin, as an error.
pub(crate) fn refused(refusal: Refusal) -> anyhow::Error {
    let (text, hint) = match refusal {
        Refusal::NoPlan { no, elsewhere, bad, known_before, .. } => {
            no_plan(&no, (&elsewhere, known_before), bad.as_deref())
        }
        Refusal::Forks(forks) => (
            format!(
                "it is not clear which timeline is meant, and nothing was done: {}",
                forks.join("; ")
            ),
            "look at `drctl timeline`, and give --timeline with the timeline of the real server",
        ),
        Refusal::LeavesOut(left_out) => (
            format!(
                "the result would not hold all that the bucket has, and nothing was done: {}",
                left_out.join("; ")
            ),
            "look at `drctl timeline`; --accept-loss recovers the rest",
        ),
        Refusal::Changed { confirmed, grows, .. } => {
            let more = match grows {
                true => " (a plan to the end of the WAL changes with every piece that arrives)",
                false => "",
            };
            let text = format!(
                "the plan has changed, its digest is not `{confirmed}`{more}: look at it with --plan, \
                 which shows the digest. Nothing was done"
            );
            return AgentError::Usage(text).into();
        }
        Refusal::HostLacks(missing) => {
            let text = format!(
                "this host lacks what the cluster needs, and nothing was done:\n  {}\n  install \
                 it, or continue without it: --despite-missing",
                missing.join("\n  ")
            );
            return AgentError::Target(text).into();
        }
    };
    AgentError::NoPlan(text, hint).into()
}

fn no_plan(
    no: &NoPlan,
    (elsewhere, known_before): (&[u64], Option<(u64, Timestamp)>),
    bad: Option<&str>,
) -> (String, &'static str) {
    let mut text = no.to_string();
    let mut hint = no.hint();
    if let Some(why) = bad {
        let _ =
            write!(text, "; a base backup that is BAD would lead there, and is not used: {why}");
        hint = "verify it again (`drctl verify --data`) if it was mended; --backup with its identifier \
                begins with it all the same; take a new base backup";
    }
    for id in elsewhere {
        let _ = write!(text, "; another cluster of this source reaches it: --system-id {id}");
        hint = "give --system-id with the cluster that you mean";
    }
    for (word, place) in [("before it", no.before), ("after it", no.after)] {
        if let Some(place) = place {
            let at = place.at.map_or_else(|| place.lsn.to_string(), both);
            let _ = write!(text, "; the nearest {word} is {at}");
        }
    }
    if let Some((id, at)) = known_before {
        let _ = write!(
            text,
            "; another cluster of this source, {id}, is known up to {}: --system-id {id} and a time up to that",
            both(at)
        );
    }
    (text, hint)
}
