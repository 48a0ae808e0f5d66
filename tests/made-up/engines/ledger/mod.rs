//! A made-up database. Its directory holds three files of text:
//!
//! - `name`: which ledger it is, the lineage of its log;
//! - `sums`: a line `ACCOUNT SUM` for each account, and at last `end POSITION`;
//! - `log`: a line `POSITION SECONDS ACCOUNT CHANGE` for each entry, positions one by one from 1.

mod entry;
mod error;
mod source;
mod sums;

pub use entry::{Entry, lineage, written};
pub use error::LedgerError;
pub use source::LedgerSource;
pub use sums::Sums;
