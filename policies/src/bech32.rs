const CHARSET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// Whether a text is an age recipient of the X25519 kind: `age1` and 58 characters of bech32
/// (BIP 173), the last 6 of them a checksum.
pub(crate) fn is_age_recipient(text: &str) -> bool {
    let Some(data) = text.strip_prefix("age1") else { return false };
    if data.len() != 58 {
        return false;
    }
    let value = |byte: u8| CHARSET.iter().position(|c| *c == byte).map(|at| at as u32);
    let Some(data) = data.bytes().map(value).collect::<Option<Vec<u32>>>() else { return false };
    let prefix = b"age";
    let high = prefix.iter().map(|b| u32::from(b >> 5));
    let low = prefix.iter().map(|b| u32::from(b & 31));
    checksum(high.chain([0]).chain(low).chain(data)) == 1
}

/// The polynomial of BIP 173 over values of 5 bits; 1 when the checksum holds.
fn checksum(values: impl Iterator<Item = u32>) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.fold(1, |sum, value| {
        let top = sum >> 25;
        let next = ((sum & 0x01ff_ffff) << 5) ^ value;
        (0..5).filter(|bit| (top >> bit) & 1 == 1).fold(next, |sum, bit| sum ^ GENERATOR[bit])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // From the age specification's examples and the tool's manual.
    const GOOD: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn a_typing_error_is_found() {
        assert!(is_age_recipient(GOOD));
        for at in 4..GOOD.len() {
            let mut text = GOOD.to_owned().into_bytes();
            text[at] = if text[at] == b'q' { b'p' } else { b'q' };
            assert!(!is_age_recipient(&String::from_utf8(text).unwrap()), "{at}");
        }
    }

    #[test]
    fn other_texts() {
        for text in ["", "age1", "AGE-SECRET-KEY-1", &GOOD.to_uppercase(), &format!("{GOOD}q")] {
            assert!(!is_age_recipient(text), "{text}");
        }
    }
}
