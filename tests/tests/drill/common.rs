//! A host whose source `shop` is a server's databases, and whose account can run servers.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use drctl_tests::cluster::{Cluster, Program, archiving, give_away};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site, faketime};
use serde_json::Value;

/// A shop, backed up by dumps unless it is made a cluster.
pub(crate) struct Shop {
    pub(crate) server: Postgres,
    pub(crate) site: Site,
    program: Program,
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
}

impl Shop {
    /// A server with a few tables, of which nothing is backed up yet.
    pub(crate) fn open() -> Self {
        let server = archiving(&[]);
        server.psql(
            "postgres",
            "create table orders (id int primary key, note text); \
             insert into orders select g, 'order ' || g from generate_series(1, 2000) g",
        );
        let site = Site::with(&server);
        give_away(&site.path(""));
        Shop { server, site, program: Program::placed() }
    }

    /// The same of a cluster with base backups, and its log in the bucket.
    pub(crate) fn cluster() -> Self {
        let shop = Shop::open();
        shop.site
            .replace("engine = \"pg_dump\"", "engine = \"base_backup\"\ncheckpoint = \"fast\"");
        let (program, config) = (shop.program().display(), shop.site.config());
        let command = format!("{program} --config {} wal push shop %p", config.display());
        shop.sql(&format!(
            "alter system set archive_command = '{command}'; select pg_reload_conf()"
        ));
        shop
    }

    /// Runs drctl in JSON mode with a clock that is so many days behind.
    #[track_caller]
    pub(crate) fn days_ago(&self, days: u32, arguments: &[&str]) -> Ran {
        // Its clock begins behind the change of accounts: what root makes of it no other account may open.
        let clock = [
            format!("LD_PRELOAD={}", faketime()),
            format!("FAKETIME=-{days}d"),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "NO_FAKE_STAT=1".to_owned(),
            format!("DRCTL_CONFIG={}", self.site.config().display()),
        ];
        let mut command = self.as_owner("env");
        command.args(clock).arg(self.program()).arg("--json").args(arguments);
        Ran::of(&command.output().expect("start drctl"))
    }

    /// Backs up with a clock that is so many days behind.
    #[track_caller]
    pub(crate) fn back_up_days_ago(&self, days: u32) {
        let _ = self.days_ago(days, &["backup", "shop"]).ended(0);
    }

    /// Runs a drill, which must end with this exit code, and gives its answer.
    #[track_caller]
    pub(crate) fn drill(&self, exit: i32, more: &[&str]) -> Value {
        self.drctl(&[&["drill", "run", "shop"], more].concat()).ended(exit).json()
    }

    /// Programs of the server for drills, of which one is a script: `$REAL` is the one that it stands for.
    pub(crate) fn with_script(&self, program: &str, script: &str) {
        let folder = self.site.path("programs");
        let real = self.server.bin_dir();
        if !folder.exists() {
            let copied = Command::new("cp").arg("-rL").arg(real).arg(&folder).status();
            assert!(copied.expect("start cp").success());
            self.site.source(&format!("bin_dir = \"{}\"", folder.display()));
        }
        let place = folder.join(program);
        let _ = fs::remove_file(&place);
        let real = real.join(program);
        fs::write(&place, format!("#!/bin/sh\nREAL={}\n{script}\n", real.display()))
            .expect("written");
        let mode = Command::new("chmod").arg("755").arg(&place).status();
        assert!(mode.expect("start chmod").success());
        give_away(&folder);
        give_away(&self.site.config());
    }

    /// Where drills restore to.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.site.path("state-scratch")
    }

    /// What of drills is left there.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.scratch()).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// The evidence of drills in the bucket, oldest first.
    pub(crate) fn evidence(&self) -> Vec<PathBuf> {
        let mut files = self.site.files("repository");
        files.retain(|path| path.starts_with("s/shop/d"));
        files.sort();
        files.iter().map(|path| self.site.path("repository").join(path)).collect()
    }

    /// The largest object of a backup, from the repository's root.
    pub(crate) fn largest_of(&self, backup: &str) -> PathBuf {
        let mut files = self.site.files("repository");
        files.retain(|path| {
            let name = path.to_string_lossy();
            name.contains(backup) && !name.ends_with(".json")
        });
        let size = |path: &PathBuf| {
            fs::metadata(self.site.path("repository").join(path)).expect("it is there").len()
        };
        files.into_iter().max_by_key(size).expect("an object")
    }
}

/// Changes a byte in the middle of a file of the repository.
pub(crate) fn damage(shop: &Shop, path: &Path) {
    let path = shop.site.path("repository").join(path);
    let middle = fs::metadata(&path).unwrap().len() / 2;
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[!byte[0]], middle).unwrap();
}
