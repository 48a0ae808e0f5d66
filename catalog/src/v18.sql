-- Version 18 of the catalog: reading. Never edited once released.

-- Backups whose stored bytes are being read, a part in each run: how far that is. Without it they are read from
-- their beginning.
CREATE TABLE reading (
    source          TEXT NOT NULL,
    backup          TEXT NOT NULL,
    manifest_sha256 TEXT NOT NULL,
    objects         INTEGER NOT NULL,
    bytes           INTEGER NOT NULL,
    problems        TEXT NOT NULL,
    PRIMARY KEY (source, backup)
) STRICT, WITHOUT ROWID;
