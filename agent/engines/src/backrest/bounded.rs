//! Bounds what another account's pgBackRest may have us keep.

use std::io::{self, BufRead as _, BufReader, Read};

/// The most bytes between two quotation marks of its JSON that begin or end a text: the longest path, and
/// more.
const APART: usize = 64 << 10;

/// A JSON text whose names, texts and numbers have bounds.
pub(super) struct Bounded<R: Read> {
    text: BufReader<R>,
    /// Bytes since the last quotation mark that begins or ends a text.
    since: usize,
    /// Whether the next byte is part of an escape (`\"`).
    escaped: bool,
}

impl<R: Read> Bounded<R> {
    pub(super) fn new(text: R) -> Self {
        Bounded { text: BufReader::new(text), since: 0, escaped: false }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let come = self.text.fill_buf()?;
        let n = come.len().min(buf.len());
        buf[..n].copy_from_slice(&come[..n]);
        self.text.consume(n);
        for byte in &buf[..n] {
            let is_mark = *byte == b'"' && !self.escaped;
            self.since = if is_mark { 0 } else { self.since + 1 };
            self.escaped = *byte == b'\\' && !self.escaped;
            if self.since > APART {
                let text = format!("{APART} bytes of it have no quotation mark");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_an_end_ends_with_an_error() {
        let read = |text: &[u8]| Bounded::new(text).read_to_end(&mut Vec::new());
        let long = vec![b'a'; APART];
        let whole = [&b"{\""[..], &long, b"\":\"", &long, b"\"}"].concat();
        assert_eq!(read(&whole).unwrap(), whole.len());
        assert!(read(&[&b"{\""[..], &long, b"a\"}"].concat()).is_err());
        // Escaped quotation marks end no text; a backslash that is escaped itself escapes none.
        let escaped = br#"\""#.repeat(APART / 2);
        assert_eq!(read(&[b"{\"", &escaped[..], b"\"}"].concat()).unwrap(), APART + 4);
        assert!(read(&[b"{\"", &escaped[..], b"a\"}"].concat()).is_err());
        let whole = [b"{\"", &br"\\".repeat(APART / 2)[..], b"\":\"", &long, b"\"}"].concat();
        assert_eq!(read(&whole).unwrap(), whole.len());
        assert!(Bounded::new(io::repeat(b'1')).read_to_end(&mut Vec::new()).is_err());
    }
}
