WITH days AS (
    SELECT
        period(h.day) AS day,
        sum(h.positive_count) AS positive,
        sum(h.neutral_count) AS neutral,
        sum(h.negative_count) AS negative,
        sum(h.sentiment_count) AS known,
        min(h.day) AS since,
        max(h.day) AS until
    FROM daily_calls h
    LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
    WHERE in_days(h) AND chosen(h) AND are_connected(h, r)
    GROUP BY 1
)
SELECT
    d.day,
    s.sentiment,
    s.calls,
    round(1.0 * s.calls / d.known, 4) AS share,
    'yes' AS is_connected,
    d.since,
    d.until
FROM days d
JOIN (
    SELECT day, 'positive' AS sentiment, positive AS calls FROM days
    UNION ALL SELECT day, 'neutral', neutral FROM days
    UNION ALL SELECT day, 'negative', negative FROM days
    UNION ALL SELECT day, 'unknown', known - positive - neutral - negative FROM days
) s ON s.day = d.day
WHERE d.known > 0
ORDER BY 1, 2;
