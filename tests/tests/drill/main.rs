//! Drills: backups that are restored into scratch servers of their own, proven there, and thrown away.

mod bundle;
mod chain;
mod clusters;
mod common;
mod damage;
mod demonstration;
mod dumps;
mod left;
mod reported;
mod scheduled;
