SELECT
    period(h.day) AS day,
    sum(h.successful_count) AS successful,
    sum(h.judged_count) AS judged,
    round(1.0 * sum(h.successful_count) / sum(h.judged_count), 4) AS success,
    'yes' AS is_connected,
    'judged' AS is_judged,
    min(h.day) AS since,
    max(h.day) AS until
FROM daily_calls h
LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
WHERE in_days(h) AND chosen(h) AND are_connected(h, r)
GROUP BY 1
HAVING sum(h.judged_count) > 0
ORDER BY 1;
