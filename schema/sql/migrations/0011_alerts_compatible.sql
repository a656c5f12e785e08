-- What the rules of alerts found, what Retell's own rules reported, and the messages about it.

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
