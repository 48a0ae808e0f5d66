//! A `wal stream` that runs beside a test, and what waits for its confirmations.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use drctl_tests::cluster::Cluster as _;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, until};
use rustix::process::{Pid, Signal, kill_process};

use crate::log::Archiving;

/// `drctl wal stream`, gone with the test.
pub(crate) struct Streaming {
    child: Child,
    said: tempfile::NamedTempFile,
}

impl Streaming {
    /// Starts it, and waits until the server sends.
    #[track_caller]
    pub(crate) fn start(shop: &Archiving, more: &[&str]) -> Self {
        Streaming::launch(shop, more).begun(shop)
    }

    /// The same of a command that is ready to run.
    #[track_caller]
    pub(crate) fn start_by(shop: &Archiving, command: Command) -> Self {
        Streaming::of(command).begun(shop)
    }

    #[track_caller]
    fn begun(self, shop: &Archiving) -> Self {
        let begun = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("the stream to begin", || shop.sql(STREAMS) == "1");
        }));
        assert!(begun.is_ok(), "the stream does not begin: {}", self.said());
        self
    }

    /// Starts it, whatever comes of it.
    pub(crate) fn launch(shop: &Archiving, more: &[&str]) -> Self {
        Streaming::of(shop.command(&[&["wal", "stream", "shop"], more].concat()))
    }

    fn of(mut command: Command) -> Self {
        let said = tempfile::NamedTempFile::new().unwrap();
        command.stdout(Stdio::null()).stderr(File::create(said.path()).unwrap());
        Streaming { child: command.spawn().unwrap(), said }
    }

    /// Waits until it has said something.
    #[track_caller]
    pub(crate) fn says(&self, words: &str) {
        let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(words, || self.said().contains(words));
        }));
        assert!(said.is_ok(), "not said: {words}; but: {}", self.said());
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.said.path()).unwrap()
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the kernel tells of it.
    pub(crate) fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.id())).unwrap()
    }

    pub(crate) fn kill(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::KILL).unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end; gives its exit code.
    pub(crate) fn end(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// How one ended that is refused. It is not waited for once it confirms WAL behind a place that it
    /// must not pass.
    #[track_caller]
    pub(crate) fn refused(shop: &Archiving, place: &str) -> Ran {
        let out = tempfile::NamedTempFile::new().unwrap();
        let said = tempfile::NamedTempFile::new().unwrap();
        let mut command = shop.command(&["--json", "wal", "stream", "shop", "--interval", "1"]);
        command.stdout(File::create(out.path()).unwrap());
        command.stderr(File::create(said.path()).unwrap());
        let mut streaming = Streaming { child: command.spawn().unwrap(), said };
        let confirms = format!(
            "select coalesce(bool_or(flush_lsn > '{place}'), false) from pg_stat_replication
                 where application_name = 'drctl_wal'"
        );
        until("the stream to be refused", || {
            let ended = streaming.child.try_wait().unwrap().is_some();
            let passed = !ended && shop.sql(&confirms) == "t";
            assert!(!passed, "it confirms WAL behind {place}: {}", streaming.said());
            ended
        });
        let out = std::fs::read_to_string(out.path()).unwrap();
        Ran { code: streaming.ended(), out, err: streaming.said() }
    }

    /// Its exit code, once it has ended by itself.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
        until("the stream to end", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

const STREAMS: &str = "select count(*) from pg_stat_replication where application_name = 'drctl_wal' and state = 'streaming'";

/// Waits until all that a server has written is safe in the bucket.
#[track_caller]
pub(crate) fn shipped(server: &Postgres) {
    let written = server.psql(
        "postgres",
        "select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end",
    );
    let sql = format!("select bool_or(restart_lsn >= '{written}') from pg_replication_slots");
    until("the log to be shipped", || server.psql("postgres", &sql) == "t");
}

/// Commits wait for the stream from now on.
#[track_caller]
pub(crate) fn synchronous(shop: &Archiving) {
    shop.sql("alter system set synchronous_standby_names = 'drctl_wal'; select pg_reload_conf()");
    let is_sync = "select sync_state from pg_stat_replication where application_name = 'drctl_wal'";
    until("the standby to be synchronous", || shop.sql(is_sync) == "sync");
}

/// A client that commits a row after the other, and counts those it was told of.
pub(crate) struct Writer {
    child: Child,
    acknowledged: Arc<AtomicU32>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Commits ticks from `first` on, for as long as the server lives.
    pub(crate) fn start(server: &Postgres, first: u32) -> Self {
        let mut psql = server.client("psql");
        psql.args(["-XAtq", "-d", "postgres"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = psql.stderr(Stdio::null()).spawn().unwrap();
        let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let acknowledged = Arc::new(AtomicU32::new(first - 1));
        let told = Arc::clone(&acknowledged);
        let writes = std::thread::spawn(move || {
            for id in first.. {
                let row = format!("insert into ticks values ({id}, 'x') returning id;\n");
                if input.write_all(row.as_bytes()).is_err() {
                    return;
                }
            }
        });
        let reads = std::thread::spawn(move || listen(output, &told));
        Writer { child, acknowledged, threads: vec![writes, reads] }
    }

    /// The last row that it was told to be safe.
    pub(crate) fn acknowledged(&self) -> u32 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// The same, when its server has died.
    pub(crate) fn end(mut self) -> u32 {
        let _ = self.child.wait();
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        self.acknowledged()
    }
}

/// Whoever was told a number was told that it is safe.
fn listen(output: ChildStdout, told: &AtomicU32) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Ok(id) = line.trim().parse() {
            told.store(id, Ordering::SeqCst);
        }
    }
}
