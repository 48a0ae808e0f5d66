//! A host of its own with drctl on it: configuration, keys, repository, in a temporary directory.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use drctl_catalog::Catalog;
use drctl_store::SigningKey;
use serde_json::Value;

use crate::servers::minio::Minio;
use crate::servers::postgres::Postgres;

/// How long anything that was set in motion may take: much, for a machine that is busy with more.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something that was set in motion has come about.
///
/// # Panics
/// If it does not, with `what` was waited for.
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where Debian's package faketime has its library.
///
/// # Panics
/// If it is not installed.
#[must_use]
pub fn faketime() -> &'static str {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    assert!(Path::new(LIBRARY).exists(), "faketime is missing: run tests/components/install");
    LIBRARY
}

/// A host of its own: everything that drctl reads and writes lies below one directory.
pub struct Site {
    directory: tempfile::TempDir,
    /// Another program than the one under test.
    program: Option<PathBuf>,
}

/// How a command ended, and what it said.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit code; nothing when a signal killed it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// What a finished process left.
    #[must_use]
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The same, if it ended with `code`.
    ///
    /// # Panics
    /// With all that was said, if it ended otherwise.
    #[must_use]
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// Whether it ended well.
    ///
    /// # Panics
    /// With all that was said, if it ended neither so nor with one of these codes.
    #[must_use]
    #[track_caller]
    pub fn ended_well_or(&self, codes: &[i32]) -> bool {
        let known = self.code.is_some_and(|code| code == 0 || codes.contains(&code));
        assert!(known, "{:?}, stdout: {}\nstderr: {}", self.code, self.out, self.err);
        self.code == Some(0)
    }

    /// The words of an error object that has this exit code and error code, and a hint.
    ///
    /// # Panics
    /// If it is another one.
    #[track_caller]
    pub fn failed(&self, exit: i32, code: &str) -> String {
        let object = self.clone().ended(exit).json();
        assert_eq!(object["schema"], "drctl.error/1", "{object}");
        assert_eq!((&object["code"], &object["exit"]), (&code.into(), &exit.into()), "{object}");
        let messages = object["messages"].as_array().expect("messages");
        let mut words: Vec<&str> = messages.iter().filter_map(Value::as_str).collect();
        assert!(!words.is_empty() && words.iter().all(|word| !word.is_empty()), "{object}");
        // Where a target or a command line is wrong, the message itself says what to do.
        let told = ["target_unfit", "usage"].contains(&code);
        assert!(told || object["hint"].is_string(), "there is no hint: {object}");
        words.extend(object["hint"].as_str());
        words.join("\n")
    }

    /// Standard output as one JSON object.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {}\nstderr: {}", self.out, self.err))
    }
}

/// The program under test, built with crash points.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn drctl() -> PathBuf {
    let here = std::env::current_exe().expect("a test knows its own file");
    let path = here.ancestors().nth(2).expect("target/debug/deps/test").join("drctl");
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --workspace --bins --features drctl/crash-points`, or \
         the whole suite with tests/run",
        path.display()
    );
    path
}

impl Site {
    /// A directory with nothing in it yet.
    ///
    /// # Panics
    /// If there is no temporary directory.
    #[must_use]
    pub fn empty() -> Self {
        let directory = tempfile::Builder::new().prefix("drctl-site-").tempdir();
        Site { directory: directory.expect("a temporary directory"), program: None }
    }

    /// A directory with nothing in it yet, for another program than the one under test.
    ///
    /// # Panics
    /// If there is no temporary directory.
    #[must_use]
    pub fn of(program: PathBuf) -> Self {
        Site { program: Some(program), ..Site::empty() }
    }

    /// A site whose source `shop` is all of `server`, with a directory as its repository and
    /// segments of 64 KiB, so that a small database has many.
    ///
    /// # Panics
    /// If `drctl init` fails.
    #[must_use]
    pub fn with(server: &Postgres) -> Self {
        let site = Site::empty();
        site.init(server, &format!("file://{}", site.path("repository").display()), &[]);
        site.append("\n[limits]\nsegment_bytes = \"64KiB\"\npage_segments = 8\n");
        site
    }

    /// Runs `drctl init` for all of `server` and a repository at `url`.
    ///
    /// # Panics
    /// If it fails.
    pub fn init(&self, server: &Postgres, url: &str, more: &[&str]) {
        let words = self.init_words(server, url);
        let words: Vec<&str> =
            words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let _ = self.drctl(&words).ended(0);
        self.programs_of(server);
    }

    /// The same with a repository in MinIO, which is reached at `endpoint`: `s3://BUCKET/PREFIX`.
    ///
    /// # Panics
    /// If it fails.
    pub fn init_s3(
        &self,
        server: &Postgres,
        (minio, endpoint): (&Minio, &str),
        url: &str,
        more: &[&str],
    ) {
        let keys = [("s3.id", minio.access_key()), ("s3.secret", minio.secret_key())];
        let [id, secret] = keys.map(|(name, key)| {
            let file = self.path(name);
            fs::write(&file, key).expect("write a key");
            file.display().to_string()
        });
        let keys = ["--access-key-id-file", &id, "--secret-access-key-file", &secret];
        let place = ["--endpoint", endpoint, "--allow-http"];
        self.init(server, url, &[more, &place, &keys].concat());
    }

    /// The words of that command.
    #[must_use]
    pub fn init_words(&self, server: &Postgres, url: &str) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        let options = [
            ("--url", url.to_owned()),
            ("--source", "shop".to_owned()),
            ("--host", server.socket_dir().display().to_string()),
            ("--port", server.port().to_string()),
            ("--user", "postgres".to_owned()),
            ("--state-dir", path("state")),
            ("--runtime-dir", path("run")),
            ("--kit", path("kit.txt")),
        ];
        let options = options.into_iter().flat_map(|(option, value)| [option.to_owned(), value]);
        std::iter::once("init".to_owned()).chain(options).collect()
    }

    /// Has the source `shop` use the programs of a server, where drctl does not find them by itself.
    ///
    /// # Panics
    /// If the configuration cannot be written.
    pub fn programs_of(&self, server: &Postgres) {
        if !server.is_debians() {
            self.bin_dir(server.bin_dir());
        }
    }

    /// Has the source `shop` use the programs in one directory alone.
    ///
    /// # Panics
    /// If the configuration cannot be written.
    pub fn bin_dir(&self, bin: &Path) {
        let old = std::fs::read_to_string(self.config()).expect("a configuration");
        let others = old.split_inclusive('\n').filter(|line| !line.starts_with("bin_dir = "));
        std::fs::write(self.config(), others.collect::<String>()).expect("write the configuration");
        self.source(&format!("bin_dir = \"{}\"", bin.display()));
    }

    /// A path below the site.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path("etc/drctl.toml")
    }

    /// The main identity.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.path("etc/keys/identity.txt")
    }

    /// Adds to the configuration.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn append(&self, text: &str) {
        let old = std::fs::read_to_string(self.config()).expect("a configuration");
        std::fs::write(self.config(), old + text).expect("write the configuration");
    }

    /// Replaces one text of the configuration by another.
    ///
    /// # Panics
    /// If it is not in there.
    pub fn replace(&self, from: &str, to: &str) {
        let old = std::fs::read_to_string(self.config()).expect("a configuration");
        assert!(old.contains(from), "{from} is not in {old}");
        std::fs::write(self.config(), old.replace(from, to)).expect("write the configuration");
    }

    /// The key with which this host signs.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn signing_key(&self) -> SigningKey {
        let text = std::fs::read_to_string(self.path("etc/keys/signing.key")).expect("a key");
        text.trim().parse().expect("a signing key")
    }

    /// The command `drctl` with these arguments, ready to run.
    #[must_use]
    pub fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(self.program.clone().unwrap_or_else(drctl));
        command
            .env_remove("DRCTL_LOG")
            .env("DRCTL_CONFIG", self.config())
            .current_dir(self.directory.path())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs `drctl` to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn drctl<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Ran {
        Ran::of(&self.command(arguments).output().expect("start drctl"))
    }

    /// Runs `drctl` to its end in JSON mode and gives its object.
    ///
    /// # Panics
    /// If it ends otherwise than with `code`, or prints something else.
    #[must_use]
    #[track_caller]
    pub fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let arguments = [&["--json"], arguments].concat();
        self.drctl(&arguments).ended(code).json()
    }

    /// Adds a line to the source `shop` of the configuration.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn source(&self, line: &str) {
        self.replace("\nengine = ", &format!("\n{line}\nengine = "));
    }

    /// Runs `drctl` in JSON mode, which must fail with this exit code and error code, and tell
    /// what to do. Gives all its words.
    ///
    /// # Panics
    /// If it ends otherwise.
    #[track_caller]
    pub fn fails(&self, exit: i32, code: &str, arguments: &[&str]) -> String {
        let ran = self.drctl(&[&["--json"], arguments].concat());
        ran.failed(exit, code)
    }

    /// What `drctl status` says of `shop`.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> Value {
        self.json(0, &["status"])["sources"][0].clone()
    }

    /// What `drctl status` tells of the first source by this code: nothing where all is well.
    ///
    /// # Panics
    /// If `drctl status` fails.
    #[must_use]
    #[track_caller]
    pub fn told(&self, code: &str) -> Vec<Value> {
        let all = self.status()["findings"].as_array().expect("a list").clone();
        all.into_iter().filter(|one| one["code"] == code).collect()
    }

    /// Whether the catalog holds a finding by this code about this subject, whoever looks.
    ///
    /// # Panics
    /// If the catalog cannot be read.
    #[must_use]
    #[track_caller]
    pub fn finds(&self, code: &str, subject: &str) -> bool {
        let path = self.path("state/catalog.db");
        let look = async { Catalog::open_read_only(&path).await?.findings(None).await };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let all = runtime.block_on(look).expect("a catalog");
        all.iter().any(|one| one.finding.code.as_str() == code && one.finding.subject == subject)
    }

    /// The rows of the catalog, newest first.
    ///
    /// # Panics
    /// If `drctl list` fails.
    #[must_use]
    #[track_caller]
    pub fn rows(&self) -> Vec<Value> {
        self.json(0, &["list"])["backups"].as_array().expect("a list").clone()
    }

    /// The manifests of a repository that is a directory, relative to it, in order.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn manifests(&self) -> Vec<PathBuf> {
        let mut files = self.files("repository");
        files.retain(|path| path.ends_with("manifest.json"));
        files
    }

    /// Backs up `shop` and gives the backup's identifier.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    #[track_caller]
    pub fn backup(&self) -> String {
        let answer = self.json(0, &["backup", "shop"]);
        answer["backup"]["backup"].as_str().expect("an identifier").to_owned()
    }

    /// Puts these rules in the place of those by which the site's policy keeps backups.
    ///
    /// # Panics
    /// If there is not one policy.
    pub fn retention(&self, rules: &str) {
        let folder = self.path("etc/policies.d");
        let policies = std::fs::read_dir(folder).expect("a directory of policies");
        let policy = policies.map(|entry| entry.expect("an entry").path()).next();
        let policy = policy.expect("a policy");
        let text = std::fs::read_to_string(&policy).expect("a policy");
        let (before, behind) = text.split_once("[retention]\n").expect("rules");
        let rest = behind.split_once("\n[").map(|(_, rest)| format!("\n[{rest}"));
        let rest = rest.unwrap_or_default();
        std::fs::write(policy, format!("{before}[retention]\n{rules}\n{rest}")).expect("written");
    }

    /// Every file below a directory of the site, relative to it, in order.
    ///
    /// # Panics
    /// If the directory cannot be read.
    #[must_use]
    pub fn files(&self, below: &str) -> Vec<PathBuf> {
        fn walk(at: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(at).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let (root, mut found) = (self.path(below), Vec::new());
        walk(&root, &mut found);
        let relative = |path: PathBuf| path.strip_prefix(&root).expect("below it").to_owned();
        let mut found: Vec<PathBuf> = found.into_iter().map(relative).collect();
        found.sort();
        found
    }
}
