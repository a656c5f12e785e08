-- What people say about calls, and what they keep and share of them. What was removed stays as a row
-- without content, so that a copy or mirror learns of it.

CREATE TABLE annotations (
    entity_id TEXT NOT NULL,
    annotation_id TEXT NOT NULL,
    kind TEXT,
    track TEXT,
    position INTEGER,
    name TEXT,
    value TEXT,
    author TEXT,
    created_at INTEGER,
    changed_at INTEGER,
    removed_at INTEGER,
    PRIMARY KEY (entity_id, annotation_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX annotations_kind ON annotations (kind, name);

CREATE TABLE share_links (
    call_id TEXT NOT NULL,
    link_id TEXT NOT NULL,
    is_masked INTEGER,
    author TEXT,
    created_at INTEGER,
    expires_at INTEGER,
    changed_at INTEGER,
    revoked_at INTEGER,
    times_opened INTEGER,
    last_opened_at INTEGER,
    PRIMARY KEY (call_id, link_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE saved_views (
    view_id TEXT NOT NULL PRIMARY KEY,
    name TEXT,
    query TEXT,
    author TEXT,
    is_shared INTEGER,
    created_at INTEGER,
    changed_at INTEGER,
    removed_at INTEGER
) STRICT, WITHOUT ROWID;

-- An account's newest calls are sorted by it, as by the indexes of agent, direction and reason. Its
-- agents are in the index too.
-- PostgreSQL has none of them.
DROP INDEX IF EXISTS calls_account;
CREATE INDEX calls_account ON calls (
    account, coalesce(start_timestamp, nullif(observed_at, 0)), agent_id
);
