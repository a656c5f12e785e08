-- Rollups by account too, because an agent may have calls of several accounts.
ALTER TABLE rollup_calls ADD COLUMN account TEXT;
ALTER TABLE rollup_costs ADD COLUMN account TEXT;
ALTER TABLE rollup_latencies ADD COLUMN account TEXT;
ALTER TABLE rollup_tools ADD COLUMN account TEXT;
ALTER TABLE rollup_transitions ADD COLUMN account TEXT;
ALTER TABLE rollup_waits ADD COLUMN account TEXT;
ALTER TABLE rollup_day_calls ADD COLUMN account TEXT;
ALTER TABLE rollup_day_costs ADD COLUMN account TEXT;
ALTER TABLE rollup_day_latencies ADD COLUMN account TEXT;
ALTER TABLE rollup_day_tools ADD COLUMN account TEXT;
ALTER TABLE rollup_day_transitions ADD COLUMN account TEXT;
ALTER TABLE rollup_day_waits ADD COLUMN account TEXT;

-- Tool calls that failed, or answered "success": false, for the list of their calls.
CREATE INDEX tool_calls_failed ON tool_calls (call_id) WHERE track = 'session' AND successful = 0;
CREATE INDEX tool_calls_no_success ON tool_calls (call_id)
WHERE track = 'session' AND successful = 1 AND instr(result, 'false') > 0;
