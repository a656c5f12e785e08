-- Days that are over, added up from their hours: a year of days is a page of rows where a year of hours
-- is a book. A day stands in rollup_days while all its hours with calls stand in rollup_hours; whatever
-- touches a call deletes both. day is local, since and until its first millisecond and the next day's.
CREATE TABLE rollup_days (
    day TEXT NOT NULL PRIMARY KEY,
    since INTEGER,
    until INTEGER
) STRICT, WITHOUT ROWID;

-- Sums of squares, for how far a mean can be trusted; and what interruptions are a share of.
ALTER TABLE rollup_calls ADD COLUMN cost_cents_squares REAL;
ALTER TABLE rollup_calls ADD COLUMN e2e_p50_ms_squares REAL;
ALTER TABLE rollup_calls ADD COLUMN turns_sum INTEGER;
ALTER TABLE rollup_calls ADD COLUMN interrupted_count INTEGER;

-- How often callers waited how long for an answer.
CREATE TABLE rollup_waits (
    hour INTEGER NOT NULL REFERENCES rollup_hours (hour) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    wait_ms INTEGER,
    answers INTEGER,
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
    interrupted_count INTEGER,
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
    transfer_leg_cents_sum REAL,
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
    max_ms REAL,
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
    longest_ms INTEGER,
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
    transitions INTEGER,
    PRIMARY KEY (day, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollup_day_waits (
    day TEXT NOT NULL REFERENCES rollup_days (day) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    wait_ms INTEGER,
    answers INTEGER,
    PRIMARY KEY (day, position)
) STRICT, WITHOUT ROWID;
