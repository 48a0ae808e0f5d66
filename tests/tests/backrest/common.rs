//! A cluster that archives through pgBackRest, and a host whose source uses its stanza.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site, until};
use serde_json::Value;
use tempfile::TempDir;

/// The name of the stanza, and of drctl's source.
pub(crate) const STANZA: &str = "shop";

/// A cluster of its own with segments of 1 MiB, pgBackRest with a stanza for it, and a site whose
/// source `shop` is of the engine `pgbackrest`. All of it runs under the server's account.
pub(crate) struct Shop {
    pub(crate) server: Postgres,
    pub(crate) site: Site,
    /// pgBackRest's own: `pgbackrest.conf`, `repo`, `log`, `lock`, `spool`.
    folder: TempDir,
    /// The program, where every account can run it.
    _bin: TempDir,
    program: PathBuf,
    /// Lines of `[global]` beside those of the paths.
    global: Vec<String>,
}

impl Shop {
    /// With a repository in a directory, not encrypted, and a stanza into which the server
    /// archives.
    pub(crate) fn start() -> Self {
        Shop::with(&[])
    }

    /// The same with more lines of `[global]`; one that sets a key which is set here counts instead.
    pub(crate) fn with(global: &[&str]) -> Self {
        let shop = Shop::bare(global);
        let _ = shop.pgbackrest(&["stanza-create"]).ended(0);
        shop.archive();
        shop
    }

    /// Without a stanza, and without an archive: `archive_command` fails.
    pub(crate) fn bare(global: &[&str]) -> Self {
        let server = Postgres::builder()
            .initdb("--wal-segsize=1")
            .initdb("--data-checksums")
            .conf("archive_mode", "on")
            .conf("archive_command", "false")
            .conf("track_commit_timestamp", "on")
            .conf("max_prepared_transactions", "10")
            .start();
        server.psql("postgres", "create table ticks (id int primary key, note text)");
        let site = Site::with(&server);
        let folder = open_folder("drctl-backrest-");
        let bin = open_folder("drctl-bin-");
        let program = bin.path().join("drctl");
        if fs::hard_link(drctl_tests::site::drctl(), &program).is_err() {
            fs::copy(drctl_tests::site::drctl(), &program).unwrap();
        }
        let global = global.iter().map(|line| (*line).to_owned()).collect();
        let shop = Shop { server, site, folder, _bin: bin, program, global };
        for name in ["repo", "log", "lock", "spool"] {
            fs::create_dir(shop.path(name)).unwrap();
        }
        shop.configure();
        let source = format!(
            "engine = \"pgbackrest\"\nstanza = \"{STANZA}\"\npgbackrest_config = \"{}\"",
            shop.path("pgbackrest.conf").display()
        );
        shop.site.replace("engine = \"pg_dump\"", &source);
        give_away(&shop.site.path(""));
        shop
    }

    /// Writes pgBackRest's configuration for the server as it is now.
    pub(crate) fn configure(&self) {
        let mut global = vec![
            format!("repo1-path={}", self.path("repo").display()),
            format!("log-path={}", self.path("log").display()),
            format!("lock-path={}", self.path("lock").display()),
            format!("spool-path={}", self.path("spool").display()),
            "repo1-retention-full=99".to_owned(),
            "start-fast=y".to_owned(),
            "archive-timeout=60".to_owned(),
        ];
        let key = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
        global.retain(|line| !self.global.iter().any(|other| key(other) == key(line)));
        global.extend(self.global.iter().cloned());
        let text = format!(
            "[global]\n{}\n\n[{STANZA}]\npg1-path={}\npg1-port={}\npg1-socket-path={}\n",
            global.join("\n"),
            self.server.data_dir().display(),
            self.server.port(),
            self.server.socket_dir().display()
        );
        fs::write(self.path("pgbackrest.conf"), text).unwrap();
        give_away(self.folder.path());
    }

    /// Lets drctl run a script in pgBackRest's place.
    pub(crate) fn instead_of_pgbackrest(&self, script: &str) {
        let path = self.path("pgbackrest.sh");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        give_away(&path);
        let engine = "engine = \"pgbackrest\"";
        self.site.replace(engine, &format!("{engine}\npgbackrest_bin = \"{}\"", path.display()));
    }

    /// Lets the server archive into the stanza.
    pub(crate) fn archive(&self) {
        self.archive_by(&format!(
            "pgbackrest --config={} --stanza={STANZA} archive-push %p",
            self.path("pgbackrest.conf").display()
        ));
    }

    /// Lets the server archive by this command.
    pub(crate) fn archive_by(&self, command: &str) {
        let command = command.replace('\'', "''");
        self.sql(&format!(
            "alter system set archive_command = '{command}'; select pg_reload_conf()"
        ));
    }

    /// A path below pgBackRest's own directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program under the server's account.
    pub(crate) fn as_owner(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = match rustix::process::geteuid().is_root() {
            true => {
                let mut command = Command::new("setpriv");
                let account = ["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"];
                command.args(account).arg(program);
                command
            }
            false => Command::new(program),
        };
        command.env("TZ", "UTC").env("HOME", self.folder.path()).current_dir("/");
        command.stdin(Stdio::null());
        command
    }

    /// `drctl` under the server's account, ready to run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.as_owner(&self.program);
        command.env("DRCTL_CONFIG", self.site.config()).env_remove("DRCTL_LOG").args(arguments);
        command
    }

    /// Runs `drctl` in JSON mode under the server's account.
    #[track_caller]
    pub(crate) fn drctl(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command(&[&["--json"], arguments].concat()).output().unwrap())
    }

    /// Runs `pgbackrest` for the stanza, by hand, under the server's account.
    #[track_caller]
    pub(crate) fn pgbackrest(&self, arguments: &[&str]) -> Ran {
        let mut command = self.as_owner("pgbackrest");
        command.arg(format!("--config={}", self.path("pgbackrest.conf").display()));
        command.arg(format!("--stanza={STANZA}")).args(arguments);
        Ran::of(&command.output().expect("start pgbackrest"))
    }

    /// The server's major version.
    pub(crate) fn major(&self) -> String {
        self.sql("select current_setting('server_version_num')::int / 10000")
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.server.psql("postgres", sql)
    }

    /// Commits rows, each by itself.
    pub(crate) fn tick(&self, ids: std::ops::Range<u32>) {
        let rows: Vec<String> =
            ids.map(|id| format!("insert into ticks values ({id}, md5('{id}'));")).collect();
        self.sql(&rows.join("\n"));
    }

    /// When a row was committed, to the microsecond, in UTC, as drctl writes it.
    pub(crate) fn committed(&self, id: u32) -> String {
        let text = self.sql(&format!(
            "select to_char(pg_xact_commit_timestamp(xmin) at time zone 'UTC', \
             'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from ticks where id = {id}"
        ));
        text.parse::<jiff::Timestamp>().expect("a time").to_string()
    }

    /// Backs up by drctl, and lets the second be over in which that ended: pgBackRest tells whole
    /// seconds, and no plan goes to a time in it.
    #[track_caller]
    pub(crate) fn back_up(&self) -> Value {
        let done = self.drctl(&["backup", "shop"]).ended(0).json();
        let second = self.sql("select floor(extract(epoch from clock_timestamp())) + 1");
        until("the next second", || {
            self.sql(&format!("select extract(epoch from clock_timestamp()) > {second}")) == "t"
        });
        done
    }

    /// Ends the segment, waits until all before it is archived, and gives its name.
    pub(crate) fn archived(&self) -> String {
        // From 17 on the boundary belongs to the segment behind it, which does not end.
        let name = self.sql("select pg_walfile_name(pg_switch_wal() - 1)");
        until("the log to be archived", || {
            self.sql("select coalesce(last_archived_wal, '') from pg_stat_archiver") >= name
        });
        name
    }

    /// The segments in pgBackRest's repository, where that is a directory, in order.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.path("repo").join("archive").join(STANZA), &mut found);
        let is_segment = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.len() > 25 && name.as_bytes()[24] == b'-'
        };
        found.retain(is_segment);
        found.sort();
        found
    }

    /// The file of a segment in pgBackRest's repository, where that is a directory.
    #[track_caller]
    pub(crate) fn segment(&self, name: &str) -> PathBuf {
        let is_it = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(name);
        self.segments().into_iter().find(is_it).expect("the segment is in the repository")
    }

    /// Recovers into a new directory.
    #[track_caller]
    pub(crate) fn recover(&self, arguments: &[&str]) -> (Ran, TempDir, PathBuf) {
        let folder = open_folder("drctl-cluster-");
        give_away(folder.path());
        let path = folder.path().join("restored");
        let to = path.display().to_string();
        let ran = self.drctl(&[&["restore", "shop"], arguments, &["--to-directory", &to]].concat());
        (ran, folder, path)
    }
}

/// A standby of a server, and its folder.
pub(crate) fn standby(server: &Postgres) -> (Postgres, TempDir) {
    let folder = open_folder("drctl-standby-");
    let data = folder.path().join("standby");
    let mut copy = server.client("pg_basebackup");
    let copied = copy.args(["-R", "-c", "fast", "-D"]).arg(&data).status();
    assert!(copied.unwrap().success());
    (Postgres::builder().data(&data).start(), folder)
}

/// Waits until a standby has replayed all that its primary wrote.
#[track_caller]
pub(crate) fn caught_up(primary: &Postgres, standby: &Postgres) {
    let written = primary.psql("postgres", "select pg_current_wal_flush_lsn()");
    let replayed = format!("select pg_last_wal_replay_lsn() >= '{written}'");
    until("the standby to catch up", || standby.psql("postgres", &replayed) == "t");
}

/// The ticks in a recovered cluster.
#[track_caller]
pub(crate) fn ticks(path: &Path) -> String {
    let restored = Postgres::builder().data(&path.join("data")).start();
    restored.psql("postgres", "select string_agg(id::text, ',' order by id) from ticks")
}

/// Numbers as [`ticks`] gives them.
pub(crate) fn list(ids: std::ops::Range<u32>) -> String {
    ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}

/// A temporary directory that every account can reach.
pub(crate) fn open_folder(prefix: &str) -> TempDir {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("open it");
    folder
}

/// Makes a place and all in it the servers', which run under another account where the tests run
/// as root.
pub(crate) fn give_away(path: &Path) {
    if rustix::process::geteuid().is_root() {
        let given = Command::new("chown").args(["-R", "postgres:postgres"]).arg(path).status();
        assert!(given.expect("start chown").success());
    }
}

/// Every file below a directory.
pub(crate) fn walk(at: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(at).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}
