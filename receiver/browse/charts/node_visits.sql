WITH
    steps AS (
        SELECT h.former_node, h.new_node, sum(h.transitions) AS steps
        FROM daily_transitions h
        WHERE in_days(h) AND chosen(h)
        GROUP BY 1, 2
    ),
    nodes AS (
        SELECT node, sum(entered) AS entered, sum(continued) AS continued
        FROM (
            SELECT new_node AS node, steps AS entered, 0 AS continued FROM steps
            UNION ALL
            SELECT former_node, 0, steps FROM steps
        )
        WHERE node IS NOT NULL
        GROUP BY node
        -- A conversation starts in its first node without a transition into it.
        ORDER BY max(sum(entered), sum(continued)) DESC
        LIMIT 25
    )
SELECT node, 'continued' AS what, continued AS times, max(entered, continued) AS visits,
    node AS filter, NULL AS next_node
FROM nodes
UNION ALL
SELECT node, 'ended there', max(entered - continued, 0), max(entered, continued),
    node, 'none'
FROM nodes
ORDER BY visits DESC, node, what;
