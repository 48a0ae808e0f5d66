//! Lengths of listed objects, against what is signed of them.

use drctl_model::{LogEntry, Position};
use drctl_store::MAX_PIECE_HEAD_BYTES;
use xxhash_rust::xxh3::Xxh3;

use super::listing::Range;

/// The lengths of the objects that were listed, in the order of their ranges; those that were
/// written more than once have none.
pub(super) struct Sizes(pub(super) Vec<(Range, u64)>);

impl Sizes {
    fn of(&self, range: Range) -> Option<u64> {
        let at = self.0.binary_search_by_key(&range, |(range, _)| *range).ok()?;
        Some(self.0[at].1)
    }

    /// What stands for those of pieces, in order: other lengths, or the same ones at other places,
    /// are told apart.
    pub(super) fn of_all<P: Position>(&self, entries: &[LogEntry<P>]) -> u64 {
        let (mut sizes, mut all) = (self.0.iter().peekable(), Xxh3::new());
        for entry in entries {
            while sizes.next_if(|(range, _)| *range < entry.place()).is_some() {}
            let same = sizes.next_if(|(range, _)| *range == entry.place());
            all.update(&same.map_or(0, |(_, bytes)| *bytes).to_le_bytes());
        }
        all.digest()
    }

    /// Whether an object is a head and a body of this length; where the head's is not known, whether
    /// it can be.
    pub(super) fn fits(&self, range: Range, sealed: u64, head: Option<u32>) -> bool {
        let most = MAX_PIECE_HEAD_BYTES as u64;
        let fits = |bytes: u64| {
            bytes.checked_sub(sealed).is_some_and(|left| match head {
                Some(head) => left == u64::from(head),
                None => left > 0 && left <= most,
            })
        };
        self.of(range).is_none_or(fits)
    }
}

#[cfg(test)]
mod tests {
    use drctl_model::LogAt;

    use super::*;

    #[test]
    fn a_length_is_the_signed_one_and_where_a_part_is_unknown_it_is_possible() {
        let range = (LogAt(0), LogAt(4));
        let most = MAX_PIECE_HEAD_BYTES as u64;
        for (bytes, head, fits) in [
            (110, Some(10), true),
            (109, Some(10), false),
            (111, Some(10), false),
            (99, Some(10), false),
            (101, None, true),
            (100 + most, None, true),
            (100, None, false),
            (101 + most, None, false),
        ] {
            let sizes = Sizes(vec![(range, bytes)]);
            assert_eq!(sizes.fits(range, 100, head), fits, "{bytes} {head:?}");
        }
        assert!(Sizes(Vec::new()).fits(range, 100, Some(10)), "no length is known");
    }
}
