-- title: Calls in which the agent was slow to answer
-- description: Calls in which one answer in twenty took longer than people wait, from the end of their words to the
--   agent's (e2e): the thousand slowest.
-- :milliseconds = 1500. The 95th percentile is over this many milliseconds.
-- :days = 7. How many days to look back.

WITH slow AS MATERIALIZED (
    SELECT c.call_id, e.p50_ms, e.p95_ms, e.max_ms, e.num AS answers
    FROM calls c
    JOIN latencies e ON e.call_id = c.call_id AND e.component = 'e2e'
    WHERE c.start_timestamp >= (SELECT max(start_timestamp) FROM calls)
        - coalesce(nullif(:days, ''), 7) * 86400000
        AND e.p95_ms > coalesce(nullif(:milliseconds, ''), 1500) + 0
    ORDER BY e.p95_ms DESC
    LIMIT 1000
)
SELECT
    s.call_id,
    l.started_at,
    l.agent,
    s.p50_ms,
    s.p95_ms,
    s.max_ms,
    s.answers,
    model.p95_ms AS model_p95_ms,
    voice.p95_ms AS voice_p95_ms,
    l.sentiment,
    l.outcome
FROM slow s
JOIN call_log l ON l.call_id = s.call_id
LEFT JOIN latencies model ON model.call_id = s.call_id AND model.component = 'llm'
LEFT JOIN latencies voice ON voice.call_id = s.call_id AND voice.component = 'tts'
ORDER BY s.p95_ms DESC;
