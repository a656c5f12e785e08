WITH
    versions AS (
        SELECT
            h.agent_id,
            h.agent_version,
            max(h.agent_name) AS agent_name,
            sum(h.calls) AS calls,
            sum(h.cost_cents_sum) AS cents,
            sum(h.cost_count) AS cost_count,
            sum(h.successful_count) FILTER (WHERE are_connected(h, r)) AS successful
        FROM daily_calls h
        LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
        WHERE in_days(h) AND chosen(h)
        GROUP BY h.agent_id, h.agent_version
    ),
    agents AS (
        SELECT
            agent_id,
            -- With max(), SQLite takes the other columns from the row of the maximum: the newest name.
            max(agent_version) AS newest_version,
            coalesce(agent_name, agent_id, 'unknown') AS name,
            sum(calls) AS calls,
            sum(cents) AS cents,
            sum(cost_count) AS cost_count,
            sum(successful) AS successful
        FROM versions
        GROUP BY agent_id
        HAVING sum(cost_count) > 0
    )
SELECT
    agent_label(a) AS agent,
    calls,
    round(cents / 100.0, 4) AS dollars,
    round(cents / cost_count / 100.0, 4) AS dollars_per_call,
    round(cents / 100.0 / nullif(successful, 0), 4) AS dollars_per_success,
    agent_id AS filter
FROM agents a
ORDER BY dollars DESC, agent
LIMIT 20;
