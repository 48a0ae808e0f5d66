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
