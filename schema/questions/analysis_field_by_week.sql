-- title: What an analysis field says, by week
-- description: How often each value of one of your own analysis fields came up in each week. Weeks
--   begin on Monday and carry its date.
-- :field = the first field by the alphabet. Name of the field in custom_analysis_data.
-- :weeks = 12. How many weeks to look back.

WITH asked AS (
    SELECT coalesce(
        nullif(:field, ''),
        (SELECT min(name) FROM attributes WHERE source = 'custom_analysis_data')
    ) AS field
),
counted AS (
    -- By quarters of an hour, of which the days of any time zone consist: a day is a text, and making
    -- one for each call takes long.
    SELECT value, at / 900000 AS quarter, count(*) AS calls
    FROM (
        SELECT a.value, l.started_at_ms AS at
        FROM attributes a
        JOIN call_log l ON l.call_id = a.call_id
        WHERE a.source = 'custom_analysis_data'
            AND a.name = (SELECT field FROM asked)
            AND l.started_at_ms >= (SELECT max(started_at_ms) FROM call_log)
                - coalesce(nullif(:weeks, ''), 12) * 7 * 86400000
        -- No limit: SQLite keeps this subquery apart, and reads times from an index instead of rows.
        LIMIT -1
    )
    GROUP BY quarter, value
),
answers AS (
    SELECT
        (
            SELECT date(substr(l.started_at, 1, 10), 'weekday 0', '-6 days')
            FROM call_log l
            WHERE l.started_at_ms >= counted.quarter * 900000
            ORDER BY l.started_at_ms
            LIMIT 1
        ) AS week,
        value,
        calls
    FROM counted
)
SELECT
    week,
    (SELECT field FROM asked) AS field,
    value,
    sum(calls) AS calls,
    round(1.0 * sum(calls) / sum(sum(calls)) OVER (PARTITION BY week), 4) AS share
FROM answers
GROUP BY week, value
ORDER BY week DESC, calls DESC;
