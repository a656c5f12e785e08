SELECT
    coalesce(h.name, 'unknown') AS tool,
    sum(h.tool_calls) AS uses,
    round(sum(h.duration_ms_sum) / sum(h.duration_count)) AS average_ms,
    max(h.longest_ms) AS longest_ms,
    h.name AS filter
FROM daily_tools h
WHERE in_days(h) AND chosen(h)
GROUP BY h.name
HAVING sum(h.duration_count) > 0
ORDER BY average_ms DESC, tool
LIMIT 20;
