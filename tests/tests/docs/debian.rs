//! Commands of a page that are for root, literally, on a Debian as it comes: with the accounts and
//! directories of a system, a cluster by `pg_createcluster`, and its `peer` logins.
//!
//! The system is this one's, in namespaces of its own: what the commands change is laid over it, and
//! gone with them.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use drctl_tests::site::{Ran, drctl};
use rustix::process::geteuid;

use crate::blocks::{announced, runnable};

/// Lays over what is there: copies or nothing, and the program where the page has installed it.
const SYSTEM: &str = r#"
set -euo pipefail
cp -a /etc "$STAGE/etc"
rm -rf "$STAGE"/etc/postgresql/*
mount --bind "$STAGE/etc" /etc
for place in /run /srv /var/backups /var/lib/p{ostgresql,gbackrest} /var/log/p{ostgresql,gbackrest} \
    /var/spool/pgbackrest /usr/local/bin; do
    mkdir -p "$place"
    # As it is on a host: a socket in a directory of everybody is not believed.
    mount -t tmpfs -o mode=0755 none "$place"
done
install -d -m 2775 -o postgres -g postgres /run/postgresql /var/lib/p{ostgresql,gbackrest} \
    /var/log/p{ostgresql,gbackrest} /var/spool/pgbackrest
touch /usr/local/bin/drctl
mount --bind "$DRCTL" /usr/local/bin/drctl
mkdir -p "$STAGE/lib"
mount --bind "$STAGE/lib" /var/lib/drctl
major=$(basename "$(dirname "$(pg_config --bindir 2> /dev/null || ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)")")
# As the package makes it; but for TCP, of which there is none in here.
pg_createcluster "$major" main --port 5432 -- --no-sync > /dev/null
echo "listen_addresses = ''" >> "/etc/postgresql/$major/main/postgresql.conf"
pg_ctlcluster "$major" main start
runuser -u postgres -- psql -qX -c 'CREATE DATABASE shop' postgres
runuser -u postgres -- psql -qX -c 'CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id' shop
"#;

/// Runs the blocks of a page in order.
pub(crate) fn run(page: &str) {
    assert!(geteuid().is_root(), "run this as root: it makes an account, in a system of its own");
    let stage = tempfile::Builder::new().prefix("drctl-debian-").tempdir().expect("a folder");
    let mut script = SYSTEM.to_owned();
    script.push_str("cd /var/lib\n");
    for block in runnable(page) {
        let (file, code) = (stage.path().join(block.line.to_string()), announced(&block));
        fs::write(&file, format!("set -euo pipefail\n{}", block.text)).expect("write");
        let (file, line) = (file.display(), block.line);
        let _ = writeln!(
            script,
            "code=0; bash {file} < /dev/null || code=$?; [ $code = {code} ] || \
             {{ echo \"{page}:{line} ended with $code\" >&2; exit 1; }}"
        );
    }
    // The whole of it worked, for the account and for root, who looks.
    script.push_str("drctl --json list | jq -e '.backups | length > 0'\n");
    let mut bash = Command::new("unshare");
    bash.args(["--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]);
    bash.args(["bash", "-c", &script]).env_clear().current_dir("/");
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    bash.env("PATH", path).env("HOME", "/root").env("LC_ALL", "C.UTF-8");
    bash.env("STAGE", stage.path()).env("DRCTL", drctl());
    // One that is no system's yet.
    let made = fs::create_dir("/var/lib/drctl").is_ok();
    let ran = Ran::of(&bash.output().expect("start unshare"));
    if made {
        let _ = fs::remove_dir("/var/lib/drctl");
    }
    assert_eq!(ran.code, Some(0), "stdout: {}\nstderr: {}", ran.out, ran.err);
}
