//! A repository in which somebody else writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::scripted::Scripted;
use futures_util::{StreamExt as _, stream};

use drctl_store::{SigningKey, Trust, decode_manifest, encode_manifest};
use drctl_tests::site::Site;

use crate::common::{Shop, segments};

fn folder(shop: &Shop, id: &str) -> PathBuf {
    shop.site.path("repository/s/shop/b").join(id)
}

/// So many attempts of one byte.
fn litter(minio: &Minio, attempts: usize) {
    let client = minio.client();
    let put = |n: usize| {
        let key = format!("below/s/shop/b/20990102T000000Z-{n:016x}/d0/000000.zst.age");
        let put = client.put_object().bucket("shop").key(key);
        async move { put.body(ByteStream::from_static(b"1")).send().await.map(drop) }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = stream::iter(0..attempts).map(put).buffer_unordered(16);
    runtime.block_on(all.for_each(async |put| put.unwrap()));
}

#[test]
fn thousands_of_empty_attempts_cost_a_bounded_number_of_requests_many_at_a_time() {
    const ATTEMPTS: usize = 2000;
    const AT_ONCE: usize = 8;
    let minio = Minio::start();
    minio.make_bucket("shop");
    minio.set_versioning("shop");
    let shop = crate::s3::shop(&minio);
    let id = shop.site.backup();
    litter(&minio, ATTEMPTS);
    // Requests for manifests are answered when so many wait, or it is seen that they never do.
    let (port, waiting) =
        (minio.port(), Arc::new((Mutex::new((0_usize, 0_usize, true)), Condvar::new())));
    let at_once = Arc::clone(&waiting);
    let counted = Scripted::start(move |heard| {
        if heard.head.contains("manifest.json") {
            let (lock, changed) = &*waiting;
            let mut now = lock.lock().unwrap();
            now.0 += 1;
            now.1 = now.0.max(now.1);
            changed.notify_all();
            let few = |now: &mut (usize, usize, bool)| now.2 && now.1 < AT_ONCE;
            let wait = changed.wait_timeout_while(now, Duration::from_secs(20), few);
            let (mut now, late) = wait.unwrap();
            now.2 &= !late.timed_out();
            now.0 -= 1;
        }
        heard.forwarded(port)
    });
    let there = format!("http://127.0.0.1:{}", counted.port());
    shop.site.replace(&minio.endpoint(), &there);
    let files = shop.site.path("files").display().to_string();
    let done = shop.site.json(0, &["restore", "shop", "--latest", "--to-files", &files]);
    assert_eq!(done["backup"], id.as_str());
    let most = at_once.0.lock().unwrap().1;
    assert!(most >= AT_ONCE, "at most {most} at once");
    let heads = counted.heads();
    let of = |word: &str| heads.iter().filter(|head| head.contains(word)).count();
    // Each is asked for, and for its older versions; all else is what any restore asks.
    let (manifests, all) = (of("manifest.json"), heads.len());
    assert!(manifests <= 2 * ATTEMPTS + 10, "{manifests} for manifests");
    assert!(all - manifests <= 100, "{all} requests, {manifests} for manifests");
}

fn data(at: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(at.join("d0")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        files.filter(|path| path.display().to_string().ends_with(".age")).collect();
    found.sort();
    found
}

#[test]
fn what_is_no_file_is_not_opened() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let pipe = |path: &Path| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    // A manifest that comes before the good one, and hundreds of attempts of one byte.
    pipe(&folder(&shop, "29990101T000000Z-0000000000000000").join("manifest.json"));
    pipe(&folder(&shop, "20990101T000000Z-0000000000000000").join("manifest.json"));
    for n in 0..500 {
        let at = folder(&shop, &format!("20990102T000000Z-{n:016x}")).join("d0");
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("000000.zst.age"), "1").unwrap();
    }
    let files = shop.site.path("files").display().to_string();
    let done = shop.site.json(0, &["restore", "shop", "--latest", "--to-files", &files]);
    assert_eq!(done["backup"], id.as_str());
    let verified = shop.site.json(4, &["verify"]);
    let codes: Vec<&str> = verified["backups"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["problems"][0]["code"].as_str())
        .collect();
    assert_eq!(codes, ["store_no_object", "store_no_object"], "{verified}");
    // Data and marker.
    let data = segments(&shop.site, "d0");
    fs::remove_file(&data[0]).unwrap();
    pipe(&data[0]);
    let said = shop.site.drctl(&["--json", "verify", &id, "--data"]);
    assert_eq!(said.code, Some(4), "{}", said.out);
    let marker = shop.site.path("repository/drctl-repo.json");
    fs::remove_file(&marker).unwrap();
    pipe(&marker);
    let said = shop.site.drctl(&["--json", "verify", &id]);
    assert_eq!(said.code, Some(4), "{}", said.out);
    // A marker that cannot be read is as good as none: nothing is written.
    let _ = shop.site.fails(8, "marker_lost", &["backup", "shop"]);
}

#[test]
fn a_manifest_that_nobody_signed_is_bad_only_where_it_may_have_been_one() {
    let shop = Shop::open();
    let (older, newest) = (shop.site.backup(), shop.site.backup());
    let put = |id: &str, bytes: &[u8]| {
        fs::create_dir_all(folder(&shop, id)).unwrap();
        fs::write(folder(&shop, id).join("manifest.json"), bytes).unwrap();
    };
    // Nothing lies with it and nothing names it, or no clock was ever there.
    let other = "20260301T000000Z-0000000000000001";
    put(other, b"junk");
    let future = "99991231T235959Z-ffffffffffffffff";
    put(future, b"junk");
    let verified = shop.site.json(3, &["verify"]);
    assert_eq!(verified["strangers"].as_array().unwrap().len(), 2, "{verified}");
    assert_eq!(verified["backups"].as_array().unwrap().len(), 2, "{verified}");
    fs::remove_dir_all(folder(&shop, future)).unwrap();
    let _ = shop.site.json(3, &["verify"]);
    // Nor has a job failed.
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    // The data of a backup lies with it.
    let data = folder(&shop, other).join("d0");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("000000.zst.age"), "1").unwrap();
    let bad = |id: &str| {
        let verified = shop.site.json(4, &["verify"]);
        let rows = verified["backups"].as_array().unwrap();
        let row = rows.iter().find(|row| row["backup"] == id).unwrap();
        assert_eq!(row["good"], false, "{verified}");
    };
    bad(other);
    fs::remove_dir_all(folder(&shop, other)).unwrap();
    let _ = shop.site.json(0, &["verify"]);
    // This host knows it, or without a catalog another backup names it, whatever is left of it.
    for id in [&newest, &older] {
        let good = fs::read(folder(&shop, id).join("manifest.json")).unwrap();
        fs::remove_dir_all(folder(&shop, id)).unwrap();
        put(id, b"junk");
        bad(id);
        fs::remove_dir_all(shop.site.path("state")).unwrap();
        if *id == older {
            bad(id);
        }
        put(id, &good);
    }
}

#[test]
fn a_source_that_vanished_as_a_whole_is_named_where_the_catalog_is_made_anew() {
    let shop = Shop::open();
    let ids = [shop.site.backup(), shop.site.backup()];
    let _ = shop.site.json(0, &["pin", &ids[0], "--reason", "it stays"]);
    assert_eq!(shop.site.json(0, &["catalog", "rebuild"])["lost"], serde_json::json!([]));
    let (at, aside) = (shop.site.path("repository/s/shop"), shop.site.path("aside"));
    fs::rename(&at, &aside).unwrap();
    // One after the other: what is made anew remembers.
    for _ in 0..2 {
        let rebuilt = shop.site.json(0, &["catalog", "rebuild"]);
        let lost = rebuilt["lost"].as_array().unwrap();
        let keys: Vec<&str> = lost.iter().filter_map(|one| one["key"].as_str()).collect();
        let manifest = |id: &String| format!("s/shop/b/{id}/manifest.json");
        assert!(ids.iter().all(|id| keys.contains(&manifest(id).as_str())), "{rebuilt}");
        assert!(keys.contains(&"s/shop/k/000001.json"), "{rebuilt}");
    }
    let said = shop.site.drctl(&["catalog", "rebuild"]).ended(0).out;
    assert_eq!(said.matches("LOST: ").count(), 3, "{said}");
    fs::rename(&aside, &at).unwrap();
    assert_eq!(shop.site.json(0, &["catalog", "rebuild"])["lost"], serde_json::json!([]));
}

#[test]
fn nothing_vanishes_in_silence() {
    let shop = Shop::open();
    let older = shop.site.backup();
    let newest = shop.site.backup();
    let _ = shop.site.json(0, &["status", "--check"]);
    // The newest one is rolled back: whoever looks, and whatever is made anew, it is said.
    let away = shop.site.path("away");
    fs::rename(folder(&shop, &newest), &away).unwrap();
    for _ in 0..2 {
        let listed = shop.site.json(3, &["list"]);
        let lost = &listed["lost"][0];
        assert!(lost["key"].as_str().unwrap().contains(&newest), "{listed}");
        let status = shop.site.json(11, &["status", "--check"]);
        assert_eq!(status["sources"][0]["vanished"], listed["lost"], "{status}");
        assert_eq!(status["sources"][0]["newest_good"]["backup"], older.as_str(), "{status}");
        let latest = ["restore", "shop", "--latest", "--to-files", "x", "--plan"];
        let plan = shop.site.json(0, &latest);
        assert_eq!(plan["backup"], older.as_str(), "{plan}");
        assert_eq!(plan["passed_over"][0]["backup"], newest.as_str(), "{plan}");
        assert!(plan["passed_over"][0]["why"].as_str().unwrap().contains("LOST"), "{plan}");
        let checked = shop.site.json(4, &["catalog", "check"]);
        assert_eq!(checked["lost"], listed["lost"], "{checked}");
        let restore = ["restore", "shop", "--backup", &newest, "--to-files", "x"];
        let said = shop.site.fails(5, "no_backup", &restore);
        assert!(said.contains("was there, and is gone") && said.contains("missed since"), "{said}");
        // Of it by its first signs too, also where the catalog was made anew.
        let said = shop.site.fails(5, "no_backup", &["show", &newest[..newest.len() - 2]]);
        assert!(said.contains(&format!("the backup {newest} of shop")), "{said}");
    }
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    let listed = shop.site.json(3, &["list"]);
    assert!(listed["lost"][0]["key"].as_str().unwrap().contains(&newest), "{listed}");
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1, "{listed}");
    let _ = shop.site.json(3, &["status", "--check"]);
    let looked = shop.site.json(0, &["catalog", "forget", "shop"]);
    assert_eq!((&looked["lost"], &looked["done"]), (&listed["lost"], &false.into()));
    let _ = shop.site.json(3, &["list"]);
    let digest = looked["digest"].as_str().unwrap();
    let forgotten = shop.site.json(0, &["catalog", "forget", "shop", "--yes", digest]);
    assert_eq!((&forgotten["lost"], &forgotten["done"]), (&listed["lost"], &true.into()));
    let _ = shop.site.json(0, &["list"]);
    let _ = shop.site.json(0, &["status", "--check"]);
    // All data overwritten by seven bytes; one object alone removed.
    let data = data(&folder(&shop, &older));
    let good: Vec<Vec<u8>> = data.iter().map(|path| fs::read(path).unwrap()).collect();
    data.iter().for_each(|path| fs::write(path, "1234567").unwrap());
    let listed = shop.site.json(3, &["list"]);
    assert_eq!(listed["backups"][0]["good"], false, "{listed}");
    let _ = shop.site.json(11, &["status", "--check"]);
    assert_eq!(shop.site.json(4, &["catalog", "check"])["lacking"][0]["backup"], older.as_str());
    data.iter().zip(&good).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    let _ = shop.site.json(0, &["list"]);
    let _ = shop.site.json(0, &["status", "--check"]);
    fs::remove_file(&data[1]).unwrap();
    let _ = shop.site.json(11, &["status", "--check"]);
    // All of the source.
    fs::remove_dir_all(shop.site.path("repository/s")).unwrap();
    let status = shop.site.json(11, &["status", "--check"]);
    let gone = status["sources"][0]["vanished"].as_array().unwrap();
    assert_eq!(gone.len(), 1, "{status}");
    assert!(gone[0]["why"].as_str().unwrap().contains("nothing of it"), "{status}");
}

/// Signs the manifest in a folder anew, with another host's key.
fn forge(site: &Site, thief: &Site, at: &Path) {
    let key = |site: &Site| -> SigningKey {
        fs::read_to_string(site.path("etc/keys/signing.key")).unwrap().trim().parse().unwrap()
    };
    let path = at.join("manifest.json");
    let trust = Trust::new(vec![key(site).verifying_key()]);
    let (manifest, _) = decode_manifest(&fs::read(&path).unwrap(), &trust).unwrap();
    fs::write(&path, encode_manifest(&manifest, &key(thief))).unwrap();
}

#[test]
fn another_hosts_key_writes_in_no_other_ones_name() {
    let shop = Shop::open();
    let older = shop.site.backup();
    let newest = shop.site.backup();
    let other = Site::empty();
    let url = format!("file://{}", shop.site.path("repository").display());
    other.init(&shop.server, &url, &["--join", "--database", &shop.db]);
    let keys = other.json(0, &["keys", "list"]);
    let theirs = keys["verifying_keys"][0]["key"].as_str().unwrap();
    let bound = |sources: &str| {
        let entry = format!("{{ key = \"{theirs}\", name = \"thief\", sources = [{sources}] }}");
        let text = fs::read_to_string(shop.site.config()).unwrap();
        let text: Vec<&str> = text.lines().filter(|line| !line.contains(theirs)).collect();
        let text = text
            .join("\n")
            .replace("verifying_keys = [", &format!("verifying_keys = [\n    {entry},\n   "));
        fs::write(shop.site.config(), text + "\n").unwrap();
    };
    forge(&shop.site, &other, &folder(&shop, &newest));
    bound("\"blog\"");
    let verified = shop.site.json(4, &["verify"]);
    let problem = &verified["backups"][0]["problems"][0];
    assert_eq!(problem["code"], "wrong_signer", "{verified}");
    assert!(problem["message"].as_str().unwrap().contains("thief"), "{verified}");
    let files = shop.site.path("files").display().to_string();
    let done = shop.site.json(0, &["restore", "shop", "--latest", "--to-files", &files]);
    assert_eq!(done["backup"], older.as_str(), "{done}");
    let own = shop.site.json(0, &["keys", "list"])["verifying_keys"].clone();
    let own = own.as_array().unwrap().iter().find(|key| key["signs_here"] == true).unwrap().clone();
    assert_eq!(done["signed_by"], own["name"], "{done}");
    // Where it may speak for the source every output says that it was it.
    bound("\"blog\", \"shop\"");
    let _ = shop.site.drctl(&["catalog", "rebuild"]).ended(0);
    let verified = shop.site.json(0, &["verify"]);
    assert_eq!(verified["backups"][0]["signed_by"], "thief", "{verified}");
    let shown = shop.site.json(0, &["show", &newest]);
    assert_eq!(shown["signed_by"], "thief", "{shown}");
    let plan = ["restore", "shop", "--latest", "--to-files", "x", "--plan"];
    assert_eq!(shop.site.json(0, &plan)["signed_by"], "thief");
    let listed = shop.site.drctl(&["list"]);
    let row = listed.out.lines().find(|line| line.contains(&newest)).unwrap();
    assert!(row.contains("thief"), "{}", listed.out);
    // It is another manifest than the catalog of before knew: that is said too.
    bound("\"blog\"");
    let _ = shop.site.json(3, &["list"]);
}

#[test]
fn what_is_forgotten_is_what_was_shown() {
    let shop = Shop::open();
    let (first, second) = (shop.site.backup(), shop.site.backup());
    let _ = shop.site.backup();
    fs::rename(folder(&shop, &first), shop.site.path("one")).unwrap();
    let looked = shop.site.json(0, &["catalog", "forget", "shop"]);
    let digest = looked["digest"].as_str().unwrap().to_owned();
    assert_eq!(shop.site.json(0, &["catalog", "forget", "shop"])["digest"], digest.as_str());
    // Meanwhile somebody removes another one.
    fs::rename(folder(&shop, &second), shop.site.path("two")).unwrap();
    let yes = ["catalog", "forget", "shop", "--yes", &digest];
    let said = shop.site.fails(2, "usage", &yes);
    assert!(said.contains("Nothing was forgotten"), "{said}");
    let lost = shop.site.json(3, &["list"])["lost"].as_array().unwrap().len();
    assert_eq!(lost, 2);
    let text = shop.site.drctl(&["catalog", "forget", "shop"]).ended(0).out;
    assert!(text.contains(&first) && text.contains(&second) && text.contains("since "), "{text}");
    fs::rename(shop.site.path("two"), folder(&shop, &second)).unwrap();
    assert_eq!(shop.site.json(0, &yes)["done"], true);
    let _ = shop.site.json(0, &["status", "--check"]);
    assert_eq!(shop.site.json(0, &["catalog", "forget", "shop"])["done"], false);
}
