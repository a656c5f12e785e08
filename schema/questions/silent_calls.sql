-- title: Calls with long silences
-- description: Calls in which nobody spoke for long, taken together: somebody on hold, a tool that is
--   slow, a line that broke.
-- :seconds = 30. At least this many seconds of silence.
-- :days = 7. How many days to look back.

SELECT
    c.call_id,
    l.started_at,
    l.agent,
    l.who,
    m.silence_seconds,
    round(m.silence_seconds * 1000.0 / nullif(c.duration_ms, 0), 2) AS share_of_the_call,
    m.turns,
    m.tool_calls,
    l.outcome,
    l.summary
FROM calls c
JOIN call_metrics m ON m.call_id = c.call_id
JOIN call_log l ON l.call_id = c.call_id
WHERE c.start_timestamp >= (SELECT max(start_timestamp) FROM calls)
    - coalesce(nullif(:days, ''), 7) * 86400000
    AND m.silence_seconds >= coalesce(nullif(:seconds, ''), 30) + 0
ORDER BY m.silence_seconds DESC;
