-- Version 16 of the catalog: documents. Never edited once released.

-- Signed objects beside backups and pieces of log that this host has read and believed: acceptances, drills,
-- tombstones, log floors, notes and indexes. Without it nobody would notice that one is gone.
CREATE TABLE documents (
    source TEXT NOT NULL,
    key    TEXT NOT NULL,
    PRIMARY KEY (source, key)
) STRICT, WITHOUT ROWID;
