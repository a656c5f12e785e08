WITH
    steps AS (
        SELECT h.former_node, h.new_node, sum(h.transitions) AS steps
        FROM daily_transitions h
        WHERE in_days(h) AND chosen(h)
        GROUP BY 1, 2
    ),
    nodes AS (
        SELECT node, sum(entered) AS entered, sum(went_on) AS went_on
        FROM (
            SELECT new_node AS node, steps AS entered, 0 AS went_on FROM steps
            UNION ALL
            SELECT former_node, 0, steps FROM steps
        )
        WHERE node IS NOT NULL
        GROUP BY node
        -- A conversation begins in its first node without a step into it.
        ORDER BY max(sum(entered), sum(went_on)) DESC
        LIMIT 25
    )
SELECT node, 'went on' AS what, went_on AS times, max(entered, went_on) AS visits FROM nodes
UNION ALL
SELECT node, 'ended there', max(entered - went_on, 0), max(entered, went_on) FROM nodes
ORDER BY visits DESC, node, what DESC;
