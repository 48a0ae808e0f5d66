//! Drills: backups that are restored into scratch servers of their own, proven there, and thrown away.

mod bundle;
mod chain;
mod clones;
mod clusters;
mod common;
mod damage;
mod demonstration;
mod dumps;
mod left;
mod many;
mod reported;
mod scheduled;
