//! Requests by HTTP to places that an operator has named.

mod request;
mod signed;

pub(crate) use self::request::{Client, Request, authorities};
pub(crate) use self::signed::signed_json;

/// Something did not reach whom it is for.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Undelivered {
    why: String,
    /// Whether it may reach him later.
    pub(crate) again: bool,
}

impl Undelivered {
    /// As it is set up, it never will.
    pub(crate) fn at_all(why: impl Into<String>) -> Self {
        Undelivered { why: why.into(), again: false }
    }

    /// It may a little later.
    pub(crate) fn now(why: impl Into<String>) -> Self {
        Undelivered { why: why.into(), again: true }
    }
}
