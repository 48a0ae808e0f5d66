//! Where a backup that pgBackRest tells of lies in its cluster's WAL.

use drctl_engines::backrest::{Backup, Info};
use drctl_model::{Coordinates, Lsn, Timeline, WalSegmentSize};

/// Where a backup lies; `server`, where it is known, is what the server itself says of its
/// segments' size, and counts for its own cluster.
///
/// # Errors
/// Why that cannot be told, in words.
pub(super) fn coordinates(
    info: &Info,
    backup: &Backup,
    server: Option<(u64, WalSegmentSize)>,
) -> Result<Coordinates, String> {
    let cluster = info.cluster(backup.database_id);
    let cluster = cluster.ok_or("pgBackRest does not say of which cluster it is")?;
    let (Some((first, last)), Some((start, stop))) = (&backup.wal, backup.lsn) else {
        return Err(
            "it was made of a cluster that was shut down, and has no positions in the WAL".into()
        );
    };
    let segment_size = match server.filter(|(system_id, _)| *system_id == cluster.system_id) {
        Some((_, size)) => size,
        None => size_of(info, backup.database_id)?,
    };
    if !fits(segment_size, first, start, false) || !fits(segment_size, last, stop, true) {
        return Err(format!("its positions {start} and {stop} are not in {first} and {last}"));
    }
    let timeline = |name: &str| {
        let parsed = segment_size.parse_file_name(name).map_err(|error| error.to_string());
        parsed.map(|(timeline, _): (Timeline, Lsn)| timeline)
    };
    Ok(Coordinates {
        system_id: cluster.system_id,
        segment_size,
        timeline: timeline(first)?,
        start,
        stop,
        stop_timeline: timeline(last)?,
        listing_sha256: None,
        log: None,
    })
}

/// The size of a cluster's segments, which `info` does not tell: the one with which positions and
/// names of all its backups fit each other.
fn size_of(info: &Info, database_id: u32) -> Result<WalSegmentSize, String> {
    let of_cluster = || info.backups.iter().filter(|backup| backup.database_id == database_id);
    let all_fit = |size: &WalSegmentSize| {
        of_cluster().all(|backup| match (&backup.wal, backup.lsn) {
            (Some((first, last)), Some((start, stop))) => {
                fits(*size, first, start, false) && fits(*size, last, stop, true)
            }
            _ => true,
        })
    };
    let possible = (20..=30).filter_map(|power| WalSegmentSize::new(1 << power));
    let found: Vec<WalSegmentSize> = possible.filter(all_fit).collect();
    match found.as_slice() {
        [size] => Ok(*size),
        [] => Err("positions and names of segments do not fit each other".to_owned()),
        _ => Err(
            "the size of the cluster's segments is not known: make sure that the server can be \
                 reached"
                .into(),
        ),
    }
}

/// Whether `lsn` lies in the segment `name`. One that ends there may be the next one's first byte.
fn fits(size: WalSegmentSize, name: &str, lsn: Lsn, is_end: bool) -> bool {
    let Ok((_, begin)) = size.parse_file_name(name) else { return false };
    let ends_there = is_end && lsn.0 > 0 && size.start_of(Lsn(lsn.0 - 1)) == begin;
    size.start_of(lsn) == begin || ends_there
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::engine::pgbackrest::sample;

    fn backup(wal: (&str, &str), lsn: (u64, u64)) -> Backup {
        Backup {
            wal: Some((wal.0.into(), wal.1.into())),
            lsn: Some((Lsn(lsn.0), Lsn(lsn.1))),
            ..sample::backup()
        }
    }

    fn info(backups: &[Backup]) -> Info {
        sample::info([1], backups.to_vec())
    }

    fn alone(backup: &Backup) -> Info {
        info(std::slice::from_ref(backup))
    }

    const SEGMENT: (&str, &str) = ("000000010000000000000002", "000000010000000000000002");

    #[test]
    fn the_size_of_segments_follows_from_names_and_positions() {
        let sixteen = backup(SEGMENT, (0x0200_0028, 0x0200_0100));
        let at = coordinates(&alone(&sixteen), &sixteen, None).unwrap();
        assert_eq!((at.segment_size.bytes(), at.system_id, at.timeline.id()), (16 << 20, 7, 1));
        let one = backup(SEGMENT, (0x0020_0028, 0x0020_0100));
        let at = coordinates(&alone(&one), &one, None).unwrap();
        assert_eq!((at.segment_size.bytes(), at.stop), (1 << 20, Lsn(0x0020_0100)));
        // The last byte of a segment is the one before the position.
        let full = backup(SEGMENT, (0x0200_0028, 0x0300_0000));
        assert!(coordinates(&alone(&full), &full, None).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_not_guessed() {
        let first = ("000000010000000100000000", "000000010000000100000000");
        let unclear = backup(first, (0x1_0000_0028, 0x1_0000_0100));
        let said = coordinates(&alone(&unclear), &unclear, None).unwrap_err();
        assert!(said.contains("the server can be reached"), "{said}");
        let size = WalSegmentSize::default();
        assert!(coordinates(&alone(&unclear), &unclear, Some((7, size))).is_ok());
        assert!(coordinates(&alone(&unclear), &unclear, Some((8, size))).is_err());
        // Another backup of the same cluster tells.
        let clear = backup(SEGMENT, (0x0200_0028, 0x0200_0100));
        assert!(coordinates(&info(&[clear, unclear.clone()]), &unclear, None).is_ok());
        let wrong = backup(SEGMENT, (0x0200_0028, 0x0900_0100));
        assert!(coordinates(&alone(&wrong), &wrong, Some((7, size))).is_err());
        let offline = Backup { wal: None, lsn: None, ..unclear };
        let said = coordinates(&info(&[]), &offline, None).unwrap_err();
        assert!(said.contains("shut down"), "{said}");
    }
}
