//! pgBackRest run by the helper of the server's account, for a drctl under an account that can read
//! neither the cluster nor the repository.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use drctl_tests::cluster::{Cluster as _, give_away, list, open_folder, ticks};
use drctl_tests::hostile::as_nobody;
use drctl_tests::site::{Ran, until};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::common::{STANZA, Shop, walk};

/// An account of every Debian that has nothing to do with the server's.
const AGENT: &str = "backup";

/// All that may be allowed.
const ALL: &str = r#""look", "backup", "wal", "stanza""#;

/// A program under the agent's account.
fn as_agent(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={AGENT}")).arg(format!("--regid={AGENT}"));
    command.args(["--clear-groups", "--"]).arg(program);
    command.env("TZ", "UTC").current_dir("/").stdin(Stdio::null());
    command
}

/// A shop whose drctl runs as another account, and the helper of the server's account at a socket as
/// systemd makes it.
struct Helped {
    shop: Shop,
    folder: TempDir,
    listener: Option<UnixListener>,
    helper: Option<Child>,
}

impl Helped {
    fn start(may: &str) -> Helped {
        assert!(geteuid().is_root(), "run this as root: it runs programs under three accounts");
        let shop = Shop::start();
        let folder = open_folder("drctl-helper-");
        let mut helped = Helped { shop, folder, listener: None, helper: None };
        let config = helped.shop.path("pgbackrest.conf");
        let with_config = format!("pgbackrest_config = \"{}\"", config.display());
        let site = &helped.shop.site;
        site.replace(&with_config, "run_as = \"postgres\"\nrequire_peer = \"postgres\"");
        let jobs = format!("job_dir = \"{}\"\nruntime_dir = ", helped.jobs().display());
        site.replace("runtime_dir = ", &jobs);
        // The server's account alone has its repository and its configuration.
        fs::set_permissions(helped.shop.path(""), fs::Permissions::from_mode(0o700)).unwrap();
        helped.own(AGENT);
        fs::create_dir(helped.jobs()).unwrap();
        fs::set_permissions(helped.jobs(), fs::Permissions::from_mode(0o755)).unwrap();
        helped.allow(STANZA, may);
        helped.listen();
        helped.help();
        helped
    }

    /// The directory of sockets.
    fn jobs(&self) -> PathBuf {
        self.folder.path().join("jobs")
    }

    /// Root's file.
    fn allowed(&self) -> PathBuf {
        self.folder.path().join("postgres.toml")
    }

    /// What the helper says, in its log.
    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Makes all of drctl's own this account's.
    fn own(&self, account: &str) {
        let owner = format!("{account}:{account}");
        let given =
            Command::new("chown").args(["-R", &owner]).arg(self.shop.site.path("")).status();
        assert!(given.unwrap().success());
    }

    /// Root writes what may be asked for.
    fn allow(&self, stanza: &str, may: &str) {
        let config = self.shop.path("pgbackrest.conf");
        let text = format!(
            "version = 1\nagent = \"{AGENT}\"\n[pgbackrest.{stanza}]\nmay = [{may}]\nconfig = \"{}\"\n",
            config.display()
        );
        fs::write(self.allowed(), text).unwrap();
        fs::set_permissions(self.allowed(), fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Makes the socket as systemd does: root listens, and the agent's account alone may connect.
    fn listen(&mut self) {
        let path = self.jobs().join("postgres.sock");
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let account = fs::metadata(self.shop.site.config()).unwrap();
        chown(&path, Some(account.uid()), None).unwrap();
        self.listener = Some(listener);
    }

    /// Starts a helper at that socket, as systemd does for whoever comes.
    fn help(&mut self) {
        let socket: OwnedFd = self.listener.as_ref().unwrap().try_clone().unwrap().into();
        let log =
            fs::File::options().create(true).append(true).open(self.folder.path().join("log"));
        let mut command = self.shop.as_owner(self.shop.program());
        command.arg("job-helper").arg("--allowed").arg(self.allowed());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.stdin(socket).stdout(Stdio::null()).stderr(log.unwrap()).process_group(0);
        self.helper = Some(command.spawn().unwrap());
    }

    /// `drctl` under the agent's account, ready to run.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = as_agent(self.shop.program());
        command.env("DRCTL_CONFIG", self.shop.site.config()).arg("--json").args(arguments);
        command
    }

    /// Runs it.
    #[track_caller]
    fn drctl(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command(arguments).output().unwrap())
    }

    /// What doctor says of pgBackRest: its text, and what to do.
    #[track_caller]
    fn doctor(&self) -> String {
        let found = self.drctl(&["doctor", "shop"]).json();
        let checks = found["findings"].as_array().unwrap().clone();
        let is_it = |check: &&serde_json::Value| check["check"] == "source.shop.pgbackrest";
        let check = checks.iter().find(is_it).unwrap_or_else(|| panic!("{found}"));
        format!("{} {} {}", check["level"], check["text"], check["hint"])
    }

    /// The pgBackRest that works on this stanza, with all that it has started.
    fn running(&self, command: &str) -> Vec<Pid> {
        let config = format!("--config={}", self.shop.path("pgbackrest.conf").display());
        let is_it = |pid: &i32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&str> = line.split('\0').collect();
            words.iter().any(|word| word.starts_with(command)) && words.contains(&config.as_str())
        };
        let entries = fs::read_dir("/proc").unwrap();
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(is_it).filter_map(Pid::from_raw).collect()
    }

    /// A backup that waits for the archive of its last segment, for as long as nothing is archived.
    fn begun(&self) -> Child {
        self.shop.archive_by("pgbackrest --stanza=none archive-push %p");
        // Workers of one that has ended may still be ending.
        until("earlier ones to end", || self.running("backup").is_empty());
        let mut command = self.command(&["backup", "shop"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("pgBackRest to back up", || !self.running("backup").is_empty());
        child
    }

    /// The states of the source's jobs, and how many backups there are.
    fn jobs_and_backups(&self) -> (String, usize) {
        let status = self.drctl(&["status"]).json();
        let list = self.drctl(&["list"]).ended(0).json();
        let state = status["sources"][0]["last_job"]["state"].as_str().unwrap_or_default();
        (state.to_owned(), list["backups"].as_array().unwrap().len())
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        let mut helper = self.helper.take().unwrap();
        kill_process(Pid::from_child(&helper), signal).unwrap();
        helper.wait().unwrap().code()
    }
}

impl Drop for Helped {
    fn drop(&mut self) {
        if let Some(mut helper) = self.helper.take() {
            let _ = helper.kill();
            let _ = helper.wait();
        }
        // As systemd ends all of a unit.
        for pid in self.running("") {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[test]
fn a_cluster_is_backed_up_for_an_account_that_can_read_none_of_it() {
    let mut helped = Helped::start(ALL);
    let data = helped.shop.server.data_dir().join("PG_VERSION");
    for place in [&data, &helped.shop.path("pgbackrest.conf"), &helped.shop.path("repo")] {
        let listed = as_agent(Path::new("ls")).arg(place).arg("-R").output().unwrap();
        assert!(!listed.status.success(), "{AGENT} can read {}", place.display());
    }
    for verb in ["create", "check", "adopt"] {
        let _ = helped.drctl(&["stanza", verb, "shop"]).ended(0);
    }
    helped.shop.tick(1..11);
    let full = helped.drctl(&["backup", "shop"]).ended(0).json();
    assert_eq!(full["backup"]["kind"]["backup_type"], "full", "{full}");
    assert_eq!(full["backup"]["good"], true, "{full}");
    helped.shop.tick(11..21);
    let next = helped.drctl(&["backup", "shop"]).ended(0).json();
    assert_eq!(next["backup"]["kind"]["backup_type"], "incremental", "{next}");
    helped.shop.tick(21..31);
    helped.shop.archived();
    let said = helped.doctor();
    assert!(said.contains("good") && said.contains("run by the helper of postgres"), "{said}");
    let _ = helped.drctl(&["verify", "shop", "--data"]).ended(0);
    // Its records are read one by one, and each segment is compared.
    let view = helped.drctl(&["timeline", "shop"]).ended(0).json();
    assert!(view.to_string().contains("reach"), "{view}");
    // All that lies in the repository is the server's account's.
    let mut files = Vec::new();
    walk(&helped.shop.path("repo"), &mut files);
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    let theirs = owner(&data);
    assert!(files.len() > 10 && files.iter().all(|file| owner(file) == theirs));

    // A plan needs no more than to read; the restored cluster is to be the server's account's.
    let folder = open_folder("drctl-restored-");
    assert!(Command::new("chown").arg(AGENT).arg(folder.path()).status().unwrap().success());
    let to = folder.path().join("restored").display().to_string();
    let restore = ["restore", "shop", "--to-end", "--to-directory", &to];
    let plan = helped.drctl(&[&restore[..], &["--plan"]].concat()).ended(0).json();
    assert!(plan["checks"].to_string().contains("does not restore"), "{plan}");
    let said = helped.drctl(&[&restore[..], &["--promote"]].concat()).failed(7, "helper_refused");
    assert!(said.contains("run this as postgres"), "{said}");
    assert!(!Path::new(&to).exists(), "nothing was begun");
    assert_eq!(helped.end(Signal::TERM), Some(0), "{}", helped.log());

    // As that account, with a configuration of its own, it is.
    let own = format!("pgbackrest_config = \"{}\"", helped.shop.path("pgbackrest.conf").display());
    helped.shop.site.replace("run_as = \"postgres\"", &own);
    give_away(&helped.shop.site.path(""));
    let (ran, _folder, path) = helped.shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..31));
}

#[test]
fn what_root_did_not_allow_is_refused_and_doctor_says_what_to_write() {
    let mut helped = Helped::start("\"look\"");
    assert!(helped.doctor().contains("run by the helper of postgres"));
    let said = helped.drctl(&["backup", "shop"]).failed(7, "helper_refused");
    assert!(said.contains("as root add \"backup\" to `may` of [pgbackrest.shop]"), "{said}");
    let said = helped.drctl(&["stanza", "create", "shop"]).failed(7, "helper_refused");
    assert!(said.contains("does not allow pgbackrest stanza-create"), "{said}");
    helped.allow("other", ALL);
    let said = helped.doctor();
    assert!(said.contains("has no stanza `shop`") && said.contains("as root write"), "{said}");
    // One that anybody else can write is not believed, whatever it says.
    helped.allow(STANZA, ALL);
    give_away(&helped.allowed());
    let said = helped.doctor();
    assert!(said.contains("not believed") && said.contains("postgres"), "{said}");
    fs::remove_file(helped.allowed()).unwrap();
    assert!(helped.doctor().contains("is not there"));
    helped.allow(STANZA, ALL);
    assert!(helped.doctor().contains("good"));

    // Neither the mode of the socket nor the helper lets anybody else ask.
    let socket = helped.jobs().join("postgres.sock");
    let ask = || {
        let mut command = as_nobody(helped.shop.program());
        command.env("DRCTL_CONFIG", helped.shop.site.config());
        command.args(["--json", "stanza", "check", "shop"]).stdin(Stdio::null());
        Ran::of(&command.output().unwrap())
    };
    helped.own("65534");
    let said = ask().failed(7, "helper_missing");
    assert!(said.contains("only root and the account"), "{said}");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let said = ask().failed(7, "helper_refused");
    assert!(said.contains("nobody may not ask"), "{said}");
    helped.own(AGENT);

    // Without a helper, and without a socket.
    assert_eq!(helped.end(Signal::TERM), Some(0), "{}", helped.log());
    drop(helped.listener.take());
    let said = helped.doctor();
    assert!(said.contains("bad") && said.contains("drctl-job@postgres.socket"), "{said}");
    fs::remove_file(&socket).unwrap();
    let said = helped.drctl(&["backup", "shop"]).failed(7, "helper_missing");
    assert!(said.contains("/etc/drctl-job/postgres.toml"), "{said}");
}

#[test]
fn a_backup_ends_with_whoever_asked_for_it() {
    let mut helped = Helped::start(ALL);
    let mut agent = helped.begun();
    kill_process(Pid::from_child(&agent), Signal::KILL).unwrap();
    let _ = agent.wait().unwrap();
    until("pgBackRest to end", || helped.running("backup").is_empty());
    helped.shop.archive();
    // Its lock is free, and the next one is as good as ever.
    let made = helped.drctl(&["backup", "shop"]).ended(0).json();
    assert_eq!(made["backup"]["good"], true, "{made}");
    assert_eq!(helped.jobs_and_backups(), ("committed".to_owned(), 1));
    assert_eq!(helped.end(Signal::TERM), Some(0), "{}", helped.log());
}

#[test]
fn a_helper_that_dies_in_the_middle_never_makes_a_backup() {
    let mut helped = Helped::start(ALL);
    let agent = helped.begun();
    assert_eq!(helped.end(Signal::KILL), None);
    let said = Ran::of(&agent.wait_with_output().unwrap()).failed(10, "helper_failed");
    assert!(said.contains("is gone before it said how the job ended"), "{said}");
    // As systemd does, when the first process of a unit has ended.
    for pid in helped.running("backup") {
        kill_process(pid, Signal::KILL).unwrap();
    }
    until("pgBackRest to end", || helped.running("backup").is_empty());
    helped.help();
    assert_eq!(helped.jobs_and_backups(), ("failed".to_owned(), 0));
    helped.shop.archive();
    let made = helped.drctl(&["backup", "shop"]).ended(0).json();
    assert_eq!(made["backup"]["good"], true, "{made}");

    // One that is asked to end lets go of what runs, too.
    let agent = helped.begun();
    assert_eq!(helped.end(Signal::TERM), Some(0), "{}", helped.log());
    assert!(helped.running("backup").is_empty(), "{}", helped.log());
    let ran = Ran::of(&agent.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(10), "{}{}", ran.out, ran.err);
    helped.help();
    assert_eq!(helped.jobs_and_backups().1, 1);
}

#[test]
fn a_helper_is_started_by_systemd_and_never_as_root() {
    let shop = Shop::bare(&[]);
    let ran = shop.drctl(&["job-helper", "--allowed", "/etc/drctl-job/postgres.toml"]);
    assert!(ran.failed(2, "usage").contains("drctl-job@ACCOUNT.service"));
    let ran = shop.site.drctl(&["--json", "job-helper", "--allowed", "/x"]);
    assert!(ran.failed(2, "usage").contains("never as root"), "{}", ran.out);
}
