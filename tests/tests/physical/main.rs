//! Whole clusters, by the replication protocol: copied while they run, laid out again, started.
//! `pg_verifybackup`, `pg_basebackup` and the server itself are the judges.

mod base;
mod between;
mod boxed;
mod bucket;
mod chain;
mod clocks;
mod common;
mod doubt;
mod drill;
mod histories;
mod incremental;
mod index;
mod kills;
mod left_out;
mod log;
mod matrix;
mod objects;
mod oracle;
mod protocol;
mod push;
mod recover_ahead;
mod recover_checks;
mod recover_choice;
mod recover_ends;
mod recover_in_use;
mod recover_late;
mod recover_resume;
mod rights;
mod signing;
mod signs;
mod strangers;
mod stream;
mod streaming;
mod take_over;
mod when;
