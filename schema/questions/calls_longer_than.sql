-- title: Calls longer than …
-- description: Long calls with their outcome, longest first.
-- :minutes = 5. Longer than this many minutes.
-- :days = 30. How many days to look back.

SELECT
    c.call_id,
    l.started_at,
    l.agent,
    l.who,
    round(c.duration_ms / 60000.0, 1) AS minutes,
    l.outcome,
    l.success,
    l.cost_dollars,
    l.summary
FROM calls c
JOIN call_log l ON l.call_id = c.call_id
WHERE c.start_timestamp >= (SELECT max(start_timestamp) FROM calls)
    - coalesce(nullif(:days, ''), 30) * 86400000
    AND c.duration_ms > coalesce(nullif(:minutes, ''), 5) * 60000
ORDER BY c.duration_ms DESC;
