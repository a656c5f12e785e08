-- title: Busiest hours of the week
-- description: When people call, in the configured time zone: calls and minutes for each hour of each
--   day of the week, busiest first.
-- :days = 28. How many days to look back; whole weeks compare fairly.

SELECT
    substr('SunMonTueWedThuFriSat', 1 + 3 * strftime('%w', substr(l.started_at, 1, 10)), 3) AS day,
    substr(l.started_at, 12, 2) || ':00' AS hour,
    count(*) AS calls,
    round(sum(l.duration_seconds) / 60.0, 1) AS minutes
FROM call_log l
WHERE l.started_at_ms >= (SELECT max(started_at_ms) FROM call_log)
    - coalesce(nullif(:days, ''), 28) * 86400000
GROUP BY 1, 2
ORDER BY calls DESC, minutes DESC;
