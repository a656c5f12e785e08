CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
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
CREATE INDEX observations_problem ON observations (entity_id) WHERE problem IS NOT NULL;
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
, account TEXT) STRICT;
CREATE INDEX calls_start_timestamp ON calls (start_timestamp);
CREATE INDEX calls_agent ON calls (agent_id, start_timestamp);
CREATE INDEX calls_from_number ON calls (from_number);
CREATE INDEX calls_updated_at ON calls (updated_at);
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
, account TEXT, direction TEXT, agent_number TEXT, user_number TEXT, duration_ms INTEGER, disconnection_reason TEXT, data_storage_setting TEXT) STRICT;
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
CREATE TABLE unknowns (
    call_id TEXT NOT NULL REFERENCES calls (call_id),
    place TEXT NOT NULL,
    what TEXT NOT NULL,
    name TEXT NOT NULL,
    seen_at INTEGER,
    PRIMARY KEY (call_id, place, what, name)
) STRICT, WITHOUT ROWID;
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
CREATE INDEX observations_unknown_event ON observations (event, observed_at) WHERE event NOT IN (
    'call_started', 'call_ended', 'call_analyzed', 'transcript_updated',
    'transfer_started', 'transfer_bridged', 'transfer_cancelled', 'transfer_ended',
    'chat_started', 'chat_ended', 'chat_analyzed',
    'call_inbound', 'chat_inbound', 'alert_triggered'
);
CREATE TABLE upstream_calls (
    call_id TEXT NOT NULL PRIMARY KEY,
    asked_at INTEGER,
    gone_at INTEGER
, account TEXT) STRICT, WITHOUT ROWID;
CREATE INDEX upstream_calls_gone ON upstream_calls (call_id) WHERE gone_at IS NOT NULL;
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
    checked_at INTEGER, key_id TEXT, account TEXT,
    PRIMARY KEY (day, agent_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_hours (
    hour INTEGER NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_calls (
    hour INTEGER NOT NULL REFERENCES rollup_hours (hour) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    agent_id TEXT,
    agent_version INTEGER,
    direction TEXT,
    disconnection_reason TEXT,
    started INTEGER,
    agent_name TEXT,
    calls INTEGER,
    transferred INTEGER,
    duration_ms_sum REAL,
    duration_count INTEGER,
    cost_cents_sum REAL,
    cost_count INTEGER,
    successful_count INTEGER,
    judged_count INTEGER,
    positive_count INTEGER,
    neutral_count INTEGER,
    negative_count INTEGER,
    sentiment_count INTEGER,
    voicemail_count INTEGER,
    e2e_p50_ms_sum REAL,
    e2e_p50_count INTEGER,
    interruptions_sum INTEGER,
    interruptions_count INTEGER,
    tool_calls_sum INTEGER,
    failed_tool_calls_sum INTEGER, cost_cents_squares REAL, e2e_p50_ms_squares REAL, turns_sum INTEGER, interrupted_count INTEGER, account TEXT,
    PRIMARY KEY (hour, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_costs (
    hour INTEGER NOT NULL REFERENCES rollup_hours (hour) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    agent_id TEXT,
    agent_version INTEGER,
    direction TEXT,
    product TEXT,
    calls INTEGER,
    cost_cents_sum REAL,
    transfer_leg_cents_sum REAL, account TEXT,
    PRIMARY KEY (hour, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_latencies (
    hour INTEGER NOT NULL REFERENCES rollup_hours (hour) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    agent_id TEXT,
    agent_version INTEGER,
    direction TEXT,
    component TEXT,
    agent_name TEXT,
    calls INTEGER,
    p50_ms_sum REAL,
    p50_count INTEGER,
    p95_ms_sum REAL,
    p95_count INTEGER,
    max_ms REAL, account TEXT,
    PRIMARY KEY (hour, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_tools (
    hour INTEGER NOT NULL REFERENCES rollup_hours (hour) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    agent_id TEXT,
    agent_version INTEGER,
    direction TEXT,
    name TEXT,
    type TEXT,
    tool_calls INTEGER,
    failed INTEGER,
    without_result INTEGER,
    said_no INTEGER,
    duration_ms_sum REAL,
    duration_count INTEGER,
    longest_ms INTEGER, account TEXT,
    PRIMARY KEY (hour, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_transitions (
    hour INTEGER NOT NULL REFERENCES rollup_hours (hour) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    agent_id TEXT,
    agent_version INTEGER,
    direction TEXT,
    former_node TEXT,
    new_node TEXT,
    calls INTEGER,
    transitions INTEGER, account TEXT,
    PRIMARY KEY (hour, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_days (
    day TEXT NOT NULL PRIMARY KEY,
    since INTEGER,
    until INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_waits (
    hour INTEGER NOT NULL REFERENCES rollup_hours (hour) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    wait_ms INTEGER,
    answers INTEGER, account TEXT,
    PRIMARY KEY (hour, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_day_calls (
    day TEXT NOT NULL REFERENCES rollup_days (day) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    agent_id TEXT,
    agent_version INTEGER,
    direction TEXT,
    disconnection_reason TEXT,
    started INTEGER,
    agent_name TEXT,
    calls INTEGER,
    transferred INTEGER,
    duration_ms_sum REAL,
    duration_count INTEGER,
    cost_cents_sum REAL,
    cost_count INTEGER,
    successful_count INTEGER,
    judged_count INTEGER,
    positive_count INTEGER,
    neutral_count INTEGER,
    negative_count INTEGER,
    sentiment_count INTEGER,
    voicemail_count INTEGER,
    e2e_p50_ms_sum REAL,
    e2e_p50_count INTEGER,
    interruptions_sum INTEGER,
    interruptions_count INTEGER,
    tool_calls_sum INTEGER,
    failed_tool_calls_sum INTEGER,
    cost_cents_squares REAL,
    e2e_p50_ms_squares REAL,
    turns_sum INTEGER,
    interrupted_count INTEGER, account TEXT,
    PRIMARY KEY (day, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_day_costs (
    day TEXT NOT NULL REFERENCES rollup_days (day) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    agent_id TEXT,
    agent_version INTEGER,
    direction TEXT,
    product TEXT,
    calls INTEGER,
    cost_cents_sum REAL,
    transfer_leg_cents_sum REAL, account TEXT,
    PRIMARY KEY (day, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_day_latencies (
    day TEXT NOT NULL REFERENCES rollup_days (day) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    agent_id TEXT,
    agent_version INTEGER,
    direction TEXT,
    component TEXT,
    agent_name TEXT,
    calls INTEGER,
    p50_ms_sum REAL,
    p50_count INTEGER,
    p95_ms_sum REAL,
    p95_count INTEGER,
    max_ms REAL, account TEXT,
    PRIMARY KEY (day, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_day_tools (
    day TEXT NOT NULL REFERENCES rollup_days (day) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    agent_id TEXT,
    agent_version INTEGER,
    direction TEXT,
    name TEXT,
    type TEXT,
    tool_calls INTEGER,
    failed INTEGER,
    without_result INTEGER,
    said_no INTEGER,
    duration_ms_sum REAL,
    duration_count INTEGER,
    longest_ms INTEGER, account TEXT,
    PRIMARY KEY (day, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_day_transitions (
    day TEXT NOT NULL REFERENCES rollup_days (day) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    agent_id TEXT,
    agent_version INTEGER,
    direction TEXT,
    former_node TEXT,
    new_node TEXT,
    calls INTEGER,
    transitions INTEGER, account TEXT,
    PRIMARY KEY (day, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_day_waits (
    day TEXT NOT NULL REFERENCES rollup_days (day) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    wait_ms INTEGER,
    answers INTEGER, account TEXT,
    PRIMARY KEY (day, position)
) STRICT, WITHOUT ROWID;
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
    failed INTEGER, account TEXT,
    PRIMARY KEY (agent_id, key_id, since, until)
) STRICT, WITHOUT ROWID;
CREATE INDEX observations_open ON observations (entity_id, level, observed_at) WHERE body IS NOT NULL AND level < 3;
CREATE TABLE account_keys (
    key_id TEXT NOT NULL PRIMARY KEY,
    account TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE erasures (
    entity_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    erased_at INTEGER,
    reason TEXT,
    receipt_id TEXT,
    PRIMARY KEY (entity_id, scope)
) STRICT, WITHOUT ROWID;
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
CREATE INDEX calls_account ON calls (
    account, coalesce(start_timestamp, nullif(observed_at, 0)), agent_id
);
CREATE VIRTUAL TABLE summaries_fts USING fts5 (text, content="");
CREATE VIRTUAL TABLE characters_fts USING fts5 (text, content="", tokenize="trigram");
CREATE VIRTUAL TABLE characters_terms USING fts5vocab (characters_fts, row);
CREATE TRIGGER transcripts_search_insert AFTER INSERT ON transcripts BEGIN
    INSERT INTO characters_fts (rowid, text)
    SELECT rowid, text || '  '
    FROM (SELECT new.rowid * 3 AS rowid, new.transcript AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;
CREATE TRIGGER transcripts_search_delete AFTER DELETE ON transcripts BEGIN
    INSERT INTO characters_fts (characters_fts, rowid, text)
    SELECT 'delete', rowid, text || '  '
    FROM (SELECT old.rowid * 3 AS rowid, old.transcript AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;
CREATE TRIGGER transcripts_search_update AFTER UPDATE ON transcripts
WHEN old.transcript IS NOT new.transcript BEGIN
    INSERT INTO characters_fts (characters_fts, rowid, text)
    SELECT 'delete', rowid, text || '  '
    FROM (SELECT old.rowid * 3 AS rowid, old.transcript AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
    INSERT INTO characters_fts (rowid, text)
    SELECT rowid, text || '  '
    FROM (SELECT new.rowid * 3 AS rowid, new.transcript AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;
CREATE TRIGGER analyses_search_insert AFTER INSERT ON analyses BEGIN
    INSERT INTO summaries_fts (rowid, text)
    SELECT rowid, text
    FROM (SELECT new.rowid * 2 AS rowid, new.call_summary AS text)
    WHERE text IS NOT NULL;
    INSERT INTO characters_fts (rowid, text)
    SELECT rowid, text || '  '
    FROM (SELECT new.rowid * 3 + 1 AS rowid, new.call_summary AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;
CREATE TRIGGER analyses_search_delete AFTER DELETE ON analyses BEGIN
    INSERT INTO summaries_fts (summaries_fts, rowid, text)
    SELECT 'delete', rowid, text
    FROM (SELECT old.rowid * 2 AS rowid, old.call_summary AS text)
    WHERE text IS NOT NULL;
    INSERT INTO characters_fts (characters_fts, rowid, text)
    SELECT 'delete', rowid, text || '  '
    FROM (SELECT old.rowid * 3 + 1 AS rowid, old.call_summary AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;
CREATE TRIGGER analyses_search_update AFTER UPDATE ON analyses
WHEN old.call_summary IS NOT new.call_summary BEGIN
    INSERT INTO summaries_fts (summaries_fts, rowid, text)
    SELECT 'delete', rowid, text
    FROM (SELECT old.rowid * 2 AS rowid, old.call_summary AS text)
    WHERE text IS NOT NULL;
    INSERT INTO characters_fts (characters_fts, rowid, text)
    SELECT 'delete', rowid, text || '  '
    FROM (SELECT old.rowid * 3 + 1 AS rowid, old.call_summary AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
    INSERT INTO summaries_fts (rowid, text)
    SELECT rowid, text
    FROM (SELECT new.rowid * 2 AS rowid, new.call_summary AS text)
    WHERE text IS NOT NULL;
    INSERT INTO characters_fts (rowid, text)
    SELECT rowid, text || '  '
    FROM (SELECT new.rowid * 3 + 1 AS rowid, new.call_summary AS text)
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;
CREATE TRIGGER chats_search_insert AFTER INSERT ON chats BEGIN
    INSERT INTO summaries_fts (rowid, text)
    SELECT rowid, text
    FROM (
        SELECT
            new.rowid * 2 + 1 AS rowid,
            coalesce(new.chat_summary, '') || ' ' || coalesce(new.transcript, '') AS text
    );
    INSERT INTO characters_fts (rowid, text)
    SELECT rowid, text || '  '
    FROM (
        SELECT
            new.rowid * 3 + 2 AS rowid,
            coalesce(new.chat_summary, '') || ' ' || coalesce(new.transcript, '') AS text
    )
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;
CREATE TRIGGER chats_search_delete AFTER DELETE ON chats BEGIN
    INSERT INTO summaries_fts (summaries_fts, rowid, text)
    SELECT 'delete', rowid, text
    FROM (
        SELECT
            old.rowid * 2 + 1 AS rowid,
            coalesce(old.chat_summary, '') || ' ' || coalesce(old.transcript, '') AS text
    );
    INSERT INTO characters_fts (characters_fts, rowid, text)
    SELECT 'delete', rowid, text || '  '
    FROM (
        SELECT
            old.rowid * 3 + 2 AS rowid,
            coalesce(old.chat_summary, '') || ' ' || coalesce(old.transcript, '') AS text
    )
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;
CREATE TRIGGER chats_search_update AFTER UPDATE ON chats
WHEN old.transcript IS NOT new.transcript OR old.chat_summary IS NOT new.chat_summary BEGIN
    INSERT INTO summaries_fts (summaries_fts, rowid, text)
    SELECT 'delete', rowid, text
    FROM (
        SELECT
            old.rowid * 2 + 1 AS rowid,
            coalesce(old.chat_summary, '') || ' ' || coalesce(old.transcript, '') AS text
    );
    INSERT INTO characters_fts (characters_fts, rowid, text)
    SELECT 'delete', rowid, text || '  '
    FROM (
        SELECT
            old.rowid * 3 + 2 AS rowid,
            coalesce(old.chat_summary, '') || ' ' || coalesce(old.transcript, '') AS text
    )
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
    INSERT INTO summaries_fts (rowid, text)
    SELECT rowid, text
    FROM (
        SELECT
            new.rowid * 2 + 1 AS rowid,
            coalesce(new.chat_summary, '') || ' ' || coalesce(new.transcript, '') AS text
    );
    INSERT INTO characters_fts (rowid, text)
    SELECT rowid, text || '  '
    FROM (
        SELECT
            new.rowid * 3 + 2 AS rowid,
            coalesce(new.chat_summary, '') || ' ' || coalesce(new.transcript, '') AS text
    )
    WHERE CASE WHEN length(CAST(text AS BLOB)) > length(text) THEN text GLOB '*[฀-៿぀-ￜ𠀀-𿿿]*' END;
END;
CREATE TABLE statements (
    month TEXT NOT NULL,
    grouped_by TEXT NOT NULL,
    timezone TEXT NOT NULL,
    closed_at INTEGER,
    sums TEXT,
    PRIMARY KEY (month, grouped_by, timezone)
) STRICT, WITHOUT ROWID;
CREATE TABLE alerts (
    alert_id TEXT NOT NULL PRIMARY KEY,
    rule TEXT,
    key TEXT,
    severity TEXT,
    text TEXT,
    figures TEXT,
    link TEXT,
    cause TEXT,
    opened_at INTEGER,
    seen_at INTEGER,
    changed_at INTEGER,
    resolved_at INTEGER,
    notified_at INTEGER,
    acknowledged_by TEXT,
    acknowledged_at INTEGER,
    snoozed_until INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX alerts_resolved ON alerts (resolved_at);
CREATE TABLE retell_alerts (
    entity_id TEXT NOT NULL PRIMARY KEY,
    incident_id TEXT,
    rule_id TEXT,
    name TEXT,
    metric_type TEXT,
    threshold_type TEXT,
    threshold_value REAL,
    comparator TEXT,
    frequency TEXT,
    period TEXT,
    current_value REAL,
    triggered_timestamp INTEGER,
    received_at INTEGER,
    changed_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE notifications (
    message_id TEXT NOT NULL,
    target TEXT NOT NULL,
    created_at INTEGER,
    title TEXT,
    body TEXT,
    html TEXT,
    state TEXT,
    attempts INTEGER,
    next_attempt_at INTEGER,
    sent_at INTEGER,
    problem TEXT,
    PRIMARY KEY (message_id, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX notifications_next_attempt ON notifications (next_attempt_at);
CREATE INDEX calls_open_cost ON calls (coalesce(start_timestamp, nullif(observed_at, 0)))
WHERE combined_cost_cents IS NULL OR coalesce(cost_is_final, 0) = 0;
CREATE INDEX product_costs_transfer ON product_costs (call_id) WHERE is_transfer_leg_cost = 1;
CREATE INDEX analyses_judged ON analyses (lower(trim(user_sentiment)), call_successful, call_id);
CREATE INDEX observations_key ON observations (key_id, last_received_at)
WHERE source = 'webhook' AND key_id IS NOT NULL;
CREATE INDEX calls_duration ON calls (duration_ms) WHERE duration_ms > 0;
CREATE INDEX calls_figures ON calls (
    call_id, coalesce(start_timestamp, nullif(observed_at, 0)), duration_ms, combined_cost_cents
);
CREATE INDEX chats_figures ON chats (
    coalesce(start_timestamp, nullif(observed_at, 0)), start_timestamp, observed_at, end_timestamp,
    duration_ms, combined_cost_cents, account, agent_id, version, agent_name, direction, agent_number,
    user_number, chat_type, chat_status, disconnection_reason, user_sentiment, chat_successful, chat_id
);
CREATE INDEX chats_agent ON chats (agent_id, start_timestamp, agent_name);
CREATE INDEX chats_user_number ON chats (user_number, start_timestamp) WHERE user_number IS NOT NULL;
CREATE INDEX chat_messages_tool ON chat_messages (name, chat_id)
WHERE role = 'tool_call_invocation' AND name IS NOT NULL;
CREATE INDEX tool_calls_failed ON tool_calls (call_id) WHERE track = 'session' AND successful = 0;
CREATE INDEX tool_calls_no_success ON tool_calls (call_id)
WHERE track = 'session' AND successful = 1 AND instr(result, 'false') > 0;
CREATE VIEW hourly_calls AS
WITH remaining_calls AS (
    SELECT c.* FROM (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(hour) - 1, 9223372036854775807) AS until FROM rollup_hours
    UNION ALL
    SELECT hour + 3600000, coalesce(lead(hour) OVER (ORDER BY hour) - 1, 9223372036854775807) FROM rollup_hours
    ) gap
    CROSS JOIN calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) BETWEEN gap.since AND gap.until
    UNION ALL
    SELECT c.* FROM calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) IS NULL
)
SELECT hour, agent_id, agent_version, direction, disconnection_reason, started, agent_name, calls, transferred, duration_ms_sum, duration_count, cost_cents_sum, cost_count, successful_count, judged_count, positive_count, neutral_count, negative_count, sentiment_count, voicemail_count, e2e_p50_ms_sum, e2e_p50_count, interruptions_sum, interruptions_count, tool_calls_sum, failed_tool_calls_sum, cost_cents_squares, e2e_p50_ms_squares, turns_sum, interrupted_count, account FROM rollup_calls
UNION ALL
SELECT
    CAST(((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    c.disconnection_reason,
    CAST(CASE WHEN c.start_timestamp IS NOT NULL THEN 1 ELSE 0 END AS BIGINT) AS started,
    max(c.agent_name),
    CAST(count(*) AS BIGINT),
    CAST(
        count(
            CASE WHEN c.transfer_destination IS NOT NULL
                OR c.disconnection_reason IN ('call_transfer', 'transfer_bridged') THEN 1 END
        ) AS BIGINT
    ),
    -- Integers could overflow in a sum, which is an error.
    CAST(sum(CAST(c.duration_ms AS DOUBLE PRECISION)) AS DOUBLE PRECISION),
    CAST(count(c.duration_ms) AS BIGINT),
    CAST(sum(c.combined_cost_cents) AS DOUBLE PRECISION),
    CAST(count(c.combined_cost_cents) AS BIGINT),
    CAST(count(CASE WHEN a.call_successful <> 0 THEN 1 END) AS BIGINT),
    CAST(count(a.call_successful) AS BIGINT),
    -- Retell's spelling of the words drifts.
    CAST(count(CASE WHEN lower(trim(a.user_sentiment)) = 'positive' THEN 1 END) AS BIGINT),
    CAST(count(CASE WHEN lower(trim(a.user_sentiment)) = 'neutral' THEN 1 END) AS BIGINT),
    CAST(count(CASE WHEN lower(trim(a.user_sentiment)) = 'negative' THEN 1 END) AS BIGINT),
    CAST(count(a.user_sentiment) AS BIGINT),
    CAST(count(CASE WHEN a.in_voicemail <> 0 THEN 1 END) AS BIGINT),
    CAST(sum(l.p50_ms) AS DOUBLE PRECISION),
    CAST(count(l.p50_ms) AS BIGINT),
    CAST(sum(m.interruptions) AS BIGINT),
    CAST(count(m.interruptions) AS BIGINT),
    CAST(sum(m.tool_calls) AS BIGINT),
    CAST(sum(m.failed_tool_calls) AS BIGINT),
    CAST(sum(CASE WHEN abs(c.combined_cost_cents) >= 1e150 THEN 1e300 ELSE c.combined_cost_cents * c.combined_cost_cents END) AS DOUBLE PRECISION),
    CAST(sum(CASE WHEN abs(l.p50_ms) >= 1e150 THEN 1e300 ELSE l.p50_ms * l.p50_ms END) AS DOUBLE PRECISION),
    CAST(sum(m.turns) AS BIGINT),
    -- Whether there were any: 0 and null stay as they are.
    CAST(sum(CASE WHEN m.interruptions > 0 THEN 1 ELSE m.interruptions END) AS BIGINT),
    c.account
FROM remaining_calls c
LEFT JOIN analyses a ON a.call_id = c.call_id
LEFT JOIN latencies l ON l.call_id = c.call_id AND l.component = 'e2e'
LEFT JOIN call_metrics m ON m.call_id = c.call_id
GROUP BY
    ((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000), c.agent_id, c.agent_version, c.direction, c.disconnection_reason,
    CASE WHEN c.start_timestamp IS NOT NULL THEN 1 ELSE 0 END, c.account;
CREATE VIEW daily_calls AS
WITH
    remaining_calls AS (
    SELECT c.* FROM (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(hour) - 1, 9223372036854775807) AS until FROM rollup_hours
    UNION ALL
    SELECT hour + 3600000, coalesce(lead(hour) OVER (ORDER BY hour) - 1, 9223372036854775807) FROM rollup_hours
    ) gap
    CROSS JOIN calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) BETWEEN gap.since AND gap.until
    UNION ALL
    SELECT c.* FROM calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) IS NULL
),
    remaining_days AS (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(since) - 1, 9223372036854775807) AS until FROM rollup_days
    UNION ALL
    SELECT until, coalesce(lead(since) OVER (ORDER BY since) - 1, 9223372036854775807) FROM rollup_days),
    counted (hour, agent_id, agent_version, direction, disconnection_reason, started, agent_name, calls, transferred, duration_ms_sum, duration_count, cost_cents_sum, cost_count, successful_count, judged_count, positive_count, neutral_count, negative_count, sentiment_count, voicemail_count, e2e_p50_ms_sum, e2e_p50_count, interruptions_sum, interruptions_count, tool_calls_sum, failed_tool_calls_sum, cost_cents_squares, e2e_p50_ms_squares, turns_sum, interrupted_count, account) AS (SELECT
    CAST(((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    c.disconnection_reason,
    CAST(CASE WHEN c.start_timestamp IS NOT NULL THEN 1 ELSE 0 END AS BIGINT) AS started,
    max(c.agent_name),
    CAST(count(*) AS BIGINT),
    CAST(
        count(
            CASE WHEN c.transfer_destination IS NOT NULL
                OR c.disconnection_reason IN ('call_transfer', 'transfer_bridged') THEN 1 END
        ) AS BIGINT
    ),
    -- Integers could overflow in a sum, which is an error.
    CAST(sum(CAST(c.duration_ms AS DOUBLE PRECISION)) AS DOUBLE PRECISION),
    CAST(count(c.duration_ms) AS BIGINT),
    CAST(sum(c.combined_cost_cents) AS DOUBLE PRECISION),
    CAST(count(c.combined_cost_cents) AS BIGINT),
    CAST(count(CASE WHEN a.call_successful <> 0 THEN 1 END) AS BIGINT),
    CAST(count(a.call_successful) AS BIGINT),
    -- Retell's spelling of the words drifts.
    CAST(count(CASE WHEN lower(trim(a.user_sentiment)) = 'positive' THEN 1 END) AS BIGINT),
    CAST(count(CASE WHEN lower(trim(a.user_sentiment)) = 'neutral' THEN 1 END) AS BIGINT),
    CAST(count(CASE WHEN lower(trim(a.user_sentiment)) = 'negative' THEN 1 END) AS BIGINT),
    CAST(count(a.user_sentiment) AS BIGINT),
    CAST(count(CASE WHEN a.in_voicemail <> 0 THEN 1 END) AS BIGINT),
    CAST(sum(l.p50_ms) AS DOUBLE PRECISION),
    CAST(count(l.p50_ms) AS BIGINT),
    CAST(sum(m.interruptions) AS BIGINT),
    CAST(count(m.interruptions) AS BIGINT),
    CAST(sum(m.tool_calls) AS BIGINT),
    CAST(sum(m.failed_tool_calls) AS BIGINT),
    CAST(sum(CASE WHEN abs(c.combined_cost_cents) >= 1e150 THEN 1e300 ELSE c.combined_cost_cents * c.combined_cost_cents END) AS DOUBLE PRECISION),
    CAST(sum(CASE WHEN abs(l.p50_ms) >= 1e150 THEN 1e300 ELSE l.p50_ms * l.p50_ms END) AS DOUBLE PRECISION),
    CAST(sum(m.turns) AS BIGINT),
    -- Whether there were any: 0 and null stay as they are.
    CAST(sum(CASE WHEN m.interruptions > 0 THEN 1 ELSE m.interruptions END) AS BIGINT),
    c.account
FROM remaining_calls c
LEFT JOIN analyses a ON a.call_id = c.call_id
LEFT JOIN latencies l ON l.call_id = c.call_id AND l.component = 'e2e'
LEFT JOIN call_metrics m ON m.call_id = c.call_id
GROUP BY
    ((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000), c.agent_id, c.agent_version, c.direction, c.disconnection_reason,
    CASE WHEN c.start_timestamp IS NOT NULL THEN 1 ELSE 0 END, c.account)
SELECT day, agent_id, agent_version, direction, disconnection_reason, started, agent_name, calls, transferred, duration_ms_sum, duration_count, cost_cents_sum, cost_count, successful_count, judged_count, positive_count, neutral_count, negative_count, sentiment_count, voicemail_count, e2e_p50_ms_sum, e2e_p50_count, interruptions_sum, interruptions_count, tool_calls_sum, failed_tool_calls_sum, cost_cents_squares, e2e_p50_ms_squares, turns_sum, interrupted_count, account FROM rollup_day_calls
UNION ALL
SELECT strftime('%Y-%m-%d', h.hour / 1000, 'unixepoch') AS day, agent_id, agent_version, direction, disconnection_reason, started, agent_name, calls, transferred, duration_ms_sum, duration_count, cost_cents_sum, cost_count, successful_count, judged_count, positive_count, neutral_count, negative_count, sentiment_count, voicemail_count, e2e_p50_ms_sum, e2e_p50_count, interruptions_sum, interruptions_count, tool_calls_sum, failed_tool_calls_sum, cost_cents_squares, e2e_p50_ms_squares, turns_sum, interrupted_count, account
FROM remaining_days gap CROSS JOIN rollup_calls h WHERE h.hour BETWEEN gap.since AND gap.until
UNION ALL
SELECT strftime('%Y-%m-%d', h.hour / 1000, 'unixepoch') AS day, agent_id, agent_version, direction, disconnection_reason, started, agent_name, calls, transferred, duration_ms_sum, duration_count, cost_cents_sum, cost_count, successful_count, judged_count, positive_count, neutral_count, negative_count, sentiment_count, voicemail_count, e2e_p50_ms_sum, e2e_p50_count, interruptions_sum, interruptions_count, tool_calls_sum, failed_tool_calls_sum, cost_cents_squares, e2e_p50_ms_squares, turns_sum, interrupted_count, account FROM counted h;
CREATE VIEW hourly_costs AS
WITH remaining_calls AS (
    SELECT c.* FROM (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(hour) - 1, 9223372036854775807) AS until FROM rollup_hours
    UNION ALL
    SELECT hour + 3600000, coalesce(lead(hour) OVER (ORDER BY hour) - 1, 9223372036854775807) FROM rollup_hours
    ) gap
    CROSS JOIN calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) BETWEEN gap.since AND gap.until
    UNION ALL
    SELECT c.* FROM calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) IS NULL
)
SELECT hour, agent_id, agent_version, direction, product, calls, cost_cents_sum, transfer_leg_cents_sum, account FROM rollup_costs
UNION ALL
SELECT
    CAST(((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    replace(p.product, '-', '_') AS product,
    CAST(count(DISTINCT p.call_id) AS BIGINT),
    CAST(sum(p.cost_cents) AS DOUBLE PRECISION),
    CAST(sum(CASE WHEN p.is_transfer_leg_cost = 1 THEN p.cost_cents ELSE 0.0 END) AS DOUBLE PRECISION),
    c.account
FROM remaining_calls c
CROSS JOIN product_costs p
WHERE p.call_id = c.call_id
GROUP BY
    ((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000), c.agent_id, c.agent_version, c.direction, replace(p.product, '-', '_'), c.account;
CREATE VIEW daily_costs AS
WITH
    remaining_calls AS (
    SELECT c.* FROM (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(hour) - 1, 9223372036854775807) AS until FROM rollup_hours
    UNION ALL
    SELECT hour + 3600000, coalesce(lead(hour) OVER (ORDER BY hour) - 1, 9223372036854775807) FROM rollup_hours
    ) gap
    CROSS JOIN calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) BETWEEN gap.since AND gap.until
    UNION ALL
    SELECT c.* FROM calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) IS NULL
),
    remaining_days AS (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(since) - 1, 9223372036854775807) AS until FROM rollup_days
    UNION ALL
    SELECT until, coalesce(lead(since) OVER (ORDER BY since) - 1, 9223372036854775807) FROM rollup_days),
    counted (hour, agent_id, agent_version, direction, product, calls, cost_cents_sum, transfer_leg_cents_sum, account) AS (SELECT
    CAST(((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    replace(p.product, '-', '_') AS product,
    CAST(count(DISTINCT p.call_id) AS BIGINT),
    CAST(sum(p.cost_cents) AS DOUBLE PRECISION),
    CAST(sum(CASE WHEN p.is_transfer_leg_cost = 1 THEN p.cost_cents ELSE 0.0 END) AS DOUBLE PRECISION),
    c.account
FROM remaining_calls c
CROSS JOIN product_costs p
WHERE p.call_id = c.call_id
GROUP BY
    ((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000), c.agent_id, c.agent_version, c.direction, replace(p.product, '-', '_'), c.account)
SELECT day, agent_id, agent_version, direction, product, calls, cost_cents_sum, transfer_leg_cents_sum, account FROM rollup_day_costs
UNION ALL
SELECT strftime('%Y-%m-%d', h.hour / 1000, 'unixepoch') AS day, agent_id, agent_version, direction, product, calls, cost_cents_sum, transfer_leg_cents_sum, account
FROM remaining_days gap CROSS JOIN rollup_costs h WHERE h.hour BETWEEN gap.since AND gap.until
UNION ALL
SELECT strftime('%Y-%m-%d', h.hour / 1000, 'unixepoch') AS day, agent_id, agent_version, direction, product, calls, cost_cents_sum, transfer_leg_cents_sum, account FROM counted h;
CREATE VIEW hourly_latencies AS
WITH remaining_calls AS (
    SELECT c.* FROM (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(hour) - 1, 9223372036854775807) AS until FROM rollup_hours
    UNION ALL
    SELECT hour + 3600000, coalesce(lead(hour) OVER (ORDER BY hour) - 1, 9223372036854775807) FROM rollup_hours
    ) gap
    CROSS JOIN calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) BETWEEN gap.since AND gap.until
    UNION ALL
    SELECT c.* FROM calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) IS NULL
)
SELECT hour, agent_id, agent_version, direction, component, agent_name, calls, p50_ms_sum, p50_count, p95_ms_sum, p95_count, max_ms, account FROM rollup_latencies
UNION ALL
SELECT
    CAST(((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    l.component,
    max(c.agent_name),
    CAST(count(*) AS BIGINT),
    CAST(sum(l.p50_ms) AS DOUBLE PRECISION),
    CAST(count(l.p50_ms) AS BIGINT),
    CAST(sum(l.p95_ms) AS DOUBLE PRECISION),
    CAST(count(l.p95_ms) AS BIGINT),
    CAST(max(l.max_ms) AS DOUBLE PRECISION),
    c.account
FROM remaining_calls c
CROSS JOIN latencies l
WHERE l.call_id = c.call_id
GROUP BY
    ((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000), c.agent_id, c.agent_version, c.direction, l.component, c.account;
CREATE VIEW daily_latencies AS
WITH
    remaining_calls AS (
    SELECT c.* FROM (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(hour) - 1, 9223372036854775807) AS until FROM rollup_hours
    UNION ALL
    SELECT hour + 3600000, coalesce(lead(hour) OVER (ORDER BY hour) - 1, 9223372036854775807) FROM rollup_hours
    ) gap
    CROSS JOIN calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) BETWEEN gap.since AND gap.until
    UNION ALL
    SELECT c.* FROM calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) IS NULL
),
    remaining_days AS (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(since) - 1, 9223372036854775807) AS until FROM rollup_days
    UNION ALL
    SELECT until, coalesce(lead(since) OVER (ORDER BY since) - 1, 9223372036854775807) FROM rollup_days),
    counted (hour, agent_id, agent_version, direction, component, agent_name, calls, p50_ms_sum, p50_count, p95_ms_sum, p95_count, max_ms, account) AS (SELECT
    CAST(((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    l.component,
    max(c.agent_name),
    CAST(count(*) AS BIGINT),
    CAST(sum(l.p50_ms) AS DOUBLE PRECISION),
    CAST(count(l.p50_ms) AS BIGINT),
    CAST(sum(l.p95_ms) AS DOUBLE PRECISION),
    CAST(count(l.p95_ms) AS BIGINT),
    CAST(max(l.max_ms) AS DOUBLE PRECISION),
    c.account
FROM remaining_calls c
CROSS JOIN latencies l
WHERE l.call_id = c.call_id
GROUP BY
    ((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000), c.agent_id, c.agent_version, c.direction, l.component, c.account)
SELECT day, agent_id, agent_version, direction, component, agent_name, calls, p50_ms_sum, p50_count, p95_ms_sum, p95_count, max_ms, account FROM rollup_day_latencies
UNION ALL
SELECT strftime('%Y-%m-%d', h.hour / 1000, 'unixepoch') AS day, agent_id, agent_version, direction, component, agent_name, calls, p50_ms_sum, p50_count, p95_ms_sum, p95_count, max_ms, account
FROM remaining_days gap CROSS JOIN rollup_latencies h WHERE h.hour BETWEEN gap.since AND gap.until
UNION ALL
SELECT strftime('%Y-%m-%d', h.hour / 1000, 'unixepoch') AS day, agent_id, agent_version, direction, component, agent_name, calls, p50_ms_sum, p50_count, p95_ms_sum, p95_count, max_ms, account FROM counted h;
CREATE VIEW hourly_tools AS
WITH remaining_calls AS (
    SELECT c.* FROM (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(hour) - 1, 9223372036854775807) AS until FROM rollup_hours
    UNION ALL
    SELECT hour + 3600000, coalesce(lead(hour) OVER (ORDER BY hour) - 1, 9223372036854775807) FROM rollup_hours
    ) gap
    CROSS JOIN calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) BETWEEN gap.since AND gap.until
    UNION ALL
    SELECT c.* FROM calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) IS NULL
)
SELECT hour, agent_id, agent_version, direction, name, type, tool_calls, failed, without_result, said_no, duration_ms_sum, duration_count, longest_ms, account FROM rollup_tools
UNION ALL
SELECT
    CAST(((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    t.name,
    t.type,
    CAST(count(*) AS BIGINT),
    CAST(count(CASE WHEN t.successful = 0 THEN 1 END) AS BIGINT),
    CAST(count(CASE WHEN t.result_position IS NULL THEN 1 END) AS BIGINT),
    CAST(
        count(
            CASE WHEN t.successful = 1 AND json_valid(t.result)
                THEN CASE WHEN json_type(t.result, '$.success') = 'false' THEN 1 END
            END
        ) AS BIGINT
    ),
    CAST(sum(CAST(t.duration_ms AS DOUBLE PRECISION)) AS DOUBLE PRECISION),
    CAST(count(t.duration_ms) AS BIGINT),
    CAST(max(t.duration_ms) AS BIGINT),
    c.account
FROM remaining_calls c
CROSS JOIN tool_calls t
WHERE t.call_id = c.call_id AND t.track = 'session'
    -- A result without an invocation has no tool name.
    AND (t.result_position IS NULL OR t.result_position <> t.position)
GROUP BY
    ((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000), c.agent_id, c.agent_version, c.direction, t.name, t.type, c.account;
CREATE VIEW daily_tools AS
WITH
    remaining_calls AS (
    SELECT c.* FROM (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(hour) - 1, 9223372036854775807) AS until FROM rollup_hours
    UNION ALL
    SELECT hour + 3600000, coalesce(lead(hour) OVER (ORDER BY hour) - 1, 9223372036854775807) FROM rollup_hours
    ) gap
    CROSS JOIN calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) BETWEEN gap.since AND gap.until
    UNION ALL
    SELECT c.* FROM calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) IS NULL
),
    remaining_days AS (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(since) - 1, 9223372036854775807) AS until FROM rollup_days
    UNION ALL
    SELECT until, coalesce(lead(since) OVER (ORDER BY since) - 1, 9223372036854775807) FROM rollup_days),
    counted (hour, agent_id, agent_version, direction, name, type, tool_calls, failed, without_result, said_no, duration_ms_sum, duration_count, longest_ms, account) AS (SELECT
    CAST(((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    t.name,
    t.type,
    CAST(count(*) AS BIGINT),
    CAST(count(CASE WHEN t.successful = 0 THEN 1 END) AS BIGINT),
    CAST(count(CASE WHEN t.result_position IS NULL THEN 1 END) AS BIGINT),
    CAST(
        count(
            CASE WHEN t.successful = 1 AND json_valid(t.result)
                THEN CASE WHEN json_type(t.result, '$.success') = 'false' THEN 1 END
            END
        ) AS BIGINT
    ),
    CAST(sum(CAST(t.duration_ms AS DOUBLE PRECISION)) AS DOUBLE PRECISION),
    CAST(count(t.duration_ms) AS BIGINT),
    CAST(max(t.duration_ms) AS BIGINT),
    c.account
FROM remaining_calls c
CROSS JOIN tool_calls t
WHERE t.call_id = c.call_id AND t.track = 'session'
    -- A result without an invocation has no tool name.
    AND (t.result_position IS NULL OR t.result_position <> t.position)
GROUP BY
    ((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000), c.agent_id, c.agent_version, c.direction, t.name, t.type, c.account)
SELECT day, agent_id, agent_version, direction, name, type, tool_calls, failed, without_result, said_no, duration_ms_sum, duration_count, longest_ms, account FROM rollup_day_tools
UNION ALL
SELECT strftime('%Y-%m-%d', h.hour / 1000, 'unixepoch') AS day, agent_id, agent_version, direction, name, type, tool_calls, failed, without_result, said_no, duration_ms_sum, duration_count, longest_ms, account
FROM remaining_days gap CROSS JOIN rollup_tools h WHERE h.hour BETWEEN gap.since AND gap.until
UNION ALL
SELECT strftime('%Y-%m-%d', h.hour / 1000, 'unixepoch') AS day, agent_id, agent_version, direction, name, type, tool_calls, failed, without_result, said_no, duration_ms_sum, duration_count, longest_ms, account FROM counted h;
CREATE VIEW hourly_transitions AS
WITH remaining_calls AS (
    SELECT c.* FROM (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(hour) - 1, 9223372036854775807) AS until FROM rollup_hours
    UNION ALL
    SELECT hour + 3600000, coalesce(lead(hour) OVER (ORDER BY hour) - 1, 9223372036854775807) FROM rollup_hours
    ) gap
    CROSS JOIN calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) BETWEEN gap.since AND gap.until
    UNION ALL
    SELECT c.* FROM calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) IS NULL
)
SELECT hour, agent_id, agent_version, direction, former_node, new_node, calls, transitions, account FROM rollup_transitions
UNION ALL
SELECT
    CAST(((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    coalesce(n.former_node_name, n.former_node_id) AS former_node,
    coalesce(n.new_node_name, n.new_node_id) AS new_node,
    CAST(count(DISTINCT n.call_id) AS BIGINT),
    CAST(count(*) AS BIGINT),
    c.account
FROM remaining_calls c
CROSS JOIN node_transitions n
WHERE n.call_id = c.call_id AND n.track = 'session'
GROUP BY
    ((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000), c.agent_id, c.agent_version, c.direction,
    coalesce(n.former_node_name, n.former_node_id), coalesce(n.new_node_name, n.new_node_id),
    c.account;
CREATE VIEW daily_transitions AS
WITH
    remaining_calls AS (
    SELECT c.* FROM (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(hour) - 1, 9223372036854775807) AS until FROM rollup_hours
    UNION ALL
    SELECT hour + 3600000, coalesce(lead(hour) OVER (ORDER BY hour) - 1, 9223372036854775807) FROM rollup_hours
    ) gap
    CROSS JOIN calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) BETWEEN gap.since AND gap.until
    UNION ALL
    SELECT c.* FROM calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) IS NULL
),
    remaining_days AS (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(since) - 1, 9223372036854775807) AS until FROM rollup_days
    UNION ALL
    SELECT until, coalesce(lead(since) OVER (ORDER BY since) - 1, 9223372036854775807) FROM rollup_days),
    counted (hour, agent_id, agent_version, direction, former_node, new_node, calls, transitions, account) AS (SELECT
    CAST(((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    coalesce(n.former_node_name, n.former_node_id) AS former_node,
    coalesce(n.new_node_name, n.new_node_id) AS new_node,
    CAST(count(DISTINCT n.call_id) AS BIGINT),
    CAST(count(*) AS BIGINT),
    c.account
FROM remaining_calls c
CROSS JOIN node_transitions n
WHERE n.call_id = c.call_id AND n.track = 'session'
GROUP BY
    ((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000), c.agent_id, c.agent_version, c.direction,
    coalesce(n.former_node_name, n.former_node_id), coalesce(n.new_node_name, n.new_node_id),
    c.account)
SELECT day, agent_id, agent_version, direction, former_node, new_node, calls, transitions, account FROM rollup_day_transitions
UNION ALL
SELECT strftime('%Y-%m-%d', h.hour / 1000, 'unixepoch') AS day, agent_id, agent_version, direction, former_node, new_node, calls, transitions, account
FROM remaining_days gap CROSS JOIN rollup_transitions h WHERE h.hour BETWEEN gap.since AND gap.until
UNION ALL
SELECT strftime('%Y-%m-%d', h.hour / 1000, 'unixepoch') AS day, agent_id, agent_version, direction, former_node, new_node, calls, transitions, account FROM counted h;
CREATE VIEW hourly_waits AS
WITH remaining_calls AS (
    SELECT c.* FROM (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(hour) - 1, 9223372036854775807) AS until FROM rollup_hours
    UNION ALL
    SELECT hour + 3600000, coalesce(lead(hour) OVER (ORDER BY hour) - 1, 9223372036854775807) FROM rollup_hours
    ) gap
    CROSS JOIN calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) BETWEEN gap.since AND gap.until
    UNION ALL
    SELECT c.* FROM calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) IS NULL
)
SELECT hour, wait_ms, answers, account FROM rollup_waits
UNION ALL
SELECT
    CAST(((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000) AS BIGINT) AS hour,
    CAST(CAST(j.value AS BIGINT) / CASE WHEN j.value < 1000 THEN 10 WHEN j.value < 10000 THEN 100 ELSE 1000 END * CASE WHEN j.value < 1000 THEN 10 WHEN j.value < 10000 THEN 100 ELSE 1000 END + CASE WHEN j.value < 1000 THEN 10 WHEN j.value < 10000 THEN 100 ELSE 1000 END / 2 AS BIGINT) AS wait_ms,
    CAST(count(*) AS BIGINT),
    c.account
FROM remaining_calls c
CROSS JOIN latencies l
CROSS JOIN json_each(CASE WHEN json_valid(l.samples_ms) THEN l.samples_ms ELSE '[]' END) j
WHERE l.call_id = c.call_id AND l.component = 'e2e' AND j.type IN ('integer', 'real')
GROUP BY ((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000), wait_ms, c.account;
CREATE VIEW daily_waits AS
WITH
    remaining_calls AS (
    SELECT c.* FROM (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(hour) - 1, 9223372036854775807) AS until FROM rollup_hours
    UNION ALL
    SELECT hour + 3600000, coalesce(lead(hour) OVER (ORDER BY hour) - 1, 9223372036854775807) FROM rollup_hours
    ) gap
    CROSS JOIN calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) BETWEEN gap.since AND gap.until
    UNION ALL
    SELECT c.* FROM calls c WHERE coalesce(c.start_timestamp, nullif(c.observed_at, 0)) IS NULL
),
    remaining_days AS (
    SELECT -9223372036854775807 - 1 AS since, coalesce(min(since) - 1, 9223372036854775807) AS until FROM rollup_days
    UNION ALL
    SELECT until, coalesce(lead(since) OVER (ORDER BY since) - 1, 9223372036854775807) FROM rollup_days),
    counted (hour, wait_ms, answers, account) AS (SELECT
    CAST(((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000) AS BIGINT) AS hour,
    CAST(CAST(j.value AS BIGINT) / CASE WHEN j.value < 1000 THEN 10 WHEN j.value < 10000 THEN 100 ELSE 1000 END * CASE WHEN j.value < 1000 THEN 10 WHEN j.value < 10000 THEN 100 ELSE 1000 END + CASE WHEN j.value < 1000 THEN 10 WHEN j.value < 10000 THEN 100 ELSE 1000 END / 2 AS BIGINT) AS wait_ms,
    CAST(count(*) AS BIGINT),
    c.account
FROM remaining_calls c
CROSS JOIN latencies l
CROSS JOIN json_each(CASE WHEN json_valid(l.samples_ms) THEN l.samples_ms ELSE '[]' END) j
WHERE l.call_id = c.call_id AND l.component = 'e2e' AND j.type IN ('integer', 'real')
GROUP BY ((coalesce(c.start_timestamp, nullif(c.observed_at, 0))) / 3600000 * 3600000), wait_ms, c.account)
SELECT day, wait_ms, answers, account FROM rollup_day_waits
UNION ALL
SELECT strftime('%Y-%m-%d', h.hour / 1000, 'unixepoch') AS day, wait_ms, answers, account
FROM remaining_days gap CROSS JOIN rollup_waits h WHERE h.hour BETWEEN gap.since AND gap.until
UNION ALL
SELECT strftime('%Y-%m-%d', h.hour / 1000, 'unixepoch') AS day, wait_ms, answers, account FROM counted h;
CREATE VIEW call_log AS
SELECT
    c.call_id,
    strftime('%Y-%m-%dT%H:%M:%SZ', c.at / 1000, 'unixepoch') AS started_at,
    c.agent_name AS agent,
    c.direction,
    CASE c.direction WHEN 'inbound' THEN c.from_number ELSE c.to_number END AS who,
    -- Of one width below ten hours, so that text compares as time does.
    CASE WHEN c.duration_ms IS NOT NULL
        THEN printf(
            '%d:%02d:%02d',
            c.duration_ms / 3600000, c.duration_ms / 60000 % 60, c.duration_ms / 1000 % 60
        )
    END AS duration,
    c.call_status AS status,
    c.disconnection_reason AS outcome,
    (SELECT a.call_successful FROM analyses a WHERE a.call_id = c.call_id) AS success,
    (SELECT a.user_sentiment FROM analyses a WHERE a.call_id = c.call_id) AS sentiment,
    CAST(round(c.combined_cost_cents / 100.0, 4) AS DOUBLE PRECISION) AS cost_dollars,
    (
        SELECT CASE WHEN length(a.call_summary) > 120
            THEN substr(a.call_summary, 1, 119) || '…' ELSE a.call_summary
        END
        FROM analyses a
        WHERE a.call_id = c.call_id
    ) AS summary,
    c.account,
    CAST(c.duration_ms / 1000.0 AS DOUBLE PRECISION) AS duration_seconds,
    -- Not CAST, so that ORDER BY uses the index on this expression.
    c.at AS started_at_ms
FROM (SELECT c.*, coalesce(c.start_timestamp, nullif(c.observed_at, 0)) AS at FROM calls c) c;
CREATE VIEW timeline AS
SELECT
    call_id, track, position, start_seconds AS seconds,
    'utterance' AS kind, role AS who, content AS text
FROM utterances
UNION ALL
SELECT call_id, track, position, invoked_at_seconds, 'tool_call', name, arguments
FROM tool_calls
-- A result without an invocation is one row, at the result's place.
WHERE result_position IS NULL OR result_position <> position
UNION ALL
SELECT call_id, track, result_position, result_at_seconds, 'tool_result', name, result
FROM tool_calls
WHERE result_position IS NOT NULL
UNION ALL
SELECT
    call_id, track, position, time_seconds, 'node_transition', NULL,
    coalesce(former_node_name, former_node_id, '?') || ' → '
        || coalesce(new_node_name, new_node_id, '?')
FROM node_transitions
UNION ALL
SELECT call_id, track, position, time_seconds, coalesce(role, 'unknown'), NULL, body
FROM markers
ORDER BY call_id, track, position;
CREATE VIEW words AS
SELECT
    w.call_id,
    w.track,
    w.position,
    CAST(j.key AS BIGINT) AS word_index,
    CAST(json_extract(w.words, j.fullkey || '[0]') AS TEXT) AS word,
    CAST(
        CASE WHEN json_type(w.words, j.fullkey || '[1]') IN ('integer', 'real')
            THEN json_extract(w.words, j.fullkey || '[1]')
        END AS DOUBLE PRECISION
    ) AS start_seconds,
    CAST(
        CASE WHEN json_type(w.words, j.fullkey || '[2]') IN ('integer', 'real')
            THEN json_extract(w.words, j.fullkey || '[2]')
        END AS DOUBLE PRECISION
    ) AS end_seconds
FROM utterance_words w
CROSS JOIN json_each(CASE WHEN json_valid(w.words) THEN w.words ELSE '[]' END) j;
CREATE VIEW daily_summary AS
SELECT
    h.day,
    CAST(sum(h.calls) AS BIGINT) AS calls,
    CAST(sum(h.calls * h.connected) AS BIGINT) AS connected,
    CAST(sum(h.transferred) AS BIGINT) AS transferred,
    CAST(round(sum(h.duration_ms_sum) / 60000.0, 1) AS DOUBLE PRECISION) AS minutes,
    CAST(
        round(
            sum(h.duration_ms_sum) FILTER (WHERE h.connected = 1)
                / sum(h.duration_count) FILTER (WHERE h.connected = 1) / 1000.0, 1
        ) AS DOUBLE PRECISION
    ) AS average_seconds,
    CAST(round(round(sum(h.cost_cents_sum), 6) / 100.0, 4) AS DOUBLE PRECISION) AS cost_dollars,
    CAST(
        round(
            CAST(sum(h.successful_count) FILTER (WHERE h.connected = 1) AS DOUBLE PRECISION)
                / nullif(sum(h.judged_count) FILTER (WHERE h.connected = 1), 0), 4
        ) AS DOUBLE PRECISION
    ) AS success_rate
FROM (
    SELECT h.*, CASE WHEN h.started = 1 AND coalesce(r.category, '') <> 'not_connected' THEN 1 ELSE 0 END AS connected
    FROM daily_calls h LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
) h
WHERE h.day IS NOT NULL
GROUP BY h.day
ORDER BY h.day DESC;
CREATE VIEW agent_scorecard AS
SELECT
    h.agent_id,
    h.agent_version,
    max(h.agent_name) AS agent_name,
    CAST(sum(h.calls) AS BIGINT) AS calls,
    CAST(round(CAST(sum(h.calls * h.connected) AS DOUBLE PRECISION) / sum(h.calls), 4) AS DOUBLE PRECISION) AS connected_share,
    CAST(
        round(
            CAST(sum(h.successful_count) FILTER (WHERE h.connected = 1) AS DOUBLE PRECISION)
                / nullif(sum(h.judged_count) FILTER (WHERE h.connected = 1), 0), 4
        ) AS DOUBLE PRECISION
    ) AS success_rate,
    CAST(
        round(
            sum(h.duration_ms_sum) FILTER (WHERE h.connected = 1)
                / sum(h.duration_count) FILTER (WHERE h.connected = 1) / 1000.0, 1
        ) AS DOUBLE PRECISION
    ) AS average_seconds,
    CAST(round(round(sum(h.cost_cents_sum), 6) / sum(h.cost_count) / 100.0, 4) AS DOUBLE PRECISION) AS cost_per_call_dollars,
    CAST(
        round(
            round(sum(h.cost_cents_sum), 6) / 100.0
                / nullif(sum(h.successful_count) FILTER (WHERE h.connected = 1), 0), 4
        ) AS DOUBLE PRECISION
    ) AS cost_per_success_dollars,
    CAST(
        round(
            CAST(sum(h.negative_count) FILTER (WHERE h.connected = 1) AS DOUBLE PRECISION)
                / nullif(sum(h.sentiment_count) FILTER (WHERE h.connected = 1), 0), 4
        ) AS DOUBLE PRECISION
    ) AS negative_share,
    CAST(round(sum(h.e2e_p50_ms_sum) / sum(h.e2e_p50_count), 0) AS DOUBLE PRECISION) AS latency_p50_ms,
    CAST(round(CAST(sum(h.interruptions_sum) AS DOUBLE PRECISION) / sum(h.interruptions_count), 2) AS DOUBLE PRECISION) AS interruptions_per_call,
    CAST(sum(h.tool_calls_sum) AS BIGINT) AS tool_calls,
    CAST(sum(h.failed_tool_calls_sum) AS BIGINT) AS failed_tool_calls
FROM (
    SELECT h.*, CASE WHEN h.started = 1 AND coalesce(r.category, '') <> 'not_connected' THEN 1 ELSE 0 END AS connected
    FROM daily_calls h LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
) h
GROUP BY h.agent_id, h.agent_version;
CREATE VIEW tool_scorecard AS
SELECT
    h.name,
    h.type,
    CAST(sum(h.tool_calls) AS BIGINT) AS calls,
    CAST(sum(h.failed) AS BIGINT) AS failed,
    CAST(sum(h.without_result) AS BIGINT) AS without_result,
    CAST(sum(h.said_no) AS BIGINT) AS said_no,
    CAST(round(sum(h.duration_ms_sum) / sum(h.duration_count), 0) AS DOUBLE PRECISION) AS average_ms,
    CAST(max(h.longest_ms) AS BIGINT) AS longest_ms
FROM daily_tools h
GROUP BY h.name, h.type;
CREATE VIEW cost_by_product AS
SELECT
    h.product,
    CASE WHEN lower(h.product) LIKE '%!_surcharge' ESCAPE '!' THEN 'surcharge' WHEN lower(h.product) LIKE 'post!_call!_analysis%' ESCAPE '!' OR lower(h.product) LIKE '%!_text!_testing' ESCAPE '!' THEN 'analysis' WHEN lower(h.product) LIKE 'voice!_engine' ESCAPE '!' OR lower(h.product) LIKE 'retell!_voice!_engine' ESCAPE '!' THEN 'voice engine' WHEN lower(h.product) LIKE '%!_tts' ESCAPE '!' OR lower(h.product) LIKE '%!_tts!_%' ESCAPE '!' THEN 'voice' WHEN lower(h.product) LIKE '%!_telephony' ESCAPE '!' OR lower(h.product) LIKE '%twilio%' ESCAPE '!' OR lower(h.product) LIKE '%telnyx%' ESCAPE '!' THEN 'telephony' WHEN lower(h.product) LIKE 'background!_voice!_cancellation' ESCAPE '!' OR lower(h.product) LIKE 'knowledge!_base%' ESCAPE '!' OR lower(h.product) LIKE 'guardrail%' ESCAPE '!' OR lower(h.product) LIKE 'pii!_scrubbing' ESCAPE '!' OR lower(h.product) LIKE 'colloquial!_mode' ESCAPE '!' OR lower(h.product) LIKE 'stable!_server' ESCAPE '!' OR lower(h.product) LIKE 'quality!_assurance' ESCAPE '!' THEN 'add-on' WHEN lower(h.product) LIKE 'branded!_outbound!_call' ESCAPE '!' OR lower(h.product) LIKE 'batch!_call' ESCAPE '!' OR lower(h.product) LIKE 'sms!_message' ESCAPE '!' THEN 'per item' WHEN lower(h.product) LIKE 'gpt!_%' ESCAPE '!' OR lower(h.product) LIKE 'claude!_%' ESCAPE '!' OR lower(h.product) LIKE 'gemini!_%' ESCAPE '!' OR lower(h.product) LIKE 'llm!_token!_usage' ESCAPE '!' OR lower(h.product) LIKE '%!_high!_priority' ESCAPE '!' OR lower(h.product) LIKE '%realtime%' ESCAPE '!' THEN 'model' ELSE 'other' END AS family,
    CAST(sum(h.calls) AS BIGINT) AS calls,
    CAST(round(round(sum(h.cost_cents_sum), 6) / 100.0, 4) AS DOUBLE PRECISION) AS cost_dollars,
    CAST(round(round(sum(h.cost_cents_sum), 6) / nullif(sum(sum(h.cost_cents_sum)) OVER (), 0), 4) AS DOUBLE PRECISION) AS share,
    CAST(round(round(sum(h.cost_cents_sum), 6) / 100.0 / sum(h.calls), 4) AS DOUBLE PRECISION) AS cost_per_call_dollars,
    CAST(round(round(sum(h.transfer_leg_cents_sum), 6) / 100.0, 4) AS DOUBLE PRECISION) AS transfer_leg_dollars
FROM daily_costs h
GROUP BY h.product;
CREATE VIEW cost_by_family AS
SELECT
    h.family,
    CAST(count(DISTINCT h.product) AS BIGINT) AS products,
    CAST(round(round(sum(h.cost_cents_sum), 6) / 100.0, 4) AS DOUBLE PRECISION) AS cost_dollars,
    CAST(round(round(sum(h.cost_cents_sum), 6) / nullif(sum(sum(h.cost_cents_sum)) OVER (), 0), 4) AS DOUBLE PRECISION) AS share,
    CAST(round(round(sum(h.transfer_leg_cents_sum), 6) / 100.0, 4) AS DOUBLE PRECISION) AS transfer_leg_dollars
FROM (
    -- The family of each product once: finding it takes many comparisons.
    SELECT CASE WHEN lower(h.product) LIKE '%!_surcharge' ESCAPE '!' THEN 'surcharge' WHEN lower(h.product) LIKE 'post!_call!_analysis%' ESCAPE '!' OR lower(h.product) LIKE '%!_text!_testing' ESCAPE '!' THEN 'analysis' WHEN lower(h.product) LIKE 'voice!_engine' ESCAPE '!' OR lower(h.product) LIKE 'retell!_voice!_engine' ESCAPE '!' THEN 'voice engine' WHEN lower(h.product) LIKE '%!_tts' ESCAPE '!' OR lower(h.product) LIKE '%!_tts!_%' ESCAPE '!' THEN 'voice' WHEN lower(h.product) LIKE '%!_telephony' ESCAPE '!' OR lower(h.product) LIKE '%twilio%' ESCAPE '!' OR lower(h.product) LIKE '%telnyx%' ESCAPE '!' THEN 'telephony' WHEN lower(h.product) LIKE 'background!_voice!_cancellation' ESCAPE '!' OR lower(h.product) LIKE 'knowledge!_base%' ESCAPE '!' OR lower(h.product) LIKE 'guardrail%' ESCAPE '!' OR lower(h.product) LIKE 'pii!_scrubbing' ESCAPE '!' OR lower(h.product) LIKE 'colloquial!_mode' ESCAPE '!' OR lower(h.product) LIKE 'stable!_server' ESCAPE '!' OR lower(h.product) LIKE 'quality!_assurance' ESCAPE '!' THEN 'add-on' WHEN lower(h.product) LIKE 'branded!_outbound!_call' ESCAPE '!' OR lower(h.product) LIKE 'batch!_call' ESCAPE '!' OR lower(h.product) LIKE 'sms!_message' ESCAPE '!' THEN 'per item' WHEN lower(h.product) LIKE 'gpt!_%' ESCAPE '!' OR lower(h.product) LIKE 'claude!_%' ESCAPE '!' OR lower(h.product) LIKE 'gemini!_%' ESCAPE '!' OR lower(h.product) LIKE 'llm!_token!_usage' ESCAPE '!' OR lower(h.product) LIKE '%!_high!_priority' ESCAPE '!' OR lower(h.product) LIKE '%realtime%' ESCAPE '!' THEN 'model' ELSE 'other' END AS family, h.product, h.cost_cents_sum, h.transfer_leg_cents_sum
    FROM (
        SELECT
            h.product, sum(h.cost_cents_sum) AS cost_cents_sum,
            sum(h.transfer_leg_cents_sum) AS transfer_leg_cents_sum
        FROM daily_costs h
        GROUP BY h.product
    ) h
) h
GROUP BY h.family;
CREATE VIEW call_products AS
SELECT
    p.call_id, p.position, p.product, CASE WHEN lower(p.product) LIKE '%!_surcharge' ESCAPE '!' THEN 'surcharge' WHEN lower(p.product) LIKE 'post!_call!_analysis%' ESCAPE '!' OR lower(p.product) LIKE '%!_text!_testing' ESCAPE '!' THEN 'analysis' WHEN lower(p.product) LIKE 'voice!_engine' ESCAPE '!' OR lower(p.product) LIKE 'retell!_voice!_engine' ESCAPE '!' THEN 'voice engine' WHEN lower(p.product) LIKE '%!_tts' ESCAPE '!' OR lower(p.product) LIKE '%!_tts!_%' ESCAPE '!' THEN 'voice' WHEN lower(p.product) LIKE '%!_telephony' ESCAPE '!' OR lower(p.product) LIKE '%twilio%' ESCAPE '!' OR lower(p.product) LIKE '%telnyx%' ESCAPE '!' THEN 'telephony' WHEN lower(p.product) LIKE 'background!_voice!_cancellation' ESCAPE '!' OR lower(p.product) LIKE 'knowledge!_base%' ESCAPE '!' OR lower(p.product) LIKE 'guardrail%' ESCAPE '!' OR lower(p.product) LIKE 'pii!_scrubbing' ESCAPE '!' OR lower(p.product) LIKE 'colloquial!_mode' ESCAPE '!' OR lower(p.product) LIKE 'stable!_server' ESCAPE '!' OR lower(p.product) LIKE 'quality!_assurance' ESCAPE '!' THEN 'add-on' WHEN lower(p.product) LIKE 'branded!_outbound!_call' ESCAPE '!' OR lower(p.product) LIKE 'batch!_call' ESCAPE '!' OR lower(p.product) LIKE 'sms!_message' ESCAPE '!' THEN 'per item' WHEN lower(p.product) LIKE 'gpt!_%' ESCAPE '!' OR lower(p.product) LIKE 'claude!_%' ESCAPE '!' OR lower(p.product) LIKE 'gemini!_%' ESCAPE '!' OR lower(p.product) LIKE 'llm!_token!_usage' ESCAPE '!' OR lower(p.product) LIKE '%!_high!_priority' ESCAPE '!' OR lower(p.product) LIKE '%realtime%' ESCAPE '!' THEN 'model' ELSE 'other' END AS family, p.cost_cents,
    p.unit_price_cents_per_second, p.is_transfer_leg_cost
FROM (
    SELECT
        p.call_id, p.position, replace(p.product, '-', '_') AS product, p.cost_cents,
        p.unit_price_cents_per_second, p.is_transfer_leg_cost
    FROM product_costs p
) p;
CREATE VIEW call_costs AS
SELECT
    c.call_id,
    strftime('%Y-%m-%dT%H:%M:%SZ', c.at / 1000, 'unixepoch') AS started_at,
    c.agent_name AS agent,
    CAST(round(c.combined_cost_cents / 100.0, 4) AS DOUBLE PRECISION) AS cost_dollars,
    c.cost_is_final,
    CAST(c.duration_ms / 1000.0 AS DOUBLE PRECISION) AS duration_seconds,
    c.total_duration_seconds AS billed_seconds,
    (SELECT m.agent_talk_seconds FROM call_metrics m WHERE m.call_id = c.call_id) AS agent_talk_seconds,
    (SELECT CAST(round(round(sum(p.cost_cents), 6) / 100.0, 4) AS DOUBLE PRECISION) FROM call_products p WHERE p.call_id = c.call_id AND p.family = 'voice engine') AS voice_engine_dollars,
    (SELECT CAST(round(round(sum(p.cost_cents), 6) / 100.0, 4) AS DOUBLE PRECISION) FROM call_products p WHERE p.call_id = c.call_id AND p.family = 'voice') AS voice_dollars,
    (SELECT CAST(round(round(sum(p.cost_cents), 6) / 100.0, 4) AS DOUBLE PRECISION) FROM call_products p WHERE p.call_id = c.call_id AND p.family = 'model') AS model_dollars,
    (SELECT CAST(round(round(sum(p.cost_cents), 6) / 100.0, 4) AS DOUBLE PRECISION) FROM call_products p WHERE p.call_id = c.call_id AND p.family = 'telephony') AS telephony_dollars,
    (SELECT CAST(round(round(sum(p.cost_cents), 6) / 100.0, 4) AS DOUBLE PRECISION) FROM call_products p WHERE p.call_id = c.call_id AND p.family = 'surcharge') AS surcharge_dollars,
    (SELECT CAST(round(round(sum(p.cost_cents), 6) / 100.0, 4) AS DOUBLE PRECISION) FROM call_products p WHERE p.call_id = c.call_id AND p.family = 'add-on') AS add_on_dollars,
    (
        SELECT CAST(round(round(sum(p.cost_cents), 6) / 100.0, 4) AS DOUBLE PRECISION)
        FROM product_costs p
        WHERE p.call_id = c.call_id AND p.is_transfer_leg_cost = 1
    ) AS transfer_leg_dollars,
    CAST(round(c.llm_tokens_average, 0) AS DOUBLE PRECISION) AS tokens_per_request,
    c.llm_requests,
    c.at AS started_at_ms
FROM (SELECT c.*, coalesce(c.start_timestamp, nullif(c.observed_at, 0)) AS at FROM calls c) c;
CREATE VIEW latency_by_agent AS
SELECT
    h.agent_id,
    h.agent_version,
    max(h.agent_name) AS agent_name,
    h.component,
    CAST(sum(h.calls) AS BIGINT) AS calls,
    CAST(round(sum(h.p50_ms_sum) / sum(h.p50_count), 0) AS DOUBLE PRECISION) AS p50_ms,
    CAST(round(sum(h.p95_ms_sum) / sum(h.p95_count), 0) AS DOUBLE PRECISION) AS p95_ms,
    CAST(round(max(h.max_ms), 0) AS DOUBLE PRECISION) AS max_ms
FROM daily_latencies h
GROUP BY h.agent_id, h.agent_version, h.component;
CREATE VIEW disconnections AS
SELECT
    d.reason,
    r.category,
    r.description,
    CAST(d.calls AS BIGINT) AS calls,
    CAST(round(CAST(d.calls AS DOUBLE PRECISION) / sum(d.calls) OVER (), 4) AS DOUBLE PRECISION) AS share
FROM (
    SELECT c.disconnection_reason AS reason, count(*) AS calls
    FROM calls c
    WHERE c.disconnection_reason IS NOT NULL
    GROUP BY c.disconnection_reason
) d
LEFT JOIN disconnection_reasons r ON r.reason = d.reason;
CREATE VIEW needs_attention AS
WITH
    unfinished AS (SELECT * FROM calls c WHERE c.level < 3),
    present (at) AS (SELECT max(c.updated_at) FROM calls c)
SELECT
    'quarantined' AS what,
    o.entity_id,
    strftime('%Y-%m-%dT%H:%M:%SZ', o.first_received_at / 1000, 'unixepoch') AS since,
    o.problem AS detail
FROM observations o
WHERE o.problem IS NOT NULL
UNION ALL
SELECT
    'stuck in progress',
    u.call_id,
    strftime('%Y-%m-%dT%H:%M:%SZ', u.observed_at / 1000, 'unixepoch'),
    'last heard of as ' || coalesce(u.call_status, 'unknown')
FROM unfinished u
WHERE NOT u.level >= 2 AND u.observed_at < (SELECT at FROM present) - 2 * 3600000
UNION ALL
SELECT
    'never analysed',
    u.call_id,
    strftime('%Y-%m-%dT%H:%M:%SZ', u.updated_at / 1000, 'unixepoch'),
    'ended by ' || coalesce(u.disconnection_reason, 'unknown')
FROM unfinished u
WHERE u.level >= 2 AND u.updated_at < (SELECT at FROM present) - 3600000;
CREATE VIEW drift AS
SELECT
    d.place,
    d.what,
    d.name,
    CAST(d.entities AS BIGINT) AS entities,
    strftime('%Y-%m-%dT%H:%M:%SZ', d.first_seen_at / 1000, 'unixepoch') AS first_seen,
    d.example,
    CAST(d.first_seen_at AS BIGINT) AS first_seen_ms
FROM (
    SELECT
        'envelope' AS place, 'event' AS what, o.event AS name,
        count(*) AS entities, min(nullif(o.observed_at, 0)) AS first_seen_at,
        (
            SELECT e.entity_id FROM observations e
            WHERE e.event = o.event AND e.event NOT IN ('call_started', 'call_ended', 'call_analyzed', 'transcript_updated', 'transfer_started', 'transfer_bridged', 'transfer_cancelled', 'transfer_ended', 'chat_started', 'chat_ended', 'chat_analyzed', 'call_inbound', 'chat_inbound', 'alert_triggered')
            ORDER BY nullif(e.observed_at, 0) NULLS LAST, e.entity_id LIMIT 1
        ) AS example
    FROM observations o
    WHERE o.event NOT IN ('call_started', 'call_ended', 'call_analyzed', 'transcript_updated', 'transfer_started', 'transfer_bridged', 'transfer_cancelled', 'transfer_ended', 'chat_started', 'chat_ended', 'chat_analyzed', 'call_inbound', 'chat_inbound', 'alert_triggered')
    GROUP BY o.event
    UNION ALL
    SELECT
        u.place, u.what, u.name, count(*), min(u.seen_at),
        (
            SELECT e.call_id FROM unknowns e
            WHERE e.place = u.place AND e.what = u.what AND e.name = u.name
            ORDER BY e.seen_at NULLS LAST, e.call_id LIMIT 1
        )
    FROM unknowns u
    GROUP BY u.place, u.what, u.name
    UNION ALL
    SELECT
        u.place, u.what, u.name, count(*), min(u.seen_at),
        (
            SELECT e.chat_id FROM chat_unknowns e
            WHERE e.place = u.place AND e.what = u.what AND e.name = u.name
            ORDER BY e.seen_at NULLS LAST, e.chat_id LIMIT 1
        )
    FROM chat_unknowns u
    GROUP BY u.place, u.what, u.name
) d;
INSERT INTO _sqlite_migrations VALUES (1, 'callhouse', '0001_initial', '2026-11-27 01:22:01.344130+00:00');
INSERT INTO _sqlite_migrations VALUES (2, 'callhouse', '0002_upstream', '2026-11-27 01:22:01.347676+00:00');
INSERT INTO _sqlite_migrations VALUES (3, 'callhouse', '0003_rollups', '2026-11-27 01:22:01.352851+00:00');
INSERT INTO _sqlite_migrations VALUES (4, 'callhouse', '0004_days', '2026-11-27 01:22:01.359243+00:00');
INSERT INTO _sqlite_migrations VALUES (5, 'callhouse', '0005_key_positions', '2026-11-27 01:22:01.360739+00:00');
INSERT INTO _sqlite_migrations VALUES (6, 'callhouse', '0006_open_bodies_compatible', '2026-11-27 01:22:01.361124+00:00');
INSERT INTO _sqlite_migrations VALUES (7, 'callhouse', '0007_keeping', '2026-11-27 01:22:01.365004+00:00');
INSERT INTO _sqlite_migrations VALUES (8, 'callhouse', '0008_review_compatible', '2026-11-27 01:22:01.383801+00:00');
INSERT INTO _sqlite_migrations VALUES (9, 'callhouse', '0009_statements_compatible', '2026-11-27 01:22:01.384187+00:00');
INSERT INTO _sqlite_migrations VALUES (10, 'callhouse', '0010_chats_compatible', '2026-11-27 01:22:01.387502+00:00');
INSERT INTO _sqlite_migrations VALUES (11, 'callhouse', '0011_alerts_compatible', '2026-11-27 01:22:01.389101+00:00');
INSERT INTO _sqlite_migrations VALUES (12, 'callhouse', '0012_statement_indexes_compatible', '2026-11-27 01:22:01.389650+00:00');
INSERT INTO _sqlite_migrations VALUES (13, 'callhouse', '0013_page_indexes_compatible', '2026-11-27 01:22:01.390014+00:00');
INSERT INTO _sqlite_migrations VALUES (14, 'callhouse', '0014_figure_indexes_compatible', '2026-11-27 01:22:01.390984+00:00');
INSERT INTO _sqlite_migrations VALUES (15, 'callhouse', '0015_accounts_and_failures_compatible', '2026-11-27 01:22:01.398109+00:00');
INSERT INTO observations VALUES ('call_cee753b172e4302a2a1f0b90e73', '66fa0ab8441c42895f273e5d5ffff8ec6014763055f2f8819640ab51c8531f8e', 'webhook', 'call', 'call_analyzed', 3, 1778699295274, 1778699295274, 1778699295274, 1, NULL, 5029, NULL, X'28B52FFD60A512952B00D63FB6240071F4CCC11A91DACB18460221ED55B574F4856D470D03F863DFF64EB8674BFF5FFDE105AC00AF00AA00DB23D643FB86C013067BCF4BD75C5F6568AEB76B2FAC56F15C8FC72E1D5056D38DA7FEC69924CEF6A7AE6A139BA66277AE7118B72CCF739AB71E8C9AE66F9FECCBD7F3375BAB62DFD5CFDF724BD85AE40CADC9BC094B60E16B19A6899DF56038DBAD3DE29CA31E9D5221E8796E2E4EE39CE7C1E9EA6397A6749C21945393571A770FE4A237E1844E890E9B07294BE34EAB956B0168AC0773B0EA19933BF194F74ECAD6833DF688B3B5003402F545C5B90846B479747911F4A028C2258A98BA50C69DE80AA64C9B5F6A9A18DE7641C16353FF10A62B29615B75A6AE6FCE2F216F25148F591AF31AE34427B6E5B5A56951818A6BD1B5C83445FBAE9C6F9CA9ED9ACD9F75BE4F8C620336253AD171CD74CDA3280FBE7DB041C535B8BCA66D2CAF79A263E3890E089B8369ECAAB3E471A6EC66CD9604F50A284B3C11E013A8E6ACB0DAF5A573B4AA5BE48C8027DA64565DFD74580EBF54766A65C92F47DA23735998E5808E7169EE4A62B7C82FA77B1F9CA9EF27AB630B4D99B2C73507D9F346D249282DB6934BAEBDFD2F3734EF7B5AD5AC29C6300C035F73D46A4ABEC595BCF3F3B3DF996E5028CE89CA021B5496F6C0C5690B5C9A274EF732F8DC5B5EDD19590F3655382A8FC598D37B5E7316D8A273EFA194E6590FE6168AADE57042B1FFBC5425E109917BBAA68E71A6DB5629DF96AFA4F64215751DE309A1D2FEAD26199992161BE75E14001B002F3AE73DCC5C6DDCA373BA2BCC54A8E21EA1C841C7A98EE3B8873948D832DB6B25CF346C54AD9CF8F5C75586B0D5B63EF9E1531C139FC6C11807B4435385E59475C424BB25B6F2A9CC203FD11E7109DB7FDF32FF965EE9AFA2BD9D529661B79CBC9E94DC764FF977453D62DFEEDCC0D663B28F7DCB9F0BE725612BC91AF204D71D22597355D7BE1CF2C0F49CA66AFBBE33B273726A734462BBED865E5DB896538597E64026811BA8411D630ECDC8884892A490C661048430D24AE8EA0E1200132D07E29CA48C191911912005494119951A6D067352C2695F24D7D03DF46314DE017770FFFC78222C6A9986948F2BF4145E5CF2284A303D0F2F119E8308943AB90A2E84083BC0D2812893CF02C16663794669400B0E3D03645EC99C60F6AE4563F44DC21EA4F71C875F0A2361478BD46502505513F08B08A8A2BF4B5B03AA3E0CCF5F9431CFE4D0ACC6489090DB0B9642FA6536EA3C9966DD966FD1E765CA52A0548048EC287E19591152E80C399A1A1EA9714D2FE49867501C139E889DDCF13FB96166E0414DE311646CF44AF9176E6DC7A2641327244710196FD4CC572C57AD1321620FB8181109C65403C08D0B004A554B042F03089798582DE234033AE64942C15909CF84BD596AEECC483EBA76D39D172E5CDC22B3A85030B1B244A4FD1F023DA8E0C9B0C16812DE99F22C143450499B788FA4C57375F400DFFB323CA58D2AEACBFED130357019711B1C2A6F138BC8FC909FDE1C0021B38E4B34FA7B1858DC9D0F4C343246AD80D7266926FE623F7B55E8EED57C359AD540CC368C3DB010C1E4F8B198C2AFBCA0186F248B23D8693292B41542CADD89680870E8257F079382E9902E1BBAEA42BADC6BCC7B99E7B1B71C3C9E31F719680457A49B83D03BEC06CDC1193FE634F46C438D442F07D0974476F4E90A778A832603D99D5F4015993552222B751D76A854D45D7B6A1273A697BD9B45474C24FA045AF90308EB29664AF9C1DEAC137D28ACCDF6876823DA74FD243C48BBCA2AC4D2C76A5F11125B3E187FEA7419948F139861938B6F3E6AB84AFCFC533F16879004F0220AB8C3931C266964560D50B3BCE4E12D872F4585F43B67502F4DE7D8D2E40A3143D1F29DBF6C3EEFD5C655623D17A224D871458B8B05093D2815793619BDA9FD03');
INSERT INTO observations VALUES ('chat_3f41e39e02b1f0ce844886599f4', 'a5d1f0247d661a0d2c33a5b6b268b95f37852ead08d96349c4da541464895c98', 'webhook', 'chat', 'chat_analyzed', 3, 1778699295274, 1778699295274, 1778699295274, 1, NULL, 1747, NULL, X'28B52FFD60D305DD1600A667763460499B0E300C6B64122E83864B70E1F1E3F5FF2D2FFB2B6D1A971A91BB4B9B9083EE35166D95B06EB3EFB71D3B7ABE33C82105076B00690068000C04713C1A1048F308935CDA72AFD751476DD95AB5E84974259576BC72B6B654301E610C9F8C3B619EC6D0469BE3C1783C9EE67920CED9E751E7E0A594FDCE04418EC7F338CEB38D991A89C12CD4D8C6991AEE457FC2F2085330B70E154B59A3D6AAB14758F34E96FD094B2AE55EBCB080E020E24EF3ED0810B0BDE38496E46B7DC019CC757F7ADE070D220CF0C2A2597B4A0F10EE5377F2F88A654A7B63C2D5FA3A8547E24A055E20F0756F52139EF582F13CEFB0558B5BB5CB09131CC0E3840D0C131E695EAA0093BCD8246B6CC8F13210C30496ED29BDD8ADD185E177168D823D7E57049DA82594E5EF361D8C12E62C1AB7FCA44BC2C6E03C8CC67148D36AA7F839DDF8ADFA137C5CE9DAEB7AF91EF7822D67FB5608BA6D03BF0603C5959371612006C36CEBC666D82C185923E00A2C4B5B6441D851D58F122D15894BE2F2272ED103C4C66FE4A598B6BA483E69CD49CA6DCDD2D8730FF0CA48AED5AF0F297DB771A7095E2AE58EF515D6EE17130E5B0688CBFCA895AE8F70BADB05522B51AF6B4AF9A4D34FBE09BB6267EC4718C58FE3EC8DDB4F4A4BB19659ABC60269A891A1618A0CCD48909282361D3002429062661D12C0D420D093CC3027B644325A3EE9788B89C6EF366A4392009A1406578054A979339FCE8CC6A608AF5A1EA134639090316C77AB56726ED22B002BA6A8C7C978922F9FAC854A89C46D7AB29ED8EC06AC8E0FA3E83F01556980A6F471C52F2265C59D039660B10CD2AC1893C77448B25AA5E65C1195D951C2AA6FC86B84F07873A7700D755D0970CA51AD9558CCC8F7B9C2D07B8B9DAEBFFB7ECE89837886301E81C4905298E343920C291E4804B04A100BD3DD0B91448E84A94040ECDD1FABAB6ADAEF55275ECF337E9E6551FF206E2F60E826CD022CE73C7DBC2FF54A6E2D0B917C480E9971419F527F');
INSERT INTO observations VALUES ('call_6abe3cca6f8eacdc5f1a0de98db', '2f217c83505b438561c8e67b7c914d96d642423f3eb243d98b1beec19ccbacfd', 'webhook', 'call', 'transfer_bridged', 1, 1778699295274, 1778699295274, 1778699295274, 1, NULL, 894, NULL, X'28B52FFD607E024D1000465E5C2D90276903FFC7BE9FD9C179CFD65CB3D6368BADDC607613C995D3A4D6BFFA65A240D4646B84B4D9CDF76DBC98964E0050004F0072425B9DA13A51784A8A8210094B28EF3D57096208A197CEF4723917D469E399530A77A8D3539A6BEDEA21BAB583B34638B89811072F27C66E018E73C6C1CA56F56765D73FBC9C97CEF0C38C380275BE5DFDED12183AB25BDB94ED9D0CF603BCBC742681C2DA508240492505025209DAF45B6FE0AFAFFD96917032721E5E8EBDDF6F9F7A63E0A0F202050FD8C6EB3142046CDD71F46FE0C040D352255E4EED50A229457A8DB9A7249E50C0AE092354F8E3800FBE740757C3A33B792793F0F0D2BC4287D0FC94484851142525094075D65CB99A599FDBD88F9713EB5DCE2503ED92703D9D8B6FD4E5DFED72A603C8037930237EEBDFB62674B79747D6F2B89CB2417B9BE5E25C2C391152CDFA3BDFDD6A6A2BCC63E30FF83AA98066368347DAF4821B161825E075A1D0B6846FDD3D9891C771CA4307747004C5D4E1A9173B2020424298657698180E53A65EC5C2D3A61A1A7CDB8F7E1A13160A9F1BFA1CD32703B6099041D4D048F8DA82B5BD8CF2BCB358B2CD653062802C80175B486C5A7717D9BB1FBF06004521AD695E4CFE184E8968F0B99A8783969E3816B005024BFBDF04142E8568E1E009CDAAE5BF709AED7F73F06907FB48DE20E7636B2DAB88825F145C200B810578E3B795658DB07B88353C01');
INSERT INTO calls VALUES ('call_cee753b172e4302a2a1f0b90e73', 'phone_call', 'ended', 'inbound', 'agent_d0a21980785a019bbd304ec000', 8, 'Kiln & Clay bookings', NULL, '+442079460312', '+442079460900', 1781955068700, 1781955077470, 8770, 'agent_hangup', NULL, NULL, 1.14, 1, 9.0, 0.1266667, 2.0, 628.5, 'everything', 0, 'CA690888d8820fb4ee3c3a63eeaac107d0', NULL, NULL, 3, 1778699295274, 1778699295274, NULL);
INSERT INTO calls VALUES ('call_6abe3cca6f8eacdc5f1a0de98db', 'phone_call', 'ongoing', 'inbound', 'agent_000b048efff57b4605511e94a8', 18, 'Hôtel des Tilleuls – réception', NULL, '+14155550171', '+14155550100', 1780291810640, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, 'everything', 0, 'CAe45fdbcf198c70daf8f38b82e3030f5d', NULL, NULL, 1, 1778699295274, 1778699295274, NULL);
INSERT INTO analyses VALUES ('call_cee753b172e4302a2a1f0b90e73', 'The caller booked a wheel-throwing class for two people on Saturday at eleven.', 'Positive', 1, 0, '{"party_size":2,"class":"wheel"}', NULL);
INSERT INTO transcripts VALUES ('call_cee753b172e4302a2a1f0b90e73', 'Agent: Kiln and Clay. Is it about a class?
User: Yes, two people, Saturday.
Agent: Booked for eleven. Goodbye!
');
INSERT INTO transcripts VALUES ('call_6abe3cca6f8eacdc5f1a0de98db', 'Agent: Je vous passe la réception.
');
INSERT INTO utterances VALUES ('call_cee753b172e4302a2a1f0b90e73', 'session', 0, 'agent', 'Kiln and Clay. Is it about a class?', 1.22, 3.2, 8, '{"response_id":0}');
INSERT INTO utterances VALUES ('call_cee753b172e4302a2a1f0b90e73', 'session', 1, 'user', 'Yes, two people, Saturday.', 3.6, 4.72, 4, NULL);
INSERT INTO utterances VALUES ('call_cee753b172e4302a2a1f0b90e73', 'session', 2, 'agent', 'Booked for eleven. Goodbye!', 5.12, 6.56, 4, '{"response_id":1}');
INSERT INTO utterance_words VALUES ('call_cee753b172e4302a2a1f0b90e73', 'session', 0, '[["Kiln ",1.22,1.49],["and ",1.49,1.715],["Clay.",1.715,2.03],[" Is ",2.03,2.21],["it ",2.21,2.39],["about ",2.39,2.705],["a ",2.705,2.84],["class?",2.84,3.2]]');
INSERT INTO utterance_words VALUES ('call_cee753b172e4302a2a1f0b90e73', 'session', 1, '[["Yes, ",3.6,3.84],["two ",3.84,4.0],["people, ",4.0,4.32],["Saturday.",4.32,4.72]]');
INSERT INTO utterance_words VALUES ('call_cee753b172e4302a2a1f0b90e73', 'session', 2, '[["Booked ",5.12,5.48],["for ",5.48,5.705],["eleven.",5.705,6.11],[" Goodbye!",6.11,6.56]]');
INSERT INTO product_costs VALUES ('call_cee753b172e4302a2a1f0b90e73', 0, 'elevenlabs_tts', 1.05, 0.1166667, NULL);
INSERT INTO product_costs VALUES ('call_cee753b172e4302a2a1f0b90e73', 1, 'gemini_2_0_flash', 0.09, 0.01, NULL);
INSERT INTO latencies VALUES ('call_cee753b172e4302a2a1f0b90e73', 'e2e', 973.0, 1004.2, 1008.1, 1011.22, 934.0, 1012.0, 2.0, '[934,1012]');
INSERT INTO latencies VALUES ('call_cee753b172e4302a2a1f0b90e73', 'llm', 497.0, 525.8, 529.4, 532.28, 480.0, 533.0, 3.0, '[480,533,497]');
INSERT INTO attributes VALUES ('call_cee753b172e4302a2a1f0b90e73', 'custom_analysis_data', 'class', 'wheel', 'string');
INSERT INTO attributes VALUES ('call_cee753b172e4302a2a1f0b90e73', 'custom_analysis_data', 'party_size', '2', 'integer');
INSERT INTO media VALUES ('call_cee753b172e4302a2a1f0b90e73', 'public_log', 'https://recordings.example.com/048e6c5d6ff524fb1bf15c17cf2f00341df10074/public.log');
INSERT INTO media VALUES ('call_cee753b172e4302a2a1f0b90e73', 'recording', 'https://recordings.example.com/048e6c5d6ff524fb1bf15c17cf2f00341df10074/recording.wav');
INSERT INTO media VALUES ('call_cee753b172e4302a2a1f0b90e73', 'recording_multi_channel', 'https://recordings.example.com/048e6c5d6ff524fb1bf15c17cf2f00341df10074/recording_multichannel.wav');
INSERT INTO transfers VALUES ('call_6abe3cca6f8eacdc5f1a0de98db', '2f217c83505b438561c8e67b7c914d96d642423f3eb243d98b1beec19ccbacfd', 'transfer_bridged', 1778699295274, 'sip:reception@pbx.example.com;transport=tls', '{"type":"warm_transfer","agent_detection_timeout_ms":8000,"on_hold_music":{"type":"none"},"enable_bridge_audio_cue":true}');
INSERT INTO call_metrics VALUES ('call_cee753b172e4302a2a1f0b90e73', 3.42, 1.12, 2.02, 3, 0, 1.98, 0.4, 210.526, 214.286, 0, 0);
INSERT INTO chats VALUES ('chat_3f41e39e02b1f0ce844886599f4', 'api_chat', 'ended', 'agent_5da88e4d7881866265ca1a2c80', 2, NULL, NULL, 1773657900090, 1773657990090, 1.4, 'The customer asked for a beginner''s guide to Brittany and was offered two titles.', 'Neutral', 1, '{"genre recherché":"guide","club_member":true}', NULL, NULL, NULL, '{"channel":"website","returning":true,"visits":4}', '[{"product":"gpt_4o_mini","cost":1.4}]', 'Agent: Bonjour ! Vous cherchez un roman ou un guide ?
User: Un guide de la Bretagne, niveau débutant.
Agent: J’en ai deux ; le plus court coûte 14 €.
', NULL, 3, 1778699295274, 1778699295274, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO chat_messages VALUES ('chat_3f41e39e02b1f0ce844886599f4', 'session', 0, 'a-1', 'agent', 'Bonjour ! Vous cherchez un roman ou un guide ?', 1773657900290, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO chat_messages VALUES ('chat_3f41e39e02b1f0ce844886599f4', 'session', 1, 'a-2', 'user', 'Un guide de la Bretagne, niveau débutant.', 1773657909090, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO chat_messages VALUES ('chat_3f41e39e02b1f0ce844886599f4', 'session', 2, 'a-3', 'injected', 'The customer is a member of the reading club.', 1773657909590, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO chat_messages VALUES ('chat_3f41e39e02b1f0ce844886599f4', 'session', 3, 'a-4', 'agent', 'J’en ai deux ; le plus court coûte 14 €.', 1773657912840, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO disconnection_reasons VALUES ('user_hangup', 'user', 'The user hung up.');
INSERT INTO disconnection_reasons VALUES ('user_declined', 'user', 'The user declined the call.');
INSERT INTO disconnection_reasons VALUES ('user_requested_dnc', 'user', 'The user asked not to be called again.');
INSERT INTO disconnection_reasons VALUES ('user_requested_callback', 'user', 'The user asked to be called back.');
INSERT INTO disconnection_reasons VALUES ('agent_hangup', 'agent', 'The agent hung up.');
INSERT INTO disconnection_reasons VALUES ('voicemail_reached', 'agent', 'A voicemail answered and the agent ended the call.');
INSERT INTO disconnection_reasons VALUES ('ivr_reached', 'agent', 'A phone menu answered and the agent ended the call.');
INSERT INTO disconnection_reasons VALUES ('machine_detected', 'agent', 'A machine answered (until 2025-06).');
INSERT INTO disconnection_reasons VALUES ('inactivity', 'agent', 'Nobody spoke for as long as the agent is set to wait.');
INSERT INTO disconnection_reasons VALUES ('manual_stopped', 'agent', 'Somebody stopped the call by dashboard or API.');
INSERT INTO disconnection_reasons VALUES ('call_take_over', 'agent', 'A person took the call over from the agent.');
INSERT INTO disconnection_reasons VALUES ('call_transfer', 'transfer', 'The call was transferred.');
INSERT INTO disconnection_reasons VALUES ('transfer_bridged', 'transfer', 'The transferred parties were joined and the agent left.');
INSERT INTO disconnection_reasons VALUES ('transfer_cancelled', 'transfer', 'The transfer was given up.');
INSERT INTO disconnection_reasons VALUES ('dial_busy', 'not_connected', 'The line was busy.');
INSERT INTO disconnection_reasons VALUES ('dial_failed', 'not_connected', 'The call could not be dialled.');
INSERT INTO disconnection_reasons VALUES ('dial_no_answer', 'not_connected', 'Nobody answered.');
INSERT INTO disconnection_reasons VALUES ('invalid_destination', 'not_connected', 'The number dialled is not valid.');
INSERT INTO disconnection_reasons VALUES ('telephony_provider_permission_denied', 'not_connected', 'The telephony provider does not permit this destination.');
INSERT INTO disconnection_reasons VALUES ('telephony_provider_unavailable', 'not_connected', 'The telephony provider could not be reached.');
INSERT INTO disconnection_reasons VALUES ('sip_routing_error', 'not_connected', 'The SIP route to the destination failed.');
INSERT INTO disconnection_reasons VALUES ('marked_as_spam', 'not_connected', 'The call was blocked as spam.');
INSERT INTO disconnection_reasons VALUES ('network_blocked', 'not_connected', 'The network blocked the call.');
INSERT INTO disconnection_reasons VALUES ('max_duration_reached', 'limit', 'The call reached its longest allowed duration.');
INSERT INTO disconnection_reasons VALUES ('concurrency_limit_reached', 'limit', 'Too many calls were going on at once.');
INSERT INTO disconnection_reasons VALUES ('no_concurrency_fallback', 'limit', 'No concurrency was left and the fallback took the call.');
INSERT INTO disconnection_reasons VALUES ('no_valid_payment', 'limit', 'The account had no valid payment method.');
INSERT INTO disconnection_reasons VALUES ('credit_exhausted', 'limit', 'The account''s credit was used up.');
INSERT INTO disconnection_reasons VALUES ('budget_reached', 'limit', 'The budget set for calls was reached.');
INSERT INTO disconnection_reasons VALUES ('scam_detected', 'error', 'Retell stopped the call as a suspected scam.');
INSERT INTO disconnection_reasons VALUES ('error_user_not_joined', 'error', 'The web user did not join in time.');
INSERT INTO disconnection_reasons VALUES ('registered_call_timeout', 'error', 'The call was registered but never started.');
INSERT INTO disconnection_reasons VALUES ('error_llm_websocket_open', 'error', 'The custom LLM''s websocket could not be opened.');
INSERT INTO disconnection_reasons VALUES ('error_llm_websocket_lost_connection', 'error', 'The custom LLM''s websocket was lost.');
INSERT INTO disconnection_reasons VALUES ('error_llm_websocket_runtime', 'error', 'The custom LLM''s websocket failed during the call.');
INSERT INTO disconnection_reasons VALUES ('error_llm_websocket_corrupt_payload', 'error', 'The custom LLM sent something unreadable.');
INSERT INTO disconnection_reasons VALUES ('error_no_audio_received', 'error', 'No audio arrived from the user.');
INSERT INTO disconnection_reasons VALUES ('error_asr', 'error', 'Speech recognition failed.');
INSERT INTO disconnection_reasons VALUES ('error_retell', 'error', 'Retell failed.');
INSERT INTO disconnection_reasons VALUES ('error_unknown', 'error', 'Retell does not know why.');
INSERT INTO disconnection_reasons VALUES ('error_inbound_webhook', 'error', 'The inbound webhook failed (2024-09 to 2025-07).');
INSERT INTO disconnection_reasons VALUES ('error_frontend_corrupted_payload', 'error', 'The web client sent something unreadable (until 2025-05).');
INSERT INTO disconnection_reasons VALUES ('error_twilio', 'error', 'Twilio failed (until 2025-05).');
