-- Figures of hours that are over, so that views need not read every call again: a cache beside the
-- truth, made and thrown away by the hour. hour is the UTC hour's first millisecond since the epoch.
--
-- An hour stands in rollup_hours while its figures are exact. Whatever touches a call of it deletes
-- it there, in the same transaction, and its figures with it; views then count its calls
-- themselves, as they do for every hour that is not there.
CREATE TABLE rollup_hours (
    hour INTEGER NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- What the figures are grouped by can be null, so that position stands in their keys: the number of
-- the row within its hour. A sum is null where none of the summed is known.
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
    failed_tool_calls_sum INTEGER,
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
    transfer_leg_cents_sum REAL,
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
    max_ms REAL,
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
    longest_ms INTEGER,
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
    transitions INTEGER,
    PRIMARY KEY (hour, position)
) STRICT, WITHOUT ROWID;
