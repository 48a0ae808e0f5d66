//! Settings of the server that replays: all that our sessions and the recovery rely on is said by
//! us, whatever the cluster's own configuration says. That is the source's, and may be an
//! intruder's: what it names to be loaded or run is not loaded and not run here. It was made for another
//! host, too: what this one cannot take keeps no recovery from its end.

use super::conf;

/// From which major version on, and up to which, there is a setting.
type Majors = std::ops::RangeInclusive<u32>;

const ALL: Majors = 0..=u32::MAX;

/// On the command line, where no file overrides it. What must not run comes first.
const FORCED: &[(Majors, &str, &str)] = &[
    // Libraries: none is loaded by its name in the configuration.
    (ALL, "session_preload_libraries", ""),
    (ALL, "local_preload_libraries", ""),
    (ALL, "dynamic_library_path", "$libdir"),
    (18..=u32::MAX, "extension_control_path", "$system"),
    (18..=u32::MAX, "oauth_validator_libraries", ""),
    (ALL, "jit", "off"),
    (ALL, "jit_provider", "llvmjit"),
    (15..=u32::MAX, "archive_library", ""),
    // Commands.
    (ALL, "archive_mode", "off"),
    (ALL, "archive_command", ""),
    (ALL, "archive_cleanup_command", ""),
    (ALL, "recovery_end_command", ""),
    (ALL, "ssl_passphrase_command", ""),
    (17..=u32::MAX, "event_triggers", "off"),
    // Ways out and ways in.
    (ALL, "listen_addresses", ""),
    (ALL, "unix_socket_permissions", "0700"),
    (ALL, "unix_socket_group", ""),
    (ALL, "bonjour", "off"),
    (ALL, "ssl", "off"),
    (ALL, "primary_conninfo", ""),
    (ALL, "primary_slot_name", ""),
    (ALL, "synchronous_standby_names", ""),
    (ALL, "max_logical_replication_workers", "0"),
    (17..=u32::MAX, "sync_replication_slots", "off"),
    // Jobs that reach out would run between a promotion and the end of the server.
    (ALL, "cron.launch_active_jobs", "off"),
    // Nothing is written that nobody asked for.
    (ALL, "autovacuum", "off"),
    // Its log, by which a recovery is judged.
    (ALL, "logging_collector", "off"),
    (ALL, "log_destination", "stderr"),
    (ALL, "log_min_messages", "warning"),
    (ALL, "log_min_error_statement", "panic"),
    (ALL, "log_error_verbosity", "default"),
    (ALL, "log_line_prefix", "%m [%p] "),
    (ALL, "log_timezone", "UTC"),
    (ALL, "log_statement", "none"),
    (ALL, "log_min_duration_statement", "-1"),
    (ALL, "lc_messages", "C"),
    // What sessions begin with.
    (ALL, "timezone", "UTC"),
    (ALL, "default_transaction_isolation", "read committed"),
    // Whoever looks at it changes nothing by mistake, also where it had to be promoted to be read.
    (ALL, "default_transaction_read_only", "on"),
    (ALL, "default_transaction_deferrable", "off"),
    (ALL, "search_path", "\"$user\", public"),
    (ALL, "row_security", "on"),
    (ALL, "datestyle", "ISO, MDY"),
    (ALL, "intervalstyle", "postgres"),
    (ALL, "bytea_output", "hex"),
    (ALL, "extra_float_digits", "1"),
    (ALL, "standard_conforming_strings", "on"),
    (ALL, "statement_timeout", "0"),
    (ALL, "lock_timeout", "0"),
    (ALL, "idle_in_transaction_session_timeout", "0"),
    (14..=u32::MAX, "idle_session_timeout", "0"),
    (17..=u32::MAX, "transaction_timeout", "0"),
    (ALL, "default_tablespace", ""),
    (ALL, "temp_tablespaces", ""),
    // The recovery itself.
    (ALL, "hot_standby", "on"),
    (ALL, "recovery_min_apply_delay", "0"),
    // A server that waits for WAL says why each time it has looked for it.
    (ALL, "wal_retrieve_retry_interval", "2s"),
    (ALL, "fsync", "on"),
    (ALL, "zero_damaged_pages", "off"),
    (ALL, "ignore_invalid_pages", "off"),
    (ALL, "ignore_system_indexes", "off"),
    (ALL, "ignore_checksum_failure", "off"),
    (14..=u32::MAX, "remove_temp_files_after_crash", "on"),
    (ALL, "restart_after_crash", "on"),
    (ALL, "data_sync_retry", "off"),
    // It is known on every kernel, in a sandbox too.
    (18..=u32::MAX, "io_method", "worker"),
    (ALL, "huge_pages", "try"),
    // What developers have to delay, to trap or to trace it.
    (ALL, "pre_auth_delay", "0"),
    (ALL, "post_auth_delay", "0"),
    (ALL, "authentication_timeout", "1min"),
    (0..=16, "db_user_namespace", "off"),
    (ALL, "exit_on_error", "off"),
    (ALL, "max_standby_archive_delay", "30s"),
    (ALL, "max_standby_streaming_delay", "30s"),
    (0..=16, "old_snapshot_threshold", "-1"),
    (ALL, "temp_file_limit", "-1"),
    (ALL, "track_activities", "on"),
    (14..=u32::MAX, "huge_page_size", "0"),
    (14..=u32::MAX, "recovery_init_sync_method", "fsync"),
    (15..=u32::MAX, "recovery_prefetch", "try"),
    (14..=u32::MAX, "debug_discard_caches", "0"),
    (0..=15, "force_parallel_mode", "off"),
    (16..=u32::MAX, "debug_parallel_query", "off"),
    (16..=u32::MAX, "debug_io_direct", ""),
    (16..=u32::MAX, "send_abort_for_crash", "off"),
    (16..=u32::MAX, "send_abort_for_kill", "off"),
    (ALL, "allow_system_table_mods", "off"),
    (ALL, "backtrace_functions", ""),
    (ALL, "debug_print_parse", "off"),
    (ALL, "debug_print_rewritten", "off"),
    (ALL, "debug_print_plan", "off"),
    (ALL, "trace_notify", "off"),
    (ALL, "trace_sort", "off"),
    (0..=16, "trace_recovery_messages", "log"),
    (17..=u32::MAX, "trace_connection_negotiation", "off"),
];

/// The settings for a server of this major version.
pub(super) fn forced(major: u32) -> impl Iterator<Item = (&'static str, &'static str)> {
    let there = FORCED.iter().filter(move |(majors, _, _)| majors.contains(&major));
    there.map(|(_, name, value)| (*name, *value))
}

/// Options of our own sessions (`options` of the protocol), which those that were set for a role or
/// a database do not override: beside those that every session of ours has (`pg/options.rs`). What
/// only a superuser may set is tried first, then without.
pub(super) fn session_options(major: u32) -> Vec<String> {
    let all = "-c extra_float_digits=1 -c client_min_messages=notice -c jit=off".to_owned();
    let mut more = format!("{all} -c session_preload_libraries= -c dynamic_library_path=$libdir");
    if major >= 17 {
        more.push_str(" -c event_triggers=off");
    }
    vec![more, all]
}

/// What the server that replays reads of the cluster's `postgresql.auto.conf`: where it is to stop, which
/// drctl has written there, and settings of libraries, which one that is loaded by its name may need. A
/// value of any other setting keeps a server from starting where the host cannot take it, also if the
/// command line has another one. The last of a name, as PostgreSQL takes it.
pub(super) fn of_instance(text: &str) -> String {
    let mut found: Vec<(String, String)> = Vec::new();
    for (name, value) in text.lines().filter_map(conf::setting) {
        if name.starts_with("recovery_target") || is_a_librarys(&name) {
            found.retain(|(known, _)| *known != name);
            found.push((name, value));
        }
    }
    found.iter().map(|(name, value)| conf::line(name, value)).collect()
}

/// Whether it is the name of a setting that only a library has: two words, a dot between them. Its value
/// is looked at by nobody but the library.
pub(super) fn is_a_librarys(name: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
    };
    name.split_once('.').is_some_and(|(library, own)| is_word(library) && is_word(own))
}

/// Sizes that the source was given and that a replay is as fast as: numbers, and nothing that names
/// anything.
const SIZES: &[&str] = &[
    "shared_buffers",
    "wal_buffers",
    "wal_decode_buffer_size",
    "work_mem",
    "maintenance_work_mem",
    "max_wal_size",
    "min_wal_size",
    "checkpoint_timeout",
    "checkpoint_completion_target",
    "effective_io_concurrency",
    "maintenance_io_concurrency",
];

/// The lines of a configuration for the sizes that these texts set, the last of a name as PostgreSQL
/// takes it. Nothing that they include is read.
pub(super) fn sizes(texts: &[String]) -> String {
    let lines = texts.iter().flat_map(|text| text.lines().filter_map(size));
    let mut found: Vec<(&str, &str)> = Vec::new();
    for (name, value) in lines {
        found.retain(|(known, _)| *known != name);
        found.push((name, value));
    }
    found.iter().map(|(name, value)| format!("{name} = '{value}'\n")).collect()
}

fn size(line: &str) -> Option<(&'static str, &str)> {
    let line = line.trim_start();
    let end = line.find(|c: char| c == '=' || c.is_whitespace())?;
    let (name, rest) = line.split_at(end);
    let name = SIZES.iter().find(|known| name.eq_ignore_ascii_case(known))?;
    let rest = rest.trim_start().trim_start_matches('=').trim_start();
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => quoted.split('\'').next()?,
        None => rest.split(|c: char| c == '#' || c.is_whitespace()).next()?,
    };
    let value = value.trim();
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &value[digits.len()..];
    let number = digits.trim_end();
    let plain = number.strip_prefix('-').unwrap_or(number);
    let is_number = plain.starts_with(|c: char| c.is_ascii_digit())
        && plain.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let units = ["", "B", "kB", "MB", "GB", "TB", "us", "ms", "s", "min", "h", "d"];
    (is_number && units.contains(&unit)).then_some((*name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_only_what_it_knows() {
        let names = |major| forced(major).map(|(name, _)| name).collect::<Vec<_>>();
        assert!(!names(14).contains(&"archive_library") && names(15).contains(&"archive_library"));
        assert!(names(16).contains(&"db_user_namespace"));
        assert!(!names(17).contains(&"db_user_namespace"));
        assert!(!names(16).contains(&"event_triggers") && names(17).contains(&"event_triggers"));
        let mut all = names(18);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "one name twice");
    }

    /// Whatever a cluster sets of what developers have, it neither waits for that nor ends by it.
    #[test]
    fn what_delays_or_traps_a_server_is_not_taken_from_the_source() {
        for major in 15..=18 {
            let forced: std::collections::BTreeMap<_, _> = forced(major).collect();
            for (name, value) in [
                ("pre_auth_delay", "0"),
                ("post_auth_delay", "0"),
                ("authentication_timeout", "1min"),
                ("exit_on_error", "off"),
                ("restart_after_crash", "on"),
                ("ignore_invalid_pages", "off"),
                ("recovery_init_sync_method", "fsync"),
                ("debug_discard_caches", "0"),
                ("trace_sort", "off"),
            ] {
                assert_eq!(forced.get(name), Some(&value), "{major}: {name}");
            }
        }
    }

    #[test]
    fn of_an_instance_no_setting_is_read_that_a_host_could_refuse() {
        let auto = "lc_time = 'xx_XX'\nmax_stack_depth = 1GB\n\
                    recovery_target_lsn = ''\nPgAudit.Log = 'all'\na-b.c = 1\nx.y.z = 1\n.z = 1\n\
                    recovery_target_lsn = '0/5'\ninclude 'x.conf'\nrecovery_prefetch = maybe\n";
        assert_eq!(of_instance(auto), "pgaudit.log = 'all'\nrecovery_target_lsn = '0/5'\n");
    }

    #[test]
    fn sizes_are_taken_and_nothing_else_is() {
        let conf = "shared_buffers = 128MB\t# min 128kB\n  Shared_Buffers='1GB'\nwork_mem 4MB\n\
                    max_wal_size = 'x'\ncheckpoint_timeout = 5min; DROP\nmin_wal_size = '80MB\n\
                    include = '/etc/evil'\nshared_preload_libraries = 'evil'\nwal_buffers = -1\n\
                    checkpoint_completion_target = 0.9\neffective_io_concurrency =\n";
        let auto = "work_mem = '64 MB'\n".to_owned();
        assert_eq!(
            sizes(&[conf.to_owned(), auto]),
            "shared_buffers = '1GB'\nmin_wal_size = '80MB'\nwal_buffers = '-1'\n\
             checkpoint_completion_target = '0.9'\nwork_mem = '64 MB'\n"
        );
    }
}
