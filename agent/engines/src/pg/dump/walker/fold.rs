//! Digests of what flows past: of each row, each large object and each name, added up, so that their order does
//! not matter. SipHash-2-4 with 128 bits of output and a secret key.

use std::hash::Hasher as _;

use drctl_model::{RowDigest, RowKey};
use siphasher::sip128::{Hasher128 as _, SipHasher24};

/// The line that ends the rows of a table.
const END: &[u8] = b"\\.";

/// Digests the parts of one thing, each with its length before it: other parts give another digest.
pub(super) fn of_parts(key: RowKey, parts: &[&[u8]]) -> u128 {
    let mut hasher = SipHasher24::new_with_key(&key.0);
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    finish(&hasher)
}

fn finish(hasher: &SipHasher24) -> u128 {
    u128::from_le_bytes(hasher.finish128().as_bytes())
}

/// What a block of data is folded into.
#[derive(Debug, Default)]
pub(super) enum Fold {
    /// Nothing is digested.
    #[default]
    Off,
    /// Rows of a table, each of which is a line.
    Rows(Rows),
    /// One large object after the other.
    Object(Box<SipHasher24>),
}

impl Fold {
    pub(super) fn rows(key: Option<RowKey>) -> Self {
        key.map_or(Fold::Off, |key| Fold::Rows(Rows::new(key)))
    }

    /// Begins a large object.
    pub(super) fn object(key: Option<RowKey>, oid: i64) -> Self {
        let Some(key) = key else { return Fold::Off };
        let mut hasher = Box::new(SipHasher24::new_with_key(&key.0));
        hasher.write(&oid.to_le_bytes());
        Fold::Object(hasher)
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        match self {
            Fold::Off => {}
            Fold::Rows(rows) => rows.push(bytes),
            Fold::Object(hasher) => hasher.write(bytes),
        }
    }

    /// The digest of the large object that ends here.
    pub(super) fn end_object(&mut self) -> Option<u128> {
        match std::mem::take(self) {
            Fold::Object(hasher) => Some(finish(&hasher)),
            Fold::Off | Fold::Rows(_) => None,
        }
    }

    /// Of the rows that ended before.
    pub(super) fn digest(&self) -> Option<RowDigest> {
        match self {
            Fold::Rows(rows) => Some(rows.digest),
            Fold::Off | Fold::Object(_) => None,
        }
    }
}

/// The rows of a table, in pieces of any size.
#[derive(Debug)]
pub(super) struct Rows {
    key: RowKey,
    digest: RowDigest,
    /// A row of which only the beginning has come.
    begun: Option<Begun>,
    /// Whether the line that ends them has come.
    ended: bool,
}

#[derive(Debug)]
struct Begun {
    hasher: SipHasher24,
    /// Its first bytes, of which more than the end's are not needed.
    first: Vec<u8>,
}

impl Rows {
    fn new(key: RowKey) -> Self {
        Rows { key, digest: RowDigest::default(), begun: None, ended: false }
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while !self.ended {
            let Some(end) = memchr::memchr(b'\n', bytes) else { break };
            self.row(&bytes[..end]);
            bytes = &bytes[end + 1..];
        }
        if !self.ended && !bytes.is_empty() {
            let key = &self.key.0;
            let new = || Begun { hasher: SipHasher24::new_with_key(key), first: Vec::new() };
            self.begun.get_or_insert_with(new).push(bytes);
        }
    }

    /// The rest of a row, or all of it.
    fn row(&mut self, bytes: &[u8]) {
        let digest = match self.begun.take() {
            None if bytes == END => None,
            None => {
                let mut hasher = SipHasher24::new_with_key(&self.key.0);
                hasher.write(bytes);
                Some(finish(&hasher))
            }
            Some(mut begun) => {
                begun.push(bytes);
                (begun.first != END).then(|| finish(&begun.hasher))
            }
        };
        match digest {
            Some(digest) => self.digest.add(digest),
            None => self.ended = true,
        }
    }
}

impl Begun {
    fn push(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
        let room = (END.len() + 1).saturating_sub(self.first.len());
        self.first.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: RowKey = RowKey([7; 16]);

    fn digest(pieces: &[&[u8]]) -> RowDigest {
        let mut fold = Fold::rows(Some(KEY));
        pieces.iter().for_each(|piece| fold.push(piece));
        fold.digest().unwrap()
    }

    #[test]
    fn the_digest_is_that_of_the_published_function() {
        // The first two of vectors_sip128 in the reference implementation: key 00 01 … 0f, input 00 01 ….
        let key: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let of = |input: &[u8]| {
            let mut hasher = SipHasher24::new_with_key(&key);
            hasher.write(input);
            finish(&hasher).to_le_bytes()
        };
        assert_eq!(of(&[])[..4], [0xa3, 0x81, 0x7f, 0x04]);
        assert_eq!(of(&[0])[..4], [0xda, 0x87, 0xc1, 0xd8]);
    }

    #[test]
    fn rows_in_another_order_are_the_same_and_other_rows_are_not() {
        let of = |text: &[u8]| digest(&[text]);
        assert_eq!(of(b"1\ta\n2\tb\n\\.\n\n\n"), of(b"2\tb\n1\ta\n\\.\n\n\n"));
        for other in [
            &b"1\ta\n\\.\n\n\n"[..],
            b"1\ta\n2\tb\n2\tb\n\\.\n\n\n",
            b"1\tb\n2\ta\n\\.\n\n\n",
            b"1\ta\n2\tB\n\\.\n\n\n",
            b"1\ta\n2\t\\N\n\\.\n\n\n",
            b"\n1\ta\n2\tb\n\\.\n\n\n",
        ] {
            assert_ne!(of(b"1\ta\n2\tb\n\\.\n\n\n"), of(other), "{}", other.escape_ascii());
        }
        // Another key, another digest.
        let mut fold = Fold::rows(Some(RowKey([8; 16])));
        fold.push(b"1\ta\n2\tb\n\\.\n\n\n");
        assert_ne!(fold.digest(), Some(of(b"1\ta\n2\tb\n\\.\n\n\n")));
    }

    #[test]
    fn an_object_is_its_number_and_its_bytes() {
        let of = |oid, pieces: &[&[u8]]| {
            let mut fold = Fold::object(Some(KEY), oid);
            pieces.iter().for_each(|piece| fold.push(piece));
            fold.end_object().unwrap()
        };
        assert_eq!(of(1, &[b"ab", b"c"]), of(1, &[b"abc"]));
        assert_ne!(of(1, &[b"abc"]), of(2, &[b"abc"]));
        assert_ne!(of(1, &[b"abc"]), of(1, &[b"abd"]));
        assert_eq!(Fold::object(None, 1).end_object(), None);
    }

    #[test]
    fn parts_are_kept_apart() {
        assert_ne!(of_parts(KEY, &[b"ab", b"c"]), of_parts(KEY, &[b"a", b"bc"]));
        assert_eq!(of_parts(KEY, &[b"ab", b"c"]), of_parts(KEY, &[b"ab", b"c"]));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            rows in prop::collection::vec("[a-c\\\\.\t]{0,4}", 0..8),
            cuts in prop::collection::vec(0_usize..64, 0..8),
        ) {
            let text: Vec<u8> = rows.iter().flat_map(|row| [row.as_bytes(), b"\n"].concat()).collect();
            let text = [text, b"\\.\n\n\n".to_vec()].concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            prop_assert_eq!(digest(&pieces), digest(&[&text]));
        }
    }
}
