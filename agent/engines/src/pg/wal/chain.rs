//! Records one after the other, across pages.

use drctl_model::Lsn;

use super::bytes::clamp;
use super::error::WalError;
use super::page::{Opening, Version};
use super::record::{Body, Finished, HEADER, Header, MAX_LENGTH, Meaning};

/// `MAXIMUM_ALIGNOF`: records begin at multiples of it.
const ALIGNMENT: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Before any page, nothing is known.
    Unknown,
    /// A record begins here.
    Between,
    Header,
    Body,
    /// What is left of a record that began before the walk.
    Foreign,
    /// Bytes up to the next record, as many as are left.
    Padding,
}

/// What the next record must give up (`CreateOverwriteContrecordRecord` in `xlog.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Nothing,
    /// A record that began before the walk.
    Foreign,
    At(Lsn),
}

/// What came of some bytes.
#[derive(Debug)]
pub(super) enum Event {
    /// So many were taken.
    Took(usize),
    /// So many were taken, and with them a record ended.
    Record(usize, Finished),
    /// So many were taken, and there is no record where one should begin.
    Ended(usize, Lsn),
}

/// Checks that records follow each other.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    part: Part,
    /// Bytes that are missing of a body, of a foreign record or of the padding.
    left: u32,
    prev: Option<Lsn>,
    lost: Lost,
    at: Lsn,
    raw: [u8; HEADER],
    filled: usize,
    header: Option<Header>,
    crc: u32,
    body: Option<Body>,
}

impl Chain {
    pub(super) fn new() -> Self {
        Chain {
            part: Part::Unknown,
            left: 0,
            prev: None,
            lost: Lost::Nothing,
            at: Lsn(0),
            raw: [0; HEADER],
            filled: 0,
            header: None,
            crc: 0,
            body: None,
        }
    }

    /// Whether a record has begun that did not end yet.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.part, Part::Header | Part::Body | Part::Foreign)
    }

    /// Bytes of a record that are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.body.as_ref().map_or(0, Body::held)
    }

    /// Goes on after the header of the page that lies at `page`.
    pub(super) fn begin_page(&mut self, page: Lsn, opening: Opening) -> Result<(), WalError> {
        match opening {
            Opening::Overwrites => self.give_up(page),
            Opening::Continues(found) if self.part == Part::Unknown => {
                if found > MAX_LENGTH {
                    return Err(WalError::Length { at: page, len: found });
                }
                (self.part, self.left) = (Part::Foreign, found);
                Ok(())
            }
            Opening::Continues(found) => self.go_on(page, found),
            Opening::Fresh => self.go_on(page, 0),
        }
    }

    fn go_on(&mut self, at: Lsn, found: u32) -> Result<(), WalError> {
        let expected = self.missing();
        if found != expected {
            return Err(WalError::Continuation { at, found, expected });
        }
        if self.part == Part::Unknown {
            self.part = Part::Between;
        }
        Ok(())
    }

    fn give_up(&mut self, at: Lsn) -> Result<(), WalError> {
        self.lost = match self.part {
            Part::Unknown | Part::Foreign => Lost::Foreign,
            Part::Header | Part::Body => Lost::At(self.at),
            Part::Between | Part::Padding => return Err(WalError::Overwrite { at }),
        };
        self.body = None;
        self.part = Part::Between;
        Ok(())
    }

    /// Bytes that are missing of the record that is open. The first four of a record lie in one
    /// page, so its length is known wherever a page ends.
    fn missing(&self) -> u32 {
        match self.part {
            Part::Header => {
                self.length().saturating_sub(u32::try_from(self.filled).unwrap_or_default())
            }
            Part::Body | Part::Foreign => self.left,
            Part::Unknown | Part::Between | Part::Padding => 0,
        }
    }

    /// `xl_tot_len`, which comes first.
    fn length(&self) -> u32 {
        u32::from_le_bytes([self.raw[0], self.raw[1], self.raw[2], self.raw[3]])
    }

    /// Takes bytes of one page, from `at` on.
    pub(super) fn take(
        &mut self,
        at: Lsn,
        bytes: &[u8],
        version: Version,
    ) -> Result<Event, WalError> {
        match self.part {
            Part::Unknown | Part::Between => {
                (self.at, self.filled, self.part) = (at, 0, Part::Header);
                self.take_header(at, bytes, version)
            }
            Part::Header => self.take_header(at, bytes, version),
            Part::Body => self.take_body(at, bytes),
            Part::Foreign => {
                let n = self.take_left(bytes);
                if self.left == 0 {
                    self.pad(at.plus(n as u64));
                }
                Ok(Event::Took(n))
            }
            Part::Padding => {
                let n = self.take_left(bytes);
                if self.left == 0 {
                    self.part = Part::Between;
                }
                Ok(Event::Took(n))
            }
        }
    }

    fn take_left(&mut self, bytes: &[u8]) -> usize {
        let n = clamp(bytes.len(), self.left.into());
        self.left = self.left.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
        n
    }

    /// Makes ready for the next record, after one that ended at `end`.
    fn pad(&mut self, end: Lsn) -> Lsn {
        let odd = end.0 % ALIGNMENT;
        let padding = if odd == 0 { 0 } else { ALIGNMENT - odd };
        self.left = u32::try_from(padding).unwrap_or_default();
        self.part = if padding == 0 { Part::Between } else { Part::Padding };
        end.plus(padding)
    }

    fn take_header(&mut self, at: Lsn, bytes: &[u8], version: Version) -> Result<Event, WalError> {
        let n = match bytes.first_chunk::<HEADER>() {
            Some(whole) if self.filled == 0 => {
                self.raw = *whole;
                HEADER
            }
            _ => {
                // The length alone first: where it is 0, what follows is no part of a record.
                let goal = if self.filled < 4 { 4 } else { HEADER };
                let n = bytes.len().min(goal - self.filled);
                self.raw[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
                n
            }
        };
        self.filled += n;
        if self.filled < 4 {
            return Ok(Event::Took(n));
        }
        match self.length() {
            0 => return self.nothing_here(n),
            24..=MAX_LENGTH => {}
            len => return Err(WalError::Length { at: self.at, len }),
        }
        if self.filled < HEADER {
            return Ok(Event::Took(n));
        }
        self.open_body(version)?;
        if self.left > 0 {
            return Ok(Event::Took(n));
        }
        Ok(Event::Record(n, self.end(at.plus(n as u64))?))
    }

    /// All bytes up to the fourth are zero; those behind are left to be looked at.
    fn nothing_here(&mut self, n: usize) -> Result<Event, WalError> {
        if self.lost != Lost::Nothing {
            return Err(WalError::Overwrite { at: self.at });
        }
        self.part = Part::Between;
        Ok(Event::Ended(if n == HEADER { 0 } else { n }, self.at))
    }

    fn open_body(&mut self, version: Version) -> Result<(), WalError> {
        let impossible = WalError::Length { at: self.at, len: self.length() };
        let header = Header::parse(&self.raw).ok_or(impossible)?;
        let (at, found) = (self.at, header.prev);
        match self.prev {
            Some(expected) if found != expected => {
                return Err(WalError::BackLink { at, found, expected });
            }
            None if found >= at => return Err(WalError::BackLinkAhead { at, found }),
            _ => {}
        }
        self.left = header.len.saturating_sub(24);
        self.crc = 0;
        self.body = header.body(version.stats_item);
        self.header = Some(header);
        self.part = Part::Body;
        Ok(())
    }

    fn take_body(&mut self, at: Lsn, bytes: &[u8]) -> Result<Event, WalError> {
        let n = self.take_left(bytes);
        self.crc = crc32c::crc32c_append(self.crc, &bytes[..n]);
        if let Some(body) = &mut self.body {
            body.take(&bytes[..n]);
        }
        if self.left > 0 {
            return Ok(Event::Took(n));
        }
        Ok(Event::Record(n, self.end(at.plus(n as u64))?))
    }

    /// Ends the record in hand, which ended at `end`.
    fn end(&mut self, end: Lsn) -> Result<Finished, WalError> {
        let at = self.at;
        let header = self.header.take().filter(|header| header.matches(&self.raw, self.crc));
        let header = header.ok_or(WalError::Crc { at })?;
        let meaning = match self.body.take() {
            Some(body) => {
                body.end(header.xid).map_err(|problem| WalError::Record { at, problem })?
            }
            None => Meaning::Other,
        };
        let given_up = match (self.lost, &meaning) {
            (Lost::Nothing, Meaning::Overwrite { .. }) => false,
            (Lost::Nothing, _) | (Lost::Foreign, Meaning::Overwrite { .. }) => true,
            (Lost::At(open), Meaning::Overwrite { lost }) => open == *lost,
            _ => false,
        };
        if !given_up {
            return Err(WalError::Overwrite { at });
        }
        self.lost = Lost::Nothing;
        self.prev = Some(at);
        Ok(Finished { at, follows: header.prev, next: self.pad(end), meaning })
    }
}
