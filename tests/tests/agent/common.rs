//! A shop that an agent looks after.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use drctl_tests::agent::Agent;
use drctl_tests::fake::Tools;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

/// A schedule that comes due on no day of a test.
pub(crate) const NEVER: &str = "0 0 29 2 *";

/// A server with a shop on it, and a host that backs it up.
pub(crate) struct Shop {
    pub(crate) site: Site,
    pub(crate) server: Postgres,
}

impl Shop {
    /// One whose backups are due by this schedule.
    pub(crate) fn open(schedule: &str) -> Self {
        let server = Postgres::builder().start();
        server.psql("postgres", "create table orders as select g from generate_series(1, 1000) g");
        let shop = Shop { site: Site::with(&server), server };
        let text = format!("schedule = \"{schedule}\"\n\n[retention]\nlast = 3\n");
        std::fs::write(shop.policy_file(), text).expect("a policy");
        shop
    }

    /// The same, and its tools misbehave on cue.
    pub(crate) fn with_tools(schedule: &str) -> (Self, Tools) {
        let shop = Shop::open(schedule);
        let tools = Tools::of(&shop.server);
        shop.site.source(&tools.line());
        (shop, tools)
    }

    /// An agent in the middle of a backup, which goes on when the tools do.
    #[track_caller]
    pub(crate) fn in_the_middle(&self, tools: &Tools) -> Agent<'_> {
        tools.pause("pg_dump", 10);
        let agent = Agent::start(&self.site);
        let _ = self.site.json(0, &["run", "shop"]);
        tools.await_pause();
        agent
    }

    /// Lets every account come to the agent's socket, and gives its path: what is tried is whether the agent
    /// itself refuses.
    pub(crate) fn socket_for_all(&self) -> PathBuf {
        let socket = self.site.path("run/agent.sock");
        set_permissions(&socket, Permissions::from_mode(0o666)).expect("open the socket");
        for folder in [self.site.path("."), self.site.path("run")] {
            set_permissions(folder, Permissions::from_mode(0o755)).expect("open its folder");
        }
        socket
    }

    /// The one policy's file.
    pub(crate) fn policy_file(&self) -> PathBuf {
        self.site.path("etc/policies.d/daily.toml")
    }

    /// Puts a line into the policy, in the place of the one that begins so, else at its top.
    pub(crate) fn policy(&self, begins: &str, line: &str) {
        let old = std::fs::read_to_string(self.policy_file()).expect("a policy");
        let others = old.lines().filter(|old| !old.starts_with(begins));
        let rest: Vec<&str> = others.collect();
        std::fs::write(self.policy_file(), format!("{line}\n{}\n", rest.join("\n")))
            .expect("written");
    }
}
