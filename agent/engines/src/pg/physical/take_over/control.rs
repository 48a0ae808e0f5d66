//! What a cluster's control file says, as the server's own tool reads it.

use std::path::Path;

use drctl_model::{Lsn, Timeline, WalSegmentSize};

use crate::common::EngineError;
use crate::common::process::told;

/// A cluster that no server runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Its system identifier.
    pub system_id: u64,
    /// Whether its server was shut down, and has nothing to replay when it starts.
    pub shut_down: bool,
    /// The timeline that it is on.
    pub timeline: Timeline,
    /// Where its last checkpoint is.
    pub checkpoint: Lsn,
    /// The size of its segments.
    pub segment_size: WalSegmentSize,
}

/// Reads it.
///
/// # Errors
/// [`EngineError::Config`] for one that the tool cannot read; [`EngineError::Io`].
pub fn control(bin_dir: &Path, data: &Path) -> Result<Control, EngineError> {
    let mut tool = std::process::Command::new(bin_dir.join("pg_controldata"));
    tool.arg("-D").arg(data).env_clear().env("LC_ALL", "C");
    let output = told(&mut tool).map_err(EngineError::io("run pg_controldata"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    read(&text).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let text = format!("{} does not hold a complete cluster: {said}", data.display());
        EngineError::Config(text)
    })
}

fn read(text: &str) -> Option<Control> {
    let of = |label: &str| Some(text.lines().find_map(|line| line.strip_prefix(label))?.trim());
    Some(Control {
        system_id: of("Database system identifier:")?.parse().ok()?,
        shut_down: of("Database cluster state:")? == "shut down",
        timeline: Timeline::new(of("Latest checkpoint's TimeLineID:")?.parse().ok()?)?,
        checkpoint: of("Latest checkpoint location:")?.parse().ok()?,
        segment_size: WalSegmentSize::new(of("Bytes per WAL segment:")?.parse().ok()?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_was_shut_down_is_told() {
        let text = "Database system identifier:           7300000000000000001\n\
                    Database cluster state:               shut down\n\
                    Latest checkpoint location:           0/5000028\n\
                    Latest checkpoint's TimeLineID:       2\n\
                    Bytes per WAL segment:                1048576\n";
        let found = read(text).unwrap();
        assert!(found.shut_down && found.timeline.id() == 2);
        assert_eq!(
            (found.system_id, found.checkpoint),
            (7_300_000_000_000_000_001, Lsn(0x500_0028))
        );
        for state in ["shut down in recovery", "in production", "in archive recovery"] {
            assert!(!read(&text.replace("shut down", state)).unwrap().shut_down, "{state}");
        }
        assert_eq!(read("pg_controldata: fatal"), None);
    }
}
