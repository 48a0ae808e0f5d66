//! Every block of commands is run, page by page, in order, against a real server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use drctl_tests::agent::Agent;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site, drctl};

use crate::markdown::{Block, blocks};
use crate::{debian, pages, read};

/// What the blocks of a page are run on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// drctl is installed, nothing else was done.
    Bare,
    /// A configured host with one backup.
    BackedUp,
    /// The same, with an agent that runs.
    Agent,
    /// A Debian as it comes, with a cluster made by its own tools, for root.
    Debian,
}

/// Every page with blocks that are run.
const RUN: &[(&str, Begin)] = &[
    ("README.md", Begin::Bare),
    ("docs/agent.md", Begin::Agent),
    ("docs/audit.md", Begin::BackedUp),
    ("docs/backup.md", Begin::BackedUp),
    ("docs/configure.md", Begin::BackedUp),
    ("docs/install.md", Begin::Debian),
    ("docs/keys.md", Begin::BackedUp),
    ("docs/notifications.md", Begin::BackedUp),
    ("docs/pgbackrest.md", Begin::Debian),
    ("docs/postgresql.md", Begin::BackedUp),
    ("docs/prune.md", Begin::BackedUp),
    ("docs/restore.md", Begin::BackedUp),
    ("docs/stores.md", Begin::BackedUp),
    ("runbooks/first-restore.md", Begin::BackedUp),
    ("runbooks/lost-catalog.md", Begin::BackedUp),
    ("runbooks/lost-key.md", Begin::BackedUp),
];

/// Every page with blocks (marked `text`) that are not run, how many, and why.
const NOT_RUN: &[(&str, usize, &str)] = &[
    ("ARCHITECTURE.md", 1, "a picture"),
    (
        "README.md",
        6,
        "install packages; build; run this very suite; show what is printed; a database",
    ),
    ("catalog/FORMAT.md", 0, "JSON only"),
    ("docs/agent.md", 2, "systemd: `tests/host` does it"),
    ("docs/backup.md", 1, "needs a suspect backup: the tests of those accept one"),
    ("docs/clones.md", 3, "not as root: the tests of clones run them"),
    ("docs/drills.md", 10, "not as root: the tests of drills run them; what is printed"),
    ("docs/notifications.md", 2, "need somebody to be told"),
    ("docs/watch.md", 1, "need beats of other hosts: the tests of beats watch for them"),
    (
        "docs/install.md",
        10,
        "a package and systemd, which `tests/host` has; a container: `tests/container`; a build; units",
    ),
    (
        "docs/postgresql.md",
        1,
        "a setting that servers before 17 do not know: the tests of base backups make it",
    ),
    (
        "docs/recovery.md",
        2,
        "a bar: the test of `cli/timeline.rs` draws this very one; a drill: the tests of drills",
    ),
    ("docs/service.md", 2, "systemd: `tests/host` runs them, from the examples themselves"),
    ("docs/restore.md", 1, "loads the files once more: the emergency test does it"),
];

/// The languages of blocks that are not commands, and are looked at elsewhere or by a reader.
const DATA: &[&str] = &["json", "toml", "yaml"];

#[test]
fn no_block_escapes() {
    for page in pages() {
        let found = blocks(&read(&page));
        let count = |wanted: &[&str]| {
            found.iter().filter(|block| wanted.contains(&block.language.as_str())).count()
        };
        let (run, text) = (count(&["console", "sql", "sh"]), count(&["text"]));
        assert_eq!(run + text + count(DATA), found.len(), "{page}: a block of another language");
        let listed = NOT_RUN.iter().find(|(name, ..)| *name == page).map_or(0, |found| found.1);
        assert_eq!(text, listed, "{page}: blocks that are not run are listed in NOT_RUN");
        assert_eq!(run > 0, RUN.iter().any(|(name, _)| *name == page), "{page}: see RUN");
    }
}

/// The variables that a text uses, and those that it sets.
fn variables(text: &str) -> (Vec<String>, Vec<String>) {
    let name = |rest: &str| {
        let is_part = |c: &char| c.is_ascii_uppercase() || *c == '_';
        rest.trim_start_matches('{').chars().take_while(is_part).collect::<String>()
    };
    let used = text.split('$').skip(1).map(name).filter(|name| name.len() > 1);
    let words = text.split_whitespace().filter_map(|word| word.split_once('='));
    let set = words.map(|(name, _)| name.to_owned());
    (used.collect(), set.collect())
}

#[test]
fn no_command_uses_a_variable_that_nobody_sets() {
    let commands = |page: &str| -> String {
        let run = |block: &Block| ["console", "sh"].contains(&block.language.as_str());
        blocks(&read(page)).into_iter().filter(run).map(|block| block.text).collect()
    };
    let (_, common) = variables(&commands("README.md"));
    for page in pages() {
        let (used, set) = variables(&commands(&page));
        let refers = page == "README.md" || read(&page).contains("README.md#quick-start");
        for name in used.iter().filter(|name| !["HOME", "PWD"].contains(&name.as_str())) {
            let known = set.contains(name) || (refers && common.contains(name));
            assert!(known, "{page}: ${name} is set nowhere");
        }
    }
}

/// A host, its server, and an empty one.
struct Stage {
    site: Site,
    server: Postgres,
    empty: Postgres,
    bare: bool,
}

impl Stage {
    fn new(begin: Begin) -> Stage {
        let server = Postgres::start();
        server.psql("postgres", "CREATE DATABASE shop");
        server.psql(
            "shop",
            "CREATE TABLE orders AS SELECT g AS id, md5(g::text) AS text \
             FROM generate_series(1, 5000) g",
        );
        let bare = begin == Begin::Bare;
        let site = if bare { Site::empty() } else { Site::with(&server) };
        for folder in ["fresh", "etc"] {
            fs::create_dir_all(site.path(folder)).expect("make a folder");
        }
        if !bare {
            let _ = site.backup();
            fs::copy(site.identity(), site.path("carried.txt")).expect("carry the identity");
        }
        Stage { site, server, empty: Postgres::start(), bare }
    }

    /// What a reader has in the variables.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.site.path(name).display().to_string();
        let identity = if self.bare { "etc/keys/identity.txt" } else { "carried.txt" };
        let newest = self.site.drctl(&["--json", "list"]);
        let backup = match newest.code {
            Some(0) => newest.json()["backups"][0]["backup"].as_str().map(str::to_owned),
            _ => None,
        };
        vec![
            ("BACKUP", backup.unwrap_or_default()),
            ("DRCTL_CONFIG", self.site.config().display().to_string()),
            ("FILES", path("files")),
            ("FRESH", path("fresh")),
            ("IDENTITY", path(identity)),
            ("KIT", path("kit.txt")),
            ("NEW_HOST", self.empty.socket_dir().display().to_string()),
            ("NEW_PORT", self.empty.port().to_string()),
            ("PGHOST", self.server.socket_dir().display().to_string()),
            ("PGPORT", self.server.port().to_string()),
            ("PGUSER", "postgres".to_owned()),
            ("REPOSITORY", path("repository")),
            ("RUNTIME", path("run")),
            ("STATE", path("state")),
        ]
    }

    /// Runs a block as a shell of its own, which knows the variables that earlier ones have set.
    fn run(&self, block: &Block) -> Ran {
        if block.language == "sql" {
            self.server.psql("postgres", &block.text);
            return Ran { code: Some(0), out: String::new(), err: String::new() };
        }
        let saved = self.site.path("variables");
        let folder = drctl().parent().expect("a folder").display().to_string();
        let path = format!(
            "{folder}:{}:{}",
            self.server.bin_dir().display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let script = format!(
            "set -euo pipefail\nset -a\n[ ! -f {0} ] || . {0}\n{1}\ntrap 'export -p > {0}' EXIT\n{2}",
            saved.display(),
            self.variables()
                .iter()
                .map(|(name, value)| format!("{name}='{value}'\n"))
                .collect::<String>(),
            block.text
        );
        let mut bash = Command::new("bash");
        bash.env_clear().env("PATH", path).env("HOME", self.site.path("")).env("LC_ALL", "C.UTF-8");
        bash.current_dir(self.site.path("")).stdin(Stdio::null()).arg("-c").arg(script);
        Ran::of(&bash.output().expect("start bash"))
    }
}

/// The exit code that a block announces: `console exit=3`.
pub(crate) fn announced(block: &Block) -> i32 {
    let code = block.rest.strip_prefix("exit=").map(|code| code.parse().expect("a number"));
    assert_eq!(code.is_none(), block.rest.is_empty(), "line {}: {}", block.line, block.rest);
    code.unwrap_or(0)
}

/// The blocks of a page that are run.
pub(crate) fn runnable(page: &str) -> Vec<Block> {
    let wanted = |block: &Block| ["console", "sh", "sql"].contains(&block.language.as_str());
    blocks(&read(page)).into_iter().filter(wanted).collect()
}

fn run(page: &str) {
    let (_, begin) = RUN.iter().find(|(name, _)| *name == page).expect("it is listed");
    if *begin == Begin::Debian {
        return debian::run(page);
    }
    let stage = Stage::new(*begin);
    let _agent = (*begin == Begin::Agent).then(|| Agent::start(&stage.site));
    for block in runnable(page) {
        let Ran { code, out, err } = stage.run(&block);
        assert_eq!(
            code,
            Some(announced(&block)),
            "{page}:{}\n{}\nstdout: {out}\nstderr: {err}",
            block.line,
            block.text
        );
    }
    let run = fs::metadata(stage.site.path("run")).map(|found| found.permissions().mode() & 0o777);
    assert!(run.is_ok_and(|mode| mode == 0o700), "{page}: no block ran drctl on a server");
}

macro_rules! each_page {
    ($($name:ident: $page:literal;)*) => {
        $(#[test] fn $name() { run($page); })*

        #[test]
        fn every_page_is_run() {
            let here = [$($page),*];
            let listed: Vec<&str> = RUN.iter().map(|(page, _)| *page).collect();
            assert_eq!(here.as_slice(), listed);
        }
    };
}

each_page! {
    the_readme_runs: "README.md";
    agent_runs: "docs/agent.md";
    audit_runs: "docs/audit.md";
    backup_runs: "docs/backup.md";
    configure_runs: "docs/configure.md";
    install_runs: "docs/install.md";
    keys_runs: "docs/keys.md";
    notifications_runs: "docs/notifications.md";
    pgbackrest_runs: "docs/pgbackrest.md";
    postgresql_runs: "docs/postgresql.md";
    prune_runs: "docs/prune.md";
    restore_runs: "docs/restore.md";
    stores_runs: "docs/stores.md";
    first_restore_runs: "runbooks/first-restore.md";
    lost_catalog_runs: "runbooks/lost-catalog.md";
    lost_key_runs: "runbooks/lost-key.md";
}
