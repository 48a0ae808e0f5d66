use drctl_model::Lsn;

/// What is wrong with a stretch of WAL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// A walk can begin only where a page does.
    #[error("{at} is not the start of a WAL page")]
    Start {
        /// Where it was to begin.
        at: Lsn,
    },
    /// A page that no known version writes.
    #[error("the page at {at} has the magic number {found:04X}, which no known version writes")]
    Magic {
        /// The page.
        at: Lsn,
        /// Its `xlp_magic`.
        found: u16,
    },
    /// A page of another version than the pages before.
    #[error("the page at {at} has the magic number {found:04X}, those before have {expected:04X}")]
    OtherMagic {
        /// The page.
        at: Lsn,
        /// Its `xlp_magic`.
        found: u16,
        /// That of the pages before.
        expected: u16,
    },
    /// Flags of a page that are not known, or not possible where it lies.
    #[error("the page at {at} has the flags {found:04X}, which cannot be there")]
    PageFlags {
        /// The page.
        at: Lsn,
        /// Its `xlp_info`.
        found: u16,
    },
    /// A page that belongs elsewhere: what a recycled segment still holds.
    #[error("the page at {at} belongs to {found}")]
    PageAddress {
        /// The page.
        at: Lsn,
        /// Its `xlp_pageaddr`.
        found: Lsn,
    },
    /// A page of a timeline that cannot be there.
    #[error("the page at {at} is of timeline {found}, possible are {lowest} to {highest}")]
    Timeline {
        /// The page.
        at: Lsn,
        /// Its `xlp_tli`.
        found: u32,
        /// The timeline of the page before.
        lowest: u32,
        /// The timeline that is walked.
        highest: u32,
    },
    /// A segment of another cluster.
    #[error("the segment at {at} is of the cluster {found}, and not of {expected}")]
    SystemId {
        /// The segment.
        at: Lsn,
        /// Its `xlp_sysid`.
        found: u64,
        /// That of the segments before, or as the server says.
        expected: u64,
    },
    /// A segment of another size.
    #[error("the segment at {at} is one of {found} bytes, not of {expected}")]
    SegmentSize {
        /// The segment.
        at: Lsn,
        /// Its `xlp_seg_size`.
        found: u32,
        /// The size of the cluster's segments.
        expected: u64,
    },
    /// A segment of a server that was built with other pages.
    #[error("the segment at {at} has pages of {found} bytes, not of 8192")]
    PageSize {
        /// The segment.
        at: Lsn,
        /// Its `xlp_xlog_blcksz`.
        found: u32,
    },
    /// A page that continues something else than the record before it.
    #[error("the page at {at} continues a record with {found} bytes, {expected} were due")]
    Continuation {
        /// The page.
        at: Lsn,
        /// Its `xlp_rem_len`, 0 where it continues nothing.
        found: u32,
        /// What is still missing of the record that is open.
        expected: u32,
    },
    /// A record that was given up after a crash, and not as it must be.
    #[error("at {at} the record that was broken off before is not given up properly")]
    Overwrite {
        /// The page or record that must do so.
        at: Lsn,
    },
    /// A record that is too short or too long to be one.
    #[error("the record at {at} has an impossible length: {len}")]
    Length {
        /// The record.
        at: Lsn,
        /// Its `xl_tot_len`.
        len: u32,
    },
    /// A record that follows another one than it says.
    #[error("the record at {at} follows one at {found}, not the one at {expected}")]
    BackLink {
        /// The record.
        at: Lsn,
        /// Its `xl_prev`.
        found: Lsn,
        /// The record before it.
        expected: Lsn,
    },
    /// A first record that follows itself or a later one.
    #[error("the record at {at} follows one at {found}, which is not before it")]
    BackLinkAhead {
        /// The record.
        at: Lsn,
        /// Its `xl_prev`.
        found: Lsn,
    },
    /// A record that is damaged.
    #[error("the record at {at} does not match its checksum")]
    Crc {
        /// The record.
        at: Lsn,
    },
    /// A record that is whole, but not as its kind is written.
    #[error("the record at {at} is malformed: {problem}")]
    Record {
        /// The record.
        at: Lsn,
        /// What is wrong.
        problem: &'static str,
    },
    /// Something in the rest of a segment that was ended by a switch.
    #[error("there is data at {at}, although the switch at {switch} ended the segment")]
    AfterSwitch {
        /// The first byte that is not zero.
        at: Lsn,
        /// The record that ended the segment.
        switch: Lsn,
    },
    /// Something after a place where nothing was written.
    #[error("there is data at {at}, although nothing was written from {ended} on")]
    AfterEnd {
        /// The first byte that is not zero.
        at: Lsn,
        /// Where the records end.
        ended: Lsn,
    },
}
