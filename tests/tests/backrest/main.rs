//! Clusters whose files and log pgBackRest keeps in a repository of its own, driven by drctl.
//! The real pgBackRest archives, backs up and restores; the server itself is the judge.

mod adopt;
mod archiving;
mod asked;
mod attempts;
mod beside;
mod common;
mod engine;
mod engine_damage;
mod engine_exits;
mod engine_s3;
mod fetch;
mod helper;
mod histories;
mod oracle;
mod record;
mod recover;
mod recover_alike;
mod recover_s3;
mod settings;
mod setup;
mod silent;
mod stanza;
