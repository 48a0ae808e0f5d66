//! A cluster that archives through pgBackRest, and a host whose source uses its stanza.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use drctl_tests::cluster::{self, Cluster, Program, archiving, give_away, open_folder};
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
    program: Program,
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
        Shop::bare_of(archiving(&["--data-checksums"]), global)
    }

    /// The same of a server that is there.
    pub(crate) fn bare_of(server: Postgres, global: &[&str]) -> Self {
        let site = Site::with(&server);
        let folder = open_folder("drctl-backrest-");
        let global = global.iter().map(|line| (*line).to_owned()).collect();
        let shop = Shop { server, site, folder, program: Program::placed(), global };
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
}

impl Cluster for Shop {
    fn server(&self) -> &Postgres {
        &self.server
    }

    fn server_mut(&mut self) -> &mut Postgres {
        &mut self.server
    }

    fn site(&self) -> &Site {
        &self.site
    }

    fn program(&self) -> &Path {
        self.program.path()
    }

    fn moved(&self) {
        self.configure();
    }

    fn as_owner(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = cluster::as_owner(program);
        command.env("HOME", self.folder.path());
        command
    }

    /// Backs up, and lets the second be over in which that ended: pgBackRest tells whole seconds,
    /// and no plan goes to a time in it.
    #[track_caller]
    fn back_up(&self) -> Value {
        let done = self.drctl(&["backup", "shop"]).ended(0).json();
        let second = self.sql("select floor(extract(epoch from clock_timestamp())) + 1");
        until("the next second", || {
            self.sql(&format!("select extract(epoch from clock_timestamp()) > {second}")) == "t"
        });
        done
    }
}

/// Every file below a directory.
pub(crate) fn walk(at: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(at).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}
