//! How it all is: where every source stands, what is amiss, and whether the catalog says what the
//! bucket holds.

mod discover;
mod doctor;
mod drill_record;
mod reconcile;
mod report;
mod status;
mod verify;
mod watch;

pub(crate) use discover::{Discovered, Discovery, discover};
pub use doctor::doctor;
pub use drill_record::{DrillRecord, DueDrill};
pub(crate) use reconcile::note_lost_log;
pub use reconcile::{Compared, Renewed, check, rebuild};
pub use report::{Backups, Report, Runs, report};
pub(crate) use status::concerns;
pub use status::{Amiss, Bad, Health, Judged, LogStatus, SourceStatus, status};
pub(crate) use verify::{
    Beside, FoundOut, Read, Row, Wanted, look, on_record, scrub, standing_words,
};
pub(crate) use watch::{Host, Uncounted, Watch, Watched, watch};
