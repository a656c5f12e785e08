SELECT
    period(h.day) AS day,
    h.outcome,
    count(*) AS chats,
    round(sum(h.cents) / 100.0, 4) AS dollars,
    'category:' || h.outcome AS filter,
    min(h.day) AS since,
    max(h.day) AS until
FROM chats_in_days(h)
WHERE chosen(h)
GROUP BY 1, 2
ORDER BY 1, 2;
