//! Drills: backups that are restored into scratch servers of their own, proven there, and thrown away.

mod clusters;
mod common;
mod damage;
mod dumps;
mod left;
mod scheduled;
