//! What commands say of clusters and their log.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use drctl_tests::cluster::{Cluster as _, place};

use crate::log::several;

/// Objects within objects whose fields are looked at too.
const BELOW: [&str; 10] = [
    "plan.",
    "timelines[].",
    "drills[].",
    "checks.",
    "estimate.",
    "extracted[].",
    "sources[].backups[].",
    "sources[].log[].",
    "sources[].done.",
    "sources[].",
];

pub(crate) fn documented(schema: &str) -> Vec<String> {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md");
    let text = fs::read_to_string(page).unwrap();
    let section = text.split(&format!("### {schema}")).nth(1).unwrap();
    let table = section.split("\n### ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let fields = rows.filter_map(|line| line.split('|').nth(1)).flat_map(|cell| cell.split('`'));
    let names = fields.map(|field| field.trim().trim_matches(',').trim()).filter(|f| !f.is_empty());
    let mut names: Vec<String> = names
        .map(|field| match BELOW.iter().find_map(|above| field.strip_prefix(above)) {
            Some(below) => below.split(['.', '[']).next().unwrap().to_owned(),
            None => field.to_owned(),
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The members of an object, and of those within that the documentation opens.
pub(crate) fn members(objects: &[&serde_json::Value], without: &[&str]) -> Vec<String> {
    let mut names: Vec<String> =
        objects.iter().flat_map(|object| object.as_object().unwrap().keys().cloned()).collect();
    names.retain(|name| !without.contains(&name.as_str()));
    names.sort();
    names.dedup();
    names
}

#[test]
fn the_objects_of_a_recovery_have_the_fields_that_are_documented() {
    let (shop, last) = several();
    let segment = shop.sql("select last_archived_wal from pg_stat_archiver");
    let (folder, _) = place();
    let copy = folder.path().join(&segment);
    fs::copy(shop.server.data_dir().join("pg_wal").join(&segment), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    let pushed = shop.drctl(&["wal", "push", "shop", &copy.display().to_string()]).ended(0).json();
    assert_eq!(members(&[&pushed], &["schema"]), documented("drctl.wal-push/1"));
    let planned =
        shop.drctl(&["restore", "shop", "--to-time", &last, "--to-directory", "x", "--plan"]);
    let planned = planned.ended(0).json();
    let all = [&planned, &planned["plan"], &planned["checks"], &planned["estimate"]];
    let seen = members(&all, &["schema", "plan", "checks", "estimate"]);
    assert_eq!(seen, documented("drctl.recovery-plan/1"));
    let table = ["--drill", "--extract", "postgres:public.ticks"];
    let (ran, _folder, _) = shop.recover(&[&["--to-time", &last], &table[..]].concat());
    let done = ran.ended(0).json();
    let seen = members(&[&done, &done["extracted"][0]], &["schema", "extracted"]);
    assert_eq!(seen, documented("drctl.recovery/1"));
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    let seen = members(
        &[&view, &view["timelines"][0], &view["drills"][0]],
        &["schema", "timelines", "drills"],
    );
    let mut expected = documented("drctl.timeline/1");
    expected.retain(|name| name != "refused[]");
    expected.push("refused".to_owned());
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn verify_reads_the_log_and_names_what_is_damaged() {
    let (shop, _) = several();
    let good = shop.drctl(&["verify", "--data"]).ended(0).json();
    let log = &good["logs"][0];
    assert_eq!((&log["good"], &log["opened"]), (&true.into(), &true.into()), "{good}");
    assert!(log["pieces"].as_u64() >= Some(5), "{good}");
    let piece = shop.pieces().into_iter().rev().nth(1).unwrap();
    let bytes = fs::read(&piece).unwrap();
    let mut damaged = bytes.clone();
    let at = damaged.len() - 50;
    damaged[at] ^= 1;
    fs::write(&piece, &damaged).unwrap();
    let bad = shop.drctl(&["verify", "--data"]).ended(4).json();
    assert_eq!(bad["logs"][0]["problems"][0]["code"], "segment_damaged", "{bad}");
    // Without a key as well; and signatures alone look at no data.
    let config = fs::read_to_string(shop.site.config()).unwrap();
    let identity = config.lines().find(|line| line.starts_with("identity = ")).unwrap();
    shop.site.replace(identity, "");
    let bad = shop.drctl(&["verify", "--data"]).ended(4).json();
    assert_eq!(bad["logs"][0]["problems"][0]["code"], "segment_damaged", "{bad}");
    // They call nothing good that is known to be damaged.
    let _ = shop.drctl(&["verify"]).ended(4);
    damaged = bytes;
    damaged[20] ^= 1;
    fs::write(&piece, &damaged).unwrap();
    let bad = shop.drctl(&["verify"]).ended(4).json();
    let code = bad["logs"][0]["problems"][0]["code"].as_str().unwrap();
    assert!(["untrusted", "malformed"].contains(&code), "{bad}");
}
