-- title: Interruptions by agent version
-- description: How often agent and caller talk over each other: after a change of voice, model or
--   interruption sensitivity, compare the versions.
-- :days = 30. How many days to look back.

SELECT
    c.agent_name,
    c.agent_version,
    count(*) AS calls,
    sum(m.interruptions) AS interruptions,
    round(avg(m.interruptions), 2) AS per_call,
    round(1.0 * sum(m.interruptions) / nullif(sum(m.turns), 0), 4) AS share_of_turns,
    round(avg(m.interruptions > 0), 4) AS share_of_calls
FROM calls c
JOIN call_metrics m ON m.call_id = c.call_id
WHERE c.start_timestamp >= (SELECT max(start_timestamp) FROM calls)
    - coalesce(nullif(:days, ''), 30) * 86400000
    AND m.turns > 0
-- The plus keeps to the index by time.
GROUP BY +c.agent_id, c.agent_version
ORDER BY share_of_turns DESC;
