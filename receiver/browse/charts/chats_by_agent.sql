WITH
    versions AS (
        SELECT
            h.agent_id,
            h.agent_version,
            max(h.agent_name) AS agent_name,
            count(*) AS chats,
            sum(h.cents) AS cents,
            count(h.cents) AS cost_count,
            count(CASE WHEN h.chat_successful <> 0 THEN 1 END) AS successful,
            count(h.chat_successful) AS judged,
            count(CASE WHEN h.sentiment = 'negative' THEN 1 END) AS negative,
            count(h.sentiment) AS with_sentiment
        FROM chats_in_days(h)
        WHERE chosen(h)
        GROUP BY h.agent_id, h.agent_version
    ),
    labels AS (
        SELECT a.agent_id, agent_label(a) AS name
        FROM (
            SELECT h.agent_id, coalesce(agent_of_chat(h), h.agent_id, 'unknown') AS name
            FROM (
                SELECT agent_id, max(agent_name) AS agent_name FROM versions GROUP BY agent_id
            ) h
        ) a
    )
SELECT
    l.name || coalesce(' v' || v.agent_version, '') AS agent,
    v.chats,
    round(1.0 * v.successful / nullif(v.judged, 0), 4) AS success,
    round(1.0 * v.negative / nullif(v.with_sentiment, 0), 4) AS negative,
    round(v.cents / 100.0, 4) AS dollars,
    round(v.cents / nullif(v.cost_count, 0) / 100.0, 4) AS dollars_per_chat,
    v.agent_id AS filter,
    CASE WHEN v.agent_version >= 0 THEN v.agent_version END AS version
FROM versions v
JOIN labels l ON l.agent_id IS v.agent_id
ORDER BY v.chats DESC, agent
LIMIT 25;
