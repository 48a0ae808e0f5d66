//! What of a restored cluster's configuration changes when it takes its server's place: decides, and
//! touches nothing.

use std::fmt::Write as _;
use std::path::Path;

use crate::pg::physical::conf;
use crate::pg::physical::prepare::is_dropped;

/// A file as it will be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Edited {
    pub(super) new: Vec<u8>,
    /// What changes.
    pub(super) says: Vec<String>,
    /// What stays and should be known.
    pub(super) notes: Vec<String>,
}

/// What stands before the lines that archive.
const MARK: &str = "# Written by drctl when this cluster took its server's place.";

/// What stands before a line that counts no more.
const OFF: &str = "# drctl take-over: ";

/// Settings that tell where the files of a server are.
const PLACES: [&str; 4] = ["data_directory", "hba_file", "ident_file", "external_pid_file"];

/// Settings that name code.
const CODE: [&str; 12] = [
    "shared_preload_libraries",
    "session_preload_libraries",
    "local_preload_libraries",
    "dynamic_library_path",
    "extension_control_path",
    "oauth_validator_libraries",
    "jit_provider",
    "archive_command",
    "archive_library",
    "archive_cleanup_command",
    "recovery_end_command",
    "ssl_passphrase_command",
];

/// `postgresql.auto.conf`: what made the cluster recover and do no harm goes, and it archives again.
pub(super) fn auto(old: &[u8], archive_command: Option<&str>) -> Edited {
    let mut edited = Edited::default();
    let mut gone: Vec<String> = Vec::new();
    for line in lines(old) {
        let text = String::from_utf8_lossy(line);
        if text == MARK || text.starts_with("# Written by drctl for this restored cluster") {
            continue;
        }
        match conf::setting(&text) {
            Some((name, value)) if goes(&name, &value) => gone.push(name),
            set => {
                edited.notes.extend(set.and_then(|(name, value)| note(&name, &value)));
                edited.new.extend([line, b"\n"].concat());
            }
        }
    }
    let archive = match archive_command {
        Some(command) => [("archive_mode", "on"), ("archive_command", command)],
        None => [("archive_mode", "off"), ("archive_command", "")],
    };
    let mut text = format!("{MARK}\n");
    for (name, value) in archive.into_iter().chain([("archive_library", "")]) {
        text.push_str(&conf::line(name, value));
    }
    edited.new.extend(text.into_bytes());
    gone.retain(|name| !name.starts_with("archive_") || name == "archive_cleanup_command");
    gone.sort();
    gone.dedup();
    if !gone.is_empty() {
        edited.says.push(format!("goes: {}", gone.join(", ")));
    }
    edited.says.push(match archive_command {
        Some(command) => format!("archive_mode = on, archive_command = {}", conf::quoted(command)),
        None => "archive_mode = off: you have to stream its WAL".to_owned(),
    });
    edited
}

/// What a recovery has written, or would decide another one. Synchronous standbys of the source do
/// not come back with it: its commits would wait for servers that are not there.
fn goes(name: &str, value: &str) -> bool {
    match name {
        "synchronous_standby_names" => false,
        "archive_mode" | "hot_standby" => true,
        "max_logical_replication_workers" => value == "0",
        _ => is_dropped(name),
    }
}

/// `postgresql.conf` in the data directory: what leads to the places of the server that is gone does
/// not count.
pub(super) fn own(old: &[u8], data: &Path) -> Edited {
    let mut edited = Edited::default();
    for line in lines(old) {
        let text = String::from_utf8_lossy(line);
        let set = conf::setting(&text);
        if let Some((name, value)) = &set {
            let place = data.join(value);
            let astray = PLACES.contains(&name.as_str()) && !place.starts_with(data);
            let missing = ["include", "include_dir"].contains(&name.as_str()) && !place.exists();
            if astray || missing {
                edited.says.push(format!("is not used any more: {}", text.trim()));
                edited.new.extend(OFF.as_bytes());
            } else if name.starts_with("include") && place.exists() {
                edited.notes.push(format!("the settings in {} are in force too", place.display()));
            }
            edited.notes.extend(note(name, value));
        }
        edited.new.extend([line, b"\n"].concat());
    }
    edited
}

/// A configuration outside of the data directory: it names the new one.
pub(super) fn elsewhere(old: &[u8], data: &Path) -> Edited {
    let mut edited = Edited::default();
    let wanted = conf::line("data_directory", &data.display().to_string());
    let is_place = |line: &&[u8]| {
        conf::name(&String::from_utf8_lossy(line)).as_deref() == Some("data_directory")
    };
    let mut places = lines(old).filter(is_place).count();
    for line in lines(old) {
        let text = String::from_utf8_lossy(line);
        if is_place(&line) {
            places -= 1;
            if places == 0 && format!("{text}\n") == wanted {
                edited.new.extend(wanted.as_bytes());
                continue;
            }
            edited.says.push(format!("is not used any more: {}", text.trim()));
            edited.new.extend(OFF.as_bytes());
        }
        if let Some((name, value)) = conf::setting(&text) {
            edited.notes.extend(note(&name, &value));
        }
        edited.new.extend([line, b"\n"].concat());
    }
    let there = lines(&edited.new).any(|line| [line, b"\n"].concat() == wanted.as_bytes());
    if !there {
        edited.says.push(wanted.trim().to_owned());
        edited.new.extend(wanted.into_bytes());
    }
    edited
}

/// What a setting makes of a server that was not made of it while it was recovered.
fn note(name: &str, value: &str) -> Option<String> {
    let mut text = String::new();
    let odd = !value.is_empty() && CODE.contains(&name) && !value.starts_with("$libdir");
    if odd && name != "archive_command" && name != "archive_library" && value != "llvmjit" {
        let _ = write!(text, "{name} = {} names code that will run", conf::quoted(value));
    } else if name == "synchronous_standby_names" && value.is_empty() {
        text.push_str("synchronous_standby_names stays empty: set it when its standbys are there");
    } else if !name.ends_with("_command") && value.starts_with('/') && !Path::new(value).exists() {
        let _ = write!(text, "{name} = {} is not there", conf::quoted(value));
    }
    (!text.is_empty()).then_some(text)
}

/// The lines of a file; one more than none is made whole.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let some = !text.is_empty();
    text.split(|byte| *byte == b'\n').filter(move |_| some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(edited: &Edited) -> String {
        String::from_utf8(edited.new.clone()).unwrap()
    }

    #[test]
    fn what_made_it_recover_goes_and_it_archives_again() {
        let old = "work_mem = '5MB'\nmax_logical_replication_workers = '6'\n# Written by drctl for \
                   this restored cluster; the last line of a name counts.\nrecovery_target_time = \
                   ''\narchive_mode = 'off'\narchive_command = ''\nsynchronous_standby_names = \
                   ''\nmax_logical_replication_workers = '0'\nrestore_command = 'x --identity \
                   /k'\nhot_standby = 'on'\n";
        let command = "drctl --config '/etc/o''clock' wal push shop %p";
        let edited = auto(old.as_bytes(), Some(command));
        assert_eq!(
            text(&edited),
            "work_mem = '5MB'\nmax_logical_replication_workers = '6'\n\
             synchronous_standby_names = ''\n\
             # Written by drctl when this cluster took its server's place.\n\
             archive_mode = 'on'\n\
             archive_command = 'drctl --config ''/etc/o''''clock'' wal push shop %p'\n\
             archive_library = ''\n"
        );
        assert!(edited.says[0].contains("restore_command"), "{:?}", edited.says);
        // Once more changes nothing.
        assert_eq!(auto(&edited.new, Some(command)).new, edited.new);
        let streamed = auto(&edited.new, None);
        assert!(text(&streamed).contains("archive_mode = 'off'\narchive_command = ''\n"));
    }

    #[test]
    fn places_of_the_server_that_is_gone_do_not_count() {
        let old = "data_directory = '/var/lib/postgresql/15/main'\nhba_file='pg_hba.conf'\n\
                   include '/nowhere/x.conf'\ninclude_if_exists = '/nowhere/y.conf'\n\
                   shared_preload_libraries = 'evil'\nwork_mem = 5MB\n";
        let data = Path::new("/srv/restored/data");
        let edited = own(old.as_bytes(), data);
        assert_eq!(
            text(&edited),
            "# drctl take-over: data_directory = '/var/lib/postgresql/15/main'\n\
             hba_file='pg_hba.conf'\n# drctl take-over: include '/nowhere/x.conf'\n\
             include_if_exists = '/nowhere/y.conf'\nshared_preload_libraries = 'evil'\n\
             work_mem = 5MB\n"
        );
        assert!(edited.notes.iter().any(|note| note.contains("names code")), "{:?}", edited.notes);
        let again = own(&edited.new, data);
        assert_eq!((again.new, again.says.len()), (edited.new, 0));
    }

    #[test]
    fn a_configuration_elsewhere_names_the_new_place() {
        let old = "data_directory = '/old' # here\nport = 5432\ndata_directory = '/older'";
        let data = Path::new("/srv/it's/data");
        let edited = elsewhere(old.as_bytes(), data);
        assert_eq!(
            text(&edited),
            "# drctl take-over: data_directory = '/old' # here\nport = 5432\n\
             # drctl take-over: data_directory = '/older'\ndata_directory = '/srv/it''s/data'\n"
        );
        assert_eq!(elsewhere(&edited.new, data), Edited { new: edited.new, ..Edited::default() });
    }
}
