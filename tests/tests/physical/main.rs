//! Whole clusters, by the replication protocol: copied while they run, laid out again, started.
//! `pg_verifybackup`, `pg_basebackup` and the server itself are the judges.

mod base;
mod common;
mod log;
mod objects;
mod oracle;
mod protocol;
mod push;
mod stream;
