SELECT
    h.day,
    family_of(h) AS family,
    round(sum(h.cents) / 100.0, 4) AS dollars,
    'family:' || family_of(h) AS filter,
    min(h.since) AS since,
    max(h.until) AS until
FROM (
    SELECT
        period(h.day) AS day,
        replace(json_extract(p.value, '$.product'), '-', '_') AS product,
        -- Text and objects have no cost.
        sum(CASE WHEN json_type(p.value, '$.cost') IN ('integer', 'real')
            THEN json_extract(p.value, '$.cost') END) AS cents,
        min(h.day) AS since,
        max(h.day) AS until
    FROM chats_in_days(h)
    CROSS JOIN json_each(CASE WHEN json_valid(h.product_costs) THEN h.product_costs ELSE '[]' END) p
    WHERE chosen(h) AND p.type = 'object'
    GROUP BY 1, 2
) h
GROUP BY 1, 2
HAVING sum(h.cents) IS NOT NULL
ORDER BY 1, 2;
