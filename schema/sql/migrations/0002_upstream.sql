-- What Retell has and says beyond what the first schema was made for: things no version knew yet,
-- calls it was asked for, and how much of what it lists is here.

-- A row for each thing in a call that this version does not know. Written with the call and a function
-- of its observations like every part of it; empty for a call that holds no surprise.
CREATE TABLE unknowns (
    call_id TEXT NOT NULL REFERENCES calls (call_id),
    place TEXT NOT NULL,
    what TEXT NOT NULL,
    name TEXT NOT NULL,
    seen_at INTEGER,
    PRIMARY KEY (call_id, place, what, name)
) STRICT, WITHOUT ROWID;

-- The drift view counts and finds the first by this alone.
CREATE INDEX unknowns_name ON unknowns (place, what, name, seen_at);

CREATE TABLE chat_unknowns (
    chat_id TEXT NOT NULL REFERENCES chats (chat_id),
    place TEXT NOT NULL,
    what TEXT NOT NULL,
    name TEXT NOT NULL,
    seen_at INTEGER,
    PRIMARY KEY (chat_id, place, what, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX chat_unknowns_name ON chat_unknowns (place, what, name, seen_at);

-- Events that this version does not know are few; is_unknown_event in views.sql is this condition.
CREATE INDEX observations_unknown_event ON observations (event, observed_at) WHERE event NOT IN (
    'call_started', 'call_ended', 'call_analyzed', 'transcript_updated',
    'transfer_started', 'transfer_bridged', 'transfer_cancelled', 'transfer_ended',
    'chat_started', 'chat_ended', 'chat_analyzed',
    'call_inbound', 'chat_inbound', 'alert_triggered'
);

-- What became of asking Retell for single calls. It is told by no observation: a rebuild leaves it alone.
CREATE TABLE upstream_calls (
    call_id TEXT NOT NULL PRIMARY KEY,
    asked_at INTEGER,
    gone_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX upstream_calls_gone ON upstream_calls (call_id) WHERE gone_at IS NOT NULL;

-- How far each sync came. An empty agent_id stands for all agents, an empty until for no end.
CREATE TABLE syncs (
    agent_id TEXT NOT NULL,
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
    PRIMARY KEY (agent_id, since, until)
) STRICT, WITHOUT ROWID;

-- What Retell listed and what was here, when it was last compared.
CREATE TABLE coverage (
    day TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    agent_name TEXT,
    listed INTEGER,
    stored INTEGER,
    ended INTEGER,
    with_transcript INTEGER,
    analysed INTEGER,
    with_final_cost INTEGER,
    missing INTEGER,
    incomplete INTEGER,
    gone_upstream INTEGER,
    erased INTEGER,
    missing_call_ids TEXT,
    incomplete_call_ids TEXT,
    checked_at INTEGER,
    PRIMARY KEY (day, agent_id)
) STRICT, WITHOUT ROWID;
