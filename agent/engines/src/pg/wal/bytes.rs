/// Reads numbers one after the other, as a little-endian machine wrote them.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }
}

/// The first byte that is not zero.
pub(super) fn first_not_zero(bytes: &[u8]) -> Option<usize> {
    const STRIDE: usize = 256;
    let clean = |part: &[u8]| part.iter().fold(0, |all, byte| all | byte) == 0;
    let dirty = bytes.chunks(STRIDE).position(|part| !clean(part))?;
    let start = dirty * STRIDE;
    bytes[start..].iter().position(|byte| *byte != 0).map(|at| start + at)
}

/// The smaller of a number of bytes at hand and a number of bytes wanted.
pub(super) fn clamp(at_hand: usize, wanted: u64) -> usize {
    usize::try_from(wanted).map_or(at_hand, |wanted| wanted.min(at_hand))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_byte_that_is_not_zero() {
        for len in [0, 1, 255, 256, 257, 1000] {
            let mut bytes = vec![0; len];
            assert_eq!(first_not_zero(&bytes), None);
            for at in (0..len).rev() {
                bytes[at] = 1;
                assert_eq!(first_not_zero(&bytes), Some(at));
            }
        }
    }
}
