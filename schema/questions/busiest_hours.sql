-- title: Busiest hours of the week
-- description: When people call, in the configured time zone: calls and minutes for each hour of each
--   day of the week, busiest first.
-- :days = 28. How many days to look back; whole weeks compare fairly.

WITH
    hours AS MATERIALIZED (
        SELECT hour, sum(calls) AS calls, sum(duration_ms_sum) AS duration_ms
        FROM hourly_calls
        WHERE hour > (SELECT max(started_at_ms) FROM call_log)
            - coalesce(nullif(:days, ''), 28) * 86400000
        GROUP BY hour
    ),
    -- An hour is called what its first call is. The plus lets the index on time be used.
    named AS (
        SELECT h.*, (
            SELECT l.started_at FROM call_log l WHERE l.started_at_ms >= +h.hour
            ORDER BY l.started_at_ms LIMIT 1
        ) AS started_at
        FROM hours h
    )
SELECT
    substr('SunMonTueWedThuFriSat', 1 + 3 * strftime('%w', substr(started_at, 1, 10)), 3) AS day,
    substr(started_at, 12, 2) || ':00' AS hour,
    sum(calls) AS calls,
    round(sum(duration_ms) / 60000.0, 1) AS minutes
FROM named
GROUP BY 1, 2
ORDER BY 3 DESC, 4 DESC;
