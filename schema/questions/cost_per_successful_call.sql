-- title: What a successful call costs
-- description: By agent and version: what its calls cost together, divided by those that reached their goal.
-- :days = 30. How many days to look back.

SELECT
    max(h.agent_name) AS agent_name,
    h.agent_version,
    sum(h.calls) AS calls,
    sum(h.successful_count) AS successful,
    round(sum(h.cost_cents_sum) / 100.0, 2) AS cost_dollars,
    round(
        sum(h.cost_cents_sum) / 100.0 / nullif(sum(h.successful_count), 0), 4
    ) AS cost_per_success_dollars
FROM daily_calls h
WHERE h.day > date(
    (SELECT max(day) FROM daily_calls), '-' || coalesce(nullif(:days, ''), 30) || ' days'
)
GROUP BY h.agent_id, h.agent_version
ORDER BY cost_per_success_dollars DESC;
