-- Version 5 of the catalog: what was found when backups and logs were looked at, and what was accepted.
-- Never edited once released.

-- The last look of each closeness. It lives nowhere else: a rebuild carries it over.
CREATE TABLE verified (
    source          TEXT NOT NULL,
    what            TEXT NOT NULL, -- a backup's identifier, `log`, or `stanza`
    closeness       TEXT NOT NULL, -- structure, stored, plain
    at              TEXT NOT NULL,
    manifest_sha256 TEXT NOT NULL, -- of the backup that was looked at; empty of anything else
    problems        TEXT NOT NULL, -- JSON array; empty when nothing was wrong
    PRIMARY KEY (source, what, closeness)
) STRICT, WITHOUT ROWID;

-- When somebody took a suspect backup for good; told by a signed object of the bucket.
ALTER TABLE backups ADD COLUMN accepted TEXT;
