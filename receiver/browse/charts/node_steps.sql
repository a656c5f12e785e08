SELECT
    coalesce(h.former_node, '?') || ' → ' || coalesce(h.new_node, '?') AS step,
    sum(h.transitions) AS times,
    sum(h.calls) AS calls,
    round(
        1.0 * sum(h.transitions) / sum(sum(h.transitions)) OVER (PARTITION BY h.former_node), 4
    ) AS share,
    CASE WHEN h.new_node IS NOT NULL THEN h.former_node END AS filter,
    h.new_node AS next_node
FROM daily_transitions h
WHERE in_days(h) AND chosen(h)
GROUP BY h.former_node, h.new_node
ORDER BY times DESC, step
LIMIT 25;
