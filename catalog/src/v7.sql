-- Version 7 of the catalog: what signed documents name. Never edited once released.

-- Manifests that signed documents of a source name: they were there when these were signed. A catalog
-- that is made anew keeps what an operator has forgotten of them.
CREATE TABLE named (
    source          TEXT NOT NULL,
    backup          TEXT NOT NULL,
    manifest_sha256 TEXT NOT NULL,
    named_by        TEXT NOT NULL,    -- the backup or the drill that names it, in words
    forgotten       INTEGER NOT NULL, -- 1 where an operator has said that it may be gone
    PRIMARY KEY (source, backup, manifest_sha256)
) STRICT, WITHOUT ROWID;

-- A second copy: where the two differ the catalog is damaged, and nothing is missed for its sake.
CREATE INDEX named_twice ON named (backup, manifest_sha256, source);
