//! Tests of the whole crate, each on a catalog in a directory of its own.

mod crash;
mod files;
mod findings;
mod jobs;
mod logs;
mod notices;
mod reading;
mod rebuild;
mod removed;
mod table_marks;
mod verbs;
