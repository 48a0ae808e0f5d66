//! A cluster whose log is archived, on a host whose source `shop` it is: what tests do with it
//! wherever its base backups and its log lie.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::servers::postgres::{Builder, Postgres, account};
use crate::site::{Ran, Site, drctl, until};

/// A cluster with a table `ticks`, made by [`archiving`], and drctl beside it under the account of
/// its server.
pub trait Cluster {
    /// The server.
    fn server(&self) -> &Postgres;

    /// The server, to stop it or to put another one in its place.
    fn server_mut(&mut self) -> &mut Postgres;

    /// The host.
    fn site(&self) -> &Site;

    /// The program, as the server's account can run it.
    fn program(&self) -> &Path;

    /// What is to be done when another server has taken the place of the one before.
    fn moved(&self) {}

    /// Ticks while the server writes too little to be replayed (`wal_level = minimal`), and archives
    /// nothing.
    ///
    /// # Panics
    /// If the server does not obey.
    fn detour(&mut self, ids: Range<u32>) {
        for (level, senders, mode) in [("minimal", "0", "off"), ("replica", "10", "on")] {
            for (name, value) in
                [("wal_level", level), ("max_wal_senders", senders), ("archive_mode", mode)]
            {
                self.sql(&format!("alter system set {name} = '{value}'"));
            }
            self.server_mut().stop();
            self.server_mut().start_again();
            if level == "minimal" {
                self.tick(ids.clone());
            }
        }
    }

    /// A program under the server's account.
    fn as_owner(&self, program: impl AsRef<OsStr>) -> Command {
        as_owner(program)
    }

    /// `drctl` under the server's account, ready to run.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.as_owner(self.program());
        command.env("DRCTL_CONFIG", self.site().config()).env_remove("DRCTL_LOG").args(arguments);
        command
    }

    /// Runs `drctl` in JSON mode under the server's account.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    fn drctl(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command(&[&["--json"], arguments].concat());
        Ran::of(&command.output().expect("start drctl"))
    }

    /// What `drctl status` tells of the source by this code: nothing where all is well.
    ///
    /// # Panics
    /// If `drctl status` fails.
    #[track_caller]
    fn told(&self, code: &str) -> Vec<Value> {
        let status = self.drctl(&["status"]).ended(0).json();
        let all = status["sources"][0]["findings"].as_array().expect("a list").clone();
        all.into_iter().filter(|one| one["code"] == code).collect()
    }

    /// Backs up, and gives the answer.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    fn back_up(&self) -> Value {
        self.drctl(&["backup", "shop"]).ended(0).json()
    }

    /// Runs SQL.
    fn sql(&self, sql: &str) -> String {
        self.server().psql("postgres", sql)
    }

    /// Commits rows, each by itself.
    fn tick(&self, ids: Range<u32>) {
        let rows: Vec<String> =
            ids.map(|id| format!("insert into ticks values ({id}, md5('{id}'));")).collect();
        self.sql(&rows.join("\n"));
    }

    /// When a row was committed, to the microsecond, in UTC, as drctl writes it: without zeros at
    /// its end.
    ///
    /// # Panics
    /// If there is no such row.
    #[track_caller]
    fn committed(&self, id: u32) -> String {
        let text = self.sql(&format!(
            "select to_char(pg_xact_commit_timestamp(xmin) at time zone 'UTC', \
             'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from ticks where id = {id}"
        ));
        text.parse::<jiff::Timestamp>().expect("a time").to_string()
    }

    /// Ends the segment, waits until all before it is archived, and gives its name.
    #[track_caller]
    fn archived(&self) -> String {
        // From 17 on the boundary belongs to the segment behind it, which does not end.
        let name = self.sql("select pg_walfile_name(pg_switch_wal() - 1)");
        // The last that was archived may be of an earlier timeline.
        let marked = format!(
            "select exists (select from pg_ls_archive_statusdir() where name = '{name}.done')
                 or (select last_archived_wal >= '{name}' from pg_stat_archiver)"
        );
        until("the log to be archived", || self.sql(&marked) == "t");
        name
    }

    /// Has so many segments archived with ten rows in each, from 1 on, and gives their names.
    #[track_caller]
    fn segments_of_ten(&self, count: u32) -> Vec<String> {
        let one = |round| {
            self.tick(round * 10 + 1..round * 10 + 11);
            self.archived()
        };
        (0..count).map(one).collect()
    }

    /// Recovers into a new directory: how it ended, a folder to be kept, and the directory in it.
    #[track_caller]
    fn recover(&self, arguments: &[&str]) -> (Ran, TempDir, PathBuf) {
        let (folder, path) = own_place();
        let to = path.display().to_string();
        let ran = self.drctl(&[&["restore", "shop"], arguments, &["--to-directory", &to]].concat());
        (ran, folder, path)
    }

    /// The server dies, and its standby takes over.
    fn fail_over(&mut self, standby: Postgres) {
        self.server_mut().crash();
        standby.psql("postgres", "select pg_promote()");
        *self.server_mut() = standby;
        self.moved();
    }
}

/// Starts a cluster with segments of 1 MiB and an archive into which nothing goes yet
/// (`archive_command` fails), which knows when transactions were committed. `initdb` has more
/// arguments of that program.
#[must_use]
pub fn archiving(initdb: &[&str]) -> Postgres {
    archives(initdb.iter().fold(Postgres::builder(), |builder, word| builder.initdb(word)))
}

/// The same, of this major version at least.
#[must_use]
pub fn archiving_from(major: u32) -> Postgres {
    archives(Postgres::builder().at_least(major))
}

/// The same with its configuration outside of its data folder, as Debian has it.
#[must_use]
pub fn archiving_elsewhere() -> Postgres {
    archives(Postgres::builder().elsewhere())
}

fn archives(builder: Builder) -> Postgres {
    let server = builder
        .initdb("--wal-segsize=1")
        .conf("archive_mode", "on")
        .conf("archive_command", "false")
        .conf("track_commit_timestamp", "on")
        .conf("max_prepared_transactions", "10")
        .start();
    server.psql("postgres", "create table ticks (id int primary key, note text)");
    server
}

/// The program under test, where every account can run it.
pub struct Program {
    _folder: TempDir,
    path: PathBuf,
}

impl Program {
    /// Puts it there.
    ///
    /// # Panics
    /// If there is none, or no temporary directory.
    #[must_use]
    pub fn placed() -> Self {
        let folder = open_folder("drctl-bin-");
        let path = folder.path().join("drctl");
        if fs::hard_link(drctl(), &path).is_err() {
            // By a process of its own: a child that another test makes meanwhile would hold what we
            // write to, and nothing that is written to is run.
            let copied = Command::new("cp").arg(drctl()).arg(&path).status();
            assert!(copied.is_ok_and(|status| status.success()), "copy the program");
        }
        Program { _folder: folder, path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A program under the account that servers run under.
pub fn as_owner(program: impl AsRef<OsStr>) -> Command {
    let mut command = match account() {
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.arg(format!("--reuid={user}")).arg(format!("--regid={user}"));
            command.args(["--clear-groups", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.env("TZ", "UTC").current_dir("/").stdin(Stdio::null());
    command
}

/// A temporary directory that every account can reach.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn open_folder(prefix: &str) -> TempDir {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("open it");
    folder
}

/// A directory that every account can reach, and a path in it that is not there yet.
#[must_use]
pub fn place() -> (TempDir, PathBuf) {
    let folder = open_folder("drctl-cluster-");
    let path = folder.path().join("restored");
    (folder, path)
}

/// The same in a directory that the servers' account owns.
#[must_use]
pub fn own_place() -> (TempDir, PathBuf) {
    let (folder, path) = place();
    give_away(folder.path());
    (folder, path)
}

/// Makes a place and all in it the servers', which run under another account where the tests run
/// as root.
///
/// # Panics
/// If it cannot be done.
pub fn give_away(path: &Path) {
    if let Some(user) = account() {
        let owner = format!("{user}:{user}");
        let given = Command::new("chown").args(["-R", &owner]).arg(path).status();
        assert!(given.expect("start chown").success());
    }
}

/// Waits for the server that drctl starts on a data directory, and holds it: whoever drives it waits.
///
/// # Panics
/// If none starts.
#[must_use]
pub fn held(data: &Path) -> Pid {
    let mut server = None;
    until("the server to start", || {
        server = postmaster(data);
        server.is_some()
    });
    let server = server.expect("it was there");
    kill_process(server, Signal::STOP).expect("hold it");
    server
}

/// The same with every process of the server, the postmaster first. None of them asks for log any more:
/// a `restore_command` that was under way has ended.
///
/// # Panics
/// If none starts.
#[must_use]
pub fn held_whole(data: &Path) -> Vec<Pid> {
    let postmaster = held(data);
    // It starts no more of them.
    let mut others = children(postmaster);
    others.retain(|process| kill_process(*process, Signal::STOP).is_ok());
    until("the restore_command to end", || others.iter().all(|of| children(*of).is_empty()));
    std::iter::once(postmaster).chain(others).collect()
}

/// Those that live.
fn children(parent: Pid) -> Vec<Pid> {
    let wanted = parent.as_raw_pid().to_string();
    let is_of = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Its name may hold anything: `1 (sh) S 2`.
        let mut words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        words.next().is_some_and(|state| state != "Z") && words.next() == Some(&*wanted)
    };
    let entries = fs::read_dir("/proc").expect("/proc is there");
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(is_of).filter_map(Pid::from_raw).collect()
}

/// The postmaster that drctl has started on a data directory, by its number on this host: the one that
/// it knows itself by is that of its sandbox.
#[must_use]
pub fn postmaster(data: &Path) -> Option<Pid> {
    let wanted = format!("data_directory={}", data.display());
    let is_it = |pid: &i32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split('\0');
        words.next().is_some_and(|program| program.ends_with("/postgres"))
            && words.any(|word| word == wanted)
    };
    let entries = fs::read_dir("/proc").ok()?;
    let mut numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.find(is_it).and_then(Pid::from_raw)
}

/// Ends the server that drctl left on a restored cluster, where a test fails before it was stopped.
pub struct Ends(pub PathBuf);

impl Drop for Ends {
    fn drop(&mut self) {
        if let Some(pid) = postmaster(&self.0.join("data")) {
            let _ = kill_process(pid, Signal::QUIT);
        }
    }
}

/// A standby of a server, and its folder.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn standby(server: &Postgres) -> (Postgres, TempDir) {
    let folder = open_folder("drctl-standby-");
    let data = folder.path().join("standby");
    // A standby without a slot is cut off where a checkpoint of the primary removes what it has not got yet.
    server.psql("postgres", "alter system set wal_keep_size = '1GB'");
    server.psql("postgres", "select pg_reload_conf()");
    let mut copy = server.client("pg_basebackup");
    let copied = copy.args(["-R", "-c", "fast", "-D"]).arg(&data).status();
    assert!(copied.expect("start pg_basebackup").success());
    (Postgres::builder().data(&data).start(), folder)
}

/// Waits until a standby has replayed all that its primary wrote.
#[track_caller]
pub fn caught_up(primary: &Postgres, standby: &Postgres) {
    let written = primary.psql("postgres", "select pg_current_wal_flush_lsn()");
    let replayed = format!("select pg_last_wal_replay_lsn() >= '{written}'");
    until("the standby to catch up", || standby.psql("postgres", &replayed) == "t");
}

/// A recovery of the source's cluster to one target into one directory, to be asked for again and
/// again, each time with more words.
pub fn recovery<'a>(
    shop: &'a impl Cluster,
    target: &'a [&'a str],
    to: &Path,
) -> impl Fn(&[&str]) -> Ran + 'a {
    let to = to.display().to_string();
    move |more| {
        let into = ["--to-directory", to.as_str()];
        shop.drctl(&[&["restore", "shop"], target, &into, more].concat())
    }
}

/// The ticks in a recovered cluster, whose directory is its owner's.
///
/// # Panics
/// If it does not start.
#[must_use]
#[track_caller]
pub fn ticks(path: &Path) -> String {
    let mode = fs::metadata(path).expect("a directory").permissions().mode();
    assert_eq!(mode & 0o700, 0o700);
    let restored = Postgres::builder().data(&path.join("data")).start();
    restored.psql("postgres", "select string_agg(id::text, ',' order by id) from ticks")
}

/// Numbers as [`ticks`] gives them.
#[must_use]
pub fn list(ids: Range<u32>) -> String {
    ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}

/// Since when a finding of `drctl status` stands.
///
/// # Panics
/// If that is not told.
#[must_use]
#[track_caller]
pub fn since(told: &Value) -> jiff::Timestamp {
    let since = told["since"].as_str().expect("a time");
    since.parse().expect("a time")
}
