WITH
    tools AS (
        SELECT
            h.name,
            sum(h.tool_calls) AS uses,
            sum(h.failed) AS failed,
            sum(h.said_no) AS said_no
        FROM daily_tools h
        WHERE in_days(h) AND chosen(h)
        GROUP BY h.name
        HAVING sum(h.failed) + sum(h.said_no) > 0
        ORDER BY sum(h.failed) + sum(h.said_no) DESC, uses DESC
        LIMIT 20
    )
SELECT coalesce(name, 'unknown') AS tool, 'did not run' AS what, failed AS times, uses,
    round(1.0 * failed / uses, 4) AS share, name AS filter, 'failed' AS result
FROM tools
UNION ALL
SELECT
    coalesce(name, 'unknown'), 'ran without success', said_no, uses,
    round(1.0 * said_no / uses, 4), name, 'no-success'
FROM tools
ORDER BY 1, 2;
