-- title: Calls that were never analysed
-- description: Calls that ended without an analysis from Retell: they are missing wherever
--   success or sentiment is counted.
-- :hours = 1. Ended at least this many hours before the newest observation of any call.

SELECT
    c.call_id,
    l.started_at,
    l.agent,
    l.who,
    l.status,
    l.outcome,
    round(((SELECT max(updated_at) FROM calls) - c.updated_at) / 3600000.0, 1) AS hours_since
FROM calls c
JOIN call_log l ON l.call_id = c.call_id
WHERE c.level = 2
    -- The condition of the index calls_unfinished.
    AND c.level < 3
    AND c.updated_at <= (SELECT max(updated_at) FROM calls)
        - coalesce(nullif(:hours, ''), 1) * 3600000
ORDER BY c.updated_at DESC;
