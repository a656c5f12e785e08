SELECT
    period(h.day) AS day,
    coalesce(r.category, iif(h.disconnection_reason IS NULL, 'no end yet', 'unknown')) AS outcome,
    sum(h.calls) AS calls,
    round(sum(h.duration_ms_sum) / 60000.0, 1) AS minutes,
    'category:' || coalesce(
        r.category, iif(h.disconnection_reason IS NULL, 'no end yet', 'unknown')
    ) AS filter,
    min(h.day) AS since,
    max(h.day) AS until
FROM daily_calls h
LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
WHERE in_days(h) AND chosen(h)
GROUP BY 1, 2
ORDER BY 1, 2;
