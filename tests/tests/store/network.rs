//! Stores that refuse, are gone, are silent, or answer in a way of their own.

use std::error::Error as _;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use drctl_model::Segment;
use drctl_store::{Bucket, Location, ObjectVersion, SealError, StoreError, digest};
use drctl_tests::servers::azurite::Azurite;
use drctl_tests::servers::gcs::FakeGcs;
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::scripted::{Reply, Scripted};
use futures_util::TryStreamExt as _;
use object_store::path::Path;

use crate::places::{Place, azure, azure_with_key, google, open, s3, s3_location, s3_place};

/// How long one request may take in these tests.
const REQUEST: Duration = Duration::from_millis(300);

/// How often a verb sends its request at most: the bucket's attempts times the client's.
const REQUESTS: u32 = 4 * 5;

/// What all pauses between them add up to, at most: the client's double from 0.1 s and are
/// spread, four times over; the bucket's double from 0.2 s.
const PAUSES: Duration = Duration::from_secs(4 * 6 + 2);

/// How long a store that says no may take with it.
const PROMPT: Duration = Duration::from_secs(10);

/// Every verb of a bucket, and how it ended and when.
async fn every_verb(bucket: &Bucket) -> Vec<(&'static str, Result<(), StoreError>, Duration)> {
    let key = Path::from("verbs/x");
    let bytes = Bytes::from_static(b"x");
    let segment = Segment { n: 0, plain: 1, sealed: 1, sha256: digest(b"x") };
    let began = Instant::now();
    let timed = |verb, done: Result<(), StoreError>| (verb, done, began.elapsed());
    let (put, once, get, checked, list, folders, delete) = tokio::join!(
        async { timed("put", bucket.put(&key, bytes.clone()).await) },
        async { timed("put once", bucket.put_once(&key, bytes.clone()).await.map(drop)) },
        async { timed("get", bucket.get(&key, 9).await.map(drop)) },
        async { timed("get segment", bucket.get_segment(&key, &segment).await.map(drop)) },
        async { timed("list", bucket.list(None).try_collect::<Vec<_>>().await.map(drop)) },
        async { timed("list folders", bucket.list_folders(&key).await.map(drop)) },
        async { timed("delete", bucket.delete(&key).await) },
    );
    let mut all = vec![put, once, get, checked, list, folders, delete];
    if let Some(versions) = bucket.versions() {
        let (enabled, lock, list) = tokio::join!(
            async { timed("versions enabled", versions.enabled().await.map(drop)) },
            async { timed("lock", versions.lock().await.map(drop)) },
            async { timed("list versions", versions.list(&key, |_| ()).await) },
        );
        all.extend([enabled, lock, list]);
    }
    all
}

/// Every verb fails with `code`, none later than `bound`.
async fn all_fail(name: &str, bucket: &Bucket, code: &str, bound: Duration) {
    for (verb, done, took) in every_verb(bucket).await {
        let error = done.expect_err(verb);
        assert_eq!(error.code(), code, "{name}, {verb}: {error:?}");
        assert!(error.hint().is_some(), "{name}, {verb}: {error:?}");
        assert!(took <= bound, "{name}, {verb}: {took:?} is more than {bound:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_denied_at_once() {
    let minio = Minio::start();
    minio.make_bucket("plain");
    let places = [
        ("another secret", s3_place(minio.port(), minio.access_key(), "not-the-secret")),
        ("another key", s3_place(minio.port(), "nobody", minio.secret_key())),
    ];
    for (name, place) in places {
        let bucket = open(&s3_location("plain", "a/prefix"), &place);
        all_fail(&format!("MinIO, {name}"), &bucket, "store_denied", PROMPT).await;
    }
    let azurite = Azurite::start();
    azurite.make_container("container");
    let other = STANDARD.encode([7; 64]);
    let bucket = azure_with_key(&azurite, &other, "container", "");
    all_fail("Azurite", &bucket, "store_denied", PROMPT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_store_fails_and_serves_again() {
    let (mut minio, azurite, gcs) = (Minio::start(), Azurite::start(), FakeGcs::start());
    minio.make_bucket("plain");
    let on_minio = s3(&minio, "plain", "");
    let on_azurite = azure(&azurite, "container", "");
    let on_gcs = google(gcs.port(), "bucket", "");
    let key = Path::from("kept");
    on_minio.put(&key, Bytes::from_static(b"kept")).await.expect("put");
    minio.kill();
    drop((azurite, gcs));
    tokio::join!(
        all_fail("MinIO", &on_minio, "store_failed", PAUSES + PROMPT),
        all_fail("Azurite", &on_azurite, "store_failed", PAUSES + PROMPT),
        all_fail("fake-gcs-server", &on_gcs, "store_failed", PAUSES + PROMPT),
    );
    minio.start_again();
    assert_eq!(on_minio.get(&key, 9).await.expect("get"), "kept");
    on_minio.put(&Path::from("new"), Bytes::from_static(b"new")).await.expect("put");
}

/// One place of each kind, all of them this server.
fn places(port: u16) -> Vec<(&'static str, Bucket)> {
    let endpoint = format!("http://127.0.0.1:{port}");
    let mut at_s3 = s3_place(port, "key", "secret");
    let (mut at_azure, mut at_google) = (Place::default(), Place::default());
    at_azure.options.endpoint = Some(format!("{endpoint}/account"));
    at_azure.options.account = Some("account".to_owned());
    at_azure.credentials.account_key = Some(STANDARD.encode([7; 64]));
    at_google.options.endpoint = Some(endpoint);
    for place in [&mut at_s3, &mut at_azure, &mut at_google] {
        place.options.request_timeout = REQUEST;
    }
    let (container, bucket) = ("container".to_owned(), "bucket".to_owned());
    let in_azure = Location::Azure { container, prefix: String::new() };
    let in_google = Location::Google { bucket, prefix: String::new() };
    vec![
        ("S3", open(&s3_location("bucket", ""), &at_s3)),
        ("Azure", open(&in_azure, &at_azure)),
        ("Google", open(&in_google, &at_google)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_store_fails_in_bounded_time() {
    let server = Scripted::silent();
    // A create-only put is sent at most 4 times, and each time asked after once (5 requests).
    let bound = REQUEST * (REQUESTS + 4) + PAUSES;
    let [at_s3, at_azure, at_google] = places(server.port()).try_into().ok().expect("three");
    tokio::join!(
        all_fail(at_s3.0, &at_s3.1, "store_failed", bound),
        all_fail(at_azure.0, &at_azure.1, "store_failed", bound),
        all_fail(at_google.0, &at_google.1, "store_failed", bound),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_fails_in_bounded_time() {
    let server = Scripted::start(|_| Reply::object(1_000, "only this"));
    for (name, bucket) in places(server.port()).into_iter().take(1) {
        let began = Instant::now();
        let error = bucket.get(&Path::from("x"), 1_000).await.expect_err("it stops");
        assert_eq!(error.code(), "store_failed", "{name}: {error:?}");
        assert!(began.elapsed() < REQUEST * REQUESTS + PAUSES, "{name}: {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_trickles_is_no_answer() {
    let server = Scripted::start(|_| {
        let Reply::Stalls(head) = Reply::object(1_000_000, "") else { unreachable!() };
        Reply::Trickles(head, REQUEST / 3)
    });
    for (name, bucket) in places(server.port()).into_iter().take(1) {
        let version = ObjectVersion {
            key: Path::from("x"),
            id: "1".to_owned(),
            bytes: 1_000_000,
            latest: true,
            delete_marker: false,
            stored: None,
        };
        let versions = bucket.versions().expect("S3 has versions");
        let (key, began) = (Path::from("x"), Instant::now());
        let (newest, older) =
            tokio::join!(bucket.get(&key, 1_000_000), versions.get(&version, 1_000_000));
        for error in [newest.expect_err("no end"), older.expect_err("no end")] {
            assert_eq!(error.code(), "store_failed", "{name}: {error:?}");
        }
        assert!(began.elapsed() < REQUEST * REQUESTS + PAUSES, "{name}: {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_not_read() {
    let server = Scripted::start(|_| Reply::object(1 << 40, ""));
    for (name, bucket) in places(server.port()).into_iter().take(1) {
        // No byte of it comes: an attempt to read would run into the time-out.
        let error = bucket.get(&Path::from("x"), 1 << 24).await.expect_err("too large");
        assert!(matches!(error, StoreError::TooLarge { .. }), "{name}: {error:?}");
        assert_eq!(server.heads().len(), 1, "{name}: it is asked for once");
    }
}

/// How each request ends whose answer a client reads as a whole.
async fn answers_read_whole(bucket: &Bucket) -> Vec<(&'static str, Result<(), StoreError>)> {
    let prefix = Path::from("s");
    let versions = bucket.versions().expect("S3 has versions");
    vec![
        ("list", bucket.list(Some(&prefix)).try_collect::<Vec<_>>().await.map(drop)),
        ("from", bucket.list_from(&prefix, "0").try_collect::<Vec<_>>().await.map(drop)),
        ("folders", bucket.list_folders(&prefix).await.map(drop)),
        ("put", bucket.put(&prefix, Bytes::from_static(b"x")).await),
        ("versions", versions.list(&prefix, |_| ()).await),
        ("versioning", versions.enabled().await.map(drop)),
        ("lock", versions.lock().await.map(drop)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_measure_is_an_error() {
    // One announces 60 GB and sends nothing; the other announces nothing and sends too much. To
    // refuse a put with such a body is no better.
    let page = || b"<?xml version=\"1.0\"?><ListBucketResult><Name>bucket</Name>".to_vec();
    let endless = move |head: &str| {
        let mut bytes = format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").into_bytes();
        bytes.append(&mut page());
        bytes.resize(bytes.len() + (33 << 20), b' ');
        Reply::Whole(bytes)
    };
    let servers = [
        Scripted::start(|_| Reply::object(60_000_000_000, "")),
        Scripted::start(move |request| match request.head.starts_with("PUT") {
            true => endless("409 Conflict"),
            false => endless("200 OK"),
        }),
    ];
    for server in &servers {
        let mut place = s3_place(server.port(), "key", "secret");
        place.options.request_timeout = PROMPT;
        for (name, done) in answers_read_whole(&open(&s3_location("bucket", ""), &place)).await {
            let error = done.expect_err(name);
            assert_eq!(error.code(), "store_failed", "{name}: {error:?}");
            let mut said = error.to_string();
            let mut cause = error.source();
            while let Some(inner) = cause {
                said += &format!(": {inner}");
                cause = inner.source();
            }
            assert!(said.contains("more than 33554432 bytes"), "{name}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_carries_its_checksum() {
    let server = Scripted::start(|_| Reply::new("200 OK", "etag: \"e\"\r\n", ""));
    let (_, bucket) = places(server.port()).swap_remove(0);
    let (key, body) = (Path::from("x"), Bytes::from_static(b"rows"));
    bucket.put(&key, body.clone()).await.expect("put");
    bucket.put_once(&key, body.clone()).await.expect("put");
    let sum = format!("x-amz-checksum-sha256: {}", STANDARD.encode(digest(&body).0));
    let heads = server.heads();
    assert_eq!(heads.len(), 2);
    for head in &heads {
        assert!(head.starts_with("put /bucket/x "), "{head}");
        assert!(head.contains(&sum.to_lowercase()), "S3 asks for it under Object Lock: {head}");
    }
    assert!(heads[1].contains("if-none-match: *"), "{}", heads[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_credentials_are_denied_at_once() {
    const SAID: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>ExpiredToken</Code>\
        <Message>The provided token has expired.</Message></Error>";
    let server = Scripted::start(|_| Reply::new("400 Bad Request", "", SAID));
    let (name, bucket) = places(server.port()).swap_remove(0);
    all_fail(name, &bucket, "store_denied", PROMPT).await;
}

/// A page of S3 after which the same one comes.
fn same_page(asked: &str) -> Reply {
    const KEY: &str = "<Key>s/a</Key><LastModified>2026-03-01T00:00:00.000Z</LastModified>\
        <ETag>e</ETag><Size>1</Size>";
    let body = if asked.contains("versioning") {
        "<VersioningConfiguration/>".to_owned()
    } else if asked.contains("versions") {
        format!(
            "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>s/a</NextKeyMarker>\
             <NextVersionIdMarker>1</NextVersionIdMarker><Version>{KEY}<VersionId>1</VersionId>\
             <IsLatest>true</IsLatest></Version></ListVersionsResult>"
        )
    } else {
        format!(
            "<ListBucketResult><Name>bucket</Name><IsTruncated>true</IsTruncated><KeyCount>2</KeyCount>\
             <NextContinuationToken>again</NextContinuationToken><Contents>{KEY}</Contents>\
             <CommonPrefixes><Prefix>s/b/</Prefix></CommonPrefixes></ListBucketResult>"
        )
    };
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{body}");
    Reply::new("200 OK", "content-type: application/xml\r\n", &body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_that_repeats_its_page_ends_at_the_second_one() {
    let server = Scripted::start(|request| same_page(request.head.lines().next().unwrap_or("")));
    let mut place = s3_place(server.port(), "key", "secret");
    place.options.request_timeout = PROMPT;
    let bucket = open(&s3_location("bucket", ""), &place);
    let prefix = Path::from("s");
    let versions = bucket.versions().expect("S3 has versions");
    let listings = async {
        [
            ("list", bucket.list(Some(&prefix)).try_collect::<Vec<_>>().await.map(drop)),
            ("from", bucket.list_from(&prefix, "0").try_collect::<Vec<_>>().await.map(drop)),
            ("folders", bucket.list_folders(&prefix).await.map(drop)),
            ("versions", versions.list(&prefix, |_| ()).await),
        ]
    };
    let listings = tokio::time::timeout(PROMPT * 6, listings).await.expect("they end");
    for (name, done) in listings {
        assert_eq!(done.expect_err(name).code(), "store_endless", "{name}");
    }
    let heads = server.heads();
    let asked = heads.iter().filter_map(|head| head.lines().next());
    let pages = |word: &str| asked.clone().filter(|line| line.contains(word)).count();
    assert_eq!((pages("list-type=2"), pages("versions")), (3 * 2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_no_listing_is_no_empty_bucket() {
    let server = Scripted::start(|request| {
        let asked = request.head.lines().next().unwrap_or("").to_owned();
        let page = match asked.contains("versioning") {
            true => "<VersioningConfiguration/>",
            false => "<html>log in</html>",
        };
        Reply::new("200 OK", "content-type: application/xml\r\n", page)
    });
    let mut place = s3_place(server.port(), "key", "secret");
    place.options.request_timeout = PROMPT;
    let bucket = open(&s3_location("bucket", ""), &place);
    let prefix = Path::from("s");
    let versions = bucket.versions().expect("S3 has versions");
    let listings = [
        ("list", bucket.list(Some(&prefix)).try_collect::<Vec<_>>().await.map(drop)),
        ("from", bucket.list_from(&prefix, "0").try_collect::<Vec<_>>().await.map(drop)),
        ("folders", bucket.list_folders(&prefix).await.map(drop)),
        ("versions", versions.list(&prefix, |_| ()).await),
    ];
    for (name, done) in listings {
        // What a client reads by itself it refuses by itself.
        let code = if name == "versions" { "store_failed" } else { "store_no_listing" };
        assert_eq!(done.expect_err(name).code(), code, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_leads_elsewhere_is_not_followed() {
    const SAID: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>TemporaryRedirect</Code>\
        <Message>Please re-send this request.</Message></Error>";
    let stranger = Scripted::start(|_| Reply::new("200 OK", "", ""));
    let to = format!("http://127.0.0.1:{}/bucket/verbs/x", stranger.port());
    for status in
        ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let location = format!("location: {to}\r\nx-amz-bucket-region: eu-north-1\r\n");
        let server = Scripted::start(move |_| Reply::new(status, &location, SAID));
        for (name, bucket) in places(server.port()) {
            all_fail(&format!("{name}, {status}"), &bucket, "store_elsewhere", PROMPT).await;
            let said = bucket.get(&Path::from("x"), 9).await.expect_err("it is elsewhere");
            let mut cause = said.source();
            let mut said = said.to_string();
            while let Some(inner) = cause {
                said += &format!(": {inner}");
                cause = inner.source();
            }
            assert!(said.contains(&status[..3]) && said.contains(&to), "{said}");
            assert!(said.contains("eu-north-1"), "{said}");
        }
    }
    assert_eq!(stranger.heads(), [""; 0], "it heard of nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_told_where_versions_may_not_be_asked() {
    const DENIED: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error>\
        <Code>AccessDenied</Code><Message>Access Denied.</Message></Error>";
    let server = Scripted::start(|request| {
        if request.head.lines().next().is_some_and(|line| line.contains("versions")) {
            Reply::new("403 Forbidden", "", DENIED)
        } else {
            Reply::object(4, "roWs")
        }
    });
    let (_, bucket) = places(server.port()).swap_remove(0);
    let segment = Segment { n: 0, plain: 4, sealed: 4, sha256: digest(b"rows") };
    let found = bucket.get_segment(&Path::from("x"), &segment).await.expect("an answer");
    assert!(matches!(found, Err(SealError::Altered { what: "SHA-256" })), "{found:?}");
}
