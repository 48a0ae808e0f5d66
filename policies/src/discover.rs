//! `[discover]`: database servers of this host that are no source.

use serde::Serialize;

use crate::diagnostic::show;
use crate::keys::Key;
use crate::keys::Kind::Texts;
use crate::reader::Reader;

pub(crate) static DISCOVER: &[Key] = &[Key::optional(
    "ignore",
    Texts,
    "Servers that need no backup: data directories, or engine and port such as postgresql:5433.",
)];

/// Which servers of this host need no backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DiscoverSettings {
    /// Each a data directory or the file of a socket, an absolute path; or an engine in lower case and a
    /// port, as `postgresql:5433`.
    pub ignore: Vec<String>,
}

/// Reads `[discover]`.
pub(crate) fn read(reader: &Reader<'_>) -> Option<DiscoverSettings> {
    let mut good = true;
    let mut ignore = Vec::new();
    for text in reader.texts("ignore").unwrap_or_default() {
        let port = text.value.split_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if text.value.starts_with('/') || port.is_some_and(|port| port > 0) {
            ignore.push(text.value.trim_end_matches('/').to_owned());
            continue;
        }
        let message = format!("`{}` names no server", show(text.value));
        let advice = "write a data directory, or an engine and a port: \"postgresql:5433\"";
        reader.report.advise(&text.span, message, advice);
        good = false;
    }
    good.then_some(DiscoverSettings { ignore })
}
