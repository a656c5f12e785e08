SELECT
    h.agent_number AS number,
    count(*) AS chats,
    count(DISTINCT h.user_number) AS people,
    count(CASE WHEN h.direction = 'inbound' THEN 1 END) AS inbound,
    round(sum(h.cents) / 100.0, 4) AS dollars,
    h.agent_number AS filter
FROM chats_in_days(h)
WHERE chosen(h) AND h.agent_number IS NOT NULL
GROUP BY h.agent_number
ORDER BY chats DESC, number
LIMIT 20;
