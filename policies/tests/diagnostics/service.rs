//! What is said of values that are wrong, of the service: the agent, notifications, throttles.

use crate::check_main;

#[test]
fn the_service() {
    check_main(&[
        ("", "[agent]\njobs_at_once = 0", "drctl.toml:13:16: `jobs_at_once` must be 1 to 64"),
        (
            "",
            "[agent]\nstop_timeout = \"25h\"",
            "drctl.toml:13:16: `stop_timeout` must be 1s to 1d",
        ),
        ("", "[agent]\nnice = 20", "drctl.toml:13:8: `nice` must be 0 to 19"),
        (
            "",
            "[agent]\nsocket_group = \"dba, ops\"",
            "drctl.toml:13:16: `dba, ops` is no name of a group: write one name, as /etc/group has it",
        ),
        (
            "",
            "[agent]\nmetrics = \":9532\"",
            "drctl.toml:13:11: `:9532` is no address with a port: write for example \"127.0.0.1:9532\"",
        ),
        (
            "[keys]",
            "metrics = \"127.0.0.1:9532\"\n[keys]",
            "drctl.toml:4:1: unknown key `metrics`: it belongs in [agent]",
        ),
    ]);
}

#[test]
fn who_is_told() {
    let hook = "[notify.dba]\nkind = \"webhook\"\nurl = { env = \"X\" }\n";
    let mail = "[notify.dba]\nkind = \"email\"\nsmtp = \"m\"\nfrom = \"a@b.org\"\n";
    check_main(&[
        (
            "",
            &format!("{hook}sources = [\"shpo\"]"),
            "drctl.toml:15:12: there is no source `shpo`: did you mean `shop`?",
        ),
        (
            "",
            &format!("{hook}title = \"{{state}} {{when}}\""),
            "drctl.toml:15:9: `{when}` stands for nothing in a title: write one of {state}, {severity}, {code}, {source}, {host}",
        ),
        (
            "",
            &format!("{hook}token = {{ env = \"Y\" }}"),
            "drctl.toml:15:1: `token` has no effect with this kind: remove it; it is for kind = \"ntfy\"",
        ),
        (
            "",
            "[notify.dba]\nkind = \"slack\"\nurl = \"https://hooks.slack.com/x\"",
            "drctl.toml:14:7: secret written inline in `url`: put it into a file of mode 0600 and write { file = \"/path/to/the/file\" } in its place",
        ),
        (
            "",
            &format!("{mail}to = [\"nobody\"]"),
            "drctl.toml:16:7: `nobody` is no mail address: write one such as dba@example.org",
        ),
        (
            "",
            &format!("{mail}to = [\"b@c.org\"]\nuser = \"me\""),
            "drctl.toml:17:1: `user` has no effect alone: write both `user` and `password`, or neither",
        ),
        (
            "",
            "[notify.dba]\nkind = \"command\"\ncommand = [\"tell\"]",
            "drctl.toml:14:11: `command` must begin with a program's absolute path: write for example [\"/usr/local/bin/tell\", \"--urgent\"]",
        ),
    ]);
}

#[test]
fn what_is_left_to_the_databases() {
    check_main(&[
        (
            "",
            "[throttle.day]\nwindow = { from = \"08:00\", until = \"18:00\" }",
            "drctl.toml:12:11: this limits nothing: give it one of `bytes_per_second`, `requests_per_second`, `pause_above_pressure`, `pause_above_replica_lag`, or remove it",
        ),
        (
            "",
            "[throttle.day]\nrequests_per_second = 5\ntimezone = \"UTC\"",
            "drctl.toml:14:1: `timezone` has no effect without a `window`: give it a window, or remove `timezone`",
        ),
        (
            "",
            "[throttle.day]\nrequests_per_second = 5\nwindow = { from = \"08:00\" }",
            "drctl.toml:14:10: missing key `until`: When it closes; earlier than `from`: on the next day.",
        ),
        (
            "",
            "[throttle.day]\npause_above_pressure = 100",
            "drctl.toml:13:24: `pause_above_pressure` must be 1 to 99",
        ),
    ]);
}
