//! No plaintext in the bucket; no secret anywhere but where it belongs.

use std::fs;
use std::path::Path;

use drctl_tests::fake::Tools;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

/// What must not be found: the password, and a row.
const PASSWORD: &str = "canary-p:a\\ss-word";
const ROW: &str = "canary-row-canary-row";

/// Writes the arguments and environment of every process into a file, then is the tool.
const SPY: &str = "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/cmdline; tr '\\0' '\\n' < $p/environ; \
    done >> \"$HERE/seen\" 2>/dev/null\nexec \"$REAL\" \"$@\"";

fn holds(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// Asserts that no file below a directory holds any of the needles.
#[track_caller]
fn clean(directory: &Path, needles: &[&str]) -> usize {
    let mut looked = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            looked += clean(&path, needles);
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        for needle in needles {
            assert!(!holds(&bytes, needle), "{needle} is in {}", path.display());
        }
        looked += 1;
    }
    looked
}

/// A site that wants a password, its server, and the tools that look around.
fn spied() -> (Postgres, Site, Tools) {
    let server = Postgres::builder().password(PASSWORD).start();
    let rows = format!(
        "create table t as select g, '{ROW}' || md5(g::text) as note \
         from generate_series(1, 20000) g; create role \"{ROW}\""
    );
    server.psql("postgres", &rows);
    server.psql("postgres", &format!("create database \"{ROW}\""));
    let (site, tools) = (Site::empty(), Tools::of(&server));
    fs::write(site.path("password"), format!("{PASSWORD}\n")).unwrap();
    let file = site.path("password").display().to_string();
    let url = format!("file://{}", site.path("repository").display());
    site.init(&server, &url, &["--password-file", &file]);
    site.append(crate::common::SMALL);
    site.source(&tools.line());
    for tool in ["pg_dump", "pg_dumpall", "pg_restore"] {
        tools.set(tool, SPY);
    }
    (server, site, tools)
}

#[test]
fn no_secret_is_in_arguments_environments_logs_errors_catalog_or_bucket() {
    let (server, site, tools) = spied();
    let mut backup = site.command(&["backup", "shop"]);
    let output = backup.env("DRCTL_LOG", "trace").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let id = String::from_utf8_lossy(&output.stdout).lines().next().unwrap().to_owned();
    let log = [output.stdout, output.stderr].concat();

    let (host, port) = (server.socket_dir().display().to_string(), server.port().to_string());
    let file = site.path("password").display().to_string();
    let mut restore = site.command(&[
        "restore",
        "shop",
        "--backup",
        &id,
        "--database",
        "postgres",
        "--as",
        "beside",
        "--to-host",
        &host,
        "--to-port",
        &port,
        "--to-password-file",
        &file,
    ]);
    let output = restore.env("DRCTL_LOG", "trace").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let log = [log, output.stderr].concat();
    let keys = [site.identity(), site.path("etc/keys/signing.key")];
    let secret = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().rfind(|line| !line.starts_with('#')).unwrap().to_owned()
    };
    let secrets = keys.each_ref().map(secret);
    let escaped = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    let hidden = [PASSWORD, escaped.as_str(), &secrets[0], &secrets[1]];
    for needle in hidden {
        assert!(!holds(&log, needle), "{needle} was logged");
    }
    assert!(!holds(&log, &format!("{ROW}c4ca")), "a row was logged");

    let seen = fs::read(tools.path().join("seen")).unwrap();
    assert!(holds(&seen, "--format=custom") && holds(&seen, "PGPASSFILE="), "the spy saw nothing");
    for needle in hidden {
        assert!(!holds(&seen, needle), "{needle} was seen among the processes");
    }
    let never = [hidden.to_vec(), vec![ROW, "PGDMP", "CREATE ROLE"]].concat();
    assert!(clean(&site.path("repository"), &never) > 20);
    assert!(clean(&site.path("state"), &hidden) > 0);
    // Which databases a backup had is kept for the account that lists them on the server.
    fs::remove_dir_all(site.path("state/databases")).unwrap();
    assert!(clean(&site.path("state"), &never) > 0);
    assert!(site.files("run").is_empty(), "{:?}", site.files("run"));
}

#[test]
fn errors_and_the_job_log_hold_no_secret() {
    let (_server, site, tools) = spied();
    // Whatever the tool itself says is shown; what drctl knows is not.
    tools.set("pg_dump", "\"$REAL\" \"$@\"; echo failing >&2; exit 1");
    let said = site.fails(10, "tool_failed", &["backup", "shop"]);
    assert!(!said.contains(PASSWORD), "{said}");
    clean(&site.path("state"), &[PASSWORD, "canary-p"]);
    clean(&site.path("run"), &["canary-p"]);
    for arguments in [&["config", "show"][..], &["status"], &["doctor"], &["keys", "list"]] {
        let ran = site.drctl(arguments);
        assert!(!(ran.out + &ran.err).contains("canary-p:"), "{arguments:?}");
    }
}

#[test]
fn every_data_object_is_an_age_file_and_exactly_the_one_that_the_manifest_names() {
    let (_server, site, _tools) = spied();
    let id = site.backup();
    let shown = site.json(0, &["show", &id]);
    let root = site.path("repository").join(format!("s/shop/b/{id}"));
    let mut named = vec![Path::new("manifest.json").to_owned()];
    for stream in shown["manifest"]["streams"].as_array().unwrap() {
        let folder = stream["id"].as_str().unwrap();
        let mut list = Vec::new();
        for page in stream["pages"].as_array().unwrap() {
            let file = Path::new(folder).join(format!("p{:06}.json", page["n"].as_u64().unwrap()));
            let bytes = fs::read(root.join(&file)).unwrap();
            assert_eq!(page["sha256"], drctl_store::digest(&bytes).to_string());
            assert_eq!(page["bytes"], bytes.len());
            let segments: Vec<serde_json::Value> = serde_json::from_slice(&bytes).unwrap();
            list.extend(segments);
            named.push(file);
        }
        list.extend(stream["tail"].as_array().unwrap().clone());
        for (segment, n) in list.iter().zip(0..) {
            assert_eq!(segment["n"], n);
            let file = Path::new(folder).join(format!("{n:06}.zst.age"));
            let bytes = fs::read(root.join(&file)).unwrap();
            assert!(bytes.starts_with(b"age-encryption.org/v1\n"), "{}", file.display());
            assert_eq!(segment["sealed"], bytes.len());
            assert_eq!(segment["sha256"], drctl_store::digest(&bytes).to_string());
            named.push(file);
        }
        assert_eq!(stream["segments"], list.len());
    }
    named.sort();
    assert_eq!(site.files(&format!("repository/s/shop/b/{id}")), named);
}

#[test]
fn a_password_comes_from_the_environment_or_from_systemd() {
    let server = Postgres::builder().password(PASSWORD).start();
    server.psql("postgres", "create table t as select 1 as x");
    let site = Site::empty();
    let file = site.path("password").display().to_string();
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let url = format!("file://{}", site.path("repository").display());
    site.init(&server, &url, &["--password-file", &file]);
    let configured = format!("password = {{ file = \"{file}\" }}");
    site.replace(&configured, "password = { env = \"SHOP_PASSWORD\" }");
    let said = site.fails(9, "secret_unavailable", &["backup", "shop"]);
    assert!(said.contains("SHOP_PASSWORD") && said.contains("not set"), "{said}");
    let backup = || site.command(&["backup", "shop"]);
    assert!(backup().env("SHOP_PASSWORD", PASSWORD).status().unwrap().success());
    site.replace("env = \"SHOP_PASSWORD\"", "credential = \"password\"");
    let said = site.fails(9, "secret_unavailable", &["backup", "shop"]);
    assert!(said.contains("systemd"), "{said}");
    // As systemd's LoadCredential= hands it over: a file in a directory that it names.
    let handed = site.path("credentials");
    fs::create_dir(&handed).unwrap();
    fs::rename(&file, handed.join("password")).unwrap();
    assert!(backup().env("CREDENTIALS_DIRECTORY", &handed).status().unwrap().success());
    assert_eq!(site.manifests().len(), 2);
}
