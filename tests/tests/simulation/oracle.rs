//! What a person would say from the words of a policy: which backups are needed, and which moments have to be
//! reached. Nothing of it is the product's.

use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{BackupId, SourceId};
use drctl_policies::RetentionPolicy;
use drctl_store::layout;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use object_store::path::Path;

use crate::cluster::SEGMENT;
use crate::store::Objects;
use crate::truth::{Made, OfSource};

/// Why each of these backups is needed by a rule, a pin or another one; window and log apart.
pub(crate) fn needed(
    policy: &RetentionPolicy,
    zone: &TimeZone,
    there: &[(&BackupId, &Made)],
    pinned: &BTreeSet<BackupId>,
) -> BTreeMap<BackupId, String> {
    let mut newest_first = there.to_vec();
    newest_first.sort_by_key(|(_, made)| std::cmp::Reverse(made.stop));
    let mut why = BTreeMap::new();
    let mut keep = |id: &BackupId, text: &str| drop(why.insert(id.clone(), text.to_owned()));
    let Some(newest) = newest_first.iter().map(|(_, made)| made.taken).max() else {
        return why;
    };
    let age = |made: &Made| newest.duration_since(made.taken);
    let few = |most: u32| usize::try_from(most).expect("a small number");
    let short = |made: &Made, most: Option<std::time::Duration>| {
        most.map(|most| age(made) <= SignedDuration::try_from(most).expect("a short time"))
    };
    for (id, _) in newest_first.iter().take(few(policy.last)) {
        keep(id, "last");
    }
    let rules: [(&str, u32); 5] = [
        ("%Y-%m-%d %H", policy.hourly),
        ("%Y-%m-%d", policy.daily),
        ("%G-%V", policy.weekly),
        ("%Y-%m", policy.monthly),
        ("%Y", policy.yearly),
    ];
    for (format, most) in rules {
        let mut seen: Vec<String> = Vec::new();
        for (id, made) in &newest_first {
            let period = made.taken.to_zoned(zone.clone()).strftime(format).to_string();
            if !seen.contains(&period) && seen.len() < few(most) {
                keep(id, &format!("the newest of {period}"));
                seen.push(period);
            }
        }
    }
    for (id, made) in &newest_first {
        if short(made, policy.within) == Some(true) {
            keep(id, "within");
        }
    }
    for (id, made) in &newest_first {
        if short(made, policy.max_age) == Some(false) {
            why.remove(*id);
        }
    }
    for (id, _) in newest_first.iter().take(few(policy.min_backups)) {
        why.insert((*id).clone(), "min_backups".to_owned());
    }
    for (id, _) in newest_first.iter().filter(|(id, _)| pinned.contains(*id)) {
        why.insert((*id).clone(), "it is pinned".to_owned());
    }
    with_parents(&newest_first, why)
}

/// With what those that stay are based on.
pub(crate) fn with_parents(
    there: &[(&BackupId, &Made)],
    mut why: BTreeMap<BackupId, String>,
) -> BTreeMap<BackupId, String> {
    let made: BTreeMap<&BackupId, &Made> = there.iter().copied().collect();
    let stay: Vec<BackupId> = why.keys().cloned().collect();
    for id in stay {
        let mut child = id;
        while let Some(parent) = made.get(&child).and_then(|made| made.parent.clone()) {
            why.entry(parent.clone()).or_insert_with(|| format!("{child} is based on it"));
            child = parent;
        }
    }
    why
}

/// Where the recovery window of a source begins, by its newest backup; nothing without one.
pub(crate) fn window_begins(policy: &RetentionPolicy, of: &OfSource) -> Option<Timestamp> {
    let newest = of.made.values().map(|made| made.taken).max()?;
    newest.checked_sub(policy.within?).ok()
}

/// The moments of the recovery window that some backup led to once, and none does that is there now.
pub(crate) fn unreachable(
    policy: &RetentionPolicy,
    of: &OfSource,
    objects: &Objects,
    source: &SourceId,
) -> Vec<Timestamp> {
    let Some(begin) = window_begins(policy, of) else { return Vec::new() };
    let there: BTreeSet<u64> = pieces(objects, source);
    let bases: Vec<&Made> = of.there(objects, source).into_iter().map(|(_, made)| made).collect();
    let log = &of.log[..of.shipped];
    // To be at a moment is to stop before the first commit behind it, which has to be known.
    let leads = |made: &Made, stop: usize| {
        let before = log[stop].start;
        let needed = log.iter().filter(|one| one.start >= made.stop && one.start <= before);
        made.stop <= before
            && needed.clone().count() > 0
            && needed.clone().all(|one| there.contains(&one.end))
    };
    let mut moments: Vec<Timestamp> = log.iter().map(|one| one.commit).collect();
    moments.push(begin);
    moments.retain(|at| *at >= begin);
    let mut found = Vec::new();
    for at in moments {
        let Some(stop) = log.iter().position(|one| one.commit > at) else { continue };
        let once = of.made.values().any(|made| made.stop <= log[stop].start);
        if once && !bases.iter().any(|made| leads(made, stop)) {
            found.push(at);
        }
    }
    found
}

/// Where the pieces end that lie in the bucket.
fn pieces(objects: &Objects, source: &SourceId) -> BTreeSet<u64> {
    let prefix = format!("{}/", layout::logs(source));
    let keys = objects.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
    let place = |key: &str| layout::piece_at(&Path::from(key)).map(|(_, place)| place.part);
    let ends = keys.filter_map(|(key, _)| match place(key)? {
        drctl_model::LogPart::Range { end, .. } => Some(end.0),
        drctl_model::LogPart::Note { .. } => None,
    });
    ends.collect()
}

/// What lies in the bucket of a source and no rule asks for, after a removal that came to its end.
pub(crate) fn left_over(
    policy: &RetentionPolicy,
    zone: &TimeZone,
    (of, objects, source): (&OfSource, &Objects, &SourceId),
    now: Timestamp,
) -> Vec<String> {
    let there = of.there(objects, source);
    let mut why = needed(policy, zone, &there, &of.pinned);
    if let Some(begin) = window_begins(policy, of) {
        // Those from which the begin of the window is reached: the newest by time, and by place.
        let mut before: Vec<_> = there.iter().filter(|(_, made)| made.taken < begin).collect();
        before.sort_by_key(|(_, made)| std::cmp::Reverse(made.stop));
        for (id, _) in before.into_iter().take(2) {
            why.entry((*id).clone()).or_insert_with(|| "the window".to_owned());
        }
    }
    let why = with_parents(&there, why);
    let backups = there.iter().filter(|(id, _)| !why.contains_key(*id));
    let mut left: Vec<String> = backups.map(|(id, _)| format!("the backup {id}")).collect();
    let is_there: BTreeSet<&BackupId> = there.iter().map(|(id, _)| *id).collect();
    for (key, (_, stored)) in objects {
        if let layout::Kind::Data(its, id) = layout::classify(&Path::from(key.as_str()))
            && its == *source
            && !is_there.contains(&id)
            && (of.made.contains_key(&id) || *stored + SignedDuration::from_hours(8 * 24) < now)
        {
            left.push(format!("{key}, of no backup"));
        }
    }
    let oldest = there.iter().map(|(_, made)| made.start / SEGMENT * SEGMENT).min().unwrap_or(0);
    let below = pieces(objects, source).into_iter().filter(|end| *end <= oldest);
    left.extend(below.map(|end| format!("log up to {end}, before {oldest}")));
    left
}
