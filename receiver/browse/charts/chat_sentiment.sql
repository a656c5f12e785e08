WITH known AS (
    SELECT period(h.day) AS day, h.day AS local_day, h.sentiment
    FROM chats_in_days(h)
    WHERE chosen(h) AND h.sentiment IS NOT NULL
)
SELECT
    k.day,
    CASE WHEN k.sentiment IN ('positive', 'neutral', 'negative') THEN k.sentiment
        ELSE 'unknown' END AS sentiment,
    count(*) AS chats,
    round(1.0 * count(*) / sum(count(*)) OVER (PARTITION BY k.day), 4) AS share,
    k.sentiment AS filter,
    min(k.local_day) AS since,
    max(k.local_day) AS until
FROM known k
GROUP BY k.day, k.sentiment
ORDER BY 1, 2, 5;
