-- Version 14 of the catalog: orphans. Never edited once released.

-- Attempts without a manifest, and when a look that was about to remove something saw each first. A
-- catalog that is made anew begins again: then they stay for longer.
CREATE TABLE orphans (
    source TEXT NOT NULL,
    backup TEXT NOT NULL,
    first  TEXT NOT NULL,
    PRIMARY KEY (source, backup)
) STRICT, WITHOUT ROWID;
