//! What backups of a server do not copy, and whether they hold it all the same.

use std::time::Duration;

use drctl_engines::pg::{Copied, PgServer, outside};
use drctl_model::{Outside, SourceId};

use crate::host::Checks;

/// How long the server may take to tell.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the role needs.
const HINT: &str = "let the role read them: GRANT pg_monitor, pg_read_server_files to it, and EXECUTE ON \
                    FUNCTION pg_read_binary_file(text, bigint, bigint, boolean); or keep them elsewhere";

/// Names what lies outside of what is copied. Files of the configuration that no backup holds are a
/// warning where backups are of the whole cluster: whoever restores one expects all of it.
pub(crate) async fn look(server: &PgServer, id: &SourceId, copied: Copied, found: &mut Checks) {
    let check = format!("source.{id}.outside");
    let outside = outside(server, "drctl/doctor", copied, PATIENCE).await;
    let held: Vec<String> = outside.held().map(|(item, _)| item.name()).collect();
    if !held.is_empty() {
        found.good(&check, format!("each backup brings along: {}", held.join(", ")));
    }
    let unknown = !outside.unknown.is_empty();
    let warns = copied == Copied::Cluster && (unknown || lacks_configuration(&outside));
    for note in outside.notes() {
        match warns {
            true => found.warn(&check, note, HINT),
            false => found.good(&check, note),
        }
    }
}

/// Whether a file is named that a server needs, and that can be had.
fn lacks_configuration(outside: &Outside) -> bool {
    let of_settings = ["config_file", "hba_file", "ident_file", "include"];
    let lacking = outside.items.iter().filter(|item| item.content.is_none());
    lacking.into_iter().any(|item| of_settings.contains(&item.what.as_str()))
}
