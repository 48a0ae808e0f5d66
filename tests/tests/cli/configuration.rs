use std::fs;

use crate::lone_site;

/// The line and column of a text in the configuration.
fn place(text: &str, wanted: &str) -> (usize, usize) {
    let at = text.find(wanted).expect("it is in there");
    let line = text[..at].matches('\n').count() + 1;
    let column = at - text[..at].rfind('\n').map_or(0, |newline| newline + 1) + 1;
    (line, column)
}

#[test]
fn a_mistake_is_named_with_file_line_column_and_suggestion() {
    let cases = [
        ("engine = \"pg_dump\"", "engine = \"pgdump\"", "\"pgdump\"", "did you mean `pg_dump`?"),
        ("policy = \"daily\"", "policy = \"dialy\"", "\"dialy\"", "did you mean `daily`?"),
        ("state_dir =", "state_dri =", "state_dri", "did you mean `state_dir`?"),
        ("port = 5432", "port = 65536", "65536", ""),
        ("version = 1\n", "version = 1\nschedule = \"\"\n", "schedule", "in a policy file"),
    ];
    for (from, to, wrong, suggestion) in cases {
        let site = lone_site();
        site.replace(from, to);
        let text = fs::read_to_string(site.config()).expect("the configuration");
        let (line, column) = place(&text, wrong);
        let ran = site.drctl(&["config", "check"]).ended(7);
        assert_eq!(ran.out, "");
        let at = format!("{}:{line}:{column}: ", site.config().display());
        let told = ran.err.lines().find(|told| told.trim().starts_with(&at));
        let told = told.unwrap_or_else(|| panic!("no line at {at}\n{}", ran.err));
        assert!(told.contains(suggestion), "{told}");
    }
}

#[test]
fn every_mistake_is_named_at_once_in_both_files() {
    let site = lone_site();
    site.replace("port = 5432", "prot = 5432");
    site.replace("engine = \"pg_dump\"", "");
    let policy = site.path("etc/policies.d/daily.toml");
    let text = fs::read_to_string(&policy).expect("a policy");
    fs::write(&policy, text.replace("0 2 * * *", "0 25 * * *")).expect("write the policy");
    let told = site.drctl(&["config", "check"]).ended(7).err;
    for part in ["has 3 errors", "`prot`", "`engine`", "daily.toml:", "hint: correct these lines"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let object = site.json(7, &["config", "check"]);
    assert_eq!(object["code"], "bad_configuration");
    assert!(object["messages"][0].as_str().expect("a text").contains("`prot`"));
}

#[test]
fn a_good_one_tells_when_backups_are_due() {
    let site = lone_site();
    let told = site.drctl(&["config", "check"]).ended(0);
    assert!(told.out.contains("shop, by policy daily:\n  2"), "{}", told.out);
    assert_eq!(told.out.matches("[Europe/Berlin]\n").count(), 5, "{}", told.out);
    site.append("enabled = false\n");
    let told = site.drctl(&["config", "check"]).ended(0);
    assert!(told.out.contains("by hand only"), "{}", told.out);
}

#[test]
fn a_schedule_that_always_waits_for_the_window_is_told() {
    let site = lone_site();
    let policy = site.path("etc/policies.d/daily.toml");
    let text = fs::read_to_string(&policy).expect("a policy");
    let windowed = |from: &str, until: &str| {
        let window = format!("[window]\nfrom = \"{from}\"\nuntil = \"{until}\"\n");
        fs::write(&policy, format!("{text}\n{window}")).expect("write the policy");
        let told = site.drctl(&["config", "check"]).ended(0).out;
        (told, site.json(0, &["config", "check"])["sources"][0]["waits_for_window"].clone())
    };
    let (told, waits) = windowed("22:00", "06:00");
    assert!(!told.contains("warning"), "{told}");
    assert_eq!(waits, serde_json::json!([]));
    let (told, waits) = windowed("12:00", "13:00");
    let warning = "warning: no run of backup lies in the window, 12:00 to 13:00: each waits until \
                   it opens";
    assert!(told.contains(warning), "{told}");
    assert_eq!(waits, serde_json::json!(["backup"]));
}

#[test]
fn the_schema_is_one() {
    let site = lone_site();
    let schema = site.drctl(&["config", "schema"]).ended(0).json();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(site.json(0, &["config", "schema"])["json_schema"], schema);
}

#[test]
fn a_missing_configuration_is_told_from_a_bad_one() {
    let site = lone_site();
    let ran = site.drctl(&["--config", "nowhere.toml", "list"]).ended(7);
    assert!(ran.err.contains("there is no configuration at nowhere.toml"), "{}", ran.err);
    assert!(ran.err.contains("hint: make one with `drctl init`"), "{}", ran.err);
}
