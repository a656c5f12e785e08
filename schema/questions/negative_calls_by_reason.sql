-- title: Unhappy callers, by how the call ended
-- description: Of the calls that ended in each way and have a sentiment, how many were negative, with
--   the newest of these to listen to.
-- :days = 30. How many days to look back.

WITH reasons AS (
    SELECT
        h.disconnection_reason,
        sum(h.sentiment_count) AS calls,
        sum(h.negative_count) AS negative
    FROM daily_calls h
    WHERE h.day > date(
        (SELECT max(day) FROM daily_calls), '-' || coalesce(nullif(:days, ''), 30) || ' days'
    )
    GROUP BY h.disconnection_reason
)
SELECT
    n.disconnection_reason,
    r.description,
    n.calls,
    n.negative,
    round(1.0 * n.negative / nullif(n.calls, 0), 4) AS negative_share,
    CASE WHEN n.negative > 0 THEN (
        SELECT l.call_id FROM call_log l
        WHERE l.outcome = n.disconnection_reason AND lower(trim(l.sentiment)) = 'negative'
        ORDER BY l.started_at_ms DESC LIMIT 1
    ) END AS call_id
FROM reasons n
LEFT JOIN disconnection_reasons r ON r.reason = n.disconnection_reason
WHERE n.calls > 0
ORDER BY n.negative DESC;
