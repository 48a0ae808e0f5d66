//! A host that crashes, and what must be true of it afterwards.

use std::os::unix::process::ExitStatusExt;

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Site, until};
use serde_json::Value;

/// The signal that cannot be caught.
const SIGKILL: i32 = 9;

/// A server with a small shop: a dump of a dozen segments.
pub(crate) fn filled() -> Postgres {
    let server = Postgres::start();
    fill(&server);
    server
}

/// Fills the one database of a server.
pub(crate) fn fill(server: &Postgres) {
    server.psql(
        "postgres",
        "create table orders as select g as id, md5(g::text) as note \
         from generate_series(1, 15000) g",
    );
}

/// The identifier in what `drctl --json backup` printed.
pub(crate) fn id_in(printed: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(printed).expect("an object");
    answer["backup"]["backup"].as_str().expect("an identifier").to_owned()
}

/// A site, and the server that it backs up.
pub(crate) struct Host<'a> {
    pub(crate) site: Site,
    server: &'a Postgres,
}

impl<'a> Host<'a> {
    /// A host that backs the server up.
    pub(crate) fn on(server: &'a Postgres) -> Self {
        Host { site: Site::with(server), server }
    }

    /// As [`on`](Self::on), of a server that wants a password.
    pub(crate) fn with_password(server: &'a Postgres, password: &str) -> Self {
        let site = Site::empty();
        let file = site.path("password");
        std::fs::write(&file, password).expect("write the password");
        let url = format!("file://{}", site.path("repository").display());
        site.init(server, &url, &["--password-file", &file.display().to_string()]);
        site.append("\n[limits]\nsegment_bytes = \"64KiB\"\n");
        Host { site, server }
    }

    /// Runs drctl, which must die at this crash point, and by nothing else.
    #[track_caller]
    pub(crate) fn crash(&self, point: &str, arguments: &[&str]) {
        let mut command = self.site.command(arguments);
        let output = command.env("DRCTL_CRASH_AT", point).output().expect("start drctl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(SIGKILL), "{point} was not reached: {said}");
        assert!(output.stdout.is_empty(), "{point}: it was acknowledged before");
    }

    /// The identifier of the last job's attempt.
    #[track_caller]
    pub(crate) fn attempt(&self) -> String {
        self.site.status()["last_job"]["backup"].as_str().expect("a job").to_owned()
    }

    /// What the catalog lists, oldest first.
    pub(crate) fn listed(&self) -> Vec<String> {
        let rows = self.site.rows();
        rows.iter().rev().filter_map(|row| row["backup"].as_str().map(str::to_owned)).collect()
    }

    /// What has a manifest in the bucket, oldest first.
    pub(crate) fn committed(&self) -> Vec<String> {
        let folder = |path: &std::path::PathBuf| {
            let name = path.parent().and_then(|folder| folder.file_name()).expect("a folder");
            name.to_string_lossy().into_owned()
        };
        self.site.manifests().iter().map(folder).collect()
    }

    /// How many jobs the log leaves without an end.
    pub(crate) fn unsettled(&self) -> usize {
        let path = self.site.path("state/catalog.db");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let jobs = runtime.expect("a runtime").block_on(async {
            let catalog = drctl_catalog::Catalog::open_read_only(&path).await?;
            catalog.unfinished_jobs().await
        });
        jobs.expect("the job log").len()
    }

    /// The state of an attempt's job, as the log tells it.
    fn state_of(&self, attempt: &str) -> String {
        let path = self.site.path("state/catalog.db");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let jobs = runtime.expect("a runtime").block_on(async {
            let catalog = drctl_catalog::Catalog::open_read_only(&path).await?;
            catalog.jobs(None, usize::MAX).await
        });
        let jobs = jobs.expect("the job log");
        let job = jobs
            .iter()
            .find(|job| job.backup.as_ref().is_some_and(|id| id.as_str() == attempt))
            .expect("its job");
        format!("{:?}", job.state)
    }

    /// Files in the state directory that a start should have swept.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let files = self.site.files("state");
        let names = files.iter().map(|path| path.display().to_string());
        names.filter(|name| name.contains(".rebuild-")).collect()
    }

    /// Asserts that catalog and bucket agree, and gives the attempts that are known as orphans.
    #[track_caller]
    pub(crate) fn agrees(&self) -> Vec<String> {
        let ran = self.site.drctl(&["--json", "catalog", "check"]);
        assert!(matches!(ran.code, Some(0 | 3)), "{ran:?}");
        let check = ran.json();
        assert_eq!(check["equal"], true, "{check}");
        assert_eq!(check["foreign"].as_array().map(Vec::len), Some(0), "{check}");
        let orphans = check["orphans"].as_array().expect("a list");
        orphans.iter().filter_map(|one| one["backup"].as_str().map(str::to_owned)).collect()
    }

    /// Asserts that nothing of drctl is left on the server.
    #[track_caller]
    pub(crate) fn no_session(&self) {
        let sql = "select count(*) from pg_stat_activity where application_name like 'drctl/%'";
        until("the sessions to end", || self.server.psql("postgres", sql) == "0");
    }

    /// Asserts what must hold after a crash, with the backups that were acknowledged before it,
    /// and the attempt that died with whether its manifest is in the bucket.
    #[track_caller]
    pub(crate) fn recovers(&self, acknowledged: &[&str], died: Option<(&str, bool)>) {
        self.no_session();
        // Before anything else is run: what can be seen is whole, what was acknowledged is there.
        let committed = self.committed();
        let mut expected: Vec<&str> = acknowledged.to_vec();
        expected.extend(died.filter(|(_, committed)| *committed).map(|(attempt, _)| attempt));
        assert_eq!(committed, expected);
        if !expected.is_empty() {
            let verified = self.site.json(0, &["verify", "--data"]);
            assert_eq!(verified["backups"].as_array().map(Vec::len), Some(expected.len()));
        }
        let listed = self.listed();
        assert!(listed.iter().all(|id| committed.contains(id)), "{listed:?}");
        assert!(acknowledged.iter().all(|id| listed.iter().any(|one| one == id)), "{listed:?}");

        // The next run succeeds and settles what the dead one left.
        let next = self.site.backup();
        expected.push(&next);
        assert_eq!(self.listed(), expected);
        assert_eq!(self.unsettled(), 0);
        let orphans = self.agrees();
        if let Some((attempt, committed)) = died {
            let state = if committed { "Committed" } else { "Interrupted" };
            assert_eq!(self.state_of(attempt), state);
            let prefix = format!("repository/s/shop/b/{attempt}");
            let left = !committed && self.site.path(&prefix).exists();
            assert_eq!(orphans, if left { vec![attempt.to_owned()] } else { vec![] });
        }
        assert_eq!(self.site.status()["health"], "good");
        let _ = self.site.json(0, &["verify", "--data"]);
        let rows = self.site.rows();
        let rebuilt = self.site.drctl(&["--json", "catalog", "rebuild"]);
        assert!(matches!(rebuilt.code, Some(0 | 3)), "{rebuilt:?}");
        assert_eq!(self.site.rows(), rows, "rebuilt from the bucket, it is the same");
    }
}
