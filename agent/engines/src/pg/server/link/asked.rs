//! Counts the requests in what is written to a server.

/// What ends a request: a query, the end of an extended one (Sync), the call of a function. Each is
/// answered with one ReadyForQuery at the end ("Message Flow" in PostgreSQL's documentation).
const REQUESTS: &[u8] = b"QSF";

/// The parts of an extended request, which its end is to follow; and the word that all ends, after which
/// the server closes the connection.
const PARTS: &[u8] = b"PBDECX";

/// Looks at the heads of messages to a server.
#[derive(Debug, Default)]
pub(super) struct Asked {
    head: Vec<u8>,
    /// Bytes of the message in hand that are still to be written.
    left: u64,
    /// Whether the first message, which has no tag, was written.
    started: bool,
    /// Whether a message waits to be written to its end.
    unwritten: bool,
    /// Whether parts of a request were written, and not its end.
    parts: bool,
}

impl Asked {
    /// Whether a request is begun that does not count yet.
    pub(super) fn is_begun(&self) -> bool {
        self.unwritten || self.parts
    }

    /// Notes that something is about to be written.
    pub(super) fn begin(&mut self) {
        self.unwritten = true;
    }

    /// How many requests end in what was written; `more` of it may wait to be.
    pub(super) fn look(&mut self, mut bytes: &[u8], more: bool) -> u64 {
        let mut requests = 0;
        while !bytes.is_empty() {
            if self.left == 0 {
                let wanted = if self.started { 5 } else { 4 };
                let n = (wanted - self.head.len()).min(bytes.len());
                self.head.extend_from_slice(&bytes[..n]);
                bytes = &bytes[n..];
                if self.head.len() < wanted {
                    break;
                }
                let length = self.head.last_chunk().map_or(4, |four| u32::from_be_bytes(*four));
                self.left = u64::from(length).saturating_sub(4);
            }
            let n = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.left -= n as u64;
            bytes = &bytes[n..];
            if self.left == 0 {
                requests += u64::from(self.end());
            }
        }
        self.unwritten = more || self.left > 0 || !self.head.is_empty();
        requests
    }

    /// A message was written to its end: whether it is one that is answered with ReadyForQuery.
    fn end(&mut self) -> bool {
        let tag = self.head.first().copied().unwrap_or_default();
        self.head.clear();
        let is_request = !std::mem::replace(&mut self.started, true) || REQUESTS.contains(&tag);
        self.parts = !is_request && (self.parts || PARTS.contains(&tag));
        is_request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: &[u8], body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [tag, &length, body].concat()
    }

    #[test]
    fn requests_are_counted_however_they_are_written() {
        let all = [
            message(b"", b"\0\x03\0\0user\0Q\0\0"),
            message(b"p", b"word"),
            message(b"Q", b"SELECT 'S'\0"),
            [message(b"P", b"\0SELECT\0\0\0"), message(b"D", b"S\0"), message(b"S", b"")].concat(),
            [message(b"C", b"Ss0\0"), message(b"S", b"")].concat(),
            [message(b"Q", b"COPY\0"), message(b"d", b"SSQQ"), message(b"c", b"")].concat(),
        ];
        let bytes = all.concat();
        for piece in 1..=bytes.len() {
            let mut asked = Asked::default();
            let mut written = 0;
            let count = |part: &[u8]| {
                written += part.len();
                asked.look(part, written < bytes.len())
            };
            assert_eq!(bytes.chunks(piece).map(count).sum::<u64>(), 5, "{piece}");
            assert!(!asked.is_begun(), "{piece}");
        }
    }

    #[test]
    fn what_has_no_end_yet_is_begun() {
        let mut asked = Asked::default();
        let mut write = |bytes: &[u8], more| (asked.look(bytes, more), asked.is_begun());
        assert_eq!(write(&message(b"", b"\0\x03\0\0"), false), (1, false));
        assert_eq!(write(b"Q\0\0", false), (0, true));
        assert_eq!(write(b"\0\x05\0", true), (1, true));
        assert_eq!(write(&message(b"P", b"x"), false), (0, true));
        assert_eq!(write(&message(b"H", b""), false), (0, true));
        assert_eq!(write(&message(b"S", b""), false), (1, false));
        // Behind the last word its end is due.
        assert_eq!(write(&message(b"X", b""), false), (0, true));
    }
}
