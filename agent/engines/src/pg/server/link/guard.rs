//! Sees each message of a server before anybody acts on it, and knows whether an answer is due.

use std::io;

use super::asked::Asked;

/// The most bytes of a message before the login has succeeded.
const LOGIN_BYTES: u32 = 64 << 10;

/// The most bytes of a message after it: WAL comes in pieces of 128 KiB, backups in such of 32 KiB,
/// and no answer to a question of ours is longer.
const MESSAGE_BYTES: u32 = 64 << 20;

/// The most bytes of a copied row: what a server can hold of one (`MaxAllocSize`), and its length.
const ROW_BYTES: u32 = (1 << 30) + 4;

/// The most bytes of an answer, but for copied data; each message of it counts as [`EACH`] more. A list of
/// a million tables has half as many.
const ANSWER_BYTES: u64 = 1 << 30;

/// What a message costs whoever keeps it, beside its bytes.
const EACH: u64 = 256;

/// The same of a column of a row, which may have no bytes at all.
const COLUMN: u64 = 24;

/// What a server may send for ever without an answer: notices, settings, notifications, its key, errors,
/// and what only announces that something follows.
const BESIDE: &[u8] = b"NSAKETtnsGHWc123Iv";

/// The words by which a refusal to give a password is known.
pub(crate) const WITHHELD: &str = "the password was not sent";

/// What some bytes of a server are to whoever waits for an answer; the greatest of them counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    /// Nothing: words beside the answer.
    Beside,
    /// Part of it.
    Answer,
    /// Its end, or copied data, which may go on for as long as there is some.
    EndOrCopy,
}

/// What a server copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copies {
    /// Nothing.
    Nothing,
    /// Data to us.
    Out,
    /// Data to us, and we to it: a stream of WAL.
    Both,
}

/// Looks at the heads of messages.
pub(super) struct Guard {
    head: Vec<u8>,
    /// Bytes of the message in hand that are still to come.
    left: u64,
    logged_in: bool,
    asked: Asked,
    /// Requests whose answers have not come to their end. One flag would not do: the end of an earlier
    /// answer may come after the next request was written.
    due: u64,
    /// What the message in hand is.
    is: Seen,
    /// What the answer in hand has cost so far.
    cost: u64,
    /// Whether copied rows are only counted, and may be long.
    long_rows: bool,
    /// What the server copies to us now: data are nothing else's answer.
    copies: Copies,
    /// Whether it is proven who asks.
    proven: bool,
}

impl Guard {
    pub(super) fn new(proven: bool) -> Self {
        let head = Vec::with_capacity(9);
        let asked = Asked::default();
        Guard {
            head,
            left: 0,
            logged_in: false,
            asked,
            due: 0,
            is: Seen::Beside,
            cost: 0,
            long_rows: false,
            copies: Copies::Nothing,
            proven,
        }
    }

    /// Copied rows may be as long as a server has them: nobody keeps them.
    pub(super) fn bears_long_rows(&mut self) {
        self.long_rows = true;
    }

    /// Whether the server waits for us.
    pub(super) fn is_ready(&self) -> bool {
        self.logged_in && self.due == 0 && !self.asked.is_begun()
    }

    /// Notes that something is about to be written.
    pub(super) fn asks(&mut self) {
        self.asked.begin();
    }

    /// Notes what was written.
    pub(super) fn asked(&mut self, bytes: &[u8], more: bool) {
        self.due += self.asked.look(bytes, more);
    }

    /// Looks at what has come, and tells what it is; an error where the one behind it must not be let in.
    pub(super) fn look(&mut self, mut bytes: &[u8]) -> io::Result<Seen> {
        let mut seen = Seen::Beside;
        while !bytes.is_empty() {
            if self.left > 0 {
                seen = seen.max(self.is);
                let n =
                    usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.left -= n as u64;
                bytes = &bytes[n..];
                continue;
            }
            let wanted = match (self.head.first().or(bytes.first()), self.logged_in) {
                (Some(b'R'), false) => 9,
                // How many columns a row has.
                (Some(b'D'), true) => 7,
                _ => 5,
            };
            let n = (wanted - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.head.len() == wanted {
                self.begin()?;
                if self.left == 0 && self.is != Seen::EndOrCopy {
                    seen = seen.max(self.is);
                }
            }
        }
        Ok(seen)
    }

    fn begin(&mut self) -> io::Result<()> {
        let number = |at: usize| {
            let four = self.head.get(at..at + 4).and_then(|four| four.try_into().ok());
            four.map(u32::from_be_bytes)
        };
        let length = number(1).unwrap_or_default();
        let tag = self.head[0];
        let limit = match tag {
            b'd' if self.logged_in && self.long_rows => ROW_BYTES,
            _ if self.logged_in => MESSAGE_BYTES,
            _ => LOGIN_BYTES,
        };
        let behind = (u64::from(length) + 1).checked_sub(self.head.len() as u64);
        let Some(left) = behind.filter(|_| length <= limit) else {
            return Err(wrong(format!("the server sends a message of {length} bytes")));
        };
        // 3 asks for the password itself, 5 for a digest that is as good as it.
        if matches!(number(5), Some(3 | 5)) && !self.proven {
            let text = format!(
                "the server asks for the password in clear text or as MD5, and nothing proves who \
                 it is: {WITHHELD}"
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        match tag {
            b'Z' => self.answered()?,
            b'd' if self.copies != Copies::Nothing => {}
            b'd' => return Err(wrong("the server sends data where it copies nothing".to_owned())),
            b'D' => {
                let columns = self.head.get(5..7).and_then(|two| two.try_into().ok());
                let columns = u64::from(columns.map_or(0, u16::from_be_bytes));
                self.cost += u64::from(length) + EACH + columns * COLUMN;
            }
            _ => self.cost += u64::from(length) + EACH,
        }
        match tag {
            b'H' => self.copies = Copies::Out,
            b'W' => self.copies = Copies::Both,
            // Behind its own end a walsender still answers what it is asked, until it hears ours.
            b'c' if self.copies == Copies::Both => {}
            b'c' | b'T' | b'C' | b'E' | b'Z' => self.copies = Copies::Nothing,
            _ => {}
        }
        if self.cost > ANSWER_BYTES {
            let text = format!("its answer would take more than {ANSWER_BYTES} bytes of memory");
            return Err(wrong(text));
        }
        self.is = match tag {
            b'Z' | b'd' => Seen::EndOrCopy,
            tag if BESIDE.contains(&tag) => Seen::Beside,
            _ => Seen::Answer,
        };
        self.left = left;
        self.head.clear();
        Ok(())
    }

    /// An answer has come to its end. One that nobody has asked for would be taken for the end of a later one.
    fn answered(&mut self) -> io::Result<()> {
        if self.logged_in && self.due == 0 {
            return Err(wrong("the server ends an answer that nobody has asked for".to_owned()));
        }
        self.logged_in = true;
        self.due = self.due.saturating_sub(1);
        self.cost = 0;
        Ok(())
    }
}

fn wrong(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag][..], &length, body].concat()
    }

    fn look(proven: bool, bytes: &[u8], piece: usize) -> io::Result<Guard> {
        let mut guard = Guard::new(proven);
        bytes.chunks(piece).try_for_each(|piece| guard.look(piece).map(drop))?;
        Ok(guard)
    }

    #[test]
    fn a_password_is_asked_for_by_those_alone_who_are_proven() {
        for (code, asks) in [(0_u32, false), (3, true), (5, true), (10, false)] {
            let bytes = message(b'R', &[&code.to_be_bytes()[..], b"salt"].concat());
            for piece in [1, 4, 100] {
                assert!(look(true, &bytes, piece).is_ok());
                let error = look(false, &bytes, piece).err();
                assert_eq!(error.is_some(), asks, "{code}");
                assert!(error.is_none_or(|error| error.to_string().contains(WITHHELD)));
            }
        }
    }

    #[test]
    fn messages_are_bounded() {
        let long = [&[b'E'][..], &(2_000_000_000_u32).to_be_bytes()].concat();
        assert!(look(true, &long, 100).is_err());
        let welcome = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
        let after = |length: u32| [&welcome[..], b"D", &length.to_be_bytes(), b"\0\0"].concat();
        assert!(look(true, &after(LOGIN_BYTES * 2), 3).is_ok());
        assert!(look(true, &after(MESSAGE_BYTES + 1), 3).is_err());
        assert!(look(true, b"Z\0\0\0\x03", 3).is_err());
    }

    #[test]
    fn what_is_said_beside_an_answer_is_none() {
        let mut guard = Guard::new(true);
        assert_eq!(guard.look(&message(b'R', &[0; 4])).unwrap(), Seen::Answer, "a login goes on");
        for tag in BESIDE {
            let seen = guard.look(&message(*tag, b"words")).unwrap();
            assert_eq!(seen, Seen::Beside, "{}", char::from(*tag));
        }
        let _ = guard.look(&message(b'H', b"\0\0\0")).unwrap();
        for (tags, is) in [(&b"dZ"[..], Seen::EndOrCopy), (b"CD", Seen::Answer)] {
            for tag in tags {
                let data = message(*tag, b"\0\0row");
                assert_eq!(guard.look(&data[..5]).unwrap(), Seen::Beside, "only announced");
                assert_eq!(guard.look(&data[5..]).unwrap(), is, "{}", char::from(*tag));
            }
        }
        let _ = guard.look(&message(b'H', b"\0\0\0")).unwrap();
        assert_eq!(guard.look(&message(b'd', b"")).unwrap(), Seen::Beside, "nothing is copied");
    }

    #[test]
    fn a_server_waits_when_it_has_answered_all_that_was_asked() {
        let ready = message(b'Z', b"I");
        let login = [message(b'R', &[0; 4]), ready.clone()].concat();
        let ask = |guard: &mut Guard, bytes: &[u8]| {
            guard.asks();
            guard.asked(bytes, false);
        };
        let mut guard = Guard::new(true);
        ask(&mut guard, b"\0\0\0\x08\0\x03\0\0");
        assert!(!guard.is_ready(), "a login is due");
        for piece in login.chunks(2) {
            guard.look(piece).unwrap();
        }
        assert!(guard.is_ready());

        guard.asks();
        assert!(!guard.is_ready(), "nothing of it may be taken");
        for answered in 0..3 {
            ask(&mut guard, &message(b'Q', b"select\0"));
            assert!(!guard.is_ready(), "{answered}");
        }
        for left in (0..3).rev() {
            guard.look(&[message(b'T', b""), ready.clone()].concat()).unwrap();
            assert_eq!(guard.is_ready(), left == 0, "{left}");
        }
        // One that nobody has asked for would stand for a later one.
        assert!(guard.look(&ready).is_err());
    }

    #[test]
    fn an_answer_is_bounded_and_copied_data_are_not() {
        let welcomed = || {
            let mut guard = Guard::new(true);
            guard.asked(b"\0\0\0\x08\0\x03\0\0", false);
            guard.look(&[message(b'R', &[0; 4]), message(b'Z', b"I")].concat()).unwrap();
            guard
        };
        let (row, bytes) = (message(b'D', &[0; 1 << 20]), message(b'd', &[0; 1 << 20]));
        let wide = message(b'D', &[&b"\x06\x40"[..], &[0xff; 6400]].concat());
        for (kind, most) in [(&row, Some(1023)), (&bytes, None), (&wide.repeat(100), Some(238))] {
            let mut guard = welcomed();
            guard.look(&message(b'H', b"\0\0\0")).unwrap();
            let borne = (0..1200).find(|_| guard.look(kind).is_err());
            assert_eq!(borne, most, "{}", char::from(kind[0]));
        }
        let mut guard = welcomed();
        let tiny: Vec<u8> = message(b'D', &[0; 2]).repeat(1000);
        let borne = (0..1_000_000).find(|_| guard.look(&tiny).is_err()).unwrap();
        assert!((4_000..4_200).contains(&borne), "{borne} thousand rows of nothing");
        // Each answer has its own measure.
        let mut guard = welcomed();
        for _ in 0..3 {
            guard.asked(&message(b'Q', b"select\0"), false);
            (0..600).for_each(|_| assert!(guard.look(&row).is_ok()));
            guard.look(&message(b'Z', b"I")).unwrap();
        }
    }

    #[test]
    fn data_are_the_answer_of_a_copy_and_of_nothing_else() {
        let welcome = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
        let data = message(b'd', b"x");
        for (before, good) in [
            (vec![], false),
            (message(b'T', b""), false),
            (message(b'H', b""), true),
            (message(b'W', b""), true),
            ([message(b'H', b""), data.clone(), message(b'N', b"")].concat(), true),
            ([message(b'H', b""), message(b'c', b"")].concat(), false),
            ([message(b'H', b""), message(b'E', b"")].concat(), false),
            ([message(b'W', b""), message(b'c', b"")].concat(), true),
            ([message(b'W', b""), message(b'C', b"")].concat(), false),
            ([message(b'W', b""), message(b'c', b""), message(b'T', b"")].concat(), false),
        ] {
            let mut guard = Guard::new(true);
            guard.look(&welcome).unwrap();
            guard.look(&before).unwrap();
            assert_eq!(guard.look(&data).is_ok(), good, "{}", before.escape_ascii());
        }
        assert!(Guard::new(true).look(&data).is_err(), "before the login");
    }

    #[test]
    fn a_row_that_is_only_counted_may_be_as_long_as_a_server_has_it() {
        let head = |tag: &[u8], length: u32| [tag, &length.to_be_bytes()].concat();
        let welcome = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
        for (counted, tag, length, good) in [
            (false, b"d", MESSAGE_BYTES, true),
            (false, b"d", MESSAGE_BYTES + 1, false),
            (true, b"d", ROW_BYTES, true),
            (true, b"d", ROW_BYTES + 1, false),
            (true, b"D", MESSAGE_BYTES + 1, false),
        ] {
            let mut guard = Guard::new(true);
            if counted {
                guard.bears_long_rows();
            }
            assert!(guard.look(&head(tag, LOGIN_BYTES + 1)).is_err(), "not before the login");
            let mut guard = Guard { head: Vec::new(), ..guard };
            guard.look(&welcome).unwrap();
            guard.look(&message(b'H', b"\0\0\0")).unwrap();
            assert_eq!(
                guard.look(&[&head(tag, length)[..], b"\0\0"].concat()).is_ok(),
                good,
                "{counted} {tag:?} {length}"
            );
        }
    }
}
