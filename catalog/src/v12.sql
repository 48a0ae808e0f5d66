-- Version 12 of the catalog: jobs whose processes are known. Never edited once released.

-- Names the file that the process of a job has locked while it runs; none of what was logged before.
ALTER TABLE jobs ADD COLUMN run TEXT;
CREATE UNIQUE INDEX jobs_by_run ON jobs (run);

-- Backups stay in the log. Of all other kinds the last of each source are kept.
DROP TRIGGER jobs_stay;
DROP TRIGGER job_events_stay;
CREATE TRIGGER jobs_stay BEFORE DELETE ON jobs WHEN OLD.kind = 'backup'
BEGIN SELECT RAISE(ABORT, 'the job log is append-only'); END;
CREATE TRIGGER job_events_stay BEFORE DELETE ON job_events
WHEN coalesce((SELECT kind FROM jobs WHERE id = OLD.job), 'backup') = 'backup'
BEGIN SELECT RAISE(ABORT, 'the job log is append-only'); END;
