//! Drills that find what is not as it was, and tell it from what they could not try.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use drctl_tests::cluster::Cluster as _;

use crate::common::Shop;

#[test]
fn rows_that_are_as_many_and_not_the_same_fail_it() {
    let shop = Shop::open();
    let _ = shop.back_up();
    shop.with_script("pg_restore", "LC_ALL=C sed 's/order 17$/order 71/' | exec \"$REAL\" \"$@\"");
    let done = shop.drill(4, &[]);
    assert_eq!(done["verdict"], "fail_data", "{done}");
    assert_eq!(done["result"]["error"], "mismatch", "{done}");
    assert!(
        done["why"].to_string().contains("has 2000 rows as before, and not the same ones"),
        "{done}"
    );
    assert!(shop.left().is_empty(), "{:?}", shop.left());
    let told = shop.told("drill_failed");
    assert_eq!(told.len(), 1, "{told:?}");
    // Nothing of it is in the evidence that may be given away.
    let evidence = fs::read(&shop.evidence()[0]).unwrap();
    assert!(!String::from_utf8_lossy(&evidence).contains("orders"));
    // What fails stops removal, and one that comes to nothing does not hide it.
    let plan = |shop: &Shop| shop.drctl(&["prune", "shop"]).ended(0).json().to_string();
    assert!(plan(&shop).contains("the newest drill, "), "{}", plan(&shop));
    let unknown = shop.drctl(&["drill", "run", "shop", "--identity", "/dev/null"]);
    let unknown = unknown.ended(3).json();
    assert_eq!(unknown["verdict"], "inconclusive", "{unknown}");
    assert!(plan(&shop).contains("the newest drill, "), "{}", plan(&shop));
    shop.with_script("pg_restore", "exec \"$REAL\" \"$@\"");
    assert_eq!(shop.drill(0, &[])["verdict"], "pass");
    assert!(!plan(&shop).contains("the newest drill, ") && shop.told("drill_failed").is_empty());
}

#[test]
fn a_damaged_segment_fails_it() {
    let shop = Shop::open();
    let _ = shop.back_up();
    let files = shop.site.files("repository");
    let sizes = files.iter().map(|path| shop.site.path("repository").join(path));
    let segments = sizes.filter(|path| {
        path.to_string_lossy().contains("/b/") && path.extension().is_none_or(|end| end != "json")
    });
    let largest = segments.max_by_key(|path| fs::metadata(path).unwrap().len()).expect("a segment");
    let file = fs::OpenOptions::new().write(true).open(&largest).unwrap();
    file.write_all_at(b"XXXX", 200).unwrap();
    let done = shop.drill(4, &[]);
    assert_eq!(done["verdict"], "fail_data", "{done}");
    assert!(shop.left().is_empty(), "{:?}", shop.left());
}

#[test]
fn a_tool_that_loads_less_than_it_was_given_fails_it() {
    let shop = Shop::open();
    let _ = shop.back_up();
    // Of the rows of a table the last ones are missing, and the exit code is 0.
    let delete = "delete from public.orders where id > 1990";
    shop.with_script(
        "pg_restore",
        &format!(
            "for a; do case $a in --dbname=*) to=${{a#--dbname=}} ;; esac; done; \"$REAL\" \"$@\" || exit; \
             [ -z \"$to\" ] || ${{REAL%/*}}/psql -qX \"$to\" -c '{delete}' || true"
        ),
    );
    let done = shop.drill(4, &[]);
    assert_eq!(
        (&done["verdict"], &done["result"]["error"]),
        (&"fail_data".into(), &"mismatch".into())
    );
    assert!(done["why"].to_string().contains("orders"), "{done}");
}

#[test]
fn what_this_host_cannot_try_is_inconclusive() {
    let shop = Shop::open();
    let backup = shop.back_up();
    // Without the program that makes sandboxes.
    let config = format!("DRCTL_CONFIG={}", shop.site.config().display());
    let program = shop.program().display().to_string();
    let run =
        ["env", "-i", "PATH=/nonexistent", &config, &program, "--json", "drill", "run", "shop"];
    let output = shop.as_owner(run[0]).args(&run[1..]).output().unwrap();
    let done = drctl_tests::site::Ran::of(&output).ended(3).json();
    assert_eq!(
        (&done["verdict"], &done["result"]["error"]),
        (&"inconclusive".into(), &"no_sandbox".into())
    );
    assert_eq!(done["backup"], backup["backup"]["backup"], "{done}");
    // Without a server of that version.
    shop.with_script("initdb", "echo 'no such locale' >&2; exit 1");
    let done = shop.drill(3, &[]);
    assert_eq!(done["verdict"], "inconclusive", "{done}");
    assert!(done["why"].to_string().contains("no such locale"), "{done}");
    assert!(shop.left().is_empty(), "{:?}", shop.left());
    let told = shop.told("drill_failed");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0]["text"].as_str().unwrap().contains("it could not be tried on that host"),
        "{told:?}"
    );
}

#[test]
fn a_key_that_does_not_open_it_fails_it() {
    let shop = Shop::open();
    let _ = shop.back_up();
    let other = shop.site.path("other.txt");
    let _ = shop.drctl(&["keys", "new-identity", &other.display().to_string()]).ended(0);
    let done = shop.drill(4, &["--identity", &other.display().to_string()]);
    assert_eq!(
        (&done["verdict"], &done["result"]["error"]),
        (&"fail_data".into(), &"wrong_key".into())
    );
}

#[test]
fn what_comes_to_nothing_hides_no_failure_before_it() {
    let shop = Shop::open();
    let _ = shop.back_up();
    shop.with_script("pg_restore", "LC_ALL=C sed 's/order 17$/order 71/' | exec \"$REAL\" \"$@\"");
    let failed = shop.drill(4, &[]);
    for _ in 0..5 {
        let _ = shop.drill(3, &["--identity", "/dev/null"]);
    }
    let blocked = shop.drctl(&["status"]).ended(0).json()["sources"][0]["blocked"].to_string();
    assert!(blocked.contains(failed["drill"].as_str().unwrap()), "{blocked}");
}

/// Runs a drill in a file system of its own, of which so much is taken.
fn in_small_disk(shop: &Shop, (size, taken): (&str, &str)) -> serde_json::Value {
    let small = shop.site.path("small");
    std::fs::create_dir_all(&small).unwrap();
    let script = format!(
        "mount -t tmpfs -o size={size},mode=755 none {0} && mkdir {0}/scratch && chown postgres {0}/scratch && \
         chmod 700 {0}/scratch && fallocate -l {taken} {0}/filled && exec setpriv --reuid postgres --regid postgres \
         --clear-groups env DRCTL_CONFIG={1} {2} --json drill run shop --scratch {0}/scratch",
        small.display(),
        shop.site.config().display(),
        shop.program().display()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    drctl_tests::site::Ran::of(&output).ended(3).json()
}

#[test]
fn a_disk_that_others_need_is_not_filled() {
    let shop = Shop::open();
    let _ = shop.back_up();
    let done = in_small_disk(&shop, ("800m", "780m"));
    let said = (&done["verdict"], &done["result"]["error"]);
    assert_eq!(said, (&"skipped".into(), &"drill_skipped".into()), "{done}");
    assert!(done["why"].to_string().contains("a drill leaves"), "{done}");
    // Somebody fills it in the midst.
    let fill = shop.site.path("small/scratch/more");
    let script = format!("fallocate -l 2900m {}; sleep 1000", fill.display());
    shop.with_script("pg_restore", &script);
    let done = in_small_disk(&shop, ("3g", "1m"));
    let said = (&done["verdict"], &done["result"]["error"]);
    assert_eq!(said, (&"aborted".into(), &"drill_aborted".into()), "{done}");
    assert!(done["why"].to_string().contains("a drill leaves"), "{done}");
    assert_eq!((&done["run"]["cleaned"], shop.evidence().len()), (&true.into(), 2), "{done}");
}
