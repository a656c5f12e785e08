-- Accounts, erasure and retention, kept recordings, the worker's jobs, and forwarding.

-- The account of each key. Observations have the key: a column of theirs would stand behind the body,
-- and reading it would read the body.
CREATE TABLE account_keys (
    key_id TEXT NOT NULL PRIMARY KEY,
    account TEXT
) STRICT, WITHOUT ROWID;

-- The account of the highest observation's key. Null for rows of older versions.
ALTER TABLE calls ADD COLUMN account TEXT;
ALTER TABLE chats ADD COLUMN account TEXT;
ALTER TABLE syncs ADD COLUMN account TEXT;
ALTER TABLE coverage ADD COLUMN account TEXT;
ALTER TABLE upstream_calls ADD COLUMN account TEXT;

-- An account's calls, and the agents that are an account's.
CREATE INDEX calls_account ON calls (account, agent_id);

-- A tombstone for each scope. A primary key cannot be changed, so the table is recreated.
CREATE TABLE older_erasures AS SELECT * FROM erasures;

DROP TABLE erasures;

CREATE TABLE erasures (
    entity_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    erased_at INTEGER,
    reason TEXT,
    receipt_id TEXT,
    PRIMARY KEY (entity_id, scope)
) STRICT, WITHOUT ROWID;

INSERT INTO erasures (entity_id, scope, erased_at, reason)
SELECT entity_id, 'all', erased_at, reason FROM older_erasures;

DROP TABLE older_erasures;

CREATE TABLE receipts (
    receipt_id TEXT NOT NULL PRIMARY KEY,
    action TEXT,
    scope TEXT,
    created_at INTEGER,
    author TEXT,
    reason TEXT,
    entities INTEGER,
    rows INTEGER,
    files INTEGER,
    counts TEXT,
    ids_sha256 TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE media_files (
    call_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    url TEXT,
    location TEXT,
    bytes INTEGER,
    sha256 TEXT,
    content_type TEXT,
    fetched_at INTEGER,
    state TEXT,
    attempts INTEGER,
    next_attempt_at INTEGER,
    changed_at INTEGER,
    problem TEXT,
    PRIMARY KEY (call_id, kind)
) STRICT, WITHOUT ROWID;

CREATE INDEX media_files_next ON media_files (next_attempt_at) WHERE next_attempt_at IS NOT NULL;

CREATE TABLE jobs (
    name TEXT NOT NULL PRIMARY KEY,
    started_at INTEGER,
    ended_at INTEGER,
    result TEXT,
    problem TEXT,
    failures INTEGER,
    next_run_at INTEGER,
    owner TEXT,
    lease_until INTEGER
) STRICT, WITHOUT ROWID;

-- Events that were not forwarded yet. The body is stored here too: the observation's may be dropped.
CREATE TABLE outbox (
    entity_id TEXT NOT NULL,
    body_sha256 TEXT NOT NULL,
    target TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    signature TEXT,
    body BLOB,
    state TEXT,
    attempts INTEGER,
    next_attempt_at INTEGER,
    problem TEXT,
    PRIMARY KEY (entity_id, body_sha256, target, received_at)
) STRICT;

CREATE INDEX outbox_next ON outbox (target, next_attempt_at) WHERE next_attempt_at IS NOT NULL;
