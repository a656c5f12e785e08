SELECT
    coalesce(h.product, 'unknown') AS product,
    family_of(h) AS family,
    sum(h.calls) AS calls,
    round(sum(h.cost_cents_sum) / 100.0, 4) AS dollars,
    round(sum(h.cost_cents_sum) / nullif(sum(sum(h.cost_cents_sum)) OVER (), 0), 4) AS share,
    round(sum(h.cost_cents_sum) / 100.0 / sum(h.calls), 4) AS dollars_per_call,
    round(sum(h.transfer_leg_cents_sum) / 100.0, 4) AS transfer_leg_dollars,
    h.product AS filter
FROM daily_costs h
WHERE in_days(h) AND chosen(h)
GROUP BY h.product
ORDER BY dollars DESC, product
LIMIT 20;
