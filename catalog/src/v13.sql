-- Version 13 of the catalog: statements. Never edited once released.

-- What was said of a source (pins, legal holds, freezes), as far as this host has read it: without it
-- nobody would notice that the last statements are gone.
CREATE TABLE statements (
    source TEXT NOT NULL,
    n      INTEGER NOT NULL,
    sha256 TEXT NOT NULL, -- of the object
    PRIMARY KEY (source, n)
) STRICT, WITHOUT ROWID;
