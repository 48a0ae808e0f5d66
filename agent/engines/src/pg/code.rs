//! Code of a database that runs while its rows are loaded: with the rights of whoever loads them.

use super::session::Session;
use super::spelling::spelled;
use crate::EngineError;

/// Functions in the constraints of tables and domains, in generated columns and in the keys of
/// partitions: `COPY` and `ALTER TABLE … ADD CONSTRAINT` run them as the session's user. (What
/// indexes and materialized views run, the server runs as their owners; triggers are made when all
/// rows are in.) A function that no superuser owns is named, and where the table or domain is no
/// superuser's also one that may do anything: what is volatile, of the server or of an extension,
/// but for a few that only make values. Each with a digest of all that the catalog says of the
/// function, its text with it: another one of its name is another one.
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
        CROSS JOIN LATERAL pg_catalog.regexp_matches(place.tree, ':(?:op)?funcid (\\d+)', 'g') found
    )
    SELECT DISTINCT pg_catalog.convert_to(u.name || ' runs ' || n.nspname || '.' || f.proname || ' of ' || r.rolname
                    || ' [' || pg_catalog.substr(pg_catalog.encode(pg_catalog.sha256(
                           pg_catalog.convert_to(f::text, e.name)), 'hex'), 1, 16) || ']', e.name)
    FROM used u
    JOIN pg_catalog.pg_proc f ON f.oid = u.function
    JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
    JOIN pg_catalog.pg_roles r ON r.oid = f.proowner
    JOIN pg_catalog.pg_roles o ON o.oid = u.owner
    CROSS JOIN (SELECT CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII'
                            ELSE 'UTF8' END::name AS name) e
    WHERE NOT r.rolsuper
       OR (NOT o.rolsuper AND f.provolatile = 'v'
           AND NOT (n.nspname = 'pg_catalog' AND f.proname IN
                    ('clock_timestamp', 'gen_random_uuid', 'nextval', 'random', 'timeofday')))
    ORDER BY 1 LIMIT 10001";

/// How many of them are named at most: of a database with more one is listed too many, and nobody can
/// say that he has read them.
pub const CODE_NAMED: usize = 10_000;

/// What of the database that the session is in runs while rows are loaded, and no superuser answers
/// for: where it stands, and the function with its owner, for people.
pub(crate) async fn on_load(session: &Session) -> Result<Vec<String>, EngineError> {
    let failed = |error| EngineError::query("look for code that runs while rows are loaded")(error);
    let rows = session.client.query(LIST, &[]).await.map_err(failed)?;
    rows.iter().map(|row| row.try_get(0).map(spelled)).collect::<Result<_, _>>().map_err(failed)
}
