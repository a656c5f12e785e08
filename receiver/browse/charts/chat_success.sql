SELECT
    period(h.day) AS day,
    count(CASE WHEN h.chat_successful <> 0 THEN 1 END) AS successful,
    count(*) AS judged,
    round(1.0 * count(CASE WHEN h.chat_successful <> 0 THEN 1 END) / count(*), 4) AS success,
    'judged' AS is_judged,
    min(h.day) AS since,
    max(h.day) AS until
FROM chats_in_days(h)
WHERE chosen(h) AND h.chat_successful IS NOT NULL
GROUP BY 1
ORDER BY 1;
