-- Version 10 of the catalog: the log of any engine. Never edited once released.

-- A row for each lineage of a source's log, which is opaque here.
CREATE TABLE lineages (
    id         INTEGER PRIMARY KEY,
    source     TEXT NOT NULL,
    lineage    TEXT NOT NULL, -- as it stands in the keys of the bucket
    trust      TEXT NOT NULL,
    generation INTEGER NOT NULL, -- counts its changes, so that two processes do not mix theirs
    notes      TEXT NOT NULL,    -- JSON: what only its engine knows
    UNIQUE (source, lineage)
) STRICT;
INSERT INTO lineages (id, source, lineage, trust, generation, notes)
    SELECT id, source, printf('%016x-%08x', system_id, timeline), trust, generation, notes FROM logs;

-- Its pieces in order, 1,024 of 60 bytes in each block but the last.
CREATE TABLE lineage_blocks (
    log     INTEGER NOT NULL REFERENCES lineages (id) ON DELETE CASCADE,
    n       INTEGER NOT NULL, -- from 0, without gaps
    entries BLOB NOT NULL,
    PRIMARY KEY (log, n)
) STRICT;
INSERT INTO lineage_blocks (log, n, entries) SELECT log, n, entries FROM log_blocks;

DROP TABLE log_blocks;
DROP TABLE logs;
ALTER TABLE lineages RENAME TO logs;
ALTER TABLE lineage_blocks RENAME TO log_blocks;
