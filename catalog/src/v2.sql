-- Version 2 of the catalog: what was verified of clusters' logs. Never edited once released.

-- A row for each timeline of each cluster. All of it can be read anew from the bucket.
-- `trust` stands for the keys that were believed: with others it counts for nothing.
CREATE TABLE logs (
    id         INTEGER PRIMARY KEY,
    source     TEXT NOT NULL,
    system_id  INTEGER NOT NULL, -- 64 bits, as the counts of backups
    timeline   INTEGER NOT NULL,
    trust      TEXT NOT NULL,
    generation INTEGER NOT NULL, -- counts its changes, so that two processes do not mix theirs
    notes      TEXT NOT NULL,    -- JSON: its history, its restore points
    UNIQUE (source, system_id, timeline)
) STRICT;

-- Its pieces in order, 1,024 of 44 bytes in each block but the last.
CREATE TABLE log_blocks (
    log     INTEGER NOT NULL REFERENCES logs (id) ON DELETE CASCADE,
    n       INTEGER NOT NULL, -- from 0, without gaps
    entries BLOB NOT NULL,
    PRIMARY KEY (log, n)
) STRICT;
