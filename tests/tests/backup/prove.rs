//! What was restored, compared with its dump row by row: no false alarm over whatever a database holds, and
//! whatever is not the same is named.

use drctl_tests::fake::Tools;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;
use serde_json::Value;

use crate::common::Shop;

/// One row of all types that are written in more than one way, and others beside.
const TYPES: &str = r#"
    create extension if not exists citext;
    create type mood as enum ('sad', 'ok', 'happy');
    create type pair as (a int, b text);
    create domain percent as numeric(5, 2) check (value between 0 and 100);
    create collation german (provider = icu, locale = 'de-AT');
    create table types (
        id bigint generated always as identity, twice bigint generated always as (k * 2) stored, k bigint,
        padded char(9), binary_ bytea, m mood, ms mood[], t time(6), tz timetz, d date, ts timestamp(6),
        tstz timestamptz, i interval, j json, jb jsonb, f4 real, f8 double precision, n numeric, amount money,
        a int[], aa text[][], r int4range, tr tstzrange, mr nummultirange, p pair, ps pair[], pc percent,
        u uuid, ip inet, net cidr, mac macaddr8, b bit(7), vb bit varying, x xml, ts1 tsvector, q tsquery,
        pt point, pl polygon, lsn pg_lsn, xid8 xid8, rc regclass, ro oid, ci citext, c text collate german,
        big text);
    insert into types (k, padded, binary_, m, ms, t, tz, d, ts, tstz, i, j, jb, f4, f8, n, amount, a, aa, r, tr,
            mr, p, ps, pc, u, ip, net, mac, b, vb, x, ts1, q, pt, pl, lsn, xid8, rc, ro, ci, c, big)
        select g, 'x', decode('00ff5c0a', 'hex'), 'ok', '{sad,happy,null}', '04:05:06.789012',
            '04:05:06.7+05:30', '0044-03-15 BC', '1582-10-15 00:00:00.000001',
            '1883-11-18 12:03:58+00'::timestamptz + g * interval '1 hour 1 microsecond',
            '1 year -2 mons +3 days -04:05:06.789', '{"a" : 1,  "a":2}', '{"b": [1, null, 1e2]}',
            3.4028235e38, 5e-324, 'NaN', '12.34', '{1,null,3}', '{{a,"b,c"},{"\\",null}}', '[1,5)',
            '["2026-01-01 00:00+01",infinity)', '{[1,2),[3,4.5]}', row(1, E'tab\t"q"\\')::pair, array[row(null, '')]::pair[],
            99.99, gen_random_uuid(), '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03:04:05', '1010101', '',
            '<a>&amp;<b/></a>', 'fat:2A cat', 'fat & !rat', '(1.1,-0)', '((0,0),(1,1),(2,0))', '16/B374D848',
            '18446744073709551615', 'pg_class', 4711, 'MiXed', 'Äpfel', ''
        from generate_series(1, 20) g;
    insert into types (k, f4, f8, amount, j) values (-1, 'NaN', '-0', '-0.01', 'null'),
        (-2, '-Infinity', 'Infinity', '-92233720368547758.08', '[]'), (-3, '-0', 'NaN', null, null);
    update types set big = (select string_agg(md5(g::text || k), '') from generate_series(1, 8000) g) where k < 0;
    insert into types default values; insert into types default values;
    create table none (); insert into none default values;
    create table dropped (a int, gone text, b text);
    insert into dropped values (1, 'x', 'y'); alter table dropped drop column gone; alter table dropped add c int;
    create table base (a int);
    create table child (own int) inherits (base); alter table base add later int default 7;
    insert into child values (1, 2, 3);
    create sequence counter maxvalue 100 start 100 increment -3; select nextval('counter'), nextval('counter');
    create sequence fresh;
    create unlogged table passing as select 1 as x;
    create view seen as select k, m from types where tstz > '2026-01-01 00:00+01';
    create materialized view counted as select count(*) from types;
    create rule quiet as on delete to seen do instead nothing;
    select lo_from_bytea(4711, decode(repeat('00ff0a5c', 40000), 'hex')), lo_create(4712);
"#;

/// A server whose settings write everything in another way than those of most.
fn odd(name: &str) -> Postgres {
    let builder = Postgres::builder();
    let (zone, style, interval) = match name {
        "one" => ("Asia/Kolkata", "German", "sql_standard"),
        _ => ("America/St_Johns", "SQL, DMY", "iso_8601"),
    };
    let settings = [
        ("timezone", zone),
        ("datestyle", style),
        ("intervalstyle", interval),
        ("bytea_output", "escape"),
        ("extra_float_digits", "-5"),
        ("lc_monetary", "C"),
        ("xmlbinary", "hex"),
        ("quote_all_identifiers", "on"),
    ];
    settings.iter().fold(builder, |builder, (name, value)| builder.conf(name, value)).start()
}

/// Restores the newest backup into a server, and proves it; the databases, by name.
#[track_caller]
fn proven(site: &Site, target: &Postgres, jobs: &str) -> Vec<(String, Value)> {
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let to = ["restore", "shop", "--latest", "--prove", "--to-host", &host, "--to-port", &port];
    let done = site.json(0, &[&to[..], &["--jobs", jobs]].concat());
    let restored = done["restored"].as_array().expect("a list").iter();
    let of = |one: &Value| Some((one["target"].as_str()?.to_owned(), one["equal"].clone()));
    restored.filter(|one| one["content"]["type"] == "database").filter_map(of).collect()
}

#[test]
fn whatever_a_database_holds_is_equal_on_a_server_with_other_settings() {
    let source = odd("one");
    source.psql("postgres", "create database types");
    source.psql("types", TYPES);
    source.psql("postgres", "alter database types set timezone to 'Pacific/Chatham'");
    source.psql("postgres", "alter database types set intervalstyle to 'postgres_verbose'");
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_JP"] {
        let name = encoding.to_lowercase();
        let locale = "lc_collate 'C' lc_ctype 'C' template template0";
        source.psql("postgres", &format!("create database {name} encoding '{encoding}' {locale}"));
        let sql =
            "create table t (a text); insert into t select chr(g) from generate_series(1, 126) g;";
        source.psql(&name, sql);
    }
    source.psql("latin1", "create table words (w text); insert into words values (convert_from('\\xe4f6fc', 'LATIN1'))");
    // A sequence with a name that is no UTF-8 stands somewhere, too.
    source.psql(
        "latin1",
        "create sequence \"größe\"; select nextval('\"größe\"') from generate_series(1, 3)",
    );
    let site = Site::with(&source);
    let _ = site.backup();
    for jobs in ["1", "3"] {
        let target = odd("two");
        // There enums have other numbers, so that what is hashed by them lies elsewhere.
        target.psql("postgres", "create type a as enum ('x'); create type b as enum ('y', 'z')");
        target.psql("postgres", "drop type a; drop type b");
        let all = proven(&site, &target, jobs);
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), 5, "{names:?}");
        for (name, equal) in &all {
            // The columns of a table that inherits stand in another order afterwards.
            let counted: &[&str] = match name.as_str() {
                "types" => &["public.child: its columns stand in another order"],
                _ => &[],
            };
            assert_eq!(equal["counted"], serde_json::json!(counted), "{name}: {equal}");
        }
        let (_, types) = all.iter().find(|(name, _)| name == "types").expect("it is there");
        assert_eq!(
            (&types["tables"], &types["rows"]),
            (&5.into(), &(25 + 1 + 1 + 1).into()),
            "{types}"
        );
    }
}

#[test]
fn partitions_by_the_hash_of_an_enum_may_lie_elsewhere_afterwards() {
    let shop = Shop::open();
    shop.sql(
        "create type e as enum ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h');
         create table h (k e, v int) partition by hash (k);
         create table h0 partition of h for values with (modulus 3, remainder 0);
         create table h1 partition of h for values with (modulus 3, remainder 1);
         create table h2 partition of h for values with (modulus 3, remainder 2);
         insert into h select (enum_range(null::e))[1 + g % 8], g from generate_series(1, 800) g",
    );
    let id = shop.site.backup();
    let lie =
        |db: &str| shop.server.psql(db, "select distinct tableoid::regclass, k from h order by k");
    let before = lie(&shop.db);
    for more in [&[][..], &["--prove"]] {
        // Types that were made meanwhile, so that enums have other numbers each time.
        shop.server
            .psql("postgres", "create type passing as enum ('x', 'y', 'z'); drop type passing");
        let new = shop.beside(&["--backup", &id], more);
        assert_eq!(shop.server.psql(&new, "select count(*), sum(v) from h"), "800|320400");
        assert_ne!(lie(&new), before, "it is the case that is meant");
    }
}

#[test]
fn rows_that_are_as_many_and_not_the_same_are_found() {
    let shop = Shop::open();
    let tools = Tools::of(&shop.server);
    shop.site.source(&tools.line());
    shop.sql(
        "create table notes as select g, 'before ' || g as text from generate_series(1, 50) g",
    );
    shop.sql("create sequence counter; select nextval('counter'), nextval('counter')");
    shop.sql("grant select on notes to public; select lo_from_bytea(4711, 'large')");
    shop.sql("grant select on large object 4711 to public; comment on large object 4711 is 'it'");
    let id = shop.site.backup();
    let restore = |new: &str, more: &[&str]| {
        let all = ["restore", "shop", "--backup", &id, "--database", &shop.db, "--as", new];
        shop.site.drctl(&[&all[..], more].concat())
    };
    // A tool that loads another row than it was given, and says that all is well.
    tools.set("pg_restore", "LC_ALL=C sed 's/before 17/before 71/' | exec \"$REAL\" \"$@\"");
    let _ = restore("counted", &[]).ended(0);
    let said = restore("altered", &["--prove"]).ended(4).err;
    assert!(said.contains("public.notes has 50 rows as before, and not the same ones"), "{said}");
    assert!(said.contains("is kept, but is not equal to what was dumped"), "{said}");
    // One that leaves a sequence where it was made.
    tools.set("pg_restore", "LC_ALL=C sed \"s/setval('public.counter', 2/setval('public.counter', 1/\" | exec \"$REAL\" \"$@\"");
    let said = restore("behind", &["--prove"]).ended(4).err;
    assert!(said.contains("the sequence public.counter does not stand where it stood"), "{said}");
    // One that leaves a large object empty.
    tools.set("pg_restore", "LC_ALL=C sed 's/large$/LARGE/; s/\\x05\\x00\\x00\\x00large/\\x05\\x00\\x00\\x00LARGE/' | exec \"$REAL\" \"$@\"");
    let said = restore("other", &["--prove"]).ended(4).err;
    assert!(said.contains("1 large objects are there as before, and not the same ones"), "{said}");
    tools.honest("pg_restore");
    let _ = restore("equal", &["--prove"]).ended(0);
    // Without owners there are no privileges, which nobody misses then.
    let _ = restore("unowned", &["--prove", "--no-owner"]).ended(0);
}
