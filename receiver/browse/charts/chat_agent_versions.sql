SELECT DISTINCT h.agent_version AS version
FROM chats_in_days(h)
WHERE h.agent_id = :agent AND h.agent_version IS NOT NULL
ORDER BY version DESC;
