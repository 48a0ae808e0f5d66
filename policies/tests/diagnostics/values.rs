//! Values that have the right type and are wrong all the same.

use drctl_policies::{SourceFile, parse};

use crate::{MAIN, POLICY, check_main, check_policy, complaints, edit};

#[test]
fn repositories() {
    let url = "\"file:///srv/backups\"";
    check_main(&[
        (
            url,
            "\"/srv/backups\"",
            "drctl.toml:3:7: `url` has no scheme: write file:///path, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix",
        ),
        (
            url,
            "\"gcs://bucket\"",
            "drctl.toml:3:7: `gcs` is no scheme of a repository: did you mean `gs`?",
        ),
        (
            url,
            "\"ftp://bucket\"",
            "drctl.toml:3:7: `ftp` is no scheme of a repository: write file:///path, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix",
        ),
        (
            url,
            "\"file://srv\"",
            "drctl.toml:3:7: `url` must hold an absolute path: write file:///path, with three slashes",
        ),
        (
            url,
            "\"file:///\"",
            "drctl.toml:3:7: `url` names no directory for a repository: write file:///path",
        ),
        (
            url,
            "\"s3://Bucket\"",
            "drctl.toml:3:7: `url` names no bucket: 3 to 222 of a-z, 0-9, `-`, `.` and `_`: write the bucket's name after ://",
        ),
        (
            url,
            "\"s3://bucket/a//b\"",
            "drctl.toml:3:7: `url` has a bad prefix: parts of letters, digits, `-`, `.`, `_`, `=` and `+`: separate the parts with single slashes",
        ),
        (
            url,
            "\"s3://bucket/a/../b\"",
            "drctl.toml:3:7: `url` has a bad prefix: parts of letters, digits, `-`, `.`, `_`, `=` and `+`: separate the parts with single slashes",
        ),
        (
            url,
            "\"file:///srv\"\nregion = \"x\"",
            "drctl.toml:4:1: `region` has no meaning for file://",
        ),
        (
            url,
            "\"gs://bucket\"\naccess_key_id = { env = \"X\" }",
            "drctl.toml:4:1: `access_key_id` has no meaning for gs://",
        ),
        (
            url,
            "\"s3://bucket\"\naccess_key_id = { env = \"X\" }",
            "drctl.toml:4:1: `access_key_id` needs `secret_access_key` beside it",
        ),
        (
            url,
            "\"az://container\"",
            "drctl.toml:2:1: missing key `account`: az:// needs a storage account",
        ),
        (
            url,
            "\"s3://bucket\"\nendpoint = \"http://127.0.0.1:9000\"",
            "drctl.toml:4:12: `endpoint` is not encrypted: use https://, or write allow_http = true (`init --allow-http`) if you trust every host on the way",
        ),
        (
            url,
            "\"s3://bucket\"\nendpoint = \"minio:9000\"",
            "drctl.toml:4:12: `endpoint` is no address of a store: write for example https://host:9000",
        ),
        (
            url,
            "\"s3://bucket\"\nendpoint = \"https://h?x=1\"",
            "drctl.toml:4:12: `endpoint` must end with the host or a path: remove `?` and `#`",
        ),
    ]);
}

#[test]
fn keys() {
    let second = "\"age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg\"";
    let first = "\"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\"";
    let verifying = "[\"ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"]";
    check_main(&[
        (
            second,
            "",
            "drctl.toml:5:14: `recipients` needs at least two: add the recipient of a recovery identity that is kept offline",
        ),
        (second, first, "drctl.toml:7:2: `recipients` holds the same key twice"),
        (
            second,
            "\"age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafq\"",
            "drctl.toml:7:2: this is no age recipient: it begins with age1 and has 62 characters; copy it again",
        ),
        (
            verifying,
            "[]",
            "drctl.toml:8:18: `verifying_keys` is empty: without one no manifest can be trusted",
        ),
        (
            verifying,
            "[\"ed25519:AAAA\"]",
            "drctl.toml:8:19: this is no verifying key: write `ed25519:` and 32 bytes in base64 (44 characters)",
        ),
        (
            verifying,
            "[{ sources = [\"shop\"] }]",
            "drctl.toml:8:19: missing key `key`: `ed25519:` and 32 bytes in base64.",
        ),
        (
            verifying,
            "[{ key = \"ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\", roles = [\"drills\"] }]",
            "drctl.toml:8:92: `drills` is no role of a key: did you mean `drill`?",
        ),
    ]);
}

#[test]
fn sources() {
    check_main(&[
        (
            "\"daily\"",
            "\"dayly\"",
            "drctl.toml:11:10: there is no policy `dayly`: did you mean `daily`?",
        ),
        (
            "\"daily\"",
            "\"weekly\"",
            "drctl.toml:11:10: there is no policy `weekly`: write a file weekly.toml in the directory of the policies",
        ),
        (
            "sources.shop",
            "sources.Shop_1",
            "drctl.toml:9:10: `Shop_1` is no source name: 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit: name it `shop-1`",
        ),
        (
            "",
            "databases = []",
            "drctl.toml:12:13: `databases` is empty: name at least one, or remove the key: then all are backed up",
        ),
        (
            "",
            "databases = [\"a\", \"a\"]",
            "drctl.toml:12:19: `a` is in `databases` twice: remove one of the two",
        ),
        (
            "",
            "incremental = true",
            "drctl.toml:12:1: `incremental` has no effect with this engine: remove it; it is for \
             engine = \"base_backup\"",
        ),
        (
            "engine = \"pg_dump\"",
            "engine = \"base_backup\"\nfull_every = \"7d\"",
            "drctl.toml:11:1: `full_every` has no effect: every backup is a full one: remove it, or set \
             `incremental = true`",
        ),
        (
            "engine = \"pg_dump\"",
            "engine = \"base_backup\"\nincremental = true\nfull_every = \"59m\"",
            "drctl.toml:12:14: `full_every` must be 1h to 3650d",
        ),
        (
            "engine = \"pg_dump\"",
            "engine = \"pgbackrest\"",
            "drctl.toml:9:1: missing key `stanza`: write the name under which pgBackRest knows the cluster",
        ),
        (
            "engine = \"pg_dump\"",
            "engine = \"pgbackrest\"\nstanza = \"../x\"",
            "drctl.toml:11:10: `../x` is no name of a stanza: 1 to 63 of letters, digits, -, _ and ., \
             beginning with a letter or digit",
        ),
        (
            "engine = \"pg_dump\"",
            "engine = \"pgbackrest\"\nstanza = \"main\"\nrepo = 257",
            "drctl.toml:12:8: `repo` must be 1 to 256",
        ),
        (
            "engine = \"pg_dump\"",
            "engine = \"pgbackrest\"\nstanza = \"main\"\ndifferential_every = \"7d\"",
            "drctl.toml:12:1: `differential_every` has no effect: a full backup comes every 1w: make it \
             shorter than `full_every`, or remove it",
        ),
        (
            "engine = \"pg_dump\"",
            "engine = \"pgbackrest\"\nstanza = \"main\"\ncipher_pass = \"abc\"",
            "drctl.toml:12:15: secret written inline in `cipher_pass`: put it into a file of mode 0600 \
             and write { file = \"/path/to/the/file\" } in its place",
        ),
        (
            "",
            "full_every = \"7d\"",
            "drctl.toml:12:1: `full_every` has no effect with this engine: remove it; it is for \
             engine = \"base_backup\" or \"pgbackrest\"",
        ),
        (
            "",
            "databases = [\"a\"]\nexclude_databases = []",
            "drctl.toml:13:1: `exclude_databases` cannot stand beside `databases`: keep one of the two",
        ),
        (
            "",
            "sslmode = \"disable\"\nssl_root_cert = \"/x\"",
            "drctl.toml:13:1: `ssl_root_cert` has no effect with sslmode = \"disable\"",
        ),
    ]);
}

#[test]
fn an_account_whose_helper_runs_pgbackrest() {
    check_main(&[
        (
            "engine = \"pg_dump\"",
            "engine = \"pgbackrest\"\nstanza = \"main\"\nrun_as = \"root\"",
            "drctl.toml:12:10: `run_as` may not be root: name the account that the server runs as, \
             often postgres",
        ),
        (
            "engine = \"pg_dump\"",
            "engine = \"pgbackrest\"\nstanza = \"main\"\nrun_as = \"../x\"",
            "drctl.toml:12:10: `../x` is no name of an account: write one name, as /etc/passwd has it",
        ),
        (
            "engine = \"pg_dump\"",
            "engine = \"pgbackrest\"\nstanza = \"main\"\nrun_as = \"postgres\"\npgbackrest_config = \"/x\"",
            "drctl.toml:13:1: `pgbackrest_config` has no effect with `run_as`: remove it; \
             /etc/drctl-job/postgres.toml says which",
        ),
        (
            "engine = \"pg_dump\"",
            "engine = \"pgbackrest\"\nstanza = \"main\"\nrun_as = \"postgres\"\n\
             cipher_pass = { env = \"X\" }",
            "drctl.toml:13:1: `cipher_pass` has no effect with `run_as`: write repo1-cipher-pass into \
             pgBackRest's configuration",
        ),
        (
            "",
            "run_as = \"postgres\"",
            "drctl.toml:12:1: `run_as` has no effect with this engine: remove it; it is for engine = \
             \"pgbackrest\"",
        ),
    ]);
}

#[test]
fn an_account_is_required_at_sockets_alone() {
    check_main(&[(
        "",
        "host = \"db.example\"\nrequire_peer = \"postgres\"",
        "drctl.toml:13:1: `require_peer` has no effect: `host` is no directory of a socket",
    )]);
}

const NO_NICKNAME: &str = "`@reboot` is not supported in a schedule: write a cron line, or one of \
                           @hourly, @daily, @weekly, @monthly and @yearly";

#[test]
fn policies() {
    let file = "policies.d/daily.toml";
    let schedule = "\"0 2 * * *\"";
    let example = "write for example \"0 2 * * *\" for every day at 02:00";
    check_policy(&[
        (
            schedule,
            "\"0 25 * * *\"",
            &format!("{file}:1:12: bad schedule: hour `25`: 25 is not in 0 to 23: {example}"),
        ),
        (
            schedule,
            "\"0 2 * *\"",
            &format!(
                "{file}:1:12: a schedule has 5 fields (minute, hour, day of month, month, day of week), this has 4: {example}"
            ),
        ),
        (schedule, "\"@reboot\"", &format!("{file}:1:12: {NO_NICKNAME}")),
        (
            schedule,
            "\"0 0 31 2 *\"",
            &format!(
                "{file}:1:12: this schedule can never fire: no month it allows has such a day: for the last day of a month write \"0 0 L * *\""
            ),
        ),
        (
            "Europe/Berlin",
            "Europe/Belrin",
            &format!("{file}:2:12: `Europe/Belrin` is no time zone: did you mean `Europe/Berlin`?"),
        ),
        (
            "Europe/Berlin",
            "CEST",
            &format!("{file}:2:12: `CEST` is no time zone: did you mean `CET`?"),
        ),
        (
            "daily = 7",
            "daily = 0",
            &format!(
                "{file}:3:1: this retention keeps nothing: give at least one of last, hourly, daily, weekly, monthly, yearly and within"
            ),
        ),
        (
            "[retention]\ndaily = 7\n",
            "",
            &format!(
                "{file}:1:1: missing key `retention`: Which backups are kept; at least one rule."
            ),
        ),
        (
            "[retention]",
            "compression_level = 20\n[retention]",
            &format!("{file}:3:21: `compression_level` must be 1 to 19"),
        ),
        (
            "",
            "within = \"30\"",
            &format!(
                "{file}:5:10: `30` is no value of `within`: the unit is missing: write for example \"90m\""
            ),
        ),
        (
            schedule,
            "\"0 2 * * 0\"",
            &format!(
                "{file}:4:9: `daily` cannot be reached: the schedule runs every 1w at most, not every day: use a rule for a longer period or `last`, or run more often"
            ),
        ),
        (
            "",
            "within = \"12h\"",
            &format!(
                "{file}:5:10: `within` of 12h ends before the next run: the schedule pauses 1d: make it longer, or use `last`"
            ),
        ),
        (
            "",
            "[objectives]\nrpo = \"12h\"",
            &format!(
                "{file}:6:7: an `rpo` of 12h cannot be met: the schedule pauses 1d: run more \
                 often, or set a longer rpo; allow for the duration of the backup itself"
            ),
        ),
    ]);
}

#[test]
fn times_of_a_policy() {
    let file = "policies.d/daily.toml";
    let dates = "write \"2026-12-24\", or \"2026-12-24..2027-01-02\" with the earlier one first";
    check_policy(&[
        (
            "[retention]",
            "jitter = \"13h\"\n[retention]",
            &format!("{file}:3:10: `jitter` must be 0s to 12h"),
        ),
        (
            "\"0 2 * * *\"",
            "\"@hourly\"\njitter = \"1h\"",
            &format!(
                "{file}:2:10: a `jitter` of 1h reaches the next run: one is due every 1h: make it shorter, or run less often"
            ),
        ),
        (
            "[retention]",
            "jitter = \"5m\"\n[verify]\nschedule = \"*/5 * * * *\"\n[retention]",
            &format!(
                "{file}:3:10: a `jitter` of 5m reaches the next run: one is due every 5m: make it shorter, or run less often"
            ),
        ),
        (
            "[retention]",
            "attempts = 21\n[retention]",
            &format!("{file}:3:12: `attempts` must be 1 to 20"),
        ),
        (
            "[retention]",
            "blackout = [\"2026-12-24\", \"2026-12-26..2026-12-24\"]\n[retention]",
            &format!(
                "{file}:3:27: `2026-12-26..2026-12-24` is no date and no range of dates: {dates}"
            ),
        ),
        (
            "[retention]",
            "blackout = [\"24.12.2026\"]\n[retention]",
            &format!("{file}:3:13: `24.12.2026` is no date and no range of dates: {dates}"),
        ),
    ]);
}

#[test]
fn windows_and_schedules_of_a_policy() {
    let file = "policies.d/daily.toml";
    check_policy(&[
        (
            "[retention]",
            "window.from = \"22:00\"\n[retention]",
            &format!(
                "{file}:3:1: missing key `until`: When it closes; earlier than `from`: on the next day."
            ),
        ),
        (
            "[retention]",
            "window = { from = \"22:00\", until = \"24:00\" }\n[retention]",
            &format!(
                "{file}:3:36: `24:00` is no time of day: write hours and minutes, 00:00 to 23:59, for example \"22:00\""
            ),
        ),
        (
            "[retention]",
            "window = { from = \"22:00\", until = \"22:00\" }\n[retention]",
            &format!(
                "{file}:3:36: this window ends when it begins: make them differ, or remove both: then it is the whole day"
            ),
        ),
        ("", "[prune]\nschedule = \"@reboot\"", &format!("{file}:6:12: {NO_NICKNAME}")),
        ("", "[log_index]\nschedule = \"@reboot\"", &format!("{file}:6:12: {NO_NICKNAME}")),
        (
            "",
            "[verify]\nwithin = \"14d\"",
            &format!(
                "{file}:6:1: `within` has no effect without a `schedule`: give [verify] a `schedule`, or remove `within`"
            ),
        ),
        (
            "",
            "[verify]\nschedule = \"@weekly\"\nwithin = \"6d\"",
            &format!(
                "{file}:7:10: `within` of 6d ends before the next run: the schedule pauses 1w: make it longer, or verify more often"
            ),
        ),
    ]);
}

#[test]
fn who_brings_the_log() {
    let engine = "engine = \"pg_dump\"";
    check_main(&[
        (
            "",
            "log = \"stream\"\n",
            "drctl.toml:12:1: `log` has no effect with this engine: remove it; it is for engine = \
             \"base_backup\" or \"pgbackrest\"",
        ),
        (
            "",
            "log_slot = \"a\"",
            "drctl.toml:12:1: `log_slot` has no effect with this engine: remove it; it is for \
             engine = \"base_backup\" or \"pgbackrest\"",
        ),
        (
            engine,
            "engine = \"base_backup\"\nlog = \"streams\"",
            "drctl.toml:11:7: `streams` is no value of `log`: did you mean `stream`?",
        ),
        (
            engine,
            "engine = \"base_backup\"\nlog = \"push\"\nlog_slot = \"a\"",
            "drctl.toml:12:1: `log_slot` has no effect: the agent does not stream this log: remove \
             it, or set `log = \"stream\"`",
        ),
        (
            engine,
            "engine = \"base_backup\"\nlog_heartbeat = \"1m\"",
            "drctl.toml:11:1: `log_heartbeat` has no effect: the agent does not stream this log: \
             remove it, or set `log = \"stream\"`",
        ),
        (
            engine,
            "engine = \"base_backup\"\nlog = \"synchronous\"\nlog_heartbeat_table = true",
            "drctl.toml:12:1: `log_heartbeat_table` has no effect: there is no heartbeat: remove \
             it, or set `log_heartbeat`",
        ),
        (
            engine,
            "engine = \"base_backup\"\nlog = \"stream\"\nlog_slot = \"Shop-1\"",
            "drctl.toml:12:12: `Shop-1` is no name of a slot: 1 to 63 of a-z, 0-9 and _",
        ),
    ]);
}

#[test]
fn a_backup_that_leads_to_the_begin_of_a_window_may_not_be_too_old() {
    let file = "policies.d/daily.toml";
    check_policy(&[(
        "",
        "within = \"14d\"\nmax_age = \"14d\"",
        &format!(
            "{file}:6:11: `max_age` of 2w is too short: `within` needs backups of up to 15d, \
                 since a recovery to its begin starts from the backup before it: make it longer, \
                 or `within` shorter"
        ),
    )]);
}

#[test]
fn a_promise_that_only_log_can_keep() {
    let short = format!("{POLICY}[objectives]\nrpo = \"1m\"\n");
    assert_eq!(complaints(MAIN, &short).len(), 1);
    let cluster = edit(MAIN, "engine = \"pg_dump\"", "engine = \"base_backup\"");
    assert_eq!(complaints(&cluster, &short), [""; 0]);
    // Dumps have none, whoever else shares the policy.
    let both = format!("{cluster}[sources.blog]\nengine = \"pg_dump\"\npolicy = \"daily\"\n");
    assert_eq!(complaints(&both, &short).len(), 1);
}

#[test]
fn names_of_policies() {
    let main = SourceFile { name: "drctl.toml".into(), text: MAIN.into() };
    let file = |name: &str| SourceFile { name: name.into(), text: POLICY.into() };
    let files = [file("p/daily.toml"), file("q/daily.toml"), file("p/a b.toml")];
    let found: Vec<_> = parse(&main, &files).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "q/daily.toml:1:1: another file is the policy `daily` too",
            "p/a b.toml:1:1: `a b` is no name of a policy: name the file with 1 to 63 letters, \
             digits, - and _, and .toml",
        ]
    );
}

#[test]
fn what_only_just_fits_is_good() {
    let weekly = "schedule = \"0 2 * * 0\"\n[retention]\n";
    let policies = [
        format!("{weekly}weekly = 4"),
        format!("{weekly}last = 1\nwithin = \"1w\"\n[objectives]\nrpo = \"1w\""),
        "[retention]\nyearly = 100".to_owned(),
        "compression_level = 19\nretention.daily = 36500".to_owned(),
        format!("jitter = \"12h\"\nattempts = 20\nblackout = []\n{weekly}weekly = 4"),
        format!("jitter = \"59m\"\n{}hourly = 4", weekly.replace("0 2 * * 0", "@hourly")),
        "window = { from = \"23:59\", until = \"00:00\" }\nretention.last = 1".to_owned(),
        "verify = { schedule = \"@weekly\", within = \"7d\" }\nretention.last = 1".to_owned(),
        "prune.schedule = \"@yearly\"\nretention.last = 1".to_owned(),
        "log_index.schedule = \"never\"\nretention.last = 1".to_owned(),
    ];
    for policy in policies {
        assert_eq!(complaints(MAIN, &policy), Vec::<String>::new(), "{policy}");
    }
    for line in ["port = 65535", "port = 1", "lock_timeout = \"1h\"", "lock_attempts = 100"] {
        assert_eq!(complaints(&edit(MAIN, "", line), POLICY), Vec::<String>::new(), "{line}");
    }
}

#[test]
fn a_bad_rule_does_not_count_as_none() {
    let advice = "write for example \"90m\"";
    check_policy(&[(
        "daily = 7",
        "within = \"30\"",
        &format!(
            "policies.d/daily.toml:4:10: `30` is no value of `within`: the unit is missing: \
             {advice}"
        ),
    )]);
}
