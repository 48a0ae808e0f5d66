//! Tools that lie, die and hang: end of file is not success.

use std::process::Command;

use crate::common::Shop;

/// Backs up well once, then with a `pg_dump` that is `script`, then well again.
#[track_caller]
fn never_counts(script: &str, code: &str, words: &[&str]) {
    let (shop, tools) = Shop::with_tools();
    let good = shop.site.backup();
    tools.set("pg_dump", script);
    let said = shop.site.fails(10, code, &["backup", "shop"]);
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    shop.only(&[&good], words[0]);
    assert_eq!(shop.sessions(), 0);
    shop.still_restores(&good);
    tools.honest("pg_dump");
    let next = shop.site.backup();
    assert_eq!(shop.site.status()["health"], "good");
    shop.still_restores(&next);
}

#[test]
fn what_a_tool_warns_of_is_shown() {
    let (shop, tools) = Shop::with_tools();
    tools.set(
        "pg_dump",
        "echo 'pg_dump: warning: subscriptions not dumped' >&2\nexec \"$REAL\" \"$@\"",
    );
    let ran = shop.site.drctl(&["backup", "shop"]).ended(0);
    assert!(
        ran.err.contains("pg_dump says: pg_dump: warning: subscriptions not dumped"),
        "{}",
        ran.err
    );
}

#[test]
fn a_child_that_dies_after_clean_looking_output_never_yields_a_manifest() {
    never_counts(
        "\"$REAL\" \"$@\"; echo 'cannot write to the log' >&2; exit 1",
        "tool_failed",
        &["pg_dump failed (exit status 1)", "cannot write to the log", "earlier backups"],
    );
}

#[test]
fn a_child_that_is_killed_in_the_middle_never_yields_a_manifest() {
    never_counts(
        "\"$REAL\" \"$@\" | head -c 300000; kill -9 $$",
        "tool_failed",
        &["pg_dump failed (killed by signal 9)"],
    );
}

#[test]
fn half_an_output_with_status_0_never_yields_a_manifest() {
    never_counts(
        "\"$REAL\" \"$@\" | head -c 300000; exit 0",
        "structure",
        &["the output of pg_dump for database", "damaged or incomplete"],
    );
}

#[test]
fn an_output_that_lacks_its_last_byte_never_yields_a_manifest() {
    never_counts("\"$REAL\" \"$@\" | head -c -1; exit 0", "structure", &["damaged or incomplete"]);
}

#[test]
fn no_output_with_status_0_never_yields_a_manifest() {
    never_counts("exit 0", "structure", &["the output of pg_dump for database"]);
}

#[test]
fn a_dump_of_another_snapshot_never_yields_a_manifest() {
    // Another row than those that were counted, in a dump that is perfect in itself.
    let script = "args=(); for arg in \"$@\"; do case $arg in --snapshot=*) ;; \
        --dbname=*) args+=(\"$arg\"); conn=${arg#--dbname=} ;; *) args+=(\"$arg\") ;; esac; done\n\
        \"${REAL%/*}/psql\" -XqAt -d \"$conn\" -c \"insert into public.orders values (0, 'late')\" >&2\n\
        exec \"$REAL\" \"${args[@]}\"";
    let (shop, tools) = Shop::with_tools();
    let good = shop.site.backup();
    tools.set("pg_dump", script);
    let said = shop.site.fails(10, "counts", &["backup", "shop"]);
    assert!(said.contains("public.orders has 20001 rows instead of 20000"), "{said}");
    shop.only(&[&good], "public.orders has 20001 rows");
    shop.still_restores(&good);
}

#[test]
fn globals_that_are_cut_never_yield_a_manifest() {
    let (shop, tools) = Shop::with_tools();
    tools.set("pg_dumpall", "\"$REAL\" \"$@\" | head -c 300; exit 0");
    let said = shop.site.fails(10, "structure", &["backup", "shop"]);
    assert!(said.contains("pg_dumpall"), "{said}");
    shop.only(&[], "pg_dumpall");
    tools.set("pg_dumpall", "\"$REAL\" \"$@\"; exit 3");
    shop.site.fails(10, "tool_failed", &["backup", "shop"]);
    shop.only(&[], "pg_dumpall failed (exit status 3)");
    tools.honest("pg_dumpall");
    let _ = shop.site.backup();
}

#[test]
fn a_tool_that_floods_its_standard_error_is_read_and_bounded() {
    let (shop, tools) = Shop::with_tools();
    let flood = "yes 'there is something I must complain of' | head -c 100000000 >&2";
    tools.set("pg_dump", &format!("{flood}\nexec \"$REAL\" \"$@\""));
    let good = shop.site.backup();
    shop.still_restores(&good);
    tools.set("pg_dump", &format!("\"$REAL\" \"$@\"\n{flood}\necho 'the last word' >&2\nexit 1"));
    let said = shop.site.fails(10, "tool_failed", &["backup", "shop"]);
    assert!(said.contains("the last word") && said.len() < 20_000, "{} bytes", said.len());
    shop.only(&[&good], "the last word");
}

#[test]
fn a_tool_of_another_major_version_is_refused_before_the_first_byte() {
    let (shop, tools) = Shop::with_tools();
    let good = shop.site.backup();
    for tool in ["pg_dump", "pg_dumpall"] {
        tools.claim(tool, "11.22");
        let before = shop.site.files("repository");
        let said = shop.site.fails(10, "version_mismatch", &["backup", "shop"]);
        assert!(said.contains(&format!("{tool} is version 11.22")), "{said}");
        assert!(said.contains("postgresql-client-"), "{said}");
        assert_eq!(shop.site.files("repository"), before);
        shop.only(&[&good], tool);
        tools.honest(tool);
    }
    tools.claim("pg_restore", "11.22");
    let new = crate::common::name();
    shop.site.fails(10, "version_mismatch", &shop.to_beside(&good, &new));
    assert!(!shop.has(&new));
}

#[test]
fn a_missing_tool_is_refused_before_the_first_byte() {
    let (shop, tools) = Shop::with_tools();
    for tool in ["pg_dump", "pg_dumpall"] {
        tools.remove(tool);
        let before = shop.site.files("repository");
        let said = shop.site.fails(10, "tool_missing", &["backup", "shop"]);
        assert!(said.contains(&format!("cannot find {tool} for")), "{said}");
        assert!(said.contains(&tools.path().display().to_string()), "{said}");
        assert!(said.contains("bin_dir"), "{said}");
        assert_eq!(shop.site.files("repository"), before);
        shop.only(&[], tool);
        tools.honest(tool);
    }
    let good = shop.site.backup();
    tools.remove("pg_restore");
    let new = crate::common::name();
    shop.site.fails(10, "tool_missing", &shop.to_beside(&good, &new));
    assert!(!shop.has(&new));
}

#[test]
fn a_restoring_tool_that_fails_leaves_nothing_behind() {
    let (shop, tools) = Shop::with_tools();
    let good = shop.site.backup();
    for (script, jobs) in [
        ("\"$REAL\" \"$@\"; echo 'out of luck' >&2; exit 1", "1"),
        ("\"$REAL\" \"$@\"; echo 'out of luck' >&2; exit 1", "2"),
        ("head -c 100000 >/dev/null; echo 'out of luck' >&2; exit 1", "1"),
    ] {
        tools.set("pg_restore", script);
        let new = crate::common::name();
        let arguments = [&shop.to_beside(&good, &new)[..], &["--jobs", jobs]].concat();
        let said = shop.site.fails(10, "tool_failed", &arguments);
        assert!(said.contains("out of luck") && said.contains("has dropped it again"), "{said}");
        assert!(!shop.has(&new), "{script}");
    }
}

#[test]
fn a_restoring_tool_that_lies_is_found_out_by_the_rows() {
    let (shop, tools) = Shop::with_tools();
    let good = shop.site.backup();
    tools.set("pg_restore", "\"$REAL\" --schema-only \"$@\"; cat >/dev/null; exit 0");
    let new = crate::common::name();
    let said = shop.site.fails(4, "mismatch", &shop.to_beside(&good, &new));
    assert!(said.contains("public.orders has 0 rows instead of 20000"), "{said}");
    assert!(said.contains("do not use"), "{said}");
}

#[test]
fn a_grandchild_that_keeps_a_pipe_open_does_not_hang_the_backup() {
    let (shop, tools) = Shop::with_tools();
    tools.set("pg_dump", "sleep 600 >/dev/null & tell child $!\nexec \"$REAL\" \"$@\"");
    let good = shop.site.backup();
    let child = tools.await_file("child");
    let killed = Command::new("kill").args(["-KILL", child.trim()]).status().unwrap();
    assert!(killed.success());
    shop.still_restores(&good);
}

#[test]
fn a_tool_that_hangs_is_given_up_and_one_that_works_in_silence_is_not() {
    let (shop, tools) = Shop::with_tools();
    shop.site.source("silence = \"2s\"");
    // An index that takes its time.
    shop.sql(
        "create function slow(x int) returns int immutable language plpgsql as \
         $$ begin if x = 1 then perform pg_sleep(5); end if; return x; end $$; \
         create table few as select g from generate_series(1, 3) g; create index on few (slow(g))",
    );
    let good = shop.site.backup();
    let new = shop.beside(&["--backup", &good], &[]);
    assert_eq!(shop.server.psql(&new, "select count(*) from orders"), "20000");
    // Those that take nothing, and those that take all and do not end.
    let spooled = ["--jobs", "2"];
    for (script, more) in [
        ("exec sleep 1000", &[][..]),
        ("cat >/dev/null; exec sleep 1000", &[]),
        ("exec sleep 1000", &spooled),
    ] {
        tools.set("pg_restore", script);
        let arguments = [&shop.to_beside(&good, "never")[..], more].concat();
        let said = shop.site.fails(10, "silent", &arguments);
        assert!(said.contains("pg_restore has said nothing for 2 s"), "{said}");
        let there = "select count(*) from pg_database where datname = 'never'";
        assert_eq!(shop.server.psql("postgres", there), "0");
    }
    // Its output has ended, and it has not.
    for tool in ["pg_dump", "pg_dumpall"] {
        tools.set(tool, "\"$REAL\" \"$@\"; exec >&-; exec sleep 1000");
        let said = shop.site.fails(10, "silent", &["backup", "shop"]);
        assert!(said.contains(&format!("{tool} has said nothing for 2 s")), "{said}");
        tools.honest(tool);
        shop.only(&[&good], tool);
    }
    assert_eq!(shop.sessions(), 0);
}
