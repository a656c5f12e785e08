-- title: Slowest tools
-- description: How long each tool makes the caller wait, from its invocation to its result, with the
--   call in which it took longest.
-- :days = 7. How many days to look back.

WITH timed AS (
    SELECT
        t.name,
        t.duration_ms,
        t.call_id,
        t.successful,
        row_number() OVER (PARTITION BY t.name ORDER BY t.duration_ms) AS place,
        count(*) OVER (PARTITION BY t.name) AS uses
    FROM calls c
    -- CROSS keeps the order: calls by their time, then their tools.
    CROSS JOIN tool_calls t ON t.call_id = c.call_id AND t.track = 'session'
    WHERE c.start_timestamp >= (SELECT max(start_timestamp) FROM calls)
        - coalesce(nullif(:days, ''), 7) * 86400000
        AND t.duration_ms IS NOT NULL
)
SELECT
    name AS tool,
    uses,
    sum(successful = 0) AS failed,
    max(CASE WHEN place = (uses + 1) / 2 THEN duration_ms END) AS median_ms,
    max(CASE WHEN place = (uses * 95 + 99) / 100 THEN duration_ms END) AS p95_ms,
    max(duration_ms) AS longest_ms,
    max(CASE WHEN place = uses THEN call_id END) AS call_id
FROM timed
GROUP BY name
ORDER BY p95_ms DESC;
