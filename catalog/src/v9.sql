-- Version 9 of the catalog: jobs of other kinds than backups. Never edited once released.

-- Both tables are made anew with what was in them: SQLite takes no NOT NULL away. What was logged
-- before is of backups.
CREATE TABLE jobs_9 (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    kind   TEXT NOT NULL,
    source TEXT NOT NULL,
    backup TEXT, -- the attempt's identifier; of backups alone
    CHECK ((kind = 'backup') = (backup IS NOT NULL)),
    UNIQUE (source, backup)
) STRICT;
INSERT INTO jobs_9 (id, kind, source, backup) SELECT id, 'backup', source, backup FROM jobs;

CREATE TABLE job_events_9 (
    job   INTEGER NOT NULL REFERENCES jobs_9 (id),
    n     INTEGER NOT NULL,                       -- from 1, without gaps
    at    TEXT NOT NULL,
    event TEXT NOT NULL,                          -- JSON
    ends  INTEGER NOT NULL CHECK (ends IN (0, 1)), -- whether nothing can follow
    PRIMARY KEY (job, n)
) STRICT, WITHOUT ROWID;
INSERT INTO job_events_9 SELECT job, n, at, event, ends FROM job_events;

DROP TABLE job_events;
DROP TABLE jobs;
ALTER TABLE jobs_9 RENAME TO jobs;
ALTER TABLE job_events_9 RENAME TO job_events;

CREATE UNIQUE INDEX job_ends ON job_events (job) WHERE ends = 1;
CREATE INDEX jobs_by_kind ON jobs (source, kind, id);

CREATE TRIGGER jobs_stay BEFORE DELETE ON jobs
BEGIN SELECT RAISE(ABORT, 'the job log is append-only'); END;
CREATE TRIGGER jobs_fixed BEFORE UPDATE ON jobs
BEGIN SELECT RAISE(ABORT, 'the job log is append-only'); END;
CREATE TRIGGER job_events_stay BEFORE DELETE ON job_events
BEGIN SELECT RAISE(ABORT, 'the job log is append-only'); END;
CREATE TRIGGER job_events_fixed BEFORE UPDATE ON job_events
BEGIN SELECT RAISE(ABORT, 'the job log is append-only'); END;
