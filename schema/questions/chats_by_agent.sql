-- title: Chats, by agent and version
-- description: How many chats there are, what they cost and how many reach their goal, with the newest that did not, to
--   read.
-- :days = 30. How many days to look back.

WITH recent AS (
    -- With a plus sign here and below, SQLite reads these columns from chats_figures, and no long rows.
    SELECT
        c.chat_id, c.agent_id, c.version, c.agent_name, c.start_timestamp, c.user_number,
        c.chat_successful, c.combined_cost_cents,
        lower(trim(c.user_sentiment)) = 'negative' AS negative
    FROM chats c
    WHERE +c.start_timestamp >= (SELECT max(start_timestamp) FROM chats)
        - coalesce(nullif(:days, ''), 30) * 86400000
)
SELECT
    coalesce(
        max(c.agent_name),
        -- Chats of Retell do not name their agent.
        (
            SELECT n.agent_name FROM calls n
            WHERE n.agent_id = c.agent_id AND n.agent_name IS NOT NULL
            ORDER BY n.start_timestamp DESC LIMIT 1
        ),
        c.agent_id
    ) AS agent,
    c.version,
    count(*) AS chats,
    count(c.user_number) AS by_sms,
    round(1.0 * sum(c.chat_successful <> 0) / nullif(count(c.chat_successful), 0), 4) AS success,
    sum(c.negative) AS negative,
    round(sum(c.combined_cost_cents) / 100.0, 4) AS cost_dollars,
    (
        SELECT u.chat_id FROM recent u
        WHERE u.agent_id IS c.agent_id AND u.version IS c.version
            AND (u.chat_successful = 0 OR u.negative)
        ORDER BY u.start_timestamp DESC LIMIT 1
    ) AS chat_id
FROM recent c
GROUP BY +c.agent_id, c.version
ORDER BY chats DESC, agent;
