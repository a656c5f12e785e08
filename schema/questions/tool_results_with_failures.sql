-- title: Tool results that report a failure
-- description: Tool calls that Retell counts as successful, but whose result reports a failure: "success" or "ok" is
--   false, "status" is error or failed, or there is an "error".
-- :days = 7. How many days to look back.

SELECT
    c.call_id,
    l.started_at,
    l.agent,
    t.name AS tool,
    t.invoked_at_seconds,
    t.arguments,
    t.result
FROM calls c
-- CROSS keeps the order: calls by their time, then their tools.
CROSS JOIN tool_calls t ON t.call_id = c.call_id AND t.track = 'session'
JOIN call_log l ON l.call_id = c.call_id
WHERE c.start_timestamp >= (SELECT max(start_timestamp) FROM calls)
    - coalesce(nullif(:days, ''), 7) * 86400000
    AND t.successful = 1
    -- One broken text would fail the whole question.
    AND CASE WHEN json_valid(t.result) AND json_type(t.result) = 'object' THEN
        json_type(t.result, '$.success') IS 'false'
        OR json_type(t.result, '$.ok') IS 'false'
        OR lower(json_extract(t.result, '$.status')) IN ('error', 'failed', 'failure')
        OR coalesce(json_type(t.result, '$.error'), 'null') NOT IN ('null', 'false')
    END
ORDER BY c.start_timestamp DESC;
