-- Version 3 of the catalog: what other tools have expired. Never edited once released.

-- Backups that the bucket has a manifest of, and whose data another tool kept and does not have
-- any more. Said by that tool; forgotten when the catalog is made anew, until it is asked again.
CREATE TABLE expired (
    source TEXT NOT NULL,
    backup TEXT NOT NULL,
    at     TEXT NOT NULL, -- when that was found
    PRIMARY KEY (source, backup)
) STRICT, WITHOUT ROWID;
