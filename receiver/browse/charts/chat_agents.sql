SELECT a.agent_id, agent_label(a) AS agent
FROM (
    SELECT h.agent_id, coalesce(agent_of_chat(h), h.agent_id) AS name
    FROM (
        SELECT h.agent_id, max(h.agent_name) AS agent_name
        FROM chats_in_days(h)
        WHERE h.agent_id IS NOT NULL
        GROUP BY h.agent_id
    ) h
) a
ORDER BY agent, a.agent_id;
