WITH
    costs AS (
        SELECT period(h.day) AS day, h.product, sum(h.cost_cents_sum) AS cents
        FROM daily_costs h
        WHERE in_days(h) AND chosen(h)
        GROUP BY 1, 2
    ),
    ranked AS (
        SELECT product, row_number() OVER (ORDER BY sum(cents) DESC, product) AS rank
        FROM costs
        GROUP BY product
    )
SELECT
    c.day,
    iif(r.rank <= 7, coalesce(c.product, 'unknown'), 'all others') AS product,
    round(sum(c.cents) / 100.0, 4) AS dollars
FROM costs c
JOIN ranked r ON r.product IS c.product
GROUP BY 1, 2
ORDER BY 1, 2;
