//! The catalog is a cache: lost, it is made anew and equal; doubted, it is compared.

use std::fs;
use std::path::Path;

use crate::common::Shop;

fn lose_catalog(shop: &Shop) {
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(shop.site.path("state").join(file));
    }
}

#[test]
fn a_catalog_that_was_deleted_is_rebuilt_equal() {
    let shop = Shop::open();
    let _ = (shop.site.backup(), shop.site.backup());
    shop.sql("truncate orders");
    let _ = shop.site.json(3, &["backup", "shop"]);
    let rows = shop.site.rows();
    assert_eq!(rows.len(), 3);
    lose_catalog(&shop);
    let said = shop.site.fails(1, "catalog_missing", &["list"]);
    assert!(said.contains("drctl catalog rebuild"), "{said}");
    let rebuilt = shop.site.json(0, &["catalog", "rebuild"]);
    assert_eq!(rebuilt["backups"], 3);
    assert_eq!(shop.site.rows(), rows);
    assert_eq!(shop.site.json(0, &["catalog", "check"])["equal"], true);

    // The job log lives nowhere else: a rebuild over an old catalog keeps it.
    let _ = shop.site.json(3, &["backup", "shop"]);
    let job = shop.site.status()["last_job"].clone();
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    assert_eq!(shop.site.status()["last_job"], job);
}

#[test]
fn a_backup_fills_a_catalog_that_was_deleted() {
    let shop = Shop::open();
    let _ = (shop.site.backup(), shop.site.backup());
    let before = shop.site.rows();
    lose_catalog(&shop);
    let id = shop.site.backup();
    // What the old one remembered is not known: that is told until somebody has taken note.
    let told = shop.site.told("catalog_unknown");
    assert_eq!(told.len(), 1, "{told:?}");
    let _ = shop.site.json(3, &["status", "--check"]);
    let listed = shop.site.json(3, &["list"]);
    assert_eq!(listed["forgotten"], true, "{listed}");
    let _ = shop.site.backup();
    assert_eq!(shop.site.told("catalog_unknown").len(), 1);
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    assert!(shop.site.told("catalog_unknown").is_empty());
    let rows = shop.site.rows()[1..].to_vec();
    assert_eq!(rows[0]["backup"], id.as_str());
    assert_eq!(rows[1..], before);
    assert_eq!(shop.site.json(0, &["catalog", "check"])["equal"], true);
}

#[test]
fn a_catalog_that_is_damaged_is_rebuilt_equal() {
    let shop = Shop::open();
    let _ = (shop.site.backup(), shop.site.backup());
    let rows = shop.site.rows();
    fs::write(shop.site.path("state/catalog.db"), vec![b'x'; 20_000]).unwrap();
    let ran = shop.site.drctl(&["--json", "list"]).ended(3);
    assert_eq!(ran.json()["backups"].as_array().unwrap(), &rows);
    assert!(ran.err.contains("the catalog was damaged, and was rebuilt"), "{}", ran.err);
    // Without the bucket there is nothing to make it from.
    fs::write(shop.site.path("state/catalog.db"), vec![b'x'; 20_000]).unwrap();
    fs::rename(shop.site.path("repository"), shop.site.path("elsewhere")).unwrap();
    let said = shop.site.fails(1, "catalog_corrupt", &["list"]);
    assert!(said.contains("rebuild"), "{said}");
    fs::rename(shop.site.path("elsewhere"), shop.site.path("repository")).unwrap();
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    assert_eq!(shop.site.rows(), rows);
}

/// What is done to a catalog that is in order.
type Harm = fn(&Path);

fn change(path: &Path, at: usize, to: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    fs::write(path, bytes).unwrap();
}

const HARMS: [(&str, Harm); 10] = [
    ("empty", |path| fs::write(path, "").unwrap()),
    ("cut", |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("garbage", |path| fs::write(path, vec![0x5a; 9000]).unwrap()),
    ("no head", |path| change(path, 0, b"X")),
    ("of somebody else", |path| change(path, 68, &[1, 2, 3, 4])),
    ("no version", |path| change(path, 60, &[0, 0, 0, 0])),
    ("a directory", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }),
    ("a link to nothing", |path| {
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink("nothing/there", path).unwrap();
    }),
    ("a link to itself", |path| {
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink("catalog.db", path).unwrap();
    }),
    ("a directory for a lock", |path| {
        let lock = path.with_file_name("catalog.db.lock");
        fs::remove_file(&lock).unwrap();
        fs::create_dir(&lock).unwrap();
    }),
];

#[test]
fn a_cache_that_is_wrong_is_set_aside_and_stops_no_backup() {
    let shop = Shop::open();
    let mut good = vec![shop.site.backup()];
    let path = shop.site.path("state/catalog.db");
    for (what, harm) in HARMS {
        harm(&path);
        let ran = shop.site.drctl(&["--json", "backup", "shop"]);
        assert_eq!(ran.code, Some(0), "{what}: {}{}", ran.out, ran.err);
        // With a lock that is none the catalog itself is kept, and all that it remembers.
        let kept = what == "a directory for a lock";
        let word = if kept { "it was renamed to" } else { "rebuilt" };
        assert!(what == "empty" || ran.err.contains(word), "{what}: {}", ran.err);
        good.push(ran.json()["backup"]["backup"].as_str().unwrap().to_owned());
        let list = shop.site.json(if kept { 0 } else { 3 }, &["list"]);
        let rows = list["backups"].as_array().unwrap().iter();
        let mut known: Vec<String> =
            rows.map(|row| row["backup"].as_str().unwrap().to_owned()).collect();
        known.reverse();
        assert_eq!((known, &list["forgotten"]), (good.clone(), &(!kept).into()), "{what}");
        // What the old one remembered is gone with it: that is told until somebody has taken note.
        for _ in 0..2 {
            let _ = shop.site.drctl(&["-q", "status", "--check"]).ended(if kept { 0 } else { 3 });
        }
        assert_eq!(shop.site.told("catalog_unknown").len(), usize::from(!kept), "{what}");
        let _ = shop.site.json(0, &["catalog", "rebuild"]);
        assert_eq!(shop.site.status()["health"], "good", "{what}");
    }
    assert_eq!(shop.site.json(0, &["catalog", "check"])["equal"], true);
}

/// The first page of each of these tables and indexes: where it lies in the file, in bytes.
fn pages(path: &Path, names: &[&str]) -> Vec<(String, usize)> {
    let list = names.join("', '");
    let sql = format!("select name, rootpage from sqlite_master where name in ('{list}')");
    let ran = std::process::Command::new("sqlite3").arg(path).arg(sql).output();
    let told = String::from_utf8(ran.expect("start sqlite3").stdout).unwrap();
    let page = |line: &str| {
        let (name, page) = line.split_once('|')?;
        Some((name.to_owned(), (page.parse::<usize>().ok()? - 1) * 4096))
    };
    let found: Vec<_> = told.lines().filter_map(page).collect();
    assert_eq!(found.len(), names.len(), "{told}");
    found
}

#[test]
fn whatever_page_is_damaged_nothing_is_forgotten_in_silence_and_no_backup_is_stopped() {
    const TABLES: [&str; 9] = [
        "repository",
        "backups",
        "logs",
        "findings",
        "statements",
        "documents",
        "jobs",
        "job_events",
        "backups_by_id",
    ];
    let shop = Shop::open();
    let _ = (shop.site.backup(), shop.site.backup());
    let _ = shop.site.json(0, &["hold", "shop", "--reason", "a lawsuit"]);
    let _ = shop.site.json(0, &["status", "--check"]);
    let path = shop.site.path("state/catalog.db");
    sqlite(&path, "pragma wal_checkpoint(truncate)");
    let whole = fs::read(&path).unwrap();
    fs::remove_file(shop.site.path("repository/s/shop/k/000001.json")).unwrap();
    for (name, at) in pages(&path, &TABLES) {
        for side in ["-wal", "-shm", ".forgotten", ".doubt"] {
            let _ = fs::remove_file(path.with_file_name(format!("catalog.db{side}")));
        }
        fs::write(&path, &whole).unwrap();
        change(&path, at, &[0xff; 4096]);
        // Where a command is the first to meet it, the next one mends it.
        let first = shop.site.drctl(&["-q", "status", "--check"]).code;
        assert_ne!(first, Some(0), "{name}");
        let _ = shop.site.drctl(&["-q", "status", "--check"]).ended(3);
        let plan = shop.site.drctl(&["--json", "prune", "shop"]);
        assert!(!plan.json()["sources"][0]["blocked"].is_null(), "{name}: {}", plan.out);
        let _ = shop.site.drctl(&["-q", "backup", "shop"]).ended(0);
    }
}

#[test]
fn a_catalog_that_a_newer_drctl_wrote_is_left_alone_and_told() {
    let shop = Shop::open();
    let (_, gone) = (shop.site.backup(), shop.site.backup());
    fs::remove_dir_all(shop.site.path("repository/s/shop/b").join(&gone)).unwrap();
    let lost = |list: &serde_json::Value| list["lost"].to_string().contains(&gone);
    assert!(lost(&shop.site.json(3, &["list"])));
    let path = shop.site.path("state/catalog.db");
    let version = |number: u32| sqlite(&path, &format!("pragma user_version = {number}"));
    let known = fs::read(&path).unwrap()[60..64].try_into().map(u32::from_be_bytes).unwrap();
    version(99);
    for _ in 0..2 {
        let _ = shop.site.drctl(&["-q", "status", "--check"]).ended(3);
        assert_eq!(shop.site.told("catalog_unknown").len(), 1);
        assert_eq!(shop.site.json(3, &["list"])["forgotten"], true);
        let _ = shop.site.drctl(&["verify"]).ended(0);
    }
    let made = shop.site.backup();
    version(known);
    let list = shop.site.json(3, &["list"]);
    assert!(lost(&list), "it remembers: {list}");
    assert_eq!(list["backups"][0]["backup"], made, "{list}");
    let aside = shop.site.files("state").into_iter();
    let aside = aside.filter(|file| file.to_string_lossy().contains(".aside-"));
    assert_eq!(aside.count(), 0);
    assert_eq!(shop.site.told("catalog_unknown"), Vec::<serde_json::Value>::new());
}

fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    path.with_file_name(format!("catalog.db{suffix}"))
}

pub(crate) fn sqlite(path: &Path, sql: &str) {
    let ran = std::process::Command::new("sqlite3").arg(path).arg(sql).status();
    assert!(ran.expect("start sqlite3").success(), "{sql}");
}

/// What can be wrong besides, and is met by whoever only reads.
const MORE_HARMS: [(&str, Harm); 19] = [
    ("zeros", |path| fs::write(path, vec![0; fs::read(path).unwrap().len()]).unwrap()),
    ("one page", |path| fs::write(path, &fs::read(path).unwrap()[..4096]).unwrap()),
    ("half a page", |path| fs::write(path, &fs::read(path).unwrap()[..2000]).unwrap()),
    ("pages of another size", |path| change(path, 16, &[2, 0])),
    ("a format of the future", |path| change(path, 18, &[9, 9])),
    ("room at the end of pages", |path| change(path, 20, &[200])),
    ("a wrong number of pages", |path| change(path, 24, &[0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 9])),
    ("a list of free pages", |path| change(path, 32, &[0, 0, 0, 3, 0, 0, 0, 9])),
    ("another form of the schema", |path| change(path, 44, &[0, 0, 0, 9])),
    ("another encoding", |path| change(path, 56, &[0, 0, 0, 2])),
    ("no root page", |path| change(path, 100, &[0; 300])),
    ("no second page", |path| change(path, 4096, &[0; 4096])),
    ("no last page", |path| {
        let length = fs::read(path).unwrap().len();
        change(path, length - 4096, &[0; 4096]);
    }),
    ("a log of writes that is none", |path| {
        fs::write(beside(path, "-wal"), vec![0x5a; 9000]).unwrap();
        fs::write(path, vec![0x5a; 9000]).unwrap();
    }),
    ("a directory for a log of writes", |path| fs::create_dir(beside(path, "-wal")).unwrap()),
    ("an index of writes that is none", |path| {
        fs::write(beside(path, "-shm"), vec![0x5a; 40_000]).unwrap();
    }),
    ("a directory for an index of writes", |path| fs::create_dir(beside(path, "-shm")).unwrap()),
    ("no table of backups", |path| sqlite(path, "drop table backups")),
    ("rows that are none", |path| sqlite(path, "update backups set engine = 'x', kind = 'x'")),
];

#[test]
fn whatever_is_wrong_with_a_cache_whoever_reads_has_all_the_same() {
    let shop = Shop::open();
    let _ = (shop.site.backup(), shop.site.backup());
    let rows = shop.site.rows();
    let path = shop.site.path("state/catalog.db");
    for (what, harm) in MORE_HARMS {
        // Everything in its one file.
        let _ = shop.site.json(0, &["catalog", "rebuild"]);
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(beside(&path, suffix));
        }
        harm(&path);
        let ran = shop.site.drctl(&["--json", "list"]);
        let list = ran.json();
        let forgotten = list["forgotten"].as_bool().unwrap();
        assert_eq!(ran.code, Some(if forgotten { 3 } else { 0 }), "{what}: {}{}", ran.out, ran.err);
        assert_eq!(list["backups"].as_array().unwrap(), &rows, "{what}");
        assert_eq!(shop.site.status()["health"] == "good", !forgotten, "{what}");
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_dir(beside(&path, suffix));
        }
    }
    assert_eq!(shop.site.json(0, &["catalog", "check"])["equal"], true);
}

#[test]
fn a_wrong_cache_never_hides_a_backup() {
    let shop = Shop::open();
    let _ = (shop.site.backup(), shop.site.backup(), shop.site.backup());
    let rows = shop.site.rows();
    let path = shop.site.path("state/catalog.db");
    // Everything in its one file.
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    let whole = fs::read(&path).unwrap();
    let (mut found, mut places) = (0, Vec::new());
    for id in rows.iter().map(|row| row["backup"].as_str().unwrap().as_bytes()) {
        let all = (0..whole.len() - id.len()).filter(|at| whole[*at..].starts_with(id));
        // A digit of each identifier, wherever it stands, and the page's head before it.
        places.extend(all.flat_map(|at| [at + 7, at / 4096 * 4096 + 4, at / 4096 * 4096 + 9]));
    }
    assert!(places.len() >= 12, "{places:?}");
    for at in places {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        for beside in ["-wal", "-shm"] {
            let _ = fs::remove_file(shop.site.path(&format!("state/catalog.db{beside}")));
        }
        fs::write(&path, bytes).unwrap();
        let ran = shop.site.drctl(&["--json", "list"]);
        assert_eq!(ran.json()["backups"].as_array().unwrap(), &rows, "byte {at}");
        found += u32::from(ran.err.contains("rebuilt"));
    }
    assert!(found > 6, "{found}");
}

#[test]
fn a_check_tells_what_is_lost_unknown_left_over_or_not_ours() {
    let shop = Shop::open();
    let (first, second) = (shop.site.backup(), shop.site.backup());
    let folder = |id: &str| shop.site.path("repository").join(format!("s/shop/b/{id}"));
    let orphan = "20260101T000000Z-00000000000000aa";
    fs::create_dir_all(folder(orphan).join("d0")).unwrap();
    fs::write(folder(orphan).join("d0/000000.zst.age"), b"left over").unwrap();
    fs::write(shop.site.path("repository/notes.txt"), b"hello").unwrap();
    let check = shop.site.json(3, &["catalog", "check"]);
    assert_eq!(check["equal"], true);
    assert_eq!(check["orphans"][0]["backup"], orphan, "{check}");
    assert_eq!(check["foreign"][0], "notes.txt", "{check}");

    let kept = fs::read(folder(&second).join("manifest.json")).unwrap();
    fs::remove_file(folder(&second).join("manifest.json")).unwrap();
    let check = shop.site.json(4, &["catalog", "check"]);
    assert_eq!(check["missing_in_bucket"][0]["backup"], second.as_str(), "{check}");
    let text = shop.site.drctl(&["catalog", "check"]).ended(4).out;
    let lost = format!("LOST: shop/{second}: it was complete; its manifest is gone");
    assert!(text.contains(&lost), "{text}");
    assert!(!text.contains(&format!("orphan: shop/{second}")), "it ended: {text}");
    assert!(text.contains("does not bring back what is gone"), "{text}");

    // Rebuilt, it tells that it is lost and does not list it; the other one is untouched.
    let _ = shop.site.json(3, &["catalog", "rebuild"]);
    let listed = shop.site.json(3, &["list"]);
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1, "{listed}");
    assert!(listed["lost"][0]["key"].as_str().unwrap().contains(&second), "{listed}");
    fs::write(folder(&second).join("manifest.json"), kept).unwrap();
    let check = shop.site.json(3, &["catalog", "check"]);
    assert_eq!(check["missing_in_catalog"][0]["backup"], second.as_str(), "{check}");
    shop.still_restores(&first);
    shop.still_restores(&second);
}

#[test]
fn what_two_hosts_wrote_is_in_both_catalogs_after_a_rebuild() {
    let shop = Shop::open();
    let first = shop.site.backup();
    let url = format!("file://{}", shop.site.path("repository").display());
    let other = drctl_tests::site::Site::empty();
    other.init(&shop.server, &url, &["--join", "--database", &shop.db]);
    // Neither trusts the other's key yet: what it signed is no backup.
    let said = other.fails(5, "no_backup", &["restore", "shop", "--latest", "--to-files", "x"]);
    assert!(said.contains(&first), "{said}");
    let key =
        |text: &str| text.split('"').find(|word| word.starts_with("ed25519:")).unwrap().to_owned();
    let theirs = key(&fs::read_to_string(shop.site.config()).unwrap());
    other.replace("verifying_keys = [", &format!("verifying_keys = [\"{theirs}\", "));
    let second = other.backup();
    let rows = other.rows();
    let ids: Vec<&str> = rows.iter().filter_map(|row| row["backup"].as_str()).collect();
    assert_eq!(ids, [second.as_str(), &first]);
}
