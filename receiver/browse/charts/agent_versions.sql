SELECT DISTINCT h.agent_version AS version
FROM daily_calls h
WHERE in_days(h) AND +h.agent_id = :agent AND h.agent_version IS NOT NULL
ORDER BY version DESC;
