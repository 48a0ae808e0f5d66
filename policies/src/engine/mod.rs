//! What backs sources up: the keys, bounds and meaning of each engine's settings, a file for each.

mod log;
mod pg;
mod pgbackrest;

use serde::Serialize;

use crate::keys::{DAY, HOUR, Key, duration};
use crate::reader::Reader;
use crate::secret::SecretRef;
use crate::source;

pub use log::{LogSettings, LogWay};
pub use pg::{BaseBackup, PgDump, Server};
pub use pgbackrest::Pgbackrest;

/// A word of `engine`: which keys mean something with it, and what they mean.
struct Method {
    name: &'static str,
    keys: &'static [&'static [Key]],
    read: fn(&Reader<'_>) -> Option<Engine>,
}

impl Method {
    fn has(&self, name: &str) -> bool {
        self.keys.iter().flat_map(|table| table.iter()).any(|key| key.name == name)
    }
}

/// A line for each: its name in the program, its settings, and its word with its keys.
macro_rules! engines {
    ($($(#[$about:meta])* $name:ident($settings:ty) = $method:path;)*) => {
        /// How a source is backed up.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(tag = "engine", rename_all = "snake_case")]
        pub enum Engine {
            $($(#[$about])* $name($settings),)*
        }

        impl Engine {
            fn settings(&self) -> &dyn Settings {
                match self {
                    $(Engine::$name(settings) => settings,)*
                }
            }
        }

        const METHODS: &[Method] = &[$($method,)*];
    };
}

engines! {
    /// PostgreSQL, a logical dump per database.
    PgDump(PgDump) = pg::DUMP;
    /// PostgreSQL, all files of the cluster by the replication protocol.
    BaseBackup(BaseBackup) = pg::BASE_BACKUP;
    /// PostgreSQL, all files of the cluster by pgBackRest, into a repository of its own.
    Pgbackrest(Pgbackrest) = pgbackrest::METHOD;
}

/// What is asked of any engine's settings.
trait Settings {
    /// How a PostgreSQL server is reached, for an engine that backs one up.
    fn server(&self) -> Option<&Server> {
        None
    }

    /// How the source's log comes into the bucket, where it has one.
    fn log(&self) -> Option<&LogSettings> {
        None
    }

    /// The secrets that they name, by their keys.
    fn secrets(&self) -> Vec<(&'static str, &SecretRef)> {
        self.server().into_iter().flat_map(Server::secrets).collect()
    }
}

impl Engine {
    /// How the PostgreSQL server is reached; nothing for an engine that backs up none.
    #[must_use]
    pub fn server(&self) -> Option<&Server> {
        self.settings().server()
    }

    /// How the source's log comes into the bucket; nothing for an engine whose sources have none.
    #[must_use]
    pub fn log(&self) -> Option<&LogSettings> {
        self.settings().log()
    }

    /// The secrets that its settings name, by their keys.
    #[must_use]
    pub fn secrets(&self) -> Vec<(&'static str, &SecretRef)> {
        self.settings().secrets()
    }
}

/// The words of `engine`.
pub(crate) const NAMES: &[&str] = &{
    let mut names = [""; METHODS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = METHODS[at].name;
        at += 1;
    }
    names
};

/// What several engines mean alike.
const FULL_EVERY: Key = Key::with_default(
    "full_every",
    duration(HOUR, 3_650 * DAY),
    "7d",
    "base_backup with incremental, pgbackrest: how old a full one may be before the next is \
         made.",
);

/// Every key of a source once, whichever engines it is for.
pub(crate) static KEYS: &[Key] = ALL.found.split_at(ALL.count).0;

static ALL: Keys = Keys::all();

/// Keys, gathered by the compiler.
struct Keys {
    found: [Key; 64],
    count: usize,
}

impl Keys {
    const fn all() -> Keys {
        let mut all = Keys { found: [FULL_EVERY; 64], count: 0 }.and(source::KEYS);
        let mut method = 0;
        while method < METHODS.len() {
            let mut table = 0;
            while table < METHODS[method].keys.len() {
                all = all.and(METHODS[method].keys[table]);
                table += 1;
            }
            method += 1;
        }
        all
    }

    /// With those of a table that are not there yet.
    const fn and(mut self, table: &[Key]) -> Keys {
        let mut at = 0;
        while at < table.len() {
            if !self.has(table[at].name) {
                self.found[self.count] = table[at];
                self.count += 1;
            }
            at += 1;
        }
        self
    }

    const fn has(&self, name: &str) -> bool {
        let mut at = 0;
        while at < self.count {
            if is_same(self.found[at].name, name) {
                return true;
            }
            at += 1;
        }
        false
    }
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// Reads the settings of the engine that a source names.
pub(crate) fn read(reader: &Reader<'_>) -> Option<Engine> {
    // Those of the others are read too: what is wrong with a value is said beside its key's being
    // of no use.
    let read: Vec<Option<Engine>> = METHODS.iter().map(|method| (method.read)(reader)).collect();
    let name = reader.choice("engine")?;
    refuse_foreign(reader, name);
    let (_, engine) = METHODS.iter().zip(read).find(|(method, _)| method.name == name)?;
    engine
}

/// Refuses keys that mean something to other engines alone, and tells to which.
fn refuse_foreign(reader: &Reader<'_>, engine: &str) {
    for key in KEYS.iter().filter(|key| reader.has(key.name)) {
        let known = METHODS.iter().filter(|method| method.has(key.name)).map(|method| method.name);
        let engines: Vec<&str> = known.collect();
        if engines.is_empty() || engines.contains(&engine) {
            continue;
        }
        let message = format!("`{}` has no effect with this engine", key.name);
        let advice = format!("remove it; it is for engine = \"{}\"", engines.join("\" or \""));
        reader.report.advise(&reader.span_of_key(key.name), message, &advice);
    }
}

/// Whether the source's engine knows a key of engines.
fn has_key(reader: &Reader<'_>, name: &str) -> bool {
    let engine = reader.text("engine");
    let found =
        METHODS.iter().find(|method| engine.as_ref().is_some_and(|at| at.value == method.name));
    found.is_some_and(|method| method.has(name))
}

/// Whether the source has this engine; the keys of others are refused as a whole.
fn is_engine(reader: &Reader<'_>, engine: &str) -> bool {
    reader.text("engine").is_some_and(|text| text.value == engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_there_once_with_one_meaning() {
        let tables = || METHODS.iter().flat_map(|method| method.keys).flat_map(|table| *table);
        for key in tables().chain(source::KEYS) {
            let same: Vec<&Key> = KEYS.iter().filter(|other| other.name == key.name).collect();
            assert_eq!(same.len(), 1, "{}", key.name);
            assert_eq!((same[0].about, same[0].default), (key.about, key.default), "{}", key.name);
        }
        assert!(source::KEYS.iter().all(|key| METHODS.iter().all(|method| !method.has(key.name))));
    }
}
