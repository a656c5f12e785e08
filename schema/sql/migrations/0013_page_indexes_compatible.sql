-- When each key signed last, however many events there are.
CREATE INDEX observations_key ON observations (key_id, last_received_at)
WHERE source = 'webhook' AND key_id IS NOT NULL;

-- The longest calls first. Calls that were not answered have no duration, and need no entry.
CREATE INDEX calls_duration ON calls (duration_ms) WHERE duration_ms > 0;
