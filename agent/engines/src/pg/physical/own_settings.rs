//! The settings of a restored cluster as its own files have them: each with its file and its line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::Layout;
use super::conf;
use super::guard::{CONFIGURATION, INSTANCE, own_text};
use super::surroundings::read_plain;

/// How many files may include each other, as the server has it (`CONF_FILE_MAX_DEPTH`).
const DEEP: usize = 10;

/// A setting, and where it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnSetting {
    /// In lower case.
    pub(super) name: String,
    pub(super) value: String,
    pub(super) file: PathBuf,
    pub(super) line: usize,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct OwnSettings {
    /// The one of a name that counts, which is the last.
    pub(super) settings: BTreeMap<String, OwnSetting>,
    /// Files that are included, must be there, and are not.
    pub(super) missing: Vec<OwnSetting>,
}

impl OwnSettings {
    /// Reads `postgresql.conf`, what that includes of the data directory, and `postgresql.auto.conf`.
    /// What lies elsewhere is not the cluster's.
    pub(super) fn of(layout: &Layout) -> OwnSettings {
        let mut all = OwnSettings::default();
        let data = layout.data();
        for name in [CONFIGURATION, INSTANCE] {
            let text = own_text(layout, name).unwrap_or_default();
            all.take(&data, (&data.join(name), &text), 0);
        }
        all
    }

    /// The value of a setting; nothing where no file sets it.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(|set| set.value.as_str())
    }

    fn take(&mut self, data: &Path, (file, text): (&Path, &str), depth: usize) {
        for (at, line) in text.lines().enumerate() {
            let Some((name, value)) = conf::setting(line) else { continue };
            let set = OwnSetting { name, value, file: file.to_owned(), line: at + 1 };
            match set.name.as_str() {
                "include" | "include_if_exists" | "include_dir" => self.include(data, set, depth),
                _ => {
                    self.settings.insert(set.name.clone(), set);
                }
            }
        }
    }

    fn include(&mut self, data: &Path, set: OwnSetting, depth: usize) {
        let beside = set.file.parent().unwrap_or(data);
        let place = beside.join(&set.value);
        if !place.exists() {
            if set.name != "include_if_exists" {
                self.missing.push(set);
            }
            return;
        }
        let up = place.components().any(|part| part == Component::ParentDir);
        if depth >= DEEP || up || !place.starts_with(data) {
            return;
        }
        let files = if set.name == "include_dir" { confs(&place) } else { vec![place] };
        for file in files {
            let text = read_plain(&file).unwrap_or_default();
            self.take(data, (&file, &text), depth + 1);
        }
    }
}

/// What `include_dir` takes of a directory, in its order.
fn confs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_one = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".conf") && !name.starts_with('.')
    };
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_one).collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_told_where_they_are_set_and_the_last_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let data = layout.data();
        fs::create_dir_all(data.join("conf.d")).unwrap();
        let write = |name: &str, text: &str| fs::write(data.join(name), text).unwrap();
        write(
            CONFIGURATION,
            "# lc_time = 'a'\nLC_Time = 'b'\nport = 1\ninclude_dir 'conf.d'\n\
             include_if_exists = 'none.conf'\ninclude 'gone.conf'\ninclude '/etc/hostname'\n",
        );
        write("conf.d/b.conf", "port = 3\n");
        write("conf.d/a.conf", "port = 2\ninclude 'b.conf'\nwork_mem = 1MB\n");
        write("conf.d/c.conf.old", "port = 4\n");
        write("conf.d/loop.conf", "include 'loop.conf'\n");
        write(INSTANCE, "# Do not edit\nwork_mem = '2MB'\n");
        let all = OwnSettings::of(&layout);
        let told = |name: &str| {
            let set = &all.settings[name];
            (set.value.as_str(), set.file.strip_prefix(&data).unwrap().to_owned(), set.line)
        };
        assert_eq!(told("lc_time"), ("b", CONFIGURATION.into(), 2));
        assert_eq!(told("port"), ("3", "conf.d/b.conf".into(), 1));
        assert_eq!(told("work_mem"), ("2MB", INSTANCE.into(), 2));
        assert_eq!(all.settings.len(), 3, "{all:?}");
        let missing: Vec<_> = all.missing.iter().map(|set| set.value.as_str()).collect();
        assert_eq!(missing, ["gone.conf"]);
    }
}
