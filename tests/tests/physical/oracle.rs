//! A cluster under load, restored to random points: what comes back is what had been committed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use drctl_tests::servers::postgres::Postgres;

use crate::log::Archiving;

/// How many random points are tried, unless `DRCTL_PITR_ROUNDS` says otherwise.
const ROUNDS: usize = 6;

/// Two commits may overtake each other by microseconds: a target lies in a wider gap than this.
const CLEAR: &str = "interval '1 millisecond'";

/// Numbers that are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What one client does: plain commits, savepoints kept and given up, two-phase commits, aborts.
fn work(client: u32, random: &mut Random) -> String {
    let mut sql = String::new();
    for n in 0..50 {
        let row = |what: &str| format!("insert into events values ({client}, {n}, '{what}');");
        let text = match random.below(6) {
            0 | 1 => row("plain"),
            2 => format!("begin; savepoint a; {} release a; commit;", row("kept")),
            3 => format!(
                "begin; {} savepoint a; {} rollback to a; commit;",
                row("outer"),
                row("given up")
            ),
            4 => format!(
                "begin; {} prepare transaction 'p{client}_{n}'; select pg_sleep(0.003); \
                 commit prepared 'p{client}_{n}';",
                row("two phases")
            ),
            _ => format!("begin; {} rollback;", row("aborted")),
        };
        let _ = writeln!(sql, "{} select pg_sleep(0.00{});", text, random.below(9));
    }
    sql
}

/// Runs three clients at once to their end.
fn load(server: &Postgres, first: u32, random: &mut Random) {
    let clients: Vec<_> = (first..first + 3)
        .map(|client| {
            let mut psql = server.client("psql");
            psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "postgres"]);
            let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            let script = work(client, random);
            let mut input = child.stdin.take().unwrap();
            std::thread::spawn(move || input.write_all(script.as_bytes()).unwrap());
            child
        })
        .collect();
    for mut client in clients {
        assert!(client.wait().unwrap().success());
    }
}

/// Number and digest of the events that were committed by a time, or of all there are.
fn events(server: &Postgres, until: Option<&str>) -> String {
    let by =
        until.map_or(String::new(), |at| format!("where pg_xact_commit_timestamp(xmin) <= '{at}'"));
    server.psql(
        "postgres",
        &format!(
            "select count(*), coalesce(md5(string_agg(e::text, ';' order by client, n, what)), '-') \
             from events e {by}"
        ),
    )
}

#[test]
fn a_random_point_under_load_restores_exactly_what_was_committed() {
    let rounds = std::env::var("DRCTL_PITR_ROUNDS").ok().and_then(|n| n.parse().ok());
    let seed = std::env::var("DRCTL_PITR_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(7);
    let (mut random, shop) = (Random(seed), Archiving::start(true));
    shop.sql("create table events (client int, n int, what text)");
    load(&shop.server, 0, &mut random);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    let began = shop.sql("select clock_timestamp()");
    for batch in 1..4 {
        load(&shop.server, batch * 10, &mut random);
        shop.archived();
    }
    // Points in gaps between commits that are wide enough to be sure of their order.
    let gaps = shop.sql(&format!(
        "with commits as (select distinct pg_xact_commit_timestamp(xmin) at, case when what = 'kept' then '-' else xmin::text end xid \
         from events), \
         gaps as (select at, xid, lead(at) over (order by at) next from commits where at > '{began}') \
         select to_char((at + (next - at) / 2) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
         || ' ' || xid from gaps where next - at > {CLEAR} order by at"
    ));
    let gaps: Vec<&str> = gaps.lines().filter(|line| !line.is_empty()).collect();
    assert!(gaps.len() > 40, "{} gaps", gaps.len());
    for round in 0..rounds.unwrap_or(ROUNDS) {
        let at = usize::try_from(random.below(gaps.len() as u64)).unwrap();
        let (time, xid) = gaps[at].split_once(' ').unwrap();
        let expected = events(&shop.server, Some(time));
        // What lies behind a savepoint has a number of its own, at which no server stops.
        let target =
            if round % 3 == 2 && xid != "-" { ["--to-xid", xid] } else { ["--to-time", time] };
        let (ran, _folder, path) = shop.recover(&[&target[..], &["--promote"]].concat());
        let said = ran.out.clone();
        let _ = ran.ended(0);
        let restored = Postgres::builder().data(&path.join("data")).start();
        let prepared = restored.psql("postgres", "select count(*) from pg_prepared_xacts");
        assert_eq!(
            events(&restored, None),
            expected,
            "seed {seed}, {target:?}, {prepared}: {said}"
        );
    }
}
