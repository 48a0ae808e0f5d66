-- Version 15 of the catalog: notices. Never edited once released.

-- What was told by each channel of notifications, and last told as what: so that nothing is told twice,
-- and its end is told, too.
CREATE TABLE notices (
    channel  TEXT NOT NULL,
    source   TEXT NOT NULL,    -- empty: the host's
    code     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    severity TEXT NOT NULL,
    text     TEXT NOT NULL,
    since    TEXT,
    stands   INTEGER NOT NULL, -- 1: told as amiss; 0: as over
    told     TEXT NOT NULL,
    changes  INTEGER NOT NULL, -- how often its beginning or end was told since `counted`
    counted  TEXT NOT NULL,
    PRIMARY KEY (channel, source, code, subject)
) STRICT, WITHOUT ROWID;

-- Test messages that hold a code, and when a person said that one arrived.
CREATE TABLE alert_tests (
    channel TEXT NOT NULL,
    code    TEXT NOT NULL,
    sent    TEXT NOT NULL,
    acked   TEXT,
    PRIMARY KEY (channel, code)
) STRICT, WITHOUT ROWID;
