-- How far each sync came, for each key: another key may be another workspace's. Rows of older versions
-- have an empty key_id. A primary key cannot be changed, so the table is recreated.
CREATE TABLE older_syncs AS SELECT * FROM syncs;

DROP TABLE syncs;

CREATE TABLE syncs (
    agent_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    since TEXT NOT NULL,
    until TEXT NOT NULL,
    next_day TEXT,
    started_at INTEGER,
    finished_at INTEGER,
    found INTEGER,
    new INTEGER,
    changed INTEGER,
    unchanged INTEGER,
    gone INTEGER,
    failed INTEGER,
    PRIMARY KEY (agent_id, key_id, since, until)
) STRICT, WITHOUT ROWID;

INSERT INTO syncs (
    agent_id, key_id, since, until, next_day, started_at, finished_at,
    found, new, changed, unchanged, gone, failed
) SELECT
    agent_id, '', since, until, next_day, started_at, finished_at,
    found, new, changed, unchanged, gone, failed
FROM older_syncs;

DROP TABLE older_syncs;

-- An agent belongs to one workspace, so the key is no part of the primary key: a new key of the same
-- workspace replaces the rows of the old one.
ALTER TABLE coverage ADD COLUMN key_id TEXT;
