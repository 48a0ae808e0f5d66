use serde::{Deserialize, Serialize};

use crate::{Engine, FORMAT_VERSION, ManifestError, shown};

/// A part of the format that not every program knows, and the first version of drctl that does.
pub struct Feature {
    /// Its name in a document's `features`.
    pub name: &'static str,
    /// Major, minor, patch.
    pub since: (u16, u16, u16),
}

/// Every feature that this program reads and writes: one for each engine, one for each kind of log, and
/// what only some of an engine's documents use. A document that names another one is refused: it means
/// something that would be misread.
pub fn features() -> impl Iterator<Item = Feature> {
    let engines = Engine::ALL.iter();
    let engines = engines.map(|engine| Feature { name: engine.as_str(), since: engine.since() });
    engines.chain([INCREMENTAL, WAL, DRILL_RUN].map(|name| Feature { name, since: (0, 1, 0) }))
}

/// The feature that every manifest of an incremental backup names.
pub const INCREMENTAL: &str = "incremental";

/// The feature that pieces and indexes of PostgreSQL's WAL name.
pub const WAL: &str = "wal";

/// The feature that the evidence of a drill names which tells how it went: of `drctl drill`.
pub const DRILL_RUN: &str = "drill_run";

/// What every signed document begins with. It is read before the rest, which may be of a shape that this
/// program does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The format version it is written in.
    pub v: u32,
    /// The lowest format version whose readers understand it.
    pub min_reader: u32,
    /// The lowest version of drctl that understands it, features and all: what to install.
    pub reader: String,
    /// The parts of the format that it uses.
    #[serde(default)]
    pub features: Vec<String>,
}

impl Header {
    /// The header of a document of this program that uses such features.
    #[must_use]
    pub fn new<'a>(features: impl IntoIterator<Item = &'a str>) -> Self {
        let features: Vec<String> = features.into_iter().map(str::to_owned).collect();
        let used = |feature: &Feature| features.iter().any(|name| name == feature.name);
        let since = self::features().filter(used).map(|feature| feature.since).max();
        let (major, minor, patch) = since.unwrap_or((0, 1, 0));
        let reader = format!("{major}.{minor}.{patch}");
        Header { v: FORMAT_VERSION, min_reader: FORMAT_VERSION, reader, features }
    }

    /// Whether it names a feature.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|name| name == feature)
    }

    /// That it names a feature which the rest makes use of.
    ///
    /// # Errors
    /// [`ManifestError::Inconsistent`].
    pub(crate) fn names(&self, feature: &str) -> Result<(), ManifestError> {
        let missing = || format!("it does not name the feature `{feature}`");
        self.has(feature).then_some(()).ok_or_else(|| ManifestError::Inconsistent(missing()))
    }

    /// Whether this program understands the rest.
    ///
    /// # Errors
    /// [`ManifestError::TooNew`], [`ManifestError::UnknownFeature`].
    pub fn check(&self) -> Result<(), ManifestError> {
        let install = || install(&self.reader);
        if self.min_reader > FORMAT_VERSION {
            let (needs, reads) = (self.min_reader, FORMAT_VERSION);
            return Err(ManifestError::TooNew { needs, reads, install: install() });
        }
        let known = |name: &String| features().any(|feature| feature.name == name);
        match self.features.iter().find(|name| !known(name)) {
            Some(name) => {
                let feature = shown(name, 40);
                Err(ManifestError::UnknownFeature { feature, install: install() })
            }
            None => Ok(()),
        }
    }
}

/// What to install for a document that names this version of drctl. It goes into a sentence, whoever
/// wrote it.
pub(crate) fn install(reader: &str) -> String {
    let of_version = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    match !reader.is_empty() && reader.len() <= 20 && reader.bytes().all(of_version) {
        true => format!("drctl {reader} or newer"),
        false => "a newer drctl".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_document_names_what_reads_it() {
        assert_eq!(Header::new(["pg_dump"]).check(), Ok(()));
        assert_eq!(Header::new(["pg_dump"]).reader, "0.1.0");
        let newer = Header { reader: "0.7.0".to_owned(), ..Header::new(["mariadb_backup"]) };
        let said = newer.check().unwrap_err().to_string();
        assert!(
            said.contains("`mariadb_backup`") && said.contains("drctl 0.7.0 or newer"),
            "{said}"
        );
        for odd in ["", "1\n2", "9 from evil.example", "111111111111111111111"] {
            let newer = Header { min_reader: 2, reader: odd.to_owned(), ..Header::new([]) };
            let said = newer.check().unwrap_err().to_string();
            assert!(said.ends_with("up to 1: install a newer drctl"), "{said}");
        }
    }
}
