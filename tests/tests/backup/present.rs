//! Roles that are on the target's server already.

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

use crate::common::globals;

const BACKED_UP: [&str; 7] = [
    "create role app login password 'old' createdb",
    "create role boss",
    "grant boss to app",
    "alter role app set work_mem = '1MB'",
    "comment on role app is 'old'",
    "create database a",
    "create database b",
];

/// What was done since, with good reason.
const SINCE: [&str; 7] = [
    "alter role app password 'new' nologin nocreatedb connection limit 3",
    "revoke boss from app",
    "alter role app set work_mem = '9MB'",
    "comment on role app is 'locked: stolen'",
    "create role newer",
    "drop role boss",
    "drop database b",
];

#[test]
fn a_restore_of_what_is_missing_leaves_roles_that_exist_as_they_are() {
    let server = Postgres::start();
    let sql = |statements: &[&str]| {
        statements.iter().for_each(|one| drop(server.psql("postgres", one)));
    };
    sql(&BACKED_UP);
    for db in ["a", "b"] {
        server.psql(db, "create table t as select generate_series(1, 100) as x");
    }
    let site = Site::with(&server);
    let id = site.backup();
    sql(&SINCE);
    let before = globals(&server);
    let (host, port) = (server.socket_dir().display().to_string(), server.port().to_string());
    let into = ["restore", "shop", "--backup", &id, "--to-host", &host, "--to-port", &port];
    let missing = [&into[..], &["--missing"]].concat();

    let plan = site.json(0, &[&missing[..], &["--plan"]].concat()).to_string();
    assert!(plan.contains("roles that are on the server already are left as they are: app, newer"));
    let done = site.json(0, &missing).to_string();
    assert!(done.contains("role app: there already, left as it is"), "{done}");
    assert!(done.contains("role app: left as it is, so this was not done: GRANT boss TO app"));
    assert_eq!(server.psql("b", "select count(*) from t"), "100");
    // What was missing is there, and the rest is as it was.
    assert_eq!(
        server.psql("postgres", "select count(*) from pg_roles where rolname = 'boss'"),
        "1"
    );
    sql(&["drop role boss"]);
    assert_eq!(globals(&server), before);

    // Without it they get what the backup has, which the plan tells.
    sql(&["drop database a", "drop database b"]);
    let plan = site.json(0, &[&into[..], &["--plan"]].concat()).to_string();
    assert!(plan.contains("get the attributes, passwords, settings"), "{plan}");
    assert_eq!(globals(&server), before, "a plan changed something");
    let done = site.json(0, &into).to_string();
    assert!(done.contains("role app: was there already, and now has the attributes"), "{done}");
    let app = "select rolcanlogin and rolcreatedb from pg_roles where rolname = 'app'";
    assert_eq!(server.psql("postgres", app), "t");
}
