//! Mutations: of bytes, and of the words of JSON. Everything follows from a seed.

use std::ops::Range;

/// Numbers, deterministic: splitmix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A part of `length` bytes, never empty unless they are.
    fn part(&mut self, length: usize) -> Range<usize> {
        if length == 0 {
            return 0..0;
        }
        let start = self.below(length);
        // Mostly short.
        let most = if self.below(4) == 0 { length - start } else { (length - start).min(16) };
        start..start + 1 + self.below(most)
    }
}

/// Bytes that mean something to a parser of JSON, base64, age or zstd.
const ODD_BYTES: &[u8] = b"\0\xff\x80\"\\{}[],:=-+.eE0 \n\r\t/A\x7f";

/// Numbers at the edge of every type, and beyond.
const EXTREMES: &[&str] = &[
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "255",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "1e400",
    "-1e400",
    "1e-400",
    "0.1",
    "00",
    "1E999999999999",
    "NaN",
    "Infinity",
];

/// Texts that no field expects.
const ODD_TEXTS: &[&str] = &[
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"../../etc/passwd\"",
    "\"\\u202e\"",
    "null",
    "true",
    "{}",
    "[]",
    "[[]]",
    "{\"\":{}}",
    "\"-999999-01-01T00:00:00Z\"",
    "\"9999-12-31T23:59:60.999999999Z\"",
];

/// One to four mutations of one of `seeds`, spliced with others.
pub(crate) fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.pick(seeds).clone();
    // Every other input keeps the form of JSON, so that it gets past the parser.
    let formal = random.below(2) == 0;
    for _ in 0..1 + random.below(if formal { 2 } else { 4 }) {
        match random.below(3) {
            0 => bytes = structure(bytes, random),
            _ if formal => bytes = structure(bytes, random),
            _ => {
                let other: &Vec<u8> = random.pick(seeds);
                bytes = plainly(bytes, other, random);
            }
        }
    }
    bytes
}

fn plainly(mut bytes: Vec<u8>, other: &[u8], random: &mut Random) -> Vec<u8> {
    let part = random.part(bytes.len());
    if part.is_empty() {
        return other.to_vec();
    }
    let at = part.start;
    match random.below(9) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = *random.pick(ODD_BYTES),
        2 => bytes[at] = random.next().to_le_bytes()[0],
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(part)),
        5 => bytes.insert(at, *random.pick(ODD_BYTES)),
        6 => {
            let again = bytes[part].repeat(1 + random.below(64));
            bytes.splice(at..at, again);
        }
        7 => {
            let from = random.part(other.len());
            bytes.splice(part, other[from].iter().copied());
        }
        _ => {
            let moved: Vec<u8> = bytes.drain(part).collect();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, moved);
        }
    }
    bytes
}

/// Changes a word of a JSON text; any other text keeps its form.
fn structure(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    let words = words(&bytes);
    if words.is_empty() {
        return bytes;
    }
    let word = random.pick(&words).clone();
    let new = match random.below(9) {
        0 | 1 => random.pick(EXTREMES).as_bytes().to_vec(),
        2 => random.pick(ODD_TEXTS).as_bytes().to_vec(),
        3 => huge_text(random),
        4 => nested(random),
        5 => bytes[random.pick(&words).clone()].to_vec(),
        6 => return with_member_twice(bytes, &word),
        _ => return with_object_twice_or_gone(bytes, &word, random),
    };
    bytes.splice(word, new);
    bytes
}

fn huge_text(random: &mut Random) -> Vec<u8> {
    let length = *random.pick(&[100, 5_000, 70_000]);
    [b"\"", vec![b'a'; length].as_slice(), b"\""].concat()
}

fn nested(random: &mut Random) -> Vec<u8> {
    let depth = *random.pick(&[2, 120, 130, 20_000]);
    let (open, close) = *random.pick(&[("[", "]"), ("{\"a\":", "}"), ("[", "")]);
    [open.repeat(depth), "1".to_owned(), close.repeat(depth)].concat().into_bytes()
}

/// Writes the member that `word` is in once more: from the word to the next comma or end.
fn with_member_twice(mut bytes: Vec<u8>, word: &Range<usize>) -> Vec<u8> {
    let end = bytes[word.end..].iter().position(|b| matches!(b, b',' | b'}' | b']'));
    let end = end.map_or(bytes.len(), |length| word.end + length);
    let member = [&bytes[word.start..end], b","].concat();
    bytes.splice(word.start..word.start, member);
    bytes
}

/// Repeats or removes the object that `word` is in, with a comma.
fn with_object_twice_or_gone(
    mut bytes: Vec<u8>,
    word: &Range<usize>,
    random: &mut Random,
) -> Vec<u8> {
    let start = bytes[..word.start].iter().rposition(|b| *b == b'{');
    let end = bytes[word.end..].iter().position(|b| *b == b'}');
    let (Some(start), Some(length)) = (start, end) else { return bytes };
    let mut end = word.end + length + 1;
    if random.below(2) == 0 {
        let object = [&bytes[start..end], b","].concat();
        bytes.splice(start..start, object);
    } else {
        end += usize::from(bytes.get(end) == Some(&b','));
        bytes.drain(start..end);
    }
    bytes
}

/// Where the texts, numbers and literals of a JSON text are.
fn words(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        if bytes[at] == b'"' {
            at += 1;
            while at < bytes.len() && bytes[at] != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            at = (at + 1).min(bytes.len());
            found.push(start..at);
        } else if bytes[at].is_ascii_alphanumeric() || bytes[at] == b'-' {
            while at < bytes.len()
                && (bytes[at].is_ascii_alphanumeric() || b"-+.".contains(&bytes[at]))
            {
                at += 1;
            }
            found.push(start..at);
        } else {
            at += 1;
        }
    }
    found
}

#[test]
fn a_seed_gives_the_same_mutations() {
    // What it takes of the heap would count for a target.
    let _alone = crate::alone();
    let seeds = [br#"{"v": 1, "text": "a\"b", "list": [1, -2.5e3]}"#.to_vec()];
    let made = |seed| {
        let mut random = Random::new(seed);
        (0..100).map(|_| mutate(&seeds, &mut random)).collect::<Vec<_>>()
    };
    assert_eq!(made(7), made(7));
    assert_ne!(made(7), made(8));
    assert_eq!(words(&seeds[0]).len(), 7, "three names, a text and three numbers");
}
