SELECT
    family,
    count(DISTINCT product) AS products,
    round(sum(cost_cents_sum) / 100.0, 4) AS dollars,
    round(sum(cost_cents_sum) / nullif(sum(sum(cost_cents_sum)) OVER (), 0), 4) AS share,
    round(sum(transfer_leg_cents_sum) / 100.0, 4) AS transfer_leg_dollars,
    'family:' || family AS filter
FROM (
    SELECT family_of(h) AS family, h.product, h.cost_cents_sum, h.transfer_leg_cents_sum
    FROM (
        SELECT
            h.product, sum(h.cost_cents_sum) AS cost_cents_sum,
            sum(h.transfer_leg_cents_sum) AS transfer_leg_cents_sum
        FROM daily_costs h
        WHERE in_days(h) AND chosen(h)
        GROUP BY h.product
    ) h
)
GROUP BY family
ORDER BY dollars DESC, family;
