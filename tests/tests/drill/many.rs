//! Base backups that are taken under load, one after the other, each compared with what the one before it and its WAL
//! lead to: no alarm where nothing is wrong. `tests/equal` makes many of them.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use drctl_tests::cluster::{Cluster as _, give_away};
use serde_json::Value;

use crate::common::Shop;

/// What there is before.
const MADE: &str = "
    create sequence ids increment 7 cache 5; create sequence down increment -3;
    create unlogged table gone (n int);
    create table kept (client int, n int, at timestamptz default clock_timestamp());
";

/// A client's own table.
const LEDGER: &str = "create table ledger_N (id bigint generated always as identity primary key, n int, m int default 0, \
    note text, twice int generated always as (n * 2) stored); create index on ledger_N (n)";

/// What clients do most of the time: savepoints, some of them rolled back, a sequence, a large object, toasted values.
const WORK: &str = r"\set n random(1, 1000000)
begin;
insert into ledger_:client_id (n, note) values (:n, repeat(md5(:n::text), 1 + :n % 100));
savepoint a;
update ledger_:client_id set m = m + 1 where n % 10 = :n % 10;
rollback to a;
savepoint b;
delete from ledger_:client_id where id < (select max(id) - 300 from ledger_:client_id);
insert into gone values (:n);
insert into kept values (:client_id, nextval('ids') + nextval('down'));
select lo_from_bytea(0, decode(md5(:n::text), 'hex'));
release b;
end;
";

/// What they do at times: two-phase commit, DDL, large objects that go, a truncate.
const SELDOM: &str = r"\set n random(1, 1000000)
begin;
insert into ledger_:client_id (n) values (:n);
prepare transaction 'client :client_id';
create table passing_:client_id as select * from ledger_:client_id limit 50;
alter table passing_:client_id add column more text default 'x', drop column m;
select setval('down', -:n);
commit prepared 'client :client_id';
drop table passing_:client_id;
select count(lo_unlink(oid)) from (select oid from pg_largeobject_metadata where oid::int8 % 4 = :client_id limit 20) as few;
begin;
truncate gone;
rollback;
vacuum ledger_:client_id;
";

const CLIENTS: usize = 4;

/// Ends the load when it is dropped.
struct Load(Child);

impl Load {
    fn begin(shop: &Shop) -> Self {
        shop.sql(MADE);
        (0..CLIENTS).for_each(|n| drop(shop.sql(&LEDGER.replace('N', &n.to_string()))));
        let (work, seldom) = (shop.site.path("work.sql"), shop.site.path("seldom.sql"));
        fs::write(&work, WORK).and_then(|()| fs::write(&seldom, SELDOM)).unwrap();
        let mut command = Command::new(shop.server.bin_dir().join("pgbench"));
        let clients = CLIENTS.to_string();
        command.args(["-n", "-h", "127.0.0.1", "-p", &shop.server.port().to_string()]);
        command.args(["-U", "postgres", "-c", &clients, "-j", "1", "-T", "100000", "-R", "80"]);
        command.arg("-f").arg(format!("{}@15", work.display()));
        command.arg("-f").arg(format!("{}@1", seldom.display())).arg("postgres");
        let said = fs::File::create(shop.site.path("load.log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        Load(command.spawn().expect("pgbench is missing: install the package postgresql-contrib"))
    }

    /// It must not have ended by itself, nor a client of it.
    fn goes_on(&mut self, shop: &Shop) {
        let said = fs::read_to_string(shop.site.path("load.log")).unwrap();
        assert_eq!(self.0.try_wait().unwrap(), None, "{said}");
        assert!(!said.contains("aborted"), "{said}");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Removes what is not needed any more, so that no disk fills up.
fn pruned(shop: &Shop) {
    let plan = shop.drctl(&["prune", "shop"]).ended(0).json()["sources"][0].clone();
    let Some(digest) = plan["digest"].as_str() else { return };
    let all = plan["backups"].as_array().expect("a list").iter();
    let going = all.filter(|one| one["goes"] == true).count().to_string();
    let yes = format!("--yes={digest}");
    let _ = shop.drctl(&["prune", "shop", &yes, "--backups", &going]).ended(0);
}

#[test]
#[expect(clippy::print_stdout, reason = "figures for whoever asks")]
fn base_backups_under_load_are_equal_to_what_leads_to_them() {
    let drills: u64 = std::env::var("DRCTL_EQUAL_DRILLS").map_or(2, |many| many.parse().unwrap());
    let (began, shop) = (Instant::now(), Shop::cluster());
    shop.site.retention("last = 3");
    give_away(&shop.site.path("etc"));
    let mut load = Load::begin(&shop);
    let (mut rows, mut tables, mut odd) = (0, 0, 0);
    let _ = shop.back_up();
    for drill in 1..=drills {
        let _ = shop.back_up();
        shop.archived();
        let done = shop.drill(0, &["--point", "previous"]);
        let equal = &done["result"]["equal"];
        assert_eq!(done["verdict"], "pass", "drill {drill}: {done}");
        let compared = |name: &str| equal[name].as_u64().unwrap_or_else(|| panic!("{done}"));
        assert!(compared("rows") > 2000 && compared("tables") > 7, "drill {drill}: {done}");
        assert_eq!(equal["only_counted"], Value::Null, "drill {drill}: {done}");
        rows += compared("rows");
        tables += compared("tables");
        odd += compared("others");
        load.goes_on(&shop);
        if drill % 25 == 0 {
            println!("{drill} drills, {rows} rows, {} s", began.elapsed().as_secs());
            pruned(&shop);
        }
    }
    println!(
        "{drills} drills of base backups under load: all equal; {rows} rows of {tables} tables and {odd} other things \
         compared, in {} s",
        began.elapsed().as_secs()
    );
}
