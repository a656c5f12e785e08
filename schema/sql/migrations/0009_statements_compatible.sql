-- Months whose costs change no more, as statements showed them.
CREATE TABLE statements (
    month TEXT NOT NULL,
    grouped_by TEXT NOT NULL,
    timezone TEXT NOT NULL,
    closed_at INTEGER,
    sums TEXT,
    PRIMARY KEY (month, grouped_by, timezone)
) STRICT, WITHOUT ROWID;
