SELECT
    coalesce(h.disconnection_reason, h.chat_status) AS reason,
    h.outcome,
    count(*) AS chats,
    round(1.0 * count(*) / sum(count(*)) OVER (), 4) AS share,
    max(r.description) AS description,
    coalesce(h.disconnection_reason, h.chat_status) AS filter
FROM chats_in_days(h)
LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
WHERE chosen(h) AND coalesce(h.disconnection_reason, h.chat_status) IS NOT NULL
GROUP BY 1, 2
ORDER BY chats DESC, 1, 2
LIMIT 25;
