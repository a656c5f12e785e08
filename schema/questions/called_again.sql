-- title: Who called, or was called, again within a day
-- description: Calls that were followed by another one with the same number, whoever dialled: what the first
--   left open. Anonymous callers cannot be told apart and are left out.
-- :hours = 24. The next call began within this many hours.
-- :days = 30. How many days to look back.

WITH followed AS (
    SELECT
        l.*,
        (
            SELECT next.call_id
            FROM call_log next
            WHERE next.who = l.who
                AND next.started_at_ms > l.started_at_ms
                AND next.started_at_ms <= l.started_at_ms
                    + coalesce(nullif(:hours, ''), 24) * 3600000
            ORDER BY next.started_at_ms
            LIMIT 1
        ) AS next_call_id
    FROM call_log l
    WHERE l.started_at_ms >= (SELECT max(started_at_ms) FROM call_log)
        - coalesce(nullif(:days, ''), 30) * 86400000
        -- The plus keeps to the index by time.
        AND +l.who GLOB '+[0-9]*'
)
SELECT
    f.who,
    f.call_id,
    f.started_at,
    f.direction,
    f.agent,
    f.outcome,
    f.success,
    n.call_id AS next_call_id,
    n.direction AS next_direction,
    round((n.started_at_ms - f.started_at_ms) / 3600000.0, 1) AS hours_later,
    f.summary
FROM followed f
CROSS JOIN call_log n ON n.call_id = f.next_call_id
ORDER BY f.started_at_ms DESC;
