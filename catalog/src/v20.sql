-- Version 20 of the catalog: what is remembered of the tables in dumps. Never edited once released.

-- Of the last backups of a source, by digests of the tables' names: the next one is compared with that of the newest
-- good one. It is not in the bucket in clear text, so a catalog that is made anew has it again after the next backup.
CREATE TABLE table_marks (
    id     INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    backup TEXT NOT NULL,
    marks  BLOB NOT NULL,
    UNIQUE (source, backup)
) STRICT;
