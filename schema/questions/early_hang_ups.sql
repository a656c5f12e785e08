-- title: Hang-ups in the first ten seconds
-- description: How many people hang up before they have heard much, by agent and version, with the call
--   that the caller ended soonest: a greeting to listen to.
-- :seconds = 10. Hung up within this many seconds.
-- :days = 7. How many days to look back.

SELECT
    c.agent_name,
    c.agent_version,
    count(*) AS connected_calls,
    sum(
        c.disconnection_reason IS 'user_hangup'
        AND c.duration_ms <= coalesce(nullif(:seconds, ''), 10) * 1000
    ) AS hung_up_early,
    round(avg(
        c.disconnection_reason IS 'user_hangup'
        AND c.duration_ms <= coalesce(nullif(:seconds, ''), 10) * 1000
    ), 4) AS share,
    -- Columns without an aggregate are those of the row with the minimum.
    round(min(
        CASE WHEN c.disconnection_reason = 'user_hangup' THEN c.duration_ms END
    ) / 1000.0, 1) AS soonest_seconds,
    CASE WHEN c.disconnection_reason = 'user_hangup' THEN c.call_id END AS call_id
FROM calls c
LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason
WHERE c.start_timestamp >= (SELECT max(start_timestamp) FROM calls)
    - coalesce(nullif(:days, ''), 7) * 86400000
    AND r.category IS NOT 'not_connected'
-- The plus keeps to the index by time.
GROUP BY +c.agent_id, c.agent_version
ORDER BY share DESC, soonest_seconds;
