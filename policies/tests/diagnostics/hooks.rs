//! `[hooks.NAME]`.

use crate::check_main;

#[test]
fn what_is_run_before_and_after() {
    let hook = "[hooks.a]\ncommand = [\"/bin/a\"]\n";
    check_main(&[
        (
            "",
            &format!("{hook}on = []"),
            "drctl.toml:14:6: `on` is empty: write some of \"before\", \"success\", \"failure\", \"after\"",
        ),
        (
            "",
            &format!("{hook}on = [\"after\"]\njobs = [\"verify\"]"),
            "drctl.toml:15:9: `verify` is not allowed in `jobs`: write some of \"backup\", \"prune\"",
        ),
        (
            "",
            &format!("{hook}on = [\"after\"]\non_failure = \"stop\""),
            "drctl.toml:15:1: `on_failure` has no effect without `before`: remove it: what fails after a job changes nothing of it",
        ),
        (
            "",
            "[hooks.a]\non = [\"after\"]",
            "drctl.toml:12:1: missing key `command` or `url`: a hook needs one of both",
        ),
        (
            "",
            &format!("{hook}on = [\"after\"]\nurl = {{ env = \"X\" }}"),
            "drctl.toml:15:1: `url` has no effect beside `command`: remove one of both, or write two hooks",
        ),
        (
            "",
            &format!("{hook}on = [\"after\"]\nallow_plain = true"),
            "drctl.toml:15:1: `allow_plain` has no effect without `url`: remove it",
        ),
        (
            "",
            "[hooks.a]\non = [\"after\"]\ncommand = [\"a\"]",
            "drctl.toml:14:11: `command` must begin with a program's absolute path: write for example [\"/usr/local/bin/tell\", \"--urgent\"]",
        ),
    ]);
}
