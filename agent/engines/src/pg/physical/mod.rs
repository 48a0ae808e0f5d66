//! A copy of a whole cluster: taken by the replication protocol, proven while it streams, laid out
//! in a new directory.

mod ask;
mod brought;
mod combine;
mod complete;
mod extract;
mod forced;
mod host;
mod increment;
mod left;
mod links;
mod listing;
mod locks;
mod made;
mod members;
mod names;
mod needs;
mod pick;
mod pieces;
mod places;
mod prepare;
mod private;
mod relook;
mod run;
mod settings;
mod source;
mod surroundings;
pub mod take_over;
mod tar;

pub use ask::{Look, Progress};
pub use combine::{Combination, combine};
pub use extract::{DirectoryTarget, Layout};
pub use host::{HostReport, check_host};
pub use increment::{FIRST_INCREMENTAL, ParentCopy};
pub use left::{Left, end_left, left, out_of_the_box};
pub use links::no_links;
pub use listing::MAX_LISTING_BYTES;
pub use made::{asks_of, made_by_own_log};
pub use needs::cluster_needs;
pub use pick::{PickedTable, pick_table};
pub use places::lead;
pub use prepare::{Recovery, StopAt, prepare};
pub use relook::look_again;
pub use run::{Recovering, may_run};
pub use source::{BaseBackupOptions, BaseBackupSource};
pub use surroundings::{BringLog, Surroundings};
