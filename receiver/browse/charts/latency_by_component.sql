SELECT
    period(h.day) AS day,
    h.component,
    sum(h.calls) AS calls,
    round(sum(h.p50_ms_sum) / sum(h.p50_count)) AS p50_ms,
    round(sum(h.p95_ms_sum) / sum(h.p95_count)) AS p95_ms,
    min(h.day) AS since,
    max(h.day) AS until
FROM daily_latencies h
WHERE in_days(h) AND chosen(h)
GROUP BY 1, 2
ORDER BY 1, 2;
