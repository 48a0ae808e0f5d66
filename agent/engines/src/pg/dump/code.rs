//! Code of a database that runs while it is restored: with the rights of whoever restores it.

use tokio_postgres::Client;

use crate::common::EngineError;
use crate::pg::server::session::Session;
use crate::pg::server::spelling::spelled;

/// Functions of the server that change nothing of their own, look into no table by its name and
/// execute no text; besides all that are immutable. An allow list: what is not known is code.
const HARMLESS: &str = "'{age, anytextcat, array_in, array_out, array_to_json, array_to_string, bpcharrecv,
    clock_timestamp, concat, concat_ws, convert, convert_from, convert_to, current_database,
    current_schema, current_setting, current_user, date, date_cmp_timestamptz, date_eq_timestamptz,
    date_ge_timestamptz, date_gt_timestamptz, date_in, date_le_timestamptz, date_lt_timestamptz,
    date_ne_timestamptz, date_out, date_part, date_trunc, enum_first, enum_in, enum_last, enum_out,
    enum_range, extract, format, format_type, gen_random_uuid, generate_series, getdatabaseencoding,
    getpgusername,
    in_range, inet_client_addr, inet_server_addr, interval_in, interval_out, interval_pl_timestamptz,
    json_build_array, json_build_object, jsonb_build_array, jsonb_build_object,
    jsonb_path_exists_tz, jsonb_path_match_tz, jsonb_path_query_array_tz, jsonb_path_query_first_tz,
    length, make_timestamptz, money, nextval, now, numeric, overlaps, pg_client_encoding,
    pg_column_size, plainto_tsquery, phraseto_tsquery, quote_literal, quote_nullable, random,
    range_in, range_out, row_to_json, session_user, statement_timestamp, textanycat, time,
    timeofday, timestamp, timestamp_cmp_timestamptz, timestamp_eq_timestamptz,
    timestamp_ge_timestamptz, timestamp_gt_timestamptz, timestamp_le_timestamptz,
    timestamp_lt_timestamptz, timestamp_ne_timestamptz, timestamptz, timestamptz_cmp_date,
    timestamptz_cmp_timestamp, timestamptz_eq_date, timestamptz_eq_timestamp, timestamptz_ge_date,
    timestamptz_ge_timestamp, timestamptz_gt_date, timestamptz_gt_timestamp, timestamptz_le_date,
    timestamptz_le_timestamp, timestamptz_lt_date, timestamptz_lt_timestamp,
    timestamptz_mi_interval, timestamptz_ne_date, timestamptz_ne_timestamp,
    timestamptz_pl_interval, timetz, timezone, to_char, to_date, to_json, to_jsonb, to_number,
    to_timestamp, to_tsquery, to_tsvector, transaction_timestamp, version, websearch_to_tsquery,
    xml, xml_is_well_formed}'::pg_catalog.name[]";

/// What runs as the session's user while a database is restored.
///
/// By place: the constraints of tables and domains, generated columns and the keys of partitions,
/// which `COPY` and `ALTER TABLE` work out. What indexes, extended statistics and materialized views
/// run, the server runs as their owners: it is named where these are superusers, and of all where
/// owners are left out, with functions that run as theirs. (Triggers are made when all rows are in.)
/// There a function counts as code that no superuser owns; and where the table or domain is no
/// superuser's, also one that is not immutable, but for a few that are known.
///
/// Wherever it is used: what types, ranges, casts, operator families, conversions and event
/// triggers run, which no expression names: a foreign key compares by casts that nobody wrote down.
/// Code in C is nobody's but a superuser's, whoever owns it.
///
/// Each comes with a digest of all that the catalog says of the function, its text with it: another one
/// of its name is another one.
const LIST: &str = "
    WITH place AS (
        SELECT con.oid, 'pg_catalog.pg_constraint'::pg_catalog.regclass AS class, con.conbin::text AS tree,
               coalesce(c.relowner, t.typowner) AS owner,
               'constraint ' || con.conname || ' of ' || n.nspname || '.' || coalesce(c.relname, t.typname) AS name
        FROM pg_catalog.pg_constraint con
        LEFT JOIN pg_catalog.pg_class c ON c.oid = con.conrelid AND con.conrelid <> 0
        LEFT JOIN pg_catalog.pg_type t ON t.oid = con.contypid AND con.contypid <> 0
        JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(c.relnamespace, t.typnamespace)
        WHERE con.contype = 'c'
        UNION ALL
        SELECT d.oid, 'pg_catalog.pg_attrdef'::pg_catalog.regclass, d.adbin::text, c.relowner,
               'column ' || a.attname || ' of ' || n.nspname || '.' || c.relname
        FROM pg_catalog.pg_attrdef d
        JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        JOIN pg_catalog.pg_class c ON c.oid = d.adrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE a.attgenerated <> ''
        UNION ALL
        SELECT c.oid, 'pg_catalog.pg_class'::pg_catalog.regclass, p.partexprs::text, c.relowner,
               'partitions of ' || n.nspname || '.' || c.relname
        FROM pg_catalog.pg_partitioned_table p
        JOIN pg_catalog.pg_class c ON c.oid = p.partrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE p.partexprs IS NOT NULL
        UNION ALL
        %OWNED%
    ), used AS (
        SELECT place.name, place.owner, o.oprcode::pg_catalog.oid AS function
        FROM place
        JOIN pg_catalog.pg_depend x ON x.classid = place.class AND x.objid = place.oid
             AND x.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass
        JOIN pg_catalog.pg_operator o ON o.oid = x.refobjid
        UNION
        SELECT place.name, place.owner, x.refobjid
        FROM place
        JOIN pg_catalog.pg_depend x ON x.classid = place.class AND x.objid = place.oid
             AND x.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
        UNION
        SELECT place.name, place.owner, found[1]::pg_catalog.oid
        FROM place
        CROSS JOIN LATERAL pg_catalog.regexp_matches(
            place.tree, ':(?:(?:op)?funcid|aggfnoid|winfnoid) (\\d+)', 'g') found
        UNION
        SELECT place.name, place.owner, f
        FROM place
        JOIN pg_catalog.pg_depend x ON x.classid = place.class AND x.objid = place.oid
             AND x.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
        JOIN pg_catalog.pg_aggregate a ON a.aggfnoid::pg_catalog.oid = x.refobjid
        JOIN pg_catalog.pg_proc p ON p.oid = x.refobjid
        JOIN pg_catalog.pg_roles w ON w.oid = p.proowner AND NOT w.rolsuper
        CROSS JOIN LATERAL pg_catalog.unnest(ARRAY[aggtransfn::oid, aggfinalfn::oid, aggcombinefn::oid,
                   aggserialfn::oid, aggdeserialfn::oid, aggmtransfn::oid, aggminvtransfn::oid,
                   aggmfinalfn::oid]::pg_catalog.oid[]) f
    ), always AS (
        SELECT 'cast from ' || pg_catalog.format_type(castsource, NULL) || ' to '
               || pg_catalog.format_type(casttarget, NULL) AS name, castfunc AS function
        FROM pg_catalog.pg_cast WHERE castfunc <> 0
        UNION ALL
        SELECT 'type ' || pg_catalog.format_type(t.oid, NULL), f
        FROM pg_catalog.pg_type t
        CROSS JOIN LATERAL pg_catalog.unnest(ARRAY[typinput::oid, typoutput::oid, typreceive::oid,
                   typsend::oid, typmodin::oid, typmodout::oid]::pg_catalog.oid[]) f
        UNION ALL
        SELECT 'type ' || pg_catalog.format_type(rngtypid, NULL), f
        FROM pg_catalog.pg_range
        CROSS JOIN LATERAL pg_catalog.unnest(ARRAY[rngcanonical::oid, rngsubdiff::oid]::pg_catalog.oid[]) f
        UNION ALL
        SELECT 'operator family ' || o.opfname, f.function
        FROM (SELECT amprocfamily AS family, amproc::pg_catalog.oid AS function FROM pg_catalog.pg_amproc
              UNION ALL
              SELECT a.amopfamily, p.oprcode::pg_catalog.oid FROM pg_catalog.pg_amop a
              JOIN pg_catalog.pg_operator p ON p.oid = a.amopopr) f
        JOIN pg_catalog.pg_opfamily o ON o.oid = f.family
        UNION ALL
        SELECT 'conversion ' || conname, conproc::pg_catalog.oid FROM pg_catalog.pg_conversion
        UNION ALL
        SELECT 'event trigger ' || evtname, evtfoid FROM pg_catalog.pg_event_trigger
        UNION ALL
        SELECT 'SECURITY DEFINER', oid FROM pg_catalog.pg_proc WHERE prosecdef AND %UNOWNED%
    ), code AS (
        SELECT name, owner, function FROM used
        UNION
        SELECT name, NULL, function FROM always
    )
    SELECT DISTINCT pg_catalog.convert_to(u.name || ' runs ' || n.nspname || '.' || f.proname || ' of ' || r.rolname
                    || ' [' || pg_catalog.substr(pg_catalog.encode(pg_catalog.sha256(
                           pg_catalog.convert_to(f::text, e.name)), 'hex'), 1, 16) || ']', e.name)
    FROM code u
    JOIN pg_catalog.pg_proc f ON f.oid = u.function
    JOIN pg_catalog.pg_language l ON l.oid = f.prolang
    JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
    JOIN pg_catalog.pg_roles r ON r.oid = f.proowner
    LEFT JOIN pg_catalog.pg_roles o ON o.oid = u.owner
    CROSS JOIN (SELECT CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII'
                            ELSE 'UTF8' END::name AS name) e
    WHERE (NOT r.rolsuper AND l.lanname NOT IN ('c', 'internal'))
       OR (o.rolsuper IS FALSE AND f.provolatile <> 'i'
           AND NOT (n.nspname = 'pg_catalog' AND (f.prokind IN ('a', 'w') OR f.proname = ANY (%HARMLESS%))))
    ORDER BY 1 LIMIT 10001";

/// Materialized views, with each view that they read: whose rights it is read with, and for which of them.
const READ: &str = "read AS (
        SELECT c.oid AS view, c.relowner AS runner, n.nspname || '.' || c.relname AS name
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'm'
        UNION
        SELECT v.oid, read.runner, read.name
        FROM read
        JOIN pg_catalog.pg_rewrite r ON r.ev_class = read.view
        JOIN pg_catalog.pg_depend x ON x.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
             AND x.objid = r.oid AND x.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        JOIN pg_catalog.pg_class v ON v.oid = x.refobjid AND v.relkind = 'v'
    )";

/// What is run as the owner of a table or materialized view, in the places of [`LIST`]: by indexes,
/// extended statistics, and the queries of materialized views with those of the views that they read.
const OWNED: &str = "
        SELECT oid, class, tree, owner, name FROM (
            SELECT c.oid, 'pg_catalog.pg_class'::pg_catalog.regclass AS class,
                   coalesce(i.indexprs::text, '') || coalesce(i.indpred::text, '') AS tree,
                   t.relowner AS owner, t.relowner AS runner, 'index ' || n.nspname || '.' || c.relname AS name
            FROM pg_catalog.pg_index i
            JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
            JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
            UNION ALL
            SELECT s.oid, 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, pg_catalog.to_jsonb(s) ->> 'stxexprs',
                   t.relowner, t.relowner, 'statistics ' || n.nspname || '.' || s.stxname
            FROM pg_catalog.pg_statistic_ext s
            JOIN pg_catalog.pg_class t ON t.oid = s.stxrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
            UNION ALL
            SELECT r.oid, 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.ev_action::text, v.relowner, read.runner,
                   'materialized view ' || read.name
            FROM (
                WITH RECURSIVE %READ%
                SELECT view, runner, name FROM read) read
            JOIN pg_catalog.pg_rewrite r ON r.ev_class = read.view
            JOIN pg_catalog.pg_class v ON v.oid = read.view
        ) owned
        WHERE %UNOWNED% OR EXISTS (SELECT FROM pg_catalog.pg_roles o WHERE o.oid = owned.runner AND o.rolsuper)";

/// Foreign tables that materialized views read: as their owners, in another server, which may lead back
/// into this one. Those that superusers have made, with their servers, are theirs to answer for.
const FOREIGN: &str = "
    WITH RECURSIVE %READ%, reads AS (
        SELECT read.name, read.runner, x.refobjid AS relation
        FROM read
        JOIN pg_catalog.pg_rewrite r ON r.ev_class = read.view
        JOIN pg_catalog.pg_depend x ON x.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
             AND x.objid = r.oid AND x.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        UNION
        SELECT reads.name, reads.runner, i.inhrelid
        FROM reads JOIN pg_catalog.pg_inherits i ON i.inhparent = reads.relation
    )
    SELECT DISTINCT pg_catalog.convert_to('materialized view ' || reads.name || ' reads the foreign table '
                    || n.nspname || '.' || c.relname || ' of ' || o.rolname
                    || ' [' || pg_catalog.substr(pg_catalog.encode(pg_catalog.sha256(
                           pg_catalog.convert_to(f::text || s::text, e.name)), 'hex'), 1, 16) || ']', e.name)
    FROM reads
    JOIN pg_catalog.pg_class c ON c.oid = reads.relation AND c.relkind = 'f'
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_foreign_table f ON f.ftrelid = c.oid
    JOIN pg_catalog.pg_foreign_server s ON s.oid = f.ftserver
    JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
    JOIN pg_catalog.pg_roles so ON so.oid = s.srvowner
    CROSS JOIN (SELECT CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII'
                            ELSE 'UTF8' END::name AS name) e
    WHERE NOT (o.rolsuper AND so.rolsuper)
      AND (%UNOWNED% OR EXISTS (SELECT FROM pg_catalog.pg_roles x WHERE x.oid = reads.runner AND x.rolsuper))
    ORDER BY 1 LIMIT 10001";

/// How many of them are named at most: of a database with more one is listed too many, and nobody can
/// say that he has read them.
pub const CODE_NAMED: usize = 10_000;

/// What the planner works out as the session's user, whose a table is all the same: functions with
/// constants, in the indexes and extended statistics of a table that a foreign key is checked over.
const PLANNED: &str = "
    WITH place AS (
        SELECT i.indrelid AS relation, 'index ' || c.relname AS name,
               coalesce(i.indexprs::text, '') || coalesce(i.indpred::text, '') AS tree
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        UNION ALL
        SELECT s.stxrelid, 'statistics ' || s.stxname, coalesce(pg_catalog.to_jsonb(s) ->> 'stxexprs', '')
        FROM pg_catalog.pg_statistic_ext s
    )
    SELECT DISTINCT pg_catalog.convert_to(place.name || ' of ' || n.nspname || '.' || c.relname || ' runs '
                    || m.nspname || '.' || f.proname || ' of ' || r.rolname
                    || ' [' || pg_catalog.substr(pg_catalog.encode(pg_catalog.sha256(
                           pg_catalog.convert_to(f::text, e.name)), 'hex'), 1, 16) || ']', e.name),
           place.tree, f.oid, l.lanname = 'sql'
    FROM place
    CROSS JOIN LATERAL pg_catalog.regexp_matches(place.tree, ':(?:op)?funcid (\\d+)', 'g') found
    JOIN pg_catalog.pg_proc f ON f.oid = found[1]::pg_catalog.oid
    JOIN pg_catalog.pg_language l ON l.oid = f.prolang
    JOIN pg_catalog.pg_namespace m ON m.oid = f.pronamespace
    JOIN pg_catalog.pg_roles r ON r.oid = f.proowner
    JOIN pg_catalog.pg_class c ON c.oid = place.relation
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN (SELECT CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII'
                            ELSE 'UTF8' END::name AS name) e
    WHERE NOT r.rolsuper AND l.lanname NOT IN ('c', 'internal')
      AND EXISTS (SELECT FROM pg_catalog.pg_constraint k
                  WHERE k.contype = 'f' AND place.relation IN (k.conrelid, k.confrelid))
    ORDER BY 1 LIMIT 10001";

/// Tables over which a query would work out functions that no superuser owns when it is planned:
/// those in their indexes, extended statistics and constraints.
const PLANS: &str = "
    SELECT DISTINCT place.relation
    FROM (SELECT indrelid AS relation, coalesce(indexprs::text, '') || coalesce(indpred::text, '') AS tree
          FROM pg_catalog.pg_index
          UNION ALL
          SELECT stxrelid, pg_catalog.to_jsonb(s) ->> 'stxexprs' FROM pg_catalog.pg_statistic_ext s
          UNION ALL
          SELECT conrelid, conbin::text FROM pg_catalog.pg_constraint WHERE contype = 'c') place
    CROSS JOIN LATERAL pg_catalog.regexp_matches(place.tree, ':(?:op)?funcid (\\d+)', 'g') found
    JOIN pg_catalog.pg_proc f ON f.oid = found[1]::pg_catalog.oid
    JOIN pg_catalog.pg_roles r ON r.oid = f.proowner
    WHERE NOT r.rolsuper AND place.relation = ANY ($1::pg_catalog.oid[])";

/// What of the database that the session is in runs while it is restored, and no superuser answers
/// for: where it stands, and the function with its owner, for people. First where it is restored to its
/// owners, then without them.
pub(crate) async fn on_load(session: &Session) -> Result<[Vec<String>; 2], EngineError> {
    let failed = |error| EngineError::query("look for code that runs while rows are loaded")(error);
    let mut planned = Vec::new();
    for row in session.client.query(PLANNED, &[]).await.map_err(failed)? {
        let tree: &str = row.try_get(1).map_err(failed)?;
        let (function, sql): (u32, bool) =
            (row.try_get(2).map_err(failed)?, row.try_get(3).map_err(failed)?);
        // What a function in SQL says is put in its place, with constants of its own.
        if sql || is_constant(tree, function) {
            planned.push(row.try_get(0).map(spelled).map_err(failed)?);
        }
    }
    let mut all = [Vec::new(), Vec::new()];
    for (found, unowned) in all.iter_mut().zip(["false", "true"]) {
        for query in [LIST, FOREIGN] {
            let query = query.replace("%OWNED%", OWNED).replace("%READ%", READ);
            let query = query.replace("%UNOWNED%", unowned).replace("%HARMLESS%", HARMLESS);
            for row in session.client.query(&query, &[]).await.map_err(failed)? {
                found.push(row.try_get(0).map(spelled).map_err(failed)?);
            }
        }
        found.extend(planned.iter().cloned());
    }
    Ok(all)
}

/// Those of these tables that are counted without a plan: a plan would execute code of the database's.
pub(crate) async fn planned(client: &Client, tables: &[u32]) -> Result<Vec<u32>, EngineError> {
    let failed = |error| EngineError::query("look for code that queries would run")(error);
    let rows = client.query(PLANS, &[&tables]).await.map_err(failed)?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(failed)
}

/// Whether an expression, as the catalogs keep it, calls a function without any column.
fn is_constant(tree: &str, function: u32) -> bool {
    let calls = ["funcid", "opfuncid"].map(|field| format!(":{field} {function} "));
    let mut open = Vec::new();
    let mut escaped = false;
    for (at, sign) in tree.char_indices() {
        match sign {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => open.push(at),
            '}' => {
                let node = &tree[open.pop().unwrap_or(0)..at];
                // A call's own fields stand before those of what it is called with.
                let own = node[1.min(node.len())..].split('{').next().unwrap_or_default();
                if calls.iter().any(|call| own.contains(call)) && !node.contains("{VAR ") {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_with_constants_alone_is_told_from_one_with_a_column() {
        let call = |function: u32, args: &str| {
            format!("{{FUNCEXPR :funcid {function} :funcresulttype 23 :args ({args}) :location 1}}")
        };
        let (constant, column) = ("{CONST :constvalue 4 [ 1 0 ]}", "{VAR :varno 1 :varattno 1}");
        let within = call(7, &format!("{column} {}", call(8, constant)));
        for (tree, function, expected) in [
            (call(7, constant), 7, true),
            (call(7, column), 7, false),
            (call(7, constant), 77, false),
            (within.clone(), 7, false),
            (within, 8, true),
            (format!("({} {})", call(7, column), call(7, constant)), 7, true),
            ("{OPEXPR :opno 9 :opfuncid 7 :args ({CONST})}".to_owned(), 7, true),
            ("{".to_owned(), 7, false),
            ("}".to_owned(), 7, false),
        ] {
            assert_eq!(is_constant(&tree, function), expected, "{tree} {function}");
        }
    }
}
