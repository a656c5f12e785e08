-- title: Interruptions by agent version
-- description: How often agent and caller talk over each other: after a change of voice, model or
--   interruption sensitivity, compare the versions.
-- :days = 30. How many days to look back.

SELECT
    max(h.agent_name) AS agent_name,
    h.agent_version,
    sum(h.interruptions_count) AS calls,
    sum(h.interruptions_sum) AS interruptions,
    round(1.0 * sum(h.interruptions_sum) / sum(h.interruptions_count), 2) AS per_call,
    round(1.0 * sum(h.interruptions_sum) / nullif(sum(h.turns_sum), 0), 4) AS share_of_turns,
    round(1.0 * sum(h.interrupted_count) / sum(h.interruptions_count), 4) AS share_of_calls
FROM daily_calls h
WHERE h.day > date(
    (SELECT max(day) FROM daily_calls), '-' || coalesce(nullif(:days, ''), 30) || ' days'
)
    AND h.interruptions_count > 0
GROUP BY h.agent_id, h.agent_version
ORDER BY share_of_turns DESC;
