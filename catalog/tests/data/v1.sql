-- A catalog of version 1 with every kind of row. Never edited: it stands for files out there.

-- Version 1 of the catalog. Never edited once released: a change is a new file.

-- The repository that this cache belongs to; at most one row.
CREATE TABLE repository (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id  TEXT NOT NULL
) STRICT;

-- A row for each committed backup; everything in it comes from a verified manifest.
-- Times are RFC 3339, UTC, nine digits behind the point: they sort as text.
-- Counts are 64 bits; those of 2^63 and more are stored as the negative number of the same bits.
CREATE TABLE backups (
    source          TEXT NOT NULL,
    backup          TEXT NOT NULL,
    engine          TEXT NOT NULL,
    kind            TEXT NOT NULL, -- JSON
    host            TEXT NOT NULL,
    started         TEXT NOT NULL,
    finished        TEXT NOT NULL,
    plain_bytes     INTEGER NOT NULL,
    sealed_bytes    INTEGER NOT NULL,
    segments        INTEGER NOT NULL,
    suspect         TEXT NOT NULL, -- JSON array of texts; empty when good
    manifest_sha256 TEXT NOT NULL,
    PRIMARY KEY (source, backup)
) STRICT, WITHOUT ROWID;
CREATE INDEX backups_by_id ON backups (backup);

-- This host's job log. Append-only; a job's state is derived from its events.
CREATE TABLE jobs (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    backup TEXT NOT NULL,
    UNIQUE (source, backup)
) STRICT;

CREATE TABLE job_events (
    job   INTEGER NOT NULL REFERENCES jobs (id),
    n     INTEGER NOT NULL,                       -- from 1, without gaps
    at    TEXT NOT NULL,
    event TEXT NOT NULL,                          -- JSON
    ends  INTEGER NOT NULL CHECK (ends IN (0, 1)), -- whether nothing can follow
    PRIMARY KEY (job, n)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX job_ends ON job_events (job) WHERE ends = 1;

CREATE TRIGGER jobs_stay BEFORE DELETE ON jobs
BEGIN SELECT RAISE(ABORT, 'the job log is append-only'); END;
CREATE TRIGGER jobs_fixed BEFORE UPDATE ON jobs
BEGIN SELECT RAISE(ABORT, 'the job log is append-only'); END;
CREATE TRIGGER job_events_stay BEFORE DELETE ON job_events
BEGIN SELECT RAISE(ABORT, 'the job log is append-only'); END;
CREATE TRIGGER job_events_fixed BEFORE UPDATE ON job_events
BEGIN SELECT RAISE(ABORT, 'the job log is append-only'); END;

PRAGMA application_id = 1685218164;
PRAGMA user_version = 1;

INSERT INTO repository VALUES (1, '000000000000000000000000000000f1');

INSERT INTO backups VALUES
    ('shop', '20260301T020000Z-00000000000000a1', 'pg_dump', '{"type":"logical"}', 'db1',
     '2026-03-01T02:00:00.000000000Z', '2026-03-01T02:10:00.123456789Z',
     -1, 1048576, 64, '[]', '1111111111111111111111111111111111111111111111111111111111111111'),
    ('shop', '20260305T020000Z-00000000000000a5', 'pg_dump', '{"type":"logical"}', 'db1',
     '2026-03-05T02:00:00.000000000Z', '2026-03-05T02:00:01.000000000Z',
     1048576, 65536, 1, '["1.0 MiB, the last good one had 1.0 GiB"]', '2222222222222222222222222222222222222222222222222222222222222222');

INSERT INTO jobs VALUES
    (1, 'shop', '20260301T020000Z-00000000000000a1'),
    (2, 'shop', '20260302T020000Z-00000000000000a2'),
    (3, 'shop', '20260303T020000Z-00000000000000a3'),
    (4, 'shop', '20260304T020000Z-00000000000000a4'),
    (5, 'shop', '20260305T020000Z-00000000000000a5'),
    (9, 'shop', '20260309T020000Z-00000000000000a9');

INSERT INTO job_events VALUES
    (1, 1, '2026-03-01T02:00:00.000000000Z',
     '{"event":"started","source":"shop","backup":"20260301T020000Z-00000000000000a1"}', 0),
    (1, 2, '2026-03-01T02:10:02.123456789Z',
     '{"event":"stored","plain_bytes":1048576}', 0),
    (1, 3, '2026-03-01T02:10:03.123456789Z',
     '{"event":"committed","manifest_sha256":"1111111111111111111111111111111111111111111111111111111111111111"}', 1),
    (2, 1, '2026-03-02T02:00:00.000000000Z',
     '{"event":"started","source":"shop","backup":"20260302T020000Z-00000000000000a2"}', 0),
    (2, 2, '2026-03-02T02:10:02.123456789Z',
     '{"event":"failed","code":"tool_failed","message":"pg_dump ended with status 1"}', 1),
    (3, 1, '2026-03-03T02:00:00.000000000Z',
     '{"event":"started","source":"shop","backup":"20260303T020000Z-00000000000000a3"}', 0),
    (3, 2, '2026-03-03T02:10:02.123456789Z',
     '{"event":"cancelled"}', 1),
    (4, 1, '2026-03-04T02:00:00.000000000Z',
     '{"event":"started","source":"shop","backup":"20260304T020000Z-00000000000000a4"}', 0),
    (4, 2, '2026-03-04T02:10:02.123456789Z',
     '{"event":"stored","plain_bytes":1048576}', 0),
    (4, 3, '2026-03-04T02:10:03.123456789Z',
     '{"event":"found_dead"}', 1),
    (5, 1, '2026-03-05T02:00:00.000000000Z',
     '{"event":"started","source":"shop","backup":"20260305T020000Z-00000000000000a5"}', 0),
    (5, 2, '2026-03-05T02:10:02.123456789Z',
     '{"event":"stored","plain_bytes":1048576}', 0),
    (5, 3, '2026-03-05T02:10:03.123456789Z',
     '{"event":"found_committed","manifest_sha256":"2222222222222222222222222222222222222222222222222222222222222222"}', 1),
    (9, 1, '2026-03-09T02:00:00.000000000Z',
     '{"event":"started","source":"shop","backup":"20260309T020000Z-00000000000000a9"}', 0);
