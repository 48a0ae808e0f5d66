use std::fmt::Write as _;

use anyhow::Result;
use drctl_catalog::{Catalog, Difference};
use drctl_model::{BackupId, BackupSummary, SourceId, shown};
use drctl_policies::Server;
use jiff::Timestamp;
use serde_json::json;

use super::args::CatalogVerb;
use super::heard::while_heard;
use super::lost::{back_json, back_text, forget, lost_json, lost_text};
use super::newer::{closed_text, newer_json, newer_text, not_counted_text, refused_json};
use super::screen::{Screen, TEXT_SHOWN, alarms_json, alarms_text, line};
use crate::engine::pg::doctor::{SOCKET_COST, open_socket};
use crate::health::{Compared, Renewed, check, rebuild};
use crate::host::figures::number;
use crate::host::{Exit, Setup};
use crate::repository::Inventory;
use crate::repository::documents::Doubtful;
use crate::restore::known::Holes;

/// How many foreign keys are named to a person.
const FOREIGN_SHOWN: usize = 10;

/// How many coming runs `config check` shows.
const RUNS_SHOWN: usize = 5;

/// The catalog, to be looked at: before the first backup there is none, nor a place for one.
pub(super) async fn known_catalog(setup: &Setup) -> Result<Catalog> {
    while_heard(setup, setup.known_catalog()).await
}

/// `drctl config check`.
pub(super) fn config_check(screen: Screen, setup: &Setup) -> Result<Exit> {
    let now = setup.clock.now();
    let mut sources = Vec::new();
    let mut text = format!("{} is good\n", setup.path.display());
    for (id, source) in &setup.config.sources {
        let policy = &source.policy;
        let runs = coming(setup, id, now);
        let zone = policy.timezone.clone();
        let local: Vec<String> =
            runs.iter().map(|run| run.to_zoned(zone.clone()).to_string()).collect();
        let _ = write!(text, "\n{id}, by policy {}:", policy.name);
        if local.is_empty() {
            text.push_str(" by hand only");
        }
        for run in &local {
            let _ = write!(text, "\n  {run}");
        }
        let waits = policy.always_waits(now);
        if let (Some(window), false) = (&policy.window, waits.is_empty()) {
            let kinds: Vec<&str> = waits.iter().map(|kind| kind.words()).collect();
            let _ = write!(
                text,
                "\n  warning: no run of {} lies in the window, {window}: each waits until it opens",
                kinds.join(", ")
            );
        }
        let server = source.engine.server();
        let cost = server.and_then(Server::ssl_cost);
        if let (Some(server), Some(cost)) = (server, cost) {
            let _ = write!(text, "\n  warning: sslmode = \"{}\": {cost}", server.sslmode.as_str());
        }
        let open = server.and_then(open_socket);
        if let Some(place) = &open {
            let _ =
                write!(text, "\n  warning: {}: {SOCKET_COST}; set require_peer", place.display());
        }
        sources.push(json!({
            "source": id, "policy": policy.name, "next": runs, "local": local, "sslmode_costs": cost,
            "socket_open": open, "waits_for_window": waits,
        }));
    }
    screen.answer("drctl.config-check/1", json!({ "sources": sources }), || text);
    Ok(Exit::Success)
}

fn coming(setup: &Setup, id: &drctl_model::SourceId, now: Timestamp) -> Vec<Timestamp> {
    let Some(source) = setup.config.sources.get(id).filter(|source| source.enabled) else {
        return Vec::new();
    };
    let Some(schedule) = &source.policy.schedule else { return Vec::new() };
    std::iter::successors(schedule.next_after(now), |run| schedule.next_after(*run))
        .take(RUNS_SHOWN)
        .collect()
}

/// `drctl config show`.
pub(super) fn config_show(screen: Screen, setup: &Setup) -> Result<Exit> {
    let object = json!({ "config": &*setup.config, "path": setup.path });
    let pretty = format!("{:#}", json!(&*setup.config));
    screen.answer("drctl.config/1", object, || pretty);
    Ok(Exit::Success)
}

/// `drctl catalog`.
pub(super) async fn catalog(screen: Screen, setup: &Setup, verb: &CatalogVerb) -> Result<Exit> {
    let repository = setup.repository().await?;
    match verb {
        CatalogVerb::Forget { source, yes } => forget(screen, setup, source, yes.as_deref()).await,
        CatalogVerb::Rebuild => renew(screen, &rebuild(setup, &repository).await?),
        CatalogVerb::Check => {
            setup.known_catalog().await?;
            compare(screen, &check(setup, &repository).await?)
        }
    }
}

fn renew(screen: Screen, renewed: &Renewed) -> Result<Exit> {
    let Renewed { catalog: done, found, log_pieces, log_refused, lost } = renewed;
    let mut object = inventory_json(found);
    object["backups"] = json!(done.backups);
    object["jobs"] = json!(done.jobs);
    object["damaged"] = json!(done.damaged);
    object["log_pieces"] = json!(log_pieces);
    object["log_refused"] = json!(log_refused);
    object["lost"] = lost_json(lost);
    screen.answer("drctl.catalog-rebuild/1", object, || {
        let (backups, jobs) = (number(done.backups), number(done.jobs));
        let mut text = format!(
            "the catalog knows {backups} backup(s) of the bucket, {jobs} job(s) of this host"
        );
        if *log_pieces > 0 {
            let _ = write!(text, ", {} piece(s) of WAL", number(*log_pieces));
        }
        if let Some(path) = &done.damaged {
            let _ = write!(text, "\nthe old one was damaged and is kept as {}", path.display());
        }
        for reason in log_refused {
            let _ = write!(text, "\nPASSED OVER: {}", line(reason));
        }
        text.push_str(&lost_text(lost));
        text.push_str(&remarks(found));
        text
    });
    let good = remarks(found).is_empty() && log_refused.is_empty();
    Ok(if good { Exit::Success } else { Exit::Degraded })
}

fn compare(screen: Screen, compared: &Compared) -> Result<Exit> {
    let Compared { backups: difference, found, .. } = compared;
    let lost_log = &compared.log_missing_in_bucket;
    let bad: Vec<String> =
        compared.bad.iter().map(|(what, why)| format!("{what}: {why}")).collect();
    let mut object = inventory_json(found);
    object["equal"] = json!(difference.is_empty() && lost_log.is_empty());
    object["missing_in_catalog"] = json!(difference.missing_in_catalog);
    object["missing_in_bucket"] = json!(difference.missing_in_bucket);
    object["different"] = json!(difference.different);
    object["log_missing_in_catalog"] = json!(compared.log_missing_in_catalog);
    object["bad"] = json!(bad);
    object["doubtful"] = json!(compared.doubtful.refused);
    object["doubtful_newer"] = json!(compared.doubtful.newer);
    object["lost"] = lost_json(&compared.lost);
    object["removed"] = back_json(&compared.back);
    let holes = |of: fn(&Holes) -> &[String]| -> Vec<String> {
        let each = compared.log_holes.iter();
        each.flat_map(|(source, all)| of(all).iter().map(move |gap| format!("{source}: {gap}")))
            .collect()
    };
    let (open, covered) = (holes(|all| &all.open), holes(|all| &all.covered));
    let unproven = holes(|all| &all.unproven);
    object["expired"] = expired_json(compared);
    object["strays"] = json!(compared.strays);
    object["log_refused"] = json!(compared.log_refused);
    object["gaps"] = json!(open);
    object["covered_gaps"] = json!(covered);
    object["unproven"] = json!(unproven);
    object["log_missing_in_bucket"] = json!(lost_log.values().sum::<u64>());
    screen.answer("drctl.catalog-check/1", object, || {
        let mut text = String::new();
        for lost in &difference.missing_in_bucket {
            let (source, id) = (&lost.source, &lost.backup);
            let _ = write!(text, "\nLOST: {source}/{id}: it was complete; its manifest is gone");
        }
        for (source, pieces) in lost_log {
            let _ = write!(
                text,
                "\nLOST: {} piece(s) of the WAL of {source}: see `drctl timeline {source}`",
                number(*pieces)
            );
        }
        text.push_str(&lost_text(&compared.lost));
        text.push_str(&back_text(&compared.back));
        text.push_str(&lacking(&open, &covered, compared));
        text.extend(unproven.iter().map(|place| format!("\nNOT PROVEN: {place}")));
        text.push_str(&doubtful_text(&compared.doubtful));
        for text_of_one in &bad {
            let _ = write!(text, "\nBAD: {}", line(text_of_one));
        }
        text.push_str(&remarks_beside(found, &difference.missing_in_bucket));
        comparison(difference, !found.closed.is_empty(), !text.is_empty()) + &text
    });
    Ok(compared_exit(compared, bad.is_empty() && open.is_empty()))
}

/// How the catalog and the bucket compare, and what to do. A rebuild forgets what is gone, so it is
/// advised only where nothing is.
fn comparison(difference: &Difference, closed: bool, more: bool) -> String {
    if difference.is_empty() {
        let listed = match closed {
            true => "the catalog lists what the bucket lists, as far as it may be read",
            false => "the catalog lists what the bucket lists",
        };
        let below = if more { "; what else was found is named below" } else { "" };
        return format!("{listed}{below}");
    }
    let advice = match difference.missing_in_bucket.is_empty() {
        true => "`drctl catalog rebuild` makes the catalog anew",
        false => {
            "`drctl catalog rebuild` does not bring back what is gone: find out who removed it, put it back \
             (from the bucket's versions), or give it up (`drctl catalog forget SOURCE`)"
        }
    };
    format!(
        "the catalog and the bucket differ: {} missing in the catalog, {} missing in the bucket, \
         {} different; {advice}",
        difference.missing_in_catalog.len(),
        difference.missing_in_bucket.len(),
        difference.different.len()
    )
}

/// Backups whose data pgBackRest has no more.
fn expired_json(compared: &Compared) -> serde_json::Value {
    let each = compared.expired.iter();
    each.map(|((source, backup), at)| json!({ "source": source, "backup": backup, "since": at }))
        .collect()
}

/// How it ends, if nothing was found bad before, nor any log is missing.
fn compared_exit(compared: &Compared, whole: bool) -> Exit {
    let Compared { backups: difference, found, .. } = compared;
    let there = found.lacking.is_empty()
        && compared.lost.is_empty()
        && difference.missing_in_bucket.is_empty()
        && difference.different.is_empty()
        && compared.log_missing_in_bucket.is_empty();
    let all_counts = remarks(found).is_empty()
        && doubtful_text(&compared.doubtful).is_empty()
        && compared.strays.is_empty()
        && compared.log_refused.is_empty();
    match whole && there {
        false => Exit::Verification,
        true if difference.is_empty() && all_counts => Exit::Success,
        true => Exit::Degraded,
    }
}

/// What is signed beside backups and log and does not count, a line each.
fn doubtful_text(doubtful: &Doubtful) -> String {
    let refused = doubtful.refused.iter().map(|why| format!("\nREFUSED: {}", line(why)));
    let newer = doubtful.newer.iter().map(|why| format!("\nNEWER: {}", line(why)));
    refused.chain(newer).collect()
}

/// Log that is missing, or does not count, and files that are no objects, a line each.
fn lacking(open: &[String], covered: &[String], compared: &Compared) -> String {
    let open = open.iter().map(|gap| format!("\nGAP: {gap}"));
    let covered =
        covered.iter().map(|gap| format!("\ngap of {gap}; a later base backup makes up for it"));
    let refused = compared.log_refused.iter().map(|why| format!("\nPASSED OVER: {}", line(why)));
    let strays = compared.strays.iter().map(|stray| format!("\nstray: {}", line(stray)));
    let expired = compared.expired.iter().map(|((source, backup), at)| {
        format!("\nexpired: {source}/{backup}: pgBackRest has removed it ({at:.0})")
    });
    open.chain(covered).chain(refused).chain(strays).chain(expired).collect()
}

fn inventory_json(found: &Inventory) -> serde_json::Value {
    let pair = |(source, id): &(SourceId, BackupId)| json!({ "source": source, "backup": id });
    json!({
        "objects": found.objects,
        "refused": refused_json(&found.refused),
        "newer": newer_json(&found.newer), "newer_marker": found.newer_marker,
        "broken": found.broken.iter().map(|(source, id, why)| {
            json!({ "source": source, "backup": id, "why": why })
        }).collect::<Vec<_>>(),
        "orphans": found.orphans.iter().map(pair).collect::<Vec<_>>(),
        "lacking": found.lacking.iter().map(|(source, id, why)| {
            json!({ "source": source, "backup": id, "why": why })
        }).collect::<Vec<_>>(),
        "alarms": alarms_json(&found.alarms),
        "deleted": found.deleted.iter().map(pair).collect::<Vec<_>>(),
        "closed": found.closed.texts(),
        "foreign": found.foreign,
        "foreign_objects": found.foreign_objects,
    })
}

/// What in the bucket is no backup, and why.
fn remarks(found: &Inventory) -> String {
    remarks_beside(found, &[])
}

/// The same where some backups were told to be lost: what is left of one is no attempt that never ended.
fn remarks_beside(found: &Inventory, lost: &[BackupSummary]) -> String {
    let is_lost = |(source, id): &&(SourceId, BackupId)| {
        lost.iter().any(|lost| lost.source == *source && lost.backup == *id)
    };
    let mut text = String::new();
    text.push_str(&not_counted_text(&found.refused));
    text.push_str(&newer_text(&found.newer));
    if let Some(why) = &found.newer_marker {
        let _ = write!(text, "\nNEWER: {}", line(why));
    }
    for (source, id, why) in &found.broken {
        let _ = write!(text, "\nBROKEN: {source}/{id} cannot be restored: {}", line(why));
    }
    for (source, id, why) in &found.lacking {
        let _ = write!(text, "\nLOST: {source}/{id} cannot be restored in full: {}", line(why));
    }
    text.push_str(&closed_text(&found.closed));
    text.push_str(&alarms_text(&found.alarms));
    for (source, id) in &found.deleted {
        let _ = write!(
            text,
            "\nDELETED: {source}/{id}: somebody removed its manifest; an older version was used"
        );
    }
    for (source, id) in found.orphans.iter().filter(|one| !is_lost(one)) {
        let _ = write!(
            text,
            "\norphan: {source}/{id}: segments of an attempt without a manifest, never read"
        );
    }
    for key in found.foreign.iter().take(FOREIGN_SHOWN) {
        let _ = write!(text, "\nforeign: {}: not written by drctl", shown(key, TEXT_SHOWN));
    }
    let more = found.foreign_objects.saturating_sub(FOREIGN_SHOWN as u64);
    if more > 0 {
        let _ = write!(text, "\nforeign: {} more", number(more));
    }
    text
}
