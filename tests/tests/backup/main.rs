//! Backup and restore by `pg_dump`, with the binary, real servers, real tools and real buckets:
//! what must never happen, and what must always hold.

mod attacked;
mod cancel;
mod catalog;
mod chained;
mod code;
mod common;
mod connections;
mod damage;
mod disks;
mod emergency;
mod encodings;
mod extensions;
mod from_17;
mod hostile;
mod identity;
mod jobs;
mod matrix;
mod memory;
mod newer;
mod other_cluster;
mod peers;
mod present;
mod races;
mod refusals;
mod remembered;
mod round_trip;
mod s3;
mod secrets;
mod server;
mod settings;
mod suspect;
mod tools;
mod uncounted;
mod unfinished;
mod unfriendly;
