-- title: Unhappy callers, by how the call ended
-- description: Of the calls that ended in each way, how many were negative in sentiment, with the newest of
--   these to listen to.
-- :days = 30. How many days to look back.

SELECT
    c.disconnection_reason,
    r.description,
    count(*) AS calls,
    sum(lower(trim(a.user_sentiment)) = 'negative') AS negative,
    round(avg(lower(trim(a.user_sentiment)) = 'negative'), 4) AS negative_share,
    -- The call_id is that of the row with the maximum.
    CASE WHEN max(
        CASE WHEN lower(trim(a.user_sentiment)) = 'negative' THEN c.start_timestamp END
    ) IS NOT NULL THEN c.call_id END AS call_id
FROM calls c
JOIN analyses a ON a.call_id = c.call_id
LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason
WHERE c.start_timestamp >= (SELECT max(start_timestamp) FROM calls)
    - coalesce(nullif(:days, ''), 30) * 86400000
-- The plus keeps to the index by time.
GROUP BY +c.disconnection_reason
ORDER BY negative DESC;
