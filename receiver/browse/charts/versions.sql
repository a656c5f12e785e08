SELECT
    h.agent_id,
    h.agent_version,
    max(h.agent_name) AS agent_name,
    min(h.day) AS first_day,
    max(h.day) AS last_day,
    sum(h.calls) AS calls,
    sum(h.successful_count) AS successful,
    sum(h.judged_count) AS judged,
    sum(h.negative_count) AS negative,
    sum(h.sentiment_count) AS with_sentiment,
    sum(h.transferred) AS transferred,
    sum(h.e2e_p50_ms_sum) AS answer_ms_sum,
    sum(h.e2e_p50_ms_squares) AS answer_ms_squares,
    sum(h.e2e_p50_count) AS answer_ms_count,
    sum(h.cost_cents_sum) AS cost_cents_sum,
    sum(h.cost_cents_squares) AS cost_cents_squares,
    sum(h.cost_count) AS cost_cents_count
FROM daily_calls h
LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
WHERE in_days(h) AND chosen(h) AND are_connected(h, r)
    AND h.agent_id IS NOT NULL AND h.agent_version IS NOT NULL
GROUP BY h.agent_id, h.agent_version
ORDER BY h.agent_id, h.agent_version;
