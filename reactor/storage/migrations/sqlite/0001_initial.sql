-- One row per appended batch, inserted by one statement. `prev_ts` is the `last_ts` of the row before (0 for the first).
CREATE TABLE log (
    last_ts  INTEGER PRIMARY KEY,
    prev_ts  INTEGER NOT NULL,
    first_ts INTEGER NOT NULL,
    records  INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    body     BLOB NOT NULL
);

-- The latest folded version of every document.
CREATE TABLE documents (
    table_id INTEGER NOT NULL,
    id       TEXT NOT NULL,
    ts       INTEGER NOT NULL,
    value    BLOB NOT NULL,
    PRIMARY KEY (table_id, id)
) WITHOUT ROWID;

-- One row: the fencing token, and how far the log is trimmed and folded.
CREATE TABLE meta (
    only   INTEGER PRIMARY KEY CHECK (only = 1),
    epoch  INTEGER NOT NULL,
    floor  INTEGER NOT NULL,
    folded INTEGER NOT NULL
);
INSERT INTO meta (only, epoch, floor, folded) VALUES (1, 0, 0, 0);
