//! A repository of every released version of the format still restores, byte for byte.

use std::path::{Path, PathBuf};

use drctl_tests::site::Site;
use sha2::{Digest as _, Sha256};

/// Directory below `tests/data`, the key that signed it, and what its files must be.
struct Old {
    directory: &'static str,
    signed_by: &'static str,
    files: &'static [(&'static str, &'static str)],
}

const OLD: &[Old] = &[Old {
    directory: "repository-v1",
    signed_by: "ed25519:yNSCp5yyVuwYuV5EelFu7epPxziNOK/Pnkehn14s2UY=",
    files: &[
        ("globals.sql", "313fb2ddd2490df0f54c2dd26159f239f332025e7ba6d2ea0e172bb55b390e26"),
        ("golden.dump", "3537c79e73ed930f1f1bbae82754c795db6e42d902ad05f4b8ef2c1c2c2dc4df"),
    ],
}];

/// A site that reads the old repository and believes its key.
fn site(old: &Old, data: &Path) -> Site {
    let site = Site::empty();
    let own = format!("file://{}", site.path("own").display());
    let directory = |name: &str| site.path(name).display().to_string();
    let (state, run, kit) = (directory("state"), directory("run"), directory("kit.txt"));
    let _ = site
        .drctl(&[
            "init",
            "--url",
            &own,
            "--source",
            "golden",
            "--state-dir",
            &state,
            "--runtime-dir",
            &run,
            "--kit",
            &kit,
        ])
        .ended(0);
    site.replace(&own, &format!("file://{}", data.join("repository").display()));
    let text = std::fs::read_to_string(site.config()).expect("a configuration");
    let pin = text.lines().find(|line| line.starts_with("id = ")).expect("it is pinned");
    site.replace(&format!("{pin}\n"), "");
    site.replace("verifying_keys = [", &format!("verifying_keys = [\"{}\", ", old.signed_by));
    site
}

fn made(site: &Site) -> String {
    site.rows()[0]["backup"].as_str().expect("an identifier").to_owned()
}

#[test]
fn every_released_format_still_restores() {
    for old in OLD {
        let data: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(old.directory);
        let site = site(old, &data);
        let identity = data.join("identity.txt").display().to_string();
        let files = site.path("files").display().to_string();
        let _ = site.json(0, &["catalog", "rebuild"]);
        let verified = site.json(0, &["verify", "--data", "--identity", &identity]);
        assert_eq!(verified["backups"][0]["opened"], true, "{verified}");
        let shown = site.drctl(&["show", &made(&site), "--identity", &identity]).ended(0).out;
        assert!(shown.contains("outside     not known"), "never `none`: {shown}");
        let restore =
            ["restore", "golden", "--latest", "--to-files", &files, "--identity", &identity];
        let _ = site.json(0, &restore);
        for (name, digest) in old.files {
            let bytes = std::fs::read(site.path("files").join(name)).expect("a restored file");
            let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(&found, digest, "{name} of {}", old.directory);
        }
    }
}
