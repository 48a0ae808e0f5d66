//! The configuration: what it may say, how it is read, and what is wrong with it.
//!
//! Pure: no IO, no async, no clock, no environment. The caller reads the files and hands over
//! their text; time zones come from the database that is compiled in.
//!
//! A configuration is one main file, `drctl.toml`, and one file per policy in a directory beside
//! it. [`policies_dir`] says which directory, [`parse`] reads them all and names every mistake at
//! once, [`schema`] is the same knowledge for editors.

mod agent;
mod bech32;
mod config;
mod diagnostic;
mod discover;
mod drill;
mod engine;
mod hooks;
mod job_rights;
mod keys;
mod kit;
mod notify;
mod paths;
mod policy;
mod policy_checks;
mod pruner;
mod reader;
pub mod recovery;
mod repository;
pub mod retention;
pub mod rto;
mod schedule;
mod schedule_field;
pub mod scheduler;
mod schema;
pub mod scrub;
mod secret;
mod signers;
mod source;
mod template;
mod throttle;
mod timing;
mod units;
pub mod watch;
mod window;

pub use agent::AgentSettings;
pub use config::{Config, Keys, Limits, parse, policies_dir};
pub use diagnostic::{Diagnostic, SourceFile};
pub use discover::DiscoverSettings;
pub use drill::{DrillCheck, DrillPolicy, DrillWeights};
pub use engine::*;
pub use hooks::{Hook, HookDoes, HookRequest, Moment};
pub use job_rights::{JobRights, May, StanzaRights, parse_job_rights};
pub use kit::{Kit, read_kit};
pub use notify::{BODY_WORDS, Channel, Email, Severity, TITLE_WORDS, Way};
pub use paths::Paths;
pub use policy::{Objectives, Policy, RetentionPolicy};
pub use pruner::Pruner;
pub use repository::{Location, Repository};
pub use schedule::{Schedule, ScheduleError};
pub use schema::schema;
pub use secret::SecretRef;
pub use signers::TrustedKey;
pub use source::Source;
pub use template::{SUPERUSER, Setting, SourceTemplate, Template, source_lines, template};
pub use throttle::{LONGEST_PAUSE, Pause, Throttle, WorkLimits, limits_at};
pub use timing::{LogIndexPolicy, PrunePolicy, ReportPolicy, VerifyPolicy};
pub use window::{Blackout, Window, may_begin};

/// A commented main file, as an operator would write it.
pub const SAMPLE_MAIN: &str = include_str!("../samples/drctl.toml");

/// A commented policy file: nightly, kept for a week, a month and a year.
pub const SAMPLE_POLICY: &str = include_str!("../samples/policies.d/daily.toml");
