-- The first schema. Never edited once shipped: a change is a new file with the next number.
--
-- Every key begins with call_id (chat_id, entity_id), there are no serial keys and nothing here
-- reads a clock, so that the same tables can be distributed by call. Timestamps are integer
-- milliseconds since the epoch, booleans 0 or 1, JSON is text, enums are open text.

-- The body stands last: reading the other columns of a row does not touch its overflow pages.
CREATE TABLE observations (
    entity_id TEXT NOT NULL,
    body_sha256 TEXT NOT NULL,
    source TEXT NOT NULL,
    entity_type TEXT,
    event TEXT,
    level INTEGER,
    observed_at INTEGER,
    first_received_at INTEGER,
    last_received_at INTEGER,
    times_received INTEGER,
    key_id TEXT,
    body_bytes INTEGER,
    problem TEXT,
    body BLOB,
    PRIMARY KEY (entity_id, body_sha256, source)
) STRICT;

-- Quarantined bodies are few; counting them must not read the rest.
CREATE INDEX observations_problem ON observations (entity_id) WHERE problem IS NOT NULL;

-- Stays narrow: long text and JSON have tables of their own, since a scan reads every byte of a row.
CREATE TABLE calls (
    call_id TEXT NOT NULL PRIMARY KEY,
    call_type TEXT,
    call_status TEXT,
    direction TEXT,
    agent_id TEXT,
    agent_version INTEGER,
    agent_name TEXT,
    agent_tag TEXT,
    from_number TEXT,
    to_number TEXT,
    start_timestamp INTEGER,
    end_timestamp INTEGER,
    duration_ms INTEGER,
    disconnection_reason TEXT,
    transfer_destination TEXT,
    transfer_end_timestamp INTEGER,
    combined_cost_cents REAL,
    cost_is_final INTEGER,
    total_duration_seconds REAL,
    total_duration_unit_price_cents_per_second REAL,
    llm_requests REAL,
    llm_tokens_average REAL,
    data_storage_setting TEXT,
    opt_in_signed_url INTEGER,
    twilio_call_sid TEXT,
    batch_call_id TEXT,
    extra TEXT,
    level INTEGER,
    observed_at INTEGER,
    updated_at INTEGER
) STRICT;

CREATE INDEX calls_start_timestamp ON calls (start_timestamp);
CREATE INDEX calls_agent ON calls (agent_id, start_timestamp);
CREATE INDEX calls_from_number ON calls (from_number);
CREATE INDEX calls_updated_at ON calls (updated_at);
-- What the call log is sorted, filtered and counted by: these stand in its views as call_time(c) and
-- customer(c), in the same words.
CREATE INDEX calls_at ON calls (coalesce(start_timestamp, nullif(observed_at, 0)));
CREATE INDEX calls_agent_name ON calls (
    agent_name, coalesce(start_timestamp, nullif(observed_at, 0))
);
CREATE INDEX calls_direction ON calls (
    direction, coalesce(start_timestamp, nullif(observed_at, 0))
);
CREATE INDEX calls_disconnection_reason ON calls (
    disconnection_reason, coalesce(start_timestamp, nullif(observed_at, 0))
);
CREATE INDEX calls_customer ON calls (
    CASE direction WHEN 'inbound' THEN from_number ELSE to_number END,
    coalesce(start_timestamp, nullif(observed_at, 0))
);
-- Calls that somebody may have to look at are few among the finished ones.
CREATE INDEX calls_unfinished ON calls (level, updated_at) WHERE level < 3;

CREATE TABLE analyses (
    call_id TEXT NOT NULL PRIMARY KEY REFERENCES calls (call_id),
    call_summary TEXT,
    user_sentiment TEXT,
    call_successful INTEGER,
    in_voicemail INTEGER,
    custom_analysis_data TEXT,
    extra TEXT
) STRICT;

CREATE TABLE transcripts (
    call_id TEXT NOT NULL PRIMARY KEY REFERENCES calls (call_id),
    transcript TEXT
) STRICT;

-- The name of the content table is quoted so that Datasette recognises the index as its own.
CREATE VIRTUAL TABLE transcripts_fts USING fts5 (transcript, content="transcripts");

CREATE TRIGGER transcripts_fts_insert AFTER INSERT ON transcripts BEGIN
    INSERT INTO transcripts_fts (rowid, transcript) VALUES (new.rowid, new.transcript);
END;

CREATE TRIGGER transcripts_fts_delete AFTER DELETE ON transcripts BEGIN
    INSERT INTO transcripts_fts (transcripts_fts, rowid, transcript)
    VALUES ('delete', old.rowid, old.transcript);
END;

CREATE TRIGGER transcripts_fts_update AFTER UPDATE ON transcripts
WHEN old.transcript IS NOT new.transcript BEGIN
    INSERT INTO transcripts_fts (transcripts_fts, rowid, transcript)
    VALUES ('delete', old.rowid, old.transcript);
    INSERT INTO transcripts_fts (rowid, transcript) VALUES (new.rowid, new.transcript);
END;

-- Small rows of one call lie side by side without a second copy of their long key.
CREATE TABLE utterances (
    call_id TEXT NOT NULL REFERENCES calls (call_id),
    track TEXT NOT NULL,
    position INTEGER NOT NULL,
    role TEXT,
    content TEXT,
    start_seconds REAL,
    end_seconds REAL,
    word_count INTEGER,
    metadata TEXT,
    PRIMARY KEY (call_id, track, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE utterance_words (
    call_id TEXT NOT NULL REFERENCES calls (call_id),
    track TEXT NOT NULL,
    position INTEGER NOT NULL,
    words TEXT,
    PRIMARY KEY (call_id, track, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE tool_calls (
    call_id TEXT NOT NULL REFERENCES calls (call_id),
    track TEXT NOT NULL,
    position INTEGER NOT NULL,
    tool_call_id TEXT,
    name TEXT,
    type TEXT,
    arguments TEXT,
    invoked_at_seconds REAL,
    after_utterance INTEGER,
    after_word INTEGER,
    result_position INTEGER,
    result TEXT,
    successful INTEGER,
    result_at_seconds REAL,
    duration_ms INTEGER,
    PRIMARY KEY (call_id, track, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX tool_calls_name ON tool_calls (name);

CREATE TABLE node_transitions (
    call_id TEXT NOT NULL REFERENCES calls (call_id),
    track TEXT NOT NULL,
    position INTEGER NOT NULL,
    former_node_id TEXT,
    former_node_name TEXT,
    new_node_id TEXT,
    new_node_name TEXT,
    transition_type TEXT,
    time_seconds REAL,
    PRIMARY KEY (call_id, track, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE markers (
    call_id TEXT NOT NULL REFERENCES calls (call_id),
    track TEXT NOT NULL,
    position INTEGER NOT NULL,
    role TEXT,
    time_seconds REAL,
    body TEXT,
    PRIMARY KEY (call_id, track, position)
) STRICT, WITHOUT ROWID;

-- (call_id, product) is not unique: a transferred leg repeats products.
CREATE TABLE product_costs (
    call_id TEXT NOT NULL REFERENCES calls (call_id),
    position INTEGER NOT NULL,
    product TEXT,
    cost_cents REAL,
    unit_price_cents_per_second REAL,
    is_transfer_leg_cost INTEGER,
    PRIMARY KEY (call_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE latencies (
    call_id TEXT NOT NULL REFERENCES calls (call_id),
    component TEXT NOT NULL,
    p50_ms REAL,
    p90_ms REAL,
    p95_ms REAL,
    p99_ms REAL,
    min_ms REAL,
    max_ms REAL,
    num REAL,
    samples_ms TEXT,
    PRIMARY KEY (call_id, component)
) STRICT, WITHOUT ROWID;

CREATE TABLE attributes (
    call_id TEXT NOT NULL REFERENCES calls (call_id),
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT,
    value_type TEXT,
    PRIMARY KEY (call_id, source, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX attributes_value ON attributes (source, name, value);

CREATE TABLE media (
    call_id TEXT NOT NULL REFERENCES calls (call_id),
    kind TEXT NOT NULL,
    url TEXT,
    PRIMARY KEY (call_id, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE transfers (
    call_id TEXT NOT NULL REFERENCES calls (call_id),
    body_sha256 TEXT NOT NULL,
    event TEXT,
    observed_at INTEGER,
    destination TEXT,
    option TEXT,
    PRIMARY KEY (call_id, body_sha256)
) STRICT, WITHOUT ROWID;

CREATE TABLE call_metrics (
    call_id TEXT NOT NULL PRIMARY KEY REFERENCES calls (call_id),
    agent_talk_seconds REAL,
    user_talk_seconds REAL,
    silence_seconds REAL,
    turns INTEGER,
    interruptions INTEGER,
    longest_monologue_seconds REAL,
    first_response_seconds REAL,
    agent_words_per_minute REAL,
    user_words_per_minute REAL,
    tool_calls INTEGER,
    failed_tool_calls INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE chats (
    chat_id TEXT NOT NULL PRIMARY KEY,
    chat_type TEXT,
    chat_status TEXT,
    agent_id TEXT,
    version INTEGER,
    agent_name TEXT,
    agent_tag TEXT,
    start_timestamp INTEGER,
    end_timestamp INTEGER,
    combined_cost_cents REAL,
    chat_summary TEXT,
    user_sentiment TEXT,
    chat_successful INTEGER,
    custom_analysis_data TEXT,
    metadata TEXT,
    retell_llm_dynamic_variables TEXT,
    collected_dynamic_variables TEXT,
    custom_attributes TEXT,
    product_costs TEXT,
    transcript TEXT,
    extra TEXT,
    level INTEGER,
    observed_at INTEGER,
    updated_at INTEGER
) STRICT;

CREATE INDEX chats_start_timestamp ON chats (start_timestamp);

CREATE TABLE chat_messages (
    chat_id TEXT NOT NULL REFERENCES chats (chat_id),
    track TEXT NOT NULL,
    position INTEGER NOT NULL,
    message_id TEXT,
    role TEXT,
    content TEXT,
    created_timestamp INTEGER,
    tool_call_id TEXT,
    name TEXT,
    type TEXT,
    arguments TEXT,
    successful INTEGER,
    extra TEXT,
    PRIMARY KEY (chat_id, track, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE disconnection_reasons (
    reason TEXT NOT NULL PRIMARY KEY,
    category TEXT,
    description TEXT
) STRICT;

-- Tombstones: a call that was erased stays erased, whatever arrives later.
CREATE TABLE erasures (
    entity_id TEXT NOT NULL PRIMARY KEY,
    erased_at INTEGER,
    reason TEXT
) STRICT;
