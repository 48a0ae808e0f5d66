//! The agent, with the binary, real servers and real buckets: on time, once, and never in silence.

mod absent;
mod accounts;
mod audit;
mod beats;
mod bursts;
mod channels;
mod clock;
mod common;
mod control;
mod ends;
mod flows;
mod healthz;
mod heard;
mod hooks;
mod kills;
mod log_index;
mod metrics;
mod prune;
mod records;
mod reports;
mod stream;
mod throttle;
mod timed;
mod told;
mod verify;
