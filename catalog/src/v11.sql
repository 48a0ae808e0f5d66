-- Version 11 of the catalog: findings. Never edited once released.

-- What was found amiss with a source, by whatever came upon it. Met again, it keeps its beginning.
CREATE TABLE findings (
    source  TEXT NOT NULL,
    code    TEXT NOT NULL,
    subject TEXT NOT NULL, -- which object, backup, slot or place; empty where there can be but one
    text    TEXT NOT NULL,
    hint    TEXT,
    first   TEXT NOT NULL,
    last    TEXT NOT NULL,
    settled TEXT,          -- when a check that looked for it did not find it any more
    PRIMARY KEY (source, code, subject)
) STRICT, WITHOUT ROWID;

-- Log that was refused stood among what is gone, told apart by the beginning of its key.
INSERT INTO findings (source, code, subject, text, first, last)
    SELECT source, 'log_refused', substr(key, 10), why, at, at FROM lost WHERE key LIKE 'refused: %';
DELETE FROM lost WHERE key LIKE 'refused: %';
