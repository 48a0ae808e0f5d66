//! Whether this host has what a restored cluster needs: looked at before hours of copying.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drctl_model::{ClusterNeeds, DatabaseNeeds, LocaleProvider, shown};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::memory::too_small;
use crate::common::process::Tool;

/// How long a small program may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// The most of an answer that is read: there are some hundred locales of some ten bytes.
const ANSWER_BYTES: u64 = 1 << 20;

/// What a look at this host came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostReport {
    /// What the cluster needs and is not here, each with what would bring it.
    pub missing: Vec<String>,
    /// What is different here, or could not be looked at.
    pub notes: Vec<String>,
}

/// What this host offers; nothing where it could not be asked.
#[derive(Debug, Clone, Default)]
struct Host {
    /// Where the server's libraries are (`pg_config --pkglibdir`).
    libraries: Option<PathBuf>,
    /// Where its extensions' control files are (`SHAREDIR/extension`).
    extensions: Option<PathBuf>,
    /// The locales of the C library, as `locale -a` lists them.
    locales: Option<BTreeSet<String>>,
    /// The version of glibc, which is that of its collations (`get_collation_actual_version` in
    /// `pg_locale.c`).
    glibc: Option<String>,
}

/// Compares what a cluster needs with what this host has, where the server's programs in `bin_dir`
/// look for it. Changes nothing.
pub async fn check_host(bin_dir: &Path, needs: Option<&ClusterNeeds>) -> HostReport {
    let Some(needs) = needs else {
        let note =
            "the base backup does not record which locales and extensions it needs: not checked";
        return HostReport { missing: Vec::new(), notes: vec![note.to_owned()] };
    };
    compare(needs, &look(bin_dir).await)
}

async fn look(bin_dir: &Path) -> Host {
    let config = bin_dir.join("pg_config");
    let directory = async |option: &str| {
        let told = answer("pg_config", config.clone(), option).await?;
        Some(PathBuf::from(told.trim())).filter(|path| path.is_absolute())
    };
    let (locales, glibc, libraries, share) = tokio::join!(
        answer("locale", "/usr/bin/locale".into(), "-a"),
        answer("getconf", "/usr/bin/getconf".into(), "GNU_LIBC_VERSION"),
        directory("--pkglibdir"),
        directory("--sharedir"),
    );
    Host {
        libraries,
        extensions: share.map(|share| share.join("extension")),
        locales: locales.map(|list| list.lines().map(same_name).collect()),
        glibc: glibc.and_then(|told| Some(told.trim().strip_prefix("glibc ")?.to_owned())),
    }
}

async fn answer(name: &'static str, program: PathBuf, option: &str) -> Option<String> {
    let (output, running) = Tool::new(name, program).arg(option).start_writer().ok()?;
    let mut told = Vec::new();
    let mut output = output.take(ANSWER_BYTES);
    timeout(ANSWER_WAIT, output.read_to_end(&mut told)).await.ok()?.ok()?;
    running.wait_shortly().await.ok()?.success().ok()?;
    // Names of locales are in whatever encoding they like.
    Some(String::from_utf8_lossy(&told).into_owned())
}

/// A locale's name as the C library compares it: the case and the dashes of its encoding do not
/// count (`_nl_normalize_codeset`).
fn same_name(locale: &str) -> String {
    let (name, rest) = locale.trim().split_once('.').unwrap_or((locale.trim(), ""));
    let (encoding, modifier) = match rest.split_once('@') {
        Some((encoding, modifier)) => (encoding, format!("@{modifier}")),
        None => (rest, String::new()),
    };
    let plain = encoding.chars().filter(char::is_ascii_alphanumeric);
    let encoding: String = plain.map(|c| c.to_ascii_lowercase()).collect();
    let dot = if encoding.is_empty() { "" } else { "." };
    format!("{name}{dot}{encoding}{modifier}")
}

fn compare(needs: &ClusterNeeds, host: &Host) -> HostReport {
    let mut report = HostReport::default();
    locales(needs, host, &mut report);
    libraries(needs, host, &mut report);
    extensions(needs, host, &mut report);
    for database in &needs.databases {
        collation(database, host, &mut report);
    }
    report.notes.extend(too_small(&needs.sizes));
    report
        .notes
        .extend(needs.unknown.iter().map(|text| format!("when the base backup was taken {text}")));
    report
}

fn locales(needs: &ClusterNeeds, host: &Host, report: &mut HostReport) {
    // A database of another provider needs these too: its server sets them all the same.
    let all = needs.databases.iter().flat_map(|database| [&database.collate, &database.ctype]);
    let always = |name: &str| matches!(name, "" | "C" | "POSIX");
    let wanted: BTreeSet<&String> = all.filter(|name| !always(name)).collect();
    let Some(here) = &host.locales else {
        if !wanted.is_empty() {
            let names: Vec<&str> = wanted.iter().map(|name| name.as_str()).collect();
            let names = shown(&names.join(", "), 300);
            report.notes.push(format!(
                "`locale -a` does not run here, so these locales were not \
                                       checked: {names}"
            ));
        }
        return;
    };
    for name in wanted.into_iter().filter(|name| !here.contains(&same_name(name))) {
        let name = shown(name, 100);
        report.missing.push(format!(
            "the locale {name}: make it (on Debian `dpkg-reconfigure locales`, elsewhere \
             `localedef` or the language's package)"
        ));
    }
}

fn libraries(needs: &ClusterNeeds, host: &Host, report: &mut HostReport) {
    let wanted = needs.libraries.iter().flatten();
    let Some(folder) = &host.libraries else {
        if needs.libraries.as_ref().is_some_and(|all| !all.is_empty()) {
            let note = "pg_config is not beside the server's programs: libraries not checked";
            report.notes.push(note.to_owned());
        }
        return;
    };
    for name in wanted {
        let plain = name.strip_prefix("$libdir/").unwrap_or(name);
        let plain = plain.strip_suffix(".so").unwrap_or(plain);
        if !folder.join(format!("{plain}.so")).is_file() {
            report.missing.push(format!(
                "the library {} of shared_preload_libraries: install its package (no {}/{}.so)",
                shown(plain, 100),
                folder.display(),
                shown(plain, 100)
            ));
        }
    }
}

fn extensions(needs: &ClusterNeeds, host: &Host, report: &mut HostReport) {
    let mut wanted: BTreeSet<(&str, &str, &str)> = BTreeSet::new();
    for database in &needs.databases {
        let extensions = database.extensions.iter().flatten();
        wanted.extend(
            extensions.map(|e| (e.name.as_str(), e.version.as_str(), database.name.as_str())),
        );
    }
    let Some(folder) = &host.extensions else {
        if !wanted.is_empty() {
            let note = "pg_config is not beside the server's programs: extensions not checked";
            report.notes.push(note.to_owned());
        }
        return;
    };
    let mut told = BTreeSet::new();
    for (name, version, database) in wanted {
        if told.insert(name) && !folder.join(format!("{name}.control")).is_file() {
            report.missing.push(format!(
                "the extension {} {} of database {}: install its package (no {}/{}.control)",
                shown(name, 100),
                shown(version, 50),
                shown(database, 100),
                folder.display(),
                shown(name, 100)
            ));
        }
    }
}

/// An index on text is in the order of the rules that it was made with: with other rules it finds
/// too little, and lets duplicates in.
fn collation(database: &DatabaseNeeds, host: &Host, report: &mut HostReport) {
    let (None, Some(made)) = (&database.provider, &database.collation_version) else {
        if let (Some(LocaleProvider::Icu), Some(made)) =
            (&database.provider, &database.collation_version)
        {
            report.notes.push(format!(
                "database {} compares text by ICU's rules {made}: if this host's ICU has others, \
                 the server warns, and indexes on text need REINDEX",
                shown(&database.name, 100)
            ));
        }
        return;
    };
    if let Some(here) = host.glibc.as_ref().filter(|here| *here != made) {
        report.notes.push(format!(
            "database {}: its indexes on text were made with glibc {made}, this host has {here}: \
             after the promotion run REINDEX DATABASE there, then ALTER DATABASE … REFRESH \
             COLLATION VERSION; until then they may miss rows",
            shown(&database.name, 100)
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use drctl_model::Extension;

    use super::*;

    fn needs() -> ClusterNeeds {
        let extension = |name: &str| Extension { name: name.to_owned(), version: "1.2".to_owned() };
        ClusterNeeds {
            sizes: BTreeMap::new(),
            libraries: Some(vec!["auto_explain".to_owned(), "$libdir/timescale".to_owned()]),
            databases: vec![DatabaseNeeds {
                name: "shop".to_owned(),
                collate: "de_AT.UTF-8".to_owned(),
                ctype: "C".to_owned(),
                provider: None,
                collation_version: Some("2.31".to_owned()),
                extensions: Some(vec![extension("plpgsql"), extension("postgis")]),
                oid: None,
                tables: Vec::new(),
            }],
            unknown: vec!["the extensions of hr could not be asked for".to_owned()],
        }
    }

    fn host(folder: &Path) -> Host {
        for name in ["auto_explain.so", "timescale.so", "plpgsql.control", "postgis.control"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        Host {
            libraries: Some(folder.to_owned()),
            extensions: Some(folder.to_owned()),
            locales: Some(["de_AT.utf8".to_owned()].map(|name| same_name(&name)).into()),
            glibc: Some("2.31".to_owned()),
        }
    }

    #[test]
    fn what_this_host_cannot_give_of_memory_is_told_before_there_is_a_server() {
        let sizes = [("shared_buffers".to_owned(), "4000GB".to_owned())].into();
        let folder = tempfile::tempdir().unwrap();
        let needs = ClusterNeeds { sizes, ..needs() };
        let report = compare(&needs, &host(folder.path()));
        assert_eq!((report.missing.len(), report.notes.len()), (0, 2), "{report:?}");
        let told = "the source's shared_buffers = 4000GB is too much for this host";
        assert!(report.notes[0].starts_with(told), "{report:?}");
    }

    #[test]
    fn a_host_that_has_it_all_is_fit() {
        let folder = tempfile::tempdir().unwrap();
        let report = compare(&needs(), &host(folder.path()));
        assert_eq!(report.missing, [""; 0]);
        assert_eq!(report.notes.len(), 1, "{report:?}");
        assert!(report.notes[0].contains("hr could not be asked for"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let with = |change: fn(&mut Host, &Path)| {
            let mut host = host(folder.path());
            change(&mut host, folder.path());
            compare(&needs(), &host)
        };
        let remove = |folder: &Path, name: &str| std::fs::remove_file(folder.join(name)).unwrap();
        let cases: [(&str, HostReport); 3] = [
            ("de_AT.UTF-8", with(|host, _| host.locales = Some(BTreeSet::new()))),
            ("timescale", {
                let host = host(folder.path());
                remove(folder.path(), "timescale.so");
                compare(&needs(), &host)
            }),
            ("postgis", {
                let host = host(folder.path());
                remove(folder.path(), "postgis.control");
                compare(&needs(), &host)
            }),
        ];
        for (word, report) in cases {
            assert_eq!(report.missing.len(), 1, "{word}: {report:?}");
            assert!(report.missing[0].contains(word), "{report:?}");
        }
        let report = with(|host, _| host.glibc = Some("2.41".to_owned()));
        assert!(report.missing.is_empty() && report.notes[0].contains("REINDEX"), "{report:?}");
        let report = compare(&needs(), &Host::default());
        assert!(report.missing.is_empty() && report.notes.len() == 4, "{report:?}");
    }

    #[test]
    fn locales_are_compared_as_the_c_library_does() {
        assert_eq!(same_name("de_AT.UTF-8"), same_name("de_AT.utf8"));
        assert_eq!(same_name("sr_RS.UTF-8@latin"), same_name("sr_RS.utf8@latin"));
        assert_ne!(same_name("de_AT.UTF-8"), same_name("de_DE.UTF-8"));
        assert_ne!(same_name("de_DE"), same_name("de_DE.utf8"));
    }
}
