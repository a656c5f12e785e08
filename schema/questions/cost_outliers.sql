-- title: Calls that cost far more than usual
-- description: Calls that cost several times what a call with the same agent costs on average.
-- :times = 2. At least this many times the average.
-- :days = 7. How many days to look back.

WITH
    recent AS MATERIALIZED (
        SELECT call_id, agent_id, combined_cost_cents, duration_ms
        FROM calls
        WHERE start_timestamp >= (SELECT max(start_timestamp) FROM calls)
            - coalesce(nullif(:days, ''), 7) * 86400000
    ),
    usual AS (
        SELECT agent_id, avg(combined_cost_cents) AS cents FROM recent GROUP BY agent_id
    )
SELECT
    c.call_id,
    l.started_at,
    l.agent,
    l.cost_dollars,
    round(u.cents / 100.0, 4) AS usual_dollars,
    round(c.combined_cost_cents / u.cents, 1) AS times_the_usual,
    round(c.duration_ms / 60000.0, 1) AS minutes,
    l.outcome,
    l.summary
FROM recent c
JOIN usual u ON u.agent_id = c.agent_id
JOIN call_log l ON l.call_id = c.call_id
WHERE c.combined_cost_cents >= coalesce(nullif(:times, ''), 2) * u.cents
    AND u.cents > 0
ORDER BY times_the_usual DESC;
