SELECT
    h.day,
    family_of(h) AS family,
    round(sum(h.cost_cents_sum) / 100.0, 4) AS dollars,
    'family:' || family_of(h) AS filter,
    min(h.since) AS since,
    max(h.until) AS until
FROM (
    SELECT
        period(h.day) AS day, h.product, sum(h.cost_cents_sum) AS cost_cents_sum,
        min(h.day) AS since, max(h.day) AS until
    FROM daily_costs h
    WHERE in_days(h) AND chosen(h)
    GROUP BY 1, 2
) h
GROUP BY 1, 2
ORDER BY 1, 2;
