SELECT a.agent_id, agent_label(a) AS agent
FROM (
    SELECT
        agent_id,
        -- With max(), SQLite takes the other columns from the row of the maximum: the newest name.
        max(agent_version) AS newest_version,
        coalesce(agent_name, agent_id) AS name
    FROM (
        SELECT h.agent_id, h.agent_version, max(h.agent_name) AS agent_name
        FROM daily_calls h
        WHERE in_days(h) AND h.agent_id IS NOT NULL
        GROUP BY h.agent_id, h.agent_version
    )
    GROUP BY agent_id
) a
ORDER BY agent, a.agent_id;
