-- What is at rest is checked where it is read. Rows from before have no checksum, and are taken as they are.
ALTER TABLE log ADD COLUMN checksum INTEGER;
ALTER TABLE documents ADD COLUMN checksum INTEGER;

-- How many documents a table holds, and the sum of their checksums: a row that is not found has none to be wrong.
-- Only for tables that were empty when this was introduced.
CREATE TABLE totals (
    table_id  INTEGER PRIMARY KEY,
    documents INTEGER NOT NULL,
    checksums INTEGER NOT NULL
);

-- `ended` is where the log ended at some earlier moment, so that missing rows at its end are noticed. `seal` tells
-- whether the row is as it was written: all of it, exclusive-ored (`|` less `&`).
ALTER TABLE meta ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
ALTER TABLE meta ADD COLUMN seal INTEGER NOT NULL DEFAULT 0;
CREATE VIEW sealed (seal) AS
    WITH one (a) AS (SELECT (epoch | floor) - (epoch & floor) FROM meta),
    two (b) AS (SELECT (folded | ended) - (folded & ended) FROM meta)
    SELECT (a | b) - (a & b) FROM one, two;
CREATE TRIGGER meta_seal AFTER UPDATE OF epoch, floor, folded, ended ON meta BEGIN UPDATE meta SET seal = (SELECT seal FROM sealed); END;
UPDATE meta SET ended = (SELECT coalesce(max(last_ts), 0) FROM log);
