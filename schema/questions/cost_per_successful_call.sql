-- title: What a successful call costs
-- description: By agent and version: what its calls cost together, divided by those that reached their goal.
-- :days = 30. How many days to look back.

SELECT
    c.agent_name,
    c.agent_version,
    count(*) AS calls,
    sum(a.call_successful) AS successful,
    round(sum(c.combined_cost_cents) / 100.0, 2) AS cost_dollars,
    round(
        sum(c.combined_cost_cents) / 100.0 / nullif(sum(a.call_successful), 0), 4
    ) AS cost_per_success_dollars
FROM calls c
LEFT JOIN analyses a ON a.call_id = c.call_id
WHERE c.start_timestamp >= (SELECT max(start_timestamp) FROM calls)
    - coalesce(nullif(:days, ''), 30) * 86400000
-- The plus keeps to the index by time.
GROUP BY +c.agent_id, c.agent_version
ORDER BY cost_per_success_dollars DESC;
