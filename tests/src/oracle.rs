//! A cluster under load, restored to random points: what comes back is what had been committed,
//! as `pg_waldump` tells it, wherever the cluster's base backups and its log lie.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use drctl_model::Lsn;

use tempfile::TempDir;

use crate::cluster::{Cluster, caught_up, give_away, open_folder, standby};
use crate::servers::postgres::Postgres;

/// How many random points a test tries, unless `DRCTL_PITR_ROUNDS` says otherwise.
const ROUNDS: usize = 6;

/// The same of a test that is one of several alike.
const FEW_ROUNDS: usize = 3;

/// How many kinds of transactions there are that only write rows.
const ROWS: u64 = 6;

/// How many there are in all.
const ALL: u64 = 9;

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

/// What one client does: plain commits, savepoints kept and given up, two-phase commits, aborts; and
/// where it does all: tables, some of them elsewhere, and large objects, made and given up.
fn work(client: u32, kinds: u64, random: &mut Random) -> String {
    let mut sql = String::new();
    for n in 0..50 {
        let row = |what: &str| format!("insert into events values ({client}, {n}, '{what}');");
        let made = |more: &str| {
            let name = format!("made_{client}_{n}");
            format!("create table {name} (x int) {more}; insert into {name} values ({n});")
        };
        let large = format!("select lo_from_bytea(0, 'of {client}, {n}');");
        let text = match random.below(kinds) {
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
            5 => format!("begin; {} rollback;", row("aborted")),
            6 => format!("begin; {} {} commit;", made("tablespace aside"), row("made aside")),
            7 => format!("begin; {large} {} commit;", row("large")),
            _ => format!(
                "begin; savepoint a; {} {large} rollback to a; savepoint b; {} release b; {} commit;",
                made("tablespace aside"),
                made(""),
                row("made after all")
            ),
        };
        let _ = writeln!(sql, "{} select pg_sleep(0.00{});", text, random.below(9));
    }
    sql
}

/// Runs three clients at once to their end.
fn load(server: &Postgres, first: u32, kinds: u64, random: &mut Random) {
    let clients: Vec<_> = (first..first + 3)
        .map(|client| {
            let mut psql = server.client("psql");
            psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "postgres"]);
            let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            let script = work(client, kinds, random);
            let mut input = child.stdin.take().unwrap();
            std::thread::spawn(move || input.write_all(script.as_bytes()).unwrap());
            child
        })
        .collect();
    for mut client in clients {
        assert!(client.wait().unwrap().success());
    }
}

/// Number and digest of the events of which this holds; and of large objects, and which tables.
fn events(server: &Postgres, which: &str) -> String {
    let events = format!(
        "select count(*), coalesce(md5(string_agg(e::text, ';' order by client, n, what)), '-') \
         from events e where {which}"
    );
    let large = format!(
        "select count(*), coalesce(md5(string_agg(data, ''::bytea order by data)), '-') \
         from pg_largeobject where {which}"
    );
    let made = format!(
        "select coalesce(string_agg(relname, ' ' order by relname), '-') from pg_class \
         where relname like 'made%' and {which}"
    );
    server.psql("postgres", &format!("{events}; {large}; {made}"))
}

/// Whether each table that a transaction has made holds the row that it wrote.
fn made_are_whole(server: &Postgres) -> bool {
    let rows = "query_to_xml(format('select count(*) c from %I', relname), true, true, '')";
    let whole = format!(
        "select coalesce(bool_and({rows}::text like '%<c>1</c>%'), true) from pg_class \
         where relname like 'made%' and relkind = 'r'"
    );
    server.psql("postgres", &whole) == "t"
}

/// A record of the log, and the transactions that it commits.
struct Record {
    lsn: Lsn,
    commits: Vec<u32>,
}

/// The log from a position on, as `pg_waldump` reads it.
fn records(server: &Postgres, timeline: u32, from: &str) -> Vec<Record> {
    let end = server.psql("postgres", "select pg_current_wal_flush_lsn()");
    let mut dump = Command::new(server.bin_dir().join("pg_waldump"));
    dump.arg("-p").arg(server.data_dir().join("pg_wal")).args(["-s", from, "-e", &end]);
    dump.args(["-t", &timeline.to_string()]);
    let output = dump.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(record).collect()
}

/// `… tx: 745, lsn: 0/195D2A0, prev …, desc: COMMIT 2026-…; subxacts: 746 747`, or
/// `… desc: COMMIT_PREPARED 749: 2026-…`, which has a transaction of its own.
fn record(line: &str) -> Record {
    let after = |word: &str| line.split(word).nth(1).map(str::trim_start);
    let number = |text: &str| -> Option<u32> {
        text.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok())
    };
    let lsn = after("lsn: ").and_then(|text| text.split(',').next()).expect("a position");
    let mut commits = Vec::new();
    if let Some(prepared) = after("desc: COMMIT_PREPARED ") {
        commits.extend(number(prepared));
    } else if line.contains("desc: COMMIT ") {
        commits.extend(after("tx:").and_then(number));
    }
    if !commits.is_empty()
        && let Some(more) = after("subxacts:")
    {
        let more = more.split(';').next().unwrap_or_default();
        commits.extend(more.split_whitespace().filter_map(number));
    }
    Record { lsn: lsn.parse().expect("a position"), commits }
}

/// What is committed where a server stops that replays up to `target`: before the first record that
/// begins there or later, or, with what is at the target, behind it (`recoveryStopsBefore` and
/// `recoveryStopsAfter` in `xlogrecovery.c`).
fn committed_by(records: &[Record], target: Lsn, inclusive: bool) -> String {
    let stop = records.iter().map(|record| record.lsn).find(|lsn| *lsn >= target).unwrap();
    let by = records.iter().filter(|r| r.lsn < stop || (inclusive && r.lsn == stop));
    let xids: Vec<String> = by.flat_map(|r| &r.commits).map(u32::to_string).collect();
    format!("xmin::text = any('{{{}}}')", xids.join(","))
}

/// A target of `restore`, and what its result must hold.
type Point = ([String; 2], String);

/// A random record behind the base backup: its start, a byte later, or that of a commit.
fn random_position(records: &[Record], from: Lsn, random: &mut Random) -> Point {
    let wants_commit = random.below(2) == 0;
    let later: Vec<&Record> = records
        .iter()
        .filter(|r| r.lsn > from && (!wants_commit || !r.commits.is_empty()))
        .collect();
    // Behind the last ones there is nothing at which a server would stop.
    let at = random.below(later.len() as u64 - 5);
    let target = Lsn(later[usize::try_from(at).unwrap()].lsn.0 + random.below(2));
    let inclusive = random.below(2) == 0;
    let which = if inclusive { "--inclusive" } else { "--exclusive" };
    let held = committed_by(records, target, inclusive);
    ([which.to_owned(), format!("--to-lsn={target}")], held)
}

/// A random moment, or transaction, in a gap between commits.
fn random_moment(gaps: &[String], round: usize, random: &mut Random) -> Point {
    let at = usize::try_from(random.below(gaps.len() as u64)).unwrap();
    let (time, xid) = gaps[at].split_once(' ').unwrap();
    // What lies behind a savepoint has a number of its own, at which no server stops.
    let target = if round % 3 == 2 && xid != "-" { ["--to-xid", xid] } else { ["--to-time", time] };
    let which = format!("pg_xact_commit_timestamp(xmin) <= '{time}'");
    (target.map(str::to_owned), which)
}

/// Moments in gaps between commits that are wide enough to be sure of their order, each with the
/// transaction before it.
fn gaps(server: &Postgres, began: &str) -> Vec<String> {
    let found = server.psql("postgres", &format!(
        "with commits as (select distinct pg_xact_commit_timestamp(xmin) at, case when what in ('kept', 'made after all') then '-' else xmin::text end xid \
         from events), \
         gaps as (select at, xid, lead(at) over (order by at) next from commits where at > '{began}') \
         select to_char((at + (next - at) / 2) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
         || ' ' || xid from gaps where next - at > {CLEAR} order by at"
    ));
    let gaps: Vec<String> = found.lines().map(str::to_owned).collect();
    assert!(gaps.len() > 40, "{} gaps", gaps.len());
    gaps
}

/// A cluster with a base backup, whose log the oracle can read to its end.
struct Trial<C> {
    shop: C,
    random: Random,
    seed: u64,
    first: String,
    began: String,
    stop: Lsn,
    kinds: u64,
    /// Where the tablespace is.
    _aside: TempDir,
}

impl<C: Cluster> Trial<C> {
    fn begin(shop: C, kinds: u64) -> Self {
        let seed = std::env::var("DRCTL_PITR_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(7);
        let mut random = Random(seed);
        shop.sql("alter system set wal_keep_size = '4GB'");
        shop.sql("select pg_reload_conf()");
        let first = shop.sql("checkpoint; select pg_current_wal_flush_lsn()");
        shop.sql("create table events (client int, n int, what text)");
        let aside = open_folder("drctl-aside-");
        if kinds == ALL {
            give_away(aside.path());
            shop.sql(&format!("create tablespace aside location '{}'", aside.path().display()));
        }
        load(shop.server(), 0, kinds, &mut random);
        shop.back_up();
        let began = shop.sql("select clock_timestamp()");
        let stop: Lsn = shop.sql("select pg_current_wal_flush_lsn()").parse().unwrap();
        Trial { shop, random, seed, first, began, stop, kinds, _aside: aside }
    }

    fn load(&mut self, batch: u32) {
        load(self.shop.server(), batch * 10, self.kinds, &mut self.random);
        self.shop.archived();
    }

    /// Restores to random points: what comes back is what the oracle says.
    fn prove(&mut self, records: &[Record], usual: usize) {
        let rounds = std::env::var("DRCTL_PITR_ROUNDS").ok().and_then(|n| n.parse().ok());
        let (shop, random) = (&self.shop, &mut self.random);
        let gaps = gaps(shop.server(), &self.began);
        for round in 0..rounds.unwrap_or(usual) {
            let (target, which) = match round % 3 {
                1 => random_position(records, self.stop, random),
                _ => random_moment(&gaps, round, random),
            };
            let expected = events(shop.server(), &which);
            let target = target.each_ref().map(String::as_str);
            let (ran, _folder, path) = shop.recover(&[&target[..], &["--promote"]].concat());
            let said = ran.out.clone();
            let _ = ran.ended(0);
            let restored = Postgres::builder().data(&path.join("data")).start();
            let prepared = restored.psql("postgres", "select count(*) from pg_prepared_xacts");
            let found = events(&restored, "true");
            assert_eq!(found, expected, "seed {}, {target:?}, {prepared}: {said}", self.seed);
            assert!(made_are_whole(&restored), "seed {}, {target:?}: {said}", self.seed);
        }
    }
}

/// Restores a cluster to random points in the log of a load.
///
/// # Panics
/// If anything else comes back than what was committed there.
pub fn under_load(shop: impl Cluster) {
    after_batches(shop, ROWS, 3, ROUNDS);
}

/// The same in short, with tables, tablespaces and large objects among what is done.
///
/// # Panics
/// As [`under_load`].
pub fn under_all_kinds_of_load(shop: impl Cluster) {
    after_batches(shop, ALL, 2, FEW_ROUNDS);
}

fn after_batches(shop: impl Cluster, kinds: u64, batches: u32, rounds: usize) {
    let mut trial = Trial::begin(shop, kinds);
    for batch in 1..=batches {
        trial.load(batch);
    }
    let records = records(trial.shop.server(), 1, &trial.first);
    trial.prove(&records, rounds);
}

/// Restores a cluster to random points in the log of a load, in the midst of which a standby was
/// promoted.
///
/// # Panics
/// If anything else comes back than what was committed there.
pub fn across_a_promotion(shop: impl Cluster) {
    let mut trial = Trial::begin(shop, ROWS);
    trial.load(1);
    let (standby, _folder) = standby(trial.shop.server());
    trial.load(2);
    caught_up(trial.shop.server(), &standby);
    let mut all = records(trial.shop.server(), 1, &trial.first);
    trial.shop.fail_over(standby);
    trial.load(3);
    trial.load(4);
    let history = trial.shop.server().data_dir().join("pg_wal/00000002.history");
    let history = std::fs::read_to_string(history).unwrap();
    let switch: Lsn = history.split('\t').nth(1).unwrap().parse().unwrap();
    all.retain(|record| record.lsn < switch);
    all.extend(records(trial.shop.server(), 2, &switch.to_string()));
    trial.prove(&all, ROUNDS);
}
