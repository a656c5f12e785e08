SELECT
    h.disconnection_reason AS reason,
    coalesce(r.category, 'unknown') AS outcome,
    sum(h.calls) AS calls,
    round(1.0 * sum(h.calls) / sum(sum(h.calls)) OVER (), 4) AS share,
    r.description
FROM daily_calls h
LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
WHERE in_days(h) AND chosen(h) AND h.disconnection_reason IS NOT NULL
GROUP BY h.disconnection_reason
ORDER BY calls DESC, reason
LIMIT 25;
