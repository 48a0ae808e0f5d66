-- Version 6 of the catalog: who signed, and what is gone. Never edited once released.

-- The identifier of the key that signed the manifest; empty where it was not noted yet.
ALTER TABLE backups ADD COLUMN signer TEXT NOT NULL DEFAULT '';

-- The objects that the manifest names and their bytes; null where they were not noted yet.
ALTER TABLE backups ADD COLUMN objects INTEGER;
ALTER TABLE backups ADD COLUMN object_bytes INTEGER;

-- What this host has known and the bucket does not hold any more, by the object's key. A catalog that
-- is made anew keeps it: it goes when the object is there again as it was, or an operator says so.
CREATE TABLE lost (
    source TEXT NOT NULL,
    key    TEXT NOT NULL,
    why    TEXT NOT NULL,
    at     TEXT NOT NULL, -- when that was found
    PRIMARY KEY (source, key)
) STRICT, WITHOUT ROWID;
