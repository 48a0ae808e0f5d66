//! Manifests that signed documents name: each of them was there when the document was signed, so that
//! a reader misses it who has never seen it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{BackupId, Digest};

/// How many manifests another one names, the newest ones: those that are older are named by these.
pub const MOST_NAMED: usize = 64;

/// A manifest that a signed document names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Named {
    /// Which backup of the same source.
    pub backup: BackupId,
    /// The digest of its manifest object.
    pub manifest_sha256: Digest,
}

/// What a new document names of all that is known, the newest first; not the backup itself that it is
/// of. Where a backup is known twice, what comes first counts.
#[must_use]
pub fn to_name(known: impl IntoIterator<Item = Named>, own: Option<&BackupId>) -> Vec<Named> {
    let mut newest = BTreeMap::new();
    for Named { backup, manifest_sha256 } in known {
        if own != Some(&backup) {
            newest.entry(backup).or_insert(manifest_sha256);
        }
    }
    let named = |(backup, manifest_sha256)| Named { backup, manifest_sha256 };
    newest.into_iter().rev().take(MOST_NAMED).map(named).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn the_newest_are_named_and_no_backup_names_itself() {
        let named = |n: u64| Named {
            backup: BackupId::new(Timestamp::UNIX_EPOCH, n),
            manifest_sha256: Digest([u8::try_from(n % 251).unwrap(); 32]),
        };
        let own = named(70).backup;
        let told = to_name((1..=70).map(named), Some(&own));
        assert_eq!(told.len(), MOST_NAMED);
        assert_eq!((&told[0], &told[63]), (&named(69), &named(6)));
        let other = Named { manifest_sha256: Digest([9; 32]), ..named(1) };
        assert_eq!(to_name([named(1), other], None), [named(1)]);
        assert!(to_name([], None).is_empty());
    }
}
