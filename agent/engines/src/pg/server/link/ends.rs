//! Of rows that a server copies out, their ends: whoever counts them has no use for their bytes, and a
//! row may be as long as a server's memory allows.

use std::io;
use std::task::{Poll, ready};

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::ReadBuf;

/// How much is read at once.
const PIECE: usize = 64 << 10;

/// How many ends are handed on in one message.
const ENDS: u32 = 16 << 10;

/// What is handed on.
#[derive(Default)]
pub(super) struct Ends {
    piece: Vec<u8>,
    out: BytesMut,
    head: Vec<u8>,
    /// Bytes of the message in hand that are still to come.
    left: usize,
    /// Whether that is copied data.
    copied: bool,
    /// The ends in it that were not handed on yet.
    ends: usize,
}

impl Ends {
    /// Reads by `read` until there is something to hand on, or nothing comes any more.
    pub(super) fn poll_fill(
        &mut self,
        mut read: impl FnMut(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        while self.out.is_empty() {
            let mut piece = std::mem::take(&mut self.piece);
            piece.resize(PIECE, 0);
            let mut buffer = ReadBuf::new(&mut piece);
            let came = read(&mut buffer);
            let n = buffer.filled().len();
            self.take(&piece[..n]);
            self.piece = piece;
            ready!(came)?;
            if n == 0 {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Hands on as much as there is room for.
    pub(super) fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.out.len().min(buf.remaining());
        buf.put_slice(&self.out[..n]);
        self.out.advance(n);
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let n = (5 - self.head.len()).min(bytes.len());
                self.head.extend_from_slice(&bytes[..n]);
                bytes = &bytes[n..];
                if self.head.len() == 5 {
                    self.begin();
                }
                continue;
            }
            let n = self.left.min(bytes.len());
            let (part, rest) = bytes.split_at(n);
            if self.copied {
                self.ends += part.iter().filter(|byte| **byte == b'\n').count();
            } else {
                self.out.put_slice(part);
            }
            self.left -= n;
            bytes = rest;
        }
        self.tell();
    }

    fn begin(&mut self) {
        let length = self.head.last_chunk().map_or(4, |four| u32::from_be_bytes(*four));
        self.left = (length as usize).saturating_sub(4);
        self.copied = self.head.first() == Some(&b'd');
        if !self.copied {
            self.tell();
            self.out.put_slice(&self.head);
        }
        self.head.clear();
    }

    /// Hands on the ends that were seen, as copied data.
    fn tell(&mut self) {
        while self.ends > 0 {
            let n = u32::try_from(self.ends).map_or(ENDS, |ends| ends.min(ENDS));
            self.out.put_u8(b'd');
            self.out.put_u32(n + 4);
            self.out.put_bytes(b'\n', n as usize);
            self.ends -= n as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag][..], &length, body].concat()
    }

    /// What is handed on of bytes that come in such pieces, into so much room.
    fn handed_on(bytes: &[u8], piece: usize, room: usize) -> Vec<u8> {
        let (mut ends, mut pieces, mut out) = (Ends::default(), bytes.chunks(piece), Vec::new());
        loop {
            let filled = ends.poll_fill(|buffer| {
                buffer.put_slice(pieces.next().unwrap_or_default());
                Poll::Ready(Ok(()))
            });
            assert!(matches!(filled, Poll::Ready(Ok(()))));
            let mut memory = vec![0; room];
            let mut buffer = ReadBuf::new(&mut memory);
            ends.hand_on(&mut buffer);
            if buffer.filled().is_empty() {
                return out;
            }
            out.extend_from_slice(buffer.filled());
        }
    }

    /// The tags, the bytes of what is no copied data, and the ends in what is.
    fn read(mut bytes: &[u8]) -> (Vec<u8>, usize) {
        let (mut others, mut ends) = (Vec::new(), 0);
        while let [tag, a, b, c, d, ..] = *bytes {
            let whole = u32::from_be_bytes([a, b, c, d]) as usize + 1;
            if tag == b'd' {
                assert!(bytes[5..whole].iter().all(|byte| *byte == b'\n'));
                ends += whole - 5;
            } else {
                others.extend_from_slice(&bytes[..whole]);
            }
            bytes = &bytes[whole..];
        }
        assert!(bytes.is_empty());
        (others, ends)
    }

    #[test]
    fn of_copied_rows_their_ends_are_handed_on_and_all_else_as_it_is() {
        let before = [message(b'R', &[0; 4]), message(b'Z', b"I"), message(b'H', b"\0\0\0")];
        let rows = [
            message(b'd', b"1\tone\n"),
            message(b'd', b"\n"),
            message(b'd', b""),
            message(b'd', &[&[b'x'; 3 * PIECE][..], b"\n"].concat()),
            message(b'N', b"a\nword"),
            message(b'd', &[b'\n'; ENDS as usize + 1]),
        ];
        let after = [message(b'c', b""), message(b'C', b"COPY\0"), message(b'Z', b"T")];
        let bytes = [before.concat(), rows.concat(), after.concat()].concat();
        let others = [before.concat(), rows[4].clone(), after.concat()].concat();
        for piece in [1, 2, 3, 4, 5, 6, 7, 1000, PIECE] {
            for room in [1, 5, 1 << 20] {
                let found = read(&handed_on(&bytes, piece, room));
                assert_eq!(found, (others.clone(), ENDS as usize + 4), "{piece} {room}");
            }
        }
    }

    #[test]
    fn a_long_row_is_never_held() {
        let mut ends = Ends::default();
        ends.take(&[&b"d"[..], &(1_u32 << 30).to_be_bytes()].concat());
        for _ in 0..1 << 10 {
            ends.take(&[b'x'; PIECE]);
        }
        assert!(ends.out.capacity() < PIECE && ends.piece.capacity() <= PIECE);
    }
}
