use std::fmt;

use super::{Claim, Period, Reason};

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
            Period::Year => "year",
        })
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claim::Pinned(why) => write!(f, "pinned: {why}"),
            Claim::Held(why) => write!(f, "on legal hold: {why}"),
            Claim::Locked(until) => write!(f, "the store keeps its objects until {until:.0}"),
            Claim::InUse(by) => write!(f, "in use: {by}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Last(1) => write!(f, "last: the newest"),
            Reason::Last(nth) => write!(f, "last: no. {nth} of the newest"),
            Reason::Newest { of, which } => write!(f, "the newest of {of} {which}"),
            Reason::Within => write!(f, "younger than `within`"),
            Reason::Window => write!(f, "the recovery window begins behind it"),
            Reason::Least(1) => write!(f, "the newest that counts always stays"),
            Reason::Least(nth) => write!(f, "`min_backups`: no. {nth} of the newest"),
            Reason::Proven(1) => write!(f, "the newest that was proven always stays"),
            Reason::Proven(nth) => write!(f, "`min_proven`: no. {nth} of the newest proven"),
            Reason::BaseOf(child) => write!(f, "{child} is based on it"),
            Reason::Claimed(claim) => claim.fmt(f),
            Reason::Blocked(why) => write!(f, "removal is blocked: {why}"),
            Reason::DatedAhead => write!(f, "dated ahead of the store's clock"),
            Reason::Uncounted => write!(f, "does not count; it would stay if it did"),
            Reason::NoneCounts => write!(f, "no backup of the source counts"),
        }
    }
}
