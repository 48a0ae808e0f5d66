use drctl_model::{BackupKind, BackupSummary, newest};

/// A backup with less than this share of the plain bytes of the newest good one is suspect.
const SHARE: f64 = 0.5;

/// Below this size a source may shrink as it likes.
const SMALL_BYTES: u64 = 1 << 20;

/// The newest good backup whose size tells something about that of another of this `kind`: full
/// backups and dumps are compared with their like. How much an incremental backup holds depends on
/// how much was written; whether it is plausible is told by the files that it lists.
#[must_use]
pub(crate) fn like<'a>(
    kind: &BackupKind,
    newest_first: &'a [BackupSummary],
) -> Option<&'a BackupSummary> {
    let alike = |backup: &&BackupSummary| {
        backup.is_good() && backup.kind.parent().is_none() && backup.kind.as_str() == kind.as_str()
    };
    newest(newest_first.iter().filter(alike))
}

/// Whether a backup has far fewer bytes than the newest good one of its like.
#[must_use]
pub(crate) fn shrunk(plain: u64, newest: Option<&BackupSummary>) -> Option<String> {
    let before = newest.filter(|before| before.plain_bytes > SMALL_BYTES)?;
    #[expect(clippy::cast_precision_loss, reason = "a share, not a sum")]
    let share = plain as f64 / before.plain_bytes as f64;
    let less = || {
        let before = &before.backup;
        format!("it has {:.0} % of the bytes of {before}, the newest good one", share * 100.0)
    };
    (share < SHARE).then(less)
}

#[cfg(test)]
mod tests {
    use drctl_model::Dumped;

    use super::*;

    fn before(plain_bytes: u64) -> BackupSummary {
        BackupSummary {
            source: "shop".parse().unwrap(),
            backup: "20260301T000000Z-0000000000000000".parse().unwrap(),
            engine: drctl_model::Engine::PgDump,
            kind: BackupKind::Logical(Dumped::default()),
            host: "db1".into(),
            started: jiff::Timestamp::UNIX_EPOCH,
            finished: jiff::Timestamp::UNIX_EPOCH,
            plain_bytes,
            sealed_bytes: 0,
            segments: 0,
            suspect: vec![],
            manifest_sha256: drctl_model::Digest([0; 32]),
            accepted: None,
            signer: String::new(),
            objects: None,
        }
    }

    #[test]
    fn like_is_compared_with_like() {
        let at = |backup: &str, kind: &BackupKind, suspect: bool| BackupSummary {
            backup: backup.parse().unwrap(),
            kind: kind.clone(),
            suspect: if suspect { vec!["bad pages".into()] } else { vec![] },
            ..before(100)
        };
        let coordinates = drctl_model::Coordinates {
            system_id: 7,
            segment_size: drctl_model::WalSegmentSize::new(1 << 20).unwrap(),
            timeline: drctl_model::Timeline::FIRST,
            start: drctl_model::Lsn(1),
            stop: drctl_model::Lsn(2),
            stop_timeline: drctl_model::Timeline::FIRST,
            listing_sha256: None,
            log: None,
        };
        let full = BackupKind::Full(coordinates.clone());
        let parent = drctl_model::Parent {
            backup: "20260301T000000Z-0000000000000001".parse().unwrap(),
            manifest_sha256: drctl_model::Digest([0; 32]),
        };
        let increment = drctl_model::Increment { parent, at: coordinates };
        let incremental = BackupKind::Incremental(increment);
        let all = [
            at("20260304T000000Z-0000000000000004", &incremental, false),
            at("20260303T000000Z-0000000000000003", &full, true),
            at("20260301T000000Z-0000000000000001", &full, false),
            at("20260201T000000Z-0000000000000000", &BackupKind::Logical(Dumped::default()), false),
        ];
        let found = |kind: &BackupKind| like(kind, &all).map(|backup| backup.backup.to_string());
        assert_eq!(found(&full).unwrap(), "20260301T000000Z-0000000000000001");
        assert_eq!(
            found(&BackupKind::Logical(Dumped::default())).unwrap(),
            "20260201T000000Z-0000000000000000"
        );
        assert_eq!(found(&incremental), None);
    }

    #[test]
    fn what_shrank_is_suspect() {
        let mega = 1 << 20;
        let cases = [
            ("the first one", 10, None, false),
            ("as large as before", 100 * mega, Some(before(100 * mega)), false),
            ("just over half", 51 * mega, Some(before(100 * mega)), false),
            ("just under half", 49 * mega, Some(before(100 * mega)), true),
            ("small ones may vary", 1, Some(before(mega)), false),
        ];
        for (name, plain, newest, is_suspect) in cases {
            assert_eq!(shrunk(plain, newest.as_ref()).is_some(), is_suspect, "{name}");
        }
    }
}
