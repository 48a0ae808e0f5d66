//! How much of a cluster the next backup by pgBackRest holds itself.

use std::collections::BTreeSet;

use drctl_engines::backrest::{Backup, Info};
use drctl_model::ExternalType;
use drctl_policies::Pgbackrest;
use jiff::Timestamp;

use crate::backup::RequestedKind;
use crate::engine::pg::is_due;

/// What the choice depends on, beside what the repository holds.
pub(super) struct Reasons<'a> {
    /// What was asked for.
    pub(super) requested: RequestedKind,
    /// Labels that a manifest of ours calls suspect.
    pub(super) suspect: &'a BTreeSet<String>,
    /// Why WAL is known to be lost, if it is.
    pub(super) incident: Option<&'a str>,
    /// The present moment.
    pub(super) now: Timestamp,
}

/// Chooses by what `info` says that is there now. Tells why a full one is made where the clock is
/// not the reason.
pub(super) fn choose(
    info: &Info,
    policy: &Pgbackrest,
    reasons: &Reasons<'_>,
) -> (ExternalType, Option<String>) {
    let full = |why: &str| (ExternalType::Full, Some(format!("a full backup was made: {why}")));
    if reasons.requested == RequestedKind::Full {
        return (ExternalType::Full, None);
    }
    if let Some(incident) = reasons.incident {
        return full(incident);
    }
    let Some(cluster) = info.current() else { return (ExternalType::Full, None) };
    let of_cluster = info.backups.iter().filter(|backup| backup.database_id == cluster.id);
    let by_age = |backup: &&&Backup| (backup.started, backup.label.clone());
    let all: Vec<&Backup> = of_cluster.collect();
    let is_full = |backup: &&&Backup| backup.backup_type == ExternalType::Full;
    let Some(last_full) = all.iter().filter(is_full).max_by_key(by_age) else {
        // The first one of a cluster is a matter of course, unless there was another cluster.
        return match info.backups.is_empty() {
            true => (ExternalType::Full, None),
            false => full("there is none of this cluster, only of the one before it"),
        };
    };
    let doubtful = |backup: &Backup| backup.page_errors || reasons.suspect.contains(&backup.label);
    let newest = all.iter().max_by_key(by_age).unwrap_or(last_full);
    for before in [last_full, newest] {
        if doubtful(before) {
            return full(&format!(
                "{} is suspect, and later ones would be based on it",
                before.label
            ));
        }
    }
    if reasons.requested == RequestedKind::Incremental {
        return (ExternalType::Incremental, None);
    }
    let due = |backup: &Backup, every| is_due(reasons.now.duration_since(backup.started), every);
    if due(last_full, policy.full_every) {
        return (ExternalType::Full, None);
    }
    let is_larger = |backup: &&&Backup| backup.backup_type != ExternalType::Incremental;
    let larger = all.iter().filter(is_larger).max_by_key(by_age).unwrap_or(last_full);
    match policy.differential_every {
        Some(every) if due(larger, every) => (ExternalType::Differential, None),
        _ => (ExternalType::Incremental, None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use drctl_model::SslMode;
    use drctl_policies::{LogSettings, LogWay, Server};
    use jiff::SignedDuration;

    use super::*;
    use crate::engine::pgbackrest::sample;

    fn now() -> Timestamp {
        "2026-03-01T00:00:00Z".parse().unwrap()
    }

    /// A backup that began so many hours ago.
    fn backup(backup_type: ExternalType, hours: i64) -> Backup {
        let at = now() - SignedDuration::from_hours(hours);
        let stamp = at.strftime("%Y%m%d-%H%M%S");
        let label = match backup_type {
            ExternalType::Full => format!("{stamp}F"),
            ExternalType::Differential => format!("20260101-000000F_{stamp}D"),
            ExternalType::Incremental => format!("20260101-000000F_{stamp}I"),
        };
        let (started, stopped) = (at, at);
        Backup { label, backup_type, started, stopped, database_id: 2, ..sample::backup() }
    }

    fn info(backups: Vec<Backup>) -> Info {
        sample::info([1, 2], backups)
    }

    fn policy(differential_hours: Option<u64>) -> Pgbackrest {
        let server = Server {
            silence: std::time::Duration::from_secs(3600),
            host: "h".into(),
            port: 1,
            user: "u".into(),
            maintenance_database: "m".into(),
            password: None,
            sslmode: SslMode::Disable,
            ssl_root_cert: None,
            require_peer: None,
            bin_dir: None,
        };
        let log = LogSettings {
            way: LogWay::None,
            slot: None,
            heartbeat: std::time::Duration::ZERO,
            heartbeat_table: false,
        };
        Pgbackrest {
            server,
            log,
            stanza: "main".into(),
            repo: 1,
            config: None,
            bin: None,
            cipher_pass: None,
            run_as: None,
            full_every: Duration::from_secs(7 * 86_400),
            differential_every: differential_hours.map(|hours| Duration::from_secs(hours * 3_600)),
        }
    }

    fn chosen(
        backups: Vec<Backup>,
        requested: RequestedKind,
        differential: Option<u64>,
    ) -> (ExternalType, bool) {
        let suspect = BTreeSet::new();
        let reasons = Reasons { requested, suspect: &suspect, incident: None, now: now() };
        let (made, why) = choose(&info(backups), &policy(differential), &reasons);
        (made, why.is_some())
    }

    /// A name, what is there, what is wished for, `differential_every` in hours, and what comes.
    type Case = (&'static str, Vec<Backup>, RequestedKind, Option<u64>, (ExternalType, bool));

    #[test]
    fn the_kind_follows_from_what_is_there() {
        use ExternalType::{Differential as D, Full as F, Incremental as I};
        let configured = RequestedKind::AsConfigured;
        let cases: [Case; 10] = [
            ("none yet", vec![], configured, None, (F, false)),
            ("none yet, whatever is wished", vec![], RequestedKind::Incremental, None, (F, false)),
            ("a young full one", vec![backup(F, 20)], configured, None, (I, false)),
            ("an old one", vec![backup(F, 169), backup(I, 1)], configured, None, (F, false)),
            ("a full one is wished", vec![backup(F, 1)], RequestedKind::Full, None, (F, false)),
            (
                "another is wished",
                vec![backup(F, 999)],
                RequestedKind::Incremental,
                None,
                (I, false),
            ),
            ("a differential is due", vec![backup(F, 30)], configured, Some(24), (D, false)),
            (
                "it is not, behind another",
                vec![backup(F, 60), backup(D, 20), backup(I, 1)],
                configured,
                Some(24),
                (I, false),
            ),
            (
                "an incremental one does not stand in for it",
                vec![backup(F, 60), backup(D, 30), backup(I, 1)],
                configured,
                Some(24),
                (D, false),
            ),
            (
                "of another cluster",
                vec![Backup { database_id: 1, ..backup(F, 1) }],
                configured,
                None,
                (F, true),
            ),
        ];
        for (name, backups, requested, differential, expected) in cases {
            assert_eq!(chosen(backups, requested, differential), expected, "{name}");
        }
    }

    #[test]
    fn what_is_in_doubt_makes_a_full_one() {
        use ExternalType::{Full as F, Incremental as I};
        let bad = |backup: Backup| Backup { page_errors: true, ..backup };
        assert_eq!(chosen(vec![bad(backup(F, 1))], RequestedKind::AsConfigured, None), (F, true));
        let on_it = vec![backup(F, 3), bad(backup(I, 1))];
        assert_eq!(chosen(on_it, RequestedKind::Incremental, None), (F, true));
        let passed = vec![bad(backup(F, 9)), backup(F, 3), backup(I, 1)];
        assert_eq!(chosen(passed, RequestedKind::AsConfigured, None), (I, false));
        let full = backup(F, 3);
        let suspect = BTreeSet::from([full.label.clone()]);
        let none = BTreeSet::new();
        for (suspect, incident) in [(&suspect, None), (&none, Some("WAL was dropped"))] {
            let reasons =
                Reasons { requested: RequestedKind::AsConfigured, suspect, incident, now: now() };
            let (made, why) = choose(&info(vec![full.clone()]), &policy(None), &reasons);
            assert!(made == F && why.is_some(), "{why:?}");
        }
    }
}
