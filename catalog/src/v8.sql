-- Version 8 of the catalog: what only a newer drctl reads. Never edited once released.

-- Backups whose manifests are signed by a trusted key, and written by a newer drctl than this one.
CREATE TABLE newer (
    source TEXT NOT NULL,
    backup TEXT NOT NULL,
    why    TEXT NOT NULL, -- in words, with what to install
    PRIMARY KEY (source, backup)
) STRICT, WITHOUT ROWID;
