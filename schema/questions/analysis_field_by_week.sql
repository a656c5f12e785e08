-- title: What an analysis field says, by week
-- description: How often each value of one of your own analysis fields came up in each week. Weeks
--   begin on Monday and carry its date.
-- :field = the first field by the alphabet. Name of the field in custom_analysis_data.
-- :weeks = 12. How many weeks to look back.

WITH answers AS (
    SELECT
        date(substr(l.started_at, 1, 10), 'weekday 0', '-6 days') AS week,
        a.name AS field,
        a.value
    FROM attributes a
    JOIN call_log l ON l.call_id = a.call_id
    WHERE a.source = 'custom_analysis_data'
        AND a.name = coalesce(
            nullif(:field, ''),
            (SELECT min(name) FROM attributes WHERE source = 'custom_analysis_data')
        )
        AND l.started_at_ms >= (SELECT max(started_at_ms) FROM call_log)
            - coalesce(nullif(:weeks, ''), 12) * 7 * 86400000
)
SELECT
    week,
    field,
    value,
    count(*) AS calls,
    round(1.0 * count(*) / sum(count(*)) OVER (PARTITION BY week), 4) AS share
FROM answers
GROUP BY week, field, value
ORDER BY week DESC, calls DESC;
