-- Calls whose cost is open and costs of transferred legs are few: a statement counts them, and takes all
-- other sums from rolled-up days.
CREATE INDEX calls_open_cost ON calls (coalesce(start_timestamp, nullif(observed_at, 0)))
WHERE combined_cost_cents IS NULL OR coalesce(cost_is_final, 0) = 0;
CREATE INDEX product_costs_transfer ON product_costs (call_id) WHERE is_transfer_leg_cost = 1;

-- Calls by their sentiment and success: where few of all have one, they are found by it.
CREATE INDEX analyses_judged ON analyses (lower(trim(user_sentiment)), call_successful, call_id);
