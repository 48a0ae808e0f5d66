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
    let _ = shop.site.fails(8, "store_no_object", &["backup", "shop"]);
}
