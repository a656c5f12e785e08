WITH
    waits AS (
        SELECT
            period(h.day) AS day,
            h.wait_ms,
            sum(h.answers) AS answers,
            min(h.day) AS since,
            max(h.day) AS until
        FROM daily_waits h
        WHERE in_days(h)
        GROUP BY 1, 2
    ),
    counted AS (
        SELECT
            day,
            wait_ms,
            sum(answers) OVER (PARTITION BY day ORDER BY wait_ms) AS up_to,
            sum(answers) OVER (PARTITION BY day) AS answers,
            min(since) OVER (PARTITION BY day) AS since,
            max(until) OVER (PARTITION BY day) AS until
        FROM waits
    )
SELECT
    c.day,
    'p' || p.value AS percentile,
    min(c.wait_ms) AS ms,
    c.answers,
    c.since,
    c.until
FROM counted c
JOIN json_each('[50, 90, 95, 99]') p ON c.up_to * 100 >= p.value * c.answers
GROUP BY c.day, p.value
ORDER BY 1, 2;
